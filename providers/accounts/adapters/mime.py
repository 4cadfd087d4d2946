"""The one place that turns an envelope into a mail: for anymail as Django's class, for SMTP as ready bytes.

The bytes are built by hand: the standard library's classes take longer for one mail than the wire does.
"""

import binascii
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.mime.base import MIMEBase
from email.utils import format_datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

import idna
from django.core.mail import EmailMultiAlternatives, SafeMIMEMultipart

from providers.accounts.envelope import LONGEST_WORD, Attachment, Envelope
from providers.accounts.errors import MessageRefused

# RFC 2047 section 2: an encoded word has at most 75 characters; 45 octets make 60 of them in base64.
_OCTETS_A_WORD = 45
_LONGEST_LINE = 998
_PHRASE_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !#$%&'*+-/^_`{|}~")


class Mail(EmailMultiAlternatives):
    """Django's, with pictures beside the HTML that shows them and not beside the whole mail (RFC 2387)."""

    def _create_attachments(self, msg: MIMEBase) -> MIMEBase:
        parts = [one for one in self.attachments if isinstance(one, MIMEBase)]
        for subtype, found in (
            ("related", [one for one in parts if "Content-ID" in one]),
            ("mixed", [one for one in parts if "Content-ID" not in one]),
        ):
            if found:
                around = SafeMIMEMultipart(subtype)
                for part in (msg, *found):
                    around.attach(part)
                msg = around
        return msg


class _EncodedPart(MIMEBase):
    """A file as a part of a mail, its base64 made before."""

    def __init__(self, file: Attachment) -> None:
        super().__init__(*file.content_type.split("/"))
        if self.get_content_maintype() == "text":
            self.set_param("charset", "utf-8")
        self.file = file
        for name, value in _headers(file)[1:]:
            self[name] = value
        self.set_payload(file.lines.decode())

    def get_payload(self, i: int | None = None, decode: bool = False) -> Any:
        return self.file.content if decode else super().get_payload(i, decode)


def as_bytes(envelope: Envelope) -> bytes:
    """The whole mail with CRLF line ends, in ASCII unless an address has a local part that is not.

    Raises MessageRefused for a domain that has no ASCII form.
    """
    lines = [
        f"From: {_mailbox(envelope.sender_name, envelope.sender)}",
        f"To: {_mailbox(envelope.recipient_name, envelope.recipient)}",
        f"Subject: {header_value(envelope.subject)}",
        f"Date: {format_datetime(envelope.date or datetime.now(UTC))}",
        f"Message-ID: {envelope.message_id}",
        *(f"{name}: {header_value(value)}" for name, value in sorted(envelope.headers.items())),
        "MIME-Version: 1.0",
    ]
    head = "\r\n".join(lines).encode() + b"\r\n"
    # From the key, so that a second attempt has the same bytes. "=_" cannot occur in quoted-printable text or base64.
    boundary = blake2b(envelope.key.encode(), digest_size=12).hexdigest()
    body = _body(envelope, f"=_{boundary}")
    if not envelope.files:
        return head + body
    if shown := [_file(one) for one in envelope.files if one.content_id]:
        body = _multipart("related", f"=_r{boundary}", [body, *shown])
    if attached := [_file(one) for one in envelope.files if not one.content_id]:
        body = _multipart("mixed", f"=_m{boundary}", [body, *attached])
    return head + body


def as_django(envelope: Envelope, extra_headers: Mapping[str, str]) -> "Mail":
    """The mail for a Django backend. Everything is sorted: a retry must post the same bytes."""
    headers = {**envelope.headers, **extra_headers}
    message = Mail(
        subject=envelope.subject,
        body=envelope.text,
        from_email=envelope.from_email,
        to=[envelope.to],
        headers={"Message-ID": envelope.message_id, **dict(sorted(headers.items()))},
    )
    if envelope.html is not None:
        message.attach_alternative(envelope.html, "text/html")
    for one in envelope.files:
        message.attach(_EncodedPart(one))
    if envelope.metadata:
        message.metadata = dict(sorted(envelope.metadata.items()))  # type: ignore[attr-defined]
    message.idempotency_key = envelope.key  # type: ignore[attr-defined]
    return message


def wire_address(address: str) -> str:
    """An address with its domain in ASCII (RFC 5890); the local part stays as it is."""
    local, _, domain = address.rpartition("@")
    return address if domain.isascii() else f"{local}@{ascii_domain(domain)}"


@lru_cache(maxsize=4096)
def header_value(value: str) -> str:
    """A header's text as it goes over the wire: folded, in encoded words (RFC 2047) if it is not ASCII."""
    # What only looks like an encoded word is encoded as well, or the reader would see something else.
    if not value.isascii() or "=?" in value:
        return "\r\n ".join(
            f"=?utf-8?b?{b64encode(octets).decode()}?=" for octets in _cut_between_characters(value.encode())
        )
    if len(value) <= LONGEST_WORD:
        return value
    return "\r\n ".join(_folded(value))


def _part(content: str, subtype: str) -> bytes:
    """Headers and body of one text part; the headers begin at once, for the caller ends the line before."""
    if "\r" in content:
        content = content.replace("\r\n", "\n").replace("\r", "\n")
    if content.isascii() and max(map(len, content.split("\n"))) <= _LONGEST_LINE:
        encoding, octets = "7bit", content.encode()
    else:
        encoding, octets = "quoted-printable", binascii.b2a_qp(content.encode(), istext=True)
    headers = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return headers.encode() + octets.replace(b"\n", b"\r\n")


def _body(envelope: Envelope, boundary: str) -> bytes:
    plain = _part(envelope.text, "plain")
    if envelope.html is None:
        return plain
    return _multipart("alternative", boundary, [plain, _part(envelope.html, "html")])


def _multipart(subtype: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    between = f"\r\n--{boundary}\r\n".encode()
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    return b"".join((head, between[2:], between.join(parts), f"\r\n--{boundary}--\r\n".encode()))


def _file(file: Attachment) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in _headers(file))
    return head.encode() + b"\r\n" + file.lines


def _headers(file: Attachment) -> list[tuple[str, str]]:
    # RFC 2231 section 4 for names that are not ASCII.
    safe = file.name.isascii() and not set(file.name) & set('"\\')
    name = f'filename="{file.name}"' if safe else f"filename*=utf-8''{quote(file.name, safe='')}"
    text = file.content_type.startswith("text/")
    found = [
        ("Content-Type", f"{file.content_type}; charset=utf-8" if text else file.content_type),
        ("Content-Transfer-Encoding", "base64"),
        ("Content-Disposition", f"{'inline' if file.content_id else 'attachment'}; {name}"),
    ]
    return [*found, ("Content-ID", f"<{file.content_id}>")] if file.content_id else found


def _mailbox(name: str, address: str) -> str:
    address = wire_address(address)
    return f"{_phrase(name)} <{address}>" if name else address


@lru_cache(maxsize=4096)
def _phrase(name: str) -> str:
    if not name.isascii():
        return header_value(name)
    if _PHRASE_SAFE.issuperset(name):
        return name
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


@lru_cache(maxsize=4096)
def ascii_domain(domain: str) -> str:
    """A domain in ASCII (RFC 5890). Raises MessageRefused for one that has no such form."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        raise MessageRefused(f"{domain} is not a valid international domain", field="address") from None


def _cut_between_characters(octets: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(octets):
        end = min(start + _OCTETS_A_WORD, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        yield octets[start:end]
        start = end


def _folded(value: str) -> Iterator[str]:
    line = ""
    for word in value.split(" "):
        if line and len(line) + 1 + len(word) > LONGEST_WORD:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
