"""Pure: a webhook's post becomes events in our own words, by anymail's parsers. What is odd in it costs nothing else.

Where the mail belongs is told by the metadata that we sent with it: `agency`, the name of a schema, and `message`, the
mail's key, or `trial`, that of a mail of no campaign.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from anymail.signals import AnymailTrackingEvent, RejectReason
from anymail.signals import EventType as Told
from anymail.webhooks import mailgun, postmark, resend
from django.http import HttpRequest

from providers.accounts.events import BounceClass, EventType, Heard
from providers.accounts.signatures import SendGridView


class UnreadableError(Exception):
    """The post is not what its provider sends."""


@dataclass(frozen=True, slots=True)
class Routed:
    """An event and the agency that its mail belongs to: the name of a schema, "" where it does not say."""

    agency: str
    heard: Heard


def events(
    kind: str, headers: Mapping[str, str], body: bytes, *, account_id: int, received_at: datetime
) -> Iterator[Routed]:
    """The events of one post; raises UnreadableError where there is none to find."""
    try:
        told = list(_PARSERS[kind](_request(headers, body)))
    except Exception as error:
        raise UnreadableError(f"{type(error).__name__}") from error
    for place, one in enumerate(told):
        if one is not None:
            yield _routed(kind, one, place, account_id, received_at)


def subscription(kind: str, body: bytes) -> str:
    """The address that Amazon SNS wants to be opened before it posts events; "" where this is no such post."""
    if kind != "amazon_ses":
        return ""
    try:
        post = json.loads(body)
        asked = post["Type"] == "SubscriptionConfirmation"
        return str(post["SubscribeURL"]) if asked and post["SubscribeURL"].startswith("https://") else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _routed(kind: str, told: AnymailTrackingEvent, place: int, account_id: int, received_at: datetime) -> Routed:
    metadata = told.metadata if isinstance(told.metadata, dict) else {}
    at = told.timestamp
    if at is None or at.tzinfo is None:
        at = received_at
    raw = told.esp_event if isinstance(told.esp_event, dict) else {}
    type_, bounce_class = _meaning(kind, told, raw)
    return Routed(
        str(metadata.get("agency", "")),
        Heard(
            source=kind,
            raw_id=_id(told, at),
            type=type_,
            at=at,
            received_at=received_at,
            message=_uuid(metadata.get("message") or metadata.get("trial")),
            account_id=account_id,
            recipient=str(told.recipient or ""),
            detail=str(told.click_url or told.mta_response or told.description or ""),
            bounce_class=bounce_class,
            provider_id=str(told.message_id or ""),
        ),
    )


def _id(told: AnymailTrackingEvent, at: datetime) -> str:
    """What makes the event one of a kind. One id of Amazon SNS may tell of several recipients; Postmark has few ids."""
    parts = [told.event_id] if told.event_id else [told.message_id, at.isoformat(), told.click_url]
    parts += [told.event_type, told.recipient]
    return hashlib.sha256("\n".join(str(part) for part in parts).encode(errors="replace")).hexdigest()


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


_TYPES = {
    Told.QUEUED: EventType.SENT,
    Told.SENT: EventType.SENT,
    Told.DELIVERED: EventType.DELIVERED,
    Told.DEFERRED: EventType.DEFERRED,
    Told.BOUNCED: EventType.BOUNCED,
    Told.REJECTED: EventType.BOUNCED,
    Told.COMPLAINED: EventType.COMPLAINED,
    Told.UNSUBSCRIBED: EventType.UNSUBSCRIBED,
    Told.OPENED: EventType.OPENED,
    Told.CLICKED: EventType.CLICKED,
}


def _meaning(kind: str, told: AnymailTrackingEvent, raw: Mapping[str, Any]) -> tuple[EventType, BounceClass | None]:
    type_ = _TYPES.get(told.event_type, EventType.OTHER)
    if type_ is not EventType.BOUNCED:
        return type_, None
    if told.event_type == Told.REJECTED:
        # Never tried: the provider keeps a list of its own of those who complained or opted out.
        if told.reject_reason == RejectReason.UNSUBSCRIBED:
            return EventType.UNSUBSCRIBED, None
        if told.reject_reason in (RejectReason.INVALID, RejectReason.BOUNCED):
            return type_, BounceClass.HARD
        return type_, BounceClass.BLOCKED
    return type_, _bounce_class(_bounce_words(kind, raw), str(told.mta_response or told.description or ""))


def _bounce_words(kind: str, raw: Mapping[str, Any]) -> str:
    """What the provider itself says of a bounce, in small letters."""
    try:
        match kind:
            # https://resend.com/docs/webhooks/emails/bounced
            case "resend":
                found = [raw["data"]["bounce"].get("type"), raw["data"]["bounce"].get("subType")]
            # https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
            case "amazon_ses":
                found = [raw["bounce"].get("bounceType"), raw["bounce"].get("bounceSubType")]
            # https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event: bounce or blocked
            case "sendgrid":
                found = [raw.get("type"), raw.get("status"), raw.get("bounce_classification")]
            case "postmark":
                found = [raw.get("Type")]
            case _:
                data = raw["event-data"]
                found = [data.get("severity"), data.get("reason"), data.get("delivery-status", {}).get("code")]
    except (KeyError, TypeError, AttributeError):
        return ""
    return " ".join(str(one).lower() for one in found if one)


# Words of a provider, and which class each means; the first that fits counts. RFC 3463 for the codes.
_WORDS: tuple[tuple[tuple[str, ...], BounceClass], ...] = (
    (
        ("mailboxfull", "mailbox_full", "mailbox full", "5.2.2", "4.2.2", "over quota", "overquota"),
        BounceClass.MAILBOX_FULL,
    ),
    (("blocked", "contentrejected", "attachmentrejected", "messagetoolarge", "spam", "5.7."), BounceClass.BLOCKED),
    (("softbounce", "transient", "temporary", "undetermined", "technical", "4."), BounceClass.SOFT),
    (("hardbounce", "permanent", "bounce", "5."), BounceClass.HARD),
)


def _bounce_class(words: str, answer: str) -> BounceClass:
    for text in (words, answer.lower()):
        for marks, found in _WORDS:
            if any(mark in text for mark in marks):
                return found
    return BounceClass.SOFT


def _request(headers: Mapping[str, str], body: bytes) -> HttpRequest:
    request = HttpRequest()
    request.method = "POST"
    request.content_type = "application/json"
    request.META = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    request._body = body
    return request


def _resend(request: HttpRequest) -> Iterator[Any]:
    yield _view("resend").esp_to_anymail_event(json.loads(request.body), request)


def _sendgrid(request: HttpRequest) -> Iterator[Any]:
    for one in json.loads(request.body):
        try:
            yield _view("sendgrid").esp_to_anymail_event(one)
        except Exception:
            # Of up to some thousand events of a post one may be odd.
            yield None


def _others(kind: str) -> Callable[[HttpRequest], Iterator[Any]]:
    return lambda request: iter(_view(kind).parse_events(request))


@lru_cache
def _view(kind: str) -> Any:
    """The parser; who may post is checked by `signatures`, so it gets a password that nobody is asked for."""
    arguments: dict[str, Any] = {"webhook_secret": "not:asked"}
    match kind:
        case "resend":
            return resend.ResendTrackingWebhookView(**arguments)
        case "sendgrid":
            return SendGridView(**arguments)
        case "postmark":
            return postmark.PostmarkTrackingWebhookView(**arguments)
        case "mailgun":
            return mailgun.MailgunTrackingWebhookView(webhook_signing_key="-", **arguments)
        case _:
            # It brings boto3.
            from anymail.webhooks import amazon_ses

            return amazon_ses.AmazonSESTrackingWebhookView(auto_confirm_sns_subscriptions=False, **arguments)


_PARSERS: Mapping[str, Callable[[HttpRequest], Iterator[Any]]] = {
    "resend": _resend,
    "sendgrid": _sendgrid,
    "postmark": _others("postmark"),
    "mailgun": _others("mailgun"),
    "amazon_ses": _others("amazon_ses"),
}
