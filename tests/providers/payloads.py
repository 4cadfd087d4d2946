"""What each provider posts, signed as each does. Shapes from their documentation, as of 2026-11."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

KINDS = ("resend", "sendgrid", "postmark", "mailgun", "amazon_ses")
_KEYS = {name: ec.derive_private_key(number, ec.SECP256R1()) for number, name in enumerate(("ours", "theirs"), 12345)}


def _public(name: str) -> str:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(_KEYS[name].public_key().public_bytes(encoding, form)).decode()


# The secret of the account, and that of another one.
SECRETS = {
    "resend": ("whsec_" + base64.b64encode(b"o" * 24).decode(), "whsec_" + base64.b64encode(b"t" * 24).decode()),
    "sendgrid": (_public("ours"), _public("theirs")),
    "postmark": ("hook:ours-secret", "hook:their-secret"),
    "mailgun": ("key-ours", "key-theirs"),
    "amazon_ses": ("hook:ours-secret", "hook:their-secret"),
}


@dataclass(frozen=True)
class Post:
    body: bytes
    headers: Mapping[str, str]


def post(
    kind: str,
    what: str,
    metadata: Mapping[str, str],
    *,
    now: datetime,
    theirs: bool = False,
    to: str = "kim@people.example",
    unique: str = "",
) -> Post:
    """One post of one event: delivered, opened, hard, soft or complained; signed with another's secret if `theirs`."""
    unique = unique or uuid4().hex
    return _POSTS[kind](what, dict(metadata), now, SECRETS[kind][theirs], to, unique, theirs)


def resigned(kind: str, body: bytes, now: datetime, unique: str) -> Post:
    """The same body as a later attempt of the provider."""
    if kind == "resend":
        signature = Webhook(SECRETS[kind][0]).sign(unique, now, body.decode())
        stamp = str(int(now.timestamp()))
        return Post(body, {"svix-id": unique, "svix-timestamp": stamp, "svix-signature": signature})
    return _sendgrid_signed(body, now, "ours")


def _resend(what: str, metadata: Any, now: datetime, secret: str, to: str, unique: str, theirs: bool) -> Post:
    names = {"hard": "bounced", "soft": "bounced"}
    data: dict[str, Any] = {
        "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
        "to": [to],
        "headers": [{"name": "X-Metadata", "value": json.dumps(metadata)}],
    }
    if what in names:
        hard = what == "hard"
        data["bounce"] = {
            "message": "The recipient's email provider sent a bounce message.",
            "type": "Permanent" if hard else "Transient",
            "subType": "General" if hard else "MailboxFull",
        }
    content = {"type": f"email.{names.get(what, what)}", "created_at": now.isoformat(), "data": data}
    body = json.dumps(content)
    signature = Webhook(secret).sign(unique, now, body)
    stamp = str(int(now.timestamp()))
    return Post(body.encode(), {"svix-id": unique, "svix-timestamp": stamp, "svix-signature": signature})


def _sendgrid(what: str, metadata: Any, now: datetime, secret: str, to: str, unique: str, theirs: bool) -> Post:
    events = {"hard": "bounce", "soft": "bounce", "opened": "open", "complained": "spamreport"}
    content: dict[str, Any] = {
        "email": to,
        "timestamp": int(now.timestamp()),
        "event": events.get(what, what),
        "sg_event_id": unique,
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        **metadata,
    }
    if what == "hard":
        content |= {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"}
    if what == "soft":
        content |= {"type": "bounce", "status": "5.2.2", "reason": "552 5.2.2 mailbox full"}
    return _sendgrid_signed(json.dumps([content]).encode(), now, "theirs" if theirs else "ours")


def _sendgrid_signed(body: bytes, now: datetime, whose: str) -> Post:
    stamp = str(int(now.timestamp()))
    signature = base64.b64encode(_KEYS[whose].sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    names = "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"
    return Post(body, dict(zip(names, (signature, stamp), strict=True)))


def _postmark(what: str, metadata: Any, now: datetime, secret: str, to: str, unique: str, theirs: bool) -> Post:
    records = {"delivered": "Delivery", "opened": "Open", "complained": "SpamComplaint"}
    times = {"delivered": "DeliveredAt", "opened": "ReceivedAt"}
    content: dict[str, Any] = {
        "RecordType": records.get(what, "Bounce"),
        "MessageID": unique,
        "Recipient": to,
        "Metadata": metadata,
        times.get(what, "BouncedAt"): now.isoformat(),
    }
    if what in ("hard", "soft", "complained"):
        kinds = {"hard": "HardBounce", "soft": "SoftBounce", "complained": "SpamComplaint"}
        content |= {
            "ID": unique,
            "Type": kinds[what],
            "Email": to,
            "Details": "smtp;550 5.1.1" if what == "hard" else "",
        }
    return Post(json.dumps(content).encode(), _basic(secret))


def _mailgun(what: str, metadata: Any, now: datetime, secret: str, to: str, unique: str, theirs: bool) -> Post:
    data: dict[str, Any] = {
        "event": {"hard": "failed", "soft": "failed"}.get(what, what),
        "timestamp": now.timestamp(),
        "id": "CPgfbmQMTCKtHW6uIWtuVe",
        "recipient": to,
        "message": {"headers": {"message-id": "20130503182626.18666.16540@mg.example"}},
        "user-variables": metadata,
    }
    if what in ("hard", "soft"):
        data |= {"severity": "permanent", "reason": "bounce", "delivery-status": {"code": 605, "message": "gone"}}
    if what == "soft":
        data["delivery-status"] = {"code": 552, "message": "mailbox full"}
        data["reason"] = "mailbox full"
    stamp = str(int(now.timestamp()))
    signature = hmac.new(secret.encode(), f"{stamp}{unique}".encode(), hashlib.sha256).hexdigest()
    content = {"signature": {"token": unique, "timestamp": stamp, "signature": signature}, "event-data": data}
    return Post(json.dumps(content).encode(), {})


def _amazon_ses(what: str, metadata: Any, now: datetime, secret: str, to: str, unique: str, theirs: bool) -> Post:
    kinds = {"delivered": "Delivery", "opened": "Open", "complained": "Complaint"}
    event: dict[str, Any] = {
        "eventType": kinds.get(what, "Bounce"),
        "mail": {
            "messageId": "EXAMPLE7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
            "destination": [to],
            "headers": [{"name": "X-Metadata", "value": json.dumps(metadata)}],
        },
        "delivery": {"recipients": [to], "smtpResponse": "250 ok"},
        "complaint": {"complainedRecipients": [{"emailAddress": to}], "complaintFeedbackType": "abuse"},
        "bounce": {
            "bounceType": "Permanent" if what == "hard" else "Transient",
            "bounceSubType": "General" if what == "hard" else "MailboxFull",
            "bouncedRecipients": [{"emailAddress": to, "diagnosticCode": "smtp; 550 5.1.1"}],
        },
        "open": {},
    }
    content = {
        "Type": "Notification",
        "MessageId": unique,
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:events",
        "Message": json.dumps(event),
        "Timestamp": now.astimezone(UTC).isoformat(),
    }
    headers = {"x-amz-sns-message-type": "Notification", "x-amz-sns-message-id": unique, **_basic(secret)}
    return Post(json.dumps(content).encode(), headers)


def _basic(secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}


_POSTS: Mapping[str, Callable[..., Post]] = {
    "resend": _resend,
    "sendgrid": _sendgrid,
    "postmark": _postmark,
    "mailgun": _mailgun,
    "amazon_ses": _amazon_ses,
}
