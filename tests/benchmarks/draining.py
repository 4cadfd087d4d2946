"""How fast queued mails leave."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from campaigns import planning
from providers.accounts import rate
from tenants.models import Agency
from tests.benchmarks import scene
from tests.benchmarks.children import Sender, Sink, Worker, together
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values
from tests.benchmarks.machine import cpu_seconds

ACCOUNTS = 3
SENDERS = 1200


@contextmanager
def over_smtp(ground: Ground) -> Iterator[Callable[[], Values]]:
    """One worker and two against the plain loop, 5 kB mails of 1,200 senders of two agencies over three accounts."""
    mails = 3_600 if ground.quick else 20_000
    if ground.quick:
        ground.say(f"engine_vs_raw_loop, two_workers_vs_one: with --quick {mails:,} mails.")
    both = scene.agencies()
    with Sink() as sink:
        accounts = scene.smtp_accounts(ACCOUNTS, port=sink.ports["smtp"])
        for agency in both:
            for account in accounts:
                scene.senders(agency, account, SENDERS // len(both) // len(accounts))
            scene.people(agency, mails // len(both))
        rivals = mails // 2

        def once() -> Values:
            with _started("smtp", sink, rivals, both, workers=2) as (rival, *workers):
                loop = _rival(rival, sink, rivals)
                # So that both are warm, as the loop is from its first mail on.
                drained(ground, both, sink, mails, workers)
                one = drained(ground, both, sink, mails, workers[:1])
                two = drained(ground, both, sink, mails, workers)
            return {
                "engine_vs_raw_loop": one["rate"] / loop["rate"],
                "two_workers_vs_one": two["rate"] / one["rate"],
                "raw loop's CPU / worker's": loop["ms"] / one["worker_ms"],
                "raw loop's CPU / worker's and PostgreSQL's": loop["ms"] / (one["worker_ms"] + one["database_ms"]),
                "raw loop, mails/s": loop["rate"],
                "raw loop, CPU ms a mail": loop["ms"],
                "one worker, mails/s": one["rate"],
                "one worker, CPU ms a mail": one["worker_ms"],
                "one worker, PostgreSQL's CPU ms a mail": one["database_ms"],
                "two workers, mails/s": two["rate"],
                "two workers, CPU ms a mail": two["worker_ms"],
                "two workers, PostgreSQL's CPU ms a mail": two["database_ms"],
            }

        yield once
    scene.clear()


@contextmanager
def slow_http(ground: Ground) -> Iterator[Callable[[], Values]]:
    """One worker at a Resend that answers in 50 ms against one requests.Session, one by one."""
    mails, rivals = (300, 20) if ground.quick else (1_500, 100)
    alpha = scene.agencies()[0]
    with Sink(http_delay=0.05) as sink:
        scene.senders(alpha, scene.resend_account(port=sink.ports["http"]), 400)
        scene.people(alpha, mails)

        def once() -> Values:
            with _started("http", sink, rivals, [alpha], workers=1) as (rival, worker):
                loop = _rival(rival, sink, rivals)
                one = drained(ground, [alpha], sink, mails, [worker])
            return {
                "http_50ms_vs_session": one["rate"] / loop["rate"],
                "one Session, mails/s": loop["rate"],
                "engine over HTTP at 50 ms, mails/s": one["rate"],
            }

        yield once
    scene.clear()


@contextmanager
def slow_smtp(ground: Ground) -> Iterator[Callable[[], Values]]:
    """One worker at a mail server 10 ms away against one smtplib connection."""
    mails, rivals = (300, 30) if ground.quick else (1_500, 100)
    alpha = scene.agencies()[0]
    with Sink(smtp_delay=0.01) as sink:
        scene.senders(alpha, scene.smtp_accounts(1, port=sink.ports["smtp"])[0], 400)
        scene.people(alpha, mails)

        def once() -> Values:
            with _started("smtp", sink, rivals, [alpha], workers=1) as (rival, worker):
                loop = _rival(rival, sink, rivals)
                one = drained(ground, [alpha], sink, mails, [worker])
            return {
                "smtp_10ms_vs_one_connection": one["rate"] / loop["rate"],
                "one connection at 10 ms, mails/s": loop["rate"],
                "engine at 10 ms, mails/s": one["rate"],
            }

        yield once
    scene.clear()


@contextmanager
def limited_resend(ground: Ground) -> Iterator[Callable[[], Values]]:
    """One worker for some seconds at a Resend that lets five requests a second pass and answers 429 to the others."""
    seconds = 3 if ground.quick else 20
    alpha = scene.agencies()[0]
    with Sink(per_second=5, http_delay=0.05) as sink:
        account = scene.resend_account(port=sink.ports["http"], per_second=rate.USUAL["resend"])
        scene.senders(alpha, account, 400)
        scene.people(alpha, 600 * seconds)

        def once() -> Values:
            scene.queue(alpha)
            with Worker(*scene.pairs([alpha])) as worker:
                worker.tell("go")
                time.sleep(seconds)
                seen = sink.counts(reset=True)
                worker.kill()
            return {
                "resend_5rps_mails_per_s": seen["mails"] / seconds,
                "resend_5rps_answers_429": seen["throttled"],
                "mails a request": seen["mails"] / max(1, seen["requests"] - seen["throttled"]),
            }

        yield once
    scene.clear()


@contextmanager
def more_senders(ground: Ground) -> Iterator[Callable[[], Values]]:
    """CPU of a mail, worker's and PostgreSQL's: Beta's 5,000 senders over six accounts, Alpha's 1,200 over three."""
    mails = 1_200 if ground.quick else 10_000
    if ground.quick:
        ground.say(f"senders_5000_vs_1200: with --quick {mails:,} mails.")
    alpha, beta = scene.agencies()
    with Sink() as sink:
        for agency, senders, accounts in ((alpha, 1200, 3), (beta, 5000, 6)):
            shares = planning.largest_remainder(senders, [1.0] * accounts)
            made = scene.smtp_accounts(accounts, port=sink.ports["smtp"], name=agency.slug)
            for account, share in zip(made, shares, strict=True):
                scene.senders(agency, account, share)
            scene.people(agency, mails)

        def once() -> Values:
            with Worker(*scene.pairs([alpha])) as one, Worker(*scene.pairs([beta])) as other:
                # So that both are warm.
                drained(ground, [alpha], sink, mails, [one])
                drained(ground, [beta], sink, mails, [other])
                few = drained(ground, [alpha], sink, mails, [one])
                many = drained(ground, [beta], sink, mails, [other])
            few_ms, many_ms = (one["worker_ms"] + one["database_ms"] for one in (few, many))
            return {
                "senders_5000_vs_1200": many_ms / few_ms,
                "CPU ms a mail with 1,200 senders": few_ms,
                "CPU ms a mail with 5,000 senders": many_ms,
                "the same by the clock": few["rate"] / many["rate"],
            }

        yield once
    scene.clear()


@contextmanager
def _started(kind: str, sink: Sink, mails: int, which: list[Agency], *, workers: int) -> Iterator[list[Sender]]:
    """A rival for so many mails, and workers: every other begins with the last account, as jobs of different accounts
    would. All start at once; idle ones cost the others nothing."""
    slots = scene.pairs(which)
    ways = [slots, slots[::-1]]
    with ExitStack() as stack:
        rival = stack.enter_context(Sender("rival", kind, sink.ports[kind], mails))
        yield [rival, *(stack.enter_context(Worker(*ways[number % 2])) for number in range(workers))]


def _rival(rival: Sender, sink: Sink, mails: int) -> Values:
    loop = together([rival])
    _check(sink, mails)
    return {"rate": mails / loop["seconds"], "ms": loop["cpu"] / mails * 1000}


def drained(ground: Ground, which: list[Agency], sink: Sink, mails: int, workers: list[Sender]) -> Values:
    """Queue anew and drain with these workers: mails a second, and CPU milliseconds a mail of both sides."""
    queued = scene.queue(*which)
    if queued != mails:
        raise RuntimeError(f"{mails} mails were wanted, {queued} were queued.")
    for worker in workers:
        worker.await_ready()
    before = cpu_seconds([ground.postmaster])
    done = together(workers)
    database = cpu_seconds([ground.postmaster]) - before
    _check(sink, mails)
    if (found := scene.statuses(*which)) != {"sent": mails}:
        raise RuntimeError(f"Of {mails} mails these are in each state: {found}.")
    return {
        "rate": done["sent"] / done["seconds"],
        "worker_ms": done["cpu"] / mails * 1000,
        "database_ms": database / mails * 1000,
    }


def _check(sink: Sink, mails: int) -> None:
    found = sink.counts(reset=True)
    if not found["mails"] == found["distinct"] == mails:
        raise RuntimeError(f"The sink has {found}, not {mails} mails to as many people: this run does not count.")
