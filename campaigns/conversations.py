"""Replies as an inbox: each conversation once, what was written in it on both sides, and what people do with it.

A conversation is all that a contact and a campaign have written to each other. It stands where its last reply of a
person stands, or, where only machines have answered, the last of theirs; so a new reply brings back what was done or
snoozed. What is snoozed comes back by the clock alone: no job brings it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from django.contrib.postgres.search import SearchQuery
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from campaigns import feed, rendering, replies, variants
from campaigns.envelopes import Envelopes, message_id
from campaigns.lifecycle import Claimed
from campaigns.models import Message, Reply, TrialMail
from campaigns.preview import NOBODY
from campaigns.threads import Sent
from providers.accounts.errors import MessageRefused
from tenants import context
from tenants.users.models import User

# Of one conversation no more is shown on each side.
MOST_MAILS = 100
# What is counted further is shown as "more".
MOST_COUNTED = 99
_MOST_WORDS = 10
_word = re.compile(r"\w+")


class State(models.TextChoices):
    """Where a conversation is."""

    OPEN = "open", _("Open")
    SNOOZED = "snoozed", _("Snoozed")
    DONE = "done", _("Done")
    AUTOMATIC = "automatic", _("Automatic")
    ALL = "all", _("All")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What part of the inbox is asked for; what is empty is not asked. `assigned` is an address, or `nobody`."""

    state: str = State.OPEN
    label: str = ""
    campaign: int | None = None
    assigned: str = ""
    search: str = ""


NOBODY_YET = "nobody"


def found(rows: QuerySet[Reply], wanted: Wanted, *, now: datetime) -> QuerySet[Reply]:
    """Of these replies the ones that conversations stand by, as far as they are asked for, the newest first."""
    rows = rows.filter(_last(), _in_state(wanted.state, now))
    if wanted.label:
        rows = rows.filter(label=wanted.label)
    if wanted.campaign is not None:
        rows = rows.filter(message__campaign=wanted.campaign)
    if wanted.assigned == NOBODY_YET:
        rows = rows.filter(assigned_to=None)
    elif wanted.assigned:
        rows = rows.filter(assigned_to__email__iexact=wanted.assigned)
    if wanted.search:
        rows = rows.filter(_says(wanted.search))
    return rows.order_by("-stands_at", "-pk")


def page(rows: QuerySet[Reply], *, before: int | None, limit: int) -> tuple[list[Reply], int | None]:
    """So many of what `found` returns, below the reply of that number; and the number to go on below, if there is
    more. A page costs the same however deep it is."""
    if before is not None and (last := Reply.objects.filter(pk=before).values_list("stands_at", "pk").first()):
        rows = rows.filter(Q(stands_at__lt=last[0]) | Q(stands_at=last[0], pk__lt=last[1]))
    shown = list(rows[: limit + 1])
    return shown[:limit], shown[limit - 1].pk if len(shown) > limit else None


def unread(rows: QuerySet[Reply], *, now: datetime) -> int:
    """How many open conversations nobody has looked at since their last reply; MOST_COUNTED + 1 stands for more."""
    found = rows.filter(_last(), _in_state(State.OPEN, now), read_at=None)
    return found.order_by()[: MOST_COUNTED + 1].count()


def _last() -> Q:
    """The reply that a conversation stands by: of a person before those of machines, then the latest."""
    later = Q(received_at__gt=OuterRef("received_at")) | Q(received_at=OuterRef("received_at"), pk__gt=OuterRef("pk"))
    others = Reply.objects.filter(message__enrollment=OuterRef("message__enrollment"))
    before = others.filter(Q(automatic__lt=OuterRef("automatic")) | Q(later, automatic=OuterRef("automatic")))
    return ~Q(Exists(before))


def _in_state(state: str, now: datetime) -> Q:
    awake = Q(snoozed_until=None) | Q(snoozed_until__lte=now)
    match state:
        case State.ALL:
            return Q()
        case State.DONE:
            return Q(done_at__isnull=False)
        case State.SNOOZED:
            return Q(done_at=None, snoozed_until__gt=now)
        case State.AUTOMATIC:
            return Q(awake, automatic=True, done_at=None)
        case _:
            return Q(awake, automatic=False, done_at=None)


