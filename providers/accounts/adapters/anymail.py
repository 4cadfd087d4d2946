"""Providers with an HTTP interface, through django-anymail: one opened backend for many mails, one a call."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from anymail.backends import resend, sendgrid
from anymail.exceptions import AnymailError, AnymailNotSupportedWarning
from anymail.utils import Attachment
from django.core.mail import EmailMultiAlternatives, get_connection
from django.utils.translation import gettext as _

from providers.accounts.adapters import mime
from providers.accounts.adapters.classification import classify, refusal
from providers.accounts.adapters.smtp import LOOPBACK
from providers.accounts.adapters.wire import Wire
from providers.accounts.envelope import Envelope
from providers.accounts.errors import AccountBlocked, AccountMisconfigured, DeliveryError, NotAccepted, Unsure

DEFAULTS: Mapping[str, Any] = {"connect_timeout": 5, "read_timeout": 60}
# The other side may close an idle line just as it is used, which makes a mail doubtful for nothing.
_IDLE_SECONDS = 30
_OLDEST_SECONDS = 300


class ResendBackend(resend.EmailBackend):  # type: ignore[misc]
    """Anymail's, with Resend's header against duplicates: the same key and body send once in 24 h."""

    def build_message_payload(self, message: EmailMultiAlternatives, defaults: Mapping[str, Any]) -> Any:
        payload = _ResendPayload(message, defaults, self)
        if key := getattr(message, "idempotency_key", None):
            payload.headers["Idempotency-Key"] = key
        return payload

    def post_together(self, payloads: Sequence[Any], messages: Sequence[EmailMultiAlternatives], key: str) -> Any:
        """Post all of them at once; the answer's JSON. One that Resend finds wrong does not hold up the others.

        https://resend.com/docs/api-reference/emails/send-batch-emails, as of 2026-11.
        """
        first = payloads[0]
        first.together = payloads
        first.headers |= {"Idempotency-Key": key, "x-batch-validation": "permissive"}
        response = self.post_to_esp(first, messages[0])
        return self.deserialize_json_response(response, first, messages[0])


class _EncodedFile(Attachment):  # type: ignore[misc]
    @property
    def b64content(self) -> str:
        """Its base64, which is the same for all mails that it goes with."""
        encoded: str = self._attachment.file.base64
        return encoded

    b64content_utf8 = b64content


class _WithFiles:
    def prepped_attachments(self, attachments: Sequence[Any]) -> list[_EncodedFile]:
        return [_EncodedFile(one) for one in attachments]


class _ResendPayload(_WithFiles, resend.ResendPayload):  # type: ignore[misc]
    together: Sequence[Any] = ()

    def get_api_endpoint(self) -> Any:
        return "emails/batch" if self.together else super().get_api_endpoint()

    def serialize_data(self) -> Any:
        if self.together:
            return self.serialize_json([payload.data for payload in self.together])
        return super().serialize_data()


class SendGridBackend(sendgrid.EmailBackend):  # type: ignore[misc]
    """Anymail's, with an id of ours that is not random, to match events by after a lost answer."""

    def __init__(self, **kwargs: Any) -> None:
        # Anymail warns that it tests SendGrid no longer. We do: tests/providers/test_adapters_contract.py.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnymailNotSupportedWarning)
            super().__init__(**kwargs)

    def build_message_payload(self, message: EmailMultiAlternatives, defaults: Mapping[str, Any]) -> Any:
        return _SendGridPayload(message, defaults, self)


class _SendGridPayload(_WithFiles, sendgrid.SendGridPayload):  # type: ignore[misc]
    def set_anymail_id(self) -> None:
        key = getattr(self.message, "idempotency_key", None)
        if not key:
            super().set_anymail_id()
            return
        (personalization,) = self.data["personalizations"]
        personalization.setdefault("custom_args", {})["anymail_id"] = key
        for recipient in personalization["to"]:
            self.message_ids[recipient["email"]] = key


@dataclass(frozen=True)
class HttpKind:
    """What is particular to one provider. `probe` is the path of a cheap read that needs the key."""

    label: str
    backend: str
    credentials: tuple[str, ...]
    api_url: str = ""
    probe: str = ""
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = False
    # How many mails one request may carry.
    together: int = 1
    # For requests: how the probe signs in.
    sign_in: Callable[[Mapping[str, str]], dict[str, Any]] = lambda credentials: {
        "headers": {"Authorization": f"Bearer {credentials['api_key']}"}
    }


