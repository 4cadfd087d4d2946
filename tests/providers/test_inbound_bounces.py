"""Notices of mail servers, by the standards and in the dialects of servers without them."""

import json

import pytest

from providers.senders.inbound.verdict import Kind, classify
from tests.providers.inbound_mails import ORIGINAL, OURS, THEIRS, mail, reply, report, status


def _only(raw: bytes):
    verdict = classify(raw)
    assert verdict.kind is Kind.BOUNCE, verdict
    assert len(verdict.recipients) == 1, verdict.recipients
    return verdict.recipients[0]


@pytest.mark.parametrize(
    ("code", "diagnostic", "reason", "hard", "fault"),
    [
        (
            "5.1.1",
            "550 5.1.1 <max@client.test>: Recipient address rejected: User unknown",
            "userunknown",
            True,
            "recipient",
        ),
        ("5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", "userunknown", True, "recipient"),
        (
            "5.1.1",
            "550-5.1.1 The email account that you tried to reach does not exist.",
            "userunknown",
            True,
            "recipient",
        ),
        ("5.1.2", "", "hostunknown", True, "recipient"),
        (
            "5.4.4",
            "Host or domain name not found. Name service error for name=client.test type=A: Host not found",
            "hostunknown",
            True,
            "recipient",
        ),
        ("5.1.10", "556 5.1.10 Domain does not accept mail (nullMX)", "notaccept", True, "recipient"),
        ("5.1.6", "551 5.1.6 User has moved to max@new.test", "hasmoved", True, "recipient"),
        ("5.2.2", "552 5.2.2 mailbox full", "mailboxfull", False, "recipient"),
        ("5.0.0", "552 The user's mailbox is over quota", "mailboxfull", False, "recipient"),
        ("5.2.1", "550 5.2.1 The email account that you tried to reach is disabled", "suspend", False, "recipient"),
        ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", "mesgtoobig", False, "sender"),
        (
            "5.7.1",
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
            "blocked",
            False,
            "sender",
        ),
        ("5.7.1", "550 5.7.1 This message was classified as spam", "spamdetected", False, "sender"),
        (
            "5.7.1",
            "550 5.7.1 Unauthenticated email is not accepted due to the domain's DMARC policy",
            "authfailure",
            False,
            "sender",
        ),
        (
            "5.7.26",
            "550 5.7.26 This mail has been blocked because the sender is unauthenticated",
            "authfailure",
            False,
            "sender",
        ),
        (
            "5.7.25",
            "550 5.7.25 The IP address sending this message does not have a PTR record",
            "requireptr",
            False,
            "sender",
        ),
        ("5.7.1", "550 5.7.1 Unable to relay", "norelaying", False, "sender"),
        (
            "4.7.1",
            "450 4.7.1 <max@client.test>: Recipient address rejected: Greylisted",
            "greylisted",
            False,
            "network",
        ),
        ("4.4.1", "connect to mx.client.test[192.0.2.7]:25: Connection timed out", "expired", False, "network"),
        ("5.4.6", "554 5.4.6 Too many hops", "networkerror", False, "network"),
        ("4.7.0", "421 4.7.0 Too many connections from your host", "toomanyconn", False, "sender"),
        ("5.1.8", "553 5.1.8 Sender address rejected: Domain not found", "rejected", False, "sender"),
        ("5.7.1", "554 5.7.1 Message contains a virus: Eicar found", "virusdetected", False, "sender"),
        (
            "5.4.1",
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
            "userunknown",
            True,
            "recipient",
        ),
        ("5.7.1", "550 5.7.1 Нет такого пользователя", "userunknown", True, "recipient"),
    ],
)
def test_a_report_says_the_reason_and_whether_it_is_for_good(code, diagnostic, reason, hard, fault) -> None:
    found = _only(report(status(code=code, diagnostic=diagnostic)))
    assert (found.address, found.reason, found.hard, found.fault) == (THEIRS, reason, hard, fault)
    assert found.status == code
    assert found.rule


def test_every_reason_keeps_the_words_that_decided() -> None:
    found = _only(
        report(status(code="5.0.0", diagnostic="550 sorry, no such user here"), notice="(in reply to RCPT TO command)")
    )
    assert (found.rule, found.span) == ("phrase userunknown", "no such user")