def _says(search: str) -> Q:
    """That one of the conversation's replies has all these words, or words that begin with them."""
    words = [f"{word}:*" for word in _word.findall(search.replace("_", " "))[:_MOST_WORDS]]
    if not words:
        return Q(pk=None)
    query = SearchQuery(" & ".join(words), config="simple", search_type="raw")
    return Q(Exists(Reply.objects.filter(message__enrollment=OuterRef("message__enrollment"), words=query)))


# --- what people do with it: with all that the contact has answered to the campaign so far


class NotSnoozedError(ValueError):
    """The time is not to come; nothing is changed."""


def change(reply: Reply, values: Mapping[str, Any], *, by: str, clock: Callable[[], datetime]) -> None:
    """All at once: label, assigned_to (a user or None), snoozed_until (or None), done and read, as far as given.

    `by` is the person's address. Raises NotSnoozedError with nothing changed.
    """
    with transaction.atomic():
        if "assigned_to" in values:
            assign(reply, values["assigned_to"])
        if until := values.get("snoozed_until"):
            snooze(reply, until, now=clock())
        elif "snoozed_until" in values or values.get("done") is False:
            reopen(reply)
        if values.get("done"):
            finish(reply, now=clock())
        if values.get("read"):
            read(reply, now=clock())
    # By itself: an opt-out locks the contact's mails, which an erasure locks before replies.
    if label := values.get("label"):
        replies.decide(reply, label, by=by, clock=clock)


def read(reply: Reply, *, now: datetime) -> None:
    """Somebody has looked at it."""
    _write(reply, only=Q(read_at=None), read_at=now)


def assign(reply: Reply, to: User | None) -> None:
    """Somebody of the agency is to see to it, or nobody."""
    _write(reply, assigned_to=to)


def snooze(reply: Reply, until: datetime, *, now: datetime) -> None:
    """Out of the inbox until then; it comes back unread. Raises NotSnoozedError."""
    if until <= now:
        raise NotSnoozedError(_("Choose a time to come."))
    _write(reply, snoozed_until=until, done_at=None, read_at=None)


def finish(reply: Reply, *, now: datetime) -> None:
    """It needs nothing more, until they write again."""
    _write(reply, done_at=now, read_at=now, snoozed_until=None)


def reopen(reply: Reply) -> None:
    """Into the inbox again, from wherever it is."""
    _write(reply, done_at=None, snoozed_until=None)


def people() -> QuerySet[User]:
    """Those whom a conversation may be assigned to."""
    return User.objects.filter(is_active=True).order_by("email")


def _write(reply: Reply, *, only: Q | None = None, **fields: Any) -> None:
    """To all replies of its conversation, or to `only` these of them, locked in one order."""
    found = Reply.objects.filter(only or Q(), message__enrollment=reply.message.enrollment_id)
    with transaction.atomic():
        ids = list(found.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))
        if ids:
            Reply.objects.filter(pk__in=ids).update(**fields)
            feed.ring()


# --- what was written


