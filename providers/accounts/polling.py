"""Keeps a thread for each mailbox that is in use: it reads, waits for the server to tell of more, and comes again."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from django.db import DatabaseError, InterfaceError, connection

from providers.accounts import mailboxes
from providers.accounts.mailboxes import Line
from providers.accounts.models import Mailbox

logger = logging.getLogger(__name__)

# So often it is looked whether mailboxes were added, changed or taken out of use.
WATCH_SECONDS = 15
# What cannot be read is tried again after so long, then after twice as long, and so on.
FIRST_PAUSE, LONGEST_PAUSE = 5, 600
STOP_SECONDS = 5


class Watch(threading.Thread):
    """The thread that starts and stops the others."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(name="mailboxes", daemon=True)
        self._clock = clock
        self._ended = threading.Event()
        self._readers: dict[tuple[object, ...], _Reader] = {}

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except Exception:
                # Such as a database that restarts: nothing may end the watch.
                logger.exception("the mailboxes could not be looked up")
            finally:
                connection.close()
            self._ended.wait(WATCH_SECONDS)
        for reader in self._readers.values():
            reader.stop()

    def stop(self) -> None:
        """End all of it; a mail that is being stored then is stored, or read again the next time."""
        self._ended.set()
        self.join(STOP_SECONDS)
        for reader in self._readers.values():
            reader.join(STOP_SECONDS)

    def _look(self) -> None:
        wanted = {_key(one): one for one in Mailbox.objects.filter(enabled=True)}
        for key in set(self._readers) - set(wanted):
            self._readers.pop(key).stop()
        for key, mailbox in wanted.items():
            if key not in self._readers or not self._readers[key].is_alive():
                self._readers[key] = _Reader(mailbox, self._clock)
                self._readers[key].start()


def _key(mailbox: Mailbox) -> tuple[object, ...]:
    """The same for as long as a connection to it may stay."""
    return (mailbox.pk, mailbox.place, mailbox.port, mailbox.security, mailbox.secret.get("password", ""))


class _Reader(threading.Thread):
    def __init__(self, mailbox: Mailbox, clock: Callable[[], datetime]) -> None:
        super().__init__(name=f"mailbox {mailbox.name}", daemon=True)
        self._mailbox, self._clock = mailbox, clock
        self._ended = threading.Event()
        self._line: Line | None = None

    def run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                with mailboxes.opened(self._mailbox) as line:
                    self._line = line
                    while not self._ended.is_set():
                        mailboxes.read(self._mailbox.pk, line, clock=self._clock, stopped=self._ended.is_set)
                        # What waits for mails must not hold a connection to the database.
                        connection.close()
                        failures = 0
                        mailboxes.wait(line, stopped=self._ended.wait)
            except Exception as error:
                if self._ended.is_set():
                    return
                failures += 1
                self._tell(error)
            finally:
                self._line = None
                connection.close()
            self._ended.wait(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)) if failures else 0)

    def stop(self) -> None:
        """Let it end, also where it waits for the server."""
        self._ended.set()
        if (line := self._line) is not None:
            line.hang_up()

    def _tell(self, error: Exception) -> None:
        expected = (*mailboxes.FAILURES, mailboxes.UnreadableError)
        if not isinstance(error, expected):
            logger.error("a mailbox could not be read", exc_info=error, extra={"mailbox": self._mailbox.name})
        connection.close()
        try:
            mailboxes.failed(self._mailbox.pk, mailboxes.said(error), now=self._clock())
        except (DatabaseError, InterfaceError):
            logger.exception("what is wrong with a mailbox could not be kept", extra={"mailbox": self._mailbox.name})
