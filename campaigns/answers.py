"""A person's answer to a reply: from the sender who was answered, in the same thread, by the way of every mail.

Never to an automatic mail, for two machines would answer each other for ever. Never to who must not be mailed, whatever
they wrote since: an opt-out holds for every mail, and nobody takes it back for them. It goes to the address that wrote,
and neither that nor the contact's own may be suppressed.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from html import escape
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns import feed, permission, suppressions
from campaigns.envelopes import message_id
from campaigns.models import Contact, Message, Reply, Suppression, TrialMail
from providers.accounts.envelope import Envelope
from providers.accounts.models import TrafficClass
from providers.accounts.routing import Route
from providers.senders import routes
from providers.senders.models import Sender
from tenants import context, visits
from tenants.models import Agency

LONGEST = 20_000
# Of a long thread the first mail and the last ones are named: RFC 5322 has no limit, mail servers have.
MOST_REFERENCES = 20
Kind, Status = TrialMail.Kind, TrialMail.Status
_id = re.compile(r"<[^<>\s]+>")
_TOO_LATE = {
    # Given back by its worker between two looks: it can be tried again.
    Status.WAITING: gettext_lazy("A worker has just tried to send it: try again."),
    Status.CLAIMED: gettext_lazy("It is being sent: too late to take it back."),
    Status.SENT: gettext_lazy("It has been sent: it can not be taken back."),
    Status.UNKNOWN: gettext_lazy("It may have been sent: it can not be taken back."),
    Status.FAILED: gettext_lazy("It was not sent: there is nothing to take back."),
}
_LEFT, _OPERATOR = "left the list", "operator"
# What holds longest is said first. From an opt-out on nothing goes to that person: no confirmation by anybody else
# makes an exception, or nobody could prove that there was none.
_BARRED = {
    Suppression.Source.OPT_OUT.value: gettext_lazy(
        "%(value)s must not be mailed: they asked for that, and it holds for answers too. If they have written to you "
        "since and wait for a word, write to them from your own mail program."
    ),
    Suppression.Source.COMPLAINT.value: gettext_lazy(
        "%(value)s must not be mailed: they reported a mail as spam, and that holds for answers too. If they have "
        "written to you since and wait for a word, write to them from your own mail program."
    ),
    _OPERATOR: gettext_lazy("%(value)s must not be mailed by anybody: the operator has said so. Ask the operator."),
    Suppression.Source.BOUNCE.value: gettext_lazy(
        "%(value)s must not be mailed: a mail to it came back because it can not be reached."
    ),
    _LEFT: gettext_lazy(
        "%(value)s must not be mailed: they have left this list. They may come back by signing up for it themselves."
    ),
    Suppression.Source.MANUAL.value: gettext_lazy(
        "%(value)s must not be mailed: a person of your agency has suppressed it, and may take that back."
    ),
    suppressions.PAUSE: gettext_lazy("%(value)s must not be mailed now: they asked for a pause, which ends by itself."),
}
_subject_of_answer = re.compile(r"\s*(?:re|aw|sv|ответ|odp|rif)\s*:", re.IGNORECASE)


class AnswerRefusedError(ValueError):
    """Nothing is sent; `problems` says why, one line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


def ask(reply: Reply, text: str, *, by: str, once: UUID, now: datetime) -> TrialMail:
    """Let this text be sent to whoever wrote the reply. `by` is the person's address; the same `once` is the same
    answer, however often it is asked for.

    Raises AnswerRefusedError with nothing changed.
    """
    if before := TrialMail.objects.filter(once=once, reply=reply).first():
        return before
    written = text.replace("\r\n", "\n").replace("\0", "").strip()
    problems = why_not(reply, now=now)
    if not written:
        problems.append(_("Write something first."))
    if len(written) > LONGEST:
        problems.append(_("An answer has %(most)d characters at most.") % {"most": LONGEST})
    if problems:
        raise AnswerRefusedError(*problems)
    with transaction.atomic():
        made, new = TrialMail.objects.get_or_create(
            once=once,
            defaults={
                "kind": Kind.ANSWER,
                "reply": reply,
                "contact_id": reply.message.contact_id,
                "recipient": reply.sender.lower(),
                "subject": subject_of(reply),
                "text": written,
                "by": by,
                "asked_at": now,
            },
        )
        if new:
            visits.ask(now)
            feed.ring()
    if made.reply_id != reply.pk:
        raise AnswerRefusedError(_("This answer was sent to another reply."))
    return made


def take_back(reply: Reply, number: int) -> TrialMail:
    """Let the answer of this number to a reply's conversation not be sent, and return it: it stays, with its text.

    Only while no worker has it: from its claim on it may leave at any moment. Raises AnswerRefusedError with nothing
    changed, and TrialMail.DoesNotExist where the conversation has no such answer.
    """
    found = TrialMail.objects.filter(kind=Kind.ANSWER, reply__message__enrollment=reply.message.enrollment_id)
    answer = found.get(pk=number)
    # A claim locks the row while it waits; whoever comes second sees what the first has made of it.
    taken = TrialMail.objects.filter(pk=answer.pk, status=Status.WAITING).update(status=Status.WITHDRAWN, detail="")
    answer.refresh_from_db()
    feed.ring()
    if not taken and answer.status != Status.WITHDRAWN:
        raise AnswerRefusedError(str(_TOO_LATE[Status(answer.status)]))
    return answer


def why_not(reply: Reply, *, now: datetime) -> list[str]:
    """Why this reply can not be answered, in words; nothing where it can."""
    if reply.automatic:
        return [_("A machine wrote this: it is not answered.")]
    if "@" not in reply.sender or len(reply.sender) > 254:
        return [_("It names no address that could be answered.")]
    if barred := bars(reply):
        return [str(_BARRED[barred[0].why]) % {"value": barred[0].value}]
    if not routes_of(reply, now=now):
        return [_("No account that this mail may take has its sender.")]
    return []


