"""What time it is for everybody: the database's, so that hosts whose clocks differ agree on whose lease is over, and on
when what a page or a command has launched or opened may go."""

import time
from datetime import datetime, timedelta

from django.db import connection


def database_now() -> datetime:
    """The database's time, also within a transaction that began before."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
    return found


class Clock:
    """The database's time, asked for once and carried on by this process's own steady clock. One is for one job."""

    def __init__(self) -> None:
        self._asked = database_now()
        self._at = time.monotonic()

    def __call__(self) -> datetime:
        return self._asked + timedelta(seconds=time.monotonic() - self._at)

    @property
    def age(self) -> float:
        """Seconds since the database was asked."""
        return time.monotonic() - self._at


_ASKED_EVERY_SECONDS = 10.0
_shared: Clock | None = None


def now() -> datetime:
    """The database's time for pages, programs and commands, whatever the clock of their host says."""
    global _shared
    if _shared is None or _shared.age > _ASKED_EVERY_SECONDS:
        _shared = Clock()
    return _shared()
