"""Secrets at rest: AES-GCM, with the id of its key in front and its place bound in.

`SECRETS_KEYS` lists id:key pairs; the first encrypts, every one decrypts, so a key is rotated by putting a new one
first and saving every row again (resealing.py). The place (table and column) is authenticated data: a ciphertext that
is moved elsewhere no longer decrypts.
"""

import base64
import json
import secrets as random
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

NONCE = 12


class SecretsField(models.BinaryField):  # type: ignore[type-arg]
    """A dict of texts, stored encrypted. Never editable in a form as it stands and never part of a dump in clear."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        kwargs.setdefault("default", dict)
        super().__init__(*args, **kwargs)

    def get_prep_value(self, value: dict[str, str]) -> bytes:
        return seal(value, place=self._place())

    def from_db_value(self, value: bytes | memoryview | None, *_: Any) -> dict[str, str]:
        # A row that a join has not found.
        return {} if value is None else unseal(bytes(value), place=self._place())

    def get_default(self) -> dict[str, str]:
        return {}

    def to_python(self, value: Any) -> Any:
        # What a dump says instead of the secret.
        return {} if value == "" else value

    def value_to_string(self, obj: models.Model) -> str:
        return ""

    def _place(self) -> str:
        return f"{self.model._meta.label_lower}.{self.name}"


def key_ids() -> list[str]:
    """The ids of the keys, the one that encrypts first."""
    return [key_id for key_id, _cipher in _keys()]


def key_prefix() -> bytes:
    """What everything begins with that the first key has sealed."""
    return _keys()[0][0].encode() + b"\0"


def seal(value: dict[str, str], *, place: str) -> bytes:
    """Encrypt for one place: `key id NUL nonce ciphertext`."""
    _key_id, cipher = _keys()[0]
    nonce = random.token_bytes(NONCE)
    return key_prefix() + nonce + cipher.encrypt(nonce, json.dumps(value).encode(), place.encode())


def unseal(sealed: bytes, *, place: str) -> dict[str, str]:
    """Decrypt; raises ImproperlyConfigured when no key of SECRETS_KEYS fits."""
    key_id, _, rest = sealed.partition(b"\0")
    for known, cipher in _keys():
        if known.encode() == key_id:
            try:
                found: dict[str, str] = json.loads(cipher.decrypt(rest[:NONCE], rest[NONCE:], place.encode()))
            except InvalidTag:
                break
            return found
    raise ImproperlyConfigured(
        f"A secret in {place} was encrypted with the key {key_id.decode(errors='replace')!r}, which SECRETS_KEYS "
        "does not hold (or holds with another value). Put that key back behind the current one."
    )


def _keys() -> list[tuple[str, AESGCM]]:
    return parse_keys(tuple(settings.SECRETS_KEYS))


@lru_cache(maxsize=4)
def parse_keys(lines: tuple[str, ...]) -> list[tuple[str, AESGCM]]:
    """id:base64 lines as ciphers; raises ImproperlyConfigured that names the setting."""
    keys: list[tuple[str, AESGCM]] = []
    for line in lines:
        key_id, _, text = line.partition(":")
        try:
            key = base64.b64decode(text, validate=True)
        except ValueError:
            key = b""
        if not key_id or len(key) != 32:
            raise ImproperlyConfigured(
                "SECRETS_KEYS: each entry is an id, a colon and 32 bytes in base64, such as 2026a:…."
            )
        if key_id in (known for known, _cipher in keys):
            raise ImproperlyConfigured(f"SECRETS_KEYS: two keys have the id {key_id}. Give each its own.")
        keys.append((key_id, AESGCM(key)))
    if not keys:
        raise ImproperlyConfigured("SECRETS_KEYS is empty: give at least one id:base64 key of 32 bytes.")
    return keys
