"""Memory of a worker over time, and of everything that `manage.py run` runs."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from campaigns import jobs as campaigns
from outreach import heartbeat
from outreach.models import Heartbeat
from tenants import context, jobs
from tests import processes
from tests.benchmarks import idling, scene
from tests.benchmarks.children import ROOT, Sender, Sink
from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values
from tests.benchmarks.machine import children, command, pss_mb, tree

CLUSTERS = 2


@contextmanager
def worker(ground: Ground) -> Iterator[Callable[[], Values]]:
    """A worker's memory when it has sent some and ten times as many."""
    early, late = (300, 3_000) if ground.quick else (20_000, 200_000)
    if ground.quick:
        ground.say(f"worker_pss_growth: with --quick from {early:,} to {late:,} mails.")
    both = scene.agencies()
    with Sink() as sink:
        accounts = scene.smtp_accounts(3, port=sink.ports["smtp"])
        for agency in both:
            for account in accounts:
                scene.senders(agency, account, 200, per_day=1000)
            scene.people(agency, late // len(both))

        def once() -> Values:
            scene.queue(*both)
            with Sender("worker", *scene.pairs(both)) as sender:
                sender.tell("go")
                while sink.counts()["mails"] < early:
                    time.sleep(0.05)
                before = pss_mb([sender.pid])
                sent = sender.result()["sent"]
                after = pss_mb([sender.pid])
            seen = sink.counts(reset=True)
            if not sent == seen["distinct"] == late:
                raise RuntimeError(f"{sent} were sent and {seen} came, not {late}.")
            return {"worker_pss_growth": after / before, "worker early, MB": before, "worker late, MB": after}

        yield once
    scene.clear()


@contextmanager
def stack(ground: Ground) -> Iterator[Callable[[], Values]]:
    """The most that PostgreSQL, web and workers hold at once while mails are sent and pages are asked for; then the
    statements a second that all this makes while agencies have nothing due."""
    mails = 400 if ground.quick else 20_000
    both = scene.agencies()
    with Sink() as sink:
        accounts = scene.smtp_accounts(3, port=sink.ports["smtp"])
        for agency in both:
            for account in accounts:
                scene.senders(agency, account, 200)
            scene.people(agency, mails // len(both))

        def once() -> Values:
            scene.queue(*both)
            port = _free_port()
            # The agencies come after what each start does for all of them, and go when nobody looks at them any more.
            with ExitStack() as agencies, running("--port", str(port)) as machine:
                processes.await_port(port)
                for agency in both:
                    with context.entered(agency):
                        campaigns.ring()
                most: Values = {"stack_pss_mb": 0}
                deadline = time.monotonic() + 180
                while (sent := sink.counts()["mails"]) < mails or not most["stack_pss_mb"]:
                    _ask(port, both[0].slug)
                    most = max(most, _shares(ground.postmaster, machine), key=lambda one: one["stack_pss_mb"])
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"Only {sent} of {mails} mails were sent within three minutes.")
                agencies.enter_context(idling.cloned(idling.agencies(ground)))
                idle = idling.calls_per_second(ground)
            sink.counts(reset=True)
            return {**most, "idle_queries_per_s": idle}

        yield once
    scene.clear()


@contextmanager
def running(*arguments: str) -> Iterator[int]:
    """`manage.py run` with these arguments, once both of its clusters have run a job; its process id."""
    with context.public():
        Heartbeat.objects.all().delete()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run", *arguments],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 180
        while Heartbeat.objects.count() < CLUSTERS:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("`manage.py run` did not come up. It says why above.")
            # More than its own, which the first cluster may have run before the second was there.
            jobs.enqueue(heartbeat.canary)
            time.sleep(0.2)
        yield process.pid
    finally:
        ours = tree(process.pid)
        # Not asked: it would wait for jobs that nobody needs any more. Its children end with it.
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while any(command(pid) for pid in ours) and time.monotonic() < deadline:
            time.sleep(0.05)


def _shares(postmaster: int, machine: int) -> Values:
    """Memory now, and which part of it is whose."""
    parts = {"of it PostgreSQL, MB": pss_mb([postmaster])}
    for title, working in (("of it the clusters, MB", True), ("of it the web, MB", False)):
        parts[title] = pss_mb(pid for pid in children(machine) if ("work" in command(pid)) is working)
    whole = parts["of it PostgreSQL, MB"] + pss_mb([machine])
    return {"stack_pss_mb": whole, **parts}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _ask(port: int, slug: str) -> None:
    for _ in range(10):
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        line.request("GET", "/accounts/login/", headers={"Host": f"{slug}.localhost"})
        answer = line.getresponse()
        answer.read()
        line.close()
        if answer.status >= 500:
            raise RuntimeError(f"The web server answered {answer.status}.")
