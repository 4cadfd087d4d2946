"""Notices of mail servers: which addresses, and what happened to the mail there. Pure.

First the machine-readable part of RFC 3464 (and RFC 6533 for UTF-8 addresses), wherever it stands; then what servers
without one write in words.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from providers.senders.inbound.answers import (
    DELIVERED,
    MOST_RECIPIENTS,
    Recipient,
    address_in,
    judged,
    status_in,
    untyped,
)
from providers.senders.inbound.mail import Mail, headers_and_body
from providers.senders.inbound.notices import Notice, is_answer, is_from_server, is_notice, of_dialects, of_text
from providers.senders.inbound.notifications import of_notification


def notice(mail: Mail, raw: bytes) -> tuple[str, list[Recipient]]:
    """The kind (`bounce`, `delivered`, or empty if this is no notice) and what it says of each recipient."""
    found = of_notification(mail) or _of_status_parts(mail)
    if not found and is_notice(mail):
        found = of_text(mail, raw)
    if not found and is_from_server(mail) and not is_answer(mail):
        found = of_dialects(Notice(mail), raw)
    if not found:
        return "", []
    if all(one.action in DELIVERED for one in found):
        return "delivered", found[:MOST_RECIPIENTS]
    return "bounce", [one for one in found if one.action not in DELIVERED][:MOST_RECIPIENTS]


_STATUS_KINDS = ("message/delivery-status", "message/global-delivery-status")


def _of_status_parts(mail: Mail) -> list[Recipient]:
    texts = [
        part.raw[:200_000]
        for part in mail.parts
        if not part.enclosed and (part.kind in _STATUS_KINDS or part.filename.lower().startswith("delivery-status"))
    ]
    if not texts and is_notice(mail):
        # The same fields where the part is named otherwise, or in a mail without parts.
        for part in mail.parts:
            if not part.enclosed and part.kind.startswith(("text/plain", "message/")):
                match = re.search(r"^Final-Recipient\s*:.+", part.text, re.I | re.M)
                if match and re.search(r"^(?:Action|Status)\s*:", part.text, re.I | re.M):
                    texts.append(part.raw[:200_000])
    found: list[Recipient] = []
    for text in texts:
        found += _of_groups(mail, text)
    return _merged(found)


def _of_groups(mail: Mail, raw: bytes) -> Iterator[Recipient]:
    said = Notice(mail)
    group: dict[str, str] = {}
    rest = raw.replace(b"\r\n", b"\n").lstrip(b"\n")
    pieces = re.split(rb"\n[ \t]*\n+", rest)[: MOST_RECIPIENTS * 3]
    for piece in pieces:
        fields, _body = headers_and_body(piece.lstrip(b"\n") + b"\n")
        if not fields.fields:
            continue
        # Some servers put an empty line within a group.
        for name, value in fields.fields:
            if name in ("final-recipient", "original-recipient", "x-actual-recipient", "action") and name in group:
                if name == "original-recipient" and "final-recipient" not in group:
                    continue
                if "final-recipient" in group or "original-recipient" in group:
                    if recipient := _of_group(group, said):
                        yield recipient
                    group = {}
            group.setdefault(name, value)
    if recipient := _of_group(group, said):
        yield recipient


def _of_group(group: dict[str, str], said: Notice) -> Recipient | None:
    named = {name: address_in(untyped(group.get(name, ""))) for name in _RECIPIENTS}
    if not any(named.values()) and not {"action", "status", "diagnostic-code"} & set(group):
        return None
    # Whom we wrote to, not where his mail was forwarded.
    address = next((named[name] for name in _RECIPIENTS if named[name]), "")
    final = named["final-recipient"] or named["x-actual-recipient"]
    action = re.sub(r"[^a-z].*", "", group.get("action", "").strip().lower())
    diagnostic = untyped(group.get("diagnostic-code", ""))
    status = status_in(group.get("status", ""))
    # Oracle's server explains its status in a comment instead.
    diagnostic = diagnostic or group.get("status", "").partition("(")[2].rstrip(") ")
    if not address:
        address = said.only_address()
    if action not in ("failed", "delayed", *DELIVERED):
        action = DELIVERED[0] if status.startswith("2") else "delayed" if status.startswith("4") else "failed"
    about = said.about(address, final)
    recipient = replace(judged(address, action, status, diagnostic, about), final=final)
    if group.get("diagnostic-code", "").lower().startswith("x-unix") and recipient.reason in _OF_PROGRAMS:
        # What a program says that the mail was given to, not a server.
        return replace(recipient, reason="mailererror", rule="diagnostic type", span="x-unix")
    return recipient


_RECIPIENTS = ("original-recipient", "final-recipient", "x-actual-recipient")
_OF_PROGRAMS = ("systemerror", "onhold", "undefined", "expired")
_UNKNOWN = ("onhold", "undefined")


def _merged(found: list[Recipient]) -> list[Recipient]:
    kept: dict[str, Recipient] = {}
    for one in found:
        key = f"{one.address} {one.final}".lower()
        before = kept.get(key)
        if before is None or (before.reason in _UNKNOWN and one.reason not in _UNKNOWN):
            kept[key] = one
    return list(kept.values())
