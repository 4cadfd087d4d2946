"""Sends what an agency may send now through one account: claim with quota, render, hand over, settle.

drain ─► claim_batch   one short transaction: senders, messages, quota
      ─► prepare       render; what cannot be rendered is held
      ─► begin         the mark before the wire; suppressed or paused since? then it does not go
      ─► Lines.send    no transaction open
      ─► settle        one verb of lifecycle per outcome
      ─► relieve       what the account cannot send now finds another way
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self
from uuid import uuid4

from django.conf import settings
from django.db import connection, transaction

from campaigns import failover, lifecycle, outcomes, rendering
from campaigns.lifecycle import Claimed
from campaigns.models import Step, Suppression
from campaigns.outcomes import Decision, Trouble, Verb
from campaigns.reasons import Reason
from providers.accounts import adapters, health, routing
from providers.accounts import ledger as accounts
from providers.accounts.envelope import Envelope
from providers.accounts.errors import AccountBlocked, AccountMisconfigured, DeliveryError, MessageRefused, Unsure
from providers.accounts.models import Account, Allotment
from providers.accounts.routing import Route
from providers.senders import ledger as senders
from providers.senders import routes
from providers.senders.ledger import Seat, Seats
from tenants import context
from tenants.models import Agency

logger = logging.getLogger(__name__)

BATCH = 50
SHORT_PAUSE = timedelta(seconds=5)
CONNECTIONS = {"smtp": 4}
CONNECTIONS_OVER_HTTP = 8

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Drained:
    """What a drain did: mails handed over, accounts that got mails of this one, and whether it stopped for the time."""

    sent: int = 0
    moved_to: set[int] = field(default_factory=set)
    out_of_time: bool = False


def drain(account_id: int, *, clock: Clock, until: datetime) -> Drained:
    """Send what the agency entered now may send through this account, until nothing is left or the time is over.

    Harmless when it runs twice, also at the same time: every message is claimed by one of them.
    """
    agency = context.current_agency()
    allotment = (
        Allotment.objects.select_related("account")
        .filter(account=account_id, agency=agency, account__enabled=True)
        .first()
    )
    result = Drained()
    if allotment is not None:
        with Lines(allotment.account) as lines:
            _send_all(agency, allotment, lines, result, clock, until)
    if not result.out_of_time:
        result.moved_to = failover.relieve(agency, account_id, now=clock())
    return result


def claim_batch(agency: Agency, allotment: Allotment, *, now: datetime, limit: int) -> list[Claimed]:
    """Up to `limit` due messages, each with a sender, their quota reserved in every ledger, in one transaction."""
    day = senders.local_day(now, agency.zone)
    with transaction.atomic():
        found = senders.take_seats(allotment.account_id, day=day, limit=limit)
        if not found.seats:
            return []
        placed = place(_due(allotment.account_id, found, now=now, limit=limit), found)
        granted = accounts.reserve(allotment.account, allotment, len(placed), now=now) if placed else 0
        placed = placed[:granted]
        if not placed:
            return []
        senders.spend([seat for _, seat in placed], day=day, now=now)
        batch = [message for message, _ in placed]
        lifecycle.claim(batch, claim=uuid4(), now=now, lease=settings.LEASE)
    return batch


def place(messages: Sequence[tuple[Claimed, int | None]], found: Seats) -> list[tuple[Claimed, Seat]]:
    """Pure: give each message a seat with room, turning through them; a thread keeps its sender or waits for it."""
    turn = deque(found.seats)
    by_id = {seat.sender_id: seat for seat in found.seats}
    placed = []
    for message, fixed in messages:
        seat = by_id.get(fixed) if fixed is not None else _next_seat(turn, found.domains)
        if seat is None or seat.room <= 0 or found.domains[seat.domain_id] <= 0:
            continue
        seat.room -= 1
        found.domains[seat.domain_id] -= 1
        message.sender_id, message.sender_address, message.sender_name = seat.sender_id, seat.address, seat.name
        placed.append((message, seat))
    return placed


def _next_seat(turn: deque[Seat], domains: dict[int, int]) -> Seat | None:
    for _ in range(len(turn)):
        seat = turn[0]
        turn.rotate(-1)
        if seat.room > 0 and domains[seat.domain_id] > 0:
            return seat
    return None


def _due(account_id: int, found: Seats, *, now: datetime, limit: int) -> list[tuple[Claimed, int | None]]:
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [account_id, now, [seat.sender_id for seat in found.seats], limit])
        rows = cursor.fetchall()
    return [
        (
            Claimed(
                id=row[0],
                key=row[1],
                campaign_id=row[2],
                step_id=row[3],
                enrollment_id=row[4],
                account_id=account_id,
                refused_by=row[5],
                attempts=row[6],
                traffic_class=row[7],
                # Django leaves JSON of a raw query as text.
                contact=rendering.fields(row[9], row[10], row[11], row[12], json.loads(row[13])),
            ),
            row[8],
        )
        for row in rows
    ]


_DUE = """
SELECT m.id, m.key, m.campaign_id, m.step_id, m.enrollment_id, m.refused_by, m.attempts, c.traffic_class, e.sender_id,
       p.email, p.first_name, p.last_name, p.company, p.attributes
FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.status = 'running'
JOIN campaigns_enrollment e ON e.id = m.enrollment_id
JOIN campaigns_contact p ON p.id = m.contact_id
WHERE m.account_id = %s AND m.status = 'scheduled' AND m.due_at <= %s
  AND (e.sender_id IS NULL OR e.sender_id = ANY(%s))
ORDER BY m.priority, m.due_at, m.id
LIMIT %s
FOR UPDATE OF m SKIP LOCKED
"""


class Lines:
    """The connections of one drain to one account: so many mails are in flight at once, one wire per thread."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._wires: list[adapters.Wire] = []
        self._local = threading.local()
        family = "smtp" if account.kind == "smtp" else "http"
        self._timeouts = settings.WIRE_TIMEOUTS[family]
        default = CONNECTIONS.get(account.kind, CONNECTIONS_OVER_HTTP)
        self.count = max(1, int(account.options.get("connections", default)))
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix=account.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        for wire in self._wires:
            with suppress(Exception):
                wire.close()

    def send(self, envelope: Envelope) -> "Future[str | None]":
        """Hand over one mail in the background; the future raises DeliveryError and nothing else."""
        return self._pool.submit(self._send, envelope)

    def _send(self, envelope: Envelope) -> str | None:
        try:
            wire = getattr(self._local, "wire", None)
            if wire is None:
                options = {**self._timeouts, **self._account.options}
                wire = adapters.open(self._account.kind, self._account.credentials, options)
                self._local.wire = wire
                self._wires.append(wire)
            return wire.send(envelope)
        except DeliveryError:
            raise
        except AccountMisconfigured as error:
            raise AccountBlocked(str(error)) from None
        except Exception as error:
            logger.exception("adapter failed", extra={"account": self._account.name})
            raise Unsure(f"The adapter failed with {type(error).__name__}.") from None


def _send_all(
    agency: Agency, allotment: Allotment, lines: Lines, result: Drained, clock: Clock, until: datetime
) -> None:
    while True:
        now = clock()
        if now >= until:
            result.out_of_time = True
            return
        state = health.of(allotment.account_id)
        if not state.open(now):
            if health.broken(state) or state.closed_until is None or state.closed_until - now > SHORT_PAUSE:
                return
            time.sleep(min(state.closed_until - now, until - now).total_seconds())
            continue
        limit = 1 if health.broken(state) else BATCH
        batch = claim_batch(agency, allotment, now=now, limit=limit)
        if not batch:
            return
        result.sent += _Batch(agency, allotment.account, lines, clock, troubled=state.refusals > 0).run(batch)


