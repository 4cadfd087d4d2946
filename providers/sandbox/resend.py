"""Resend's interface, https://resend.com/docs/api-reference, as far as sending goes."""

import time
from collections.abc import Mapping
from email.utils import parseaddr
from typing import Any
from uuid import uuid4

from providers.sandbox.faults import Answer, Script
from providers.sandbox.http import Request, Response
from providers.sandbox.posting import Poster
from providers.sandbox.tally import Delivery, Tally

# "Idempotency keys expire after 24 hours."
_KEYS_LIVE_SECONDS = 24 * 3600


class Resend:
    """`keys`: which API keys are known, and what the account of each is called in the tally."""

    def __init__(self, script: Script, tally: Tally, keys: Mapping[str, str], poster: Poster) -> None:
        self._script = script
        self._tally = tally
        self._poster = poster
        self._keys = keys
        self._seen: dict[tuple[str, str], tuple[float, bytes, Any]] = {}

    def reset(self) -> None:
        """Forget the idempotency keys."""
        self._seen.clear()

    def handle(self, request: Request) -> Response:
        """The answer to any request that is Resend's."""
        if request.path in ("/emails", "/emails/batch") and request.method == "POST":
            self._tally.requests["resend"] += 1
        response = self._answered(request)
        response.delay = self._script.latency
        return response

    def _answered(self, request: Request) -> Response:
        if self._script.down:
            return _error(503, "service_unavailable", "The service is unavailable. Try again later.")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return _error(401, "missing_api_key", "Missing API key in the authorization header.")
        if key not in self._keys:
            return _error(401, "invalid_api_key", "API key is invalid")
        match request.method, request.path:
            case "GET", "/domains":
                return Response(200, {"object": "list", "has_more": False, "data": []})
            case "POST", "/emails" | "/emails/batch":
                return self._send(request, key)
            case _, "/domains" | "/emails" | "/emails/batch":
                return _error(405, "method_not_allowed", "Method is not allowed for the requested path.")
        return _error(404, "not_found", "The requested endpoint does not exist.")

    def _send(self, request: Request, key: str) -> Response:
        wave = self._script.wave()
        if wave >= 500:
            self._tally.troubles[f"resend {wave}"] += 1
            return _error(wave, "internal_server_error", "An unexpected error occurred.")
        if wave == 429 or not self._script.passes():
            answer = _error(429, "rate_limit_exceeded", "Too many requests. Please limit the number of requests.")
            answer.headers = {"retry-after": "1", "ratelimit-remaining": "0", "ratelimit-reset": "1"}
            return answer
        once = request.headers.get("idempotency-key")
        if once is not None and not 1 <= len(once) <= 256:
            return _error(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        if once is not None and (earlier := self._seen.get((key, once))):
            at, body, answer_body = earlier
            if time.monotonic() - at < _KEYS_LIVE_SECONDS:
                if body != request.body:
                    return _error(
                        409,
                        "invalid_idempotent_request",
                        "Same idempotency key used with a different request payload.",
                    )
                return Response(200, answer_body)
        try:
            mails = request.json()
        except ValueError:
            return _error(400, "validation_error", "The request body is not valid JSON.")
        batch = request.path == "/emails/batch"
        mails = mails if batch else [mails]
        if not isinstance(mails, list) or not 1 <= len(mails) <= 100:
            return _error(422, "validation_error", "A batch has between 1 and 100 emails.")
        problems = {place: found for place, mail in enumerate(mails) if (found := self._problem(mail)) is not None}
        if batch:
            # https://resend.com/docs/api-reference/emails/send-batch-emails: they are not supported there.
            problems |= {
                place: _error(422, "validation_error", "The `attachments` field is not supported in a batch.")
                for place, mail in enumerate(mails)
                if isinstance(mail, dict) and mail.get("attachments")
            }
        permissive = batch and request.headers.get("x-batch-validation") == "permissive"
        if problems and not permissive:
            return problems[min(problems)]
        if self._script.cuts():
            return Response(200, answer=Answer.LOST)
        ids = [{"id": self._deliver(mail, key)} for place, mail in enumerate(mails) if place not in problems]
        answer_body = {"data": ids} if batch else ids[0]
        if permissive:
            refused = [{"index": place, "message": found.body["message"]} for place, found in problems.items()]
            answer_body = {"data": ids, "errors": refused}
        if once is not None:
            self._seen[key, once] = (time.monotonic(), request.body, answer_body)
        return Response(200, answer_body, answer=self._script.answer())

    def _problem(self, mail: Any) -> Response | None:
        if not isinstance(mail, dict):
            return _error(422, "validation_error", "An email must be an object.")
        for name in ("from", "to", "subject"):
            if not mail.get(name):
                return _error(422, "missing_required_field", f"Missing `{name}` field.")
        if not (mail.get("text") or mail.get("html")):
            return _error(422, "missing_required_field", "Missing `html` or `text` field.")
        if "@" not in parseaddr(str(mail["from"]))[1]:
            return _error(422, "validation_error", "Invalid `from` field. " + _HOW)
        recipients = _listed(mail["to"])
        if len(recipients) > 50:
            return _error(422, "validation_error", "The `to` field has more than 50 addresses.")
        for recipient in recipients:
            address = parseaddr(recipient)[1]
            if "@" not in address or self._script.refuses(address):
                return _error(422, "validation_error", "Invalid `to` field. " + _HOW)
        headers = mail.get("headers") or {}
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            return _error(422, "validation_error", "The `headers` field must be an object of strings.")
        return None

    def _deliver(self, mail: dict[str, Any], key: str) -> str:
        headers = {name.lower(): value for name, value in (mail.get("headers") or {}).items()}
        email_id = str(uuid4())
        for recipient in _listed(mail["to"]):
            self._tally.record(
                Delivery(
                    provider="resend",
                    account=self._keys[key],
                    sender=parseaddr(str(mail["from"]))[1],
                    recipient=parseaddr(recipient)[1],
                    message_id=headers.get("message-id", ""),
                    content=mail,
                )
            )
            if not self._script.silent:
                self._poster.resend(parseaddr(recipient)[1], mail, email_id)
        return email_id


_HOW = "The email address needs to follow the `email@example.com` or `Name <email@example.com>` format."


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _error(status: int, name: str, message: str) -> Response:
    return Response(status, {"statusCode": status, "message": message, "name": name})
