"""The only writer of SenderDay, SenderHour and DomainDay, and of the rotation.

Locks are taken in one order everywhere: senders, then domain days, then (by the caller) the account's ledger, then
sender days, then sender hours. A claim skips senders that another claim holds, so it never waits for them.

A sender's limit holds in its agency's day and in any 24 hours. The hour that 24 hours ago lies in counts whole, so
what really went out in 24 hours is at most what is counted here.

What waited through a pause or an outage does not leave at once: in an hour of the clock a sender has a limit too, its
own or one that lets it send its day's mails in `hours`, the shortest window of the campaigns that run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import F

from providers.accounts.events import Outcome
from providers.senders.models import DomainDay, Home, SenderDay, SenderHour

WINDOW = timedelta(hours=24)
KEPT = timedelta(days=3)
# A sender without a limit for the hour sends its day's mails in so many hours, but so many mails an hour it may.
HOURS, LEAST_PER_HOUR = 5.0, 5


@dataclass(slots=True)
class Seat:
    """A locked sender, how many mails it may still send now, when it last sent one, and until when it rests."""

    sender_id: int
    domain_id: int
    address: str
    name: str
    per_day: int
    room: int
    used_at: datetime | None = None
    free_at: datetime | None = None

    def rested(self, gap: timedelta, now: datetime) -> bool:
        """Whether its last mail's gap is over, and that of the mail which is to go now."""
        if self.free_at is not None and self.free_at > now:
            return False
        return not gap or self.used_at is None or self.used_at + gap <= now


@dataclass(frozen=True, slots=True)
class Rest:
    """Until when senders that have room today rest, and whether for the mails of this hour rather than for a gap."""

    until: datetime
    hour_spent: bool = False


@dataclass(slots=True)
class Seats:
    """Locked senders of one account, those who sent least today first, and the room left in each of their domains."""

    seats: list[Seat]
    domains: dict[int, int]


def local_day(now: datetime, zone: ZoneInfo) -> date:
    """The agency's day that this moment belongs to."""
    return now.astimezone(zone).date()


def hour_of(moment: datetime) -> datetime:
    """The start of the hour, in UTC, that this moment belongs to."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def per_hour(own: int | None, per_day: int, hours: float) -> int:
    """Mails an hour of a sender that may send so many a day, where `own` is its limit for the hour, if it has one."""
    return max(LEAST_PER_HOUR, ceil(per_day / hours)) if own is None else own


def next_day(now: datetime, zone: ZoneInfo) -> datetime:
    """When the agency's next day begins."""
    following = local_day(now, zone) + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone)


def take_seats(
    account_id: int,
    *,
    day: date,
    now: datetime,
    limit: int,
    among: Sequence[int] | None = None,
    hours: float = HOURS,
) -> Seats:
    """Lock up to `limit` senders, of these or of all, that may send through this account, have room and do not rest.

    Call in a transaction.
    """
    bounds = _bounds(account_id, day, now, hours)
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_SENDERS, {**bounds, "among": None if among is None else list(among), "limit": limit})
        locked = cursor.fetchall()
        if not locked:
            return Seats([], {})
        # Read after the locks are held: a row joined in the statement above may be older than the lock.
        cursor.execute(_SENDERS_USED, {**bounds, "senders": [row[0] for row in locked]})
        used = {sender_id: counts for sender_id, *counts in cursor.fetchall()}
        domains = sorted({row[1] for row in locked})
        cursor.execute(_OPEN_DOMAIN_DAYS, [day, domains])
        cursor.execute(_LOCK_DOMAIN_DAYS, [day, domains])
        rooms = dict(cursor.fetchall())
    seats = []
    for sender_id, domain_id, address, name, per_day, per_hour, used_at, free_at, recovers in locked:
        in_day, in_hour, refused = used[sender_id]
        if (room := min(per_day - in_day - recovers * refused, per_hour - in_hour)) > 0:
            seats.append(Seat(sender_id, domain_id, address, name, per_day, room, used_at, free_at))
    return Seats(seats, rooms)


def spend(taken: Iterable[Seat], *, day: date, now: datetime) -> None:
    """Count one mail for each occurrence of a seat, which then rests until its `free_at`.

    The CHECKs refuse what take_seats did not allow.
    """
    counts: Counter[int] = Counter()
    domains: Counter[int] = Counter()
    seats: dict[int, Seat] = {}
    for seat in taken:
        counts[seat.sender_id] += 1
        domains[seat.domain_id] += 1
        seats[seat.sender_id] = seat
    senders = sorted(counts)
    limits, numbers = [seats[key].per_day for key in senders], [counts[key] for key in senders]
    with connection.cursor() as cursor:
        cursor.execute(_SPEND_DOMAINS, [sorted(domains), [domains[key] for key in sorted(domains)], day])
        cursor.execute(_SPEND_SENDERS, [day, senders, limits, numbers])
        cursor.execute(_SPEND_HOURS, [hour_of(now), senders, limits, numbers])
        cursor.execute(_TURN_ROTATION, [now, senders, [seats[key].free_at for key in senders]])


