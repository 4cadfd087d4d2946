"""Pure: what comes back of a mail by mail, as servers, mailbox providers and people write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

from providers.sandbox.population import Answer

_RETURN = timedelta(days=20)


@dataclass(frozen=True, slots=True)
class Taken:
    """A mail that was taken, as far as an answer depends on it. `envelope_sender` is empty where none is known, and
    `head` are its headers as text."""

    recipient: str
    envelope_sender: str
    reply_to: str
    subject: str
    message_id: str
    references: str
    way_out: str
    text: str
    head: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A mail that comes back: its envelope, and the mail."""

    sender: str
    recipient: str
    content: bytes


def by_smtp(recipient: str, envelope_sender: str, content: bytes) -> Taken:
    """A mail as it came by SMTP."""
    mail = BytesParser(policy=policy.SMTP).parsebytes(content)
    headers = {name.lower(): str(value) for name, value in mail.items()}
    body = mail.get_body(("plain", "html"))
    head = content.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace")
    return _taken(recipient, envelope_sender, headers, body.get_content() if body else "", head)


def by_http(recipient: str, sender: str, subject: str, headers: Mapping[str, str], text: str) -> Taken:
    """A mail as a provider's interface takes it: what stands in no field of its own stands in `headers`."""
    known = {name.lower(): value for name, value in headers.items()}
    return _taken(recipient, "", {"from": sender, "subject": subject, **known}, text, "")


def _taken(recipient: str, envelope_sender: str, headers: Mapping[str, str], text: str, head: str) -> Taken:
    return Taken(
        recipient=recipient,
        envelope_sender=envelope_sender,
        reply_to=parseaddr(headers.get("reply-to") or headers.get("from", ""))[1],
        subject=headers.get("subject", ""),
        message_id=headers.get("message-id", "").strip(),
        references=headers.get("references", ""),
        way_out=headers.get("list-unsubscribe", ""),
        text=text,
        head=head,
    )


def reply(mail: Taken, answer: Answer, *, id_: str, now: datetime) -> Returned:
    """What somebody answers; a machine's goes without a way back (RFC 3834 section 4)."""
    made = EmailMessage(policy.SMTP)
    made["From"] = Address("", addr_spec=mail.recipient)
    made["To"] = mail.reply_to
    made["Subject"] = answer.subject.format(subject=mail.subject) if answer.subject else _again(mail.subject)
    made["Date"] = format_datetime(now)
    made["Message-ID"] = f"<{id_}@{mail.recipient.rpartition('@')[2]}>"
    if mail.message_id:
        made["In-Reply-To"] = mail.message_id
        made["References"] = f"{mail.references} {mail.message_id}".strip()
    text = answer.text.format(day=(now + _RETURN).date().isoformat())
    if answer.automatic:
        made["Auto-Submitted"] = "auto-replied"
    else:
        quoted = "\n".join(f"> {line}" for line in mail.text.strip().splitlines())
        text = f"{text}\n\nOn {now:%a, %d %b %Y at %H:%M}, <{mail.reply_to}> wrote:\n{quoted}\n"
    made.set_content(text)
    return Returned("" if answer.automatic else mail.recipient, mail.reply_to, made.as_bytes())


def _again(subject: str) -> str:
    return subject if subject.lower().startswith("re:") else f"Re: {subject}"


def way_out(mail: Taken, *, id_: str, now: datetime) -> Returned | None:
    """What a mail program sends when its reader wants to leave; None where the mail has no address for that."""
    for part in mail.way_out.split(","):
        if (url := part.strip(" <>\r\n\t")).startswith("mailto:"):
            parts = urlsplit(url)
            made = EmailMessage(policy.SMTP)
            made["From"] = Address("", addr_spec=mail.recipient)
            made["To"] = unquote(parts.path)
            made["Subject"] = unquote(parts.query.removeprefix("subject="))
            made["Date"] = format_datetime(now)
            made["Message-ID"] = f"<{id_}@{mail.recipient.rpartition('@')[2]}>"
            made.set_content("")
            return Returned(mail.recipient, unquote(parts.path), made.as_bytes())
    return None


