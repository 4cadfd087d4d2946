"""Claimed batches on their way over the wire, and what becomes of each mail.

Few mails are in flight at any moment, because whatever is in flight when a worker dies stays in doubt. How they are
spread follows from the account's own pace: where an answer takes long, over many connections with one mail each, or a
few where a mail server can be told of the next one meanwhile; where it comes at once, over two connections that get a
handful at a time, so that the marks and results of a handful share one statement.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, takewhile, zip_longest
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from django.conf import settings

from campaigns import lifecycle, outcomes, rendering
from campaigns.envelopes import Envelopes
from campaigns.held import MISSING
from campaigns.lifecycle import Claimed
from campaigns.models import Suppression
from campaigns.outcomes import Decision, Trouble, Verb
from campaigns.reasons import Reason
from providers.accounts import adapters, health, rate, routing
from providers.accounts.envelope import Envelope
from providers.accounts.errors import (
    AccountBlocked,
    AccountMisconfigured,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    Throttled,
    Unsure,
)
from providers.accounts.models import Account
from providers.accounts.routing import Route
from providers.senders import dkim, routes
from tenants.models import Agency

logger = logging.getLogger(__name__)

# At most so many mails are with the wires of one drain, and so in doubt if its worker is killed.
IN_FLIGHT = 24
MOST_AT_ONCE = 12
# Of files with mails on the wire, as they are sent: each is in memory a few times.
BYTES_IN_FLIGHT = 16 * 1024 * 1024
# A handful is about as much as an account takes in this time.
HANDFUL_SECONDS = 0.004
# A handful that takes longer is cut: whoever opts out meanwhile must not get what is left of it.
HANDFUL_MOST_SECONDS = 0.5
# What is claimed and takes no longer is sent when others wait: to give it back and claim it again costs as much.
LONG_SECONDS = 0.25
CONNECTIONS = {"smtp": 12}
CONNECTIONS_OVER_HTTP = 24

# A worker is ended when its job takes too long, and that would put all it has on the wire in doubt.
CONFIRM_WITHIN = timedelta(seconds=5)

Clock = Callable[[], datetime]
Outcome = str | None | DeliveryError
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a mail on the wire, the provider's id or the error, and when by the clock of `perf_counter`."""

    outcome: Outcome
    at: float


