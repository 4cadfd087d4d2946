"""Sends what an agency may send now through one account: claim with quota, render, hand over, settle.

drain ─► claim_batch    one short transaction: senders, messages, quota
      ─► Delivery.run   renders; what cannot be rendered is held
           ─► begin        the mark before the wire; suppressed or paused since? then it does not go
           ─► Lines.send   no transaction open
           ─► settle       one verb of lifecycle per outcome
      ─► relieve        what the account cannot send now finds another way
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection, transaction

from campaigns import due, failover, gaps, lifecycle, paced, precedence, rendering, suppressions
from campaigns.delivery import Batch, Clock, Delivery, Lines
from campaigns.gaps import Gap
from campaigns.lifecycle import Claimed
from providers.accounts import adapters, health, rate
from providers.accounts import ledger as accounts
from providers.accounts.models import Account, Allotment
from providers.senders import ledger as senders
from providers.senders.ledger import Seat, Seats
from tenants import context, restored, visits
from tenants.models import Agency

BATCH = 100
# So many mails at the head of a queue other workers may be about to claim.
OTHERS = 8 * BATCH
SHORT_PAUSE = timedelta(seconds=5)
NO_GAPS: Mapping[int, Gap] = {}


@dataclass(slots=True)
class Drained:
    """What a drain did: mails handed over, accounts that got mails of this one, and whether it stopped for the time."""

    sent: int = 0
    moved_to: set[int] = field(default_factory=set)
    out_of_time: bool = False


def drain(
    account_id: int, *, clock: Clock, until: datetime, interrupted: Callable[[datetime], bool] = lambda _: False
) -> Drained:
    """Send what the agency entered now may send through this account, until nothing is left or the time is over.

    `interrupted` is asked before each batch whether the time is over before `until`. Of a database that was put back
    nothing goes until a person has let it.
    Harmless when it runs twice, also at the same time: every message is claimed by one of them.
    """
    result = Drained()
    if restored.frozen():
        return result
    agency = context.current_agency()
    allotment = accounts.allotment(agency, account_id)
    if allotment is not None:
        with Lines(allotment.account) as lines:
            _send_all(agency, allotment.account, lines, result, clock, until, interrupted)
    if not result.out_of_time:
        result.moved_to |= failover.relieve(agency, account_id, now=clock())
    return result


def claim_batch(
    agency: Agency, allotment: Allotment, *, now: datetime, limit: int, alone: bool = True
) -> list[Claimed]:
    """Up to `limit` due messages, each with a sender, their quota reserved in every ledger, in one transaction.

    `alone`: whether the worker has no other messages in its hands.
    """
    day = senders.local_day(now, agency.zone)
    pace = paced.running(agency, now=now)
    with transaction.atomic():
        found = senders.take_seats(allotment.account_id, day=day, now=now, limit=limit, hours=pace.hours)
        first = _due(allotment.account, found, closed=pace.closed, now=now, limit=limit)
        if not first:
            if not due.waits(allotment.account_id, now=now):
                return []
            # Perhaps all that is left waits for senders whose turn is not yet.
            waited_for = _waited_for(allotment.account_id, now=now, limit=limit)
            found = senders.take_seats(
                allotment.account_id, day=day, now=now, limit=limit, hours=pace.hours, among=waited_for
            )
            first = _due(allotment.account, found, closed=pace.closed, now=now, limit=limit)
        kept = paced.gaps_kept(found.domains) if first else {}
        placed = place(_apart(pace.admit(first), alone=alone), found, now=now, kept=kept)
        granted = accounts.reserve(allotment.account, allotment, len(placed), now=now) if placed else 0
        placed = placed[:granted]
        if not placed:
            return []
        senders.spend([seat for _, seat in placed], day=day, now=now)
        batch = [message for message, _ in placed]
        pace.spend(batch)
        lifecycle.claim(batch, claim=uuid4(), now=now, day=day, lease=settings.LEASE)
    return batch


def _apart(due: list[tuple[Claimed, int | None]], *, alone: bool) -> list[tuple[Claimed, int | None]]:
    """What a dead worker had in its hands goes alone: if it ends this one too, nothing else is taken for the cause."""
    for index, (message, _) in enumerate(due):
        if message.rescues:
            return due[:index] or due[: int(alone)]
    return due


def place(
    messages: Sequence[tuple[Claimed, int | None]], found: Seats, *, now: datetime, kept: Mapping[int, Gap] = NO_GAPS
) -> list[tuple[Claimed, Seat]]:
    """Pure: give each message a rested seat with room, turning through them; a thread keeps its sender or waits for it.

    Seats rest for the message's gap, or for that which those of their domain have `kept` for other campaigns if it is
    longer. A message that could only have a seat that rests keeps it from those behind: else, where they have shorter
    gaps, its turn would never come.
    """
    turn = deque(found.seats)
    by_id = {seat.sender_id: seat for seat in found.seats}
    placed = []
    for message, fixed in messages:
        seat = by_id.get(fixed) if fixed is not None else _next_seat(turn, found.domains, message, now, kept)
        if seat is None or not _has_room(seat, found.domains):
            continue
        gap = _gap(message, seat, kept)
        if not seat.rested(gap, now):
            seat.room = 0
            continue
        seat.room -= 1
        found.domains[seat.domain_id] -= 1
        seat.used_at = now
        if gap:
            seat.free_at = now + gap
        message.gap = gap
        message.sender_id, message.sender_address, message.sender_name = seat.sender_id, seat.address, seat.name
        placed.append((message, seat))
    return placed


def _gap(message: Claimed, seat: Seat, kept: Mapping[int, Gap]) -> timedelta:
    longest = kept.get(seat.domain_id)
    return max(message.gap, longest.of(message.key)) if longest else message.gap


def _next_seat(
    turn: deque[Seat], domains: dict[int, int], message: Claimed, now: datetime, kept: Mapping[int, Gap]
) -> Seat | None:
    longest_rested: Seat | None = None
    for _ in range(len(turn)):
        seat = turn[0]
        turn.rotate(-1)
        if _has_room(seat, domains):
            if seat.rested(_gap(message, seat, kept), now):
                return seat
            longest_rested = min(longest_rested or seat, seat, key=lambda one: one.used_at or now)
    return longest_rested


def _has_room(seat: Seat, domains: dict[int, int]) -> bool:
    return seat.room > 0 and domains[seat.domain_id] > 0


def _due(
    account: Account, found: Seats, *, closed: list[int], now: datetime, limit: int
) -> list[tuple[Claimed, int | None]]:
    if not found.seats:
        return []
    rows = _read_due(
        {
            "account": account.pk,
            "consent": account.requires_consent,
            "now": now,
            "closed": closed,
            "senders": [seat.sender_id for seat in found.seats],
            "levels": list(precedence.LEVELS),
            "limit": limit,
        }
    )
    return [
        (
            Claimed(
                id=row[0],
                key=row[1],
                campaign_id=row[2],
                step_id=row[3],
                enrollment_id=row[4],
                account_id=account.pk,
                refused_by=row[5],
                attempts=row[6],
                rescues=row[14],
                sendings=row[17],
                variant=row[18],
                in_thread=row[8] is not None,
                consented=row[20],
                traffic_class=row[7],
                gap=gaps.of_campaign(row[7], row[15], row[16]).of(row[1]),
                # Django leaves JSON of a raw query as text.
                contact=rendering.fields(row[9], row[10], row[11], row[12], json.loads(row[13])),
            ),
            row[8],
        )
        for row in rows
    ]


def _read_due(values: dict[str, Any]) -> list[Any]:
    """What may go; what must not any more is cancelled on the way, and what lacks the consent that the account requires
    is held, before any quota is counted for it."""
    while True:
        rows = _lock_due(values)
        going = [row for row in rows if not row[19] and (row[20] or not values["consent"])]
        if len(going) < len(rows):
            lifecycle.bar([row[0] for row in rows if row[19]])
            lifecycle.hold_lacking([row[0] for row in rows if not row[19] and values["consent"] and not row[20]])
            # Another account may take them.
            transaction.on_commit(partial(visits.ask, values["now"]))
        if going or not rows:
            return going


def _lock_due(values: dict[str, Any]) -> list[Any]:
    """The first mails that no other worker has locked. If it has the very first, more than are wanted are looked at."""
    limit, rows = values["limit"], list[Any]()
    for most in (limit, limit + OTHERS):
        with connection.cursor() as cursor:
            cursor.execute(_DUE, {**values, "most": most})
            rows = cursor.fetchall()
        if len(rows) == limit:
            break
    return rows


def _waited_for(account_id: int, *, now: datetime, limit: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_WAITED_FOR, [account_id, now, limit])
        return [row[0] for row in cursor.fetchall()]


# Chosen without a lock, which is only then set on as many as are taken: else those of every head start would be locked,
# and other workers would go past them. Nothing is joined while choosing: the planner would guess that so few are left
# that it might as well read and sort them all.
_DUE = f"""
WITH chosen AS MATERIALIZED (
    SELECT first.id, first.turn
    FROM unnest(%(levels)s::smallint[]) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT m.id, {precedence.TURN} AS turn
        FROM campaigns_message m
        WHERE m.account_id = %(account)s AND m.status = 'scheduled' AND NOT m.parked AND m.priority = level.priority
          AND m.due_at <= %(now)s
          AND m.campaign_id = ANY(ARRAY(
              SELECT id FROM campaigns_campaign WHERE status = 'running' AND id <> ALL(%(closed)s)
          ))
          AND (SELECT e.sender_id IS NULL OR e.sender_id = ANY(%(senders)s)
               FROM campaigns_enrollment e WHERE e.id = m.enrollment_id)
        ORDER BY m.due_at, m.id LIMIT %(most)s
    ) first
    ORDER BY first.turn, first.id LIMIT %(most)s
)
SELECT m.id, m.key, m.campaign_id, m.step_id, m.enrollment_id, m.refused_by, m.attempts, c.traffic_class, e.sender_id,
       p.email, p.first_name, p.last_name, p.company, p.attributes, m.rescues, c.gap_seconds, c.gap_jitter_seconds,
       m.sendings, m.variant, EXISTS ({suppressions.matching("p.email", "c.list_id")}), e.consented
