"""`classify`: one verdict for any bytes."""

import re
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum

from providers.senders.inbound import replies, reports
from providers.senders.inbound.answers import Recipient, addresses_in
from providers.senders.inbound.automatic import automatic
from providers.senders.inbound.bounces import notice
from providers.senders.inbound.complaints import complaint
from providers.senders.inbound.labels import Label, label_of
from providers.senders.inbound.mail import Mail, parsed
from providers.senders.inbound.notices import quoted_headers
from providers.senders.inbound.returns import return_date


class Kind(StrEnum):
    """What a mail is."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"
    DELIVERED = "delivered"
    REPORT = "report"
    HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a mail is and says.

    `rule` and `span` are the rule and the words that decided its kind. `text` and `label` are of mails that a person
    or his machine wrote: without quotes and signature. `returns` is when somebody who is out of office is back.
    `message_ids` are the mails it may be about, the surest first, without angle brackets; `addresses` are those it was
    sent to, where a signed token may stand. `signed` is `text` with signature, `sender` who wrote and `own_id` the mail's
    own Message-ID. `cut` says why a rest was not read. `refused` says why there is no kind.
    """

    kind: Kind | None
    rule: str = ""
    span: str = ""
    recipients: list[Recipient] = field(default_factory=list)
    text: str = ""
    signed: str = ""
    label: Label | None = None
    label_span: str = ""
    returns: date | None = None
    report: reports.Report | None = None
    subject: str = ""
    sender: str = ""
    own_id: str = ""
    message_ids: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    cut: str = ""
    refused: str = ""


def classify(raw: bytes, *, today: date | None = None) -> Verdict:
    """What kind of mail the bytes are. Takes any bytes, in bounded time and memory; raises nothing.

    `today` is the day on which the mail came, to read a date of return that names no year; without it none is read.
    """
    if not raw.strip(b" \t\r\n\x00"):
        return Verdict(None, refused="There is nothing in it.")
    if report := reports.of_file(raw):
        return Verdict(Kind.REPORT, "report file", report.kind, report=report)
    mail = parsed(raw)
    found = _of_machine(mail, raw)
    verdict = found if found is not None else _of_person(mail, today)
    return _with_references(verdict, mail)


def _of_machine(mail: Mail, raw: bytes) -> Verdict | None:
    kind, feedback, who = complaint(mail)
    if kind:
        return Verdict(Kind(kind), "feedback report", feedback, who, cut=mail.cut)
    if report := reports.of_mail(mail):
        return Verdict(Kind.REPORT, "report", report.kind, report=report, cut=mail.cut)
    kind, recipients = notice(mail, raw)
    if kind:
        first = recipients[0]
        return Verdict(Kind(kind), first.rule, first.span, recipients, cut=mail.cut)
    return None


def _of_person(mail: Mail, today: date | None) -> Verdict:
    text, signed = replies.own_words(mail)
    subject = mail.headers.get("subject")
    rule, span = automatic(mail, text)
    label, label_span = label_of(text, subject, signed=signed, automatic=bool(rule))
    if rule:
        sender = [
            Recipient(address, "replied", reason="vacation", rule=rule, span=span)
            for address in addresses_in(mail.headers.get("from"))[:1]
        ]
        returns = return_date(f"{subject}\n{text}", today=today) if today else None
        return Verdict(
            Kind.AUTO_REPLY, rule, span, sender, text, signed, label, label_span, returns=returns, cut=mail.cut
        )
    return Verdict(Kind.HUMAN, "none", "", [], text, signed, label, label_span, cut=mail.cut)


_ID = re.compile(r"<([^<>\s]{3,250}@[^<>\s]{1,250})>")
_QUOTED_ID = re.compile(r"^[>|\s]*Message-ID\s*:\s*<?([^<>\s]{3,250}@[^<>\s]{1,250})", re.I | re.M)


def _with_references(verdict: Verdict, mail: Mail) -> Verdict:
    found: list[str] = []
    for original in mail.originals:
        found += _ID.findall(original.get("message-id"))
    if verdict.kind in (Kind.BOUNCE, Kind.COMPLAINT, Kind.DELIVERED) and not found:
        if quoted := quoted_headers(mail):
            found += _ID.findall(quoted.get("message-id"))
        for part in mail.parts:
            found += _QUOTED_ID.findall(part.text[:100_000])
    found += _ID.findall(mail.headers.get("in-reply-to")[:5000])
    found += reversed(_ID.findall(mail.headers.get("references")[:20_000]))
    addresses = [
        address
        for name in ("x-original-to", "delivered-to", "envelope-to", "x-envelope-to", "to", "cc")
        for value in mail.headers.all(name)
        for address in addresses_in(value)
    ]
    return replace(
        verdict,
        subject=mail.headers.get("subject")[:500],
        sender=next(iter(addresses_in(mail.headers.get("from"))), ""),
        own_id=next((f"<{one}>" for one in _ID.findall(mail.headers.get("message-id")[:1000])), ""),
        message_ids=list(dict.fromkeys(found[:50])),
        addresses=list(dict.fromkeys(addresses[:50])),
    )
