"""The signed envelope sender of a mail (VERP), so that a bounce names its message even when it quotes nothing. Pure.

`b+<token>@<domain>`: the token is the agency and the message with a MAC over both and the prefix, in base32, because
mail servers may change the case of letters. 48 characters: a local part may have 64 (RFC 5321 section 4.5.3.1.1).
"""

import base64
import binascii
import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

BOUNCE = "b"

_FORMAT = 1
_MAC_BYTES = 9
_TOKEN_BYTES = 1 + 4 + 16 + _MAC_BYTES
_ADDRESS = re.compile(r"\s*<?([a-z]{1,8})[+=-]([a-z2-7]{48})@[^@\s]+\s*", re.I)


@dataclass(frozen=True, slots=True)
class Named:
    """What a token names: the agency by its id, the message by its key."""

    agency: int
    message: uuid.UUID


def make(agency: int, message: uuid.UUID, *, keys: Sequence[bytes], prefix: str = BOUNCE) -> str:
    """The local part of an envelope sender. Signs with the first key. Raises ValueError without key or agency."""
    if not keys:
        raise ValueError("A token needs at least one key.")
    if not 0 < agency < 1 << 32:
        raise ValueError("The id of an agency is a positive number of 32 bits.")
    named = bytes([_FORMAT]) + agency.to_bytes(4, "big") + message.bytes
    token = base64.b32encode(named + _mac(keys[0], prefix, named)).decode().rstrip("=").lower()
    return f"{prefix}+{token}"


def read(address: str, *, keys: Sequence[bytes], prefix: str = BOUNCE) -> Named | None:
    """What the token in an address names, or None if there is none that one of the keys signed.

    Old keys stay in `keys` behind the current one for as long as mails sent with them may come back.
    """
    match = _ADDRESS.match(address[:400])
    if match is None or match[1].lower() != prefix:
        return None
    try:
        raw = base64.b32decode(match[2].upper())
    except binascii.Error:
        return None
    named, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if len(raw) != _TOKEN_BYTES or named[0] != _FORMAT:
        return None
    if not any(hmac.compare_digest(mac, _mac(key, prefix, named)) for key in keys):
        return None
    return Named(int.from_bytes(named[1:5], "big"), uuid.UUID(bytes=named[5:]))


def _mac(key: bytes, prefix: str, named: bytes) -> bytes:
    return hmac.digest(key, b"verp\0" + prefix.encode() + b"\0" + named, hashlib.sha256)[:_MAC_BYTES]
