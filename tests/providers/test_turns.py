"""Agencies share the workers by weight, and one with a hundred times the load hardly delays another."""

import heapq
import random
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import TypeVar

import pytest
from django.db import IntegrityError, connection, transaction

from providers.accounts import turns
from providers.accounts.models import Account, Served
from providers.accounts.models import Turn as Row
from tenants.models import Agency

Found = TypeVar("Found")
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SLICE = turns.SLICE.total_seconds()
# Mails that a worker sends in a second.
PACE = 50
MINUTES = 8


def make(number: int) -> list[int]:
    return [Account.objects.create(name=f"a{n}", kind="smtp", credentials={}).pk for n in range(number)]


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> list[int]:
    return make(40)


def serve(times: int, *, ask_again: bool = True, seconds: float = SLICE) -> list[int]:
    """Whose turns came, one after another; each waits again at once."""
    served = []
    for _ in range(times):
        turn = turns.take()
        assert turn is not None
        served.append(turn.agency_id)
        turns.settle(turn, timedelta(seconds=seconds))
        if ask_again:
            turns.ask(Agency.objects.get(pk=turn.agency_id), [turn.account_id])
    return served


def test_who_waits_already_does_not_wait_twice(alpha: Agency, accounts: list[int]) -> None:
    assert turns.ask(alpha, accounts[:2]) == 2
    assert turns.ask(alpha, [*accounts[:3], accounts[2]]) == 1
    assert turns.waiting() == 3
    assert {turns.take().account_id for _ in range(3)} == set(accounts[:3])  # type: ignore[union-attr]
    assert (turns.take(), turns.waiting()) == (None, 0)


@pytest.mark.parametrize("off", ["ready", "active"])
def test_an_agency_that_is_switched_off_has_no_turn(alpha: Agency, beta: Agency, accounts: list[int], off: str) -> None:
    turns.ask(alpha, accounts[:1])
    turns.ask(beta, accounts[:1])
    Agency.objects.filter(pk=alpha.pk).update(**{off: False})
    assert turns.waiting() == 1
    assert turns.take() == turns.Turn(beta.pk, accounts[0])
    assert turns.take() is None


def test_agencies_take_turns_however_many_accounts_one_has(alpha: Agency, beta: Agency, accounts: list[int]) -> None:
    turns.ask(alpha, accounts)
    turns.ask(beta, accounts[:1])
    assert Counter(serve(40)) == {alpha.pk: 20, beta.pk: 20}


@pytest.mark.parametrize("weight", [2, 3, 5])
def test_the_time_of_workers_is_shared_by_weight(alpha: Agency, beta: Agency, accounts: list[int], weight: int) -> None:
    Agency.objects.filter(pk=beta.pk).update(weight=weight)
    turns.ask(alpha, accounts)
    turns.ask(beta, accounts[:1])
    assert Counter(serve(10 * (weight + 1))) == {alpha.pk: 10, beta.pk: 10 * weight}


def test_it_is_time_that_is_shared_not_turns(alpha: Agency, beta: Agency, accounts: list[int]) -> None:
    turns.ask(alpha, accounts)
    turns.ask(beta, accounts[:1])
    had: Counter[int] = Counter()
    for _ in range(60):
        turn = turns.take()
        assert turn is not None
        # Alpha's batches outlast their slice.
        took = 4 * SLICE if turn.agency_id == alpha.pk else SLICE
        had[turn.agency_id] += int(took)
        turns.settle(turn, timedelta(seconds=took))
        turns.ask(Agency.objects.get(pk=turn.agency_id), [turn.account_id])
    assert abs(had[alpha.pk] - had[beta.pk]) <= 4 * SLICE


def test_who_did_not_wait_has_saved_nothing_up(alpha: Agency, beta: Agency, accounts: list[int]) -> None:
    turns.ask(alpha, accounts)
    turns.ask(beta, accounts[:1])
    serve(2)
    Row.objects.filter(agency=beta).delete()
    assert set(serve(50)) == {alpha.pk}
    turns.ask(beta, accounts[:1])
    again = serve(20)
    assert again.index(beta.pk) <= 1, "but it is not kept waiting either"
    assert Counter(again)[beta.pk] <= 11


