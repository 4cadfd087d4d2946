"""Answers of people and of their machines: what they mean by the rules, by what corrections taught, or by a person.

An opt-out always wins: it suppresses whoever finds it, and nothing takes that back here.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Count

from campaigns import erased, feed, feedback, lifecycle, optout
from campaigns.models import Message, Reply, ReplyLabel
from providers.senders.inbound import labels
from providers.senders.inbound.labels import Label
from providers.senders.inbound.verdict import Kind, Verdict

# So many corrections of what the same words were taken for, and twice as many as confirmations, and they teach.
TAUGHT_BY = 3
AWAY, LONGEST_AWAY = timedelta(days=7), timedelta(days=90)
_AT_ONCE = 500


def keep(message: Message, verdict: Verdict, *, digest: UUID, received_at: datetime) -> Reply | None:
    """Store an answer to this mail of the agency entered now, once however often it is brought, and return it; nothing
    of who was erased."""
    with transaction.atomic():
        erased.hold()
        if erased.mails([message.key]):
            return None
        return _keep(message, verdict, digest, received_at)


def _keep(message: Message, verdict: Verdict, digest: UUID, received_at: datetime) -> Reply:
    found, span = verdict.label or Label.OTHER, _stored(verdict.label_span)[:200]
    own_id, text = _stored(verdict.own_id)[:500], _stored(verdict.text)
    # A server on its way writes a line above a mail, and another one above the same mail when it is brought again.
    Message.objects.select_for_update(no_key=True).get(pk=message.pk)
    if own_id and (same := Reply.objects.filter(message=message, own_id=own_id, text=text).first()):
        return same
    kept, _new = Reply.objects.get_or_create(
        digest=digest,
        defaults={
            "message": message,
            "own_id": own_id,
            "sender": _stored(verdict.sender)[:320],
            "subject": _stored(verdict.subject)[:500],
            "text": text,
            "signed": _stored(verdict.signed),
            "automatic": verdict.kind is Kind.AUTO_REPLY,
            "label": _taught(found, span),
            "found": found,
            "span": span,
            "rules": labels.VERSION,
            "returns_on": verdict.returns,
            "received_at": received_at,
            "assigned_to_id": _assigned(message),
        },
    )
    feed.ring()
    return kept


def _assigned(message: Message) -> int | None:
    """Whoever sees to what its contact has answered to its campaign before."""
    before = Reply.objects.filter(message__enrollment=message.enrollment_id).order_by("-received_at", "-pk")
    return before.values_list("assigned_to", flat=True).first()


def wait_for_return(reply: Reply, zone: ZoneInfo) -> datetime | None:
    """Let what waits for whoever is out of office wait until the day on which they are back, in the agency's zone;
    return when that begins. Without a day in their answer it is a week, and never more than a quarter of a year."""
    if not reply.automatic or reply.label != ReplyLabel.OUT_OF_OFFICE:
        return None
    came = reply.received_at.astimezone(zone).date()
    day = min(reply.returns_on or came + AWAY, came + LONGEST_AWAY)
    until = datetime(day.year, day.month, day.day, tzinfo=zone)
    lifecycle.wait_for_return(reply.message.contact_id, until=until)
    return until


def decide(reply: Reply, label: str, *, by: str, clock: Callable[[], datetime]) -> None:
    """A person says what it means; the label that it has confirms it. `by` is the person's address.

    An opt-out suppresses the contact at once.
    """
    Reply.objects.filter(pk=reply.pk).update(label=ReplyLabel(label), decided_by=by, decided_at=clock())
    feed.ring()
    reply.refresh_from_db()
    if reply.label == ReplyLabel.OPT_OUT:
        _leave(reply, clock)


def classify_again(*, clock: Callable[[], datetime]) -> int:
    """Read the answers again that other rules have read, in the agency entered now; return how many labels changed.

    What a person decided holds. Harmless when repeated.
    """
    changed = 0
    while True:
        with transaction.atomic():
            some = Reply.objects.select_for_update(skip_locked=True).exclude(rules=labels.VERSION).order_by("pk")
            batch = list(some[:_AT_ONCE])
            leaving = []
            for reply in batch:
                before = reply.label
                found, span = labels.label_of(reply.text, reply.subject, signed=reply.signed, automatic=reply.automatic)
                reply.found, reply.span, reply.rules = ReplyLabel(found), span[:200], labels.VERSION
                if not reply.decided_by:
                    reply.label = _taught(found, reply.span)
                    if found is Label.OPT_OUT and before != Label.OPT_OUT:
                        leaving.append(reply)
                changed += reply.label != before
            Reply.objects.bulk_update(batch, ["found", "span", "rules", "label"])
        for reply in leaving:
            _leave(reply, clock)
        if len(batch) < _AT_ONCE:
            return changed


@dataclass(frozen=True, slots=True)
class Judged:
    """How often people found a label right and wrong, where it was decided by these words; empty is by none."""

    found: str
    span: str
    right: int
    wrong: int
    # What it was instead, most often first.
    instead: tuple[str, ...]


def judged() -> list[Judged]:
    """The table of right and wrong of the agency entered now, what was wrong most often first."""
    rows = Reply.objects.exclude(decided_by="").order_by().values_list("found", "span", "label")
    by_words: dict[tuple[str, str], Counter[str]] = {}
    for found, span, label, count in rows.annotate(count=Count("pk")):
        by_words.setdefault((found, span), Counter())[label] += count
    return sorted(
        (_judged(found, span, counts) for (found, span), counts in by_words.items()),
        key=lambda one: (-one.wrong, -one.right, one.found, one.span),
    )


def _judged(found: str, span: str, counts: Counter[str]) -> Judged:
    others = sorted((label for label in counts if label != found), key=lambda label: (-counts[label], label))
    return Judged(found, span, counts[found], sum(counts[label] for label in others), tuple(others))


def _taught(found: Label, span: str) -> str:
    """What words mean that the rules take for this. Nobody leaves by what was taught, and nobody stays who leaves."""
    if found is Label.OPT_OUT or not span:
        return str(found)
    rows = Reply.objects.filter(found=found, span=span).exclude(decided_by="").order_by().values_list("label")
    one = _judged(found, span, Counter(dict(rows.annotate(count=Count("pk")))))
    instead = [label for label in one.instead if label != Label.OPT_OUT]
    return instead[0] if instead and one.wrong >= max(TAUGHT_BY, 2 * one.right + 1) else str(found)


def _leave(reply: Reply, clock: Callable[[], datetime]) -> None:
    message = Message.objects.select_related("contact", "campaign").get(pk=reply.message_id)
    feedback.opted_out(message, how=optout.MAIL, clock=clock)


def _stored(text: str) -> str:
    """What PostgreSQL stores: no NUL and no half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()