def give_back_domains(counts: Mapping[tuple[int, date], int], *, refused: bool = False) -> None:
    """Return mails that were surely not sent: (domain, day) → count. Before the account's ledger, by the lock order.

    `refused`: because their addresses were, which counts against the domain.
    """
    for (domain_id, day), count in sorted(counts.items()):
        DomainDay.objects.filter(domain=domain_id, day=day).update(
            used=F("used") - count, refused=F("refused") + count * refused
        )


def give_back_senders(counts: Mapping[tuple[int, date, datetime], int], *, refused: bool = False) -> None:
    """Return mails that were surely not sent: (sender, day, hour of the claim) → count; `refused` as of domains.

    After the account's ledger, by the lock order.
    """
    days: Counter[tuple[int, date]] = Counter()
    hours: Counter[tuple[int, datetime]] = Counter()
    for (sender_id, day, hour), count in counts.items():
        days[sender_id, day] += count
        hours[sender_id, hour] += count
    for (sender_id, day), count in sorted(days.items()):
        SenderDay.objects.filter(sender=sender_id, day=day).update(
            used=F("used") - count, refused=F("refused") + count * refused
        )
    for (sender_id, hour), count in sorted(hours.items()):
        SenderHour.objects.filter(sender=sender_id, hour=hour).update(used=F("used") - count)


def count_for_domains(outcomes: Mapping[tuple[int, date], Outcome]) -> None:
    """What became of mails, by domain and the day that counted them. Before the account's ledger, by the lock order."""
    _count(_COUNT_DOMAINS, outcomes)


def count_for_senders(outcomes: Mapping[tuple[int, date], Outcome]) -> None:
    """The same by sender, of what came back or was complained about. After the account's ledger, by the lock order."""
    _count(_COUNT_SENDERS, {key: one for key, one in outcomes.items() if one.bounced or one.complained})


def _count(statement: str, outcomes: Mapping[tuple[int, date], Outcome]) -> None:
    rows = [(*key, one.delivered, one.bounced, one.complained) for key, one in sorted(outcomes.items())]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(statement, [list(column) for column in zip(*rows, strict=True)])


def purge(*, now: datetime) -> int:
    """Forget the hours that no window of 24 hours can reach any more; return how many rows that were."""
    with connection.cursor() as cursor:
        cursor.execute(_PURGE, [hour_of(now - KEPT)])
        return int(cursor.rowcount)


def room_today(account_ids: Iterable[int], *, day: date, now: datetime) -> dict[int, int]:
    """Mails that the senders of each account may still send now, domain caps and the last 24 hours included.

    `day` is the agency's day at that moment.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _ROOM, {"accounts": list(account_ids), "day": day, "since": hour_of(now - WINDOW), "hour": hour_of(now)}
        )
        return {account_id: int(room) for account_id, room in cursor.fetchall()}


def held_back(account_id: int, *, day: date, now: datetime) -> bool:
    """Whether senders of this account would have room today but for a recovery, theirs or that of their domain."""
    with connection.cursor() as cursor:
        cursor.execute(_WOULD_HAVE_ROOM, _bounds(account_id, day, now, HOURS))
        found: bool = cursor.fetchone()[0]
    return found


def room_from(account_id: int, *, zone: ZoneInfo, now: datetime) -> datetime | None:
    """When a sender of this account may send again if all have sent what they may; None if not within a day or so."""
    hours = SenderHour.objects.filter(
        sender__domain__homes__account=account_id, hour__gte=hour_of(now - WINDOW), used__gt=0
    )
    # Room comes only with a new day, or when an hour has left the window whole.
    ends = {hour + WINDOW + timedelta(hours=1) for hour in hours.values_list("hour", flat=True).distinct()}
    for moment in sorted({next_day(now, zone), *ends}):
        if room_today([account_id], day=local_day(moment, zone), now=moment).get(account_id):
            return moment
    return None


def rested_from(
    account_id: int,
    gap: timedelta,
    *,
    day: date,
    now: datetime,
    hours: float = HOURS,
    kept: Mapping[int, timedelta] | None = None,
) -> Rest:
    """When the first sender of this account that has room may send a mail with this gap; `now` if one may already.

    `kept`: the gaps that senders keep in any case, by the ids of their domains.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RESTED, {**_bounds(account_id, day, now, hours), **_of_gaps(gap, kept)})
        found = cursor.fetchone()
    return Rest(max(found[0], now), found[1]) if found else Rest(now)


