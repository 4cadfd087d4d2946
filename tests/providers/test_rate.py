"""P2: what a provider allows a second holds over all worker processes together, and no request is wasted on a 429."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from campaigns import dispatch, launch
from providers.accounts import rate
from providers.accounts.models import Account, AccountRate
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tests import processes, stage

PACERS = 4
SECONDS = 3


def account(per_second: str | None) -> Account:
    return stage.accounts(resend={"per_second": per_second and Decimal(per_second)})["resend"]


def pace(found: Account) -> list[tuple[float, int]]:
    """When, and how many, for all processes together, in the order of time."""
    taken = processes.race("tests.concurrency.pacer", [[found.pk, SECONDS]] * PACERS)
    return sorted((at, count) for each in taken for at, count in each)


@pytest.mark.parametrize("per_second", [5, 40])
def test_several_processes_together_keep_the_rate(committed: dict[str, Agency], per_second: int) -> None:
    taken = pace(account(str(per_second)))
    total = sum(count for _, count in taken)
    lasted = taken[-1][0] - taken[0][0]
    # Never more than the provider allows, and not much less: the last piece may not be over yet.
    assert total <= per_second * lasted + max(1, per_second // 10)
    assert total >= 0.6 * per_second * SECONDS


def test_without_a_rate_everything_is_granted_and_nothing_is_kept(db: None) -> None:
    found = account(None)
    assert [rate.take(found, 100) for _ in range(3)] == [(100, 0.0)] * 3
    rate.give_back(found, 5)
    rate.spend(found, 5)
    assert not AccountRate.objects.exists()


def test_who_comes_too_early_hears_when_to_come_again(db: None) -> None:
    found = account("0.10")
    assert rate.take(found, 100) == (1, 0.0)
    granted, wait = rate.take(found, 100)
    assert granted == 0
    # One in ten seconds, and the margin.
    assert 10 < wait < 11


def test_what_was_not_used_is_there_at_once_but_is_never_saved_up(db: None) -> None:
    found = account("0.10")
    assert rate.take(found, 100)[0] == 1
    rate.give_back(found, 1)
    rate.give_back(found, 50)
    assert rate.take(found, 100)[0] == 1
    assert rate.take(found, 100)[0] == 0


def test_a_request_that_does_not_wait_is_counted_too(db: None) -> None:
    found = account("0.10")
    rate.spend(found, 2)
    assert rate.take(found, 1)[0] == 0
    assert rate.take(found, 1)[1] > 19


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mail is a request of its own."""
    monkeypatch.setattr(dispatch, "BATCH", 1)


@pytest.mark.usefixtures("alone")
def test_at_the_providers_own_rate_it_never_says_too_fast(alpha: Agency, beta: Agency, sandbox: Sandbox) -> None:
    found = stage.accounts(sandbox, resend={"per_second": Decimal("5")})["resend"]
    sandbox.script("resend=throttle:5")
    stage.allot(alpha, found)
    stage.allot(beta, found)
    for agency in (alpha, beta):
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("a", 6)), now=timezone.now())
            until = timezone.now() + timedelta(seconds=30)
            dispatch.drain(found.pk, clock=timezone.now, until=until)
    counts = sandbox.snapshot()
    assert counts["accepted"]["resend"] == 12
    assert counts["requests"]["resend"] == 12


@pytest.mark.usefixtures("alone")
def test_without_the_rate_the_same_provider_says_so(alpha: Agency, sandbox: Sandbox) -> None:
    found = stage.accounts(sandbox)["resend"]
    sandbox.script("resend=throttle:1")
    stage.allot(alpha, found)

    def refused(_now: object = None) -> bool:
        seen = sandbox.snapshot()
        return bool(seen["requests"].get("resend", 0) > seen["accepted"].get("resend", 0))

    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 40)), now=timezone.now())
        dispatch.drain(found.pk, clock=timezone.now, until=timezone.now() + timedelta(seconds=10), interrupted=refused)
    assert refused()


def test_a_drain_that_has_to_wait_ends_with_its_time(alpha: Agency, sandbox: Sandbox) -> None:
    found = stage.accounts(sandbox, resend={"per_second": Decimal("0.01")})["resend"]
    stage.allot(alpha, found)
    rate.spend(found, 1)
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 2)), now=timezone.now())
        result = dispatch.drain(found.pk, clock=timezone.now, until=timezone.now() + timedelta(seconds=0.3))
    assert (result.sent, result.out_of_time) == (0, True)
