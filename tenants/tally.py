"""Counts that are kept in memory and written together: a flood costs a statement every few seconds."""

import atexit
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

from django.db import connection

logger = logging.getLogger(__name__)

WRITE_SECONDS = 5.0

Key = TypeVar("Key")


class Tally(Generic[Key]):
    """Of one process, for any of its threads. Keys are few. What a process that dies has not written yet is lost.

    `write` adds counts to what is stored; where it fails, they are kept for the next time.
    """

    def __init__(self, write: Callable[[Counter[Key]], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._counts: Counter[Key] = Counter()
        self._timer: threading.Timer | None = None
        self._pid = 0

    def add(self, key: Key) -> None:
        """Count one more."""
        with self._lock:
            if self._pid != os.getpid():
                # Threads do not survive a fork, and what was counted before it is the parent's.
                self._pid, self._timer, self._counts = os.getpid(), None, Counter()
                atexit.register(self.flush)
            self._counts[key] += 1
            self._await()

    def flush(self) -> None:
        """Write what was counted, in this thread."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            self._write(counts)
        except Exception:
            logger.exception("counts could not be written: they are kept for now")
            with self._lock:
                self._counts.update(counts)
                self._await()

    def _await(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(WRITE_SECONDS, self._due)
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        finally:
            connection.close()