def rests(
    account_id: int,
    gap: timedelta,
    *,
    day: date,
    now: datetime,
    hours: float = HOURS,
    kept: Mapping[int, timedelta] | None = None,
) -> dict[int, Rest]:
    """The same for each sender of this account that has room today, by its id."""
    with connection.cursor() as cursor:
        cursor.execute(_RESTS, {**_bounds(account_id, day, now, hours), **_of_gaps(gap, kept)})
        return {key: Rest(max(until, now), hour_spent) for until, hour_spent, key in cursor.fetchall()}


def returns(account_id: int, *, zone: ZoneInfo, now: datetime) -> dict[int, datetime | None]:
    """When each active sender of this account has room again in its day, its domain's and the last 24 hours, `now` for
    one that has some, None for one that never has, by its id."""
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, _bounds(account_id, local_day(now, zone), now, HOURS))
        rows = cursor.fetchall()
    ends: dict[int, list[tuple[datetime, int]]] = {key: [] for key, _, _ in rows}
    kept = SenderHour.objects.filter(sender__in=list(ends), hour__gte=hour_of(now - WINDOW), used__gt=0)
    for key, hour, used in kept.values_list("sender", "hour", "used"):
        ends[key].append((hour + WINDOW + timedelta(hours=1), used))
    found: dict[int, datetime | None] = {}
    for key, limit, day_spent in rows:
        first = next_day(now, zone) if day_spent else now
        moments = sorted({first, *(end for end, _ in ends[key] if end > first)})
        # An hour counts until it has left the window whole.
        found[key] = next((at for at in moments if sum(used for end, used in ends[key] if end > at) < limit), None)
    return found


def accounts_with_senders() -> set[int]:
    """Accounts through which at least one active sender may leave."""
    return set(Home.objects.filter(domain__senders__active=True).values_list("account_id", flat=True).distinct())


def _bounds(account_id: int, day: date, now: datetime, hours: float) -> dict[str, Any]:
    return {
        "account": account_id,
        "day": day,
        "now": now,
        "since": hour_of(now - WINDOW),
        "hour": hour_of(now),
        "hours": hours,
    }


def _of_gaps(gap: timedelta, kept: Mapping[int, timedelta] | None) -> dict[str, Any]:
    own = gap.total_seconds()
    longer = {key: one.total_seconds() for key, one in (kept or {}).items() if one > gap}
    return {"gap": own, "domains": list(longer), "gaps": list(longer.values())}


