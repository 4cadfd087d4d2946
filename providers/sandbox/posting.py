"""Posts what becomes of mails to the address that an account's webhook has, signed, as untidily as providers do.

Some posts come twice, some out of order, and some only when they are sent anew later: which ones is chance, seeded with
the event. One thread posts; nobody waits for it.
"""

import base64
import http.client
import json
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

from providers.sandbox.population import story

# Opens nothing but the sandbox's own events, so everybody may know it.
_SENDGRID_KEY = ec.derive_private_key(0x5A4D0B0C5E4D6121D, ec.SECP256R1())
SENDGRID_PUBLIC_KEY = base64.b64encode(
    _SENDGRID_KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
RESEND_WEBHOOK_SECRET = "whsec_c2FuZGJveC1zaWduaW5nLXNlY3JldC0yMDI2"  # noqa: S105
# What to enter as the webhook secret of an account.
SECRETS = {"resend": RESEND_WEBHOOK_SECRET, "sendgrid": SENDGRID_PUBLIC_KEY}

REPEATED, LATE, LOST = 0.05, 0.05, 0.01
_BATCH = 40
_TRIES = 20
_RETRY_SECONDS = 0.25
_RESEND = {
    "delivered": "email.delivered",
    "opened": "email.opened",
    "clicked": "email.clicked",
    "complained": "email.complained",
    "bounced": "email.bounced",
    "soft": "email.bounced",
}
_SENDGRID = {
    "delivered": "delivered",
    "opened": "open",
    "clicked": "click",
    "complained": "spamreport",
    "unsubscribed": "unsubscribe",
    "bounced": "bounce",
    "soft": "bounce",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one mail, as its provider writes it."""

    provider: str
    id: str
    content: dict[str, Any]


@dataclass
class Poster:
    """`hooks`: provider → address. Everything but `run` and what it calls belongs to the sandbox's own thread."""

    hooks: dict[str, str] = field(default_factory=dict)
    # Mails by provider and what became of them: what a listener should find in the end.
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    posted: Counter[str] = field(default_factory=Counter)
    lost: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._put = 0
        self._done = 0
        self._ended = threading.Event()

    def listen(self, hooks: Mapping[str, str]) -> None:
        """Post to these addresses of this machine from now on; raises ValueError that says why not."""
        for provider, url in hooks.items():
            if provider not in SECRETS:
                raise ValueError(f"{provider} posts no events: use one of {', '.join(SECRETS)}")
            if urlsplit(url).scheme != "http":
                raise ValueError(f"{url} is not an address such as http://localhost:8000/webhooks/…/")
        self.hooks = dict(hooks)
        if self._thread is None and hooks:
            self._thread = threading.Thread(target=self._run, name="sandbox-posting", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what is not posted is forgotten."""
        self._ended.set()
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(10)

    def reset(self) -> None:
        """Forget what became of mails."""
        self.outcomes.clear()
        self.posted.clear()
        self.lost.clear()

    def resend(self, recipient: str, mail: Mapping[str, Any], email_id: str) -> None:
        """A mail was taken by Resend. Which of its headers it repeats: all."""
        headers = [{"name": name, "value": value} for name, value in (mail.get("headers") or {}).items()]
        data = {"email_id": email_id, "from": mail["from"], "to": [recipient], "subject": mail["subject"]}
        for kind in self._story("resend", recipient):
            if kind not in _RESEND:
                continue
            at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            more: dict[str, Any] = {}
            if kind in ("bounced", "soft"):
                hard = kind == "bounced"
                more["bounce"] = {
                    "type": "Permanent" if hard else "Transient",
                    "subType": "General" if hard else "MailboxFull",
                    "message": "The recipient's email provider sent a bounce message.",
                }
            if kind == "clicked":
                more["click"] = {"link": "https://polza.example/meet", "timestamp": at}
            content = {"type": _RESEND[kind], "created_at": at, "data": {**data, "headers": headers, **more}}
            self._tell("resend", kind, email_id, content)

    def sendgrid(self, recipient: str, custom_args: Mapping[str, str], message_id: str) -> None:
        """A mail was taken by SendGrid."""
        for kind in self._story("sendgrid", recipient):
            content: dict[str, Any] = {
                "email": recipient,
                "timestamp": int(time.time()),
                "event": _SENDGRID[kind],
                "sg_message_id": f"{message_id}.sandbox",
                **custom_args,
            }
            if kind == "bounced":
                content |= {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"}
            if kind == "soft":
                content |= {"type": "bounce", "status": "5.2.2", "reason": "552 5.2.2 mailbox full"}
            if kind == "clicked":
                content["url"] = "https://polza.example/meet"
            self._tell("sendgrid", kind, message_id, content)

    def snapshot(self) -> dict[str, Any]:
        """`outcomes`, `posted` and `left`: how many posts are still to come."""
        return {
            "outcomes": {provider: dict(counts) for provider, counts in self.outcomes.items()},
            "posted": dict(self.posted),
            "left": self._put - self._done + len(self.lost),
        }

    def replay(self) -> None:
        """Post what was lost."""
        for event in self.lost:
            self._enqueue(event)
        self.lost.clear()

    def _story(self, provider: str, recipient: str) -> tuple[str, ...]:
        return story(recipient) if provider in self.hooks else ()

    def _tell(self, provider: str, kind: str, mail: str, content: dict[str, Any]) -> None:
        self.outcomes.setdefault(provider, Counter())[kind] += 1
        id_ = uuid5(NAMESPACE_URL, f"{provider}/{mail}/{kind}").hex
        event = Event(provider, id_, content if provider == "resend" else {**content, "sg_event_id": id_})
        chance = random.Random(id_).random()  # noqa: S311 - which posts go astray
        if chance < LOST:
            self.lost.append(event)
            return
        self._enqueue(event)
        if chance > 1 - REPEATED:
            self._enqueue(event)

    def _enqueue(self, event: Event) -> None:
        self._put += 1
        self._waiting.put(event)

    def _run(self) -> None:
        late: list[Event] = []
        while (event := self._next(late)) is not None:
            batch = [event]
            if event.provider == "sendgrid":
                with suppress(queue.Empty):
                    while len(batch) < _BATCH:
                        following = self._waiting.get_nowait()
                        if following is None:
                            return
                        if following.provider != "sendgrid":
                            late.append(following)
                            break
                        batch.append(following)
            self._post(event.provider, batch)
            self._done += len(batch)

    def _next(self, late: list[Event]) -> Event | None:
        while not self._ended.is_set():
            try:
                event = self._waiting.get(timeout=0.05 if late else None)
            except queue.Empty:
                return late.pop()
            if event is None:
                return None
            # Some overtake others: these go when nothing else waits, or many do.
            if random.Random(f"late {event.id}").random() < LATE and event not in late:  # noqa: S311 - as above
                late.append(event)
                if len(late) < _BATCH:
                    continue
                event = late.pop(0)
            return event
        return None

    def _post(self, provider: str, batch: list[Event]) -> None:
        for _ in range(_TRIES):
            url = self.hooks.get(provider)
            if url is None or self._ended.is_set():
                return
            status = _send(url, *signed(provider, batch))
            self.posted[f"{provider} {status}"] += 1
            if 200 <= status < 300:
                return
            self._ended.wait(_RETRY_SECONDS)


def signed(provider: str, batch: list[Event]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one post; Resend posts one event at a time."""
    now = datetime.now(UTC)
    stamp = str(int(now.timestamp()))
    if provider == "resend":
        (event,) = batch
        body = json.dumps(event.content).encode()
        signature = Webhook(RESEND_WEBHOOK_SECRET).sign(event.id, now, body.decode())
        return body, {"svix-id": event.id, "svix-timestamp": stamp, "svix-signature": signature}
    body = json.dumps([event.content for event in batch]).encode()
    signature = base64.b64encode(_SENDGRID_KEY.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    return body, {
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
    }


_lines = threading.local()


def _send(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer, 0 where there is none. One connection is kept open for each address."""
    parts = urlsplit(url)
    kept: dict[str, http.client.HTTPConnection] = _lines.__dict__.setdefault("kept", {})
    line = kept.setdefault(parts.netloc, http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=10))
    try:
        line.request("POST", parts.path, body, {**headers, "Host": parts.netloc, "Content-Type": "application/json"})
        answer = line.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        line.close()
        return 0
