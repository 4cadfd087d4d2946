"""The only writer of Health: what sending itself tells about an account. A circuit breaker per account."""

from datetime import datetime, timedelta

from django.db.models import F
from django.db.models.functions import Greatest, Least

from providers.accounts.models import Health

BREAKS_AFTER = 5
STAYS_OPEN = timedelta(seconds=60)


def of(account_id: int) -> Health:
    """What is known about this account; a new one is healthy."""
    return Health.objects.get_or_create(account_id=account_id)[0]


def worked(account_id: int, *, now: datetime) -> None:
    """The account took a mail: whatever was wrong is over."""
    Health.objects.filter(account_id=account_id, blocked=False, refusals__gt=0).update(
        refusals=0, closed_until=None, detail="", changed_at=now
    )


def refused(account_id: int, detail: str, *, now: datetime) -> bool:
    """The account refused a mail for a reason of its own; return whether it is closed now.

    The fifth refusal in a row closes it for a minute. Then one mail is tried; its refusal closes it again.
    """
    Health.objects.get_or_create(account_id=account_id)
    Health.objects.filter(account_id=account_id).update(
        refusals=Least(F("refusals") + 1, 1000), detail=detail[:300], changed_at=now
    )
    closed = Health.objects.filter(account_id=account_id, refusals__gte=BREAKS_AFTER)
    return bool(closed.update(closed_until=now + STAYS_OPEN))


def throttled(account_id: int, after: float, detail: str, *, now: datetime) -> None:
    """The provider asked for a pause of so many seconds; a longer one that it asked for before still holds."""
    of(account_id)
    Health.objects.filter(account_id=account_id).update(
        closed_until=Greatest(F("closed_until"), now + timedelta(seconds=after)), detail=detail[:300], changed_at=now
    )


def block(account_id: int, detail: str, *, now: datetime) -> None:
    """The key is revoked or the account suspended: closed until a person opens it."""
    Health.objects.update_or_create(
        account_id=account_id, defaults={"blocked": True, "detail": detail[:300], "changed_at": now}
    )


def reopen(account_id: int, *, now: datetime) -> None:
    """A person has dealt with it: try the account again."""
    Health.objects.filter(account_id=account_id).update(
        blocked=False, closed_until=None, refusals=0, detail="", changed_at=now
    )


def broken(health: Health) -> bool:
    """Whether the account was closed for refusing mails: once it may be tried again, a single mail is the proof."""
    return health.blocked or health.refusals >= BREAKS_AFTER
