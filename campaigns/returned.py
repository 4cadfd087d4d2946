"""Mail that came back becomes events: what it is, which mail of whose it is about, what follows.

take_in ─► classify   bounce, complaint, reply, …           (providers.senders.inbound)
        ─► named      by the signed envelope address, the way out in its subject, or the Message-ID that it quotes
        ─► record     an event each, once; who wants to leave, leaves
        ─► keep       an answer, with what it means            (replies)

Harmless when it runs twice: events are stored once.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from campaigns import erased, feedback, optout, replies, tokens
from campaigns.models import Message, TrialMail
from providers.accounts import inbox
from providers.accounts.events import BounceClass, EventType, Heard
from providers.accounts.models import InboundDay, InboundMail
from providers.senders.inbound import tokens as envelopes
from providers.senders.inbound.answers import Recipient
from providers.senders.inbound.labels import Label
from providers.senders.inbound.verdict import Kind, Verdict, classify
from tenants import bells, context
from tenants.models import Agency

logger = logging.getLogger(__name__)

SOURCE = "inbound"

_AT_ONCE = 50
_WAY_OUT = re.compile(r"(?<![\w-])[A-Za-z0-9_-]{40}(?![\w-])")
# Refused for how our servers and domains are set up, which no other mail to that address would mend.
_OURS = frozenset(
    {
        "authfailure",
        "failedstarttls",
        "norelaying",
        "notcompliantrfc",
        "requireptr",
        "securityerror",
        "syntaxerror",
    }
)


@dataclass(frozen=True, slots=True)
class _Named:
    """The mail that is meant. `leaves`: who wrote holds its way out."""

    agency: Agency
    key: UUID
    leaves: bool = False


def take_in(*, clock: Callable[[], datetime], interrupted: Callable[[], bool] = lambda: False) -> int:
    """Handle the mails that wait until none is left, or it is interrupted; return how many there were.

    Works in the public schema and enters agencies. One at a time does it.
    """
    agencies = {agency.pk: agency for agency in context.ready_agencies()}
    count = after = 0
    while True:
        with bells.alone(SOURCE) as mine:
            if not mine:
                return count
            while mails := inbox.take(_AT_ONCE, after=after):
                results: Counter[InboundDay.Result] = Counter()
                try:
                    for mail in mails:
                        if interrupted():
                            return count
                        after = mail.pk
                        results.update(_take_in(mail, agencies, clock))
                        count += 1
                finally:
                    inbox.count(results, now=clock())
        # Whoever was told of a mail while we were looking has left it to us.
        if not inbox.take(1, after=after):
            return count


def _take_in(
    mail: InboundMail, agencies: Mapping[int, Agency], clock: Callable[[], datetime]
) -> list[InboundDay.Result]:
    """How it ended, unless it is tried again."""
    try:
        verdict, trouble, named = _handle(mail, agencies, clock)
    except Exception as error:
        # What is wrong with one mail must not stop the others.
        logger.exception("a mail that came back could not be handled", extra={"mail": mail.pk})
        gone = inbox.failed(mail, type(error).__name__, now=clock())
        return [InboundDay.Result.FAILED] if gone else []
    about = (named.agency.pk, named.key) if named else None
    inbox.handled(mail, kind=str(verdict.kind or ""), trouble=trouble, about=about, now=clock())
    return [_result(verdict, named)]


def _result(verdict: Verdict, named: _Named | None) -> InboundDay.Result:
    if verdict.kind is None:
        return InboundDay.Result.UNREADABLE
    about_one = verdict.kind is not Kind.REPORT
    return InboundDay.Result.STRANGERS if about_one and named is None else InboundDay.Result.FOUND


def _handle(
    mail: InboundMail, agencies: Mapping[int, Agency], clock: Callable[[], datetime]
) -> tuple[Verdict, str, _Named | None]:
    """What a mail is, what is wrong with it, and which mail it is about."""
    verdict = classify(bytes(mail.body), today=mail.received_at.date())
    if verdict.kind is None:
        return verdict, verdict.refused, None
    if verdict.kind is Kind.REPORT:
        return verdict, verdict.report.problem if verdict.report else "", None
    named = _named(verdict, mail.recipients, agencies)
    if named is None:
        return verdict, "It names no mail of ours.", None
    with context.entered(named.agency):
        message = Message.objects.select_related("contact", "campaign").filter(key=named.key).first()
        # First, so that this is what their sequences end for.
        if message is not None and (named.leaves or verdict.label is Label.OPT_OUT or _left_in_mail_program(verdict)):
            feedback.opted_out(message, how=optout.MAIL, clock=clock)
        feedback.record(_events(mail, verdict, named), now=clock())
        if message is not None and verdict.kind in (Kind.HUMAN, Kind.AUTO_REPLY) and not named.leaves:
            kept = replies.keep(message, verdict, digest=mail.digest, received_at=mail.received_at)
            if kept is not None:
                replies.wait_for_return(kept, named.agency.zone)
        if erased.mails([named.key]):
            inbox.empty(mail)
    return verdict, "", named


def _named(verdict: Verdict, recipients: Iterable[str], agencies: Mapping[int, Agency]) -> _Named | None:
    keys = tokens.envelope_keys()
    for address in (*recipients, *verdict.addresses):
        found = envelopes.read(address, keys=keys)
        if found is not None and found.agency in agencies:
            return _Named(agencies[found.agency], found.message)
    for token in _WAY_OUT.findall(verdict.subject):
        for agency in agencies.values():
            if way_out := tokens.read(token, agency.schema_name, tokens.OPT_OUT):
                return _Named(agency, way_out[0], leaves=True)
    for message_id in verdict.message_ids:
        key = _key(message_id)
        if key is None:
            continue
        for agency in agencies.values():
            with context.entered(agency):
                if Message.objects.filter(key=key).exists():
                    return _Named(agency, key)
                if trial := TrialMail.objects.select_related("reply__message").filter(key=key).first():
                    # Who answers our answer goes on with the conversation; what bounces is the answer itself.
                    goes_on = trial.reply is not None and verdict.kind in (Kind.HUMAN, Kind.AUTO_REPLY)
                    return _Named(agency, trial.reply.message.key if trial.reply and goes_on else key)
    return None


def _key(message_id: str) -> UUID | None:
    """The key of the mail that has this Message-ID, if it may be ours."""
    try:
        return UUID(message_id.rpartition("@")[0])
    except ValueError:
        return None


def _events(mail: InboundMail, verdict: Verdict, named: _Named) -> list[Heard]:
    def event(type_: EventType, place: int, **more: str | BounceClass) -> Heard:
        raw_id = f"{mail.digest.hex}.{place}"
        return Heard(SOURCE, raw_id, type_, mail.received_at, mail.received_at, named.key, **more)  # type: ignore[arg-type]

    if named.leaves:
        # Written by a mail program whose user pressed a button, so nobody has replied.
        return [event(EventType.OTHER, 0, detail="the way out by mail")]
    if verdict.kind is Kind.HUMAN:
        return [event(EventType.REPLIED, 0, detail=str(verdict.label))]
    if verdict.kind is Kind.AUTO_REPLY:
        back = f", back {verdict.returns.isoformat()}" if verdict.returns else ""
        return [event(EventType.OTHER, 0, detail=f"{verdict.label}{back}")]
    return [
        event(_type(verdict, one), place, recipient=one.address, detail=_detail(one), **_class(verdict, one))
        for place, one in enumerate(verdict.recipients)
    ]


def _type(verdict: Verdict, one: Recipient) -> EventType:
    if verdict.kind is Kind.COMPLAINT:
        # A button to unsubscribe is no accusation.
        return EventType.OTHER if _left_in_mail_program(verdict) else EventType.COMPLAINED
    if verdict.kind is Kind.DELIVERED:
        return EventType.DELIVERED
    return EventType.DEFERRED if one.action == "delayed" else EventType.BOUNCED


def _class(verdict: Verdict, one: Recipient) -> dict[str, BounceClass]:
    return {"bounce_class": bounce_class(one)} if verdict.kind is Kind.BOUNCE and one.action != "delayed" else {}


def bounce_class(one: Recipient) -> BounceClass:
    """The class of a recipient's bounce: what it says of the address, and whose fault it is."""
    if one.hard:
        return BounceClass.HARD
    if one.reason in ("mailboxfull", "exceedlimit"):
        return BounceClass.MAILBOX_FULL
    if one.fault == "sender":
        return BounceClass.OURS if one.reason in _OURS else BounceClass.BLOCKED
    return BounceClass.SOFT


def _detail(one: Recipient) -> str:
    return " ".join(filter(None, (one.status, one.reason, one.said)))


def _left_in_mail_program(verdict: Verdict) -> bool:
    return verdict.kind is Kind.COMPLAINT and verdict.span in ("opt-out", "opt-out-list")
