"""The only writer of Event: each is stored once, whoever repeats it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from providers.accounts.events import Heard
from providers.senders.models import Event

# For so long an event waits for a mail that is not known.
WAITS = timedelta(days=3)


def store(events: Iterable[Heard], *, waits: bool = False) -> list[int]:
    """Write down what is new of these in the agency entered now; return the ids. Call in a transaction, or let them
    wait to be acted on."""
    # In one order, so that two workers with the same events never wait for each other.
    rows = sorted((_row(event) for event in events), key=lambda row: (row[1] or 0, row[2], row[3]))
    if not rows:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_STORE, [waits, *(list(column) for column in zip(*rows, strict=True))])
        return [row[0] for row in cursor.fetchall()]


def wait(ids: Sequence[int]) -> None:
    """The mails of these events are not known yet."""
    Event.objects.filter(pk__in=ids).update(waits=True)


def settle(ids: Sequence[int]) -> None:
    """These events wait no more."""
    Event.objects.filter(pk__in=ids, waits=True).update(waits=False)


def give_up(*, now: datetime) -> int:
    """Look no more at events whose mail has not become known for days; return how many there were."""
    return Event.objects.filter(waits=True, received_at__lt=now - WAITS).update(waits=False)


def _row(event: Heard) -> tuple[Any, ...]:
    return (
        event.message,
        event.account_id,
        event.source,
        _clean(event.raw_id, 255),
        str(event.type),
        # A clock that is ahead of ours must not date anything in the future.
        min(event.at, event.received_at),
        event.received_at,
        _clean(event.recipient, 320),
        _clean(event.detail, 300),
        str(event.bounce_class or ""),
        _clean(event.provider_id, 255),
        str(event.reader or ""),
    )


def _clean(text: str, length: int) -> str:
    """What PostgreSQL stores: no NUL and no half of a surrogate pair, which JSON may name."""
    return text.replace("\0", "").encode(errors="replace").decode()[:length]


# In binary form, which costs a sixth.
_STORE = """
INSERT INTO senders_event (message, account_id, source, raw_id, type, at, received_at, recipient, detail, bounce_class,
    provider_id, reader, waits)
SELECT n.*, w.waits
FROM (SELECT %s::boolean AS waits) w,
     unnest(%b::uuid[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::timestamptz[], %b::timestamptz[],
            %b::text[], %b::text[], %b::text[], %b::text[], %b::text[]) n
ON CONFLICT DO NOTHING
RETURNING id
"""
