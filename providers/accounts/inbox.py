"""Mail that came back to us, stored once as it came, answered, and handled later. The only writer of InboundMail and
InboundDay.

receiving ─► keep     durable before the answer; the server that brings it is not kept waiting
mailboxes ─► keep     before the place of reading moves on
          ─► arrived  somebody should look
take      ─► handled  what it was, and what was wrong with it
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.dispatch import Signal

from providers.accounts.ledger import utc_day
from providers.accounts.models import InboundDay, InboundMail

KEPT = timedelta(days=14)
DAYS_KEPT = timedelta(days=400)
# More of one is never read.
MOST_STORED = 8 << 20
MOST_SHOWN = 20_000
# A mail that could not be handled so often is kept with its trouble, and looked at no more.
ATTEMPTS = 3

# Sent when a mail was stored and nobody has been told of an earlier one that still waits.
arrived = Signal()


def keep(
    sender: str,
    recipients: Sequence[str],
    raw: bytes,
    *,
    size: int | None = None,
    received_at: datetime | None = None,
) -> bool:
    """Store a mail, at most MOST_STORED bytes of it, once; return whether it is new. Returns when it is on disk.

    `size` is how many bytes the mail has if these are not all of it, `received_at` when it came if that is not now.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (sender.encode("utf-8", "replace"), *sorted(one.encode("utf-8", "replace") for one in recipients), raw):
        digest.update(len(part).to_bytes(8, "big") + part)
    row: tuple[UUID, str, list[str], bytes, int, datetime | None] = (
        UUID(bytes=digest.digest()),
        _clean(sender),
        [_clean(one) for one in recipients],
        raw[:MOST_STORED],
        len(raw) if size is None else size,
        received_at,
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_STORE, row)
        stored = cursor.fetchone()
    if stored is None:
        return False
    # After the commit: who handles an earlier one looks once more when it is done, and then sees this one.
    if not InboundMail.objects.filter(handled_at=None, pk__lt=stored[0]).exists():
        arrived.send(sender="providers.accounts.inbox")
    return True


def pending() -> bool:
    """Whether any mail waits to be handled."""
    return InboundMail.objects.filter(handled_at=None).exists()


def take(limit: int, *, after: int = 0) -> list[InboundMail]:
    """The oldest mails later than this one that wait."""
    return list(InboundMail.objects.filter(handled_at=None, pk__gt=after).order_by("pk")[:limit])


def handled(
    mail: InboundMail,
    *,
    kind: str,
    trouble: str = "",
    about: tuple[int, UUID] | None = None,
    now: datetime,
) -> None:
    """It needs no more looking at. `about` is the agency and the key of the mail that it is about."""
    agency_id, message = about or (None, None)
    InboundMail.objects.filter(pk=mail.pk).update(
        handled_at=now, kind=kind, trouble=trouble[:300], agency=agency_id, message=message
    )


def failed(mail: InboundMail, trouble: str, *, now: datetime) -> bool:
    """It could not be handled: it is tried again, but not for ever. Return whether this was the last time."""
    found = InboundMail.objects.filter(pk=mail.pk)
    found.update(attempts=F("attempts") + 1, trouble=trouble[:300])
    return bool(found.filter(attempts__gte=ATTEMPTS).update(handled_at=now))


def count(results: Mapping[InboundDay.Result, int], *, now: datetime) -> None:
    """Add to how mails have ended today."""
    with connection.cursor() as cursor:
        # In one order, so that two processes never wait for each other.
        for result, number in sorted(results.items()):
            cursor.execute(_COUNT, [utc_day(now), result.value, number])


def forget(needles: Sequence[str], *, now: datetime) -> int:
    """Empty the mails in which, or in whose envelope, any of these texts stands, in small letters; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [now, list(needles)])
        return int(cursor.rowcount)


def empty(mail: InboundMail) -> None:
    """Forget what this mail said and who wrote it; that it came stays."""
    InboundMail.objects.filter(pk=mail.pk).update(body=b"", sender="", recipients=[])


def kept_of(digests: Iterable[UUID]) -> set[UUID]:
    """Those of these mails that are still here as they came."""
    found = InboundMail.objects.filter(digest__in=list(digests)).exclude(body=b"")
    return set(found.values_list("digest", flat=True))


def raw(digest: UUID) -> bytes | None:
    """This mail as it came, at most MOST_STORED bytes of it, or None where it is not kept any more."""
    body = InboundMail.objects.filter(digest=digest).values_list("body", flat=True).first()
    return bytes(body) or None if body is not None else None


def headers(mail: InboundMail) -> str:
    """What stands above the mail's text, as much of it as a page can show."""
    shown = bytes(mail.body)[:MOST_SHOWN]
    return re.split(rb"\r?\n\r?\n", shown, maxsplit=1)[0].replace(b"\0", b"").decode("utf-8", "replace")


def prune(*, now: datetime) -> int:
    """Forget mails that were handled and are old; return how many."""
    InboundDay.objects.filter(day__lt=utc_day(now - DAYS_KEPT)).delete()
    return InboundMail.objects.filter(received_at__lt=now - KEPT, handled_at__isnull=False).delete()[0]


def _clean(address: str) -> str:
    return address.replace("\0", "").encode("utf-8", "replace").decode()[:320]


_STORE = """
INSERT INTO accounts_inboundmail (digest, sender, recipients, body, size, received_at)
VALUES (%s, %s, %s, %s, %s, COALESCE(%s, now()))
ON CONFLICT DO NOTHING RETURNING id
"""
_COUNT = """
INSERT INTO accounts_inboundday AS d (day, result, count) VALUES (%s, %s, %s)
ON CONFLICT (day, result) DO UPDATE SET count = d.count + EXCLUDED.count
"""
_FORGET = """
WITH told AS MATERIALIZED (
    SELECT id, lower(encode(body, 'escape') || ' ' || array_to_string(recipients, ' ')) AS said
    FROM accounts_inboundmail WHERE body <> ''
)
UPDATE accounts_inboundmail m
SET body = '', sender = '', recipients = '{}', trouble = '', handled_at = COALESCE(m.handled_at, %s)
FROM told
WHERE told.id = m.id AND EXISTS (SELECT FROM unnest(%s::text[]) AS needle WHERE strpos(told.said, needle) > 0)
"""
