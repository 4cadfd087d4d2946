"""Our mails at a real Postfix: what it stores is what we wrote, and what it refuses or sends back reaches its mail."""

import asyncio
import email
import email.policy
import os
import shutil
import smtplib
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from itertools import zip_longest
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest
from django.utils import timezone

from campaigns import dispatch, launch, returned, tokens
from campaigns.models import Contact, Message, Suppression
from providers.accounts import adapters
from providers.accounts.adapters import mime
from providers.accounts.envelope import Envelope
from providers.accounts.errors import DeliveryError
from providers.accounts.models import Account, InboundMail
from providers.accounts.receiving import Receiver, serve
from providers.senders.inbound import tokens as returns
from providers.senders.models import Event, Sender
from tenants import context
from tenants.models import Agency
from tests import processes, stage
from tests.campaigns.test_feedback import sent
from tests.providers.inbound_mails import reply
from tests.stage import NOON

POSTFIX = shutil.which("postfix") or "/usr/sbin/postfix"
NAMES = ['Ann "the" O\'Brien, Dr.', "Жанна Дарк", "👩‍👩‍👧 Ünï"]
# What it writes above a mail that it delivers, and what our signature is.
ABOVE = {"DKIM-Signature", "Return-Path", "X-Original-To", "Delivered-To", "Received"}
MAIN = """
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log
maillog_file_prefixes = {place}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.people.example
mydestination =
mynetworks = 127.0.0.0/8
smtp_dns_support_level = disabled
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
local_recipient_maps =
virtual_mailbox_domains = people.example, greylisted.example
virtual_mailbox_base = {place}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
"""
# What it refuses, greylists, has no mailbox for, cannot give on yet, and throws away. DSNs go to our own server.
UNKIND = """
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions =
    check_recipient_access inline:{{
        {{ rejected.example = 550 5.1.1 no such user here }}
        {{ deferred.example = 450 4.3.2 come back later }} }}
    check_policy_service inet:127.0.0.1:{policy}
transport_maps = inline:{{
    {{ unknown.example = virtual: }}
    {{ away.example = smtp:[127.0.0.1]:1 }}
    {{ refused.example = smtp:[127.0.0.1]:{inbound} }}
    {{ discarded.example = discard:thrown away }}
    {{ bounces.test = smtp:[127.0.0.1]:{inbound} }} }}
virtual_mailbox_maps = inline:{{ {{ @people.example = all/ }} {{ @greylisted.example = all/ }} }}
delay_warning_time = 1s
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
"""
GIVES_UP = "maximal_queue_lifetime = 1s\n"
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
proxymap  unix  - - n - - proxymap
virtual   unix  - n n - - virtual
error     unix  - - n - - error
retry     unix  - - n - - error
smtp      unix  - - n - - smtp
lmtp      unix  - - n - - lmtp
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """One that runs: where it listens, and where it keeps its mail."""

    port: int
    place: Path

    def change(self, more: str) -> None:
        """Let it go on with these settings."""
        with (self.place / "etc" / "main.cf").open("a") as settings:
            settings.write(more)
        subprocess.run([POSTFIX, "-c", self.place / "etc", "reload"], check=True, capture_output=True, timeout=30)

    def stored(self, count: int) -> list[bytes]:
        """What it has delivered, once it is so much."""
        until = time.monotonic() + 30
        folder = self.place / "mail" / "all" / "new"
        while time.monotonic() < until:
            if folder.is_dir() and len(files := sorted(folder.iterdir())) >= count:
                return [file.read_bytes() for file in files]
            time.sleep(0.05)
        raise AssertionError((self.place / "log").read_text())


