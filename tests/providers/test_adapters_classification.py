"""The table of what an error means. What is not in it must come out as `Unsure`."""

import json
import smtplib
import ssl
from email.utils import formatdate
from typing import Any

import pytest
import requests
from anymail.exceptions import (
    AnymailAPIError,
    AnymailError,
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailRequestsAPIError,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from django.core.mail import BadHeaderError
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError, ProtocolError

from providers.accounts.adapters.classification import PAUSE, RECIPIENT_PAUSE, classify
from providers.accounts.adapters.smtp import Phase, SMTPFailure
from providers.accounts.errors import (
    AccountBlocked,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    RecipientRefused,
    Throttled,
    Unsure,
)

POOL = HTTPConnectionPool("127.0.0.1")
RESEND = {
    "wrong key": {"name": "invalid_api_key", "message": "API key is invalid"},
    "bad to": {"name": "validation_error", "message": "Invalid `to` field."},
    "bad from": {"name": "validation_error", "message": "Invalid `from` field."},
    "bad": {"name": "missing_required_field", "message": "Missing `html` or `text` field."},
    "unverified": {"name": "validation_error", "message": "The alpha.test domain is not verified."},
    "test mode": {"name": "validation_error", "message": "You can only send testing emails to your own address"},
    "rate": {"name": "rate_limit_exceeded", "message": "Too many requests"},
    "day spent": {"name": "daily_quota_exceeded", "message": "You have reached your daily email quota"},
    "month spent": {"name": "monthly_quota_exceeded", "message": "You have reached your monthly email quota"},
    "reused": {"name": "invalid_idempotent_request", "message": "Same idempotency key, different payload"},
    "in progress": {"name": "concurrent_idempotent_requests", "message": "Same idempotency key, in progress"},
    "broken": {"name": "application_error", "message": "An unexpected error occurred"},
}


def answered(status: int, body: Any = "", headers: dict[str, str] | None = None) -> AnymailRequestsAPIError:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})

    response._content = (body if isinstance(body, str) else json.dumps(body)).encode()
    return AnymailRequestsAPIError(response=response)


def sendgrid(message: str, field: str | None = None) -> dict[str, Any]:
    return {"errors": [{"message": message, "field": field, "help": None}]}


def postmark(code: int, message: str) -> dict[str, Any]:
    return {"ErrorCode": code, "Message": message}


def unanswered(cause: requests.RequestException) -> AnymailRequestsAPIError:
    """As anymail makes it: its own class and the cause's at once."""
    kind = type("AnymailRequestsAPIError", (AnymailRequestsAPIError, type(cause)), {})
    try:
        raise kind("Error posting to http://127.0.0.1/:") from cause
    except AnymailRequestsAPIError as error:
        return error


