"""Everything that touches the queue at once: nobody waits for anybody in a circle, and the ledgers come out even."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, connections
from django.utils import timezone

from campaigns import advance, audit, changes, control, dispatch, failover, feedback, launch, lifecycle, optout
from campaigns.models import Campaign, Message, Step
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.events import EventType, Heard
from providers.accounts.models import Account, Allotment
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

SECONDS = 3.0
ROUNDS = 4
MAILS = 120


def work(agency: Agency, accounts: list[Account], seed: int, stop: threading.Event) -> None:
    """Claim, settle, rescue, move, postpone, pause, cancel at random until told to stop; some rounds at least."""
    rng = random.Random(seed)
    done = 0
    with context.entered(agency):
        while not stop.is_set() or done < ROUNDS:
            # Near midnight of both Berlin and UTC, so that days differ between claims and what gives them back.
            now = NOON + timedelta(hours=rng.choice([10, 11, 12, 13]), minutes=rng.randrange(60))
            account = rng.choice(accounts)
            for _ in range(3):
                settle(claim(agency, account, now), rng)
            chores: list[Callable[[], Any]] = [
                lambda at=now: lifecycle.rescue(now=at + timedelta(minutes=rng.randrange(20))),
                lambda at=now, of=account: failover.relieve(agency, of.pk, now=at),
                lambda at=now, of=account: lifecycle.postpone(
                    of.pk, list(Campaign.objects.values_list("pk", flat=True)), Reason.THROTTLED, until=at, now=at
                ),
                lambda at=now, of=account: health.refused(of.pk, "down", now=at),
                lambda at=now, of=account: health.reopen(of.pk, now=at),
                lambda: control.pause(Campaign.objects.order_by("?")[0]),
                lambda at=now: control.resume(Campaign.objects.order_by("?")[0], now=at),
                lambda at=now: rng.random() < 0.1 and control.cancel(Campaign.objects.order_by("?")[0], now=at),
                lambda at=now: control.finish_done(now=at),
                lambda at=now: control.follow_pauses(now=at),
                control.cancel_strays,
                lambda at=now: advance.advance(now=at),
                lambda at=now: reply(rng, at),
                lambda at=now: wait_longer(rng, at),
                lambda at=now: leave(rng, at),
            ]
            rng.choice(chores)()
            done += 1


def reply(rng: random.Random, now: datetime) -> None:
    """One of those who got a mail replies, and so ends what waits for the whole company."""
    if key := Message.objects.filter(status="sent").order_by("?").values_list("key", flat=True).first():
        feedback.record([Heard("inbound", str(rng.random()), EventType.REPLIED, now, now, key)], now=now)


def leave(rng: random.Random, now: datetime) -> None:
    """One of those who got a mail opts out, of its list alone or altogether."""
    if message := Message.objects.filter(status="sent").select_related("campaign").order_by("?").first():
        if rng.random() < 0.5:
            optout.leave(message, how=optout.PAGE, clock=lambda: now)
        else:
            optout.leave_list(message, message.campaign.list_id, how=optout.PAGE, clock=lambda: now)


def wait_longer(rng: random.Random, now: datetime) -> None:
    campaign = Campaign.objects.exclude(status="cancelled").order_by("?").first()
    if campaign:
        first, second = changes.steps_of(campaign)
        changes.change(campaign, [first, replace(second, delay=rng.randrange(1, 9), unit="hours")], now=now)


def claim(agency: Agency, account: Account, now: Any) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=now, limit=12)


def settle(batch: list[lifecycle.Claimed], rng: random.Random) -> None:
    now = timezone.now()
    going = lifecycle.begin(batch, now=now)
    lifecycle.stop([message for message in batch if message.id not in going])
    left = [message for message in batch if message.id in going]
    rng.shuffle(left)
    cut = rng.randrange(len(left) + 1)
    lifecycle.release(left[:cut])
    for message in left[cut:]:
        match rng.randrange(6):
            case 0:
                lifecycle.sent([(message, "id")], now=now)
            case 1:
                lifecycle.doubt(message, "no answer")
            case 2:
                lifecycle.hold(message, Reason.NOT_RENDERED, "why")
            case 3:
                lifecycle.reschedule(message, due_at=NOON, reason=Reason.THROTTLED)
            case _:
                lifecycle.release([message])


def test_all_verbs_at_once_never_wait_in_a_circle(committed: dict[str, Agency]) -> None:
    accounts = list(stage.accounts(smtp={"per_month": 500}, resend={"per_day": 90}).values())
    for agency in committed.values():
        stage.allot(agency, *accounts, senders=6, domains=2, per_day=20)
        with context.entered(agency):
            for name in "abc":
                made = stage.campaign(stage.contact_list(name, MAILS), distribution="even")
                Campaign.objects.filter(pk=made.pk).update(stop_scope="company")
                Step.objects.create(campaign=made, position=2, html="<p>2</p>", delay=1, unit="hours")
                launch.launch(made, now=NOON)
    stop = threading.Event()

    def worker(agency: Agency, seed: int) -> None:
        try:
            work(agency, accounts, seed, stop)
        finally:
            stop.set()
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        timer = threading.Timer(SECONDS, stop.set)
        timer.start()
        agencies = list(committed.values())
        working = [pool.submit(worker, agencies[seed % 2], seed) for seed in range(6)]
        # A deadlock ends one of those who wait in it with an error, and that ends the test.
        for each in working:
            each.result(timeout=90)
        timer.cancel()
    later = NOON + timedelta(days=2)
    for agency in committed.values():
        with context.entered(agency):
            lifecycle.rescue(now=later)
            control.cancel_strays()
            assert not Message.objects.filter(status="claimed").exists()
            cancelled = Message.objects.filter(campaign__status="cancelled")
            assert not cancelled.filter(status="scheduled").exists()
            assert Message.objects.filter(step__position=1).count() == 3 * MAILS
    connection.set_schema_to_public()
    assert audit.audit_quota().drifts == []