def test_a_report_with_utf_8_addresses_is_read() -> None:
    fields = status(recipient="utf-8; макс@клиент.test", diagnostic="550 5.1.1 user unknown")
    assert _only(report(fields, part="message/global-delivery-status")).address == "макс@клиент.test"


def test_a_report_in_base64_is_read() -> None:
    import base64

    part = "message/global-delivery-status\r\nContent-Transfer-Encoding: base64"
    assert _only(report(base64.b64encode(status().encode()).decode(), part=part)).reason == "userunknown"


def test_the_address_is_the_one_that_was_written_to() -> None:
    fields = (
        status()
        .replace("Action:", f"Original-Recipient: rfc822; {THEIRS}\r\nAction:")
        .replace(f"Final-Recipient: rfc822; {THEIRS}", "Final-Recipient: rfc822; max@forwarded.test")
    )
    found = _only(report(fields))
    assert (found.address, found.final) == (THEIRS, "max@forwarded.test")


@pytest.mark.parametrize(("action", "kind"), [("delivered", Kind.DELIVERED), ("relayed", Kind.DELIVERED)])
def test_a_delivery_is_no_bounce(action: str, kind: Kind) -> None:
    verdict = classify(report(status(action=action, code="2.0.0"), subject="Successful Mail Delivery Report"))
    assert verdict.kind is kind
    assert [one.hard for one in verdict.recipients] == [False]


def test_a_delay_is_soft_whatever_its_status_says() -> None:
    found = _only(
        report(status(action="delayed", code="4.4.7"), subject="Warning: could not send message for past 4 hours")
    )
    assert (found.action, found.reason, found.hard) == ("delayed", "expired", False)


def test_one_report_about_two_recipients_tells_them_apart() -> None:
    fields = status() + "\r\nFinal-Recipient: rfc822; eva@client.test\r\nAction: delivered\r\nStatus: 2.0.0\r\n"
    verdict = classify(report(fields))
    assert verdict.kind is Kind.BOUNCE
    assert [one.address for one in verdict.recipients] == [THEIRS]


def test_user_unknown_after_the_text_is_a_filter() -> None:
    notice = f"<{THEIRS}>: host mx.client.test said: 550 user unknown (in reply to end of DATA command)"
    found = _only(report(status(code="5.0.0", diagnostic="550 user unknown"), notice=notice))
    assert (found.reason, found.hard) == ("filtered", False)


