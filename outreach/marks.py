"""Signs of life of single processes of a cluster, in memory-sized files of this machine that outlive who wrote them.

A heartbeat (heartbeat.py) tells that a cluster runs jobs; marks tell which of its processes has stopped. A process
writes the time into its own file again and again: a worker by a thread, for it may be at one job for a minute; the
guard, which is also the scheduler, in each of its rounds. Whoever is stopped, or cannot get on, writes nothing.
"""

import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from tenants import jobs

FOLDER = "POLZA_MARKS"
EVERY_SECONDS = 1.0
# After its time-out and this, django-q2 has ended a job; whoever is at it still is stuck, whatever his threads do.
GRACE_SECONDS = 10
_FORMAT = struct.Struct("d")


@dataclass(frozen=True, slots=True)
class Mark:
    """When a process last gave a sign of life, in seconds of this machine's monotonic clock."""

    part: str
    pid: int
    at: float
    path: Path


class Marker:
    """One process's own mark."""

    def __init__(self, folder: str, part: str) -> None:
        self.pid = os.getpid()
        self._path = Path(folder, f"{part}.{self.pid}")
        self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._job_began: float | None = None
        self.leave()

    def leave(self) -> None:
        """Write the time, unless the job that runs should be over for long."""
        now = time.monotonic()
        if not stuck(self._job_began, now):
            os.pwrite(self._file, _FORMAT.pack(now), 0)

    def job(self, *, running: bool) -> None:
        """A job begins or ends in this process."""
        self._job_began = time.monotonic() if running else None

    def erase(self) -> None:
        """This process ends by itself."""
        self._path.unlink(missing_ok=True)

    def keep_leaving(self) -> None:
        """Write the time until this process ends."""
        threading.Thread(target=self._keep_leaving, name="marks", daemon=True).start()

    def _keep_leaving(self) -> None:
        while True:
            self.leave()
            time.sleep(EVERY_SECONDS)


_marker: Marker | None = None


def listen() -> None:
    """Let the processes of clusters leave marks, where a machine watches them."""
    if os.environ.get(FOLDER):
        jobs.began.connect(_begin, dispatch_uid="outreach.marks.began")
        jobs.guarded.connect(_guarded, dispatch_uid="outreach.marks.guarded")
        jobs.ran.connect(_ran, dispatch_uid="outreach.marks.ran")
        jobs.left.connect(_left, dispatch_uid="outreach.marks.left")


def read(folder: Path) -> Iterator[Mark]:
    """The marks left there."""
    for path in folder.iterdir():
        part, _, pid = path.name.partition(".")
        with suppress(struct.error, FileNotFoundError):
            yield Mark(part, int(pid), _FORMAT.unpack(path.read_bytes())[0], path)


def stuck(job_began: float | None, now: float) -> bool:
    """Pure: whether a job that began then should have been ended by now."""
    longest = float(str(settings.Q_CLUSTER["timeout"])) + GRACE_SECONDS
    return job_began is not None and now - job_began > longest


def _begin(part: str, **_: Any) -> None:
    marker = _mine(part)
    # What forks has no threads: a lock that one of them holds would be held in the child for ever.
    marker.keep_leaving()


def _guarded(**_: Any) -> None:
    _mine("guard").leave()


def _ran(running: bool, **_: Any) -> None:
    if _marker is not None and _marker.pid == os.getpid():
        _marker.job(running=running)


def _left(**_: Any) -> None:
    if _marker is not None and _marker.pid == os.getpid():
        _marker.erase()


def _mine(part: str) -> Marker:
    global _marker
    # A forked process inherits its parent's.
    if _marker is None or _marker.pid != os.getpid():
        _marker = Marker(os.environ[FOLDER], part)
    return _marker
