"""What a killed worker leaves in doubt."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from campaigns import lifecycle
from campaigns.models import Message
from tenants import context
from tests.benchmarks import scene
from tests.benchmarks.children import Sink, Worker
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values

LEASE_OVER = timedelta(minutes=6)


@contextmanager
def in_doubt(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Kill workers with -9 at full speed, take back what they held, send the rest; nobody is written to twice."""
    kills, apart = (1, 250) if ground.quick else (10, 800)
    alpha = scene.agencies()[0]
    seeded = random.Random(3)
    mails = (kills + 2) * apart
    with Sink() as sink:
        account = scene.smtp_accounts(1, port=sink.ports["smtp"])[0]
        scene.senders(alpha, account, 400)
        scene.people(alpha, mails)

        def once() -> Values:
            scene.queue(alpha)
            doubts = []
            for number in range(kills):
                _kill(sink, scene.pairs([alpha]), apart * number + seeded.randint(apart // 2, apart))
                with context.entered(alpha):
                    doubts.append(lifecycle.rescue(now=timezone.now() + LEASE_OVER)[1])
            with Worker(*scene.pairs([alpha])) as last:
                last.tell("go")
                last.result()
            found, seen = scene.statuses(alpha), sink.counts(reset=True)
            with context.entered(alpha):
                listed = Message.objects.filter(status="unknown").exclude(reason="").count()
            if not (found.get("unknown", 0) == listed == sum(doubts) and found["sent"] + listed == mails):
                raise RuntimeError(f"Of {mails} mails with {doubts} in doubt, these are in each state: {found}.")
            if not (seen["mails"] == seen["distinct"] and found["sent"] <= seen["distinct"] <= mails):
                raise RuntimeError(f"Somebody was written to twice, or not at all: {seen}, {found}.")
            return {"in_doubt_per_kill": max(doubts), "in doubt per kill, mean": sum(doubts) / kills}

        yield once
    scene.clear()


def _kill(sink: Sink, pairs: list[str], at: int) -> None:
    with Worker(*pairs) as worker:
        worker.tell("go")
        deadline = time.monotonic() + 60
        while sink.counts()["mails"] < at:
            if time.monotonic() > deadline:
                raise RuntimeError(f"The worker did not come to {at} mails within a minute.")
        worker.kill()
    # Its last statement may still be on its way in the server.
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            if cursor.fetchone()[0] <= 1:
                return
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not notice that the worker was killed.")
