"""What the queue costs as it grows: a batch's claim, reservation and record, without texts and without a wire."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from unittest import mock

import psycopg
from django.utils import timezone

from campaigns import dispatch
from providers.accounts import adapters
from providers.accounts.envelope import Envelope
from tenants import context
from tenants.models import Agency
from tests.benchmarks import scene
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values

WINDOW = 50
WINDOWS = 20
TINY = {"subject": "Hi", "html": "", "text": "Hi"}


@contextmanager
def growth(ground: Ground) -> Iterator[Callable[[], Values]]:
    """The agency Alpha has few mails queued, Beta a hundred times as many; their batches take turns."""
    few, many = (1_100, 22_000) if ground.quick else (10_000, 1_000_000)
    if ground.quick:
        ground.say(f"claim_growth_10k_to_1m: with --quick from {few:,} to {many:,} queued mails.")
    alpha, beta = scene.agencies()
    slots = {agency.pk: _crowd(agency, number) for agency, number in ((alpha, few), (beta, many))}
    scene.queue(alpha, beta, **TINY)

    def once() -> Values:
        small, large = [], []
        for _ in range(2):
            small += windows(alpha, slots[alpha.pk], WINDOWS * WINDOW // 2)
            large += windows(beta, slots[beta.pk], WINDOWS * WINDOW // 2)
        if len(small) < WINDOWS // 2:
            raise RuntimeError("Too few mails are left: give fewer repetitions.")
        return {
            "claim_growth_10k_to_1m": statistics.median(large) / statistics.median(small),
            "batch of 50 with few queued, ms": statistics.median(small) * 1000,
            "batch of 50 with many queued, ms": statistics.median(large) * 1000,
        }

    yield once
    scene.clear()


@contextmanager
def held_snapshot(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Batches before and after many claims while another transaction, such as a backup, sees the old rows."""
    claims = 3_000 if ground.quick else 100_000
    if ground.quick:
        ground.say(f"claim_growth_held_snapshot: with --quick after {claims:,} claims.")
    alpha = scene.agencies()[0]
    mails = claims + 3 * WINDOWS * WINDOW
    slot = _crowd(alpha, mails, senders=mails // 40)

    def once() -> Values:
        scene.queue(alpha, **TINY)
        fresh = windows(alpha, slot, WINDOWS * WINDOW)
        with another_connection() as other, other.transaction():
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM tenants_agency")
            began = time.monotonic()
            windows(alpha, slot, claims)
            took = time.monotonic() - began
            late = windows(alpha, slot, WINDOWS * WINDOW)
        return {
            "claim_growth_held_snapshot": statistics.median(late) / statistics.median(fresh),
            "batch of 50 before, ms": statistics.median(fresh) * 1000,
            "batch of 50 under the snapshot, ms": statistics.median(late) * 1000,
            "without texts and wire, mails/s": claims / took,
        }

    yield once
    scene.clear()


def windows(
    agency: Agency,
    account_id: int,
    mails: int | None = None,
    *,
    seconds: float = 3600,
    ended: Callable[[int], None] = lambda _mails: None,
) -> list[float]:
    """Drain so many mails into nothing, or for so long; seconds of every fifty of them. `ended` is called then, before
    what is claimed and was not sent is given back."""
    stamps: list[float] = []
    ends = time.perf_counter() + seconds
    told = False
    until = timezone.now() + timedelta(hours=1)

    class Nowhere(adapters.Wire):
        def send(self, envelope: Envelope, following: Envelope | None = None) -> str | None:
            stamps.append(time.perf_counter())
            return None

        def verify(self) -> None: ...

        def close(self) -> None: ...

    def clock() -> datetime:
        nonlocal told
        if not told and (time.perf_counter() >= ends or (mails is not None and len(stamps) >= mails)):
            told = True
            ended(len(stamps))
        return until if told else timezone.now()

    with mock.patch.object(adapters, "open", return_value=Nowhere()), context.entered(agency):
        dispatch.drain(account_id, clock=clock, until=until)
    marks = stamps[::WINDOW]
    return [later - earlier for earlier, later in pairwise(marks)]


def _crowd(agency: Agency, people: int, *, senders: int = 400) -> int:
    """One account with so many senders of fifty mails a day, and so many people; the account's id."""
    account = scene.smtp_accounts(1, port=9, name=agency.slug)[0]
    scene.senders(agency, account, senders)
    scene.people(agency, people)
    return int(account.pk)


@contextmanager
def another_connection() -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """To the same database."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")
        yield other
