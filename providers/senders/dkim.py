"""DKIM (RFC 6376): the keys of sender domains, and the signing of mails that leave through a mail server.

A key is made, its record published, and only once the DNS check has seen that record does it sign (`switch`); the key
before it stops at once, but its record has to stay for as long as mails may be on their way (KEPT_PUBLISHED).
"""

import base64
import re
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.db import transaction

from providers.accounts.adapters import Sign
from providers.senders.models import DkimKey, SenderDomain
from providers.senders.published import Key, Record

# RFC 8301 section 3.2 asks signers for no less; one TXT string after another holds it.
BITS = 2048
# Mail servers try for five days (RFC 5321 section 4.5.4.1), and readers check later still.
KEPT_PUBLISHED = timedelta(days=7)
# What says whom a mail is from, what it is about and how to opt out of it; RFC 8058 section 4 demands the latter two.
SIGNED = (
    *("from", "to", "subject", "date", "message-id", "reply-to", "in-reply-to", "references"),
    *("mime-version", "content-type", "list-unsubscribe", "list-unsubscribe-post", "list-id", "feedback-id"),
)
_WANTED = frozenset(SIGNED)
_spaces = re.compile(rb"[ \t\r\n]+")
_SIGNATURE_LINE = 72
_PARSED: dict[str, RSAPrivateKey] = {}
_MOST_PARSED = 1_000


def make(domain: SenderDomain, *, now: datetime) -> DkimKey:
    """The domain's next key, made unless there is one that waits for its record."""
    with transaction.atomic():
        SenderDomain.objects.select_for_update(no_key=True).get(pk=domain.pk)
        waiting = domain.dkim_keys.filter(signs_since=None, retired_at=None).defer("private").first()
        if waiting is not None:
            return waiting
        key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return DkimKey.objects.create(
            domain=domain,
            selector=_selector(domain, now),
            private={"key": private.decode()},
            public=base64.b64encode(public).decode(),
            created_at=now,
        )


def _selector(domain: SenderDomain, now: datetime) -> str:
    used = set(domain.dkim_keys.values_list("selector", flat=True))
    day = f"pz{now:%Y%m%d}"
    return next(name for name in (day, *(f"{day}-{number}" for number in range(2, len(used) + 3))) if name not in used)


def in_use(domain: SenderDomain) -> list[DkimKey]:
    """The key that signs and the one that waits for its record, if any, without their private halves."""
    return list(domain.dkim_keys.filter(retired_at=None).defer("private").order_by("pk"))


def record(key: DkimKey) -> Record:
    """What has to be published for it."""
    return Record(str(key), "TXT", Key(key.selector, key.public).value)


def switch(domain: SenderDomain, selector: str, *, now: datetime) -> bool:
    """Let the next key sign, whose record has been seen in the DNS, and forget the one before it; whether it did."""
    with transaction.atomic():
        SenderDomain.objects.select_for_update(no_key=True).get(pk=domain.pk)
        following = domain.dkim_keys.filter(selector=selector, signs_since=None, retired_at=None)
        if not following.exists():
            return False
        domain.dkim_keys.filter(signs_since__isnull=False, retired_at=None).update(retired_at=now, private={})
        return bool(following.update(signs_since=now))


def signer() -> Sign | None:
    """Signs mails of the agency entered now, given the sender's domain and the whole mail; None if it has no key.

    A mail of a domain without a key comes back as it is. It may be called in any thread: nothing is looked up.
    """
    keys = {
        key.domain.name: (key.selector, _parsed(key.public, key.private["key"]))
        for key in DkimKey.objects.filter(signs_since__isnull=False, retired_at=None).select_related("domain")
    }
    if not keys:
        return None

    def sign(domain: str, mail: bytes) -> bytes:
        found = keys.get(domain)
        return mail if found is None else signature(mail, domain, *found) + mail

    return sign


def _parsed(public: str, private: str) -> RSAPrivateKey:
    """A key made ready once per process; the public half names it, so that no secret is kept as text."""
    found = _PARSED.get(public)
    if found is None:
        # Made by `make`, and authenticated as it was decrypted.
        loaded = load_pem_private_key(private.encode(), None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(loaded, RSAPrivateKey)
        if len(_PARSED) >= _MOST_PARSED:
            _PARSED.clear()
        found = _PARSED[public] = loaded
    return found


def signature(mail: bytes, domain: str, selector: str, key: RSAPrivateKey) -> bytes:
    """The header to put above a mail with CRLF line ends: rsa-sha256 over relaxed headers and the relaxed body.

    From is signed once more than it occurs, so that no second one can be added. Without t=, the same mail has the same
    signature.
    """
    head, _, body = mail.partition(b"\r\n\r\n")
    fields = _fields(head)
    names = tuple(name for name in SIGNED if name in fields)
    begun, canonical = _header(domain, selector, names)
    digest = base64.b64encode(sha256(relaxed_body(body)).digest())
    lines = [name.encode() + b":" + fields[name] for name in names]
    signed = b"\r\n".join((*lines, canonical + digest + b"; b="))
    value = base64.b64encode(key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
    cut = (value[start : start + _SIGNATURE_LINE] for start in range(0, len(value), _SIGNATURE_LINE))
    return begun + digest + b";\r\n b=" + b"\r\n ".join(cut) + b"\r\n"


def _fields(head: bytes) -> dict[str, bytes]:
    """The values of the headers to sign by small name, in relaxed form; of a repeated one the last, signed first."""
    found: dict[str, bytes] = {}
    for line in head.replace(b"\r\n ", b"\n ").replace(b"\r\n\t", b"\n\t").split(b"\r\n"):
        raw, _, value = line.partition(b":")
        name = raw.strip().lower().decode("ascii", "replace")
        if name in _WANTED:
            found[name] = relaxed_value(value)
    return found


def relaxed_value(value: bytes) -> bytes:
    """A header's value, perhaps folded, as RFC 6376 section 3.4.2 has it signed."""
    return _spaces.sub(b" ", value).strip(b" ")


def relaxed_body(body: bytes) -> bytes:
    """A body with CRLF line ends as RFC 6376 section 3.4.4 has it hashed."""
    body = body.replace(b"\t", b" ")
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    body = body.replace(b" \r\n", b"\r\n").removesuffix(b" ").rstrip(b"\r\n")
    return body and body + b"\r\n"


@lru_cache(maxsize=1024)
def _header(domain: str, selector: str, names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """The header up to the body's hash, as it is written and as it is signed."""
    # Folded after every fourth name.
    listed = [*names, "from"]
    groups = [":".join(listed[start : start + 4]) for start in range(0, len(listed), 4)]
    head = f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector};"
    written = f"DKIM-Signature: {head}\r\n h=" + ":\r\n  ".join(groups) + ";\r\n bh="
    signed = f"dkim-signature:{head} h=" + ": ".join(groups) + "; bh="
    return written.encode(), signed.encode()