@dataclass(frozen=True, slots=True)
class Entry:
    """One mail of a conversation: a campaign's (`message`), a reply, or a person's answer to one.

    A campaign's mail is made again by what made it. `changed`: its text or its contact was changed since, so what they
    got was not quite this; `problem`: why it can not be made any more.
    """

    kind: str
    at: datetime
    sender: str
    subject: str
    text: str
    name: str = ""
    message: Message | None = None
    reply: Reply | None = None
    answer: TrialMail | None = None
    changed: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A contact and a campaign: all that was written, in its order, and the reply that it stands by."""

    standing: Reply
    entries: list[Entry] = field(default_factory=list)


def of(reply: Reply) -> Conversation:
    """The conversation of a reply, whose message, contact, campaign and assignee are loaded with it."""
    enrollment = reply.message.enrollment_id
    answered = list(
        Reply.objects.filter(message__enrollment=enrollment)
        .select_related("message__contact", "message__campaign", "message__sender", "assigned_to")
        .order_by("-received_at", "-pk")[:MOST_MAILS]
    )
    standing = max(answered, key=lambda one: (not one.automatic, one.received_at, one.pk), default=reply)
    entries = [*_sent(enrollment), *map(_reply, answered), *_answers(enrollment)]
    return Conversation(standing, sorted(entries, key=lambda one: one.at))


def _reply(reply: Reply) -> Entry:
    contact = reply.message.contact
    known = reply.sender.lower() == contact.email.lower()
    name = f"{contact.first_name} {contact.last_name}".strip() if known else ""
    return Entry("reply", reply.received_at, reply.sender, reply.subject, reply.text or reply.signed, name, reply=reply)


def _answers(enrollment: int) -> Iterable[Entry]:
    rows = TrialMail.objects.filter(kind=TrialMail.Kind.ANSWER, reply__message__enrollment=enrollment)
    for one in rows.select_related("sender", "reply__message__sender").order_by("-asked_at", "-pk")[:MOST_MAILS]:
        sender = one.sender or (one.reply and one.reply.message.sender)
        address, name = (sender.address, sender.name) if sender else ("", "")
        yield Entry("answer", one.sent_at or one.asked_at, address, one.subject, one.text, name, answer=one)


def _sent(enrollment: int) -> list[Entry]:
    """The campaign's mails as they went, made again at once; their way out and links name no mail."""
    rows = Message.objects.filter(enrollment=enrollment, status=Message.Status.SENT)
    mails = list(
        rows.select_related("campaign", "contact", "sender", "step")
        .prefetch_related("step__variants")
        .order_by("-sent_at", "-pk")[:MOST_MAILS]
    )[::-1]
    claimed = [_as_claimed(mail) for mail in mails]
    went = [Sent(message_id(one.key, _sender(one)), one.step_id, "", one.variant, one.attempted_at) for one in mails]
    made = Envelopes(context.current_agency())
    made.prepare(claimed, {mail.pk: went[:place] for place, mail in enumerate(mails)})
    return [_entry(made, mail, one) for mail, one in zip(mails, claimed, strict=True)]


def _entry(made: Envelopes, mail: Message, claimed: Claimed) -> Entry:
    at = mail.sent_at or mail.due_at
    sender, name = (mail.sender.address, mail.sender.name) if mail.sender else ("", "")
    try:
        envelope = made.of(claimed)
    except (rendering.NotRenderedError, MessageRefused) as error:
        return Entry("sent", at, sender, "", "", name, message=mail, problem=str(error))
    changed = _changed_at(mail.step.texts, mail.variant)
    later = changed is not None and changed > (mail.attempted_at or at)
    return Entry("sent", at, sender, envelope.subject, envelope.text, name, message=mail, changed=later)


def _changed_at(texts: Sequence[variants.Text], letter: str) -> datetime | None:
    wanted = variants.further(letter)
    return next((cast(datetime, text.changed_at) for text in texts if variants.further(text.letter) == wanted), None)


def _sender(mail: Message) -> str:
    return mail.sender.address if mail.sender else ""


def _as_claimed(mail: Message) -> Claimed:
    contact = mail.contact
    return Claimed(
        id=mail.pk,
        key=NOBODY,
        campaign_id=mail.campaign_id,
        step_id=mail.step_id,
        enrollment_id=mail.enrollment_id,
        traffic_class=mail.campaign.traffic_class,
        contact=rendering.fields(
            contact.email, contact.first_name, contact.last_name, contact.company, contact.attributes
        ),
        account_id=0,
        refused_by=[],
        # What was tried keeps its variant.
        attempts=1,
        sender_id=mail.sender_id or 0,
        sender_address=_sender(mail),
        sender_name=mail.sender.name if mail.sender else "",
        variant=mail.variant,
    )
