"""Mail that came back, from the server that takes it to the facts of the mail that it is about."""

import asyncio
import smtplib
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from django.conf import LazySettings
from django.db import connection

from campaigns import jobs, returned, tokens
from campaigns.envelopes import Envelopes
from campaigns.models import Message, MessageFacts, Suppression
from providers.accounts import inbox
from providers.accounts.events import BounceClass, EventType
from providers.accounts.models import Account, InboundMail
from providers.accounts.receiving import Receiver, serve
from providers.senders.inbound import tokens as envelopes
from providers.senders.models import Event
from tenants import bells, context
from tenants.jobs import waiting
from tenants.models import Agency
from tests import stage
from tests.campaigns.test_feedback import claim, sent
from tests.providers.inbound_mails import mail, reply, report, status

NOW = datetime.now(UTC)
DOMAIN = "bounces.test"


@pytest.fixture
def smtp(alpha: Agency, beta: Agency) -> Account:
    account = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, account)
    return account


def address(agency: Agency, message: Message) -> str:
    return f"{envelopes.make(agency.pk, message.key, keys=tokens.envelope_keys())}@{DOMAIN}"


def came(raw: bytes, *recipients: str) -> InboundMail:
    """A mail comes and is handled."""
    connection.set_schema_to_public()
    assert inbox.keep("", recipients or [f"replies@{DOMAIN}"], raw)
    returned.take_in(clock=lambda: NOW)
    found = InboundMail.objects.latest("pk")
    assert found.handled_at
    return found


def told(agency: Agency) -> list[tuple[str, str]]:
    with context.entered(agency):
        return list(Event.objects.filter(source="inbound").order_by("pk").values_list("type", "bounce_class"))


def test_a_bounce_that_quotes_nothing_finds_its_mail_by_the_envelope(
    alpha: Agency, beta: Agency, smtp: Account
) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    raw = mail("Your message to somebody was rejected: 550 5.1.1 user unknown\n")
    assert came(raw, address(alpha, message)).kind == "bounce"
    assert told(alpha) == [(EventType.BOUNCED, BounceClass.HARD)]
    assert told(beta) == []
    with context.entered(alpha):
        assert MessageFacts.objects.get(message=message).bounced_at
        assert Suppression.objects.get().value == message.contact.email


def test_a_reply_finds_its_mail_by_what_it_answers(alpha: Agency, beta: Agency, smtp: Account) -> None:
    with context.entered(beta):
        message = sent(beta, smtp)[0]
    raw = reply("Yes, tell me more.").replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode())
    assert came(raw).kind == "human"
    assert (told(alpha), told(beta)) == ([], [(EventType.REPLIED, "")])
    with context.entered(beta):
        assert MessageFacts.objects.get(message=message).replied_at
        assert Event.objects.get().detail == "interested"


@pytest.mark.parametrize("text", ["Please remove me from your list", "Отпишите меня"])
def test_a_reply_that_asks_for_it_opts_out(alpha: Agency, smtp: Account, text: str) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    came(reply(text).replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode()))
    with context.entered(alpha):
        assert Suppression.objects.get().source == Suppression.Source.OPT_OUT
        assert MessageFacts.objects.get(message=message).unsubscribed_at


def test_the_way_out_by_mail_leads_out(alpha: Agency, beta: Agency, smtp: Account) -> None:
    """What a mail program sends to the address in List-Unsubscribe, with the token in its subject."""
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    token = tokens.Signer(alpha.schema_name, tokens.OPT_OUT).of(message.key.bytes)
    raw = mail("", sender="max@client.test", subject=f"unsubscribe {token}", headers="")
    assert came(raw).trouble == ""
    with context.entered(alpha):
        assert Suppression.objects.get().value == message.contact.email
        facts = MessageFacts.objects.get(message=message)
        assert facts.unsubscribed_at
        assert facts.replied_at is None
    with context.entered(beta):
        assert not Suppression.objects.exists()


def test_an_absence_is_no_reply(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    raw = reply("I am on vacation until 5 December.", headers="Auto-Submitted: auto-replied\r\n")
    assert came(raw.replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode())).kind == "auto_reply"
    assert told(alpha) == [(EventType.OTHER, "")]