def test_turns_taken_at_the_same_time_are_paid_in_advance(alpha: Agency, beta: Agency, accounts: list[int]) -> None:
    turns.ask(alpha, accounts)
    turns.ask(beta, accounts[:4])
    begun = [turns.take() for _ in range(8)]
    assert Counter(turn.agency_id for turn in begun if turn) == {alpha.pk: 4, beta.pk: 4}


def test_two_workers_never_have_the_same_turn(committed: dict[str, Agency]) -> None:
    accounts = make(15)
    for agency in committed.values():
        turns.ask(agency, accounts)
    taken: list[turns.Turn] = []

    def worker() -> None:
        while turn := turns.take():
            taken.append(turn)
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 30
    # Nobody's payment was lost.
    assert sum(row.until for row in Served.objects.all()) >= 30 * SLICE


def test_a_slice_is_over_only_where_others_wait_and_asks_once_in_a_while(
    alpha: Agency, beta: Agency, accounts: list[int]
) -> None:
    mine = turns.Slice()
    turns.ask(beta, accounts[:1])
    assert not mine.over(NOON), "the first batch"
    assert not mine.over(NOON + turns.SLICE / 2)
    assert mine.over(NOON + turns.SLICE)
    Row.objects.all().delete()
    mine = turns.Slice()
    assert not mine.over(NOON)
    assert not mine.over(NOON + turns.SLICE)
    turns.ask(beta, accounts[:1])
    assert not mine.over(NOON + 1.5 * turns.SLICE)
    assert mine.over(NOON + 2 * turns.SLICE)


def test_a_slice_is_over_sooner_where_the_worker_is_wanted(alpha: Agency) -> None:
    wanted = []
    mine = turns.Slice(lambda: bool(wanted))
    assert not mine.over(NOON)
    wanted.append("the minute's work")
    assert not mine.over(NOON + turns.LEAST / 2)
    assert mine.over(NOON + turns.LEAST)
    wanted.clear()
    assert not mine.over(NOON + 2 * turns.SLICE)


def test_a_weight_is_at_least_one(alpha: Agency) -> None:
    with pytest.raises(IntegrityError, match="agency_has_a_share_of_the_workers"), transaction.atomic():
        Agency.objects.filter(pk=alpha.pk).update(weight=0)


# --- accounts whose rate one worker uses up


def limit(account_id: int, per_second: str = "5") -> int:
    Account.objects.filter(pk=account_id).update(per_second=Decimal(per_second))
    return account_id


def elsewhere(work: Callable[[], Found]) -> Found:
    """What this gives in another worker, which ends after it."""
    found: list[Found] = []

    def worker() -> None:
        found.append(work())
        connection.close()

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(("per_second", "enough"), [("5", True), ("100", True), ("101", False)])
def test_one_worker_at_a_time_serves_an_account_that_it_uses_up(
    committed: dict[str, Agency], per_second: str, enough: bool
) -> None:
    slow = limit(make(1)[0], per_second)
    for agency in committed.values():
        turns.ask(agency, [slow])
    turn = turns.take()
    assert turn is not None
    assert (elsewhere(turns.take) is None) == enough
    if not enough:
        return
    assert (turns.waiting(), elsewhere(turns.waiting)) == (1, 0), (
        "this worker would have to give way, another would not"
    )
    turns.settle(turn, turns.SLICE)
    assert elsewhere(turns.take) is not None


def test_what_one_worker_serves_keeps_no_other_account_waiting(committed: dict[str, Agency]) -> None:
    slow, quick = make(2)
    limit(slow)
    for agency in committed.values():
        turns.ask(agency, [slow])
    turn = turns.take()
    assert turn is not None
    turns.ask(committed["alpha"], [quick])
    assert elsewhere(turns.take) == turns.Turn(committed["alpha"].pk, quick)
    turns.settle(turn, turns.SLICE)


def test_a_worker_that_dies_leaves_such_an_account_at_once(committed: dict[str, Agency]) -> None:
    slow = limit(make(1)[0])
    for agency in committed.values():
        turns.ask(agency, [slow])
    assert elsewhere(turns.take) is not None
    # Without a settlement; the database hears of it a moment later.
    turn = next(turn for _ in range(10_000) if (turn := turns.take()))
    assert turn.account_id == slow
    turns.settle(turn, turns.SLICE)


