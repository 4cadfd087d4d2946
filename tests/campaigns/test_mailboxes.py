"""Mailboxes read by IMAP, on a real IMAP server (pymap): nothing is read twice, nothing is lost, nothing stops it."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from imap_tools import MailBoxUnencrypted

from campaigns import returned
from providers.accounts import inbox, mailboxes, polling, webhooks
from providers.accounts.models import Account, InboundMail, Mailbox, WebhookDay
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import processes, stage
from tests.campaigns.test_feedback import sent
from tests.campaigns.test_posting import certified
from tests.campaigns.test_returned import address, told
from tests.providers.inbound_mails import mail, reply, report, status
from tests.visitor import Visitor

USER, PASSWORD = "replies@polza.example", 'pass "word" \\ é'
MORE = timedelta(minutes=1)


@dataclass
class Server:
    """An IMAP server that keeps its mails in memory."""

    port: int
    process: "subprocess.Popen[bytes] | None" = None
    pem: Path | None = None

    def start(self) -> None:
        secured = ["--cert", str(self.pem), "--key", str(self.pem)] if self.pem else ["--no-tls"]
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), *secured, "dict"]
        login = ["--demo-data", "--demo-user", USER, "--demo-password", PASSWORD]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from pymap.main import main; main()", *arguments, *login],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.await_port(self.port)

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @contextmanager
    def entered(self) -> Iterator[MailBoxUnencrypted]:
        with MailBoxUnencrypted("127.0.0.1", self.port, timeout=10) as box:
            box.login_utf8(USER, PASSWORD, None)
            yield box

    def bring(self, *mails: bytes, at: datetime | None = None) -> None:
        """Put these mails into the folder, which is made if there is none."""
        with self.entered() as box:
            if not box.folder.exists("Replies"):
                box.folder.create("Replies")
            for mail in mails:
                box.append(mail, "Replies", dt=at or timezone.now())

    def make_anew(self) -> None:
        """Delete the folder with its mails; the next of its name numbers them from the start."""
        with self.entered() as box:
            box.folder.delete("Replies")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(probe.getsockname()[1])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: Server) -> Server:
    """It has an empty folder."""
    with running.entered() as box:
        if box.folder.exists("Replies"):
            box.folder.delete("Replies")
        box.folder.create("Replies")
    return running


def described(server: Server, **changes: Any) -> Mailbox:
    fields = {"host": "127.0.0.1", "port": server.port, "security": "none", "username": USER, "folder": "Replies"}
    return Mailbox(name="replies", **{**fields, "secret": {"password": PASSWORD}, **changes})


def added(server: Server, **changes: Any) -> Mailbox:
    found = described(server, **changes)
    found.save()
    return found


def look(mailbox: Mailbox, **changes: Any) -> int:
    """Read what is new, with a connection of its own; return how many mails that were."""
    with mailboxes.opened(mailbox) as line:
        return mailboxes.read(mailbox.pk, line, clock=timezone.now, **{"stopped": lambda: False, **changes})


def bodies() -> list[bytes]:
    return [bytes(one.body) for one in InboundMail.objects.order_by("pk")]


def numbered(count: int, first: int = 1) -> list[bytes]:
    return [reply(f"Answer {number}.") for number in range(first, first + count)]


@pytest.mark.django_db
class TestReading:
    def test_each_mail_is_stored_once_as_it_is_and_stays_unread(self, server: Server) -> None:
        mailbox, mails = added(server), numbered(5)
        server.bring(*mails[:3])
        assert [look(mailbox), look(mailbox)] == [3, 0]
        server.bring(*mails[3:])
        assert [look(mailbox), look(mailbox)] == [2, 0]
        assert bodies() == mails
        mailbox.refresh_from_db()
        assert (mailbox.stored, mailbox.skipped, mailbox.trouble) == (5, 0, "")
        with server.entered() as box:
            box.folder.set("Replies")
            assert len(box.uids("UNSEEN")) == 5

    def test_what_was_read_before_the_place_was_kept_is_stored_once(self, server: Server) -> None:
        mailbox = added(server)
        server.bring(*numbered(3))
        look(mailbox)
        Mailbox.objects.update(last_uid=0)
        assert look(mailbox) == 0
        assert InboundMail.objects.count() == 3

    def test_a_cut_off_reading_goes_on_where_it_was(self, server: Server) -> None:
        mailbox = added(server)
        server.bring(*numbered(4))
        enough = iter([False, False, True])
        assert look(mailbox, stopped=lambda: next(enough)) == 2
        assert look(mailbox) == 2
        assert bodies() == numbered(4)

    def test_a_folder_made_anew_with_the_same_numbers_is_read_from_its_start(self, server: Server) -> None:
        mailbox = added(server)
        server.bring(*numbered(3))
        look(mailbox)
        server.make_anew()
        server.bring(*numbered(2, first=10))
        assert look(mailbox) == 2
        assert bodies() == numbered(3) + numbered(2, first=10)

    def test_a_mailbox_that_is_somebody_elses_now_is_read_from_its_start(self, server: Server) -> None:
        mailbox = added(server)
        server.bring(*numbered(3))
        look(mailbox)
        Mailbox.objects.update(cursor_of="another@127.0.0.1/Replies", last_uid=9_999)
        server.bring(*numbered(1, first=4))
        assert look(mailbox) == 1

    def test_of_a_new_mailbox_the_last_weeks_are_read(self, server: Server) -> None:
        mailbox = added(server)
        old, recent, new = numbered(3)
        server.bring(old, at=timezone.now() - timedelta(days=60))
        server.bring(recent, at=timezone.now() - timedelta(days=5))
        assert look(mailbox) == 1
        server.bring(new)
        assert look(mailbox) == 1
        assert bodies() == [recent, new]
        assert timezone.now() - InboundMail.objects.earliest("pk").received_at > timedelta(days=4)

    def test_of_a_large_mail_the_beginning_is_stored_with_its_size(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbox, "MOST_STORED", 2_000)
        mailbox, large = added(server), reply("x" * 50_000)
        server.bring(large, *numbered(1))
        assert look(mailbox) == 2
        first = InboundMail.objects.earliest("pk")
        assert (bytes(first.body), first.size) == (large[:2_000], len(large))

    def test_what_the_server_does_not_give_is_skipped_in_the_end_and_counted(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mailbox = added(server)
        server.bring(*numbered(3))
        with mailboxes.opened(mailbox) as line:
            ask = line.box.client.uid

            def broken(command: str, *arguments: str) -> Any:
                if command == "FETCH" and arguments[0] == second:
                    return "NO", [b"[SERVERBUG] it is broken"]
                return ask(command, *arguments)

            second = line.box.uids()[1]
            monkeypatch.setattr(line.box.client, "uid", broken)
            for _ in range(mailboxes.TRIES - 1):
                with pytest.raises(mailboxes.UnreadableError, match="SERVERBUG"):
                    mailboxes.read(mailbox.pk, line, clock=timezone.now, stopped=lambda: False)
            mailboxes.read(mailbox.pk, line, clock=timezone.now, stopped=lambda: False)
        mailbox.refresh_from_db()
        assert (mailbox.stored, mailbox.skipped) == (2, 1)
        assert bodies() == [numbered(3)[0], numbered(3)[2]]

    def test_a_deleted_mail_holds_up_nothing(self, server: Server) -> None:
        mailbox = added(server)
        server.bring(*numbered(3))
        with server.entered() as box, mailboxes.opened(mailbox) as line:
            box.folder.set("Replies")
            found = mailboxes._found

            def and_then_deleted(line: mailboxes.Line, criteria: str) -> list[int]:
                uids = found(line, criteria)
                box.delete(str(uids[1]))
                return uids

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(mailboxes, "_found", and_then_deleted)
                assert mailboxes.read(mailbox.pk, line, clock=timezone.now, stopped=lambda: False) == 2

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"secret": {"password": "wrong"}}, "(?i)auth|login|credentials"),
            ({"folder": "Nothing"}, "(?i)folder|exist"),
        ],
    )
    def test_why_it_cannot_be_read_is_said(self, server: Server, changes: dict[str, Any], said: str) -> None:
        mailbox = added(server, **changes)
        with pytest.raises(mailboxes.UnreadableError, match=said) as refused:
            mailboxes.check(mailbox)
        assert "wrong" not in str(refused.value)

    def test_where_nobody_listens_it_says_so(self, server: Server) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(mailboxes.UnreadableError, match="refused"):
                mailboxes.check(described(server, port=taken.getsockname()[1]))


def test_a_bounce_and_an_answer_in_a_mailbox_reach_their_mails(alpha: Agency, server: Server) -> None:
    account = stage.accounts()["smtp"]
    stage.allot(alpha, account)
    with context.entered(alpha):
        bounced, answered = sent(alpha, account, 2)
    connection.set_schema_to_public()
    above = [f"Return-Path: <>\r\nDelivered-To: {address(alpha, one)}\r\n".encode() for one in (bounced, answered)]
    server.bring(above[0] + report(status()), above[1] + reply("Yes, tell me more."))
    assert look(added(server)) == 2
    returned.take_in(clock=lambda: datetime.now(UTC))
    assert told(alpha) == [("bounced", "hard"), ("replied", "")]
    connection.set_schema_to_public()
    found = InboundMail.objects.order_by("pk").values_list("kind", "agency", "message", "sender")
    assert list(found) == [("bounce", alpha.pk, bounced.key, ""), ("human", alpha.pk, answered.key, "")]


class TestWatch:
    """The threads, with mails that come while they wait."""

    @pytest.fixture
    def watch(self, committed: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[polling.Watch]:
        monkeypatch.setattr(polling, "WATCH_SECONDS", 0.1)
        monkeypatch.setattr(polling, "FIRST_PAUSE", 0.1)
        made = polling.Watch(timezone.now)
        made.start()
        yield made
        made.stop()
        assert not made.is_alive()

    def test_a_mail_is_stored_when_it_comes_also_after_the_server_was_away(
        self, watch: polling.Watch, server: Server
    ) -> None:
        server.bring(*numbered(1))
        mailbox = added(server)
        assert _comes(lambda: bodies() == numbered(1))
        assert _comes(lambda: _idles(server))
        server.bring(*numbered(1, first=2))
        assert _comes(lambda: bodies() == numbered(2))
        server.stop()
        assert _comes(lambda: Mailbox.objects.filter(failing_since__isnull=False).exists())
        server.start()
        # It keeps its mails in memory, so these are all that there are.
        server.bring(*numbered(1, first=3))
        assert _comes(lambda: bodies() == numbered(3))
        assert _comes(lambda: Mailbox.objects.filter(failing_since=None, trouble="").exists())
        Mailbox.objects.filter(pk=mailbox.pk).update(enabled=False)
        assert _comes(lambda: not watch._readers)

    def test_a_mailbox_that_cannot_be_read_holds_up_no_other(self, watch: polling.Watch, server: Server) -> None:
        added(server, secret={"password": "wrong"})
        server.bring(*numbered(1))
        Mailbox.objects.update(name="broken")
        added(server)
        assert _comes(lambda: bodies() == numbered(1))
        broken = Mailbox.objects.get(name="broken")
        assert broken.failing_since
        assert broken.trouble


@dataclass
class Tunnel:
    """What speaks TLS before the server, by a certificate for localhost; `said` is what came out of it."""

    port: int
    pem: Path
    said: bytearray


@pytest.fixture
def tunnel(server: Server, tmp_path: Path) -> Iterator[Tunnel]:
    served, _trust = certified("localhost", tmp_path)
    listening = socket.create_server(("127.0.0.1", 0))
    made = Tunnel(listening.getsockname()[1], tmp_path / "pem", bytearray())

    def copy(source: socket.socket, target: socket.socket, seen: bytearray | None) -> None:
        try:
            while some := source.recv(65536):
                if seen is not None:
                    seen.extend(some)
                target.sendall(some)
        except OSError:
            pass
        target.close()

    def serve() -> None:
        while True:
            try:
                sock, _address = listening.accept()
            except OSError:
                return
            try:
                wrapped = served.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                continue
            behind = socket.create_connection(("127.0.0.1", server.port))
            for source, target, seen in ((wrapped, behind, made.said), (behind, wrapped, None)):
                threading.Thread(target=copy, args=(source, target, seen), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield made
    listening.close()


@pytest.mark.django_db
class TestTls:
    def test_a_server_with_a_certificate_that_is_trusted_is_read(
        self, server: Server, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tunnel.pem))
        mailbox = added(server, host="localhost", port=tunnel.port, security="tls")
        server.bring(*numbered(2))
        assert (look(mailbox), mailboxes.check(mailbox)) == (2, 2)
        assert bodies() == numbered(2)

    def test_starttls_comes_before_the_password(
        self, server: Server, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tunnel.pem))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            secured = Server(probe.getsockname()[1], pem=tunnel.pem)
        secured.start()
        try:
            found = described(secured, host="localhost", security="starttls", folder="INBOX")
            assert mailboxes.check(found) > 0
            with pytest.raises(mailboxes.UnreadableError, match="IP address mismatch"):
                mailboxes.check(described(secured, security="starttls", folder="INBOX"))
        finally:
            secured.stop()
        # A server without it gets no password either.
        with pytest.raises(mailboxes.UnreadableError):
            mailboxes.check(described(server, host="localhost", security="starttls"))

    def test_a_certificate_that_is_not_trusted_is_refused_in_words_before_any_password(
        self, server: Server, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mailbox = described(server, host="localhost", port=tunnel.port, security="tls")
        with pytest.raises(mailboxes.UnreadableError, match="certificate is not to be trusted: self-signed") as refused:
            mailboxes.check(mailbox)
        assert "No password was sent" in str(refused.value)
        # A name that it does not have.
        monkeypatch.setenv("SSL_CERT_FILE", str(tunnel.pem))
        with pytest.raises(mailboxes.UnreadableError, match=r"not valid for '127\.0\.0\.1'"):
            mailboxes.check(described(server, port=tunnel.port, security="tls"))
        assert tunnel.said == b""
        with pytest.raises(mailboxes.UnreadableError, match="does not speak TLS at this port"):
            mailboxes.check(described(server, security="tls"))


def _idles(server: Server) -> bool:
    with server.entered() as box:
        return b"IDLE" in box.client.capability()[1][0]


def _comes(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.django_db
def test_the_command_waits_where_there_is_nothing_to_take(settings: Any) -> None:
    settings.INBOUND_DOMAINS = []

    class EndsIt(StringIO):
        """Whoever reads a line of it ends the command."""

        def write(self, text: str) -> int:
            signal.raise_signal(signal.SIGTERM)
            return super().write(text)

    out = EndsIt()
    call_command("inbound", stdout=out)
    assert out.getvalue().startswith("INBOUND_DOMAINS is empty, and no mailbox is in use: waiting for a mailbox")


class TestPages:
    """On the operator's site."""

    @pytest.fixture
    def ask(self, db: None) -> Callable[..., str]:
        person = User.objects.create_superuser("op@polza.test", "a long password")
        client = Visitor("localhost")
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")

        def ask(path: str, data: dict[str, Any] | None = None) -> str:
            path = f"/admin/accounts/{path}"
            answer = client.get(path) if data is None else client.post(path, data, follow=True)
            assert answer.status_code == 200, path
            return str(answer.content.decode())

        return ask

    def test_a_mailbox_is_added_tested_and_its_password_is_never_shown(
        self, ask: Callable[..., str], server: Server
    ) -> None:
        fields = {
            "name": "replies",
            "host": "127.0.0.1",
            "port": server.port,
            "security": "none",
            "username": USER,
            "folder": "Replies",
            "enabled": "on",
        }
        assert "A mailbox needs its password" in ask("mailbox/add/", fields)
        assert "Write a host name" in ask("mailbox/add/", {**fields, "host": "imap://x/", "password": PASSWORD})
        ask("mailbox/add/", {**fields, "password": PASSWORD})
        mailbox = Mailbox.objects.get()
        assert mailbox.secret == {"password": PASSWORD}
        server.bring(*numbered(2))
        chosen = {"action": "test", "_selected_action": [mailbox.pk]}
        assert "it has 2 mails" in ask("mailbox/", chosen)
        page = f"mailbox/{mailbox.pk}/change/"
        assert "pass &quot;word" not in ask(page)
        ask(page, {**fields, "folder": "Gone"})
        mailbox.refresh_from_db()
        assert (mailbox.folder, mailbox.secret) == ("Gone", {"password": PASSWORD})
        assert "replies cannot be read" in ask("mailbox/", chosen)

    def test_a_password_goes_to_no_other_server_unless_it_is_entered_again(
        self, ask: Callable[..., str], server: Server
    ) -> None:
        mailbox = added(server)
        fields = {"name": "replies", "port": 143, "security": "none", "username": USER, "folder": "Replies"}
        moved = {**fields, "host": "elsewhere.example"}
        assert "Enter the password again" in ask(f"mailbox/{mailbox.pk}/change/", moved)
        mailbox.refresh_from_db()
        assert mailbox.host == "127.0.0.1"

    def test_stored_mails_are_listed_with_what_they_are_and_show_their_headers_alone(
        self, ask: Callable[..., str], alpha: Agency
    ) -> None:
        raw = mail("the body", subject="<script>alert(1)</script>", headers="X-Long: \0" + "y" * 50_000 + "\r\n")
        inbox.keep("max@client.test", ["x@bounces.test"], raw)
        kept = InboundMail.objects.get()
        inbox.handled(kept, kind="bounce", trouble="It names no mail of ours.", now=timezone.now())
        other = InboundMail.objects.create(digest=uuid4(), recipients=[], body=b"", size=0)
        key = uuid4()
        inbox.handled(other, kind="human", about=(alpha.pk, key), now=timezone.now())
        page = ask("inboundmail/")
        for shown in ("max@client.test", "bounce", "It names no mail of ours.", "Alpha", str(key)[:8]):
            assert shown in page
        assert "max@client.test" not in ask("inboundmail/?trouble=no")
        page = ask(f"inboundmail/{kept.pk}/change/")
        assert "yyyy" in page
        assert page.count("y") < inbox.MOST_SHOWN + 5_000
        assert "<script>alert(1)" not in page
        short = InboundMail.objects.get(pk=other.pk)
        short.body = mail("the body", subject="<script>alert(1)</script>")
        short.save()
        page = ask(f"inboundmail/{short.pk}/change/")
        assert "&lt;script&gt;alert(1)" in page
        assert "the body" not in page

    def test_refused_posts_are_counted_by_reason(self, ask: Callable[..., str]) -> None:
        account = Account.objects.create(name="main", kind="resend")
        webhooks.count(account.pk, {WebhookDay.Result.BAD_SIGNATURE: 1234}, now=timezone.now())
        page = ask("webhookday/")
        assert "Refused: the signature is wrong" in page
        assert "1,234" in page or "1234" in page
