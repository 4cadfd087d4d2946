"""A reader leaves: with one click in a mail program, on the page behind the link of a mail, or by a mail back.

The mail that they hold is their way in: its token names it, and nobody can make one up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from campaigns import lifecycle, tokens
from campaigns.models import Contact, Message, Subscription, Suppression
from campaigns.reasons import Reason
from tenants import context

# What its events are reported by.
SOURCE = "opt-out"
ONE_CLICK, PAGE, MAIL = "one click in a mail program (RFC 8058)", "the page behind the link", "a mail back"
ERASURE = "all data of the person was to be erased"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the holder of a mail has asked for already."""

    everything: bool
    this_list: bool


def message_of(token: str) -> Message | None:
    """The mail of the agency entered now whose way out this is; None for a token that is forged, cut or another's."""
    named = tokens.read(token, context.current_schema(), tokens.OPT_OUT)
    if named is None:
        return None
    return Message.objects.select_related("contact", "campaign").filter(key=named[0]).first()


def standing(message: Message) -> Standing:
    """Whether its contact has left for good, or left its list."""
    left = Suppression.objects.filter(value=message.contact.email.lower(), source=Suppression.Source.OPT_OUT)
    lists = set(left.values_list("list_id", flat=True))
    return Standing(None in lists, message.campaign.list_id in lists)


def leave(
    message: Message, *, this_list: bool, how: str, clock: Callable[[], datetime], remote_ip: str | None = None
) -> int:
    """Never write to this mail's contact again, or not for this list; return how many waiting mails that cancels.

    Once it returns, no mail is begun for them any more, not even one that a worker holds. Harmless when repeated: the
    first evidence stays.
    """
    email, list_id = message.contact.email.lower(), message.campaign.list_id if this_list else None
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                _ADD_FOR_LIST if this_list else _ADD,
                [email, list_id, Suppression.Source.OPT_OUT, how, message.pk, remote_ip, clock()],
            )
        if this_list:
            Subscription.objects.filter(list_id=list_id, contact_id=message.contact_id).update(active=False)
        cancelled = lifecycle.cancel_for(message.contact_id, Reason.OPTED_OUT, list_id=list_id)
        # Nothing that sees it begins later than this; what began earlier may have been on its way.
        transaction.on_commit(lambda: _now_in_force(email, clock()))
    return cancelled


def forget(contact: Contact, *, clock: Callable[[], datetime]) -> int:
    """Never write to this contact again, for all that is kept of them will be erased; return how many waiting mails
    that cancels. Call in a transaction."""
    email = contact.email.lower()
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [email, None, Suppression.Source.OPT_OUT, ERASURE, None, None, clock()])
    return lifecycle.cancel_for(contact.pk, Reason.OPTED_OUT)


def _now_in_force(email: str, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_IN_FORCE, [now, email, Suppression.Source.OPT_OUT])


# What a person or a bounce had added could be taken away again: an opt-out may not.
_ADD = """
INSERT INTO campaigns_suppression AS here (value, list_id, source, evidence, message_id, remote_ip, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (value, COALESCE(list_id, 0)) DO UPDATE SET source = EXCLUDED.source, evidence = EXCLUDED.evidence,
    message_id = EXCLUDED.message_id, remote_ip = EXCLUDED.remote_ip, created_at = EXCLUDED.created_at,
    in_force_at = NULL
WHERE here.source IN ('manual', 'bounce')
"""
_IN_FORCE = """
UPDATE campaigns_suppression SET in_force_at = greatest(%s, clock_timestamp())
WHERE value = %s AND source = %s AND in_force_at IS NULL
"""
_ADD_FOR_LIST = """
INSERT INTO campaigns_suppression (value, list_id, source, evidence, message_id, remote_ip, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (value, COALESCE(list_id, 0)) DO NOTHING
"""
