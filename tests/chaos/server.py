"""What happens to PostgreSQL itself: this run's own server, restarted in mid-send."""

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


def restart(mode: str) -> None:
    """`fast` ends all sessions in good order; `immediate` is a crash, after which the log is replayed."""
    control("restart", "-m", mode)