class _Batch:
    """One claimed batch on its way over the lines."""

    def __init__(self, agency: Agency, account: Account, lines: Lines, clock: Clock, *, troubled: bool) -> None:
        self._agency = agency
        self._account = account
        self._lines = lines
        self._clock = clock
        self._troubled = troubled
        self._closed = False
        self._flying: dict[Future[str | None], tuple[Claimed, Envelope, int]] = {}
        self._sent: list[Claimed] = []
        self._stopped: list[Claimed] = []
        self._routes: list[Route] | None = None

    def run(self, batch: Sequence[Claimed]) -> int:
        """Send what may go, settle each outcome as it comes; return how many were taken by the provider."""
        texts = _texts(batch)
        waiting = deque(batch)
        while waiting or self._flying:
            while waiting and not self._closed and len(self._flying) < self._lines.count:
                self._launch(waiting.popleft(), texts)
            if self._closed and waiting:
                lifecycle.release(list(waiting))
                waiting.clear()
            if self._flying:
                done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
                for future in done:
                    self._settle(future)
        lifecycle.stop(self._stopped)
        lifecycle.keep_sender(self._sent)
        return len(self._sent)

    def _launch(self, message: Claimed, texts: dict[int, rendering.Texts | str]) -> None:
        try:
            envelope = _envelope(message, texts[message.step_id], self._agency)
        except (rendering.NotRenderedError, MessageRefused) as error:
            lifecycle.hold(message, Reason.NOT_RENDERED, str(error))
            return
        if not lifecycle.begin(message, now=self._clock()):
            self._stopped.append(message)
            return
        self._flying[self._lines.send(envelope)] = (message, envelope, 0)

    def _settle(self, future: "Future[str | None]") -> None:
        message, envelope, confirmations = self._flying.pop(future)
        now = self._clock()
        try:
            provider_id = future.result()
        except DeliveryError as error:
            decision = outcomes.decide(
                error,
                confirmations=confirmations,
                snoozes=message.attempts,
                idempotent=adapters.KINDS[self._account.kind].idempotent,
            )
            if decision.verb is Verb.CONFIRM:
                self._flying[self._lines.send(envelope)] = (message, envelope, confirmations + 1)
                return
            self._apply(decision, message, error, now)
            return
        lifecycle.sent(message, provider_id, now=now)
        self._sent.append(message)
        if self._troubled:
            health.worked(self._account.pk, now=now)
            self._troubled = False

    def _apply(self, decision: Decision, message: Claimed, error: DeliveryError, now: datetime) -> None:
        self._report(decision.trouble, error, now)
        match decision.verb:
            case Verb.DOUBT:
                lifecycle.doubt(message, error.detail)
            case Verb.FAIL:
                lifecycle.fail(message, decision.reason, error.detail)
                if decision.suppress:
                    suppress_address(message.contact["email"], error.detail)
            case Verb.SNOOZE:
                lifecycle.reschedule(
                    message,
                    due_at=now + decision.delay,
                    reason=decision.reason,
                    detail=error.detail,
                    refused_by=message.refused_by,
                    # A recipient who puts us off is asked only so many times.
                    attempt_used=decision.reason is Reason.RECIPIENT_BUSY,
                )
            case _:
                self._fail_over(message, error, now)

    def _fail_over(self, message: Claimed, error: DeliveryError, now: datetime) -> None:
        if self._routes is None:
            self._routes = routes.usable(self._agency, now=now)
        refused_by = [*message.refused_by, self._account.pk]
        following = routing.next_route(self._routes, message.traffic_class, refused_by=refused_by)
        if following is not None:
            lifecycle.reschedule(
                message, due_at=now, detail=error.detail, account_id=following.account_id, refused_by=refused_by
            )
        else:
            lifecycle.reschedule(
                message, due_at=now + outcomes.WHEN_ALL_REFUSE, reason=Reason.ACCOUNTS_REFUSED, detail=error.detail
            )

    def _report(self, trouble: Trouble, error: DeliveryError, now: datetime) -> None:
        match trouble:
            case Trouble.REFUSED:
                self._troubled = True
                self._closed |= health.refused(self._account.pk, error.detail, now=now)
            case Trouble.THROTTLED:
                health.throttled(self._account.pk, getattr(error, "after", 60.0), error.detail, now=now)
                self._closed = True
            case Trouble.BLOCKED:
                health.block(self._account.pk, error.detail, now=now)
                self._closed = True
            case _:
                pass


def suppress_address(address: str, evidence: str) -> None:
    """Never write to this address again: a server said for good that it does not exist."""
    Suppression.objects.bulk_create(
        [Suppression(value=address.lower(), source=Suppression.Source.BOUNCE, evidence=evidence)], ignore_conflicts=True
    )


def _texts(batch: Sequence[Claimed]) -> dict[int, rendering.Texts | str]:
    """The batch's steps, parsed; a step that does not parse any more is the text that says why."""
    found: dict[int, rendering.Texts | str] = {}
    for step in Step.objects.filter(pk__in={message.step_id for message in batch}):
        try:
            found[step.pk] = rendering.parse(step.subject, step.html, step.text)
        except rendering.NotRenderedError as error:
            found[step.pk] = str(error)
    return found


def _envelope(message: Claimed, texts: rendering.Texts | str, agency: Agency) -> Envelope:
    if isinstance(texts, str):
        raise rendering.NotRenderedError(texts)
    rendered = rendering.render(texts, message.contact)
    domain = message.sender_address.rsplit("@", 1)[1]
    name = f"{message.contact['first_name']} {message.contact['last_name']}".strip()
    return Envelope(
        key=f"{agency.schema_name}/{message.key}/{message.account_id}",
        sender=message.sender_address,
        sender_name=message.sender_name,
        recipient=message.contact["email"],
        recipient_name=name,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        message_id=f"<{message.key}@{domain}>",
        metadata={"agency": agency.schema_name, "message": str(message.key)},
    )