def amazon(status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> AnymailAPIError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return caused(ClientError(response, "SendEmail"), response)


def caused(cause: Exception, response: Any = None) -> AnymailAPIError:
    try:
        raise AnymailAPIError(str(cause), response=response) from cause
    except AnymailAPIError as error:
        return error


def unreachable(reason: Exception) -> requests.RequestException:
    return requests.ConnectionError(MaxRetryError(POOL, "/", reason))


HTTP: list[tuple[str, Exception, type[DeliveryError] | None]] = [
    ("connection refused", unanswered(unreachable(NewConnectionError(POOL, "refused"))), NotAccepted),
    ("DNS", unanswered(unreachable(NameResolutionError("x", POOL, OSError()))), NotAccepted),  # type: ignore[arg-type]
    ("connect time-out", unanswered(requests.ConnectTimeout()), NotAccepted),
    ("read time-out", unanswered(requests.ReadTimeout()), Unsure),
    ("cut", unanswered(requests.ConnectionError(ProtocolError("Connection aborted."))), Unsure),
    ("broken pipe", unanswered(requests.ConnectionError(ProtocolError("x", BrokenPipeError()))), Unsure),
    ("cut in the answer", unanswered(requests.exceptions.ChunkedEncodingError()), Unsure),
    ("bad certificate", unanswered(requests.exceptions.SSLError(ssl.SSLCertVerificationError("x"))), NotAccepted),
    ("TLS broke", unanswered(requests.exceptions.SSLError(ssl.SSLError("EOF"))), Unsure),
    ("bad address", unanswered(requests.exceptions.InvalidURL("x")), NotAccepted),
    ("bad key in a header", unanswered(requests.exceptions.InvalidHeader("x")), NotAccepted),
    ("some requests error", unanswered(requests.RequestException()), Unsure),
    ("200, bad JSON", answered(200, "<html>"), None),
    ("202, nothing", answered(202), None),
    ("301", answered(301), NotAccepted),
    ("303", answered(303), Unsure),
    ("307", answered(307), NotAccepted),
    ("400, Resend, to", answered(400, RESEND["bad to"]), RecipientRefused),
    ("422, Resend, to", answered(422, RESEND["bad to"]), RecipientRefused),
    ("422, Resend, from", answered(422, RESEND["bad from"]), NotAccepted),
    ("422, Resend, other", answered(422, RESEND["bad"]), MessageRefused),
    ("401, Resend", answered(401, RESEND["wrong key"]), AccountBlocked),
    ("403, Resend, key", answered(403, RESEND["wrong key"]), AccountBlocked),
    ("403, Resend, domain", answered(403, RESEND["unverified"]), NotAccepted),
    ("403, Resend, test mode", answered(403, RESEND["test mode"]), AccountBlocked),
    ("429, Resend", answered(429, RESEND["rate"]), Throttled),
    ("429, Resend, day spent", answered(429, RESEND["day spent"]), AccountBlocked),
    ("429, Resend, month spent", answered(429, RESEND["month spent"]), AccountBlocked),
    ("409, Resend, reused", answered(409, RESEND["reused"]), None),
    ("409, Resend, in progress", answered(409, RESEND["in progress"]), Unsure),
    ("500, Resend", answered(500, RESEND["broken"]), Unsure),
    ("400, SendGrid, to", answered(400, sendgrid("x", "personalizations.0.to.0.email")), RecipientRefused),
    ("400, SendGrid, from", answered(400, sendgrid("x", "from.email")), NotAccepted),
    ("400, SendGrid, content", answered(400, sendgrid("x", "content.0.value")), MessageRefused),
    ("403, SendGrid, sender", answered(403, sendgrid("not a verified Sender Identity", "from")), NotAccepted),
    ("403, SendGrid", answered(403, sendgrid("access forbidden")), AccountBlocked),
    ("401, SendGrid, credits", answered(401, sendgrid("Maximum credits exceeded")), AccountBlocked),
    ("413, SendGrid", answered(413, sendgrid("too large")), MessageRefused),
    ("422, Postmark, signature", answered(422, postmark(400, "Sender signature not found")), NotAccepted),
    ("422, Postmark, inactive", answered(422, postmark(406, "inactive recipient")), RecipientRefused),
    ("422, Postmark, credits", answered(422, postmark(405, "Not allowed to send")), AccountBlocked),
    ("422, Postmark, pending", answered(422, postmark(412, "pending approval")), AccountBlocked),
    ("422, Postmark, invalid", answered(422, postmark(300, "Invalid metadata content")), MessageRefused),
    ("401, Mailgun", answered(401, "Forbidden"), AccountBlocked),
    ("402, Mailgun", answered(402, {"message": "limit"}), AccountBlocked),
    ("404, Mailgun, domain", answered(404, {"message": "Domain not found: x"}), NotAccepted),
    ("400, without words", answered(400), NotAccepted),
    ("404", answered(404), NotAccepted),
    ("405", answered(405), NotAccepted),
    ("408", answered(408), NotAccepted),
    ("418", answered(418), NotAccepted),
    ("429, without words", answered(429), Throttled),
    ("501", answered(501), Unsure),
    ("502", answered(502), Unsure),
    ("503", answered(503), NotAccepted),
    ("504", answered(504), Unsure),
    ("520", answered(520), Unsure),
    ("SES, no such key", amazon(403, "UnrecognizedClientException"), AccountBlocked),
    ("SES, paused", amazon(400, "SendingPausedException"), AccountBlocked),
    ("SES, suspended", amazon(400, "AccountSuspendedException"), AccountBlocked),
    ("SES, rate", amazon(429, "TooManyRequestsException"), Throttled),
    ("SES, old rate", amazon(400, "Throttling", "Maximum sending rate exceeded."), Throttled),
    ("SES, day", amazon(400, "Throttling", "Daily message quota exceeded."), AccountBlocked),
    ("SES, not verified", amazon(400, "MessageRejected", "Email address is not verified."), NotAccepted),
    ("SES, rejected", amazon(400, "MessageRejected", "virus"), MessageRefused),
    ("SES, domain", amazon(400, "MailFromDomainNotVerifiedException"), NotAccepted),
    ("SES, bad request", amazon(400, "BadRequestException", "odd"), MessageRefused),
    ("SES, 500", amazon(500, "InternalServiceError"), Unsure),
    ("SES, 503", amazon(503, "ServiceUnavailable"), NotAccepted),
    ("SES, no connection", caused(EndpointConnectionError(endpoint_url="x")), NotAccepted),
    ("SES, connect time-out", caused(ConnectTimeoutError(endpoint_url="x")), NotAccepted),
    ("SES, read time-out", caused(ReadTimeoutError(endpoint_url="x")), Unsure),
    ("SES, no id", AnymailAPIError("'MessageId' parsing Amazon SES send result {}"), None),
    ("refused recipients", AnymailRecipientsRefused(), RecipientRefused),
    ("invalid address", AnymailInvalidAddress("x"), MessageRefused),
    ("unsupported", AnymailUnsupportedFeature("x"), MessageRefused),
    ("serialization", AnymailSerializationError("x"), MessageRefused),
    ("bad header", BadHeaderError("x"), MessageRefused),
    ("surrogate", UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), MessageRefused),
    ("before the post", AnymailError("Invalid '/' in sender domain"), NotAccepted),
    ("an unknown API error", AnymailAPIError("x"), Unsure),
    ("KeyError", KeyError("x"), Unsure),
    ("OSError", OSError("x"), Unsure),
    ("TimeoutError", TimeoutError(), Unsure),
    ("Django's SMTP error without a phase", smtplib.SMTPServerDisconnected("x"), Unsure),
    ("its own", Throttled("x", after=3), Throttled),
]

