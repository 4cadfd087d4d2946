"""The one place that turns an envelope into a mail: for anymail as Django's class, for SMTP as ready bytes.

The bytes are built by hand: the standard library's classes take longer for one mail than the wire does.
"""

import binascii
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from hashlib import blake2b

import idna
from django.core.mail import EmailMultiAlternatives

from providers.accounts.envelope import LONGEST_WORD, Envelope
from providers.accounts.errors import MessageRefused

# RFC 2047 section 2: an encoded word has at most 75 characters; 45 octets make 60 of them in base64.
_OCTETS_A_WORD = 45
_LONGEST_LINE = 998
_PHRASE_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !#$%&'*+-/^_`{|}~")


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
    plain = _part(envelope.text, "plain")
    if envelope.html is None:
        return "\r\n".join(lines).encode() + b"\r\n" + plain
    # From the key, so that a second attempt has the same bytes. "=_" cannot occur in quoted-printable text.
    boundary = "=_" + blake2b(envelope.key.encode(), digest_size=12).hexdigest()
    lines.append(f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n')
    between = f"\r\n--{boundary}\r\n".encode()
    return b"".join(
        (
            "\r\n".join(lines).encode(),
            between[2:],
            plain,
            between,
            _part(envelope.html, "html"),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def as_django(envelope: Envelope, extra_headers: Mapping[str, str]) -> EmailMultiAlternatives:
    """The mail for a Django backend. Everything is sorted: a retry must post the same bytes."""
    headers = {**envelope.headers, **extra_headers}
    message = EmailMultiAlternatives(
        subject=envelope.subject,
        body=envelope.text,
        from_email=envelope.from_email,
        to=[envelope.to],
        headers={"Message-ID": envelope.message_id, **dict(sorted(headers.items()))},
    )
    if envelope.html is not None:
        message.attach_alternative(envelope.html, "text/html")
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
