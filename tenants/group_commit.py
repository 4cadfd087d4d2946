"""What many threads bring to be written is written many at a time: thousands a second, each durable when it returns.

Whoever comes while a batch is written makes up the next one, so a batch grows with the load by itself, and there is
nothing to lose when a process stops, however it does.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from django.db import connection

logger = logging.getLogger(__name__)

# So long an item may wait to be written, and so often at most `after` is called.
WRITE_SECONDS = 5.0
AFTER_SECONDS = 0.5
MOST_AT_ONCE = 1_000

Item = TypeVar("Item")


class NotKeptError(RuntimeError):
    """The item could not be written down in time."""


class _Waiting(Generic[Item]):
    """An item whose bringer waits for it to be durable."""

    __slots__ = ("done", "failed", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = threading.Event()
        self.failed = False


class GroupCommit(Generic[Item]):
    """Writes the items of one process, in a thread of its own that begins with the first.

    `write` makes items durable that have the same `kind`; `after` is called a moment after something was written, and
    at the end. What they raise is logged; whose item it was hears NotKeptError.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[Item]], None],
        after: Callable[[], None],
        kind: Callable[[Item], Hashable] = lambda _: None,
    ) -> None:
        self._name, self._write, self._after, self._kind = name, write, after, kind
        self._wake = threading.Condition()
        self._waiting: list[_Waiting[Item]] = []
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closing = False

    def keep(self, item: Item) -> None:
        """Return once the item is durable; raises NotKeptError if it does not become so in time."""
        one = _Waiting(item)
        with self._wake:
            # Only now: a thread does not survive the fork that makes a worker.
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._waiting.append(one)
            self._wake.notify()
        if not one.done.wait(WRITE_SECONDS) or one.failed:
            raise NotKeptError

    def close(self) -> None:
        """Do what is left to do, and end the thread."""
        if self._thread is None or self._pid != os.getpid():
            return
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(WRITE_SECONDS)

    def _run(self) -> None:
        owed, next_at = False, 0.0
        while not self._closing or self._waiting:
            with self._wake:
                if not (self._waiting or self._closing):
                    self._wake.wait(AFTER_SECONDS if owed else None)
                batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            by_kind: dict[Hashable, list[_Waiting[Item]]] = {}
            for one in batch:
                by_kind.setdefault(self._kind(one.item), []).append(one)
            for same in by_kind.values():
                self._write_down(same)
            owed = owed or bool(batch)
            if owed and time.monotonic() >= next_at:
                self._follow_up()
                owed, next_at = False, time.monotonic() + AFTER_SECONDS
        self._follow_up()
        connection.close()

    def _write_down(self, batch: Sequence[_Waiting[Item]]) -> None:
        try:
            self._write([one.item for one in batch])
        except Exception:
            logger.exception("nothing was written", extra={"of": self._name, "count": len(batch)})
            connection.close()
            for one in batch:
                one.failed = True
        for one in batch:
            one.done.set()

    def _follow_up(self) -> None:
        try:
            self._after()
        except Exception:
            logger.exception("what follows from what was written was not done", extra={"of": self._name})
            connection.close()
