"""What an exception of a mail library means: was the mail taken, and who is to blame. Pure.

The rule that comes before all others: what is not listed here may have been taken (`Unsure`).
"""

import re
import smtplib
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from anymail.exceptions import (
    AnymailAPIError,
    AnymailError,
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from django.core.mail import BadHeaderError
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from providers.accounts.errors import (
    AccountBlocked,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    RecipientRefused,
    Throttled,
    Unsure,
)

# Seconds to wait where the far end asks to slow down and does not say for how long.
PAUSE = 60
# For one recipient that is put off: RFC 5321 section 4.5.4.1 wants at least 30 minutes between tries.
RECIPIENT_PAUSE = 1800
_LONGEST_PAUSE = 3600


def classify(exc: Exception) -> DeliveryError | None:
    """The typed error of design.md for any exception of a send.

    None: the provider took the mail and only its id is unknown (HTTP 2xx with an unreadable answer).
    """
    if isinstance(exc, DeliveryError):
        return exc
    # By name, so that smtp may import this module.
    if isinstance(exc, smtplib.SMTPException) and hasattr(exc, "phase"):
        return _smtp(str(exc.phase), getattr(exc, "code", None), getattr(exc, "text", ""), getattr(exc, "cause", None))
    if isinstance(exc, AnymailRecipientsRefused):
        return RecipientRefused("the recipient is refused or inactive there", hard=True, code=_status(exc))
    if isinstance(
        exc,
        AnymailInvalidAddress
        | AnymailUnsupportedFeature
        | AnymailSerializationError
        | BadHeaderError
        | UnicodeEncodeError,
    ):
        return MessageRefused(f"the mail cannot be put into a request: {_first_line(exc)}")
    if isinstance(exc, AnymailError | requests.RequestException):
        return _anymail(exc)
    if type(exc).__module__.startswith("botocore"):
        response = getattr(exc, "response", None)
        return _amazon(response) if isinstance(response, Mapping) else _no_answer(exc)
    return Unsure(f"unexpected {type(exc).__name__}")


def refusal(status: int, answer: Any, headers: Mapping[str, str]) -> DeliveryError | None:
    """The same for an HTTP answer: its status, its body (parsed JSON, or text) and its headers.

    None also when it says that an earlier attempt with the same key was taken.
    """
    if 200 <= status < 300:
        return None
    said = _said(status, answer)
    if status == 409 and said.name == "invalid_idempotent_request":
        # Resend, https://resend.com/docs/dashboard/emails/idempotency-keys: our key was used, with other bytes.
        return None
    if status == 503:
        return NotAccepted(said.line, code=status)
    if 300 <= status < 400:
        if status in (301, 307, 308):
            return NotAccepted(f"{said.line}; a redirect is not followed, check the account's api_url", code=status)
        return Unsure(said.line, code=status)
    if not 400 <= status < 500 or status == 409:
        # Any other 409 is Resend's answer while an earlier attempt with the same key has not ended.
        return Unsure(said.line, code=status)
    return _client_error(status, said, headers)


def _anymail(exc: Exception) -> DeliveryError | None:
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping):
        return _amazon(response)
    if type(exc) is AnymailError:
        return NotAccepted(f"the mail cannot be put into a request: {_first_line(exc)}")
    if isinstance(exc, AnymailAPIError) and "parsing Amazon SES send result" in str(exc.args[:1]):
        return None
    cause = exc.__cause__ or exc
    if response is None:
        response = getattr(cause, "response", None)
    if response is not None:
        if 200 <= response.status_code < 300 and "Invalid Mailgun API endpoint" in str(exc.args[:1]):
            # Mailgun greets wrong addresses with 200.
            return NotAccepted("there is no such endpoint: check the account's api_url and sender_domain", code=200)
        return refusal(response.status_code, _body(response), response.headers)
    return _no_answer(cause)


# --- nothing came back


