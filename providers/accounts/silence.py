"""The third signal of health: an account that takes mails, and nothing is heard of them for longer than usual.

A suspended SendGrid account goes on accepting for days. Only what a mail server answered counts as heard: people open
old mails whatever the state of the account. How long an account's events usually take is learned from them.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Sum

from providers.accounts import health, webhooks
from providers.accounts.ledger import utc_day
from providers.accounts.models import Account, EventDelay, HealthCheck

logger = logging.getLogger(__name__)

# So many mails at least of which nothing was heard.
LEAST = 10
# Of the events of the last days so many came within what is usual, and nothing in twice that is silence.
QUANTILE = 0.95
LEARNED_FROM = timedelta(days=7)
_ENOUGH = 50
_SHORTEST, _LONGEST, _NOT_LEARNED = timedelta(minutes=10), timedelta(hours=24), timedelta(hours=1)


def note(delays: Mapping[int, Sequence[float]], *, now: datetime) -> None:
    """So many seconds after they were sent the mail servers' answers to mails of these accounts were heard.

    The account speaks, so it is opened if silence had closed it.
    """
    for account_id, seconds in sorted(delays.items()):
        health.heard(account_id, now=now)
        buckets = Counter(max(0, int(one)).bit_length() for one in seconds)
        with connection.cursor() as cursor:
            for bucket, count in sorted(buckets.items()):
                cursor.execute(_NOTE, [account_id, utc_day(now), bucket, count])


def usual(account_id: int, *, now: datetime) -> timedelta:
    """How long nothing may be heard of a mail of this account before that is silence."""
    rows = (
        EventDelay.objects.filter(account=account_id, day__gt=utc_day(now - LEARNED_FROM))
        .values_list("bucket")
        .annotate(sum=Sum("count"))
        .order_by("bucket")
    )
    counts = list(rows)
    total = sum(count for _, count in counts)
    if total < _ENOUGH:
        return _NOT_LEARNED
    reached = 0
    for bucket, count in counts:
        reached += count
        if reached >= total * QUANTILE:
            return min(_LONGEST, max(_SHORTEST, 2 * timedelta(seconds=2**bucket)))
    return _LONGEST


def close_silent(*, now: datetime) -> list[int]:
    """Close each account that has gone silent; return which. Accounts that have never sent an event are not judged.

    Where it may be us who do not listen, none is closed: while posts wait to be handled or are refused, and when all
    that should be heard of are silent at once.
    """
    if webhooks.pending():
        return []
    found: list[tuple[Account, int, timedelta, timedelta]] = []
    speaking = 0
    accounts = Account.objects.filter(enabled=True, health__blocked=False, health__heard_at__isnull=False)
    for account in accounts.select_related("health").order_by("pk"):
        patience = usual(account.pk, now=now)
        heard_at = account.health.heard_at
        speaking += heard_at is not None and heard_at > now - patience
        since = max(filter(None, (heard_at, account.health.opened_at)))
        unheard = _accepted(account.pk, since, now - patience)
        if unheard >= LEAST and not webhooks.refused_today(account.pk, now=now):
            found.append((account, unheard, now - since, patience))
    if len(found) > 1 and not speaking:
        logger.error("nothing is heard of any account's mails: can providers reach the webhooks' addresses?")
        return []
    return [one[0].pk for one in found if _close(*one, now=now)]


def _close(account: Account, unheard: int, silent_for: timedelta, patience: timedelta, *, now: datetime) -> bool:
    detail = (
        f"It takes mails, but nothing was heard of {unheard} of them for {_minutes(silent_for)} minutes; "
        f"usual is {_minutes(patience)} at most. Perhaps the provider has suspended it."
    )
    logger.error("account closed for its silence: %s", detail, extra={"account": account.name})
    return health.silent(account.pk, detail, now=now)


def _minutes(time: timedelta) -> int:
    return round(time.total_seconds() / 60)


def forget(*, now: datetime) -> None:
    """Drop what usual is no longer learned from."""
    EventDelay.objects.filter(day__lt=utc_day(now - LEARNED_FROM)).delete()


def _accepted(account_id: int, since: datetime, until: datetime) -> int:
    """Mails that went to the account between the first check after `since` and the last one before `until`, at least.

    Each check has noted how many mails of the UTC day there were; what left between midnight and the last check before
    it is missing.
    """
    checks = HealthCheck.objects.filter(account=account_id, at__gte=since, at__lte=until).order_by("at")
    found, before = 0, None
    for at, used in checks.values_list("at", "used"):
        if before is not None:
            found += max(0, used - before[1]) if utc_day(at) == utc_day(before[0]) else used
        before = (at, used)
    return found


_NOTE = """
INSERT INTO accounts_eventdelay AS d (account_id, day, bucket, count) VALUES (%s, %s, %s, %s)
ON CONFLICT (account_id, day, bucket) DO UPDATE SET count = d.count + EXCLUDED.count
"""