class Lines:
    """The connections of one drain to one account: one wire per thread, opened when it is first used."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._wires: list[adapters.Wire] = []
        self._local = threading.local()
        self._timeouts = settings.WIRE_TIMEOUTS["smtp" if account.kind == "smtp" else "http"]
        wanted = account.options.get("connections")
        # What is no number is refused with its name when the first wire is opened.
        usable = isinstance(wanted, int | float) and wanted >= 1
        default = CONNECTIONS.get(account.kind, CONNECTIONS_OVER_HTTP)
        self._most = int(min(IN_FLIGHT, wanted if usable else default))
        # More than one: these go in one request, and one request at a time.
        self.together = adapters.KINDS[account.kind].together
        self._pace: float | None = None
        self._is_smtp = self._signs = account.kind == "smtp"
        self._sign: adapters.Sign | None = None
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix=account.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        for wire in self._wires:
            with suppress(Exception):
                wire.close()

    @property
    def handful(self) -> int:
        """How many mails one line gets at a time."""
        if self.together > 1:
            return self.together
        if self._pace is None:
            return 1
        quick = int(HANDFUL_SECONDS / self._pace)
        # More lines there are not, and on each the next mail is announced with the one before.
        announced = min(IN_FLIGHT // self._most, int(HANDFUL_MOST_SECONDS / 2 / self._pace)) if self._is_smtp else 1
        return max(1, min(MOST_AT_ONCE, max(quick, announced)))

    @property
    def count(self) -> int:
        """How many lines are worth using at the account's pace."""
        if self.together > 1:
            return 1
        return min(self._most, 2 if self._pace is None else IN_FLIGHT // self.handful)

    def seconds_for(self, mails: int) -> float:
        """How long so many mails will take, as far as that is known."""
        return 0.0 if self._pace is None else mails * self._pace / self.count

    def send(self, envelopes: Sequence[Envelope], key: str | None) -> "Future[list[Answer]]":
        """Hand over a handful of mails in the background, all in one request of that key or, without, one by one.

        The result has an answer for each mail that was tried. It is shorter than the handful when the account itself
        refused or became slow, for then the rest was not tried.
        """
        if self._signs:
            # Here, because the lines' threads ask the database nothing.
            self._sign, self._signs = dkim.signer(), False
        if key is not None:
            return self._pool.submit(self._send_together, envelopes, key)
        return self._pool.submit(self._send, envelopes)

    def _send_together(self, envelopes: Sequence[Envelope], key: str) -> list[Answer]:
        found = self._tried(lambda wire: wire.send_together(envelopes, key))
        ended = time.perf_counter()
        outcomes = [found] * len(envelopes) if isinstance(found, DeliveryError) else found
        return [Answer(outcome, ended) for outcome in outcomes]

    def _send(self, envelopes: Sequence[Envelope]) -> list[Answer]:
        found: list[Answer] = []
        began = time.perf_counter()
        for envelope, following in zip_longest(envelopes, envelopes[1:]):
            started = time.perf_counter()
            outcome = self._tried(partial(_hand_over, envelope=envelope, following=following))
            ended = time.perf_counter()
            taken = ended - started
            found.append(Answer(outcome, ended))
            if _concerns_account(outcome):
                break
            if started + taken - began > HANDFUL_MOST_SECONDS:
                self._pace = taken
                break
            # The quicker of two: the first mail of a connection also pays for opening it.
            self._pace = min(taken, self._pace * 1.05) if self._pace else taken
        return found

    def _tried(self, hand_over: Callable[[adapters.Wire], Result]) -> Result | DeliveryError:
        try:
            return hand_over(self._wire())
        except DeliveryError as error:
            return error
        except AccountMisconfigured as error:
            return AccountBlocked(str(error))
        except Exception as error:
            logger.exception("adapter failed", extra={"account": self._account.name})
            return Unsure(f"The adapter failed with {type(error).__name__}.")

    def _wire(self) -> adapters.Wire:
        wire: adapters.Wire | None = getattr(self._local, "wire", None)
        if wire is None:
            options = {**self._timeouts, **self._account.options}
            wire = adapters.open(self._account.kind, self._account.credentials, options, sign=self._sign)
            self._local.wire = wire
            self._wires.append(wire)
        return wire


@dataclass(slots=True)
class Batch:
    """Claimed messages, and whether there is something about their account that a mail which goes would put right."""

    messages: Sequence[Claimed] = ()
    troubled: bool = False

    def __bool__(self) -> bool:
        return bool(self.messages)


@dataclass(slots=True)
class _Flight:
    """One mail on the wire. `confirmations`: how often the same bytes were sent again after a lost answer; `together`:
    whether it is in a request with others."""

    message: Claimed
    envelope: Envelope
    confirmations: int = 0
    together: bool = False


class Delivery:
    """One claimed batch after another: every message of them is settled when `run` returns.

    `moved_to` are the accounts that got mails which this one refused.
    """

    def __init__(self, agency: Agency, account: Account, lines: Lines, clock: Clock, *, until: datetime) -> None:
        self._agency = agency
        self._account = account
        self._lines = lines
        self._clock = clock
        self._until = until
        self.moved_to: set[int] = set()
        self._idempotent = adapters.KINDS[account.kind].idempotent
        self._troubled = False
        self._closed = False
        self._envelopes = Envelopes(agency)
        self._waiting: deque[Claimed] = deque()
        self._flying: dict[Future[list[Answer]], list[_Flight]] = {}
        self._sent = 0
        self._stopped: list[Claimed] = []
        self._routes: list[Route] | None = None

    def run(self, batch: Batch, more: Callable[[], Batch | None], over: Callable[[], bool] = lambda: False) -> int:
        """Send what may go, settle outcomes as they come; return how many mails the provider took.

        While mails are on the wire, `more` is asked for what follows: an empty batch is "not now", None "no more".
        Where what has been claimed will take long, `over` is asked whether it should be given back for others' sake.
        """
        total, following = 0, True
        self._take(batch)
        while self._waiting or self._flying:
            slow = self._lines.seconds_for(len(self._waiting)) > LONG_SECONDS
            if self._closed or self._clock() >= self._until or (slow and over()):
                self._give_back()
                following = False
            free = self._lines.count - len(self._flying)
            if self._waiting and free > 0:
                self._launch(free)
            if following and self._flying and len(self._waiting) < IN_FLIGHT:
                next_batch = more()
                following = next_batch is not None
                if next_batch:
                    total += self._finish()
                    self._take(next_batch)
                    continue
            if self._flying:
                done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
                self._settle(done)
        return total + self._finish()

    def _give_back(self) -> None:
        lifecycle.release(list(self._waiting))
        self._waiting.clear()

    def _group(self, free: int) -> int:
        """How many of those that wait go now, `free` lines having nothing to do."""
        heavy = self._envelopes.bytes_of_files
        first = self._waiting[0]
        if size := heavy(first):
            # By itself: not every request for many takes files.
            flying = sum(heavy(flight.message) for flights in self._flying.values() for flight in flights)
            return int(not flying or flying + size <= BYTES_IN_FLIGHT)
        light = takewhile(lambda message: not heavy(message), self._waiting)
        if self._lines.together > 1:
            # Of one claim: by that, the request can be found again.
            same = takewhile(lambda message: message.claim == first.claim, light)
            return min(sum(1 for _ in same), self._lines.together)
        # The pace may have changed since: what is in flight is counted in mails too.
        in_flight = sum(len(flights) for flights in self._flying.values())
        most = max(0, min(free * self._lines.handful, IN_FLIGHT - in_flight))
        return sum(1 for _ in islice(light, most))

    def _take(self, batch: Batch) -> None:
        self._troubled |= batch.troubled
        self._envelopes.prepare(batch.messages)
        # What shares a request stays side by side.
        self._waiting.extend(sorted(batch.messages, key=lambda one: self._envelopes.bytes_of_files(one) > 0))

    def _finish(self) -> int:
        """What one batch needs once when it is through; return how many mails were taken since the last time."""
        count = self._sent
        lifecycle.stop(self._stopped)
        self._sent, self._stopped = 0, []
        return count

    def _may_ask(self) -> bool:
        return wait_for_turn(self._account, self._clock, self._until)

    def _launch(self, free: int) -> None:
        count = self._group(free)
        by_itself = self._envelopes.bytes_of_files(self._waiting[0]) > 0
        # The claim took one request for all that can share it.
        if count and by_itself and self._lines.together > 1 and not self._may_ask():
            self._give_back()
            return
        ready = []
        for message in [self._waiting.popleft() for _ in range(count)]:
            try:
                ready.append(_Flight(message, self._envelopes.of(message)))
            except rendering.MissingValueError as error:
                lifecycle.hold(message, Reason.MISSING_VALUE, f"{MISSING}{error.name}")
            except (rendering.NotRenderedError, MessageRefused) as error:
                lifecycle.hold(message, Reason.NOT_RENDERED, str(error))
        cleared = lifecycle.begin(
            [flight.message for flight in ready],
            now=self._clock(),
            together=self._lines.together > 1,
            fingerprints=self._fingerprints(ready),
        )
        self._stopped += [flight.message for flight in ready if flight.message.id not in cleared]
        going = [flight for flight in ready if flight.message.id in cleared]
        size = self._lines.handful
        for first in range(0, len(going), size):
            self._fly(going[first : first + size])

    def _fingerprints(self, flights: Sequence[_Flight]) -> list[str] | None:
        if not self._idempotent:
            return None
        return [adapters.fingerprint(self._account, flight.envelope) for flight in flights]

    def _fly(self, flights: list[_Flight]) -> None:
        key = None
        if self._lines.together > 1 and len(flights) > 1:
            key = together_key(self._agency, flights[0].message.claim, self._account.pk)
            for flight in flights:
                flight.together = True
        self._flying[self._lines.send([flight.envelope for flight in flights], key)] = flights

    def _settle(self, done: "set[Future[list[Answer]]]") -> None:
        now = self._clock()
        answered: list[tuple[float, _Flight, Outcome]] = []
        failed: list[tuple[float, list[_Flight], DeliveryError]] = []
        untried: list[Claimed] = []
        for future in done:
            flights = self._flying.pop(future)
            answers = future.result()
            first = answers[0].outcome
            if (
                flights[0].together
                and isinstance(first, DeliveryError)
                and all(one.outcome is first for one in answers)
            ):
                failed.append((answers[0].at, flights, first))
                continue
            answered += [(answer.at, flight, answer.outcome) for flight, answer in zip(flights, answers, strict=False)]
            untried += [flight.message for flight in flights[len(answers) :]]
        answered.sort(key=lambda one: one[0])
        taken = [(at, flight.message, found) for at, flight, found in answered if not isinstance(found, DeliveryError)]
        lifecycle.sent([(message, provider_id) for _, message, provider_id in taken], now=now)
        self._sent += len(taken)
        last_taken = taken[-1][0] if taken else 0.0
        # Refusals count in a row: one that a mail was taken after is over already.
        failed += [(at, [flight], found) for at, flight, found in answered if isinstance(found, DeliveryError)]
        self._troubled |= any(at < last_taken for at, _, _ in failed)
        if taken and self._troubled:
            health.worked(self._account.pk, now=now)
            self._troubled = False
        for at, flights, error in failed:
            self._decide(flights, error, now, over=at < last_taken)
        lifecycle.release(untried)

    def _decide(self, flights: list[_Flight], error: DeliveryError, now: datetime, *, over: bool) -> None:
        """What becomes of a mail, or of all in a request that failed as a whole."""
        # What is said of one mail in the answer to a whole request is the last word on it.
        singled_out = flights[0].together and len(flights) == 1
        decision = outcomes.decide(
            error,
            confirmations=0 if singled_out else flights[0].confirmations,
            snoozes=max(flight.message.attempts for flight in flights),
            idempotent=self._idempotent and not singled_out and now < self._until + CONFIRM_WITHIN,
        )
        if decision.verb is Verb.CONFIRM:
            for flight in flights:
                flight.confirmations += 1
            self._fly(flights)
            return
        if not (over and decision.trouble is Trouble.REFUSED):
            # A whole request in doubt is reason enough not to risk another.
            for _ in flights[: health.BREAKS_AFTER if decision.verb is Verb.DOUBT else 1]:
                self._report(decision.trouble, error, now)
        for flight in flights:
            self._apply(decision, flight.message, error, now)

    def _apply(self, decision: Decision, message: Claimed, error: DeliveryError, now: datetime) -> None:
        match decision.verb:
            case Verb.FAIL_OVER:
                self._fail_over(message, error, now)
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
                lifecycle.doubt(message, error.detail)

    def _fail_over(self, message: Claimed, error: DeliveryError, now: datetime) -> None:
        if self._routes is None:
            self._routes = routes.usable(self._agency, now=now)
        refused_by = [*message.refused_by, self._account.pk]
        open_to_it = routes.of_sender(self._routes, message.sender_id) if message.in_thread else self._routes
        following = routing.next_route(
            [route for route in open_to_it if route.takes(consented=message.consented)],
            message.traffic_class,
            refused_by=refused_by,
        )
        if following is not None:
            self.moved_to.add(following.account_id)
            lifecycle.reschedule(
                message, due_at=now, detail=error.detail, account_id=following.account_id, refused_by=refused_by
            )
        else:
            lifecycle.reschedule(
                message, due_at=now + outcomes.WHEN_ALL_REFUSE, reason=Reason.ACCOUNTS_REFUSED, detail=error.detail
            )

    def _report(self, trouble: Trouble, error: DeliveryError, now: datetime) -> None:
        self._troubled |= trouble is Trouble.REFUSED
        self._closed |= report(self._account.pk, trouble, error, now=now)


def report(account_id: int, trouble: Trouble, error: DeliveryError, *, now: datetime) -> bool:
    """Let health know what a mail has met; return whether the account is closed now."""
    match trouble:
        case Trouble.REFUSED:
            return health.refused(account_id, error.detail, now=now)
        case Trouble.THROTTLED:
            health.throttled(account_id, getattr(error, "after", 60.0), error.detail, now=now)
            return True
        case Trouble.BLOCKED:
            health.block(account_id, error.detail, now=now)
            return True
        case _:
            return False


def wait_for_turn(account: Account, clock: Clock, until: datetime) -> bool:
    """Whether the account may be asked for one mail now: it is open, and its rate has room, for which it waits."""
    while (now := clock()) < until:
        if not health.of(account.pk).open(now):
            return False
        granted, wait = rate.take(account, 1)
        if granted:
            return True
        time.sleep(min(wait, (until - now).total_seconds()))
    return False


def together_key(agency: Agency, claim: UUID, account_id: int) -> str:
    """The idempotency key of the request that carried what was claimed at once."""
    return f"{agency.schema_name}/{claim}/{account_id}"


def _hand_over(wire: adapters.Wire, *, envelope: Envelope, following: Envelope | None) -> str | None:
    return wire.send(envelope, following)


def _concerns_account(outcome: Outcome) -> bool:
    """Whether the next mail would hardly fare better; one lost answer is seldom alone."""
    if isinstance(outcome, Throttled):
        return not outcome.recipient_only
    return isinstance(outcome, NotAccepted | AccountBlocked | Unsure)


def suppress_address(address: str, evidence: str, *, complaint: bool = False) -> None:
    """Never write to this address again: a server said for good that it does not exist, or its owner complained."""
    source = Suppression.Source.COMPLAINT if complaint else Suppression.Source.BOUNCE
    Suppression.objects.bulk_create(
        [Suppression(value=address.lower(), source=source, evidence=evidence)], ignore_conflicts=True
    )
