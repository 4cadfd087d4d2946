"""API keys: issued once in clear, kept as a hash, checked in constant time."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from django.db.models import Q

from tenants.users.models import ApiKey, User

PREFIX_LENGTH = 12
TOUCH_EVERY = timedelta(minutes=1)


def issue(user: User, name: str, *, expires_at: datetime | None = None) -> str:
    """A new key of this user in the current schema. The return value is the only time it can be read."""
    key = ApiKey(user=user, name=name, expires_at=expires_at)
    secret = renew(key)
    key.save()
    return secret


def renew(key: ApiKey) -> str:
    """Give this key, which the caller then saves, a new secret, and return it."""
    secret = "pk_" + secrets.token_urlsafe(32)
    key.prefix, key.digest = secret[:PREFIX_LENGTH], _digest(secret)
    return secret


def check(secret: str, *, now: datetime) -> ApiKey | None:
    """The valid key that this text is, in the current schema, or None."""
    alive = Q(expires_at=None) | Q(expires_at__gt=now)
    key = (
        ApiKey.objects.select_related("user").filter(alive, prefix=secret[:PREFIX_LENGTH], user__is_active=True).first()
    )
    if key is None or not hmac.compare_digest(key.digest, _digest(secret)):
        return None
    if key.last_used_at is None or now - key.last_used_at > TOUCH_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
