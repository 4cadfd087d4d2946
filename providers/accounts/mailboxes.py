"""Mailboxes that are read by IMAP, where mail that comes back cannot reach `manage.py inbound`.

opened ─► read      what is new since the last time, by UIDVALIDITY and UID        ─► inbox.keep
       ─► wait      until the server tells of something (IDLE, RFC 2177), or some time is over
check     can it be signed in to and read?                                        (the operator's button)

Nothing is changed in a mailbox, and nothing is marked as read. A mail is stored before the place of reading moves on,
and one that is read twice is stored once.
"""

import email.parser
import logging
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import getaddresses, parseaddr
from imaplib import IMAP4

from django.db.models import F
from imap_tools import BaseMailBox, ImapToolsError, MailBox, MailBoxStartTls, MailBoxUnencrypted

from providers.accounts import inbox
from providers.accounts.models import Mailbox
from providers.accounts.receiving import MOST_RECIPIENTS

logger = logging.getLogger(__name__)

# Seconds that a server may take for an answer.
PATIENCE = 30
# After so long it is looked for new mails though nobody has told of any; a wait has no other end where the server tells
# nothing. RFC 2177 lets a server hang up after 30 minutes.
LOOK_SECONDS = 120
# So often a mail is asked for that the server does not give; then it is skipped.
TRIES = 3
# Where a mailbox is new to us, or was made anew, mails of so many days are read.
HISTORY = inbox.KEPT

FAILURES = (OSError, IMAP4.error, ImapToolsError, ValueError)
# Of the addresses a mail came to, the envelope's stand first.
_RECIPIENTS = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-delivered-to", "to")
_MOST_HEADERS = 100_000
_SIZE = re.compile(rb"RFC822\.SIZE (\d+)")
_ARRIVED = re.compile(rb'INTERNALDATE "([^"]+)"')


class UnreadableError(Exception):
    """The mailbox cannot be read, for a reason that a person can do something about."""


@dataclass
class Line:
    """A connection that is signed in, its folder selected for reading."""

    box: BaseMailBox
    validity: int
    next_uid: int
    idles: bool
    tries: Counter[int] = field(default_factory=Counter)

    def hang_up(self) -> None:
        """End it at once, whoever waits for it; callable from another thread."""
        with suppress(OSError):
            self.box.client.sock.shutdown(2)


@contextmanager
def opened(mailbox: Mailbox) -> Iterator[Line]:
    """Connect, sign in and select the folder. Raises one of FAILURES or UnreadableError."""
    box = _connected(mailbox)
    try:
        password = mailbox.secret.get("password", "")
        sign_in = box.login if (mailbox.username + password).isascii() else box.login_utf8
        sign_in(mailbox.username, password, None)
        # What a server can do it says anew to whom it knows.
        capabilities = b" ".join(box.client.capability()[1]).upper().split()
        box.folder.set(mailbox.folder, readonly=True)
        validity, next_uid = (_number(box, name) for name in ("UIDVALIDITY", "UIDNEXT"))
        if not validity:
            raise UnreadableError("The server gives no UIDVALIDITY, so what was read cannot be told from what was not.")
        yield Line(box, validity, next_uid, b"IDLE" in capabilities)
    finally:
        with suppress(*FAILURES):
            box.client.shutdown()


def read(mailbox_id: int, line: Line, *, clock: Callable[[], datetime], stopped: Callable[[], bool]) -> int:
    """Store what is new; return how many mails that were. Raises one of FAILURES when the line breaks."""
    mailbox = Mailbox.objects.get(pk=mailbox_id)
    if (mailbox.cursor_of, mailbox.uid_validity) == (mailbox.place, line.validity):
        uids = _found(line, f"UID {mailbox.last_uid + 1}:*")
        last = mailbox.last_uid
    else:
        uids = _found(line, f"SINCE {clock() - HISTORY:%d-%b-%Y}")
        last = (uids[0] if uids else line.next_uid or 1) - 1
        Mailbox.objects.filter(pk=mailbox.pk).update(cursor_of=mailbox.place, uid_validity=line.validity, last_uid=last)
    new = 0
    # A server answers "UID 8:*" with the last mail, whatever its number.
    for uid in (one for one in uids if one > last):
        if stopped():
            return new
        new += _read_one(mailbox, line, uid, clock)
    Mailbox.objects.filter(pk=mailbox.pk).update(read_at=clock(), failing_since=None, trouble="")
    return new


def wait(line: Line, *, stopped: Callable[[float], bool]) -> None:
    """Return when the server tells of something, or when it is time to look. `stopped` waits so many seconds."""
    if line.idles:
        line.box.idle.wait(timeout=LOOK_SECONDS)
    elif not stopped(LOOK_SECONDS):
        line.box.client.noop()


