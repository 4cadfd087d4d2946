"""The only writer of LedgerRow. Reserving and giving back happen inside the transaction that moves the messages.

An account's mails are counted in up to four rows: of the account and of the agency's allotment, a day and a month.
They are locked in one fixed order, always, so two workers can never wait for each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Greatest

from providers.accounts.events import Outcome
from providers.accounts.models import Account, Allotment, Health, LedgerRow, Period
from providers.accounts.routing import Route
from tenants.models import Agency


@dataclass(frozen=True, slots=True)
class Limit:
    """One quota that a mail counts against. `agency_id` None is the whole account."""

    agency_id: int | None
    period: str
    starts: date
    allowed: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Which quota is used up, and when it begins anew."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Overdrawn:
    """A limit that was cut below what is used already, of the whole account or of one agency; nothing is sent until
    then."""

    agency: Agency | None
    period: str
    allowed: int
    used: int
    until: datetime


def utc_day(now: datetime) -> date:
    """The account day that this moment belongs to."""
    return now.astimezone(UTC).date()


def limits(account: Account, allotment: Allotment, *, day: date) -> list[Limit]:
    """Every quota of this account that binds this agency on a UTC day, in the order in which rows are locked."""
    month = day.replace(day=1)
    found = [Limit(None, Period.DAY, day, account.per_day)]
    if account.per_month is not None:
        found.append(Limit(None, Period.MONTH, month, account.per_month))
    # Kept for every agency, limited or not: it is also what the agency has used.
    share = allotment.per_day if allotment.per_day is not None else account.per_day
    found.append(Limit(allotment.agency_id, Period.DAY, day, share))
    if allotment.per_month is not None:
        found.append(Limit(allotment.agency_id, Period.MONTH, month, allotment.per_month))
    return found


def reserve(account: Account, allotment: Allotment, want: int, *, now: datetime) -> int:
    """Spend up to `want` mails of every quota of the account; return how many were granted.

    Call inside the transaction that records what the mails are for, as late as possible: the rows stay locked
    until it ends.
    """
    day = utc_day(now)
    bounds = limits(account, allotment, day=day)
    rows = _locked(account, allotment.agency_id, bounds, day)
    granted = min([want, *(bound.allowed - rows[bound.agency_id, bound.period].used for bound in bounds)])
    if granted <= 0:
        return 0
    _add(rows.values(), bounds, granted)
    return granted


def give_back(account_id: int, agency_id: int, count: int, *, day: date) -> None:
    """Return mails that were surely not sent to every quota they were reserved from on that UTC day."""
    locked = _lock(account_id, agency_id, day).values()
    LedgerRow.objects.filter(pk__in=[row.pk for row in locked]).update(used=F("used") - count)


def count_outcomes(outcomes: Mapping[tuple[int, date], Outcome], agency_id: int) -> None:
    """What became of mails, by account and the UTC day that counted them. Call as late as possible in a transaction."""
    for (account_id, day), outcome in sorted(outcomes.items()):
        locked = _lock(account_id, agency_id, day).values()
        LedgerRow.objects.filter(pk__in=[row.pk for row in locked]).update(
            delivered=F("delivered") + outcome.delivered,
            bounced=F("bounced") + outcome.bounced,
            complained=F("complained") + outcome.complained,
        )


def allotment(agency: Agency, account_id: int) -> Allotment | None:
    """What this agency may use of an account now, or None: not allotted, not in use, or brought by another agency."""
    return _allotments(agency).select_related("account").filter(account=account_id).first()


def routes(agency: Agency, *, now: datetime, mine: Sequence[Allotment] | None = None) -> list[Route]:
    """Every account that this agency may use, with what is left of it today, by priority; `mine` are its allotments
    where they have been read already."""
    day = utc_day(now)
    mine = list(allotments(agency)) if mine is None else mine
    used = _used(agency, [allotment.account_id for allotment in mine], day)
    found = []
    for allotment in mine:
        account = allotment.account
        free = min(
            bound.allowed - used.get((account.pk, bound.agency_id, bound.period), 0)
            for bound in limits(account, allotment, day=day)
        )
        health = getattr(account, "health", None)
        found.append(
            Route(
                account_id=account.pk,
                name=account.name,
                kind=account.kind,
                classes=frozenset(account.traffic_classes),
                priority=account.priority,
                free=max(0, free),
                open=not isinstance(health, Health) or health.open(now),
                consent_required=account.requires_consent,
                used=used.get((account.pk, agency.pk, Period.DAY), 0),
            )
        )
    return found


def used(agency: Agency, mine: Sequence[Allotment], *, now: datetime) -> dict[tuple[int, Limit], int]:
    """What has been used so far of the quotas that bind the agency with these allotments: by account and limit."""
    day = utc_day(now)
    rows = _used(agency, [one.account_id for one in mine], day)
    found = {}
    for one in mine:
        for bound in limits(one.account, one, day=day):
            row = rows.get((one.account_id, bound.agency_id, bound.period))
            # A row that is not there is opened by the next mail.
            found[one.account_id, bound] = _used_already(one.account_id, bound) if row is None else row
    return found


def used_this_month(account_id: int, *, now: datetime) -> int:
    """Mails of all agencies through this account in the UTC month, whether that is limited or not."""
    month = utc_day(now).replace(day=1)
    return _used_already(account_id, Limit(None, Period.MONTH, month, 0))


def spent(account: Account, allotment: Allotment, *, now: datetime) -> Spent | None:
    """The quota of this account that is used up for the longest, or None while all have room."""
    day = utc_day(now)
    used = {(row.agency_id, row.period): row.used for row in _rows(account.pk, allotment.agency_id, day)}
    found = [
        Spent(f"{'account' if bound.agency_id is None else 'allotment'}_{bound.period}_spent", _next(bound, day))
        for bound in limits(account, allotment, day=day)
        if used.get((bound.agency_id, bound.period), 0) >= bound.allowed
    ]
    return max(found, key=lambda one: one.until, default=None)


def allotments(agency: Agency) -> QuerySet[Allotment]:
    """What this agency may use of the accounts that are in use, its own or shared, by priority."""
    return _allotments(agency).select_related("account", "account__health").order_by("account__priority", "account_id")


def overdrawn(account: Account, *, now: datetime) -> list[Overdrawn]:
    """Limits of this account and of its allotments that are below what has been used in their day or month."""
    day = utc_day(now)
    used = {
        (row.agency_id, row.period): row.used for row in LedgerRow.objects.filter(_current(day), account=account.pk)
    }
    found = []
    for share in account.allotments.select_related("agency").order_by("pk"):
        for bound in limits(account, share, day=day):
            whose = share.agency if bound.agency_id is not None else None
            count = used.get((bound.agency_id, bound.period), 0)
            if count > bound.allowed:
                found.append(Overdrawn(whose, bound.period, bound.allowed, count, _next(bound, day)))
    return list(dict.fromkeys(found))


def _allotments(agency: Agency) -> QuerySet[Allotment]:
    own = Q(account__owner=None) | Q(account__owner=agency)
    return Allotment.objects.filter(own, agency=agency, account__enabled=True)


def _used(agency: Agency, account_ids: Sequence[int], day: date) -> dict[tuple[int, int | None, str], int]:
    rows = LedgerRow.objects.filter(Q(agency=None) | Q(agency=agency), _current(day), account__in=account_ids)
    return {(row.account_id, row.agency_id, row.period): row.used for row in rows}


def _next(bound: Limit, day: date) -> datetime:
    if bound.period == Period.DAY:
        following = day + timedelta(days=1)
    else:
        following = (bound.starts + timedelta(days=32)).replace(day=1)
    return datetime(following.year, following.month, following.day, tzinfo=UTC)


def _current(day: date) -> Q:
    return Q(period=Period.DAY, starts=day) | Q(period=Period.MONTH, starts=day.replace(day=1))


def _rows(account_id: int, agency_id: int, day: date) -> QuerySet[LedgerRow]:
    return LedgerRow.objects.filter(Q(agency=None) | Q(agency=agency_id), _current(day), account=account_id)


def _locked(
    account: Account, agency_id: int, bounds: Iterable[Limit], day: date
) -> dict[tuple[int | None, str], LedgerRow]:
    wanted = {(bound.agency_id, bound.period) for bound in bounds}
    rows = _lock(account.pk, agency_id, day)
    if missing := [bound for bound in bounds if (bound.agency_id, bound.period) not in rows]:
        LedgerRow.objects.bulk_create(
            [
                LedgerRow(
                    account=account,
                    agency_id=bound.agency_id,
                    period=bound.period,
                    starts=bound.starts,
                    used=(used := _used_already(account.pk, bound)),
                    allowed=max(used, bound.allowed),
                )
                for bound in missing
            ],
            ignore_conflicts=True,
        )
        rows = _lock(account.pk, agency_id, day)
    assert wanted <= rows.keys()
    return rows


def _lock(account_id: int, agency_id: int, day: date) -> dict[tuple[int | None, str], LedgerRow]:
    rows = _rows(account_id, agency_id, day).select_for_update().order_by("pk")
    return {(row.agency_id, row.period): row for row in rows}


def _used_already(account_id: int, bound: Limit) -> int:
    """A monthly limit may be set in mid-month, and counts from its first day on."""
    if bound.period == Period.DAY:
        return 0
    days = LedgerRow.objects.filter(
        account=account_id, agency=bound.agency_id, period=Period.DAY, starts__gte=bound.starts
    )
    return int(days.aggregate(used=Sum("used"))["used"] or 0)


def _add(rows: Iterable[LedgerRow], bounds: Iterable[Limit], count: int) -> None:
    """Count mails in every row there is: that of a limit which was taken away too, for they are given back from it."""
    allowed = {(bound.agency_id, bound.period): bound.allowed for bound in bounds}
    for row in rows:
        limit = allowed.get((row.agency_id, row.period))
        LedgerRow.objects.filter(pk=row.pk).update(
            used=F("used") + count,
            # A limit changed by the operator takes effect here, but never below what is used already. The
            # CHECK compares it with what is used after this: it refuses what the lock should have prevented.
            allowed=Greatest(F("used"), limit) if limit is not None else Greatest(F("allowed"), F("used") + count),
        )
