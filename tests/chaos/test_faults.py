"""P1, P2, P3: whatever breaks while workers send, nobody gets a mail twice, none is lost, and the ledgers agree.

Each fault is played small here and whole by `make chaos`.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from campaigns import delivery, dispatch
from campaigns.jobs import ring
from providers.accounts.adapters import KINDS
from tenants import context, jobs
from tests.chaos import scene, server
from tests.chaos.scene import Fleet, Scene, finish, scaled, sent_at_least, shares

pytestmark = pytest.mark.timeout(2 * scene.PATIENCE)
DAY = 86_400
WORKERS = 3
# What a worker may have on the wire at any moment: Resend takes many mails in one request.
ON_THE_WIRE = max(delivery.IN_FLIGHT, *(kind.together for kind in KINDS.values()))


def test_workers_are_killed_at_random(two_agencies: Scene, fleet: Fleet) -> None:
    mails, kills = scaled(400, 20_000), scaled(4, 50)
    two_agencies.launch(mails)
    rng = random.Random(mails)
    with fleet.working(WORKERS):
        for count in shares(mails * 9 // 10, kills):
            sent_at_least(two_agencies, fleet, count)
            fleet.kill_one(rng)
        finish(two_agencies, fleet)
        assert two_agencies.findings(now=fleet.now(), doubted_most=kills * ON_THE_WIRE) == []


@pytest.mark.parametrize(
    ("mode", "in_hand"),
    [
        # What was on the wire of each worker.
        ("fast", ON_THE_WIRE),
        # A crash may lose marks, so what a worker had claimed is in doubt whole: a batch on the wire and the next one.
        ("immediate", 2 * dispatch.BATCH),
    ],
)
def test_postgresql_restarts_in_mid_send(two_agencies: Scene, fleet: Fleet, mode: str, in_hand: int) -> None:
    mails, restarts = scaled(500, 6_000), scaled(1, 6)
    two_agencies.launch(mails)
    with fleet.working(WORKERS):
        for count in shares(mails * 9 // 10, restarts):
            sent_at_least(two_agencies, fleet, count)
            server.restart(mode)
        finish(two_agencies, fleet)
        assert fleet.failures
        assert two_agencies.findings(now=fleet.now(), doubted_most=restarts * WORKERS * in_hand) == []


EVERY = 20


@pytest.mark.parametrize(
    ("fault", "providers"),
    [
        ("timeout_after_acceptance", ("resend", "sendgrid", "smtp")),
        ("lost_answers", ("resend", "sendgrid", "smtp")),
        # The server goes away after DATA: once with the mail and once without it, which looks the same from here.
        ("cut_after_data", ("smtp",)),
    ],
)
def test_answers_are_lost(two_agencies: Scene, fleet: Fleet, fault: str, providers: tuple[str, ...]) -> None:
    two_agencies.script(*(f"{provider}={fault}:{EVERY}" for provider in providers))
    two_agencies.launch(scaled(300, 5_000))
    with fleet.working(WORKERS):
        finish(two_agencies, fleet, dead=False)
        requests = two_agencies.counts()["requests"]
        # Resend takes the same mail again and sends it once, so its doubts end at once.
        most = sum(requests[provider] // EVERY for provider in providers if provider != "resend")
        assert two_agencies.findings(now=fleet.now(), doubted_most=most) == []
        assert most
        assert two_agencies.statuses()["unknown"]


def test_refusals_come_in_waves(two_agencies: Scene, fleet: Fleet) -> None:
    wave = scaled(3, 20)
    two_agencies.script(*(f"{provider}=waves:{wave}" for provider in two_agencies.accounts))
    two_agencies.launch(scaled(240, 4_000))
    with fleet.working(WORKERS):
        finish(two_agencies, fleet, still=0.5, dead=False)
        troubles = two_agencies.counts()["troubles"]
        # Only a 500 leaves a doubt; the mail server never does, for it refuses before it has the mail.
        most = troubles.get("resend 500", 0) * ON_THE_WIRE + troubles.get("sendgrid 500", 0)
        assert two_agencies.findings(now=fleet.now(), doubted_most=most) == []
        assert troubles["smtp 503"]


@pytest.mark.parametrize("jumps", [(DAY, 0), (-DAY, 0), (DAY + 3_700, -DAY, 0)])
def test_the_clock_jumps(two_agencies: Scene, fleet: Fleet, jumps: tuple[int, ...]) -> None:
    mails = scaled(300, 4_000)
    two_agencies.launch(mails)
    with fleet.working(WORKERS):
        arrived = 0
        for jump in jumps:
            arrived += mails // (len(jumps) + 1)
            sent_at_least(two_agencies, fleet, arrived)
            fleet.set_clock(jump)
            if jump < 0:
                # A day ago nothing was due yet.
                fleet.set_clock(0)
        finish(two_agencies, fleet)
        # Nothing was on the wire for as long as a lease, whatever the clocks say.
        assert two_agencies.findings(now=fleet.now() + timedelta(days=2)) == []


def test_every_job_is_delivered_twice(two_agencies: Scene) -> None:
    def deliver() -> None:
        try:
            jobs.run("campaigns.jobs.serve", "")
        finally:
            connections.close_all()

    two_agencies.launch(scaled(200, 3_000))
    for agency in two_agencies.agencies.values():
        with context.entered(agency):
            # The minute's work rang twice as well.
            ring()
            ring()
    with ThreadPoolExecutor(4) as workers:
        for _ in range(12):
            workers.submit(deliver)
    # And once more, when there is nothing left to do.
    jobs.run("campaigns.jobs.serve", "")
    assert two_agencies.findings(now=timezone.now()) == []
