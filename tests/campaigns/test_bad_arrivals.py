"""What comes in by the wire and should not: each ends stored or refused, is counted, and stops nothing that is well."""

import asyncio
import http.client
import smtplib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.conf import settings
from django.core import mail as system_mail
from django.utils import timezone

from campaigns import feedback, returned
from campaigns.models import CampaignOutcome, Message, Reply, TrialMail
from providers.accounts import receiving
from providers.accounts.models import Account, InboundDay, InboundMail, WebhookDay, WebhookPost
from providers.accounts.receiving import Receiver, serve
from providers.accounts.webhooks import Front
from tenants import context, tally
from tenants.models import Agency
from tests import stage
from tests.campaigns.test_feedback import sent
from tests.campaigns.test_returned import DOMAIN, address
from tests.providers.inbound_mails import mail, reply, report, status
from tests.providers.payloads import SECRETS, post

HEAD = "From: max@client.test\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
AWAY = "Auto-Submitted: auto-replied\r\nX-Auto-Response-Suppress: All\r\n"


def nested(depth: int) -> bytes:
    inside = "Content-Type: text/plain\r\n\r\ndeep\r\n"
    for level in range(depth):
        inside = f'Content-Type: multipart/mixed; boundary="b{level}"\r\n\r\n--b{level}\r\n{inside}\r\n--b{level}--\r\n'
    return (HEAD + inside).encode()


BAD = {
    "nested": nested(100),
    "no boundary": (HEAD + "Content-Type: multipart/report\r\n\r\nno part at all\r\n").encode(),
    "a boundary that never comes": (HEAD + 'Content-Type: multipart/mixed; boundary="x"\r\n\r\nnothing\r\n').encode(),
    "wrong charset": (HEAD + "Content-Type: text/plain; charset=no-such-9000\r\n\r\n").encode() + b"\xff\xfe\x80\r\n",
    "bytes that are not of its charset": (HEAD + "Content-Type: text/plain; charset=utf-8\r\n\r\n").encode()
    + b"\xff\xc3",
    "NUL bytes": HEAD.encode() + b"\r\n\x00\x00 hello \x00\r\n",
    "no header": b"\r\n\r\n",
    "no reference": report(status()),
    "forged token": report(status(), notice="forged"),
}


