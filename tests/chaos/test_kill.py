"""P1 and P3: a worker that is killed in mid-batch loses nothing and repeats nothing."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from campaigns import audit, delivery, dispatch, launch, lifecycle, progress
from campaigns.models import Campaign, Message
from campaigns.reasons import Reason
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tests import processes, stage

KILLS = 4


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(faults=["smtp=slow:0.02"]) as running:
        yield running


def kill_in_mid_batch(agency: Agency, account: Account, sandbox: Sandbox) -> None:
    """Start a worker, wait until it has sent some more, and kill it with -9."""
    before = sandbox.snapshot()["distinct_recipients"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.drainer", agency.schema_name, str(account.pk)],
        cwd=processes.ROOT,
        env=processes.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "draining\n"
        deadline = time.monotonic() + 20
        while sandbox.snapshot()["distinct_recipients"] < before + 20 and time.monotonic() < deadline:
            assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()


def test_killed_workers_lose_and_repeat_nothing(committed: dict[str, Agency], sandbox: Sandbox) -> None:
    accounts = stage.accounts(sandbox)
    agency = committed["alpha"]
    for each in committed.values():
        stage.allot(each, accounts["smtp"], senders=60, domains=3)
    with context.entered(committed["beta"]):
        launch.launch(stage.campaign(stage.contact_list("b", 10)), now=timezone.now())
    with context.entered(agency):
        campaign = stage.campaign(stage.contact_list("a", 400))
        launch.launch(campaign, now=timezone.now())
    for _ in range(KILLS):
        kill_in_mid_batch(agency, accounts["smtp"], sandbox)
    with context.entered(agency):
        assert stage.statuses(campaign)["claimed"] > 0
        later = timezone.now() + timedelta(minutes=6)
        back, doubted = lifecycle.rescue(now=later)
        assert back > 0
        assert doubted <= KILLS * delivery.IN_FLIGHT
        finish(accounts["smtp"])
        assert_all_accounted_for(campaign, sandbox, doubted)
    with context.entered(committed["beta"]):
        assert set(Message.objects.values_list("status", flat=True)) == {"scheduled"}
    assert audit.audit_quota().drifts == []


def finish(account: Account) -> None:
    """Send the rest with a worker that lives."""
    until = timezone.now() + timedelta(seconds=60)
    dispatch.drain(account.pk, clock=timezone.now, until=until)


def assert_all_accounted_for(campaign: Campaign, sandbox: Sandbox, doubted: int) -> None:
    """Every message is sent, or in doubt and named as such; the far end has no mail twice."""
    found = stage.statuses(campaign)
    assert found.get("unknown", 0) == doubted
    assert found["sent"] + doubted == 400
    seen = sandbox.snapshot()
    assert seen["duplicates"] == 0
    assert found["sent"] <= seen["distinct_recipients"] <= 400
    report = progress.progress(campaign, now=timezone.now())
    assert report.total == report.sent + sum(one.count for one in report.reasons) == 400
    assert {one.code for one in report.reasons} <= {Reason.IN_DOUBT}


def test_a_crash_of_postgresql_puts_every_claim_in_doubt(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, accounts["smtp"])
    now = stage.NOON
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 6))
        launch.launch(campaign, now=now)
        allotment = alpha.allotments.select_related("account").get()
        dispatch.claim_batch(alpha, allotment, now=now, limit=2)
        forget_the_epoch()
        dispatch.claim_batch(alpha, allotment, now=now, limit=3)
        back, doubted = lifecycle.rescue(now=now + timedelta(minutes=6))
        assert (back, doubted) == (3, 2)
        assert stage.statuses(campaign) == {"scheduled": 4, "unknown": 2}


def forget_the_epoch() -> None:
    """What PostgreSQL does to an unlogged table when it starts after a crash."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM server_epoch")


def test_a_worker_that_was_only_slow_is_fenced_out(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, accounts["smtp"])
    now = stage.NOON
    later = now + timedelta(minutes=6)
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 2))
        launch.launch(campaign, now=now)
        allotment = alpha.allotments.select_related("account").get()
        first, second = dispatch.claim_batch(alpha, allotment, now=now, limit=2)
        assert lifecycle.begin([first], now=now) == {first.id}
        assert lifecycle.rescue(now=later) == (1, 1)
        # The one that was on the wire turns out to be sent; the other is no longer this worker's to send.
        lifecycle.sent([(first, "id")], now=later)
        assert lifecycle.begin([second], now=later) == set()
        assert stage.statuses(campaign) == {"sent": 1, "scheduled": 1}


def test_a_message_that_ends_three_workers_is_held(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, accounts["smtp"])
    now = stage.NOON
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 1))
        launch.launch(campaign, now=now)
        allotment = alpha.allotments.select_related("account").get()
        for _ in range(3):
            assert len(dispatch.claim_batch(alpha, allotment, now=now, limit=1)) == 1
            now += timedelta(minutes=6)
            lifecycle.rescue(now=now)
        assert stage.statuses(campaign) == {"held": 1}
        assert campaign.messages.get().reason == Reason.BREAKS_WORKERS
    assert audit.audit_quota().drifts == []
