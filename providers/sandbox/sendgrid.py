"""SendGrid's Web API v3, https://www.twilio.com/docs/sendgrid/api-reference/mail-send, as far as
sending goes.
"""

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from providers.sandbox.faults import Answer, Script
from providers.sandbox.http import Request, Response
from providers.sandbox.posting import Poster
from providers.sandbox.tally import Delivery, Tally

_RESERVED_HEADERS = frozenset(
    [
        "bcc",
        "cc",
        "content-transfer-encoding",
        "content-type",
        "dkim-signature",
        "from",
        "received",
        "reply-to",
        "subject",
        "to",
        "x-sg-eid",
        "x-sg-id",
    ]
)


class SendGrid:
    """`keys`: which API keys are known, and what the account of each is called in the tally."""

    def __init__(self, script: Script, tally: Tally, keys: Mapping[str, str], poster: Poster) -> None:
        self._script = script
        self._tally = tally
        self._poster = poster
        self._keys = keys

    def handle(self, request: Request) -> Response:
        """The answer to any request below /v3/."""
        if request.path == "/v3/mail/send" and request.method == "POST":
            self._tally.requests["sendgrid"] += 1
        response = self._answered(request)
        response.delay = self._script.latency
        return response

    def _answered(self, request: Request) -> Response:
        if self._script.down:
            return _error(503, "Service Unavailable")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key not in self._keys:
            return _error(401, "The provided authorization grant is invalid, expired, or revoked")
        match request.method, request.path:
            case "GET", "/v3/scopes":
                return Response(200, {"scopes": ["mail.send", "scopes.read"]})
            case "POST", "/v3/mail/send":
                return self._send(request, key)
            case _, "/v3/scopes" | "/v3/mail/send":
                return _error(405, "method not allowed")
        return _error(404, "not found")

    def _send(self, request: Request, key: str) -> Response:
        wave = self._script.wave()
        if wave >= 500:
            self._tally.troubles[f"sendgrid {wave}"] += 1
            return _error(wave, "An unexpected error occurred.")
        if wave == 429 or not self._script.passes():
            answer = _error(429, "too many requests")
            answer.headers = {
                "Retry-After": "1",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(time.time()) + 1),
            }
            return answer
        try:
            mail = request.json()
        except ValueError:
            return _error(400, "Bad Request")
        if (problem := self._problem(mail)) is not None:
            return problem
        if self._script.cuts():
            return Response(202, answer=Answer.LOST)
        message_id = uuid4().hex[:22]
        for personalization in mail["personalizations"]:
            custom_args = {**mail.get("custom_args", {}), **personalization.get("custom_args", {})}
            headers = {
                name.lower(): value
                for name, value in {**mail.get("headers", {}), **personalization.get("headers", {})}.items()
            }
            for recipient in personalization["to"]:
                self._tally.record(
                    Delivery(
                        provider="sendgrid",
                        account=self._keys[key],
                        sender=mail["from"]["email"],
                        recipient=recipient["email"],
                        message_id=headers.get("message-id", ""),
                        content=mail,
                    )
                )
                if not self._script.silent:
                    self._poster.sendgrid(recipient["email"], mail, custom_args, message_id, headers)
        return Response(202, headers={"X-Message-Id": message_id}, answer=self._script.answer())

    def _problem(self, mail: Any) -> Response | None:
        if not isinstance(mail, dict):
            return _error(400, "Bad Request")
        if not _has_email(mail.get("from")):
            return _error(400, "The from object must be provided for every email send.", "from.email")
        personalizations = mail.get("personalizations")
        if not isinstance(personalizations, list) or not 1 <= len(personalizations) <= 1000:
            return _error(400, "The personalizations field is required.", "personalizations")
        for number, personalization in enumerate(personalizations):
            place = f"personalizations.{number}.to"
            recipients = personalization.get("to") if isinstance(personalization, dict) else None
            if not isinstance(recipients, list) or not recipients:
                return _error(400, "The to array is required for all personalization objects.", place)
            for index, recipient in enumerate(recipients):
                if not _has_email(recipient) or self._script.refuses(recipient["email"]):
                    return _error(400, "Does not contain a valid address.", f"{place}.{index}.email")
        if not mail.get("subject"):
            return _error(400, "The subject is required.", "subject")
        content = mail.get("content")
        if not isinstance(content, list) or not content or not all(part.get("value") for part in content):
            return _error(400, "The content value must be a string at least one character in length.", "content")
        for name, value in (mail.get("headers") or {}).items():
            if name.lower() in _RESERVED_HEADERS or not isinstance(value, str):
                return _error(400, f"The {name} header is reserved and cannot be set.", f"headers.{name}")
        return None


def _has_email(value: Any) -> bool:
    return isinstance(value, dict) and "@" in str(value.get("email") or "")


def _error(status: int, message: str, field: str | None = None) -> Response:
    return Response(status, {"errors": [{"message": message, "field": field, "help": None}]})
