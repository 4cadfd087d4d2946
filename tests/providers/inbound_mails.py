"""Mails as servers, programs and people write them, made for these tests."""

OURS = "anna@sender.test"
THEIRS = "max@client.test"

ORIGINAL = (
    f"Return-Path: <{OURS}>\r\n"
    "Received: from worker.sender.test (worker.sender.test [192.0.2.10])\r\n"
    "\tby mx.sender.test (Postfix) with ESMTP id 4F2A; Mon, 2 Mar 2026 10:00:00 +0000\r\n"
    "Message-ID: <7c3e1f@sender.test>\r\n"
    "Date: Mon, 2 Mar 2026 10:00:00 +0000\r\n"
    f"From: Anna <{OURS}>\r\n"
    f"To: Max <{THEIRS}>\r\n"
    "Subject: Your autumn fair\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "\r\n"
    "Hello Max, are you interested in a stand? Unsubscribe: reply with stop.\r\n"
)


def mail(
    body: str,
    *,
    sender: str = "Mail Delivery System <MAILER-DAEMON@mx.test>",
    subject: str = "Undelivered Mail Returned to Sender",
    headers: str = "Return-Path: <>\r\n",
    kind: str = "text/plain; charset=utf-8",
) -> bytes:
    """One mail of one part."""
    text = (
        f"{headers}From: {sender}\r\nTo: {OURS}\r\nSubject: {subject}\r\nMessage-ID: <n1@mx.test>\r\n"
        f"Date: Mon, 2 Mar 2026 10:01:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (text + body).replace("\r\n", "\n").replace("\n", "\r\n").encode()


def report(
    fields: str,
    *,
    notice: str = "Your message could not be delivered.",
    report_type: str = "delivery-status",
    part: str = "message/delivery-status",
    original: str = ORIGINAL,
    **more: str,
) -> bytes:
    """A mail of RFC 6522: a notice, what machines read, and the mail that came back."""
    return mail(
        f"--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{notice}\r\n"
        f"--=_b\r\nContent-Type: {part}\r\n\r\n{fields}\r\n"
        f"--=_b\r\nContent-Type: message/rfc822\r\n\r\n{original}\r\n--=_b--\r\n",
        kind=f'multipart/report; report-type={report_type}; boundary="=_b"',
        **more,
    )


def status(
    *, action: str = "failed", code: str = "5.1.1", diagnostic: str = "", recipient: str = f"rfc822; {THEIRS}"
) -> str:
    """The fields of RFC 3464 for one recipient."""
    lines = ["Reporting-MTA: dns; mx.test", "", f"Final-Recipient: {recipient}", f"Action: {action}", f"Status: {code}"]
    if diagnostic:
        lines.append(f"Diagnostic-Code: smtp; {diagnostic}")
    return "\r\n".join(lines) + "\r\n"


def reply(text: str, *, subject: str = "Re: Your autumn fair", headers: str = "", kind: str = "text/plain") -> bytes:
    """What Max answers."""
    return mail(
        text,
        sender=f"Max <{THEIRS}>",
        subject=subject,
        headers=f"Return-Path: <{THEIRS}>\r\nIn-Reply-To: <7c3e1f@sender.test>\r\n{headers}",
        kind=f"{kind}; charset=utf-8",
    )
