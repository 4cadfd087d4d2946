"""Tells what becomes of mails, as untidily as providers, mail servers and people do: by posts to the address that an
account's webhook has, signed, and by mail to the server that takes what comes back.

Some of it comes twice, some out of order, and some only when it is sent anew later: which is chance, seeded with the
recipient. One thread tells; nobody waits for it.
"""

import base64
import http.client
import json
import queue
import random
import smtplib
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

from providers.sandbox import mails
from providers.sandbox.mails import Returned, Taken
from providers.sandbox.population import answer, story

# Opens nothing but the sandbox's own events, so everybody may know it.
_SENDGRID_KEY = ec.derive_private_key(0x5A4D0B0C5E4D6121D, ec.SECP256R1())
SENDGRID_PUBLIC_KEY = base64.b64encode(
    _SENDGRID_KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
RESEND_WEBHOOK_SECRET = "whsec_c2FuZGJveC1zaWduaW5nLXNlY3JldC0yMDI2"  # noqa: S105
# What to enter as the webhook secret of an account.
SECRETS = {"resend": RESEND_WEBHOOK_SECRET, "sendgrid": SENDGRID_PUBLIC_KEY}
# Not a provider's: where mail that comes back goes to, smtp://host:port.
INBOUND = "inbound"

REPEATED, LATE, LOST = 0.05, 0.05, 0.01
_BATCH = 40
_TRIES = 20
_RETRY_SECONDS = 0.25
_RESEND = {
    "delayed": "email.delivery_delayed",
    "delivered": "email.delivered",
    "opened": "email.opened",
    "clicked": "email.clicked",
    "complained": "email.complained",
    "bounced": "email.bounced",
    "soft": "email.bounced",
}
_SENDGRID = {
    "delayed": "deferred",
    "delivered": "delivered",
    "opened": "open",
    "clicked": "click",
    "complained": "spamreport",
    "unsubscribed": "unsubscribe",
    "bounced": "bounce",
    "soft": "bounce",
}
# What of a mail by SMTP is told by mail.
_BY_MAIL = frozenset({"bounced", "soft", "delayed", "complained", "unsubscribed"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one mail, as its provider writes it; or as a mail, whose provider is INBOUND."""

    provider: str
    id: str
    content: dict[str, Any] = field(compare=False)
    mail: Returned | None = field(default=None, compare=False)


@dataclass
class Poster:
    """`hooks`: provider or INBOUND → address. Everything but `run` and what it calls belongs to the sandbox's own
    thread."""

    hooks: dict[str, str] = field(default_factory=dict)
    # Mails by provider and what became of them: what a listener should find in the end.
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    # What was answered to them, by provider and what it means.
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    # How much of it was told twice, out of order, or not at first.
    disorder: Counter[str] = field(default_factory=Counter)
    posted: Counter[str] = field(default_factory=Counter)
    lost: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Event, bool] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._put = 0
        self._done = 0
        self._carried = 0
        # What was told of whom before, so that two mails do not fare alike, and two runs do.
        self._told: Counter[str] = Counter()
        self._ended = threading.Event()

    def listen(self, hooks: Mapping[str, str]) -> None:
        """Post to these addresses of this machine from now on; raises ValueError that says why not."""
        for provider, url in hooks.items():
            if provider not in (*SECRETS, INBOUND):
                raise ValueError(f"{provider} posts no events: use one of {', '.join((*SECRETS, INBOUND))}")
            example = "smtp://127.0.0.1:2525" if provider == INBOUND else "http://localhost:8000/webhooks/…/"
            if urlsplit(url).scheme != urlsplit(example).scheme:
                raise ValueError(f"{url} is not an address such as {example}")
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
        self.answers.clear()
        self.disorder.clear()
        self._told.clear()
        self.posted.clear()
        self.lost.clear()

    def resend(self, recipient: str, mail: Mapping[str, Any], email_id: str) -> None:
        """A mail was taken by Resend. Which of its headers it repeats: all."""
        listed = [{"name": name, "value": value} for name, value in (mail.get("headers") or {}).items()]
        data = {"email_id": email_id, "from": mail["from"], "to": [recipient], "subject": mail["subject"]}
        for kind in self._story("resend", recipient):
            if kind not in _RESEND:
                continue
            at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            told: dict[str, Any] = {}
            if kind in ("bounced", "soft"):
                hard = kind == "bounced"
                told["bounce"] = {
                    "type": "Permanent" if hard else "Transient",
                    "subType": "General" if hard else "MailboxFull",
                    "message": "The recipient's email provider sent a bounce message.",
                }
            if kind == "clicked":
                told["click"] = {"link": "https://polza.example/meet", "timestamp": at}
            content = {"type": _RESEND[kind], "created_at": at, "data": {**data, "headers": listed, **told}}
            self._tell("resend", kind, email_id, content, recipient)
        if self._listens(recipient):
            more = {"reply-to": _first(mail["reply_to"])} if mail.get("reply_to") else {}
            headers = {**(mail.get("headers") or {}), **more}
            taken = mails.by_http(
                recipient, str(mail["from"]), str(mail["subject"]), headers, str(mail.get("text") or "")
            )
            self._answer("resend", taken, email_id)

    def sendgrid(
        self,
        recipient: str,
        mail: Mapping[str, Any],
        custom_args: Mapping[str, str],
        message_id: str,
        headers: Mapping[str, str],
    ) -> None:
        """A mail was taken by SendGrid; `custom_args` and `headers` are those of this recipient."""
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
            self._tell("sendgrid", kind, message_id, content, recipient)
        if self._listens(recipient):
            reply_to = mail.get("reply_to") or {}
            text = next((part["value"] for part in mail["content"] if part.get("type") == "text/plain"), "")
            more = {"reply-to": str(reply_to["email"])} if reply_to else {}
            taken = mails.by_http(
                recipient, str(mail["from"]["email"]), str(mail["subject"]), {**headers, **more}, str(text)
            )
            self._answer("sendgrid", taken, message_id)

    def smtp(self, recipient: str, envelope_sender: str, content: bytes, number: int) -> None:
        """A mail was taken by SMTP, the `number`th."""
        told = story(recipient)
        if INBOUND not in self.hooks or not (answer(recipient) or _BY_MAIL.intersection(told)):
            return
        taken = mails.by_smtp(recipient, envelope_sender, content)
        mail = taken.message_id or str(number)
        for kind in told:
            id_, now = _id("smtp", mail, kind), datetime.now(UTC)
            if kind in ("bounced", "soft", "delayed"):
                # Some servers quote nothing of what comes back.
                quotes = random.Random(f"quotes {recipient}").random() < 0.5  # noqa: S311 - which do
                self._bring("smtp", kind, id_, mails.notice(taken, kind, quotes=quotes, id_=id_, now=now), recipient)
            elif kind == "complained":
                self._bring("smtp", kind, id_, mails.complaint(taken, id_=id_, now=now), recipient)
        self._answer("smtp", taken, mail)

    def _answer(self, provider: str, taken: Taken, mail: str) -> None:
        """What the recipient does by mail: answers, or leaves where the provider has no event for that."""
        recipient, now = taken.recipient, datetime.now(UTC)
        if "unsubscribed" in story(recipient) and provider != "sendgrid":
            id_ = _id(provider, mail, "unsubscribed")
            self._bring(provider, "unsubscribed", id_, mails.way_out(taken, id_=id_, now=now), recipient)
        if said := answer(recipient):
            self.answers.setdefault(provider, Counter())[said.label] += 1
            id_ = _id(provider, mail, "answer")
            if not said.automatic:
                self.outcomes.setdefault(provider, Counter())["replied"] += 1
            if said.label == "opt_out":
                self.outcomes.setdefault(provider, Counter())["unsubscribed"] += 1
            self._send_astray(Event(INBOUND, id_, {}, mails.reply(taken, said, id_=id_, now=now)), recipient)

    def _bring(self, provider: str, kind: str, id_: str, mail: Returned | None, recipient: str) -> None:
        if mail is not None:
            self.outcomes.setdefault(provider, Counter())[kind] += 1
            self._send_astray(Event(INBOUND, id_, {}, mail), recipient)

    def snapshot(self) -> dict[str, Any]:
        """`outcomes`, `answers`, `disorder`, `posted`, and `left`: how many posts and mails are still to come; `lost`
        of them only when they are replayed."""
        return {
            "outcomes": {provider: dict(counts) for provider, counts in self.outcomes.items()},
            "answers": {provider: dict(counts) for provider, counts in self.answers.items()},
            "disorder": dict(self.disorder),
            "posted": dict(self.posted),
            "left": self._put - self._done + len(self.lost),
            "lost": len(self.lost),
        }

    def replay(self) -> None:
        """Post what was lost."""
        lost, self.lost = self.lost, []
        for event in lost:
            self._enqueue(event)

    def _story(self, provider: str, recipient: str) -> tuple[str, ...]:
        return story(recipient) if provider in self.hooks else ()

    def _listens(self, recipient: str) -> bool:
        """Whether mail that comes back is taken, and any may of whoever got this from a provider."""
        return INBOUND in self.hooks and bool(answer(recipient) or "unsubscribed" in story(recipient))

    def _tell(self, provider: str, kind: str, mail: str, content: dict[str, Any], recipient: str) -> None:
        self.outcomes.setdefault(provider, Counter())[kind] += 1
        id_ = _id(provider, mail, kind)
        content = content if provider == "resend" else {**content, "sg_event_id": id_}
        self._send_astray(Event(provider, id_, content), f"{kind} {recipient}")

    def _send_astray(self, event: Event, seed: str) -> None:
        self._told[seed] += 1
        chance = random.Random(f"{event.provider} {seed} {self._told[seed]}").random()  # noqa: S311 - what goes astray
        if chance < LOST:
            self.disorder["lost"] += 1
            self.lost.append(event)
            return
        late = LOST <= chance < LOST + LATE
        self.disorder["late"] += late
        self._enqueue(event, late=late)
        if chance > 1 - REPEATED:
            self.disorder["repeated"] += 1
            self._enqueue(event)

    def _enqueue(self, event: Event, *, late: bool = False) -> None:
        self._put += 1
        self._waiting.put((event, late))

    def _run(self) -> None:
        # Some are overtaken by others: they go when nothing else waits, or when many do.
        late: deque[Event] = deque()
        while (event := self._next(late)) is not None:
            batch = [event]
            while event.provider == "sendgrid" and len(batch) < _BATCH and (following := self._next(late, wait=False)):
                if following.provider != "sendgrid":
                    late.append(following)
                    break
                batch.append(following)
            self._post(event.provider, batch)
            self._done += len(batch)

    def _next(self, late: deque[Event], *, wait: bool = True) -> Event | None:
        """The next event to tell; None at the end, or where none is there and nobody wants to wait."""
        while not self._ended.is_set():
            if len(late) > _BATCH:
                return late.popleft()
            try:
                found = self._waiting.get(wait, 0.05 if late else None)
            except queue.Empty:
                return late.popleft() if wait else None
            if found is None:
                self._ended.set()
                return None
            event, held = found
            if not held:
                return event
            late.append(event)
        return None

    def _post(self, provider: str, batch: list[Event]) -> None:
        for _ in range(_TRIES):
            url = self.hooks.get(provider)
            if url is None or self._ended.is_set():
                return
            mail = batch[0].mail
            if mail is None:
                status = _send(url, *signed(provider, batch))
            else:
                self._carried += 1
                status = _carry(url, mail, mails.stamped(mail.content, self._carried, datetime.now(UTC)))
            self.posted[f"{provider} {status}"] += 1
            if 200 <= status < 300:
                return
            self._ended.wait(_RETRY_SECONDS)
        # Whoever wants it has it sent anew.
        self.posted[f"{provider} given up"] += len(batch)
        self.lost.extend(batch)


def _id(provider: str, mail: str, kind: str) -> str:
    return uuid5(NAMESPACE_URL, f"{provider}/{mail}/{kind}").hex


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


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


def _carry(url: str, mail: Returned, content: bytes) -> int:
    """The server's answer to this mail, 0 where there is none. One session is kept open for each server."""
    parts = urlsplit(url)
    kept: dict[str, smtplib.SMTP] = _lines.__dict__.setdefault("sessions", {})
    try:
        if (session := kept.get(parts.netloc)) is None:
            session = kept[parts.netloc] = smtplib.SMTP("127.0.0.1", parts.port or 25, "relay.example", timeout=10)
        foreign = not (mail.sender + mail.recipient).isascii()
        session.sendmail(mail.sender, [mail.recipient], content, ["SMTPUTF8", "BODY=8BITMIME"] if foreign else ())
        return 250
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except (OSError, smtplib.SMTPException):
        if session := kept.pop(parts.netloc, None):
            session.close()
        return 0
