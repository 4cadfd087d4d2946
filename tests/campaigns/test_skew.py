"""Leases go by the database's clock: a worker whose own is wrong harms no living one, and keeps no job to himself."""

from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from campaigns import dispatch, due, jobs, launch
from campaigns.models import Message
from providers.accounts import health, ledger
from tenants import clock, context
from tenants import jobs as queue
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.visitor import Visitor, at

DATABASE_NOW = clock.database_now
CALL, NOW = clock.Clock.__call__, clock.now
AHEAD = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def _apart(one_clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of this process and of the database are two."""
    monkeypatch.setattr(clock.Clock, "__call__", CALL)
    monkeypatch.setattr(clock, "now", NOW)


def statuses(agency: Agency) -> set[str]:
    with context.entered(agency):
        return set(Message.objects.values_list("status", flat=True))


@pytest.fixture
def claimed(alpha: Agency, beta: Agency) -> list[Agency]:
    """Both agencies, with a living worker that has just claimed three mails of each."""
    account = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, account)
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("list", 3), traffic_class="bulk"), now=timezone.now())
            allotment = ledger.allotment(agency, account.pk)
            assert allotment is not None
            assert len(dispatch.claim_batch(agency, allotment, now=clock.Clock()(), limit=3)) == 3
    return [alpha, beta]


def test_a_worker_whose_clock_is_ahead_takes_nothing_from_a_living_one(claimed: list[Agency]) -> None:
    assert settings.LEASE < AHEAD
    with time_machine.travel(timezone.now() + AHEAD, tick=True):
        jobs.tick()
    assert [statuses(agency) for agency in claimed] == [{"claimed"}] * 2


def test_what_a_dead_worker_held_is_taken_back_by_one_whose_clock_is_behind(
    claimed: list[Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "database_now", lambda: DATABASE_NOW() + settings.LEASE)
    with time_machine.travel(timezone.now() - AHEAD, tick=True):
        jobs.tick()
    assert [statuses(agency) for agency in claimed] == [{"scheduled"}] * 2


@pytest.mark.parametrize(("rings", "takes"), [(AHEAD, timedelta()), (timedelta(), -AHEAD)])
def test_a_job_is_taken_at_once_whatever_the_clocks_of_who_rings_and_who_works(
    alpha: Agency, rings: timedelta, takes: timedelta
) -> None:
    right = timezone.now()
    with time_machine.travel(right + rings, tick=True):
        queue.enqueue(jobs.serve)
    with time_machine.travel(right + takes, tick=True):
        taken = queue.Queue(list_key="polza").dequeue()
    assert len(taken) == 1


def test_a_job_that_runs_is_not_taken_again_by_a_worker_whose_clock_is_ahead(alpha: Agency) -> None:
    queue.enqueue(jobs.serve)
    broker = queue.Queue(list_key="polza")
    assert len(broker._take()) == 1
    with time_machine.travel(timezone.now() + 2 * AHEAD, tick=True):
        assert broker._take() == []


@pytest.mark.parametrize("days", [-1, 1])
def test_what_a_host_launches_and_opens_whose_clock_is_a_day_off_is_due_by_the_databases(
    alpha: Agency, carol: User, days: int
) -> None:
    smtp = stage.accounts()["smtp"]
    stage.allot(alpha, smtp)
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 3), traffic_class="bulk")
    health.block(smtp.pk, "key revoked", now=clock.database_now())
    operator = Visitor("localhost")
    with time_machine.travel(timezone.now() + timedelta(days=days), tick=True):
        operator.force_login(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
        operator.post("/admin/accounts/account/", {"action": "try_again", "_selected_action": [smtp.pk]})
        at(alpha, carol).post(f"/campaigns/{made.pk}/launch/")
    now = clock.database_now()
    with context.entered(alpha):
        made.refresh_from_db()
        assert made.launched_at is not None
        assert abs(made.launched_at - now) < timedelta(minutes=5)
        assert due.find(now=now).accounts == [smtp.pk]
    # Else it would not be filled gradually, or never again.
    assert health.room(health.of(smtp.pk), 100, now=now) == 1