@dataclass(frozen=True, slots=True)
class Bar:
    """What forbids to mail who wrote: an address, a domain or a wildcard, and why. `id` is that of what a person of the
    agency may take back, else None."""

    value: str
    why: str
    id: int | None = None


def bars(reply: Reply) -> list[Bar]:
    """All that forbids an answer to this reply, what holds longest first; nothing where it may be mailed."""
    message = reply.message
    given: dict[str, str | int] = {
        "address": reply.sender.lower(),
        "contact": message.contact.email,
        "list": message.campaign.list_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BARS, given)
        found = {Bar(value, _why(source, list_id, own), own) for value, source, list_id, own in cursor.fetchall()}
    return sorted(found, key=lambda one: (list(_BARRED).index(one.why), one.value))


def _why(source: str, list_id: int | None, own: int | None) -> str:
    if source == Suppression.Source.MANUAL and own is None:
        return _OPERATOR
    return _LEFT if source == Suppression.Source.OPT_OUT and list_id is not None else source


def routes_of(reply: Reply, *, now: datetime) -> list[Route]:
    """The accounts through which the sender who was answered may write to this person."""
    sender_id = reply.message.sender_id
    if sender_id is None or not Sender.objects.filter(pk=sender_id, active=True).exists():
        return []
    found = routes.of_sender(routes.plannable(context.current_agency(), now=now), sender_id)
    consented = all(route.takes(consented=False) for route in found) or _has_consented(reply)
    return [route for route in found if route.takes(consented=consented)]


def subject_of(reply: Reply) -> str:
    """The subject of an answer to it."""
    subject = " ".join(reply.subject.split()) or "…"
    return (subject if _subject_of_answer.match(subject) else f"Re: {subject}")[:500]


def envelope(answer: TrialMail, agency: Agency, sender: Sender, key: str, own_id: str) -> Envelope:
    """The mail as it leaves. A person wrote it to a person: it is not tracked, has no way out, and is not automatic."""
    assert answer.reply is not None
    traffic_class = TrafficClass.HIGH_PRIORITY.replace("_", "-")
    paragraphs = "".join(
        f"<p>{escape(part).replace(chr(10), '<br>')}</p>" for part in re.split(r"\n{2,}", answer.text) if part.strip()
    )
    return Envelope(
        key=key,
        sender=sender.address,
        sender_name=sender.name,
        recipient=answer.recipient,
        subject=answer.subject,
        text=f"{answer.text}\n",
        html=f'<div style="font:16px/1.5 Arial,Helvetica,sans-serif;color:#111827">{paragraphs}</div>',
        message_id=own_id,
        headers={
            **_of_thread(answer.reply),
            "Feedback-ID": f"c{answer.reply.message.campaign_id}:{agency.slug}:{traffic_class}:polza",
        },
    )


def of(contact: Contact) -> QuerySet[TrialMail]:
    """What was answered to a person."""
    return TrialMail.objects.filter(kind=Kind.ANSWER, contact=contact)


def _of_thread(reply: Reply) -> dict[str, str]:
    """RFC 5322 section 3.6.4: what is answered, and all of the thread before it, in its order."""
    enrollment = reply.message.enrollment_id
    mails = Message.objects.filter(enrollment=enrollment, status=Message.Status.SENT).values_list(
        "sent_at", "key", "sender__address"
    )
    others = Reply.objects.filter(message__enrollment=enrollment, automatic=False).exclude(pk=reply.pk)
    ours = TrialMail.objects.filter(kind=Kind.ANSWER, reply__message__enrollment=enrollment, status=Status.SENT)
    named = [(at, message_id(key, address)) for at, key, address in mails]
    named += [(at, own_id) for at, own_id in others.values_list("received_at", "own_id")]
    named += [(at, message_id(key, one)) for at, key, one in ours.values_list("sent_at", "key", "sender__address")]
    answered = reply.own_id if _id.fullmatch(reply.own_id) else _first_of(reply)
    before = [own_id for _at, own_id in sorted(named) if _id.fullmatch(own_id) and own_id != answered]
    kept = before if len(before) < MOST_REFERENCES else [before[0], *before[2 - MOST_REFERENCES :]]
    return {"In-Reply-To": answered, "References": " ".join([*kept, answered])}


def _first_of(reply: Reply) -> str:
    sender = reply.message.sender
    assert sender is not None
    return message_id(reply.message.key, sender.address)


def _has_consented(reply: Reply) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_CONSENTED, {"contact": reply.message.contact_id, "list": reply.message.campaign.list_id})
        row = cursor.fetchone()
    return bool(row and row[0])


_COLUMNS = "s.value, s.source, s.list_id"
_BARS = f"""
SELECT s.value, s.source, s.list_id, (
    SELECT id FROM campaigns_suppression own
    WHERE s.source = 'manual' AND own.source = 'manual' AND own.value = s.value
      AND own.list_id IS NOT DISTINCT FROM s.list_id
)
FROM (
    {suppressions.matching("%(address)s", "%(list)s::bigint", _COLUMNS)}
    UNION {suppressions.matching("%(contact)s", "%(list)s::bigint", _COLUMNS)}
) s
"""  # noqa: S608 - of constants
_CONSENTED = f"""
SELECT {permission.GIVEN} FROM campaigns_contact p
LEFT JOIN campaigns_subscription u ON u.contact_id = p.id AND u.list_id = %(list)s
WHERE p.id = %(contact)s
"""  # noqa: S608 - of constants
