import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from providers.accounts.errors import MessageRefused

# RFC 5321 sections 4.5.3.1.1 and 4.5.3.1.2. Quoted local parts are left out: no list of contacts needs them,
# and a comma or a line break inside one is how a second recipient gets in.
_ADDRESS = re.compile(r'[^\x00-\x20\x7f@<>()\[\]\\,;:"]{1,64}@[^\x00-\x20\x7f@<>()\[\]\\,;:"]{1,255}')
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_MESSAGE_ID = re.compile(r"<[^\s<>@\x00]{1,200}@[^\s<>@\x00]{1,255}>")
_LINE_BREAKS = re.compile(r"[\r\n\0]")
_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,100}")
# RFC 2392 section 2: what an address that begins with "cid:" names is a Content-ID without its brackets.
_CONTENT_ID = re.compile(r"[\w.+-]{1,120}@[\w.-]{1,255}", re.ASCII)
# RFC 5322 section 2.1.1 allows 998 octets a line; a header is folded at spaces only.
LONGEST_WORD = 900
_OURS = frozenset(
    [
        "bcc",
        "cc",
        "content-disposition",
        "content-id",
        "content-transfer-encoding",
        "content-type",
        "date",
        "dkim-signature",
        "from",
        "idempotency-key",
        "message-id",
        "mime-version",
        "received",
        "resend-idempotency-key",
        "return-path",
        "sender",
        "subject",
        "to",
        "x-metadata",
    ]
)


@dataclass(frozen=True)
class Attachment:
    """A file that goes with mails: attached, or, with a `content_id`, shown by their HTML as `cid:` and that id.

    `digest` tells its content from any other. It is put into base64 once, however many mails it goes with.
    """

    name: str
    content_type: str
    digest: str
    content: bytes = field(repr=False, compare=False)
    content_id: str = ""

    def __post_init__(self) -> None:
        _check_value("name of a file", self.name)
        if not self.name or not _CONTENT_TYPE.fullmatch(self.content_type):
            raise _refused("file", "needs a name and a type such as application/pdf")
        if self.content_id and not _CONTENT_ID.fullmatch(self.content_id):
            raise _refused("content_id", "must look like logo.png@example.com")

    @cached_property
    def base64(self) -> str:
        """Its content in one line of base64."""
        return b64encode(self.content).decode()

    @cached_property
    def lines(self) -> bytes:
        """Its content in base64, in lines as RFC 2045 section 6.8 wants them."""
        whole = self.base64
        return "\r\n".join(whole[start : start + 76] for start in range(0, len(whole), 76)).encode()


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail to one recipient, ready for the wire and checked: raises MessageRefused that names the field.

    `key` is the idempotency key: the same for every attempt of a message through one account.
    The same envelope always makes the same bytes for Resend; in MIME too if it has a `date`.
    `envelope_sender` is the return path of SMTP: None is the sender's address, "" the null path of RFC 5321
    section 4.5.5. Providers with an HTTP interface have return paths of their own.
    """

    key: str
    sender: str
    recipient: str
    subject: str
    text: str
    message_id: str
    html: str | None = None
    sender_name: str = ""
    recipient_name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    envelope_sender: str | None = None
    date: datetime | None = None
    files: tuple[Attachment, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self.check()

    @property
    def from_email(self) -> str:
        """The sender as a header shows it, not yet encoded."""
        return _formatted(self.sender_name, self.sender)

    @property
    def to(self) -> str:
        """The recipient as a header shows it, not yet encoded."""
        return _formatted(self.recipient_name, self.recipient)

    @property
    def return_path(self) -> str:
        """The address of MAIL FROM, "" for the null path."""
        return self.sender if self.envelope_sender is None else self.envelope_sender

    def check(self) -> None:
        """Refuse what could become another header, another recipient or a broken mail."""
        if not (1 <= len(self.key) <= 256 and self.key.isascii() and self.key.isprintable()):
            raise _refused("key", "must be 1-256 printable ASCII characters")
        if not _ADDRESS.fullmatch(self.sender):
            raise _refused("sender", "must be one bare address, such as anna@example.com")
        if not _ADDRESS.fullmatch(self.recipient):
            raise _refused("recipient", "must be exactly one bare address, such as anna@example.com")
        if self.envelope_sender and not _ADDRESS.fullmatch(self.envelope_sender):
            raise _refused("envelope_sender", "must be one bare address")
        if not _MESSAGE_ID.fullmatch(self.message_id):
            raise _refused("message_id", "must look like <unique@example.com>")
        for name in ("subject", "sender_name", "recipient_name"):
            _check_value(name, getattr(self, name))
        self._check_headers()
        for name, value in self.metadata.items():
            _check_value(f"metadata {name!r}", name + value)
        _check_text("text", self.text)
        if self.html is not None:
            _check_text("html", self.html)
        if self.html is None and any(file.content_id for file in self.files):
            raise _refused("files", "may only be shown by HTML, and there is none")

    def _check_headers(self) -> None:
        seen = set()
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise _refused(f"header {name[:40]!r}", "its name may only have letters, digits and hyphens")
            lower = name.lower()
            if lower in _OURS:
                raise _refused(f"header {name}", "is written by the engine itself")
            if lower in seen:
                raise _refused(f"header {name}", "is given twice")
            seen.add(lower)
            _check_value(f"header {name}", value)


def _formatted(name: str, address: str) -> str:
    if not name:
        return address
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>'


def _check_value(name: str, value: str) -> None:
    if _LINE_BREAKS.search(value):
        raise _refused(name, "may not have a line break or a NUL in it")
    if len(value) > LONGEST_WORD and any(len(word) > LONGEST_WORD for word in value.split(" ")):
        raise _refused(name, f"has more than {LONGEST_WORD} characters without a space")
    if not value.isascii():
        _check_encodable(name, value)


def _check_text(name: str, value: str) -> None:
    if "\0" in value:
        raise _refused(name, "may not have a NUL in it")
    if not value.isascii():
        _check_encodable(name, value)


def _check_encodable(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(name, "has half of a surrogate pair in it, which is not a character") from None


def _refused(name: str, why: str) -> MessageRefused:
    return MessageRefused(f"{name} {why}", field=name)
