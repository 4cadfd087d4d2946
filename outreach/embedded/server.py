"""One process's use of the server: started by the first that needs it, stopped by the last.

Two locks lie beside the data. `postgres.lock` is held while one process decides whether the server must be
started or stopped, so commands that start or end at once take turns. `postgres.users` is held shared by every
process that uses the server. The kernel drops it however a process ends, so whoever can have it alone is the
last one out, and stops the server.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg

from outreach.embedded import programs
from outreach.embedded.place import (
    PORT,
    EmbeddedError,
    Place,
    is_linked,
    link,
    open_beside,
    own_folder,
    place_of,
    prepare,
)

WAIT_SECONDS = 60
SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # One migration of many agencies locks every table of each of their schemas.
    "max_locks_per_transaction": "512",
    "idle_in_transaction_session_timeout": "60s",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}

# A server killed with -9 leaves these behind until the last of its processes has noticed.
_PASSING = ("shared memory block", "lock file")


class Server:
    """One process's use of the server of one `var/`."""

    def __init__(self, var: Path) -> None:
        self.var = var.resolve()
        self._users: IO[bytes] | None = None

    def start(self) -> None:
        """Start the server if it does not run, and keep it up until `release`. Raises EmbeddedError."""
        with _deciding(self.var) as place:
            if not is_linked(place, self.var):
                _stop(place)
                link(place, self.var)
            if self._users is None:
                self._users = open_beside(place, "users")
                # A program that takes this one's place, as gunicorn does, goes on using the server.
                os.set_inheritable(self._users.fileno(), True)
                fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                _ensure_running(place)
            except EmbeddedError:
                # It may be replaying its log after a crash, and must be left to it.
                self._users.close()
                self._users = None
                raise

    def release(self) -> None:
        """Stop using the server, and stop it if nobody else uses it."""
        if self._users is None:
            return
        with _undisturbed(), _deciding(self.var) as place:
            # Closed, not unlocked: a forked child shares this lock, and must not end it for its parent.
            self._users.close()
            self._users = None
            with open_beside(place, "users") as users, suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(place)


@contextmanager
def _deciding(var: Path) -> Iterator[Place]:
    place = place_of(var)
    prepare(place, var)
    with open_beside(place, "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place


def _ensure_running(place: Place) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    launched, seen = 0, programs.log_size(place)
    while not _answers(place):
        if launched and not _lives(launched):
            if not any(phrase in programs.log_since(place, seen) for phrase in _PASSING):
                raise EmbeddedError(f"PostgreSQL did not start. {programs.log_tail(place, seen)}")
            launched = 0
        if not launched and not _server_pid(place):
            seen = programs.log_size(place)
            launched = _launch(place)
        if time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL was not ready within {WAIT_SECONDS} s. {programs.log_tail(place, seen)}")
        time.sleep(0.05)


def _answers(place: Place) -> bool:
    host = str(place.sockets)
    try:
        psycopg.connect(host=host, port=PORT, dbname=programs.DATABASE, user=programs.USER, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _server_pid(place: Place) -> int:
    """The process id of a server that is up, coming or going, else 0."""
    pid = programs.written_pid(place)
    if not _lives(pid):
        return 0
    try:
        # The number may have been given to another program since; a server works in its data folder.
        return pid if Path(os.readlink(f"/proc/{pid}/cwd")) == place.data else 0
    except OSError:
        # No /proc, or in a container, whose root may not look at the processes of others.
        return pid


def _lives(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state != "Z"


def _launch(place: Place) -> int:
    """Start the server and return its process id, without waiting for it to be ready."""
    binaries = programs.reachable(place)
    if place.data.exists():
        programs.check_version(place, binaries)
    else:
        programs.create(place, binaries)
    if place.sockets != place.data:
        own_folder(place.sockets, place)
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    # Quoted, because the option is a list, in which a comma would end the name.
    where: list[str | Path] = ["-D", place.data, "-p", PORT, "-k", f'"{place.sockets}"']
    # Through a shell that ends at once: the server must not be a child of ours, for one that died would stay
    # as a zombie, which the next server would take for its living predecessor.
    launched = programs.run(
        place, ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", binaries / "postgres", *where, *settings]
    )
    return int(launched.stdout)


def _stop(place: Place) -> None:
    pid = _server_pid(place)
    if not pid:
        return
    # PostgreSQL's fast shutdown: ends sessions, writes everything down.
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + WAIT_SECONDS
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    if place.sockets != place.data:
        with suppress(OSError):
            place.sockets.rmdir()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C while the server stops must not leave it half way."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