HTTP_KINDS: Mapping[str, HttpKind] = {
    "resend": HttpKind(
        "Resend",
        "providers.accounts.adapters.anymail.ResendBackend",
        ("api_key",),
        api_url="https://api.resend.com/",
        probe="domains",
        idempotent=True,
        together=100,
    ),
    "sendgrid": HttpKind(
        "SendGrid",
        "providers.accounts.adapters.anymail.SendGridBackend",
        ("api_key",),
        api_url="https://api.sendgrid.com/v3/",
        probe="scopes",
    ),
    "postmark": HttpKind(
        "Postmark",
        "anymail.backends.postmark.EmailBackend",
        ("server_token",),
        api_url="https://api.postmarkapp.com/",
        probe="server",
        options=("message_stream",),
        # Without it Postmark replaces the Message-ID that answers are matched by.
        headers={"X-PM-KeepID": "true"},
        sign_in=lambda credentials: {
            "headers": {"X-Postmark-Server-Token": credentials["server_token"], "Accept": "application/json"}
        },
    ),
    "mailgun": HttpKind(
        "Mailgun",
        "anymail.backends.mailgun.EmailBackend",
        ("api_key",),
        api_url="https://api.mailgun.net/v3/",
        probe="domains?limit=1",
        options=("sender_domain",),
        sign_in=lambda credentials: {"auth": ("api", credentials["api_key"])},
    ),
    "amazon_ses": HttpKind(
        "Amazon SES",
        "anymail.backends.amazon_ses.EmailBackend",
        ("access_key_id", "secret_access_key"),
        optional=("session_token",),
        options=("region", "configuration_set_name"),
    ),
}


