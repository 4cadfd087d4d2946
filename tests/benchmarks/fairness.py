"""What one agency's load does to another's mails, through real clusters, at a wire with a pace of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from campaigns import jobs as campaigns
from campaigns.models import Message
from tenants import context, jobs, visits
from tenants.models import Agency
from tests.benchmarks import scene
from tests.benchmarks.children import Sink
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values
from tests.benchmarks.remembering import running

# Seconds that a mail takes on the one connection of a drain: two workers send 40 a second.
WIRE = 0.05
LOAD = 100
# Mails a second of the small agency, whose neighbour's then are more than two workers can send.
TRICKLE = 0.5


@contextmanager
def delays(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Beta's 95th percentile from due to sent, with a neighbour of a hundred times its load ÷ alone, at two workers.

    With --quick the rounds are ten seconds apart instead of a minute, so what the neighbour adds weighs six times more.
    """
    seconds, rounds = (20, 10) if ground.quick else (120, 60)
    if ground.quick:
        ground.say("fairness_p95_growth: with --quick in rounds of 10 s instead of a minute, which weighs six times.")
    alpha, beta = scene.agencies()
    with Sink(smtp_delay=WIRE) as sink:
        accounts = scene.smtp_accounts(3, port=sink.ports["smtp"], connections=1)
        for account in accounts:
            scene.senders(alpha, account, 200, per_day=1000)
        scene.senders(beta, accounts[0], 200, per_day=1000)
        mails = int(TRICKLE * seconds)
        scene.people(beta, mails)
        scene.people(alpha, LOAD * mails)

        def once() -> Values:
            alone = _p95([beta], beta, seconds, rounds)
            crowded = _p95([alpha, beta], beta, seconds, rounds)
            return {
                "fairness_p95_growth": crowded / alone,
                "95th percentile alone, s": alone,
                "beside a hundred times the load, s": crowded,
            }

        yield once
    scene.clear()


def _p95(busy: list[Agency], of: Agency, seconds: int, rounds: int) -> float:
    """The 95th percentile of seconds from due to sent, of mails that become due evenly over so many seconds."""
    scene.queue(*busy)
    for agency in busy:
        with context.entered(agency):
            Message.objects.update(due_at=timezone.now() + timedelta(days=1))
    with running("--no-web"):
        began = timezone.now()
        for agency in busy:
            with context.entered(agency), connection.cursor() as cursor:
                cursor.execute(_SPREAD, [began, seconds])
                visits.ask(began)
        return _watch(of, began, seconds, rounds)


def _watch(of: Agency, began: datetime, seconds: int, rounds: int) -> float:
    following, deadline = 0.0, began + timedelta(seconds=2 * seconds + 120)
    while timezone.now() < deadline:
        passed = (timezone.now() - began).total_seconds()
        if rounds < 60 and passed >= following:
            following += rounds
            jobs.enqueue(campaigns.tick)
        time.sleep(0.1)
        if passed < seconds:
            continue
        with context.entered(of):
            mails = list(Message.objects.values_list("due_at", "sent_at"))
        waits = sorted((sent_at - due_at).total_seconds() for due_at, sent_at in mails if sent_at)
        if len(waits) == len(mails):
            return waits[int(len(waits) * 0.95)]
    raise RuntimeError("The small agency's mails were not all sent in time.")


_SPREAD = """
UPDATE campaigns_message m SET due_at = %s + interval '1 second' * %s * o.place
FROM (SELECT id, (row_number() OVER (ORDER BY id) - 0.5) / count(*) OVER () AS place FROM campaigns_message) o
WHERE o.id = m.id AND m.status = 'scheduled'
"""