_NEVER_ASKED = frozenset(
    [
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "EndpointProviderError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProxyConnectionError",
        "UnknownEndpointError",
    ]
)
_MISCONFIGURED = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
)


def _no_answer(cause: BaseException) -> DeliveryError:
    # By name, because botocore takes long to import and most installations have no account at Amazon.
    names = {parent.__name__ for parent in type(cause).__mro__ if parent.__module__.startswith("botocore")}
    if names & _NEVER_ASKED:
        return NotAccepted("no connection")
    if "ParamValidationError" in names:
        return MessageRefused("the mail cannot be put into a request")
    if isinstance(cause, _MISCONFIGURED):
        return NotAccepted("the account's api_url or key cannot be used in a request")
    if isinstance(cause, requests.ConnectTimeout):
        return NotAccepted("no connection: time-out")
    reason = getattr(cause.args[0], "reason", None) if cause.args else None
    original = getattr(reason, "original_error", reason)
    if isinstance(original, NewConnectionError | ConnectTimeoutError):
        return NotAccepted(f"no connection: {_connection_trouble(original)}")
    certificate = _inside(cause, ssl.SSLCertVerificationError)
    if certificate is not None or "WRONG_VERSION_NUMBER" in str(cause):
        return NotAccepted("no connection: the certificate is not valid, or the port does not speak TLS")
    if isinstance(cause, requests.Timeout) or "ReadTimeoutError" in names:
        return Unsure("no answer in time; the mail may have been taken")
    return Unsure("the connection was lost before the answer; the mail may have been taken")


def _connection_trouble(error: BaseException) -> str:
    return "its name is not known (DNS)" if type(error).__name__ == "NameResolutionError" else "refused or unreachable"


def _inside(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    for _ in range(8):
        if error is None or isinstance(error, kind):
            return error
        deeper = getattr(error, "reason", None) or (error.args[0] if error.args else None) or error.__cause__
        error = deeper if isinstance(deeper, BaseException) else None
    return None


# --- HTTP answers


class _Said:
    """A provider's own words in any of five shapes: `text`, an error `name`, the `field` that it blames."""

    def __init__(self, status: int, text: str, name: str = "", field: str = "") -> None:
        self.text = text
        self.name = name
        self.field = field
        self.line = " ".join(part for part in (f"answered {status}", name, text[:160]) if part)
        self.words = f"{name} {text}".lower()


def _said(status: int, answer: Any) -> _Said:
    if isinstance(answer, Mapping):
        errors = answer.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], Mapping):
            first = errors[0]
            return _Said(status, str(first.get("message") or ""), field=str(first.get("field") or ""))
        if "ErrorCode" in answer:
            return _Said(status, str(answer.get("Message") or ""), name=f"error {answer['ErrorCode']}")
        return _Said(status, str(answer.get("message") or answer.get("Message") or ""), str(answer.get("name") or ""))
    text = answer if isinstance(answer, str) and "<" not in answer else ""
    return _Said(status, text)


# An own error of the account, whatever its status: no mail leaves until somebody has acted.
_ACCOUNT_WORDS = re.compile(
    r"quota_exceeded|quota exceeded|maximum credits|credits exceeded|testing emails|suspend"
    r"|not allowed to send|pending approval|account (is )?(disabled|inactive|blocked)"
    r"|error (10|405|412|413)\b"
)
# One sender's domain or address: other senders of the account are fine.
_SENDER_WORDS = re.compile(
    r"domain is not verified|sender identity|invalid_from_address|sender signature|address is not verified"
    r"|domain not found|`from`|'from'|error (400|401)\b|mailfromdomain"
)
_RECIPIENT_WORDS = re.compile(
    r"`to`|'to'|invalid_to_address|to parameter|recipient address|destination address"
    r"|error 406\b|inactive recipient"
)


