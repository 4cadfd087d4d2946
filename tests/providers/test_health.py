"""P6: an account that refuses is closed by what sending itself tells, and proves itself with a single mail."""

from datetime import timedelta

import pytest

from providers.accounts import health
from providers.accounts.models import Account, Health
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

MINUTE = timedelta(minutes=1)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = stage.accounts()
    stage.allot(alpha, found["smtp"])
    stage.allot(beta, found["smtp"])
    return found


@pytest.fixture
def pk(accounts: dict[str, Account]) -> int:
    return accounts["smtp"].pk


def refuse(pk: int, times: int) -> list[bool]:
    return [health.refused(pk, "connection refused", now=NOON) for _ in range(times)]


def test_a_new_account_is_healthy(pk: int) -> None:
    state = health.of(pk)
    assert state.open(NOON)
    assert not health.broken(state)


def test_the_fifth_refusal_in_a_row_closes_it_for_a_minute(accounts: dict[str, Account], pk: int) -> None:
    assert refuse(pk, 5) == [False] * 4 + [True]
    state = health.of(pk)
    assert health.broken(state)
    assert not state.open(NOON + MINUTE - timedelta(seconds=1))
    assert state.open(NOON + MINUTE)
    assert state.detail == "connection refused"
    assert health.of(accounts["resend"].pk).open(NOON)


def test_one_mail_that_goes_ends_the_row(pk: int) -> None:
    refuse(pk, 4)
    health.worked(pk, now=NOON)
    assert refuse(pk, 4) == [False] * 4
    assert health.of(pk).open(NOON)


def test_after_its_minute_one_more_refusal_closes_it_again_and_one_success_opens_it(pk: int) -> None:
    refuse(pk, 5)
    later = NOON + 2 * MINUTE
    assert health.broken(health.of(pk))
    assert health.refused(pk, "still", now=later)
    assert not health.of(pk).open(later + MINUTE / 2)
    health.worked(pk, now=later + MINUTE)
    state = health.of(pk)
    assert state.open(later)
    assert not health.broken(state)
    assert (state.refusals, state.detail, state.closed_until) == (0, "", None)


def test_a_pause_that_was_asked_for_is_kept_and_is_no_fault(pk: int) -> None:
    health.throttled(pk, 30, "too fast", now=NOON)
    state = health.of(pk)
    assert not state.open(NOON + timedelta(seconds=29))
    assert state.open(NOON + timedelta(seconds=30))
    assert not health.broken(state)


@pytest.mark.parametrize(("first", "second"), [(3600, 1), (1, 3600)])
def test_of_two_pauses_the_longer_holds(pk: int, first: float, second: float) -> None:
    health.throttled(pk, first, "too fast", now=NOON)
    health.throttled(pk, second, "too fast", now=NOON)
    assert health.of(pk).closed_until == NOON + timedelta(hours=1)


def test_a_blocked_account_stays_closed_until_a_person_opens_it(pk: int) -> None:
    health.block(pk, "wrong key", now=NOON)
    health.worked(pk, now=NOON)
    state = health.of(pk)
    assert not state.open(NOON + timedelta(days=365))
    assert health.broken(state)
    health.reopen(pk, now=NOON)
    assert health.of(pk).open(NOON)
    assert not health.broken(health.of(pk))


def test_reopening_forgets_a_row_of_refusals_too(pk: int) -> None:
    refuse(pk, 50)
    health.reopen(pk, now=NOON)
    assert refuse(pk, 4) == [False] * 4


def test_a_long_answer_is_cut_and_kept(pk: int) -> None:
    health.block(pk, "x" * 5000, now=NOON)
    health.throttled(pk, 1, "y" * 5000, now=NOON)
    health.refused(pk, "z" * 5000, now=NOON)
    assert Health.objects.get(account=pk).detail == "z" * 300
