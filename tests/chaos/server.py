"""What happens to PostgreSQL itself: this run's own server, restarted in mid-send."""

import re

import pytest
from django.db import connection

from outreach.embedded import programs
from outreach.embedded.place import Place, place_of
from tests import database


def place() -> Place:
    """Where this run's server is; skips the test where the server is somebody else's."""
    if database.SERVER is None:
        pytest.skip("the PostgreSQL of DATABASE_URL is not ours to break")
    return place_of(database.VAR)


def control(*arguments: str) -> None:
    """Run pg_ctl on this run's server, and wait until it has done it."""
    where = place()
    connection.close()
    # Its own log, for a server that inherits our pipe would keep it open for ever.
    log = where.data.with_name("postgres.log")
    programs.run(where, [programs.reachable(where) / "pg_ctl", *arguments, "-D", where.data, "-w", "-l", log])


def stop(mode: str = "fast") -> None:
    """End it, and let it be gone."""
    control("stop", "-m", mode)


def start() -> None:
    """Start it, if it does not run, as whatever needs it does."""
    place()
    assert database.SERVER is not None
    database.SERVER.start()


def runs() -> bool:
    """Whether it is there, if only to start or to stop."""
    return programs.written_pid(place()) != 0


def crashes() -> int:
    """How often one of its processes has found that it cannot go on, as without room for its log."""
    return programs.log_since(place(), 0).count("PANIC: ")


def needed_of_the_log() -> str:
    """The one file of its log that a server needs which was stopped in good order."""
    where = place()
    told = programs.run(where, [programs.reachable(where) / "pg_controldata", where.data]).stdout
    return re.findall(r"REDO WAL file: +(\w+)", told)[0]


def restart(mode: str) -> None:
    """`fast` ends all sessions in good order; `immediate` is a crash, after which the log is replayed."""
    control("restart", "-m", mode)
