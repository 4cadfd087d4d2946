"""Complaints of readers, passed on by their mailbox providers: RFC 5965 (ARF) and what came before it. Pure."""

import re

from providers.senders.inbound.answers import Recipient, addresses_in
from providers.senders.inbound.mail import Headers, Mail, headers_and_body
from providers.senders.inbound.notices import quoted_headers
from providers.senders.inbound.notifications import complained

# RFC 5965, 6430, 6591: what is not a reader who complains about a mail of ours.
_NO_COMPLAINTS = {"auth-failure", "not-spam", "dmarc", "auth", "dkim", "spf"}
_LOOP_SUBJECT = re.compile(
    r"^\s*(?:complaint about message from|e-?mail feedback report for ip|(?:spam|abuse|feedback loop) (?:complaint|report)\b"
    r"|\[?abuse report\]?|fw: \[?spam\]? complaint|junk mail report)",
    re.I,
)
_LOOP_SENDER = re.compile(
    r"(?:staff@(?:hotmail|outlook)\.com|scomp@aol\.net|feedbackloop@|feedback@arf\.|fbl[\w.-]*@|abuse-?report|complaints?@)",
    re.I,
)


def complaint(mail: Mail) -> tuple[str, str, list[Recipient]]:
    """The kind (`complaint`, `report`, or empty if it is neither), its feedback type, and who complained."""
    report = next((part for part in mail.parts if part.kind == "message/feedback-report" and not part.enclosed), None)
    if report is not None:
        fields, _rest = headers_and_body(report.raw.lstrip(b"\r\n"))
        feedback = fields.get("feedback-type").strip().lower() or "abuse"
        kind = "report" if feedback in _NO_COMPLAINTS else "complaint"
        return kind, feedback, _recipients(_who(mail, fields), feedback)
    if "x-apple-unsubscribe" in mail.headers:
        # What Apple Mail sends when its reader presses "unsubscribe".
        return "complaint", "opt-out", _recipients(addresses_in(mail.headers.get("from"))[:1] or [""], "opt-out")
    if mail.parameters.get("report-type", "").lower() == "feedback-report":
        return "complaint", "abuse", _recipients(_who(mail, Headers()), "abuse")
    if who := complained(mail):
        return "complaint", "abuse", _recipients(who, "abuse")
    subject, sender = mail.headers.get("subject"), mail.headers.get("from")
    enclosed = bool(mail.originals) or quoted_headers(mail) is not None
    if enclosed and "x-hmxmroriginalrecipient" in {name for original in mail.originals for name, _v in original.fields}:
        return "complaint", "abuse", _recipients(_who(mail, Headers()), "abuse")
    if enclosed and _LOOP_SUBJECT.search(subject) and _LOOP_SENDER.search(sender):
        return "complaint", "abuse", _recipients(_who(mail, Headers()), "abuse")
    return "", "", []


def _who(mail: Mail, fields: Headers) -> list[str]:
    """Who complained: as the report says, else to whom the mail went; often nobody, for privacy."""
    for name in ("original-rcpt-to", "removal-recipient"):
        found = [address for value in fields.all(name) for address in addresses_in(value)]
        if found:
            return list(dict.fromkeys(found))
    originals = [*mail.originals, *([quoted] if (quoted := quoted_headers(mail)) else [])]
    for original in originals:
        for name in ("x-hmxmroriginalrecipient", "x-original-to", "delivered-to", "envelope-to", "to"):
            if found := addresses_in(original.get(name)):
                return found[:1]
    return [""]


def _recipients(addresses: list[str], feedback: str) -> list[Recipient]:
    return [
        Recipient(address, "complained", reason="feedback", rule="feedback type", span=feedback)
        for address in addresses
    ]
