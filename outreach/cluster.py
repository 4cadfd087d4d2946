"""Web and workers of one machine, started together, watched, and stopped together.

A cluster is watched by what it does, not by its processes: killing one idle django-q2 worker can freeze a whole
cluster that still looks alive. So a canary job is queued every few seconds, every job a cluster runs is written down,
and a cluster that has run none for too long is killed whole and started again. That is safe at any moment: what its
workers held is taken back, or put in doubt, by the lease.

Beside live ones a stopped process would not be missed, so each also leaves marks of life (marks.py). A silent worker is
killed alone, and django-q2 forks another; a silent guard, which starts workers and rings by the schedules, or a silent
monitor takes its cluster with it, once those of its workers that live have finished what they have in their hands: what
is on the wire when a worker is killed is in doubt. Whatever was replaced is an error in the log and a row for the
operator.
"""

import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import Error, connection
from django.db.models.functions import Now

from outreach import embedded, heartbeat, marks, schedules
from outreach.models import Replacement
from providers.accounts import mailboxes
from tenants import context, jobs

logger = logging.getLogger(__name__)

WATCH_EVERY = 1.0
PLAN_EVERY = 60.0
# More waiting jobs than this say enough by themselves; the canaries would only add to the queue.
CANARIES_UNTIL = 50
STOP_SECONDS = 75.0
# A watcher who has not looked for so long was stopped himself, perhaps together with all that he watches.
AWAY_SECONDS = 10.0
# What was replaced is told for so long.
TOLD_FOR = timedelta(days=90)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Retirement:
    """Why a cluster is to be replaced, and until when its workers may finish, by the monotonic clock."""

    part: Replacement.Part
    pid: int
    silent_for: float
    until: float