def _client_error(status: int, said: _Said, headers: Mapping[str, str]) -> DeliveryError:
    hint = "; check the account's credentials" if status in (401, 403) else ""
    if _ACCOUNT_WORDS.search(said.words):
        return AccountBlocked(said.line + hint, code=status)
    if status == 429:
        return Throttled(said.line, after=_wait(headers), code=status)
    field = said.field.lower()
    if field.startswith("from") or _SENDER_WORDS.search(said.words):
        return NotAccepted(f"{said.line} (a matter of this sender, not of the account)", code=status)
    if status in (401, 402, 403):
        return AccountBlocked(said.line + hint, code=status)
    if status in (400, 422):
        if re.search(r"(^|\.)to(\.|$)", field) or _RECIPIENT_WORDS.search(said.words):
            return RecipientRefused(said.line, hard=True, code=status)
        if said.text or said.name:
            return MessageRefused(said.line, field=said.field, code=status)
    if status == 413:
        return MessageRefused(said.line, code=status)
    return NotAccepted(said.line, code=status)


def _wait(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After (seconds or a date) or X-RateLimit-Reset (SendGrid), by the server's clock."""
    headers = CaseInsensitiveDict(headers)
    asked = headers.get("Retry-After") or headers.get("ratelimit-reset") or ""
    if re.fullmatch(r"\d+(\.\d+)?", asked):
        return _bounded(float(asked))
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
        if asked:
            return _bounded(parsedate_to_datetime(asked).timestamp() - now)
        return _bounded(float(headers["X-RateLimit-Reset"]) - now)
    except (ValueError, TypeError, KeyError):
        return PAUSE


def _bounded(seconds: float) -> float:
    return min(max(seconds, 1.0), float(_LONGEST_PAUSE))


def _body(response: requests.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return response.text[:500]


# --- Amazon SES


_AMAZON_BLOCKED = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "AccountSuspendedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "LimitExceededException",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SendingPausedException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ]
)
_AMAZON_SENDER = frozenset(["MailFromDomainNotVerifiedException", "NotFoundException", "RequestExpired"])


def _amazon(response: Mapping[str, Any]) -> DeliveryError | None:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    name = str(response.get("Error", {}).get("Code") or "")
    text = str(response.get("Error", {}).get("Message") or "")
    said = _Said(status, text, name)
    if 200 <= status < 300:
        return None
    if name in _AMAZON_BLOCKED or "daily message quota" in said.words:
        return AccountBlocked(f"{said.line}; check the account's credentials", code=status)
    if name in ("TooManyRequestsException", "Throttling", "ThrottlingException"):
        return Throttled(
            said.line, after=_wait(response.get("ResponseMetadata", {}).get("HTTPHeaders", {})), code=status
        )
    if name in _AMAZON_SENDER:
        return NotAccepted(said.line, code=status)
    if name == "MessageRejected" and not _SENDER_WORDS.search(said.words):
        return MessageRefused(said.line, code=status)
    return refusal(status, {"name": name, "message": text}, {})


# --- SMTP


_ENHANCED = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_TOO_FAST = re.compile(
    r"\brate\b|too (many|fast|much)|throttl|slow down|try again in|limit exceeded|temporarily deferred"
)
_PUT_OFF = re.compile(r"gr[ae]y ?list|mailbox (is )?full|over ?quota|quota exceeded|mailbox (is )?(busy|locked)")
_IN_SECONDS = re.compile(r"\b(\d{1,5}) ?(s|sec|second|m|min|minute)", re.IGNORECASE)
_OF_THE_ACCOUNT = re.compile(
    r"\brelay|authentication (is )?required|not authenticated|authenticate first|credential"
    r"|not permitted to send|blocked using|block ?list|blacklist"
)
_BEFORE_ANY_RECIPIENT = ("connecting", "MAIL")


def _smtp(phase: str, code: int | None, text: str, cause: Exception | None) -> DeliveryError:
    """RFC 5321 section 4.2 and the enhanced codes of RFC 3463, with the phase that only our backend knows."""
    after_the_dot = phase.startswith("waiting for the answer")
    line = f"{phase}: {code or ''} {text}"
    if code is None or not 400 <= code < 600:
        if after_the_dot:
            return Unsure(f"{line}; the mail may have been taken", code=code)
        if isinstance(cause, smtplib.SMTPNotSupportedError):
            return AccountBlocked(f"{line}; check the account's security and username", code=code)
        return NotAccepted(line, code=code)
    found = _ENHANCED.search(text)
    enhanced = (int(found[2]), int(found[3])) if found and int(found[1]) == code // 100 else None
    words = text.lower()
    if code < 500:
        return _smtp_for_now(phase, code, enhanced, words, line)
    return _smtp_for_good(phase, code, enhanced, words, line)


def _smtp_for_now(phase: str, code: int, enhanced: tuple[int, int] | None, words: str, line: str) -> DeliveryError:
    subject = enhanced[0] if enhanced else None
    too_fast = _TOO_FAST.search(words) is not None
    if phase not in _BEFORE_ANY_RECIPIENT and (
        enhanced in ((2, 1), (2, 2))
        or _PUT_OFF.search(words)
        # What greylisting says when it does not use the word.
        or (phase == "RCPT" and subject == 7 and not too_fast)
    ):
        return Throttled(line, after=RECIPIENT_PAUSE, code=code, recipient_only=True)
    signing_in_failed = code == 454 and phase == "connecting"
    if not signing_in_failed and (subject == 7 or too_fast):
        return Throttled(line, after=_smtp_wait(words), code=code)
    return NotAccepted(line, code=code)


def _smtp_for_good(phase: str, code: int, enhanced: tuple[int, int] | None, words: str, line: str) -> DeliveryError:
    if code in (530, 534, 535, 538) or enhanced == (7, 8):
        return AccountBlocked(f"{line}; check the account's username and password", code=code)
    subject, detail = enhanced or (None, None)
    if subject == 7 or (enhanced is None and _OF_THE_ACCOUNT.search(words)):
        return _smtp_policy(phase, code, words, line)
    if code == 552 or enhanced in ((3, 4), (2, 3)):
        if phase == "RCPT" or enhanced == (2, 2):
            return RecipientRefused(line, hard=False, code=code)
        return MessageRefused(line, code=code)
    if phase in ("RCPT", "DATA") or phase.startswith("waiting"):
        # X.1.7 and X.1.8 are about the sender's address.
        if (subject == 1 and detail not in (7, 8)) or enhanced == (2, 1):
            return RecipientRefused(line, hard=True, code=code)
        if enhanced == (2, 2):
            return RecipientRefused(line, hard=False, code=code)
        if phase == "RCPT" and enhanced is None and code in (550, 551, 553):
            return RecipientRefused(line, hard=True, code=code)
    if subject == 6:
        return MessageRefused(line, code=code)
    return NotAccepted(line, code=code)


def _smtp_policy(phase: str, code: int, words: str, line: str) -> DeliveryError:
    """5.7.x. Whom it blames depends on when it comes: one recipient's rule must not stop a shared account."""
    if phase in _BEFORE_ANY_RECIPIENT or _OF_THE_ACCOUNT.search(words):
        return AccountBlocked(f"{line}; the server's policy refuses this account", code=code)
    if phase == "RCPT":
        return NotAccepted(line, code=code)
    # The content was seen and not wanted. Another account would only spread the damage.
    return MessageRefused(line, code=code)


def _smtp_wait(words: str) -> float:
    found = _IN_SECONDS.search(words)
    if not found:
        return PAUSE
    return _bounded(float(found[1]) * (60 if found[2].startswith("m") else 1))


def _status(exc: Exception) -> int | None:
    return getattr(exc, "status_code", None)


def _first_line(exc: Exception) -> str:
    text = str(exc.args[0]) if exc.args else type(exc).__name__
    return text.splitlines()[0] if text else type(exc).__name__
