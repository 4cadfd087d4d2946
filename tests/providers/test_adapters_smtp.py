"""How far an SMTP transaction got, against a server that fails at each place."""

import smtplib
import socket
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import pytest
from django.core.mail import EmailMessage, get_connection

from providers.accounts import adapters
from providers.accounts.adapters.smtp import EmailBackend, Mail, Phase, SMTPFailure
from providers.accounts.envelope import Envelope
from providers.accounts.errors import (
    AccountBlocked,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    RecipientRefused,
    Throttled,
    Unsure,
)
from tests.providers.scripted import FINE, PIPELINING, SmtpServer

Make = Callable[..., Envelope]
OPTIONS = {"host": "127.0.0.1", "security": "none", "command_timeout": 0.3, "answer_timeout": 0.3}


@pytest.fixture(params=["one by one", "pipelined"])
def server(request: pytest.FixtureRequest, smtp_server: SmtpServer) -> SmtpServer:
    if request.param == "pipelined":
        smtp_server.answers["ehlo"] = PIPELINING
    return smtp_server


@pytest.fixture
def wire(server: SmtpServer) -> Iterator[adapters.Wire]:
    with adapters.open("smtp", {}, OPTIONS | {"port": server.port}) as wire:
        yield wire


def failure(send: Callable[[], Any]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send()
    return caught.value


@pytest.mark.parametrize("trouble", ["drop", "silence"])
@pytest.mark.parametrize("place", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
def test_only_what_fails_after_the_final_dot_is_in_doubt(
    server: SmtpServer, envelope: Make, place: str, trouble: str
) -> None:
    server.answers[place] = trouble
    with adapters.open("smtp", {}, OPTIONS | {"port": server.port, "connect_timeout": 0.3}) as wire:
        error = failure(lambda: wire.send(envelope()))
    assert type(error) is (Unsure if place == "dot" else NotAccepted)
    assert len(server.mails) == (1 if place == "dot" else 0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("451 4.3.0 queue file error", NotAccepted),
        ("554 5.3.0 no", NotAccepted),
        ("421 4.3.2 closing", NotAccepted),
        ("554 5.6.0 content", MessageRefused),
        ("garbage", Unsure),
    ],
)
def test_an_answer_to_the_final_dot_is_believed(
    server: SmtpServer, wire: adapters.Wire, envelope: Make, answer: str, kind: type[DeliveryError]
) -> None:
    server.answers["dot"] = answer
    assert type(failure(lambda: wire.send(envelope()))) is kind
    server.answers["dot"] = FINE["dot"]
    assert wire.send(envelope()) == "4XYZ"


def test_a_refused_recipient_leaves_the_line_in_order(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    server.once["rcpt"] = "550 5.1.1 unknown"
    server.once["data"] = "554 5.5.1 no valid recipients" if server.answers["ehlo"] == PIPELINING else FINE["data"]
    failure(lambda: wire.send(envelope()))
    server.once.clear()
    assert wire.send(envelope()) == "4XYZ"
    assert server.connections == 1
    assert len(server.mails) == 1


def test_a_server_that_waits_for_a_body_without_a_recipient_gets_none(smtp_server: SmtpServer, envelope: Make) -> None:
    smtp_server.answers["ehlo"] = PIPELINING
    smtp_server.once["rcpt"] = "550 5.1.1 unknown"
    with adapters.open("smtp", {}, OPTIONS | {"port": smtp_server.port}) as wire:
        failure(lambda: wire.send(envelope()))
        assert wire.send(envelope()) == "4XYZ"
    assert len(smtp_server.mails) == 1
    assert smtp_server.connections == 2


@pytest.mark.parametrize("ending", ["drop", "421 4.4.2 idle for too long"])
def test_a_line_that_was_given_up_is_opened_again_for_a_mail_nobody_saw(
    server: SmtpServer, wire: adapters.Wire, envelope: Make, ending: str
) -> None:
    wire.send(envelope(1))
    server.once["mail"] = ending
    assert wire.send(envelope(2)) == "4XYZ"
    assert server.connections == 2
    assert len(server.mails) == 2


def test_a_new_line_is_not_tried_twice(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    server.once["mail"] = "drop"
    assert type(failure(lambda: wire.send(envelope()))) is NotAccepted
    assert server.connections == 1


def test_a_line_is_kept_for_so_many_mails(server: SmtpServer, envelope: Make) -> None:
    with adapters.open("smtp", {}, OPTIONS | {"port": server.port, "mails_per_connection": 2}) as wire:
        for number in range(5):
            wire.send(envelope(number))
    assert server.connections == 3


def test_a_line_is_kept_for_so_long(server: SmtpServer, envelope: Make) -> None:
    with adapters.open("smtp", {}, OPTIONS | {"port": server.port, "connection_seconds": 0}) as wire:
        for number in range(3):
            wire.send(envelope(number))
    assert server.connections == 3


def in_turn(wire: adapters.Wire, envelopes: list[Envelope]) -> list[str | DeliveryError | None]:
    """What becomes of mails that are handed over as one handful, each announced with the one before."""
    found: list[str | DeliveryError | None] = []
    for mail, following in zip_longest(envelopes, envelopes[1:]):
        try:
            found.append(wire.send(mail, following))
        except DeliveryError as error:
            found.append(error)
    return found


@pytest.fixture
def announcing(smtp_server: SmtpServer) -> Iterator[adapters.Wire]:
    smtp_server.answers["ehlo"] = PIPELINING
    with adapters.open("smtp", {}, OPTIONS | {"port": smtp_server.port}) as wire:
        yield wire


def test_mails_announced_ahead_arrive_once_each(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    # One is too long to go in one piece with what follows.
    mails = [envelope(number, text="x\n" * (9000 if number == 2 else 1)) for number in range(5)]
    assert in_turn(wire, mails) == ["4XYZ"] * 5
    assert len({mail.partition(b"Message-ID")[2][:80] for mail in server.mails}) == 5
    assert [one.partition(":")[0] for one in server.commands].count("RCPT TO") == 5
    assert server.connections == 1


def test_a_mail_announced_ahead_goes_with_the_body_before(
    smtp_server: SmtpServer, announcing: adapters.Wire, envelope: Make
) -> None:
    """Before the answer to a body is there, the server has heard of the next mail."""
    smtp_server.answers["dot"] = "heard"
    assert in_turn(announcing, [envelope(1), envelope(2), envelope(3)]) == ["HEARD"] * 2 + ["ALONE"]


@pytest.mark.parametrize("stopped", ["closed", "another"])
def test_an_announced_mail_that_does_not_follow_is_not_sent(
    smtp_server: SmtpServer, announcing: adapters.Wire, envelope: Make, stopped: str
) -> None:
    announcing.send(envelope(1), envelope(2))
    if stopped == "another":
        assert announcing.send(envelope(3)) == "4XYZ"
        assert smtp_server.connections == 2
    announcing.close()
    assert len(smtp_server.mails) == (2 if stopped == "another" else 1)
    deadline = time.monotonic() + 10
    while smtp_server.over < smtp_server.connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Not a word of the way to end a session either. How far the server got with what was announced is chance.
    assert not any(smtp_server.unended)


@pytest.mark.parametrize(
    ("place", "answer", "kinds"),
    [
        ("rcpt", "550 5.1.1 unknown", [str, RecipientRefused, str]),
        ("mail", "421 4.4.2 too many mails", [str, str, str]),
        ("mail", "drop", [str, str, str]),
        ("dot", "554 5.6.0 content", [str, MessageRefused, str]),
        ("dot", "451 4.3.0 queue file error", [str, NotAccepted, str]),
        ("dot", "421 4.3.2 closing", [str, NotAccepted, str]),
        ("dot", "drop", [str, Unsure, str]),
        ("data", "drop", [str, NotAccepted, str]),
    ],
)
def test_each_of_a_handful_is_told_how_far_it_got(
    smtp_server: SmtpServer,
    announcing: adapters.Wire,
    envelope: Make,
    place: str,
    answer: str,
    kinds: list[type[object]],
) -> None:
    smtp_server.second[place] = answer
    found = in_turn(announcing, [envelope(1), envelope(2), envelope(3)])
    assert [type(one) for one in found] == kinds
    seen = [number for number in (1, 2, 3) if any(b"carol%d@" % number in mail for mail in smtp_server.mails)]
    assert seen == [number for number, one in enumerate(found, 1) if isinstance(one, str) or place == "dot"]
    assert len(smtp_server.mails) == len(seen)


def test_dots_and_the_return_path_arrive(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    wire.send(envelope(html=None, text=".\n..\n.hidden\nend", envelope_sender="b+token@mail.alpha.test"))
    wire.send(envelope(html=None, envelope_sender=""))
    assert server.mails[0].endswith(b"\r\n..\r\n...\r\n..hidden\r\nend\r\n")
    assert "MAIL FROM:<b+token@mail.alpha.test>" in server.commands
    assert "MAIL FROM:<>" in server.commands


def test_it_refuses_what_the_server_cannot_take(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    server.answers["ehlo"] = "250-scripted\r\n250 SIZE 500"
    assert type(failure(lambda: wire.send(envelope(text="x" * 600)))) is MessageRefused
    assert type(failure(lambda: wire.send(envelope(recipient="почта@example.com")))) is MessageRefused
    assert "DATA" not in server.commands


def test_it_signs_in_and_says_which_setting_is_wrong(server: SmtpServer) -> None:
    server.answers["auth"] = "535 5.7.8 pa55word is wrong"
    credentials = {"username": "anna", "password": "pa55word"}
    with adapters.open("smtp", credentials, OPTIONS | {"port": server.port}) as wire:
        error = failure(wire.verify)
        assert type(error) is AccountBlocked
        assert "username and password" in error.detail
        assert "pa55word" not in error.detail


def test_a_server_without_tls_is_not_trusted(server: SmtpServer) -> None:
    with adapters.open("smtp", {}, OPTIONS | {"port": server.port, "security": "starttls"}) as wire:
        error = failure(wire.verify)
    assert type(error) is AccountBlocked
    assert "security" in error.detail


def test_throttling_tells_the_seconds(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    server.answers["mail"] = "450 4.7.1 too fast, try again in 2 minutes"
    error = failure(lambda: wire.send(envelope()))
    assert isinstance(error, Throttled)
    assert error.after == 120


def test_an_interruption_in_the_middle_drops_the_line(
    server: SmtpServer, wire: adapters.Wire, envelope: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alarm(SystemExit):
        pass

    def interrupted(self: smtplib.SMTP) -> None:
        raise Alarm

    wire.send(envelope(1))
    with monkeypatch.context() as patch:
        patch.setattr(smtplib.SMTP, "getreply", interrupted)
        with pytest.raises(Alarm):
            wire.send(envelope(2))
    assert wire.send(envelope(3)) == "4XYZ"
    assert server.connections == 2


def test_it_is_a_backend_of_django(server: SmtpServer) -> None:
    backend = get_connection(
        "providers.accounts.adapters.smtp.EmailBackend",
        host="127.0.0.1",
        port=server.port,
        username="",
        password="",
        use_tls=False,
        use_ssl=False,
    )
    assert isinstance(backend, EmailBackend)
    mail = EmailMessage("Hi", "text", "anna@alpha.test", ["carol@example.com"], connection=backend)
    assert mail.send() == 1
    assert len(server.mails) == 1
    backend.close()


def test_its_failures_tell_the_phase(server: SmtpServer) -> None:
    server.answers["rcpt"] = "550 5.1.1 unknown"
    backend = EmailBackend(
        host="127.0.0.1", port=server.port, username="", password="", use_tls=False, use_ssl=False, timeout=2
    )
    with pytest.raises(SMTPFailure) as caught:
        backend.transmit(Mail("a@alpha.test", "c@example.com", b"Subject: x\r\n\r\nx\r\n"))
    backend.drop()
    assert (caught.value.phase, caught.value.code) == (Phase.RCPT, 550)


def test_the_certificate_is_checked(smtp_server: SmtpServer) -> None:
    smtp_server.answers["greeting"] = "220 no TLS here"
    with adapters.open("smtp", {}, OPTIONS | {"port": smtp_server.port, "security": "tls"}) as wire:
        assert type(failure(wire.verify)) is NotAccepted


def test_a_body_that_cannot_be_sent_was_not_taken(server: SmtpServer, wire: adapters.Wire, envelope: Make) -> None:
    """The server stops reading, so the kernel's buffers fill and the dot never leaves."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    import threading

    def serve() -> None:
        peer, _ = listener.accept()
        stream = peer.makefile("rb")
        peer.sendall(b"220 slow\r\n")
        for answer in (b"250 slow\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            stream.readline()
            peer.sendall(answer)
        done.wait(10)
        peer.close()

    done = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    options = OPTIONS | {"port": listener.getsockname()[1]}
    with adapters.open("smtp", {}, options) as slow:
        error = failure(lambda: slow.send(envelope(text="x" * 70 + "\n" + ("y" * 70 + "\n") * 200_000)))
    done.set()
    thread.join(5)
    listener.close()
    assert type(error) is NotAccepted