FROM chosen
JOIN campaigns_message m ON m.id = chosen.id AND (m.status = 'scheduled') IS TRUE AND NOT m.parked
    AND m.account_id = %(account)s AND m.due_at <= %(now)s
JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.status = 'running'
JOIN campaigns_enrollment e ON e.id = m.enrollment_id
JOIN campaigns_contact p ON p.id = m.contact_id
ORDER BY chosen.turn, chosen.id
LIMIT %(limit)s
FOR UPDATE OF m SKIP LOCKED
"""  # noqa: S608 - see suppressions


_WAITED_FOR = """
SELECT DISTINCT e.sender_id
FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.status = 'running'
JOIN campaigns_enrollment e ON e.id = m.enrollment_id AND e.sender_id IS NOT NULL
WHERE m.account_id = %s AND m.status = 'scheduled' AND NOT m.parked AND m.due_at <= %s
LIMIT %s
"""


def _send_all(
    agency: Agency,
    account: Account,
    lines: Lines,
    result: Drained,
    clock: Clock,
    until: datetime,
    interrupted: Callable[[datetime], bool],
) -> None:
    paced.set_aside(agency, account.pk, now=clock())
    claims = _Claims(agency, account, clock, until, interrupted)
    while batch := claims.take(patient=True):
        delivery = Delivery(agency, account, lines, clock, until=until)
        result.sent += delivery.run(batch, claims.take, claims.over)
        result.moved_to |= delivery.moved_to
    result.out_of_time = claims.out_of_time


class _Claims:
    """Batch after batch of what one drain may send now; before each it looks at what may have changed meanwhile."""

    def __init__(
        self,
        agency: Agency,
        account: Account,
        clock: Clock,
        until: datetime,
        interrupted: Callable[[datetime], bool],
    ) -> None:
        self._agency = agency
        self._account = account
        self._clock = clock
        self._until = until
        self._interrupted = interrupted
        self._together = adapters.KINDS[account.kind].together
        self._tried = 0
        self._not_before = 0.0
        # It is at least so late, whatever a clock says that stands still: else a pause would never end.
        self._not_earlier: datetime | None = None
        self.out_of_time = False

    def take(self, *, patient: bool = False) -> Batch | None:
        """The next batch; None when this drain is over.

        Who is not patient has others on the wire, gets an empty one instead of waiting, and None where all that is
        left should go by itself.
        """
        while True:
            now = self._clock()
            late = max(now, self._not_earlier or now)
            if self.out_of_time or late >= self._until or self._gives_way(now):
                self.out_of_time = True
                return None
            if not patient and time.monotonic() < self._not_before:
                return Batch()
            # Asked for again each time: the operator may have changed or taken it meanwhile.
            allotment = accounts.allotment(self._agency, self._account.pk)
            if allotment is None:
                return None
            state = health.of(self._account.pk)
            if not state.open(late):
                if health.broken(state) or state.closed_until is None or state.closed_until - now > SHORT_PAUSE:
                    return None
                if not patient:
                    return Batch()
                self._sleep(late, min(state.closed_until, self._until) - late)
                continue
            room = health.room(state, BATCH, now=now)
            if room < BATCH and self._tried >= room:
                # It was closed or has just been opened: the next minute goes on, with more.
                return None
            limit = room if room == BATCH else room - self._tried
            # Mails of one claim share requests, and it is requests that a provider counts.
            limit = min(limit, self._together) if self._together > 1 else limit
            requests, wait = rate.take(allotment.account, -(-limit // self._together))
            if not requests:
                if self._gives_way(now + timedelta(seconds=wait)):
                    # Already now, so that whoever is next is ready when the account is.
                    self.out_of_time = True
                    return None
                self._not_before = time.monotonic() + wait
                if not patient:
                    return Batch()
                self._sleep(late, min(timedelta(seconds=wait), self._until - late))
                continue
            limit = min(limit, requests * self._together)
            messages = claim_batch(self._agency, allotment, now=now, limit=limit, alone=patient)
            rate.give_back(allotment.account, requests - -(-len(messages) // self._together))
            if messages:
                self._tried += len(messages)
                return Batch(messages, health.troubled(state))
            if not patient or not paced.set_aside(self._agency, self._account.pk, now=now):
                return None

    def _sleep(self, now: datetime, how_long: timedelta) -> None:
        time.sleep(how_long.total_seconds())
        self._not_earlier = now + how_long

    def over(self) -> bool:
        """Whether this drain ends now for others' sake."""
        self.out_of_time = self.out_of_time or self._gives_way(self._clock())
        return self.out_of_time

    def _gives_way(self, now: datetime) -> bool:
        """Whether others go first from then on. They wait for one batch of this turn, however long that has to wait."""
        return self._interrupted(now) and self._tried > 0