DIALECTS = {
    "qmail": (
        f"Hi. This is the qmail-send program at mx.test.\nI'm afraid I wasn't able to deliver your message to the following "
        f"addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n<{THEIRS}>:\n192.0.2.7 does not like "
        "recipient.\nRemote host said: 550 no mailbox here by that name\nGiving up on 192.0.2.7.\n\n--- Below this line is a copy "
        f"of the message.\n\n{ORIGINAL}",
        "failure notice",
        "userunknown",
        True,
    ),
    "exim": (
        "This message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to "
        f"one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  {THEIRS}\n    host "
        "mx.client.test [192.0.2.7]\n    SMTP error from remote mail server after RCPT TO:<max@client.test>:\n    552 5.2.2 "
        "mailbox is full\n\n------ This is a copy of the message, including all the headers. ------\n\n" + ORIGINAL,
        "Mail delivery failed: returning message to sender",
        "mailboxfull",
        False,
    ),
    "sendmail": (
        "The original message was received at Mon, 2 Mar 2026 10:00:00 GMT\nfrom worker.sender.test [192.0.2.10]\n\n   ----- The "
        f"following addresses had permanent fatal errors -----\n<{THEIRS}>\n    (reason: 550 5.1.1 <{THEIRS}>... User unknown)\n\n"
        f"   ----- Transcript of session follows -----\n... while talking to mx.client.test.:\n>>> RCPT To:<{THEIRS}>\n<<< 550 5.1.1 "
        f"<{THEIRS}>... User unknown\n550 5.1.1 <{THEIRS}>... User unknown\n\n   ----- Original message follows -----\n\n"
        + ORIGINAL,
        "Returned mail: see transcript for details",
        "userunknown",
        True,
    ),
    "postfix without report": (
        f"This is the mail system at host mx.test.\n\nI'm sorry to have to inform you that your message could not\nbe delivered to "
        f"one or more recipients.\n\n<{THEIRS}>: host mx.client.test[192.0.2.7] said: 554 5.7.1\n    Message rejected: spam content "
        "detected (in reply to end of DATA\n    command)\n",
        "Undelivered Mail Returned to Sender",
        "spamdetected",
        False,
    ),
    "exchange": (
        f"Your message\n\n  To:      {THEIRS}\n  Subject: Your autumn fair\n  Sent:    Mon, 2 Mar 2026 10:00:00 +0000\n\ndid not "
        f"reach the following recipient(s):\n\n{THEIRS} on Mon, 2 Mar 2026 10:00:05 +0000\n    The recipient name is not recognized\n"
        "        The MTS-ID of the original message is: c=us;a= ;p=x;l=Y\n    MSEXCH:IMS:X:Y:Z 0 (000C05A6) Unknown Recipient\n",
        "Undeliverable: Your autumn fair",
        "userunknown",
        True,
    ),
    "gmail": (
        f"Delivery to the following recipient failed permanently:\n\n     {THEIRS}\n\nTechnical details of permanent failure:\nGoogle "
        "tried to deliver your message, but it was rejected by the server for the recipient domain client.test by mx.client.test. "
        "[192.0.2.7].\n\nThe error that the other server returned was:\n550 5.1.1 No such user (state 14).\n\n----- Original message "
        "-----\n\n" + ORIGINAL,
        "Delivery Status Notification (Failure)",
        "userunknown",
        True,
    ),
    "yahoo": (
        f"Sorry, we were unable to deliver your message to the following address.\n\n<{THEIRS}>:\n554: delivery error: dd This user "
        "doesn't have a client.test account (max@client.test) [-9] - mta1.mail.test\n\n--- Below this line is a copy of the message."
        "\n\n" + ORIGINAL,
        "Failure Notice",
        "userunknown",
        True,
    ),
    "domino": (
        f"Your message\n\n  Subject: Your autumn fair\n\nwas not delivered to:\n\n  {THEIRS}\n\nbecause:\n\n  User max "
        f"({THEIRS}) not listed in Domino Directory\n",
        "DELIVERY FAILURE: User max (max@client.test) not listed in Domino Directory",
        "userunknown",
        True,
    ),
    "groupwise": (
        f"The message that you sent was undeliverable to the following:\n\n\t{THEIRS} (user not found)\n",
        "Message status - undeliverable",
        "userunknown",
        True,
    ),
    "mdaemon": (
        f"The following data may contain sections which represent non-ASCII characters.\n\nThe attached message had PERMANENT fatal "
        f"delivery errors!\n\nAfter one or more unsuccessful delivery attempts the attached message has\nbeen removed from the mail "
        f"queue on this server.\n\n--- The following addresses did not receive a copy of your message:\n> {THEIRS}\n\n--- Session "
        "Transcript ---\nMon 2026-03-02 10:00:01: --> RCPT To:<max@client.test>\nMon 2026-03-02 10:00:01: <-- 550 5.1.1 Recipient "
        "unknown\n--- End Transcript ---\n",
        "Permanent Delivery Failure",
        "userunknown",
        True,
    ),
    "imail": (
        f"Unknown user: {THEIRS}\n\nOriginal message follows.\n\n{ORIGINAL}",
        "Undeliverable Mail",
        "userunknown",
        True,
    ),
    "communigate": (
        f"Failed to deliver to '{THEIRS}'\nSMTP module(domain client.test) reports:\n account is full (quota exceeded)\n",
        "Undeliverable mail: Your autumn fair",
        "mailboxfull",
        False,
    ),
    "courier": (
        f"This is a delivery status notification from mx.test,\nrunning the Courier mail server, version 0.65.2.\n\n           "
        f"                UNDELIVERABLE MAIL\n\nYour message to the following recipients cannot be delivered:\n\n<{THEIRS}>:\n    "
        f"mx.client.test [192.0.2.7]:\n>>> RCPT TO:<{THEIRS}>\n<<< 550 User unknown.\n",
        "NOTICE: mail delivery status.",
        "userunknown",
        True,
    ),
    "mail.ru": (
        "Это письмо создано автоматически сервером Mail.Ru, отвечать на него не нужно.\n\nК сожалению, Ваше письмо не может быть "
        f"доставлено одному или нескольким получателям:\n\n{THEIRS}\nuser not found\n\nРекомендуем Вам проверить корректность "
        f"указания адресов получателей.\n\n{ORIGINAL}",
        "Mail failure.",
        "userunknown",
        True,
    ),
    "yandex": (
        f"This is the mail system at host forward1.mail.test.\n\nI'm sorry to have to inform you that your message could not\nbe "
        f"delivered to one or more recipients.\n\n<{THEIRS}>: host mx.client.test[192.0.2.7] said: 550 5.7.1 No such user! (in reply "
        "to RCPT TO command)\n",
        "Недоставленное сообщение",
        "userunknown",
        True,
    ),
    "german": (
        f"Ihre Nachricht konnte nicht zugestellt werden.\n\n{THEIRS}:\nDas Postfach des Empfängers ist voll.\n",
        "Nachricht unzustellbar",
        "mailboxfull",
        False,
    ),
    "french": (
        f"Votre message n'a pas pu être remis au destinataire suivant :\n\n<{THEIRS}>: 550 5.1.1 Adresse d'au moins un destinataire "
        "invalide\n",
        "Échec de la remise",
        "userunknown",
        True,
    ),
    "barracuda": (
        f"**** YOUR MESSAGE WAS NOT DELIVERED ****\nDelivery to <{THEIRS}> failed: 554 rejected due to spam content\n",
        "**Message you sent blocked by our bulk email filter**",
        "spamdetected",
        False,
    ),
    "dovecot": (
        f"Your message to <{THEIRS}> was automatically rejected:\nQuota exceeded (mailbox for user is full)\n",
        "Automatically rejected mail",
        "mailboxfull",
        False,
    ),
    "interscan": (
        f"Unable to deliver message to <{THEIRS}>.\nSent <<< RCPT TO:<{THEIRS}>\nReceived >>> 550 unknown user\n",
        "Mail could not be delivered",
        "userunknown",
        True,
    ),
    "exchange 2007": (
        f"Delivery has failed to these recipients or distribution lists:\n\n{THEIRS}\nThe recipient's e-mail address was not "
        f"found.\n\nDiagnostic information for administrators:\n\nGenerating server: mx.test\n\n{THEIRS}\n#550 5.1.1 "
        "RESOLVER.ADR.RecipNotFound; not found ##\n",
        "Undeliverable: Your autumn fair",
        "userunknown",
        True,
    ),
    "nothing known": (
        f"It was not possible to hand over what you sent to\n\n<{THEIRS}>:\nfrobnication failed\n",
        "Returned mail",
        "onhold",
        False,
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_servers_without_a_report_are_understood(name: str) -> None:
    body, subject, reason, hard = DIALECTS[name]
    found = _only(mail(body, subject=subject))
    assert (found.address, found.reason, found.hard) == (THEIRS, reason, hard)


def test_a_notice_of_a_scanner_that_signs_as_nobody_is_a_bounce() -> None:
    raw = mail(
        f"Recipient of the infected attachment: {THEIRS}\nOne or more attachments were deleted: virus found\n",
        sender="Gateway <av@client.test>",
        subject="A problem with a message you sent",
    )
    found = _only(raw)
    assert (found.address, found.reason, found.hard) == (THEIRS, "virusdetected", False)


def test_an_account_that_is_disabled_and_unknown_is_given_up() -> None:
    found = _only(report(status(diagnostic="550 5.1.1 max@client.test: this account has been disabled")))
    assert (found.reason, found.hard) == ("userunknown", True)


def test_the_mail_that_came_back_is_named_when_enclosed_and_when_quoted() -> None:
    assert classify(report(status())).message_ids[0] == "7c3e1f@sender.test"
    assert classify(mail(DIALECTS["exim"][0])).message_ids[0] == "7c3e1f@sender.test"


def test_a_notice_without_any_reference_is_a_bounce_of_nobody() -> None:
    found = _only(mail("Delivery failed.\n"))
    assert (found.address, found.hard) == ("", False)


def test_the_envelope_addresses_are_kept_for_the_signed_token() -> None:
    verdict = classify(mail("Delivery failed.", headers="Return-Path: <>\r\nX-Original-To: b+abc@sender.test\r\n"))
    assert verdict.addresses == ["b+abc@sender.test", OURS]


def _amazon(kind: str, details: dict[str, object]) -> bytes:
    inner = json.dumps({"notificationType": kind, kind.lower(): details, "mail": {"messageId": "0101"}})
    body = json.dumps({"Type": "Notification", "Message": inner})
    return mail(body, sender="AWS <no-reply@sns.amazonaws.com>", subject="AWS Notification Message", headers="")


def test_notifications_of_amazon_are_read() -> None:
    bounced = {
        "emailAddress": THEIRS,
        "action": "failed",
        "status": "5.1.1",
        "diagnosticCode": "smtp; 550 5.1.1 user unknown",
    }
    found = _only(
        _amazon("Bounce", {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [bounced]})
    )
    assert (found.address, found.reason, found.hard) == (THEIRS, "userunknown", True)
    complained = classify(_amazon("Complaint", {"complainedRecipients": [{"emailAddress": THEIRS}]}))
    assert (complained.kind, complained.recipients[0].address) == (Kind.COMPLAINT, THEIRS)
    delivered = classify(_amazon("Delivery", {"recipients": [THEIRS], "smtpResponse": "250 2.6.0 Message received"}))
    assert (delivered.kind, delivered.recipients[0].status) == (Kind.DELIVERED, "2.6.0")


ARF = "Feedback-Type: {}\r\nUser-Agent: Loop/1.0\r\nVersion: 1\r\nOriginal-Rcpt-To: <max@client.test>\r\n"


@pytest.mark.parametrize(
    ("feedback", "kind"),
    [
        ("abuse", Kind.COMPLAINT),
        ("fraud", Kind.COMPLAINT),
        ("opt-out", Kind.COMPLAINT),
        ("not-spam", Kind.REPORT),
        ("auth-failure", Kind.REPORT),
    ],
)
def test_feedback_reports_are_complaints_where_a_reader_complains(feedback: str, kind: Kind) -> None:
    raw = report(
        ARF.format(feedback),
        report_type="feedback-report",
        part="message/feedback-report",
        sender="FBL <fbl@mailbox.test>",
        subject="FW: Your autumn fair",
        headers="",
    )
    verdict = classify(raw)
    assert verdict.kind is kind
    assert [one.address for one in verdict.recipients] == [THEIRS]
    assert verdict.message_ids == ["7c3e1f@sender.test"]


def test_unsubscribing_in_apple_mail_is_a_complaint() -> None:
    raw = reply(
        "Apple Mail sent this email to unsubscribe.",
        headers="Auto-Submitted: auto-replied\r\nX-Apple-Unsubscribe: true\r\n",
    )
    assert classify(raw).kind is Kind.COMPLAINT


PEOPLE = {
    "asks about a bounce": reply(
        "Hi Anna, your last mail bounced here: 550 5.1.1 user unknown. Did you mean max@client.test?",
        subject="Re: Undelivered Mail Returned to Sender",
    ),
    "forwards a notice": reply(
        "Can you look at this?\n\n---------- Forwarded message ---------\nFrom: Mail Delivery System <MAILER-DAEMON@mx.test>\n"
        f"Subject: Undelivered Mail Returned to Sender\n\n<{THEIRS}>: host mx said: 550 User unknown",
        subject="Fwd: Undelivered Mail Returned to Sender",
    ),
    "writes of deliveries": reply(
        "The delivery of the goods failed, the recipient was unknown and our mailbox is full of complaints.",
        subject="Delivery failed",
    ),
    "has a filter's words in the signature": reply(
        "Yes, call me.\n\n--\nMax, Postmaster\nhost not found? user unknown? ask me!"
    ),
    "attaches a notice": mail(
        "--=_o\r\nContent-Type: text/plain\r\n\r\nThis came back, why?\r\n--=_o\r\nContent-Type: message/rfc822\r\n\r\n"
        + report(status()).decode()
        + "\r\n--=_o--\r\n",
        sender=f"Max <{THEIRS}>",
        subject="mail delivery failed",
        headers=f"Return-Path: <{THEIRS}>\r\n",
        kind='multipart/mixed; boundary="=_o"',
    ),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_no_mail_of_a_person_is_taken_for_a_bounce(name: str) -> None:
    assert classify(PEOPLE[name]).kind is Kind.HUMAN
