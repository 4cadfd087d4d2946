"""The only writer of SenderDay and DomainDay, and of the rotation.

Locks are taken in one order everywhere: senders, then domain days, then (by the caller) the account's ledger, then
sender days. A claim skips senders that another claim holds, so it never waits for them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import F

from providers.senders.models import DomainDay, Home, SenderDay


@dataclass(slots=True)
class Seat:
    """A locked sender and how many mails it may still send today."""

    sender_id: int
    domain_id: int
    address: str
    name: str
    per_day: int
    room: int


@dataclass(slots=True)
class Seats:
    """Locked senders of one account, those who sent least today first, and the room left in each of their domains."""

    seats: list[Seat]
    domains: dict[int, int]


def local_day(now: datetime, zone: ZoneInfo) -> date:
    """The agency's day that this moment belongs to."""
    return now.astimezone(zone).date()


def next_day(now: datetime, zone: ZoneInfo) -> datetime:
    """When the agency's next day begins."""
    following = local_day(now, zone) + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone)


def take_seats(account_id: int, *, day: date, limit: int, among: Sequence[int] | None = None) -> Seats:
    """Lock up to `limit` senders, of these or of all, that may send through this account and have room today.

    Call in a transaction.
    """
    with connection.cursor() as cursor:
        ids = None if among is None else list(among)
        cursor.execute(_LOCK_SENDERS, [account_id, day, day, ids, ids, limit])
        locked = cursor.fetchall()
        if not locked:
            return Seats([], {})
        # Read after the locks are held: a row joined in the statement above may be older than the lock.
        cursor.execute(_SENDERS_USED, [day, [row[0] for row in locked]])
        used = dict(cursor.fetchall())
        domains = sorted({row[1] for row in locked})
        cursor.execute(_OPEN_DOMAIN_DAYS, [day, domains])
        cursor.execute(_LOCK_DOMAIN_DAYS, [day, domains])
        rooms = dict(cursor.fetchall())
    seats = [
        Seat(sender_id, domain_id, address, name, per_day, per_day - used.get(sender_id, 0))
        for sender_id, domain_id, address, name, per_day in locked
        if per_day > used.get(sender_id, 0)
    ]
    return Seats(seats, rooms)


def spend(taken: Iterable[Seat], *, day: date, now: datetime) -> None:
    """Count one mail for each occurrence of a seat; the CHECKs refuse what take_seats did not allow."""
    counts: Counter[int] = Counter()
    domains: Counter[int] = Counter()
    limits: dict[int, int] = {}
    for seat in taken:
        counts[seat.sender_id] += 1
        domains[seat.domain_id] += 1
        limits[seat.sender_id] = seat.per_day
    senders = sorted(counts)
    with connection.cursor() as cursor:
        cursor.execute(_SPEND_DOMAINS, [sorted(domains), [domains[key] for key in sorted(domains)], day])
        cursor.execute(
            _SPEND_SENDERS, [day, senders, [limits[key] for key in senders], [counts[key] for key in senders]]
        )
        cursor.execute(_TURN_ROTATION, [now, senders])


def give_back_domains(counts: Mapping[tuple[int, date], int]) -> None:
    """Return mails that were surely not sent: (domain, day) → count. Before the account's ledger, by the lock order."""
    for (domain_id, day), count in sorted(counts.items()):
        DomainDay.objects.filter(domain=domain_id, day=day).update(used=F("used") - count)


def give_back_senders(counts: Mapping[tuple[int, date], int]) -> None:
    """Return mails that were surely not sent: (sender, day) → count. After the account's ledger, by the lock order."""
    for (sender_id, day), count in sorted(counts.items()):
        SenderDay.objects.filter(sender=sender_id, day=day).update(used=F("used") - count)


def room_today(account_ids: Iterable[int], *, day: date) -> dict[int, int]:
    """Mails that the senders of each account may still send on this day, domain caps included."""
    with connection.cursor() as cursor:
        cursor.execute(_ROOM, [day, day, list(account_ids)])
        return {account_id: int(room) for account_id, room in cursor.fetchall()}


def accounts_with_senders() -> set[int]:
    """Accounts through which at least one active sender may leave."""
    return set(Home.objects.filter(domain__senders__active=True).values_list("account_id", flat=True).distinct())


# By what each has sent today, then by when: mails that were claimed and given back do not turn the rotation.
_LOCK_SENDERS = """
SELECT s.id, s.domain_id, s.address, s.name, s.per_day
FROM senders_sender s
JOIN senders_home h ON h.domain_id = s.domain_id AND h.account_id = %s
JOIN senders_senderdomain g ON g.id = s.domain_id
LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %s
WHERE s.active AND COALESCE(d.used, 0) < s.per_day
  AND NOT EXISTS (SELECT FROM senders_domainday e WHERE e.domain_id = g.id AND e.day = %s AND e.used >= g.per_day)
  AND (%s::bigint[] IS NULL OR s.id = ANY(%s::bigint[]))
ORDER BY COALESCE(d.used, 0), s.used_at NULLS FIRST, s.id
LIMIT %s
FOR UPDATE OF s SKIP LOCKED
"""
_SENDERS_USED = "SELECT sender_id, used FROM senders_senderday WHERE day = %s AND sender_id = ANY(%s)"
_OPEN_DOMAIN_DAYS = """
INSERT INTO senders_domainday (domain_id, day, allowed, used)
SELECT id, %s, per_day, 0 FROM senders_senderdomain WHERE id = ANY(%s) ORDER BY id
ON CONFLICT (domain_id, day) DO NOTHING
"""
_LOCK_DOMAIN_DAYS = """
SELECT d.domain_id, g.per_day - d.used
FROM senders_domainday d JOIN senders_senderdomain g ON g.id = d.domain_id
WHERE d.day = %s AND d.domain_id = ANY(%s)
ORDER BY d.domain_id
FOR UPDATE OF d
"""
_SPEND_DOMAINS = """
UPDATE senders_domainday d
SET used = d.used + n.count, allowed = GREATEST(d.used, g.per_day)
FROM unnest(%s::bigint[], %s::int[]) AS n (domain_id, count)
JOIN senders_senderdomain g ON g.id = n.domain_id
WHERE d.domain_id = n.domain_id AND d.day = %s
"""
_SPEND_SENDERS = """
INSERT INTO senders_senderday AS d (sender_id, day, allowed, used)
SELECT n.sender_id, %s, n.per_day, n.count
FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS n (sender_id, per_day, count)
ON CONFLICT (sender_id, day) DO UPDATE SET used = d.used + EXCLUDED.used, allowed = GREATEST(d.used, EXCLUDED.allowed)
"""
_TURN_ROTATION = "UPDATE senders_sender SET used_at = %s WHERE id = ANY(%s)"
_ROOM = """
SELECT account_id, sum(LEAST(room, domain_room)) FROM (
    SELECT h.account_id, s.domain_id, sum(GREATEST(s.per_day - COALESCE(d.used, 0), 0)) AS room,
           GREATEST(g.per_day - COALESCE(max(e.used), 0), 0) AS domain_room
    FROM senders_sender s
    JOIN senders_senderdomain g ON g.id = s.domain_id
    JOIN senders_home h ON h.domain_id = s.domain_id
    LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %s
    LEFT JOIN senders_domainday e ON e.domain_id = g.id AND e.day = %s
    WHERE s.active AND h.account_id = ANY(%s)
    GROUP BY h.account_id, s.domain_id, g.per_day
) domains
GROUP BY account_id
"""
