"""What is told to others, in one order without gaps: a reader that polls with its last position misses nothing.

A fact and its entry are one transaction, and transactions end in another order than their entries' ids. So an entry
gets its position only when it is seen committed, by whoever holds the agency's lock: the next number, for ever. What is
numbered later comes later, and there is no number that is missing.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.dispatch import Signal

from campaigns.models import Campaign, FeedEntry, Message, Reply, TrialMail
from tenants import context

AT_ONCE = 10_000
# In the space of locks with two numbers, the second being the agency: any constant of our own.
_NUMBERING = 7_302_199
# Sent in the agency, after a transaction in which something was told.
told = Signal()


def tell(entries: Sequence[tuple[int, FeedEntry.Kind, datetime, dict[str, Any]]]) -> None:
    """Tell of mails: id, what, when and what belongs to it. Call in the transaction that made it so."""
    if not entries:
        return
    ids, kinds, times, data = zip(*entries, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_TELL, [list(ids), list(kinds), list(times), [json.dumps(one) for one in data]])
    ring()


def ring() -> None:
    """Say after this transaction, once, that something was told in it. What goes wrong there is for the log."""
    waiting: list[Any] = connection.run_on_commit
    if not any(entry[1] is _ring for entry in waiting):
        transaction.on_commit(_ring, robust=True)


def _ring() -> None:
    told.send(sender="campaigns.feed")


def number() -> int:
    """Give the next positions to entries that are committed and have none; return how many got one.

    Some are left where it returns `AT_ONCE`. It commits to disk, and all that it has seen with it: what was told once
    outlives a crash.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # A statement of its own, before the next looks: that one sees all that the holder before has numbered.
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_NUMBERING, context.current_agency().pk])
        cursor.execute(_NUMBER, [AT_ONCE])
        return int(cursor.rowcount)


def described(entries: Iterable[FeedEntry]) -> list[dict[str, Any]]:
    """These entries as they are told, with the names that what they are about has now."""
    listed = list(entries)
    keys = {entry.message for entry in listed if entry.message}
    mails: dict[UUID, Message] = {
        mail.key: mail
        for mail in Message.objects.filter(key__in=keys)
        .select_related("contact", "step", "sender")
        .only("key", "contact__email", "step__position", "sender__address")
    }
    names = dict(Campaign.objects.filter(pk__in={entry.campaign for entry in listed}).values_list("pk", "name"))
    written = _written(listed)
    return [
        _described(entry, mails.get(entry.message) if entry.message else None, names, written.get(entry.pk, {}))
        for entry in listed
    ]


def _written(entries: Sequence[FeedEntry]) -> dict[int, dict[str, str]]:
    """Who wrote what to whom, of the entries that tell of it first."""
    came = {entry.pk: entry.data["reply"] for entry in entries if entry.kind == FeedEntry.Kind.RECEIVED}
    asked = {entry.pk: entry.data["answer"] for entry in entries if entry.kind == FeedEntry.Kind.ASKED}
    replies = Reply.objects.only("sender", "subject", "text").in_bulk(came.values())
    answers = TrialMail.objects.only("recipient", "subject", "text").in_bulk(asked.values())
    return {
        **{key: {"from": replies[pk].sender, **_words(replies[pk])} for key, pk in came.items() if pk in replies},
        **{key: {"to": answers[pk].recipient, **_words(answers[pk])} for key, pk in asked.items() if pk in answers},
    }


def _words(written: Reply | TrialMail) -> dict[str, str]:
    return {"subject": written.subject, "text": written.text}


def _described(
    entry: FeedEntry, mail: Message | None, names: dict[int, str], written: dict[str, str]
) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if entry.campaign is not None:
        about["campaign"] = {"id": entry.campaign, "name": names.get(entry.campaign, "")}
    if entry.message is not None:
        about["message"] = str(entry.message)
    if mail is not None:
        about["step"] = mail.step.position
        about["address"] = mail.contact.email
        about["sender"] = mail.sender.address if mail.sender else ""
    return {
        "position": entry.position,
        "type": entry.kind,
        "timestamp": entry.at,
        "data": {**about, **written, **entry.data},
    }


_TELL = """
INSERT INTO campaigns_feedentry (kind, at, message, campaign, data)
SELECT n.kind, n.at, m.key, m.campaign_id, n.data::jsonb
FROM unnest(%b::bigint[], %b::text[], %b::timestamptz[], %b::text[]) WITH ORDINALITY AS n (id, kind, at, data, place)
JOIN campaigns_message m ON m.id = n.id
ORDER BY n.place
"""
_NUMBER = """
UPDATE campaigns_feedentry e SET position = n.position
FROM (
    SELECT id, row_number() OVER (ORDER BY id)
        + COALESCE((SELECT max(position) FROM campaigns_feedentry WHERE position IS NOT NULL), 0) AS position
    FROM (SELECT id FROM campaigns_feedentry WHERE position IS NULL ORDER BY id LIMIT %s) AS fresh
) AS n
WHERE e.id = n.id
"""
