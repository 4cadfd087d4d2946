"""A reader leaves: with one click in a mail program, on the page behind the link of a mail, or by a mail back. On that
page they may also leave some lists alone, or have a pause.

The mail that they hold is their way in: its token names it, and nobody can make one up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from campaigns import consent, lifecycle, tokens
from campaigns.consent import Evidence, Source
from campaigns.models import Contact, ContactList, Message, Pause, Subscription, Suppression
from campaigns.reasons import Reason
from tenants import context, visits

# What its events are reported by.
SOURCE = "opt-out"
ONE_CLICK, PAGE, MAIL = "one click in a mail program (RFC 8058)", "the page behind the link", "a mail back"
ERASURE = "all data of the person was to be erased"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the holder of a mail has asked for already. `lists` are those that they are on, the mail's own first."""

    everything: bool
    this_list: bool
    paused_until: datetime | None
    lists: list[ContactList]


def message_of(token: str) -> Message | None:
    """The mail of the agency entered now whose way out this is; None for a token that is forged, cut or another's."""
    named = tokens.read(token, context.current_schema(), tokens.OPT_OUT)
    if named is None:
        return None
    return Message.objects.select_related("contact", "campaign").filter(key=named[0]).first()


def standing(message: Message, *, now: datetime) -> Standing:
    """Whether its contact has left for good, or left its list; until when they have a pause; what they are on."""
    email = message.contact.email.lower()
    left = set(
        Suppression.objects.filter(value=email, source=Suppression.Source.OPT_OUT).values_list("list_id", flat=True)
    )
    pause = Pause.objects.filter(value=email, until__gt=now).first()
    subscribed = ContactList.objects.filter(subscriptions__contact=message.contact_id, subscriptions__active=True)
    own = message.campaign.list_id
    lists = sorted(subscribed.exclude(pk__in=left - {None}), key=lambda one: (one.pk != own, one.name))
    return Standing(None in left, own in left, pause.until if pause else None, lists)


def leave(message: Message, *, how: str, clock: Callable[[], datetime], remote_ip: str | None = None) -> int:
    """Never write to this mail's contact again; return how many waiting mails that cancels.

    Once it returns, no mail is begun for them any more, not even one that a worker holds. Harmless when repeated: the
    first evidence stays.
    """
    email = message.contact.email.lower()
    with transaction.atomic():
        with connection.cursor() as cursor:
            evidence: list[Any] = [Suppression.Source.OPT_OUT, how, message.pk, remote_ip, clock()]
            cursor.execute(_ADD, [email, None, *evidence])
        now = clock()
        consent.left(message.contact_id, Evidence(Source.OPT_OUT, now, detail=how, remote_ip=remote_ip), now=now)
        cancelled = lifecycle.cancel_for(message.contact_id, Reason.OPTED_OUT)
        # Nothing that sees it begins later than this; what began earlier may have been on its way.
        transaction.on_commit(lambda: _now_in_force(email, clock()))
    return cancelled


def leave_list(
    message: Message, list_id: int, *, how: str, clock: Callable[[], datetime], remote_ip: str | None = None
) -> int:
    """The same for one list alone: that of the mail, or another that its contact is on."""
    email = message.contact.email.lower()
    with transaction.atomic():
        with connection.cursor() as cursor:
            evidence: list[Any] = [Suppression.Source.OPT_OUT, how, message.pk, remote_ip, clock()]
            cursor.execute(_ADD_ONCE, [email, list_id, *evidence])
        now = clock()
        taken_back = Evidence(Source.OPT_OUT, now, detail=how, remote_ip=remote_ip)
        consent.left(message.contact_id, taken_back, now=now, list_id=list_id)
        Subscription.objects.filter(list_id=list_id, contact_id=message.contact_id).update(active=False)
        cancelled = lifecycle.cancel_for(message.contact_id, Reason.OPTED_OUT, list_id=list_id)
        # Nothing that sees it begins later than this; what began earlier may have been on its way.
        transaction.on_commit(lambda: _now_in_force(email, clock()))
    return cancelled


def pause(message: Message, *, days: int, clock: Callable[[], datetime], remote_ip: str | None = None) -> datetime:
    """Write nothing to this mail's contact for so many days, and return until when: what waits for them waits on.

    Once it returns no mail is begun for them until then. Asked for again, the end moves.
    """
    now = clock()
    until = now + timedelta(days=days)
    with transaction.atomic():
        Pause.objects.update_or_create(
            value=message.contact.email.lower(),
            defaults={"until": until, "message": message, "remote_ip": remote_ip, "created_at": now},
        )
        waiting = Message.objects.select_for_update().filter(
            contact=message.contact_id, status=Message.Status.SCHEDULED
        )
        lifecycle.bar(list(waiting.order_by("pk").values_list("pk", flat=True)))
    return until


def end_pause(message: Message, *, now: datetime) -> None:
    """Its contact wants mails again: what waited for them is due."""
    with transaction.atomic():
        Pause.objects.filter(value=message.contact.email.lower()).delete()
        if lifecycle.end_pause(message.contact_id, now=now):
            visits.ask(now)


def forget(contact: Contact, *, clock: Callable[[], datetime]) -> int:
    """Never write to this contact again, for all that is kept of them will be erased; return how many waiting mails
    that cancels. Call in a transaction."""
    email = contact.email.lower()
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [email, None, Suppression.Source.OPT_OUT, ERASURE, None, None, clock()])
    return lifecycle.cancel_for(contact.pk, Reason.OPTED_OUT)


def bar(contact: Contact, *, by: str, now: datetime) -> int:
    """Somebody of the agency lets this contact never be written to again, as by a word on the telephone; return how
    many waiting mails that cancels. What a worker holds does not go either.

    What they are suppressed by already stays. In the administration it can be taken away again.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            evidence = [Suppression.Source.MANUAL, f"by {by}, on the contact's page", None, None, now]
            cursor.execute(_ADD_ONCE, [contact.email.lower(), None, *evidence])
        return lifecycle.cancel_for(contact.pk, Reason.SUPPRESSED)


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
_ADD_ONCE = """
INSERT INTO campaigns_suppression (value, list_id, source, evidence, message_id, remote_ip, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (value, COALESCE(list_id, 0)) DO NOTHING
"""