SMTP: list[tuple[Phase, int | None, str, type[DeliveryError]]] = [
    (Phase.CONNECT, None, "Connection refused", NotAccepted),
    (Phase.CONNECT, 421, "4.3.2 shutting down", NotAccepted),
    (Phase.CONNECT, 421, "4.7.0 too many connections", Throttled),
    (Phase.CONNECT, 454, "4.7.0 temporary authentication failure", NotAccepted),
    (Phase.CONNECT, 530, "5.7.0 authentication required", AccountBlocked),
    (Phase.CONNECT, 535, "5.7.8 bad credentials", AccountBlocked),
    (Phase.CONNECT, 535, "no", AccountBlocked),
    (Phase.CONNECT, 554, "5.7.1 blocked using a list", AccountBlocked),
    (Phase.CONNECT, 554, "no service", NotAccepted),
    (Phase.MAIL, None, "Connection unexpectedly closed", NotAccepted),
    (Phase.MAIL, 421, "4.3.2 closing", NotAccepted),
    (Phase.MAIL, 450, "4.7.1 rate exceeded", Throttled),
    (Phase.MAIL, 451, "4.3.0 local error", NotAccepted),
    (Phase.MAIL, 452, "too many mails", Throttled),
    (Phase.MAIL, 550, "5.7.1 sending is disabled", AccountBlocked),
    (Phase.MAIL, 550, "5.1.8 sender address rejected", NotAccepted),
    (Phase.MAIL, 552, "5.3.4 too big", MessageRefused),
    (Phase.RCPT, None, "Connection unexpectedly closed", NotAccepted),
    (Phase.RCPT, 450, "4.2.0 Greylisted", Throttled),
    (Phase.RCPT, 451, "4.7.1 come back later", Throttled),
    (Phase.RCPT, 451, "4.7.1 rate limit", Throttled),
    (Phase.RCPT, 452, "4.2.2 mailbox full", Throttled),
    (Phase.RCPT, 451, "4.3.0 local error", NotAccepted),
    (Phase.RCPT, 550, "5.1.1 user unknown", RecipientRefused),
    (Phase.RCPT, 550, "no such user", RecipientRefused),
    (Phase.RCPT, 553, "5.1.3 bad syntax", RecipientRefused),
    (Phase.RCPT, 550, "5.2.1 mailbox disabled", RecipientRefused),
    (Phase.RCPT, 552, "5.2.2 mailbox full", RecipientRefused),
    (Phase.RCPT, 554, "5.7.1 relay access denied", AccountBlocked),
    (Phase.RCPT, 550, "relaying denied", AccountBlocked),
    (Phase.RCPT, 550, "5.7.1 this recipient wants no mail from you", NotAccepted),
    (Phase.RCPT, 550, "5.1.8 sender address rejected", NotAccepted),
    (Phase.DATA, None, "timed out", NotAccepted),
    (Phase.DATA, 451, "4.3.0 try later", NotAccepted),
    (Phase.DATA, 554, "5.5.1 no valid recipients", NotAccepted),
    (Phase.BODY, None, "Broken pipe", NotAccepted),
    (Phase.ANSWER, None, "timed out", Unsure),
    (Phase.ANSWER, None, "Connection unexpectedly closed", Unsure),
    (Phase.ANSWER, -1, "garbage", Unsure),
    (Phase.ANSWER, 354, "what?", Unsure),
    (Phase.ANSWER, 421, "4.3.2 closing", NotAccepted),
    (Phase.ANSWER, 451, "4.3.0 queue file error", NotAccepted),
    (Phase.ANSWER, 451, "4.7.1 rate exceeded", Throttled),
    (Phase.ANSWER, 552, "5.3.4 too big", MessageRefused),
    (Phase.ANSWER, 554, "5.6.0 bad content", MessageRefused),
    (Phase.ANSWER, 554, "5.7.1 message blocked as spam", MessageRefused),
    (Phase.ANSWER, 550, "5.7.26 unauthenticated mail", MessageRefused),
    (Phase.ANSWER, 550, "5.1.1 user unknown", RecipientRefused),
    (Phase.ANSWER, 554, "5.3.0 no", NotAccepted),
]


