"""Notifications of Amazon SES, which come as mail with JSON. Pure."""

import json

from providers.senders.inbound.answers import Recipient, address_in, judged, status_in, untyped
from providers.senders.inbound.mail import Mail

LONGEST = 200_000


def of_notification(mail: Mail) -> list[Recipient]:
    """What a notification of a bounce or a delivery says of each recipient; empty for any other mail."""
    told = _notification(mail)
    bounce, delivery = told.get("bounce"), told.get("delivery")
    if isinstance(bounce, dict):
        about = f"{bounce.get('bounceType')} {bounce.get('bounceSubType')}"
        return [
            judged(
                address_in(str(one.get("emailAddress", ""))),
                str(one.get("action", "failed")).lower(),
                status_in(str(one.get("status", ""))),
                untyped(str(one.get("diagnosticCode", ""))),
                about,
            )
            for one in _dicts(bounce.get("bouncedRecipients"))
        ]
    if isinstance(delivery, dict) and isinstance(delivery.get("recipients"), list):
        answer = str(delivery.get("smtpResponse", ""))
        return [
            judged(address_in(str(address)), "delivered", status_in(answer), answer, "")
            for address in delivery["recipients"]
        ]
    return []


def complained(mail: Mail) -> list[str]:
    """The addresses that a notification of a complaint names; empty for any other mail."""
    complaint = _notification(mail).get("complaint")
    if not isinstance(complaint, dict):
        return []
    return [address_in(str(one.get("emailAddress", ""))) for one in _dicts(complaint.get("complainedRecipients"))]


def _notification(mail: Mail) -> dict[str, object]:
    for part in mail.parts:
        if part.enclosed or part.kind not in ("text/plain", "application/json"):
            continue
        text = part.text.strip()
        if text.startswith("{") and len(text) < LONGEST:
            told = _json(text)
            # Amazon SNS wraps it once more.
            inner = told.get("Message")
            return _json(inner) if isinstance(inner, str) else told
    return {}


def _json(text: str) -> dict[str, object]:
    start, end = text.find("{"), text.rfind("}")
    try:
        # Lines are broken by the mail, so control characters within texts are allowed.
        told = json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _dicts(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
