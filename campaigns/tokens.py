"""Signed names of a mail for the outside: in its opt-out link, its pixel, and its links.

A token is the message's key, for a click the link's number too, and a MAC over them, in 40 or 44 letters that need no
escaping. The MAC's key is made of SECRET_KEY, the agency's schema and what the token is for, so one agency's tokens
are no good at another's host, and a pixel's address opts nobody out. Keys in SECRET_KEY_FALLBACKS still check.
"""

import base64
import binascii
import hmac
import re
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

from django.conf import settings

OPT_OUT, OPEN, CLICK = "opt-out", "open", "click"
# These name a list, whose id stands for the key, and a sign-up.
SIGN_UP, CONFIRM = "sign-up", "confirm"

_KEY, _NUMBER = 16, 4
# Together with what is signed a multiple of three bytes, so that base64 has one spelling and no padding.
_MAC = {_KEY: 14, _KEY + _NUMBER: 13}
_TOKEN = re.compile(r"[A-Za-z0-9_-]{40}(?:[A-Za-z0-9_-]{4})?")


class Signer:
    """Makes the tokens of one agency for one purpose; about a microsecond each."""

    __slots__ = ("_long", "_short")

    def __init__(self, schema: str, purpose: str) -> None:
        key = _derived(settings.SECRET_KEY, schema, purpose)
        self._short = blake2b(key=key, digest_size=_MAC[_KEY])
        self._long = blake2b(key=key, digest_size=_MAC[_KEY + _NUMBER])

    def of(self, message: bytes) -> str:
        """The token of a message, by the 16 bytes of its key."""
        mac = self._short.copy()
        mac.update(message)
        return base64.urlsafe_b64encode(message + mac.digest()).decode()

    def of_link(self, message: bytes, link: int) -> str:
        """The token of a link (by its number, below 2 ** 32) in a message."""
        signed = message + link.to_bytes(_NUMBER, "big")
        mac = self._long.copy()
        mac.update(signed)
        return base64.urlsafe_b64encode(signed + mac.digest()).decode()


def read(token: str, schema: str, purpose: str) -> tuple[UUID, int] | None:
    """The message's key and the link's number (0 for none) that the token names, None if it is not one of ours."""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        content = base64.urlsafe_b64decode(token)
    except binascii.Error:
        return None
    size = _KEY + _NUMBER if purpose == CLICK else _KEY
    if len(content) != size + _MAC[size]:
        return None
    signed, given = content[:size], content[size:]
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        mac = blake2b(signed, key=_derived(secret, schema, purpose), digest_size=_MAC[size])
        if hmac.compare_digest(mac.digest(), given):
            return UUID(bytes=signed[:_KEY]), int.from_bytes(signed[_KEY:], "big")
    return None


def envelope_keys() -> list[bytes]:
    """The keys that sign envelope senders, for all agencies: the first signs, each checks."""
    return [_derived(secret, "", "envelope") for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


@lru_cache(maxsize=1024)
def _derived(secret: str, schema: str, purpose: str) -> bytes:
    key = blake2b(secret.encode(), digest_size=32, person=b"polza tokens").digest()
    return blake2b(f"{purpose}\0{schema}".encode(), key=key, digest_size=32).digest()
