"""The only writer of Health: what sending itself and the checks tell about an account. A circuit breaker per account.

Sending closes an account after five refusals in a row, the checks of `checkup` after two, and `silence` when nothing is
heard of its mails. Whatever opened it again, it
is filled gradually.
"""

from datetime import datetime, timedelta
from fractions import Fraction

from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Greatest, Least

from providers.accounts.models import Health

BREAKS_AFTER = 5
STAYS_OPEN = timedelta(seconds=60)
CHECKS_FAIL = 2
# Until well after the next check, which comes every five minutes. Without one, sending tries again by itself.
CHECK_HOLDS = timedelta(minutes=7)
# The part of its usual batch that an account gets in each minute after it was opened again. Then it gets all.
RAMP = (Fraction(1, 100), Fraction(10, 100), Fraction(25, 100), Fraction(50, 100))
STEP = timedelta(minutes=1)

_BROKEN = Q(refusals__gte=BREAKS_AFTER) | Q(failed_checks__gte=CHECKS_FAIL)


def of(account_id: int) -> Health:
    """What is known about this account; a new one is healthy."""
    return Health.objects.get_or_create(account_id=account_id)[0]


def worked(account_id: int, *, now: datetime) -> None:
    """The account took a mail: whatever was wrong is over."""
    Health.objects.filter(Q(refusals__gt=0) | Q(failed_checks__gt=0), account_id=account_id, blocked=False).update(
        opened_at=Case(When(_BROKEN, then=Value(now)), default=F("opened_at")),
        refusals=0,
        failed_checks=0,
        closed_until=None,
        detail="",
        changed_at=now,
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
    return bool(closed.update(closed_until=Greatest(F("closed_until"), now + STAYS_OPEN)))


def throttled(account_id: int, after: float, detail: str, *, now: datetime) -> None:
    """The provider asked for a pause of so many seconds; a longer one that it asked for before still holds."""
    of(account_id)
    Health.objects.filter(account_id=account_id).update(
        closed_until=Greatest(F("closed_until"), now + timedelta(seconds=after)), detail=detail[:300], changed_at=now
    )


def block(account_id: int, detail: str, *, now: datetime) -> None:
    """The key is revoked or the account suspended: closed until a person opens it."""
    of(account_id)
    _block(account_id, detail, by_check=False, now=now)


def reopen(account_id: int, *, now: datetime) -> None:
    """A person has dealt with it: try the account again."""
    _open(Health.objects.filter(account_id=account_id), now)


def answered(account_id: int, *, now: datetime) -> bool:
    """A check succeeded; return whether that opened the account.

    It takes back what checks have found, and nothing that sending itself has found: only a mail or a person ends that.
    """
    found = Health.objects.filter(account_id=account_id)
    if _open(found.filter(blocked=True, blocked_by_check=True), now):
        return True
    if _open(found.filter(blocked=False, failed_checks__gte=CHECKS_FAIL, refusals__lt=BREAKS_AFTER), now):
        return True
    found.filter(failed_checks__gt=0).update(failed_checks=0)
    return False


def unanswered(account_id: int, detail: str, *, clear: bool, now: datetime) -> bool:
    """A check failed; return whether that closed the account.

    Two in a row close it until a check succeeds. A `clear` refusal, such as of a wrong key, blocks it at once.
    """
    before = of(account_id)
    if clear:
        return _block(account_id, detail, by_check=True, now=now)
    found = Health.objects.filter(account_id=account_id)
    found.update(failed_checks=Least(F("failed_checks") + 1, 1000))
    closed = found.filter(blocked=False, failed_checks__gte=CHECKS_FAIL).update(
        closed_until=Greatest(F("closed_until"), now + CHECK_HOLDS), detail=detail[:300], changed_at=now
    )
    return bool(closed) and before.failed_checks < CHECKS_FAIL


def heard(account_id: int, *, now: datetime) -> None:
    """A mail server answered to a mail of the account: that ends its silence, and nothing else that is wrong."""
    of(account_id)
    found = Health.objects.filter(account_id=account_id)
    _open(found.filter(blocked=True, silent=True), now)
    found.update(heard_at=Greatest(F("heard_at"), now))


def telling() -> set[int]:
    """The accounts whose provider tells what was delivered. Of an own SMTP pool only failures come back."""
    return set(
        Health.objects.filter(heard_at__isnull=False).exclude(account__kind="smtp").values_list("account", flat=True)
    )


def silent(account_id: int, detail: str, *, now: datetime) -> bool:
    """It takes mails and nothing is heard of them; return whether that closed it, until something is, or by a person.

    A check that succeeds proves nothing here.
    """
    if not _block(account_id, detail, by_check=False, now=now):
        return False
    Health.objects.filter(account_id=account_id).update(silent=True)
    return True


def broken(health: Health) -> bool:
    """Whether the account was closed for refusing: once it may be tried again, a single mail is the proof."""
    return health.blocked or health.refusals >= BREAKS_AFTER or health.failed_checks >= CHECKS_FAIL


def troubled(health: Health) -> bool:
    """Whether there is something that a mail which goes would put right."""
    return health.refusals > 0 or health.failed_checks > 0


def room(health: Health, most: int, *, now: datetime) -> int:
    """Pure: how many mails a drain may try at this account before the next minute, `most` where nothing is wrong."""
    if broken(health):
        return 1
    if health.opened_at is None or now < health.opened_at:
        return most
    step = (now - health.opened_at) // STEP
    return most if step >= len(RAMP) else max(1, int(most * RAMP[step]))


def _block(account_id: int, detail: str, *, by_check: bool, now: datetime) -> bool:
    """Whether it was open before. Who blocked it first says how it is opened."""
    found = Health.objects.filter(account_id=account_id)
    if found.filter(blocked=False).update(blocked=True, blocked_by_check=by_check, detail=detail[:300], changed_at=now):
        return True
    found.update(detail=detail[:300], changed_at=now)
    return False


def _open(found: QuerySet[Health], now: datetime) -> bool:
    changed = found.update(
        blocked=False,
        blocked_by_check=False,
        silent=False,
        closed_until=None,
        refusals=0,
        failed_checks=0,
        detail="",
        opened_at=now,
        changed_at=now,
    )
    return bool(changed)