_NOTICES: Mapping[str, Mapping[str, str]] = {
    "bounced": {"action": "failed", "status": "5.1.1", "said": "550 5.1.1 <{who}>: user unknown"},
    "soft": {"action": "failed", "status": "5.2.2", "said": "552 5.2.2 <{who}>: mailbox full"},
    "delayed": {"action": "delayed", "status": "4.4.1", "said": "connect to mx.example: Connection timed out"},
}


def notice(mail: Taken, kind: str, *, quotes: bool, id_: str, now: datetime) -> Returned | None:
    """What a mail server says of a mail that came back or waits, RFC 3464; None where it came from nobody. Only where
    it `quotes` does it name the mail other than by its envelope."""
    if not mail.envelope_sender:
        return None
    what = _NOTICES[kind]
    fields = (
        "Reporting-MTA: dns; mx.sandbox.example\r\n\r\n"
        f"Final-Recipient: rfc822; {mail.recipient}\r\nAction: {what['action']}\r\nStatus: {what['status']}\r\n"
        f"Diagnostic-Code: smtp; {what['said'].format(who=mail.recipient)}\r\n"
    )
    subject = "Delayed Mail" if kind == "delayed" else "Undelivered Mail Returned to Sender"
    text = f"<{mail.recipient}>: {what['said'].format(who=mail.recipient)}\r\n"
    original = ("text/rfc822-headers", mail.head) if quotes else None
    content = _report(
        f"MAILER-DAEMON@{_server(mail)}",
        mail.envelope_sender,
        subject,
        "delivery-status",
        [("text/plain; charset=utf-8", text), ("message/delivery-status", fields), *([original] if original else [])],
        id_=id_,
        now=now,
    )
    return Returned("", mail.envelope_sender, content)


def complaint(mail: Taken, *, id_: str, now: datetime) -> Returned | None:
    """What a mailbox provider says of a reader who calls a mail spam, RFC 5965; None as for `notice`."""
    if not mail.envelope_sender:
        return None
    fields = (
        "Feedback-Type: abuse\r\nUser-Agent: Sandbox/1.0\r\nVersion: 1\r\n"
        f"Original-Mail-From: <{mail.envelope_sender}>\r\nOriginal-Rcpt-To: <{mail.recipient}>\r\n"
    )
    to = f"complaints@{mail.envelope_sender.rpartition('@')[2]}"
    content = _report(
        f"feedback@{_server(mail)}",
        to,
        f"FW: {mail.subject}",
        "feedback-report",
        [
            ("text/plain; charset=utf-8", "This is an email abuse report.\r\n"),
            ("message/feedback-report", fields),
            ("text/rfc822-headers", mail.head),
        ],
        id_=id_,
        now=now,
    )
    return Returned("", to, content)


def _server(mail: Taken) -> str:
    return f"mx.{mail.recipient.rpartition('@')[2]}"


def _report(
    sender: str, to: str, subject: str, kind: str, parts: list[tuple[str, str]], *, id_: str, now: datetime
) -> bytes:
    """RFC 6522, by hand: the library writes a message/* part of its own making only."""
    head = [
        f"From: {sender}",
        f"To: {to}",
        f"Subject: {subject}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{id_}@{sender.rpartition('@')[2]}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={kind}; boundary="={id_}"',
        "Content-Transfer-Encoding: 8bit",
    ]
    body = "".join(f"--={id_}\nContent-Type: {kind}\n\n{text}\n" for kind, text in parts)
    mail = "\n".join(head) + f"\n\n{body}--={id_}--\n"
    return mail.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def stamped(content: bytes, delivery: int, now: datetime) -> bytes:
    """The mail as the server before ours passes it on; each delivery has a number of its own."""
    line = f"Received: from mx.example by relay.example with ESMTP id {delivery:X}; {format_datetime(now)}\r\n"
    return line.encode() + content
