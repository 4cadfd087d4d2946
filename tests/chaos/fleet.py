"""Workers to be killed: `python -m tests.chaos.fleet`.

Sets Django up once and forks, as a cluster of django-q2 does; a worker that dies is replaced at once. Each drains every
account of every agency over and over, all the same ones, so every job is delivered as often as there are workers.

Standard input: `workers COUNT` and `clock SECONDS`, by which every worker's clock is off; its end ends the fleet.
Standard output: `up PID` for each worker, `failed ERROR` for each drain that the database ended, `done` for each line.
"""

import multiprocessing
import os
import random
import select
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta

import django

django.setup()

from django.db import Error, connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from campaigns import dispatch  # noqa: E402
from outreach.cluster import end_with_parent  # noqa: E402
from providers.accounts.models import Allotment  # noqa: E402
from tenants import context  # noqa: E402

# How long one drain may go on.
DRAIN = timedelta(seconds=60)
_off = multiprocessing.RawValue("d", 0.0)


def clock() -> datetime:
    """What a worker takes for the time."""
    return timezone.now() + timedelta(seconds=_off.value)


def work(seed: int) -> None:
    """Drain whatever there is, for ever."""
    rng = random.Random(seed)
    while True:
        try:
            if not drain_all(rng):
                time.sleep(0.05)
        except Error as error:
            # As a job that fails; the next one comes with a connection of its own.
            print("failed", type(error.__cause__ or error).__name__, flush=True)
            connection.close()
            connection.set_schema_to_public()
            time.sleep(0.05)


def drain_all(rng: random.Random) -> int:
    """Drain every account of every agency once, in any order; return how many mails went."""
    allotments = list(Allotment.objects.select_related("agency").order_by("pk"))
    rng.shuffle(allotments)
    sent = 0
    for allotment in allotments:
        with context.entered(allotment.agency):
            sent += dispatch.drain(allotment.account_id, clock=clock, until=clock() + DRAIN).sent
    return sent


def main() -> None:
    """Keep as many workers as were asked for until standard input ends."""
    wakes, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    workers: set[int] = set()
    seeds = iter(range(sys.maxsize))
    count = 0
    while True:
        while len(workers) < count:
            workers.add(fork(next(seeds)))
        ready, _, _ = select.select([sys.stdin, wakes], [], [])
        if wakes in ready:
            os.read(wakes, 4096)
            bury(workers)
        if sys.stdin in ready:
            what, _, number = sys.stdin.readline().partition(" ")
            if what == "clock":
                _off.value = float(number)
            else:
                count = int(number or 0)
                end(workers)
            print("done", flush=True)
            if not what:
                return


def fork(seed: int) -> int:
    """Start one worker; return its process id."""
    pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_with_parent()
        try:
            work(seed)
        finally:
            os._exit(1)
    print("up", pid, flush=True)
    return pid


def end(workers: set[int]) -> None:
    """Kill all of them, and wait until they are gone."""
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for pid in workers:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    workers.clear()


def bury(workers: set[int]) -> None:
    """Take those that have died from the list."""
    with suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            workers.discard(pid)


if __name__ == "__main__":
    end_with_parent()
    main()