# Beyond the end of a plan, and in an empty one, there is NULL, which LEAST passes over; so is a cap of who does not
# recover.
_OWN_LIMIT = "LEAST(s.per_day, g.warmup_plan[g.warmup_step])"
_DOMAINS_OWN_LIMIT = "LEAST(g.per_day, g.warmup_domain_plan[g.warmup_step])"
_SENDER_LIMIT = f"LEAST({_OWN_LIMIT}, s.cap)"
_DOMAIN_LIMIT = f"LEAST({_DOMAINS_OWN_LIMIT}, g.cap)"
# Who recovers has as many tries as mails: addresses that are refused at once are what it was paused for.
_SENDER_USED = "d.used + CASE WHEN s.cap IS NULL THEN 0 ELSE d.refused END"
_DOMAIN_USED = "{day}.used + CASE WHEN g.cap IS NULL THEN 0 ELSE {day}.refused END"
_HOUR_LIMIT = f"COALESCE(s.per_hour, GREATEST({LEAST_PER_HOUR}, CEIL({_SENDER_LIMIT} / %(hours)s::numeric))::int)"
_LAST_HOURS = """
SELECT sender_id, sum(used) AS used, sum(used) FILTER (WHERE hour >= %(hour)s) AS this_hour
FROM senders_senderhour WHERE hour >= %(since)s GROUP BY sender_id
"""
_HOURS_OF = """
SELECT sum(used) AS used, sum(used) FILTER (WHERE hour >= %(hour)s) AS this_hour
FROM senders_senderhour WHERE sender_id = {sender} AND hour >= %(since)s
"""
_DOMAIN_HAS_ROOM = f"""NOT EXISTS (
    SELECT FROM senders_domainday e WHERE e.domain_id = g.id AND e.day = %(day)s
      AND {_DOMAIN_USED.format(day="e")} >= {_DOMAIN_LIMIT}
)"""
_WITH_ROOM = f"""
FROM senders_sender s
JOIN senders_home h ON h.domain_id = s.domain_id AND h.account_id = %(account)s
JOIN senders_senderdomain g ON g.id = s.domain_id
LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
LEFT JOIN ({_LAST_HOURS}) w ON w.sender_id = s.id
CROSS JOIN LATERAL (
    SELECT COALESCE((%(gaps)s::float8[])[array_position(%(domains)s::bigint[], s.domain_id)], %(gap)s) AS gap
) own
WHERE s.active AND GREATEST({_SENDER_USED}, w.used, 0) < {_SENDER_LIMIT} AND {_DOMAIN_HAS_ROOM}
"""
# By what each has sent today, then by when: mails that were claimed and given back do not turn the rotation. The hours
# are summed up one sender after the other until there are enough, not for all: a day of all of them is a long list.
_LOCK_SENDERS = f"""
SELECT c.id, c.domain_id, c.address, c.name, c.per_day, c.per_hour, c.used_at, c.free_at, c.recovers FROM (
    SELECT s.id, s.domain_id, s.address, s.name, s.used_at, s.free_at, s.cap IS NOT NULL AS recovers,
           {_SENDER_LIMIT} AS per_day, {_HOUR_LIMIT} AS per_hour
    FROM senders_sender s
    JOIN senders_home h ON h.domain_id = s.domain_id AND h.account_id = %(account)s
    JOIN senders_senderdomain g ON g.id = s.domain_id
    LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
    WHERE s.active AND COALESCE({_SENDER_USED}, 0) < {_SENDER_LIMIT} AND {_DOMAIN_HAS_ROOM}
      AND (s.free_at IS NULL OR s.free_at <= %(now)s)
      AND (%(among)s::bigint[] IS NULL OR s.id = ANY(%(among)s::bigint[]))
    ORDER BY COALESCE(d.used, 0), s.used_at NULLS FIRST, s.id
    FOR UPDATE OF s SKIP LOCKED
) c
LEFT JOIN LATERAL ({_HOURS_OF.format(sender="c.id")}) w ON true
WHERE COALESCE(w.used, 0) < c.per_day AND COALESCE(w.this_hour, 0) < c.per_hour
LIMIT %(limit)s
"""  # noqa: S608 - of constants
_SENDERS_USED = f"""
SELECT s.id, GREATEST(d.used, w.used, 0), COALESCE(w.this_hour, 0), COALESCE(d.refused, 0)
FROM unnest(%(senders)s::bigint[]) AS s (id)
LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
LEFT JOIN LATERAL ({_HOURS_OF.format(sender="s.id")}) w ON true
"""  # noqa: S608 - of constants
_RESTS = f"""
SELECT GREATEST(gap, hour) AS until, hour > gap, id FROM (
    SELECT s.id,
           COALESCE(
               GREATEST(s.free_at, CASE WHEN own.gap > 0 THEN s.used_at + make_interval(secs => own.gap) END), %(now)s
           ) AS gap,
           CASE WHEN w.this_hour >= {_HOUR_LIMIT} THEN %(hour)s + interval '1 hour' ELSE %(now)s END AS hour
    {_WITH_ROOM}
) found
"""  # noqa: S608 - of constants
_RESTED = f"{_RESTS} ORDER BY until LIMIT 1"
_DAYS = f"""
SELECT s.id, {_SENDER_LIMIT}, COALESCE({_SENDER_USED}, 0) >= {_SENDER_LIMIT} OR NOT {_DOMAIN_HAS_ROOM}
FROM senders_sender s
JOIN senders_home h ON h.domain_id = s.domain_id AND h.account_id = %(account)s
JOIN senders_senderdomain g ON g.id = s.domain_id
LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
WHERE s.active
"""  # noqa: S608 - of constants
_OPEN_DOMAIN_DAYS = f"""
INSERT INTO senders_domainday (domain_id, day, allowed, used)
SELECT g.id, %s, {_DOMAIN_LIMIT}, 0 FROM senders_senderdomain g WHERE g.id = ANY(%s) ORDER BY g.id
ON CONFLICT (domain_id, day) DO NOTHING
"""  # noqa: S608 - of constants
_LOCK_DOMAIN_DAYS = f"""
SELECT d.domain_id, {_DOMAIN_LIMIT} - ({_DOMAIN_USED.format(day="d")})
FROM senders_domainday d JOIN senders_senderdomain g ON g.id = d.domain_id
WHERE d.day = %s AND d.domain_id = ANY(%s)
ORDER BY d.domain_id
FOR UPDATE OF d
"""  # noqa: S608 - of constants
_SPEND_DOMAINS = f"""
UPDATE senders_domainday d
SET used = d.used + n.count, allowed = GREATEST(d.used, {_DOMAIN_LIMIT})
FROM unnest(%s::bigint[], %s::int[]) AS n (domain_id, count)
JOIN senders_senderdomain g ON g.id = n.domain_id
WHERE d.domain_id = n.domain_id AND d.day = %s
"""  # noqa: S608 - of constants
_SPEND_SENDERS = """
INSERT INTO senders_senderday AS d (sender_id, day, allowed, used)
SELECT n.sender_id, %s, n.per_day, n.count
FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS n (sender_id, per_day, count)
ON CONFLICT (sender_id, day) DO UPDATE SET used = d.used + EXCLUDED.used, allowed = GREATEST(d.used, EXCLUDED.allowed)
"""
_SPEND_HOURS = """
INSERT INTO senders_senderhour AS d (sender_id, hour, allowed, used)
SELECT n.sender_id, %s, n.per_day, n.count
FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS n (sender_id, per_day, count)
ON CONFLICT (sender_id, hour)
DO UPDATE SET used = d.used + EXCLUDED.used, allowed = GREATEST(d.allowed, EXCLUDED.allowed)
"""
_TURN_ROTATION = """
UPDATE senders_sender s SET used_at = %s, free_at = GREATEST(s.free_at, n.free_at)
FROM unnest(%s::bigint[], %s::timestamptz[]) AS n (id, free_at) WHERE s.id = n.id
"""
_COUNTED = """
WITH n AS (
    SELECT * FROM unnest(%s::bigint[], %s::date[], %s::int[], %s::int[], %s::int[])
        AS n (id, day, delivered, bounced, complained)
), locked AS MATERIALIZED (
    SELECT d.id AS row_id, n.* FROM {table} d JOIN n ON d.{column} = n.id AND d.day = n.day
    ORDER BY d.{column}, d.day FOR UPDATE OF d
)
UPDATE {table} d
SET bounced = d.bounced + locked.bounced, complained = d.complained + locked.complained{more}
FROM locked WHERE d.id = locked.row_id
"""
_COUNT_DOMAINS = _COUNTED.format(
    table="senders_domainday", column="domain_id", more=", delivered = d.delivered + locked.delivered"
)
_COUNT_SENDERS = _COUNTED.format(table="senders_senderday", column="sender_id", more="")
# Skips what is being given back: two rows of it may be held in another order than here.
_PURGE = """
DELETE FROM senders_senderhour WHERE id IN (
    SELECT id FROM senders_senderhour WHERE hour < %s ORDER BY id FOR UPDATE SKIP LOCKED
)
"""
_ROOM = f"""
SELECT account_id, sum(LEAST(room, domain_room)) FROM (
    SELECT h.account_id, s.domain_id, sum(GREATEST({_SENDER_LIMIT} - GREATEST({_SENDER_USED}, w.used, 0), 0)) AS room,
           GREATEST({_DOMAIN_LIMIT} - COALESCE(max({_DOMAIN_USED.format(day="e")}), 0), 0) AS domain_room
    FROM senders_sender s
    JOIN senders_senderdomain g ON g.id = s.domain_id
    JOIN senders_home h ON h.domain_id = s.domain_id
    LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
    LEFT JOIN senders_domainday e ON e.domain_id = g.id AND e.day = %(day)s
    LEFT JOIN ({_LAST_HOURS}) w ON w.sender_id = s.id
    WHERE s.active AND h.account_id = ANY(%(accounts)s)
    GROUP BY h.account_id, s.domain_id, g.id
) domains
GROUP BY account_id
"""  # noqa: S608 - of constants
_WOULD_HAVE_ROOM = f"""
SELECT EXISTS (
    SELECT FROM senders_sender s
    JOIN senders_senderdomain g ON g.id = s.domain_id AND (s.cap IS NOT NULL OR g.cap IS NOT NULL)
    JOIN senders_home h ON h.domain_id = s.domain_id AND h.account_id = %(account)s
    LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
    LEFT JOIN senders_domainday e ON e.domain_id = g.id AND e.day = %(day)s
    LEFT JOIN LATERAL ({_HOURS_OF.format(sender="s.id")}) w ON true
    WHERE s.active AND GREATEST(d.used, w.used, 0) < {_OWN_LIMIT} AND COALESCE(e.used, 0) < {_DOMAINS_OWN_LIMIT}
)
"""  # noqa: S608 - of constants