@pytest.mark.parametrize("weight", [1, 3])
def test_such_an_account_is_shared_by_weight_whatever_else_an_agency_has_to_send(
    alpha: Agency, beta: Agency, accounts: list[int], weight: int
) -> None:
    Agency.objects.filter(pk=beta.pk).update(weight=weight)
    slow = limit(accounts[0])
    turns.ask(alpha, accounts)
    turns.ask(beta, [slow])
    had: Counter[int] = Counter()
    everywhere: Counter[int] = Counter()
    for _ in range(200):
        turn = turns.take()
        assert turn is not None
        everywhere[turn.agency_id] += 1
        if turn.account_id == slow:
            had[turn.agency_id] += 1
        turns.settle(turn, turns.SLICE)
        turns.ask(Agency.objects.get(pk=turn.agency_id), [turn.account_id])
    assert had.total() >= 95, "and it is kept busy"
    assert abs(had[beta.pk] - weight * had[alpha.pk]) <= weight + 1
    assert everywhere[alpha.pk] + everywhere[beta.pk] == 200


# --- what one agency's load does to another, in the time of a simulation


@dataclass
class Simulation:
    """Two workers that take real turns in a time of their own; the minute's work rings for what is due."""

    ask: Callable[[Agency, list[int]], int] = turns.ask
    due: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    sent: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def run(self, minutes: int, workers: int = 2) -> None:
        """Work for so long; `sent` has for each agency when each mail was due and when it was sent."""
        agencies = {agency.pk: agency for agency in Agency.objects.exclude(schema_name="public")}
        left = {pair: deque(sorted(times)) for pair, times in self.due.items()}
        number = count()
        events: list[tuple[float, int, turns.Turn | None, float]] = [
            (60.0 * minute, next(number), None, 0) for minute in range(1, minutes + 1)
        ]
        idle = workers
        while events:
            now, _, turn, began = heapq.heappop(events)
            if turn is None:
                for (agency_id, account_id), times in left.items():
                    if times and times[0] <= now:
                        self.ask(agencies[agency_id], [account_id])
            else:
                idle += 1
                turns.settle(turn, timedelta(seconds=now - began))
                if (times := left[turn.agency_id, turn.account_id]) and times[0] <= now:
                    self.ask(agencies[turn.agency_id], [turn.account_id])
            while idle and now < 60 * minutes and (turn := turns.take()):
                idle -= 1
                at, times = now, left[turn.agency_id, turn.account_id]
                while times and times[0] <= now and at < now + SLICE:
                    at += 1 / PACE
                    self.sent.setdefault(turn.agency_id, []).append((times.popleft(), at))
                heapq.heappush(events, (at, next(number), turn, now))


def p95(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.95)]


def test_a_hundred_times_the_load_moves_anothers_95th_percentile_by_less_than_a_twentieth(
    alpha: Agency, beta: Agency, accounts: list[int]
) -> None:
    rng = random.Random("fairness")
    small, mails = 60 * (MINUTES - 1), 60 * MINUTES
    of_beta = {(beta.pk, accounts[0]): [rng.uniform(0, small) for _ in range(mails)]}
    # More than two workers can send, through as many accounts as an agency may have.
    of_alpha = {
        (alpha.pk, account): [rng.uniform(0, small) for _ in range(100 * mails // len(accounts))]
        for account in accounts
    }
    found = []
    for due in (of_beta, {**of_beta, **of_alpha}):
        Served.objects.all().delete()
        Row.objects.all().delete()
        simulation = Simulation(due=due)
        simulation.run(MINUTES)
        assert len(simulation.sent[beta.pk]) == mails
        found.append(p95([at - due_at for due_at, at in simulation.sent[beta.pk]]))
    assert len(simulation.sent[alpha.pk]) > 0.9 * 2 * PACE * 60 * (MINUTES - 1) - mails, "the workers were not busy"
    alone, crowded = found
    assert crowded < 1.05 * alone
