"""The numbers of the operator's front page, over all agencies. Days are UTC, as an account's are."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Max, Min, QuerySet, Sum

from campaigns import sources
from campaigns.models import Message
from providers.accounts import health
from providers.accounts.ledger import utc_day
from providers.accounts.models import LedgerRow, Period
from providers.senders import recovering
from tenants import context
from tenants.models import Agency

DAYS = 30
RATE_DAYS = 7
# A queue is counted so far: what is beyond changes nothing of what an operator does.
COUNTED = 100_000
Status = Message.Status


@dataclass(slots=True)
class Rates:
    """Mails of the last `RATE_DAYS` days of accounts of which something was ever heard, and what was; `telling` are
    those whose provider tells of deliveries."""

    used: int = 0
    telling: int = 0
    delivered: int = 0
    bounced: int = 0
    complained: int = 0

    @property
    def delivered_percent(self) -> float | None:
        """None where nobody tells."""
        return _percent(self.delivered, self.telling)

    @property
    def bounced_percent(self) -> float | None:
        """None where nothing is heard."""
        return _percent(self.bounced, self.used)

    @property
    def complained_percent(self) -> float | None:
        """None where nothing is heard."""
        return _percent(self.complained, self.used)


@dataclass(slots=True)
class Queue:
    """What waits in one agency: `due` of the `waiting` may go now, the oldest of them since `oldest`."""

    agency: Agency
    waiting: int
    due: int
    in_doubt: int
    oldest: datetime | None


def recoveries() -> Iterator[tuple[Agency, recovering.Told]]:
    """What recovers of every agency's senders and domains."""
    for agency in context.ready_agencies():
        with context.entered(agency):
            found = recovering.told()
        yield from ((agency, one) for one in found)


def paused_sources() -> Iterator[tuple[Agency, sources.Told]]:
    """The paused imports and lists of every agency."""
    for agency in context.ready_agencies():
        with context.entered(agency):
            found = sources.told()
        yield from ((agency, one) for one in found)


def sent_per_day(*, now: datetime) -> list[tuple[date, int]]:
    """Mails of all accounts on each of the last `DAYS` days, today last."""
    today = utc_day(now)
    rows = _days(today - timedelta(days=DAYS - 1)).values_list("starts").annotate(sum=Sum("used"))
    found = dict(rows)
    days = (today - timedelta(days=back) for back in range(DAYS - 1, -1, -1))
    return [(day, found.get(day, 0)) for day in days]


def rates(*, now: datetime) -> defaultdict[int | None, Rates]:
    """What became of each account's mails of the last days, by account; under None of all together."""
    rows = (
        _days(utc_day(now) - timedelta(days=RATE_DAYS - 1))
        .values_list("account")
        .annotate(
            Sum("used"), Sum("delivered"), Sum("bounced"), Sum("complained"), heard=Max("account__health__heard_at")
        )
    )
    telling = health.telling()
    found: defaultdict[int | None, Rates] = defaultdict(Rates)
    for account, used, delivered, bounced, complained, heard in rows:
        # What comes back to an own SMTP pool comes by mail: nobody but the count says that it can be heard.
        if not heard and not bounced + complained:
            continue
        for one in (found[account], found[None]):
            one.used += used
            one.telling += used if account in telling else 0
            one.delivered += delivered
            one.bounced += bounced
            one.complained += complained
    return found


def queues(*, now: datetime) -> Iterator[Queue]:
    """The agencies in which mails wait or are in doubt. One query an agency, which counts up to `COUNTED`."""
    for agency in context.ready_agencies():
        with context.entered(agency):
            scheduled = Message.objects.filter(status=Status.SCHEDULED)
            due = scheduled.filter(due_at__lte=now)
            found = Queue(
                agency,
                scheduled[: COUNTED + 1].count(),
                due[: COUNTED + 1].count(),
                Message.objects.filter(status=Status.UNKNOWN)[: COUNTED + 1].count(),
                due.aggregate(oldest=Min("due_at"))["oldest"],
            )
        if found.waiting or found.in_doubt:
            yield found


def _percent(count: int, of: int) -> float | None:
    return round(100 * count / of, 2) if of else None


def _days(first: date) -> QuerySet[LedgerRow]:
    return LedgerRow.objects.filter(agency=None, period=Period.DAY, starts__gte=first)