def failed(mailbox_id: int, trouble: str, *, now: datetime) -> None:
    """The mailbox could not be read."""
    found = Mailbox.objects.filter(pk=mailbox_id)
    found.update(trouble=_clean(trouble))
    found.filter(failing_since=None).update(failing_since=now)


def check(mailbox: Mailbox) -> int:
    """How many mails are in the folder, after connecting as reading does; raises UnreadableError that says why not."""
    try:
        with opened(mailbox) as line:
            return len(_found(line, "ALL"))
    except FAILURES as error:
        raise UnreadableError(said(error)) from error


def any_in_use() -> bool:
    """Whether there is a mailbox to read."""
    return Mailbox.objects.filter(enabled=True).exists()


def said(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _clean(
            f"The server's certificate is not to be trusted: {error.verify_message}. No password was sent to it."
        )
    if isinstance(error, ssl.SSLError):
        why = (error.reason or str(error)).replace("_", " ").lower()
        return _clean(f"The server does not speak TLS at this port ({why}): another port, or STARTTLS?")
    return _clean(str(error) or type(error).__name__)


def _connected(mailbox: Mailbox) -> BaseMailBox:
    where = {"host": mailbox.host, "port": mailbox.port, "timeout": PATIENCE}
    match mailbox.security:
        case Mailbox.Security.TLS:
            return MailBox(**where, ssl_context=ssl.create_default_context())
        case Mailbox.Security.STARTTLS:
            return MailBoxStartTls(**where, ssl_context=ssl.create_default_context())
        case _:
            return MailBoxUnencrypted(**where)


def _number(box: BaseMailBox, name: str) -> int:
    found = box.client.response(name)[1]
    return int(found[-1]) if found and found[-1] else 0


def _found(line: Line, criteria: str) -> list[int]:
    return sorted({int(uid) for uid in line.box.uids(criteria, charset=None)})


def _read_one(mailbox: Mailbox, line: Line, uid: int, clock: Callable[[], datetime]) -> int:
    line.tries[uid] += 1
    parts = f"(UID RFC822.SIZE INTERNALDATE BODY.PEEK[]<0.{inbox.MOST_STORED}>)"
    answer, data = line.box.client.uid("FETCH", str(uid), parts)
    given = next((one for one in data if isinstance(one, tuple)), None) if answer == "OK" else None
    if given is not None:
        about = b" ".join(one[0] if isinstance(one, tuple) else one for one in data if one)
        size = _SIZE.search(about)
        raw = bytes(given[1])
        sender, recipients = _envelope(raw)
        stored = inbox.keep(
            sender, recipients, raw, size=int(size[1]) if size else len(raw), received_at=_arrived(about, clock())
        )
        _read_to(mailbox, uid, stored=int(stored))
        return int(stored)
    if answer == "OK":
        # Somebody has deleted it meanwhile.
        _read_to(mailbox, uid)
    elif line.tries[uid] >= TRIES:
        logger.error("a mail in a mailbox could not be read", extra={"mailbox": mailbox.name, "uid": uid})
        _read_to(mailbox, uid, skipped=1)
    else:
        raise UnreadableError(f"The server does not give the mail with the UID {uid}: {_clean(repr(data))}")
    return 0


def _read_to(mailbox: Mailbox, uid: int, *, stored: int = 0, skipped: int = 0) -> None:
    """Move the place of reading on, unless it was moved elsewhere."""
    found = Mailbox.objects.filter(pk=mailbox.pk, cursor_of=mailbox.place, last_uid__lt=uid)
    found.update(last_uid=uid, stored=F("stored") + stored, skipped=F("skipped") + skipped)


def _envelope(raw: bytes) -> tuple[str, list[str]]:
    """The sender and the recipients of a mail, as the server that delivered it has written them above it."""
    headers = email.parser.BytesHeaderParser().parsebytes(raw[:_MOST_HEADERS])
    sender = parseaddr(str(headers.get("return-path", "")))[1]
    for name in _RECIPIENTS:
        found = getaddresses([str(value) for value in headers.get_all(name, [])])
        if addresses := [address for _name, address in found if "@" in address]:
            return sender, list(dict.fromkeys(addresses))[:MOST_RECIPIENTS]
    return sender, []


def _arrived(about: bytes, now: datetime) -> datetime:
    """When the mail came into the mailbox, but not in the future."""
    if found := _ARRIVED.search(about):
        with suppress(ValueError):
            return min(datetime.strptime(found[1].decode().strip(), "%d-%b-%Y %H:%M:%S %z"), now)
    return now


def _clean(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:300]