@pytest.mark.parametrize(("error", "kind"), [row[1:] for row in HTTP], ids=[row[0] for row in HTTP])
def test_an_http_error_means(error: Exception, kind: type[DeliveryError] | None) -> None:
    found = classify(error)
    assert type(found) is kind if kind is not None else found is None


@pytest.mark.parametrize(("phase", "code", "text", "kind"), SMTP, ids=[f"{a}-{b}-{c}" for a, b, c, _ in SMTP])
def test_an_smtp_failure_means(phase: Phase, code: int | None, text: str, kind: type[DeliveryError]) -> None:
    found = classify(SMTPFailure(phase, code, text))
    assert type(found) is kind
    assert found is not None
    assert found.code == code


def test_doubt_can_only_come_after_the_final_dot() -> None:
    texts = ["", "x", "4.7.1 rate", "5.7.1 no", "5.1.1 no", "4.2.2 full", "5.2.2 full", "5.3.4 big"]
    for phase in set(Phase) - {Phase.ANSWER}:
        for code in [None, -1, 100, 250, 354, 421, 450, 500, 535, 550, 552, 554]:
            for text in texts:
                assert not isinstance(classify(SMTPFailure(phase, code, text)), Unsure)


@pytest.mark.parametrize(("text", "hard"), [("5.1.1 unknown", True), ("5.2.1 disabled", True), ("5.2.2 full", False)])
def test_a_full_mailbox_is_not_a_dead_one(text: str, hard: bool) -> None:
    found = classify(SMTPFailure(Phase.RCPT, 550, text))
    assert isinstance(found, RecipientRefused)
    assert found.hard is hard


def test_greylisting_puts_off_the_recipient_and_not_the_account() -> None:
    one, all_of_them = (
        classify(SMTPFailure(Phase.RCPT, 450, "4.2.0 Greylisted, see")),
        classify(SMTPFailure(Phase.MAIL, 450, "4.7.1 rate exceeded")),
    )
    assert isinstance(one, Throttled)
    assert (one.recipient_only, one.after) == (True, RECIPIENT_PAUSE)
    assert isinstance(all_of_them, Throttled)
    assert (all_of_them.recipient_only, all_of_them.after) == (False, PAUSE)


NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "7"}, 7),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "999999"}, 3600),
        ({"Retry-After": "-5"}, PAUSE),
        ({"Retry-After": "soon"}, PAUSE),
        ({}, PAUSE),
        ({"ratelimit-reset": "3"}, 3),
        ({"Retry-After": formatdate(NOW + 90, usegmt=True), "Date": formatdate(NOW, usegmt=True)}, 90),
        ({"X-RateLimit-Reset": str(NOW + 40), "Date": formatdate(NOW, usegmt=True)}, 40),
        ({"X-RateLimit-Reset": str(NOW + 40)}, PAUSE),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    found = classify(answered(429, "", headers))
    assert isinstance(found, Throttled)
    assert found.after == seconds