class AnymailWire(Wire):
    """An account that is spoken to over HTTP."""

    def __init__(self, kind: HttpKind, credentials: Mapping[str, str], options: Mapping[str, Any]) -> None:
        self._kind = kind
        self._credentials = credentials
        self._options = {**DEFAULTS, **options}
        self._url = _with_slash(self._options.get("api_url") or kind.api_url)
        self._loopback = urlsplit(self._url).hostname in LOOPBACK
        self._backend: Any = get_connection(kind.backend, **self._arguments())
        self._opened_at = self._used_at = 0.0

    def send(self, envelope: Envelope, following: Envelope | None = None) -> str | None:
        message = mime.as_django(envelope, self._kind.headers)
        error: DeliveryError | None = None
        try:
            self._open()
            sent = self._backend.send_messages([message])
        except Exception as exc:
            if not _taken(message):
                error = self._classified(exc)
        except BaseException:
            # Stopped in the middle of an exchange: the line is of no more use.
            self.close()
            raise
        else:
            if not sent:
                error = NotAccepted(f"{self._kind.label}: the mail was held back before it was sent")
            elif not _taken(message):
                error = self._overlooked_refusal(message)
        # Outside the handlers: the chain of causes holds the request with its key.
        if error is not None:
            raise error
        return _message_id(message)

    def send_together(self, envelopes: Sequence[Envelope], key: str) -> list[str | DeliveryError | None]:
        found: list[str | DeliveryError | None] = [None] * len(envelopes)
        messages, payloads, places = [], [], []
        error: DeliveryError | None = None
        answer: Any = None
        try:
            self._open()
            for place, envelope in enumerate(envelopes):
                message = mime.as_django(envelope, self._kind.headers)
                try:
                    payloads.append(self._backend.build_message_payload(message, self._backend.send_defaults))
                except AnymailError as exc:
                    found[place] = self._classified(exc)
                else:
                    messages.append(message)
                    places.append(place)
            if payloads:
                answer = self._backend.post_together(payloads, messages, key)
        except Exception as exc:
            error = self._classified(exc)
        except BaseException:
            self.close()
            raise
        # Outside the handlers: the chain of causes holds the request with its key.
        if error is not None:
            raise error
        for place, result in zip(places, self._results(answer, len(places)), strict=True):
            found[place] = result
        return found

    def verify(self) -> None:
        error: DeliveryError | None = None
        try:
            self._open()
            error = self._probe()
        except Exception as exc:
            error = self._classified(exc)
        if isinstance(error, Unsure):
            error = NotAccepted(error.detail, code=error.code)
        if error is not None:
            raise error

    def close(self) -> None:
        self._backend.close()

    def _open(self) -> None:
        now = time.monotonic()
        if now - self._used_at > _IDLE_SECONDS or now - self._opened_at > _OLDEST_SECONDS:
            self._backend.close()
        self._used_at = now
        if not self._backend.open():
            return
        self._opened_at = now
        session = getattr(self._backend, "session", None)
        if isinstance(session, requests.Session):
            # Following a redirect would post the mail a second time, perhaps to another host.
            session.max_redirects = 0
            # The sandbox is not behind anybody's proxy.
            session.trust_env = not self._loopback

    def _probe(self) -> DeliveryError | None:
        if not self._kind.probe:
            allowed = self._backend.client.get_account().get("SendingEnabled", True)
            return None if allowed else AccountBlocked("Amazon SES: sending is switched off for this account")
        response = self._backend.session.get(
            urljoin(self._url, self._kind.probe),
            timeout=self._backend.timeout,
            **self._kind.sign_in(self._credentials),
        )
        if response.status_code == 401 and "restricted_api_key" in response.text:
            # Resend's key that may send and nothing else: the best one to have.
            return None
        return self._answered(response)

    def _results(self, answer: Any, count: int) -> list[str | DeliveryError | None]:
        """Of each mail in order. Resend lists the ids of those it took, and names the others by their place."""
        try:
            refused = {int(one["index"]): str(one["message"]) for one in answer.get("errors") or ()}
            ids = [str(one["id"]) for one in answer["data"]]
        except (AttributeError, KeyError, TypeError, ValueError):
            refused, ids = {}, []
        if len(ids) + len(refused) != count or not all(0 <= place < count for place in refused):
            # It said yes, in words that cannot be read: a yes to all, as for a single mail.
            return [None] * count
        following = iter(ids)
        return [
            self._told(refusal(422, {"name": "validation_error", "message": refused[place]}, {}))
            if place in refused
            else next(following)
            for place in range(count)
        ]

    def _classified(self, exc: Exception) -> DeliveryError | None:
        return self._told(classify(exc))

    def _answered(self, response: requests.Response) -> DeliveryError | None:
        return self._told(refusal(response.status_code, _json(response), response.headers))

    def _told(self, error: DeliveryError | None) -> DeliveryError | None:
        """The error in words for whoever looks after this account."""
        if error is not None:
            names = " and ".join(self._kind.credentials)
            error.detail = f"{self._kind.label} {error.detail}".replace("account's credentials", f"account's {names}")
            error.without(self._credentials.values())
        return error

    def _overlooked_refusal(self, message: EmailMultiAlternatives) -> DeliveryError:
        """Postmark's 422 whose wording anymail does not know goes through it as if it were a success."""
        response = message.anymail_status.esp_response  # type: ignore[attr-defined]
        return self._answered(response) or Unsure(self._kind.label)

    def _arguments(self) -> dict[str, Any]:
        # All of them, so that nothing of settings.ANYMAIL has a say.
        arguments: dict[str, Any] = {
            "fail_silently": False,
            "debug_api_requests": False,
            "ignore_unsupported_features": False,
            "ignore_recipient_status": False,
            "send_defaults": {},
        }
        timeouts = (self._options["connect_timeout"], self._options["read_timeout"])
        chosen = {name: self._options[name] for name in self._kind.options if self._options.get(name)}
        if not self._kind.api_url:
            return arguments | self._amazon_arguments(chosen, timeouts)
        return arguments | chosen | dict(self._credentials) | {"api_url": self._url, "timeout": timeouts}

    def _amazon_arguments(self, chosen: dict[str, Any], timeouts: tuple[float, float]) -> dict[str, Any]:
        region = chosen.pop("region", None)
        if not region:
            raise AccountMisconfigured("region", _("is missing: give the region of Amazon SES, such as eu-central-1"))
        config: dict[str, Any] = {
            # By default botocore posts a mail up to three times when an answer is lost.
            "retries": {"total_max_attempts": 1},
            "connect_timeout": timeouts[0],
            "read_timeout": timeouts[1],
        }
        client: dict[str, Any] = {"config": config}
        if self._options.get("api_url"):
            client["endpoint_url"] = self._options["api_url"]
        if self._loopback:
            config["proxies"] = {}
        return chosen | {
            "session_params": {
                "region_name": region,
                **{f"aws_{name}": value for name, value in self._credentials.items()},
            },
            "client_params": client,
        }


def _taken(message: EmailMultiAlternatives) -> bool:
    """Whether the provider said yes, whatever was raised after it: a bad id, a receiver of a signal."""
    status = getattr(message, "anymail_status", None)
    response = getattr(status, "esp_response", None)
    if status is None or response is None:
        return False
    if isinstance(response, Mapping):
        code = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    else:
        code = response.status_code
    refused = bool(status.status) and status.status <= {"rejected", "invalid", "failed"}
    return 200 <= code < 300 and not refused


def _message_id(message: EmailMultiAlternatives) -> str | None:
    found = message.anymail_status.message_id  # type: ignore[attr-defined]
    return found if isinstance(found, str) else None


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text[:500]


def _with_slash(url: str) -> str:
    return url if url.endswith("/") or not url else f"{url}/"