@pytest.mark.parametrize(
    ("code", "diagnostic", "bounce_class"),
    [
        ("5.1.1", "550 5.1.1 user unknown", BounceClass.HARD),
        ("5.2.2", "552 5.2.2 mailbox full", BounceClass.MAILBOX_FULL),
        ("5.7.1", "550 5.7.1 classified as spam", BounceClass.BLOCKED),
        ("5.7.26", "550 5.7.26 unauthenticated mail", BounceClass.OURS),
        ("5.4.6", "554 5.4.6 too many hops", BounceClass.SOFT),
    ],
)
def test_whose_fault_a_bounce_is(alpha: Agency, smtp: Account, code: str, diagnostic: str, bounce_class: str) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    came(report(status(code=code, diagnostic=diagnostic)), address(alpha, message))
    assert told(alpha) == [(EventType.BOUNCED, bounce_class)]


def test_a_delay_is_no_bounce(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    came(report(status(action="delayed", code="4.4.1")), address(alpha, message))
    assert told(alpha) == [(EventType.DEFERRED, "")]


def test_the_same_mail_again_is_stored_and_counted_once(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    raw = report(status())
    came(raw, address(alpha, message))
    connection.set_schema_to_public()
    assert not inbox.keep("", [address(alpha, message)], raw)
    InboundMail.objects.update(handled_at=None)
    returned.take_in(clock=lambda: NOW)
    assert len(told(alpha)) == 1


def test_a_mail_about_nothing_of_ours_changes_nothing(alpha: Agency, beta: Agency, smtp: Account) -> None:
    assert came(report(status()), f"b+{'a' * 48}@{DOMAIN}").trouble == "It names no mail of ours."
    assert (told(alpha), told(beta)) == ([], [])


def test_a_token_of_one_agency_names_no_mail_of_another(alpha: Agency, beta: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    came(report(status()), address(beta, message))
    with context.entered(alpha):
        assert not MessageFacts.objects.filter(bounced_at__isnull=False).exists()
    with context.entered(beta):
        assert not Suppression.objects.exists()


def test_one_mail_that_cannot_be_handled_does_not_stop_the_others(
    alpha: Agency, smtp: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = returned._handle

    def broken(one: InboundMail, *rest: object) -> object:
        if b"broken" in bytes(one.body):
            raise RuntimeError("no")
        return handled(one, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(returned, "_handle", broken)
    inbox.keep("", ["x@y.test"], b"From: a@b.test\r\n\r\nbroken")
    inbox.keep("", ["x@y.test"], b"From: a@b.test\r\n\r\nwhole")
    for _attempt in range(inbox.ATTEMPTS):
        returned.take_in(clock=lambda: NOW)
    first, second = InboundMail.objects.order_by("pk")
    assert (first.attempts, first.trouble, bool(first.handled_at)) == (3, "RuntimeError", True)
    assert (second.attempts, second.kind) == (0, "human")


def test_mails_are_forgotten_once_they_are_handled_and_old(alpha: Agency) -> None:
    for text in (b"one", b"two", b"three"):
        inbox.keep("", ["x@y.test"], b"From: a@b.test\r\n\r\n" + text)
    old, waits, _new = InboundMail.objects.order_by("pk")
    InboundMail.objects.filter(pk__in=[old.pk, waits.pk]).update(received_at=NOW - inbox.KEPT * 2)
    inbox.handled(old, kind="human", now=NOW)
    assert inbox.prune(now=NOW) == 1
    assert InboundMail.objects.count() == 2


def test_workers_are_rung_for_the_first_that_waits(alpha: Agency) -> None:
    connection.set_schema_to_public()
    for text in (b"one", b"two"):
        inbox.keep("", ["x@y.test"], b"From: a@b.test\r\n\r\n" + text)
    assert waiting() == 1
    jobs.tick()
    assert waiting() == 2


def test_the_envelope_names_the_mail_where_a_bounce_domain_is_set(
    alpha: Agency, smtp: Account, settings: LazySettings
) -> None:
    settings.BOUNCE_DOMAIN = DOMAIN
    with context.entered(alpha):
        people = stage.contact_list("l", 1)
        from campaigns import launch

        launch.launch(stage.campaign(people, distribution="shares", shares={smtp.name: 100}), now=stage.NOON)
        claimed = claim(alpha, smtp, 1)
        made = Envelopes(alpha)
        made.prepare(claimed)
        envelope = made.of(claimed[0])
    named = envelopes.read(envelope.return_path, keys=tokens.envelope_keys())
    assert named == envelopes.Named(alpha.pk, claimed[0].key)


# --- the server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[tuple[str, list[str], bytes]]]]:
    """The server on a free port, and what it stored."""
    stored: list[tuple[str, list[str], bytes]] = []
    monkeypatch.setattr(inbox, "keep", lambda sender, recipients, raw: stored.append((sender, recipients, raw)) or True)
    monkeypatch.setattr(inbox, "count", lambda results, now: None)
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []
    receiver = Receiver([DOMAIN])

    async def start() -> asyncio.Server:
        found = await serve(receiver, host="127.0.0.1", port=0, hostname=DOMAIN, most_bytes=100_000)
        ports.append(found.sockets[0].getsockname()[1])
        ready.set()
        return found

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    yield ports[0], stored
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    receiver.close()
    loop.close()


def test_the_server_stores_a_mail_before_it_takes_it(server: tuple[int, list[tuple[str, list[str], bytes]]]) -> None:
    port, stored = server
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        refused = client.sendmail("", [f"b+x@{DOMAIN}", "somebody@elsewhere.test"], report(status()))
    assert refused["somebody@elsewhere.test"][0] == 550
    [(sender, recipients, raw)] = stored
    assert (sender, recipients) == ("", [f"b+x@{DOMAIN}"])
    assert raw.rstrip() == report(status()).rstrip()


def test_the_server_takes_lines_as_long_as_servers_write_them(
    server: tuple[int, list[tuple[str, list[str], bytes]]],
) -> None:
    raw = reply("x" * 20_000)
    with smtplib.SMTP("127.0.0.1", server[0], timeout=10) as client:
        client.sendmail("", [f"b+x@{DOMAIN}"], raw)
    assert server[1][0][2].rstrip() == raw.rstrip()


def test_the_server_relays_nothing_and_takes_nothing_too_large(
    server: tuple[int, list[tuple[str, list[str], bytes]]],
) -> None:
    port, stored = server
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@b.test", ["somebody@elsewhere.test"], b"x")
        with pytest.raises(smtplib.SMTPResponseException) as large:
            client.sendmail("a@b.test", [f"x@{DOMAIN}"], b"x: y\r\n\r\n" + b"z" * 200_000)
    assert large.value.smtp_code == 552
    assert stored == []


def test_what_cannot_be_stored_is_not_taken(
    server: tuple[int, list[tuple[str, list[str], bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def down(*_: object) -> bool:
        raise OperationalError("the database is away")

    monkeypatch.setattr(inbox, "keep", down)
    with smtplib.SMTP("127.0.0.1", server[0], timeout=10) as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@b.test", [f"x@{DOMAIN}"], b"x: y\r\n\r\nz")
    assert refused.value.smtp_code == 451


def test_a_worker_stops_in_time_and_another_does_nothing_beside_it(
    alpha: Agency, smtp: Account, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    """A job that outlives its time is killed in the middle, and what two do at once they do twice."""
    with context.entered(alpha):
        messages = sent(alpha, smtp, 3)
    connection.set_schema_to_public()
    for message in messages:
        inbox.keep("", [address(alpha, message)], mail("Your message was rejected: 550 5.1.1 user unknown\n"))
    looks = iter([False, True])
    assert returned.take_in(clock=lambda: NOW, interrupted=lambda: next(looks)) == 1
    assert told(alpha) == [(EventType.BOUNCED, BounceClass.HARD)]
    with monkeypatch.context() as patch:
        patch.setattr(bells, "alone", lambda _: nullcontext(False))
        assert returned.take_in(clock=lambda: NOW) == 0
    # None of its time is left: whoever comes next goes on.
    settings.DRAIN_SECONDS = 0
    before = waiting()
    jobs.take_in()
    assert waiting() == before + 1
    settings.DRAIN_SECONDS = 15
    jobs.take_in()
    assert not inbox.pending()
    assert len(told(alpha)) == 3
