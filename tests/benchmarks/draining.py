"""How fast queued mails leave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.benchmarks import scene
from tests.benchmarks.children import Sender, Sink, together
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values
from tests.benchmarks.machine import cpu_seconds
from tenants.models import Agency

ACCOUNTS = 3
SENDERS = 1200


@contextmanager
def over_smtp(ground: Ground) -> Iterator[Callable[[], Values]]:
    """One worker and two against the plain loop, 5 kB mails of 1,200 senders of two agencies over three accounts."""
    mails = 4_000 if ground.quick else 20_000
    both = scene.agencies()
    with Sink() as sink:
        accounts = scene.smtp_accounts(ACCOUNTS, port=sink.ports["smtp"])
        for agency in both:
            for account in accounts:
                scene.senders(agency, account, SENDERS // len(both) // len(accounts))
            scene.people(agency, mails // len(both))
        rivals = mails // 2

        def once() -> Values:
            with Sender("rival", "smtp", sink.ports["smtp"], rivals) as rival:
                loop = together([rival])
            _check(sink, rivals)
            one = drained(ground, both, sink, mails, workers=1)
            two = drained(ground, both, sink, mails, workers=2)
            return {
                "engine_vs_raw_loop": one["rate"] / (loop["sent"] / loop["seconds"]),
                "two_workers_vs_one": two["rate"] / one["rate"],
                "raw loop's CPU / worker's": loop["cpu"] / loop["sent"] * 1000 / one["worker_ms"],
                "raw loop's CPU / worker's and PostgreSQL's": loop["cpu"]
                / loop["sent"]
                * 1000
                / (one["worker_ms"] + one["database_ms"]),
                "raw loop, mails/s": loop["sent"] / loop["seconds"],
                "raw loop, CPU ms a mail": loop["cpu"] / loop["sent"] * 1000,
                "one worker, mails/s": one["rate"],
                "one worker, CPU ms a mail": one["worker_ms"],
                "one worker, PostgreSQL's CPU ms a mail": one["database_ms"],
                "two workers, mails/s": two["rate"],
                "two workers, CPU ms a mail": two["worker_ms"],
                "two workers, PostgreSQL's CPU ms a mail": two["database_ms"],
            }

        yield once
    scene.clear()


def drained(
    ground: Ground, which: list[Agency], sink: Sink, mails: int, *, workers: int, pairs: list[str] | None = None
) -> Values:
    """Queue anew and drain with so many workers: mails a second, and CPU milliseconds a mail of both sides.

    Of two workers one begins with the last account, as two jobs of different accounts would.
    """
    queued = scene.queue(*which)
    if queued != mails:
        raise RuntimeError(f"{mails} mails were wanted, {queued} were queued.")
    slots = pairs or scene.pairs(which)
    ways = [slots, slots[::-1]]
    started = [Sender("worker", *ways[number % 2]) for number in range(workers)]
    try:
        before = cpu_seconds([ground.postmaster])
        done = together(started)
        database = cpu_seconds([ground.postmaster]) - before
    finally:
        for worker in started:
            worker.__exit__(None, None, None)
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