@contextmanager
def running(more: str = "") -> Iterator[Postfix]:
    """A Postfix of our own: nothing of the machine's is read or written, and it speaks to this machine alone."""
    if not Path(POSTFIX).exists():
        pytest.skip("Postfix is not installed")
    if os.getuid() != 0:
        pytest.skip("Postfix starts as root alone")
    place = Path(tempfile.mkdtemp(prefix="polza-postfix-"))
    place.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("etc", "queue", "data", "mail"):
        (place / name).mkdir()
    shutil.chown(place / "data", "postfix")
    shutil.chown(place / "mail", 65534, 65534)
    (place / "etc" / "main.cf").write_text(MAIN.format(place=place) + more)
    (place / "etc" / "master.cf").write_text(MASTER.format(port=port))
    server = subprocess.Popen(
        [POSTFIX, "-c", place / "etc", "start-fg"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_for(port, server)
        yield Postfix(port, place)
    finally:
        subprocess.run([POSTFIX, "-c", place / "etc", "stop"], check=False, capture_output=True, timeout=30)
        server.terminate()
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    """One that delivers all that it takes."""
    with running() as started:
        yield started


def _wait_for(port: int, server: "subprocess.Popen[str]") -> None:
    try:
        processes.await_port(port, alive=lambda: server.poll() is None)
    except TimeoutError as error:
        server.terminate()
        raise AssertionError(server.communicate(timeout=30)[1]) from error


def own(port: int) -> Account:
    """An account at it."""
    return Account.objects.create(
        name="own",
        kind="smtp",
        credentials={},
        options={"host": "127.0.0.1", "port": port, "security": "none"},
        traffic_classes=["bulk"],
    )


def test_it_takes_mails_that_are_announced_with_the_one_before(postfix: Postfix) -> None:
    people = ["one@people.example", "two@people.example", "three@nowhere.example", "four@people.example"]
    mails = [
        Envelope(
            key=str(number),
            sender="anna@alpha.test",
            recipient=person,
            subject=f"Announced {number}",
            text=f".\n..\nQUIT\nMAIL FROM:<{number}>",
            message_id=f"<announced-{number}@alpha.test>",
            date=NOON,
        )
        for number, person in enumerate(people)
    ]
    with adapters.open("smtp", {}, {"host": "127.0.0.1", "port": postfix.port, "security": "none"}) as wire:
        for mail, following in zip_longest(mails, mails[1:]):
            if mail.recipient == "three@nowhere.example":
                with pytest.raises(DeliveryError):
                    wire.send(mail, following)
            else:
                wire.send(mail, following)
    stored = postfix.stored(3)
    assert sorted(email.message_from_bytes(raw)["Message-ID"] for raw in stored) == [
        f"<announced-{number}@alpha.test>" for number in (0, 1, 3)
    ]
    assert all(b"\n.\n..\nQUIT\nMAIL FROM:<" in raw for raw in stored)


def test_what_it_stores_is_what_we_wrote(alpha: Agency, postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, bytes] = {}
    as_bytes = mime.as_bytes

    def seen(envelope: Envelope) -> bytes:
        written[envelope.message_id] = as_bytes(envelope)
        return written[envelope.message_id]

    monkeypatch.setattr(mime, "as_bytes", seen)
    account = own(postfix.port)
    stage.allot(alpha, account)
    with context.entered(alpha):
        records = stage.signing()
        people = stage.contact_list("p", len(NAMES))
        for person, name in zip(Contact.objects.order_by("pk"), NAMES, strict=True):
            Contact.objects.filter(pk=person.pk).update(first_name=name)
        Sender.objects.update(name="Ольга из Polza")
        html = "<p>{{ first_name }}</p>\n.\n.dot\nFrom here\n" + "ü" * 3000 + "x" * 3000
        campaign = stage.campaign(people, html=html, traffic_class="bulk")
        campaign.steps.update(subject="Привет, {{ first_name }} — " + "очень длинная тема " * 8)
        launch.launch(campaign, now=NOON)

        dispatch.drain(account.pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))

        assert stage.statuses(campaign) == {"sent": len(NAMES)}
        rows = {str(one.key): one for one in Message.objects.select_related("contact", "sender")}
    for raw in postfix.stored(len(NAMES)):
        assert max(map(len, raw.split(b"\n"))) <= 998
        read = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(read, EmailMessage)
        row = rows[read["Message-ID"][1:].partition("@")[0]]
        assert row.sender is not None
        ours = written[read["Message-ID"]].replace(b"\r\n", b"\n").rstrip(b"\n")
        # Byte for byte, below what it has written above.
        assert raw.rstrip(b"\n").endswith(ours)
        above = email.message_from_bytes(raw[: raw.index(ours)])
        assert set(above.keys()) <= ABOVE
        crlf = raw.replace(b"\n", b"\r\n")
        assert dkimpy.verify(crlf, dnsfunc=lambda name, timeout=5: records[name.decode()])
        assert above["Return-Path"] == f"<{row.sender.address}>"
        assert above["Delivered-To"] == row.contact.email
        assert read["To"].addresses[0].addr_spec == row.contact.email
        assert read["Subject"].startswith(f"Привет, {row.contact.first_name} — очень длинная")
        assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert "unsubscribe%20" in read["List-Unsubscribe"]
        assert len(list(read.iter_parts())) == 2


@contextmanager
def listening(*, lmtp: bool = False) -> Iterator[int]:
    """The port of our own server for what comes back."""
    loop = asyncio.new_event_loop()
    receiver = Receiver(["bounces.test"], one_recipient=lmtp)
    started = serve(receiver, host="127.0.0.1", port=0, hostname="bounces.test", most_bytes=1 << 20, lmtp=lmtp)
    server = loop.run_until_complete(started)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    server.close()
    receiver.close()
    loop.close()


@pytest.fixture
def inbound(committed: object) -> Iterator[int]:
    with listening() as port:
        yield port


@pytest.fixture
def greylist() -> Iterator[int]:
    """The port of a policy server (SMTPD_POLICY_README) that greylists: whom it has not seen yet comes too early."""
    seen: set[str] = set()

    class Policy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked: dict[str, str] = {}
            for line in self.rfile:
                name, _, value = line.decode().strip().partition("=")
                if name:
                    asked[name] = value
                    continue
                recipient = asked["recipient"]
                early = recipient.endswith("@greylisted.example") and recipient not in seen
                seen.add(recipient)
                self.wfile.write(b"action=%s\n\n" % (b"451 4.7.1 greylisted" if early else b"DUNNO"))

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Policy)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_whatever_it_does_with_a_mail_reaches_that_mail(
    committed: dict[str, Agency], inbound: int, greylist: int, settings: Any
) -> None:
    settings.BOUNCE_DOMAIN = "bounces.test"
    alpha = committed["alpha"]
    kinds = ("people", "rejected", "deferred", "greylisted", "unknown", "away", "refused", "discarded")
    with running(UNKIND.format(inbound=inbound, policy=greylist)) as postfix:
        account = own(postfix.port)
        stage.allot(alpha, account)
        with context.entered(alpha):
            people = stage.contact_list("p", len(kinds))
            for person, kind in zip(Contact.objects.order_by("pk"), kinds, strict=True):
                Contact.objects.filter(pk=person.pk).update(email=f"{kind}@{kind}.example")
            campaign = stage.campaign(people, traffic_class="bulk")
            launch.launch(campaign, now=NOON)
            dispatch.drain(account.pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))

            found = {row.contact.email.partition("@")[0]: row for row in Message.objects.select_related("contact")}
            assert {kind for kind, row in found.items() if row.status == "failed"} == {"rejected"}
            assert {kind for kind, row in found.items() if row.status == "scheduled"} == {"deferred", "greylisted"}
            assert "450 4.3.2" in found["deferred"].detail
            later = NOON + timedelta(hours=1, minutes=1)
            dispatch.drain(account.pk, clock=lambda: later, until=later + timedelta(seconds=15))
            assert stage.statuses(campaign) == {"failed": 1, "scheduled": 1, "sent": 6}

        given_up = {("away", "bounced", "soft")}
        bounced = {("unknown", "bounced", "hard"), ("refused", "bounced", "soft"), *given_up}
        waits = {("away", "deferred", "")}
        assert heard(alpha, (bounced - given_up) | waits, postfix) == (bounced - given_up) | waits
        postfix.change(GIVES_UP)
        assert heard(alpha, bounced | waits, postfix) == bounced | waits
        assert len(postfix.stored(2)) == 2
    with context.entered(alpha):
        assert set(Suppression.objects.values_list("value", "source")) == {
            ("rejected@rejected.example", "bounce"),
            ("unknown@unknown.example", "bounce"),
        }


