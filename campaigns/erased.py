"""Who was erased: told by keyed hashes of addresses, of which nobody can make the addresses again.

A contact of an erased person is refused where it would be made, so those who only read contacts (the claim, the moment
before sending) need not ask. A launch looks once more, at contacts that are younger than the first erasure.
"""

import hmac
import secrets
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import Min

from campaigns.models import Contact, Erasure, ErasureKey, Message, TrialMail
from providers.accounts.models import OperatorErasure, OperatorErasureKey

Key = TypeVar("Key", ErasureKey, OperatorErasureKey)

_AT_ONCE = 10_000
_SCOPES: tuple[tuple[Any, Any], ...] = ((ErasureKey, Erasure), (OperatorErasureKey, OperatorErasure))
# Any constant of our own; the other half of the lock's name is the schema.
_LOCK = 730_219


def hold() -> None:
    """Until this transaction ends nobody is erased here, so who is not among the erased now stays so."""
    _lock("pg_advisory_xact_lock_shared")


def hold_alone() -> None:
    """Until this transaction ends no contact comes in here."""
    _lock("pg_advisory_xact_lock")


def among(addresses: Iterable[str]) -> set[str]:
    """Those of these addresses whose person was erased, in the agency entered now or everywhere."""
    found: set[str] = set()
    known = [(key, rows) for keys, rows in _SCOPES if rows.objects.exists() for key in keys.objects.all()]
    waiting = iter(addresses if known else ())
    while some := list(islice(waiting, _AT_ONCE)):
        for key, rows in known:
            digests = {digest(key, address): address for address in some}
            hits = rows.objects.filter(digest__in=list(digests)).values_list("digest", flat=True)
            found |= {digests[bytes(hit)] for hit in hits}
    return found


def back(list_id: int) -> Iterator[Contact]:
    """Contacts of a list who were erased and have come back by a way that did not ask."""
    first = min(
        filter(None, (rows.objects.aggregate(first=Min("asked_at"))["first"] for _keys, rows in _SCOPES)), default=None
    )
    if first is None:
        return
    younger = Contact.objects.filter(
        subscriptions__list=list_id, subscriptions__active=True, created_at__gte=first, erased_at=None
    )
    waiting = younger.order_by("pk").iterator(_AT_ONCE)
    while some := list(islice(waiting, _AT_ONCE)):
        hits = among(contact.email for contact in some)
        yield from (contact for contact in some if contact.email in hits)


def digest(key: ErasureKey | OperatorErasureKey, address: str) -> bytes:
    """What is kept of an address."""
    return hmac.digest(bytes.fromhex(key.secret["key"]), address.lower().encode(), sha256)


def newest(keys: type[Key]) -> Key:
    """The key that makes new hashes."""
    rows: Any = keys
    found: Key = rows.objects.order_by("-pk").first() or rows.objects.create(secret={"key": secrets.token_hex(32)})
    return found


def mails(keys: Iterable[UUID]) -> set[UUID]:
    """Those of these mails, by their keys, that went to people who were erased."""
    if not Erasure.objects.exists():
        return set()
    every = list(keys)
    found = Message.objects.filter(key__in=every, contact__erased_at__isnull=False).values_list("key", flat=True)
    return {*found, *TrialMail.objects.filter(key__in=every, recipient="").values_list("key", flat=True)}


def scrub(event_ids: Sequence[int]) -> None:
    """What these events say of people who were erased is forgotten; that it happened stays."""
    if Erasure.objects.exists():
        with connection.cursor() as cursor:
            cursor.execute(_SCRUB, [list(event_ids)])


def _lock(kind: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {kind}(%s, hashtext(current_schema()))", [_LOCK])


_SCRUB = """
UPDATE senders_event e SET recipient = '', detail = '', provider_id = ''
FROM campaigns_message m JOIN campaigns_contact p ON p.id = m.contact_id AND p.erased_at IS NOT NULL
WHERE e.id = ANY(%s) AND m.key = e.message
"""