@dataclass
class Child:
    """One process group that the machine keeps running."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    watched: bool
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    marks: Path | None = None
    retires: Retirement | None = None

    def has(self, pid: int) -> bool:
        """Whether this process is one of the group."""
        try:
            return self.process is not None and os.getpgid(pid) == self.process.pid
        except ProcessLookupError:
            return False


def _inbound() -> Child:
    return Child("inbound", ["inbound"], {"POLZA_ROLE": "command"}, watched=False)


@dataclass
class Machine:
    """Everything that runs on this machine beside the database. Use as a context manager."""

    web_port: int | None
    clusters: int
    workers: int
    bind: str = "127.0.0.1"
    say: Callable[[str], None] = logger.warning
    stop_seconds: float = STOP_SECONDS
    inbound: bool = False
    children: list[Child] = field(default_factory=list)
    _canary_at: float = 0.0
    _planned_at: float = 0.0
    _looked_at: float = 0.0
    _awake_since: float = 0.0

    def __enter__(self) -> "Machine":
        host = socket.gethostname()
        # Addresses in mails and on pages have the port that the site answers on.
        port = {} if self.web_port is None else {"PORT": str(self.web_port)}
        for number in range(1, self.clusters + 1):
            name = f"{host}:{os.getpid()}:{number}"
            environment = {"POLZA_ROLE": "worker", "POLZA_CLUSTER": name, "WORKERS": str(self.workers), **port}
            self.children.append(Child(name, ["work"], environment, watched=True))
        if self.web_port is not None:
            arguments = ["web", "--bind", f"{self.bind}:{self.web_port}"]
            self.children.append(Child("web", arguments, {"POLZA_ROLE": "web", **port}, watched=False))
        if self.inbound:
            self.children.append(_inbound())
        try:
            for child in self.children:
                self._start(child)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watch(self, *, done: Callable[[], bool]) -> None:
        """Keep everything running until `done` says so."""
        while not done():
            self.look_after()
            time.sleep(WATCH_EVERY)

    def look_after(self) -> None:
        """One round: restart what has ended, replace what is silent, queue canaries, heal the schedules."""
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self.say(f"{child.name} ended with {child.process.returncode}; starting it again.")
                self._kill(child)
                self._start(child)
        try:
            self._replace_silent()
            self._feed_and_check()
        except Error as error:
            connection.close()
            self.say(f"The database does not answer the watchdog: {type(error).__name__}.")
            self._revive_database()

    def stop(self) -> None:
        """End every child: ask, wait for running jobs to finish, then end what is left, by its process group."""
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + self.stop_seconds
        for child in self.children:
            if child.process is not None:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.say(f"{child.name} did not stop by itself and is ended.")
                self._kill(child)

    def _feed_and_check(self) -> None:
        now = time.monotonic()
        if now - self._planned_at >= PLAN_EVERY or not self._planned_at:
            self._planned_at = now
            jobs.plan(schedules.SCHEDULES)
            self._take_mail()
        if now - self._canary_at < settings.CANARY_EVERY_SECONDS:
            return
        self._canary_at = now
        if jobs.waiting() < CANARIES_UNTIL:
            for _ in range(2 * self.clusters):
                jobs.enqueue(heartbeat.canary)
        watched = [child for child in self.children if child.watched]
        seen = heartbeat.silent_for([child.name for child in watched])
        for child in watched:
            if child.process is None or child.retires:
                continue
            up = now - max(child.started, self._awake_since)
            silent_for = min(up, seen.get(child.name, up))
            if silent_for >= settings.FROZEN_AFTER_SECONDS:
                pid = child.process.pid
                self._kill(child)
                self._start(child)
                self._report(child, Replacement.Part.CLUSTER, pid, silent_for)

    def _take_mail(self) -> None:
        """Start what reads mailboxes, once there is one; where the web runs, for that is one machine of all."""
        if self.web_port is not None and not self.inbound and mailboxes.any_in_use():
            self.inbound = True
            self.children.append(_inbound())
            self._start(self.children[-1])

    def _replace_silent(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > AWAY_SECONDS:
            self._awake_since = now
        self._looked_at = now
        for child in self.children:
            if child.retires:
                self._end_once_left(child, child.retires)
                continue
            for mark in list(marks.read(child.marks)) if child.marks else ():
                silent_for = now - max(mark.at, self._awake_since)
                if silent_for < settings.FROZEN_AFTER_SECONDS:
                    continue
                if not child.has(mark.pid):
                    # It has ended by itself, and its number may be another's by now.
                    mark.path.unlink(missing_ok=True)
                    continue
                part = Replacement.Part(mark.part)
                if part is not Replacement.Part.WORKER:
                    self._retire(child, part, mark.pid, silent_for)
                    break
                mark.path.unlink(missing_ok=True)
                _signal(mark.pid, signal.SIGKILL)
                self._report(child, part, mark.pid, silent_for)

    def _retire(self, child: Child, part: Replacement.Part, pid: int, silent_for: float) -> None:
        # A job is over by then, or has been ended.
        until = self._looked_at + float(str(settings.Q_CLUSTER["timeout"]))
        child.retires = Retirement(part, pid, silent_for, until)
        found = [mark for mark in marks.read(child.marks) if child.has(mark.pid)] if child.marks else []
        for mark in found:
            if mark.part == Replacement.Part.GUARD:
                # It would fork others for the workers that leave.
                _signal(mark.pid, signal.SIGSTOP)
        for mark in found:
            if mark.part == Replacement.Part.WORKER:
                _signal(mark.pid, jobs.LEAVE)
        self._end_once_left(child, child.retires)

    def _end_once_left(self, child: Child, why: Retirement) -> None:
        now = self._looked_at
        if now < why.until and any(
            mark.part == Replacement.Part.WORKER
            and child.has(mark.pid)
            and now - max(mark.at, self._awake_since) < settings.FROZEN_AFTER_SECONDS
            for mark in (marks.read(child.marks) if child.marks else ())
        ):
            return
        self._kill(child)
        self._start(child)
        self._report(child, why.part, why.pid, why.silent_for)

    def _report(self, child: Child, part: Replacement.Part, pid: int, silent_for: float) -> None:
        told = f"{child.name}: the {part.value} (process {pid}) gave no sign of life for {silent_for:.0f} s"
        self.say(f"{told}; it was killed and is replaced.")
        logger.error("silent and replaced: %s", told)
        with context.public():
            Replacement.objects.filter(at__lt=Now() - TOLD_FOR).delete()
            Replacement.objects.create(cluster=child.name, part=part, process=pid, silent_seconds=int(silent_for))

    def _revive_database(self) -> None:
        # PostgreSQL gives up when its log finds no room on the disk even after a crash; nobody else watches ours.
        if embedded.needed():
            try:
                embedded.start(settings.VAR)
            except embedded.EmbeddedError as error:
                self.say(str(error))

    def _start(self, child: Child) -> None:
        environment = {**os.environ, **child.environment}
        if child.watched:
            try:
                heartbeat.forget(child.name)
            except Error:
                # It is started all the same; how long it is up says as much.
                connection.close()
            child.marks = Path(tempfile.mkdtemp(prefix="polza-marks-"))
            environment[marks.FOLDER] = str(child.marks)
        child.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, str(settings.BASE_DIR / "manage.py"), *child.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        child.started = time.monotonic()

    def _kill(self, child: Child) -> None:
        if child.process is None:
            return
        # The whole group: workers outlive their parents otherwise and go on unsupervised.
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.process = child.retires = None
        if child.marks is not None:
            shutil.rmtree(child.marks, ignore_errors=True)
            child.marks = None


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def die_with_parent() -> None:
    """Let this process and every one it forks end when its parent does, so that nothing works on unsupervised."""
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends; what it forks is not covered."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
