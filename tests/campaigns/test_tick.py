"""The minute's work enters the agencies where there may be something to do, and no other, but never passes one by."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import time_machine

from campaigns import control, due, jobs, launch, lifecycle, precedence
from campaigns.models import Campaign, Message
from providers.accounts.models import Account
from providers.senders.models import Sender
from tenants import context, visits
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

MINUTE = timedelta(minutes=1)
Tick = Callable[..., list[str]]


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = stage.accounts()
    stage.allot(alpha, *found.values())
    stage.allot(beta, *found.values())
    return found


@pytest.fixture
def tick(accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch) -> Tick:
    """One minute's work at a time; returns the agencies that it entered. Nobody drains."""
    entered: list[str] = []
    ring = jobs.ring

    def noticed(*, now: datetime) -> due.Due:
        entered.append(context.current_agency().slug)
        return ring(now=now)

    monkeypatch.setattr(jobs, "ring", noticed)
    monkeypatch.setattr(jobs.jobs, "enqueue", lambda *_: None)

    def once(after: timedelta = timedelta()) -> list[str]:
        entered.clear()
        with time_machine.travel(NOON + after, tick=False):
            jobs.tick()
        return list(entered)

    once()
    return once


def queue(agency: Agency, **fields: str) -> Campaign:
    with context.entered(agency):
        made = stage.campaign(stage.contact_list("list", 3), traffic_class="bulk", **fields)
        launch.launch(made, now=NOON)
    return made


def test_idle_agencies_are_not_entered(tick: Tick) -> None:
    assert tick(MINUTE) == []
    assert tick(2 * MINUTE) == []


def test_an_agency_is_entered_from_a_launch_on_for_as_long_as_something_is_due(alpha: Agency, tick: Tick) -> None:
    queue(alpha)
    assert tick(MINUTE) == ["alpha"]
    assert tick(2 * MINUTE) == ["alpha"]
    with context.entered(alpha):
        Message.objects.all().delete()
    assert tick(3 * MINUTE) == ["alpha"]
    assert tick(4 * MINUTE) == []
    with context.entered(alpha):
        assert Campaign.objects.get().status == "finished"


def test_a_launch_that_fails_asks_for_nothing(alpha: Agency, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("list", 3), traffic_class="bulk")
        monkeypatch.setattr(lifecycle, "schedule", lambda *_, **__: 0)
        with pytest.raises(RuntimeError, match="were enrolled"):
            launch.launch(made, now=NOON)
    assert tick(MINUTE) == []


def test_what_waits_is_looked_at_when_it_is_due(alpha: Agency, beta: Agency, tick: Tick) -> None:
    queue(alpha)
    queue(beta)
    with context.entered(alpha):
        Message.objects.update(due_at=NOON + 10 * MINUTE)
        Message.objects.filter(pk=Message.objects.order_by("?")[0].pk).update(
            due_at=NOON + 5 * MINUTE, priority=precedence.FOLLOW_UP
        )
    assert tick(MINUTE) == ["alpha", "beta"]
    assert tick(4 * MINUTE) == ["beta"]
    assert tick(5 * MINUTE) == ["alpha", "beta"]


def test_while_a_worker_holds_a_mail_nobody_knows_when_it_comes_back(alpha: Agency, tick: Tick) -> None:
    queue(alpha)
    with context.entered(alpha):
        held = {"claim": uuid4(), "lease_until": NOON + 9 * MINUTE, "epoch": uuid4(), "counted_on": NOON.date()}
        Message.objects.update(status="claimed", sender=Sender.objects.order_by("pk")[0], **held)
        assert due.find(now=NOON + MINUTE) == due.Due([], NOON + MINUTE)
    assert tick(MINUTE) == tick(2 * MINUTE) == ["alpha"]


def test_what_a_worker_gives_back_while_its_campaign_is_cancelled_is_found(alpha: Agency, tick: Tick) -> None:
    made = queue(alpha)
    with context.entered(alpha):
        Message.objects.update(due_at=NOON + 20 * MINUTE)
    assert tick(MINUTE) == ["alpha"]
    with context.entered(alpha):
        Campaign.objects.update(status="cancelled")
    assert tick(20 * MINUTE) == ["alpha"]
    with context.entered(alpha):
        assert stage.statuses(made) == {"cancelled": 3}


def test_a_paused_campaign_is_looked_after_until_it_is_parked_and_from_when_it_goes_on(
    alpha: Agency, tick: Tick
) -> None:
    made = queue(alpha)
    with context.entered(alpha):
        control.pause(made)
    assert tick(MINUTE) == ["alpha"]
    assert tick(2 * MINUTE) == []
    with context.entered(alpha):
        control.resume(made, now=NOON + 2 * MINUTE)
    assert tick(3 * MINUTE) == tick(4 * MINUTE) == ["alpha"]


def test_mails_of_every_priority_and_account_are_seen(alpha: Agency, tick: Tick, accounts: dict[str, Account]) -> None:
    queue(alpha)
    with context.entered(alpha):
        for priority in precedence.LEVELS:
            for account in accounts.values():
                Message.objects.update(priority=priority, account=account)
                assert due.find(now=NOON) == due.Due([account.pk], NOON)
                assert due.find(now=NOON - MINUTE) == due.Due([], NOON)


def test_a_visit_asked_for_during_another_is_kept(alpha: Agency, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(alpha)

    def too_early(**_: object) -> due.Due:
        """Sees nothing, and what it does not see is launched before the visit ends."""
        visits.ask(NOON)
        return due.Due([], None)

    with monkeypatch.context() as patch:
        patch.setattr(due, "find", too_early)
        assert tick(MINUTE) == ["alpha"]
    assert tick(2 * MINUTE) == ["alpha"]