@contextmanager
def mail_server() -> Iterator[tuple[int, Receiver]]:
    """The one that `manage.py inbound` runs, on a free port."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []
    receiver = Receiver([DOMAIN])

    async def start() -> None:
        most = settings.INBOUND_MAX_BYTES
        found = await serve(receiver, host="127.0.0.1", port=0, hostname=DOMAIN, most_bytes=most)
        ports.append(found.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    try:
        yield ports[0], receiver
    finally:
        receiver.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@contextmanager
def web_server() -> Iterator[tuple[int, Front]]:
    """What stands before Django, on a free port."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    def django(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("404 Not Found", [])
        return [b""]

    front = Front(django)
    server = make_server("127.0.0.1", 0, front, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, front
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
        front.close()


@pytest.fixture
def mails(committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch) -> dict[str, Message]:
    """A mail of Alpha's that went by SMTP, and one that went by Resend. Counts are written at the end."""
    monkeypatch.setattr(tally, "WRITE_SECONDS", 3600)
    accounts = stage.accounts()
    Account.objects.filter(pk=accounts["resend"].pk).update(webhook_secrets={"secret": SECRETS["resend"][0]})
    stage.allot(committed["alpha"], *accounts.values())
    with context.entered(committed["alpha"]):
        return {kind: sent(committed["alpha"], accounts[kind])[0] for kind in ("smtp", "resend")}


def test_bad_mail_is_stored_or_refused_and_counted(committed: dict[str, Agency], mails: dict[str, Message]) -> None:
    ours = address(committed["alpha"], mails["smtp"])
    with mail_server() as (port, receiver):

        def bring(raw: bytes, to: str = f"replies@{DOMAIN}", *, told: bool = True) -> int:
            """The last answer's code; `told`: how large it is, before it comes."""
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                client.ehlo()
                code, _words = client.mail("", [f"size={len(raw)}"] if told else [])
                if code == 250:
                    code, _words = client.rcpt(to)
                return client.data(raw)[0] if code == 250 else code

        huge = HEAD.encode() + b"\r\n" + (b"x" * 998 + b"\r\n") * 52_500
        assert len(huge) > 50 << 20
        assert (bring(huge), bring(huge, told=False)) == (552, 552)
        assert bring(HEAD.encode() + b"\r\n" + b"x" * (receiving.LONGEST_LINE + 10)) == 500
        assert bring(reply("Hello"), "somebody@elsewhere.test") == 550
        for name, raw in BAD.items():
            to = f"b+{'a' * 48}@{DOMAIN}" if name == "forged token" else f"replies@{DOMAIN}"
            assert bring(raw, to) == 250, name
        # Two programs that answer each other: we keep what the one says, and say nothing.
        for number in range(3):
            assert bring(reply("I am away.", headers=f"{AWAY}X-N: {number}\r\n"), ours) == 250
        assert bring(mail("550 no such user", headers=""), ours) == 250
        assert bring(reply("Tell me more, please?"), ours) == 250
        assert bring(reply("Tell me more, please?"), ours) == 250
        receiver.close()
    returned.take_in(clock=timezone.now)

    stored = len(BAD) + 5
    assert InboundMail.objects.exclude(handled_at=None).count() == InboundMail.objects.count() == stored
    counts = dict(InboundDay.objects.values_list("result", "count"))
    found = {name: counts.pop(name, 0) for name in ("found", "strangers", "unreadable")}
    assert counts == {"stored": stored, "repeated": 1, "too_large": 2, "long_line": 1, "foreign": 1}
    assert sum(found.values()) == stored
    assert found["found"] == 5
    with context.entered(committed["alpha"]):
        assert Reply.objects.filter(message=mails["smtp"]).exists()
        assert not TrialMail.objects.exists()
        assert Message.objects.count() == len(mails)
    assert getattr(system_mail, "outbox", []) == []


def test_bad_posts_are_refused_and_counted(committed: dict[str, Agency], mails: dict[str, Message]) -> None:
    resend = Account.objects.get(kind="resend")
    now = datetime.now(UTC)
    metadata = {"agency": committed["alpha"].schema_name, "message": str(mails["resend"].key)}
    good = post("resend", "delivered", metadata, now=now)
    foreign = post("resend", "delivered", metadata, now=now, theirs=True)
    old = post("resend", "delivered", metadata, now=now - timedelta(days=1))
    with web_server() as (port, _front):

        def send(body: bytes, headers: Mapping[str, str], path: str = f"/webhooks/{resend.webhook_key}/") -> int:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            client.request("POST", path, body, {"Host": settings.PUBLIC_HOST, **headers})
            return client.getresponse().status

        for _ in range(20):
            assert send(good.body, {**good.headers, "svix-signature": "v1,AAAA"}) == 400
        assert send(good.body, {}) == 400
        assert send(good.body + b" ", good.headers) == 400
        assert send(foreign.body, foreign.headers) == 400
        assert send(old.body, old.headers) == 400
        # It is refused by what it says of itself, before it is read.
        long = str(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        assert send(b"", {**good.headers, "Content-Length": long}) == 413
        assert send(good.body, good.headers, f"/webhooks/{uuid4()}/") == 404
        assert not WebhookPost.objects.exists()
        assert not WebhookDay.objects.exists(), "a flood of refusals is no flood of writes"
        assert [send(good.body, good.headers) for _ in range(2)] == [200, 200]
    feedback.hear(now=timezone.now())
    counts = dict(WebhookDay.objects.values_list("result", "count"))
    assert counts == {"bad_signature": 23, "too_old": 1, "too_large": 1, "events": 1}
    with context.entered(committed["alpha"]):
        assert CampaignOutcome.objects.get(campaign=mails["resend"].campaign_id).delivered == 1