def test_it_hands_over_by_lmtp_what_comes_back(committed: dict[str, Agency]) -> None:
    settings = """
transport_maps = inline:{{ {{ unknown.example = virtual: }} {{ bounces.test = lmtp:[127.0.0.1]:{port} }} }}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
virtual_mailbox_maps = inline:{{ {{ @people.example = all/ }} }}
lmtp_destination_recipient_limit = 1
"""
    alpha = committed["alpha"]
    account = stage.accounts()["smtp"]
    stage.allot(alpha, account)
    with context.entered(alpha):
        mail = sent(alpha, account)[0]
    token = f"{returns.make(alpha.pk, mail.key, keys=tokens.envelope_keys())}@bounces.test"
    with listening(lmtp=True) as port, running(settings.format(port=port)) as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as line:
            # Its DSN goes to the envelope sender; then a mail to two of our addresses, which comes to each.
            line.sendmail(token, ["nobody@unknown.example"], b"Subject: x\r\n\r\nx\r\n")
            line.sendmail("max@client.test", [f"{name}@bounces.test" for name in "ab"], reply("Tell me more."))
        heard(alpha, {("l00", "bounced", "hard")}, postfix)
        until = time.monotonic() + 60
        with context.public():
            while InboundMail.objects.count() < 3 and time.monotonic() < until:
                time.sleep(0.05)
            taken = sorted(one.recipients for one in InboundMail.objects.all())
    assert taken == sorted([[token], ["a@bounces.test"], ["b@bounces.test"]])


def heard(agency: Agency, wanted: set[tuple[str, str, str]], postfix: Postfix) -> set[tuple[str, str, str]]:
    """What has come back of whose mail, once it is all that is wanted."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        with context.public():
            returned.take_in(clock=timezone.now)
        with context.entered(agency):
            emails = {row.key: row.contact.email for row in Message.objects.select_related("contact")}
            events = Event.objects.filter(source="inbound").values_list("message", "type", "bounce_class")
            found = {(emails[key].partition("@")[0], type_, class_) for key, type_, class_ in events if key}
        if wanted <= found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{found}\n{(postfix.place / 'log').read_text()}")
