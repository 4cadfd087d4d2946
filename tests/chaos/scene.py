"""Two agencies that send through three accounts into a sandbox of its own process, and the evidence of what came of it.

`findings` is what every fault ends with: it compares what the far end has counted with what the messages say, replays
every ledger, and looks for mails that are lost or stuck.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from campaigns import audit, launch, lifecycle
from campaigns.mail_audit import audit_mails
from campaigns.models import Campaign, Message
from outreach.demo.far_end import FarEnd
from providers.accounts.models import Account
from tenants import context
from tenants.models import Agency
from tests import processes, stage

# All of it, by `make chaos`; else a part that takes seconds.
FULL = os.environ.get("CHAOS") == "full"
# A wire gives up soon, so that a silent provider costs seconds.
QUICK = {"smtp": {"answer_timeout": 1, "command_timeout": 5}, "http": {"read_timeout": 1}}
PATIENCE = 900 if FULL else 60
# Longer than any answer takes here.
STILL_SECONDS = 2.0


def scaled(part: int, full: int) -> int:
    """How much of it is done here."""
    return full if FULL else part


@dataclass
class Scene:
    """What runs, and where its mails arrive."""

    agencies: dict[str, Agency]
    far: FarEnd
    accounts: dict[str, Account]
    campaigns: list[tuple[Agency, Campaign]] = field(default_factory=list)

    def launch(self, count: int, **fields: Any) -> None:
        """Queue so many mails, three quarters of them Alpha's."""
        self.launch_for("alpha", count - count // 4, now=timezone.now(), **fields)
        self.launch_for("beta", count // 4, now=timezone.now(), **fields)

    def launch_for(self, slug: str, count: int, *, now: datetime, **fields: Any) -> None:
        """Queue so many mails of one agency's, spread evenly over its accounts."""
        agency = self.agencies[slug]
        with context.entered(agency):
            people = stage.contact_list(f"{slug}{len(self.campaigns)}n", count)
            made = stage.campaign(people, **{"distribution": "even", **fields})
            launch.launch(made, now=now)
        self.campaigns.append((agency, made))

    def script(self, *faults: str) -> None:
        """From now on the far end has these faults and no others."""
        self._ask("faults", list(faults))

    def taken(self) -> Counter[str]:
        """How many mails the far end has taken for each recipient."""
        return Counter(self._ask("counts?detail=1")["recipients"])

    def counts(self) -> dict[str, Any]:
        """What the far end has counted."""
        return self._ask("counts")

    def statuses(self) -> Counter[str]:
        """How many messages of all campaigns are in each state."""
        found: Counter[str] = Counter()
        for agency, campaign in self.campaigns:
            with context.entered(agency):
                found.update(campaign.messages.values_list("status", flat=True))
        return found

    def rescue(self, *, now: datetime) -> None:
        """What the tick does every minute."""
        for agency in self.agencies.values():
            with context.entered(agency):
                lifecycle.rescue(now=now)

    def findings(self, *, now: datetime, doubted_most: int = 0) -> list[str]:
        """What is wrong, one line each, now that all that can be sent has been sent."""
        connection.set_schema_to_public()
        taken = self.taken()
        found = [f"{address} was sent {count} mails" for address, count in taken.items() if count > 1]
        doubted = 0
        for agency, campaign in self.campaigns:
            with context.entered(agency):
                rows = campaign.messages.values_list("contact__email", "status", "reason")
                for address, status, reason in rows:
                    arrived = taken.pop(address, 0)
                    doubted += status == Message.Status.UNKNOWN
                    if status == Message.Status.SENT and not arrived:
                        found.append(f"{address} counts as sent and has got nothing")
                    elif status not in (Message.Status.SENT, Message.Status.UNKNOWN):
                        found.append(f"{address} is {status} ({reason}) and has got {arrived} mails")
        found += [f"{address} is nobody's contact and has got a mail" for address in taken]
        if doubted > doubted_most:
            found.append(f"{doubted} mails are in doubt, and {doubted_most} at most were in flight")
        found += map(str, audit.audit_quota().drifts)
        found += map(str, audit_mails(now=now))
        return found

    def _ask(self, what: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.far.urls["control"] + what, data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def set_up(agencies: dict[str, Agency], far: FarEnd, *, senders: int = 30, **changes: dict[str, Any]) -> Scene:
    """Three accounts with room for everything, senders of both agencies on each, and a far end that works."""
    scene = Scene(agencies, far, {})
    scene._ask("reset", {})
    scene.script()
    wide = {"per_day": 1_000_000}
    kinds = ("resend", "sendgrid", "smtp")
    scene.accounts = stage.accounts(far, **{kind: {**wide, **changes.get(kind, {})} for kind in kinds})
    for account in scene.accounts.values():
        account.options |= QUICK["smtp" if account.kind == "smtp" else "http"]
        account.save()
    for agency in agencies.values():
        stage.allot(agency, *scene.accounts.values(), senders=senders, per_day=10_000, per_hour=10_000, domains=3)
    return scene


class Fleet:
    """Workers, each of which may be killed at any time. Use as a context manager, and again and again."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.fleet"],
            cwd=processes.ROOT,
            env=processes.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._heard = threading.Condition()
        self._done = 0
        self.ahead = 0.0
        self.workers: list[int] = []
        self.failures: Counter[str] = Counter()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def close(self) -> None:
        """End it for good."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._listener.join(30)

    @contextmanager
    def working(self, count: int) -> "Iterator[Fleet]":
        """So many workers, whose clocks are right."""
        self.failures.clear()
        self.set_clock(0)
        self._tell(f"workers {count}")
        self._wait(lambda: len(self.workers) == count)
        try:
            yield self
        finally:
            self.workers.clear()
            self._tell("workers 0")

    def kill_one(self, rng: random.Random) -> None:
        """Kill one worker with -9, and wait until another has taken its place."""
        with self._heard:
            victim = self.workers.pop(rng.randrange(len(self.workers)))
            so_many = len(self.workers) + 1
        os.kill(victim, signal.SIGKILL)
        self._wait(lambda: len(self.workers) == so_many)

    def set_clock(self, seconds: float) -> None:
        """Set every worker's clock so far off from the right time."""
        self.ahead = seconds
        self._tell(f"clock {seconds}")

    def now(self) -> datetime:
        """What the workers take for the time."""
        return timezone.now() + timedelta(seconds=self.ahead)

    def _tell(self, what: str) -> None:
        before = self._done
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        self._wait(lambda: self._done > before)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, _, detail = line.strip().partition(" ")
            with self._heard:
                if what == "up":
                    self.workers.append(int(detail))
                elif what == "failed":
                    self.failures[detail] += 1
                else:
                    self._done += 1
                self._heard.notify_all()

    def _wait(self, done: Callable[[], bool]) -> None:
        with self._heard:
            assert self._heard.wait_for(done, timeout=60), "the fleet does not answer"


def wait_for(done: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until something is so; say what did not come when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, f"it took too long until {what()}"
        time.sleep(0.02)


class Watch:
    """Sees to it that a scene goes on: what dead workers hold is taken back as if its lease had ended, and where all
    wait for a moment to come, the workers' clocks are set forward, more and more.

    `still` is for how many seconds nothing changes then. Where workers may be `dead`, no answer takes that long:
    no living worker is at the same mail.
    """

    def __init__(self, scene: Scene, fleet: Fleet, still: float, dead: bool = True) -> None:
        self._scene, self._fleet, self._still, self._dead = scene, fleet, still, dead
        self._changed = time.monotonic()
        self._step = 61.0
        self.seen: Counter[str] = Counter()

    def look(self) -> Counter[str]:
        """How many messages are in each state, and what is to be done about it."""
        found = self._scene.statuses()
        if found != self.seen:
            self.seen, self._changed, self._step = found, time.monotonic(), 61.0
        elif time.monotonic() - self._changed > self._still:
            self._changed = time.monotonic()
            if found["claimed"] and self._dead:
                self._scene.rescue(now=self._fleet.now() + timedelta(minutes=6))
            elif found["scheduled"] and not found["claimed"]:
                self._fleet.set_clock(self._fleet.ahead + self._step)
                self._step *= 4
        return found


def sent_at_least(scene: Scene, fleet: Fleet, count: int) -> None:
    """Wait until so many mails have been sent or are in doubt."""
    watch = Watch(scene, fleet, STILL_SECONDS)
    wait_for(
        lambda: watch.look()["sent"] + watch.seen["unknown"] >= count, lambda: f"{count} of {watch.seen} were sent"
    )


def finish(scene: Scene, fleet: Fleet, *, still: float = STILL_SECONDS, dead: bool = True) -> None:
    """Wait until nothing is left to do."""
    watch = Watch(scene, fleet, still, dead)

    def done() -> bool:
        found = watch.look()
        return not found["scheduled"] and not found["claimed"]

    wait_for(done, lambda: f"everything was sent, and is {watch.seen}")


def shares(total: int, parts: int) -> Sequence[int]:
    """Where `parts` faults come in the course of so many mails."""
    return [total * (number + 1) // (parts + 1) for number in range(parts)]
