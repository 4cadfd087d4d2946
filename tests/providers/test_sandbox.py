import json
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command

from providers.accounts import adapters
from providers.accounts.envelope import Envelope
from providers.accounts.errors import (
    AccountBlocked,
    DeliveryError,
    NotAccepted,
    RecipientRefused,
    Throttled,
    Unsure,
)
from providers.sandbox import RESEND_KEY, SENDGRID_KEY, SMTP_PASSWORD, SMTP_USERNAME, faults
from providers.sandbox.service import Sandbox
from providers.sandbox.tally import Delivery, Tally

Make = Callable[..., Envelope]
Open = Callable[..., adapters.Wire]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def open_wire(sandbox: Sandbox) -> Iterator[Open]:
    wires = []

    def open_one(provider: str, key: str = "", **options: Any) -> adapters.Wire:
        if provider == "smtp":
            credentials = {"username": SMTP_USERNAME, "password": key or SMTP_PASSWORD}
            options = {
                "host": "127.0.0.1",
                "port": sandbox.ports["smtp"],
                "security": "none",
                "answer_timeout": 0.3,
                **options,
            }
        else:
            credentials = {"api_key": key or {"resend": RESEND_KEY, "sendgrid": SENDGRID_KEY}[provider]}
            options = {"api_url": sandbox.urls[provider], "read_timeout": 0.3, **options}
        wires.append(adapters.open(provider, credentials, options))
        return wires[-1]

    yield open_one
    for wire in wires:
        wire.close()


def failure(send: Callable[[], Any]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send()
    return caught.value


@pytest.mark.parametrize("provider", faults.PROVIDERS)
class TestEveryProvider:
    def test_it_takes_a_mail_and_counts_it(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        wire = open_wire(provider)
        wire.verify()
        assert wire.send(envelope())
        counts = sandbox.snapshot(detail=True)
        assert counts["accepted"] == {name: int(name == provider) for name in faults.PROVIDERS}
        assert counts["accounts"] == {provider: 1}
        assert counts["recipients"] == {"carol1@example.com": 1}
        assert counts["senders"] == {"anna@mail.alpha.test": 1}
        (kept,) = sandbox.messages("carol1@example.com")
        assert kept["message_id"] == "<1@mail.alpha.test>"
        assert "One-Click" in json.dumps(kept["content"])

    def test_a_wrong_key_is_refused(self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str) -> None:
        wire = open_wire(provider, "not-the-key")
        assert type(failure(wire.verify)) is AccountBlocked
        assert type(failure(lambda: wire.send(envelope()))) is AccountBlocked
        assert sandbox.snapshot()["distinct_recipients"] == 0

    def test_down_takes_nothing_and_heals(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        wire = open_wire(provider)
        wire.send(envelope(1))
        sandbox.script(f"{provider}=down")
        assert type(failure(lambda: wire.send(envelope(2)))) is NotAccepted
        assert type(failure(wire.verify)) is NotAccepted
        assert sandbox.snapshot()["accepted"][provider] == 1
        sandbox.heal(provider)
        wire.send(envelope(2))

    def test_slow_answers_late(self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str) -> None:
        sandbox.script(f"{provider}=slow:0.15")
        started = time.monotonic()
        open_wire(provider).send(envelope())
        assert time.monotonic() - started >= 0.15

    def test_throttle_lets_so_many_a_second_pass(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        sandbox.script(f"{provider}=throttle:2")
        wire = open_wire(provider)
        outcomes = []
        for number in range(8):
            try:
                outcomes.append(wire.send(envelope(number)))
            except Throttled as error:
                outcomes.append(error)
        throttled = [one for one in outcomes if isinstance(one, Throttled)]
        # Eight mails may fall into two seconds, hardly into three.
        assert len(throttled) in (4, 6)
        assert {one.after for one in throttled} == {1}
        assert sandbox.snapshot()["accepted"][provider] == 8 - len(throttled)

    def test_refuse_kills_the_recipient(self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str) -> None:
        sandbox.script(f"{provider}=refuse")
        wire = open_wire(provider)
        error = failure(lambda: wire.send(envelope(recipient="refused.7@example.com")))
        assert isinstance(error, RecipientRefused)
        assert error.hard
        wire.send(envelope(recipient="welcome@example.com"))
        assert sandbox.snapshot(detail=True)["recipients"] == {"welcome@example.com": 1}

    def test_every_third_answer_is_lost_though_the_mail_was_taken(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        sandbox.script(f"{provider}=lost_answers:3")
        wire = open_wire(provider)
        unsure = []
        for number in range(1, 8):
            try:
                wire.send(envelope(number))
            except Unsure:
                unsure.append(number)
        assert unsure == [3, 6]
        counts = sandbox.snapshot()
        assert (counts["accepted"][provider], counts["duplicates"]) == (7, 0)

    def test_a_time_out_after_acceptance_is_in_doubt(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        sandbox.script(f"{provider}=timeout_after_acceptance")
        assert type(failure(lambda: open_wire(provider).send(envelope()))) is Unsure
        assert sandbox.snapshot()["accepted"][provider] == 1

    def test_a_line_cut_after_the_mail_is_in_doubt_and_took_nothing(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        sandbox.script(f"{provider}=cut_after_data:2")
        wire = open_wire(provider)
        wire.send(envelope(1))
        assert type(failure(lambda: wire.send(envelope(2)))) is Unsure
        assert sandbox.snapshot()["accepted"][provider] == 1

    def test_waves_of_refusals_come_and_go(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        sandbox.script(f"{provider}=waves:1")
        wire = open_wire(provider)
        found = []
        for number in range(14):
            try:
                wire.send(envelope(number))
                found.append(None)
            except DeliveryError as error:
                found.append(type(error))
        last = NotAccepted if provider == "smtp" else Unsure
        assert found == [*[None] * 10, Throttled, NotAccepted, last, None]
        counts = sandbox.snapshot()
        assert counts["accepted"][provider] == 11
        assert counts["troubles"] == {f"{provider} 503": 1, f"{provider} 500": 1}

    def test_a_mail_given_twice_is_seen_as_a_duplicate(
        self, sandbox: Sandbox, open_wire: Open, envelope: Make, provider: str
    ) -> None:
        wire = open_wire(provider)
        wire.send(envelope(1))
        wire.send(envelope(1, key="another key"))
        wire.send(envelope(2))
        counts = sandbox.snapshot()
        assert (counts["distinct_recipients"], counts["duplicates"], counts["repeated_message_ids"]) == (2, 1, 1)
        assert counts["max_per_sender"] == 3


def test_a_retry_at_resend_after_a_lost_answer_delivers_once(sandbox: Sandbox, open_wire: Open, envelope: Make) -> None:
    sandbox.script("resend=lost_answers:1")
    wire = open_wire("resend")
    assert type(failure(lambda: wire.send(envelope()))) is Unsure
    assert wire.send(envelope())
    counts = sandbox.snapshot()
    assert counts["requests"]["resend"] == 2
    assert (counts["accepted"]["resend"], counts["duplicates"]) == (1, 0)


def test_another_mail_under_the_same_key_is_not_delivered(sandbox: Sandbox, open_wire: Open, envelope: Make) -> None:
    wire = open_wire("resend")
    first = wire.send(envelope())
    assert wire.send(envelope()) == first
    # Its answer says that the first was taken.
    assert wire.send(envelope(subject="Something else")) is None
    assert sandbox.snapshot()["accepted"]["resend"] == 1


def test_the_same_retry_at_sendgrid_would_be_a_duplicate(sandbox: Sandbox, open_wire: Open, envelope: Make) -> None:
    """Why a doubtful mail is never tried again there: nothing at the provider stops it."""
    wire = open_wire("sendgrid")
    wire.send(envelope())
    wire.send(envelope())
    assert sandbox.snapshot()["duplicates"] == 1


def test_a_failover_in_doubt_would_be_seen_as_a_duplicate(sandbox: Sandbox, open_wire: Open, envelope: Make) -> None:
    sandbox.script("smtp=lost_answers:1")
    failure(lambda: open_wire("smtp").send(envelope()))
    open_wire("resend").send(envelope())
    counts = sandbox.snapshot()
    assert (counts["duplicates"], counts["repeated_message_ids"]) == (1, 1)


def test_resend_answers_in_its_own_shape(sandbox: Sandbox) -> None:
    url = sandbox.urls["resend"]
    signed = {"Authorization": f"Bearer {RESEND_KEY}"}
    mail = {"from": "a@alpha.test", "to": ["c@example.com"], "subject": "Hi", "text": "Hi"}
    assert requests.post(f"{url}emails", json=mail).status_code == 401
    for change in ({"to": []}, {"subject": ""}, {"text": ""}, {"from": "nobody"}, {"to": ["nobody"]}):
        answer = requests.post(f"{url}emails", json=mail | change, headers=signed)
        assert answer.status_code == 422
        assert set(answer.json()) == {"statusCode", "message", "name"}
    batch = requests.post(f"{url}emails/batch", json=[mail, mail], headers=signed)
    assert [set(one) for one in batch.json()["data"]] == [{"id"}, {"id"}]
    assert requests.post(f"{url}emails", data="{", headers=signed).status_code == 400
    assert requests.get(f"{url}emails", headers=signed).status_code == 405
    assert requests.get(f"{url}elsewhere", headers=signed).json()["name"] == "not_found"
    assert sandbox.snapshot()["accepted"]["resend"] == 2


def test_sendgrid_answers_in_its_own_shape(sandbox: Sandbox) -> None:
    url = sandbox.urls["sendgrid"] + "mail/send"
    signed = {"Authorization": f"Bearer {SENDGRID_KEY}"}
    mail = {
        "from": {"email": "a@alpha.test"},
        "personalizations": [{"to": [{"email": "c@example.com"}]}],
        "subject": "Hi",
        "content": [{"type": "text/plain", "value": "Hi"}],
    }
    taken = requests.post(url, json=mail, headers=signed)
    assert (taken.status_code, taken.content) == (202, b"")
    assert taken.headers["X-Message-Id"]
    for change, field in (
        ({"from": {}}, "from.email"),
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": [{"to": [{"email": "x"}]}]}, "personalizations.0.to.0.email"),
        ({"subject": ""}, "subject"),
        ({"content": []}, "content"),
        ({"headers": {"To": "x@y.test"}}, "headers.To"),
    ):
        answer = requests.post(url, json=mail | change, headers=signed)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == field
    assert sandbox.snapshot()["accepted"]["sendgrid"] == 1


def test_the_mail_server_speaks_to_pythons_client(sandbox: Sandbox) -> None:
    with smtplib.SMTP("127.0.0.1", sandbox.ports["smtp"], "localhost") as client:
        client.ehlo()
        assert {"size", "pipelining", "8bitmime", "smtputf8", "auth"} <= set(client.esmtp_features)
        client.login(SMTP_USERNAME, SMTP_PASSWORD)
        body = "From: Anna <anna@alpha.test>\r\nMessage-ID: <7@alpha.test>\r\n\r\n.\r\n..x\r\n"
        client.sendmail("b@alpha.test", ["c@example.com", "d@example.com"], body)
        client.sendmail("b@alpha.test", ["почта@example.com"], "x\r\n", ["SMTPUTF8"])
        assert [client.docmd(command)[0] for command in ("MAIL x", "RCPT TO:<a@b>", "DATA", "XYZ", "HELP ME")] == [
            501,
            503,
            503,
            500,
            500,
        ]
    kept = sandbox.messages("d@example.com")[0]
    assert kept["content"] == body
    assert (kept["sender"], kept["message_id"]) == ("anna@alpha.test", "<7@alpha.test>")
    assert sandbox.snapshot()["accepted"]["smtp"] == 3


def test_only_crlf_dot_crlf_ends_a_mail(sandbox: Sandbox) -> None:
    """RFC 5321 section 4.1.1.4: anything looser lets one mail be smuggled into another."""
    with smtplib.SMTP("127.0.0.1", sandbox.ports["smtp"], "localhost") as client:
        client.ehlo()
        client.mail("a@alpha.test")
        client.rcpt("c@example.com")
        client.docmd("DATA")
        client.send(b"x\n.\nMAIL FROM:<evil@alpha.test>\r\n.\nRCPT\n.\r\n\r\n.\r\n")
        assert client.getreply()[0] == 250
    assert sandbox.snapshot()["accepted"]["smtp"] == 1


def test_it_is_controlled_over_http(sandbox: Sandbox) -> None:
    url = sandbox.urls["control"]
    assert requests.post(f"{url}faults", json=["resend=down", "smtp=slow:0.5"]).json() == [
        "resend=down",
        "smtp=slow:0.5",
    ]
    assert requests.get(f"{url}faults").json() == ["resend=down", "smtp=slow:0.5"]
    wrong = requests.post(f"{url}faults", json=["resend=asleep"])
    assert (wrong.status_code, "lost_answers" in wrong.json()["message"]) == (400, True)
    assert requests.get(f"{url}faults").json() == ["resend=down", "smtp=slow:0.5"]
    assert requests.post(f"{url}faults", json=[]).json() == []
    assert requests.get(f"{url}counts").json()["duplicates"] == 0
    assert requests.get(f"{url}messages", params={"recipient": "c@example.com"}).json() == []
    assert requests.post(f"{url}reset").status_code == 200
    assert requests.get(f"{url}nothing").status_code == 404


def test_a_body_may_not_be_endless(sandbox: Sandbox) -> None:
    session = requests.Session()
    prepared = requests.Request("POST", f"{sandbox.urls['resend']}emails", data=b"x").prepare()
    prepared.headers["Content-Length"] = str(41 * 1024 * 1024)
    assert session.send(prepared).status_code == 413


def test_many_threads_are_counted_exactly(sandbox: Sandbox, open_wire: Open, envelope: Make) -> None:
    wires = [open_wire(provider) for provider in ("resend", "sendgrid", "smtp", "smtp")]

    def work(first: int, wire: adapters.Wire) -> None:
        for number in range(first, first + 50):
            wire.send(envelope(number))

    threads = [threading.Thread(target=work, args=(index * 1000, wire)) for index, wire in enumerate(wires)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    counts = sandbox.snapshot()
    assert counts["accepted"] == {"resend": 50, "sendgrid": 50, "smtp": 100}
    assert (counts["distinct_recipients"], counts["duplicates"]) == (200, 0)


class TestTally:
    def delivery(self, recipient: str, message_id: str = "<1@a>") -> Delivery:
        return Delivery("smtp", "smtp", "a@alpha.test", recipient, message_id, b"")

    def test_a_second_step_is_no_repeated_message(self) -> None:
        tally = Tally()
        tally.record(self.delivery("c@example.com", "<1@a>"))
        tally.record(self.delivery("C@Example.com", "<2@a>"))
        counts = tally.snapshot()
        assert (counts["duplicates"], counts["repeated_message_ids"]) == (1, 0)

    def test_only_the_latest_are_kept_but_all_are_counted(self) -> None:
        tally = Tally(kept=2)
        for number in range(5):
            tally.record(self.delivery(f"c{number}@example.com"))
        assert [one["recipient"] for one in tally.messages()] == ["c3@example.com", "c4@example.com"]
        assert tally.snapshot()["distinct_recipients"] == 5


class TestFaults:
    @pytest.mark.parametrize(
        "text",
        [
            "resend=down",
            "sendgrid=slow:0.5",
            "smtp=throttle:3",
            "smtp=lost_answers:5",
            "resend=refuse:dead*",
            "smtp=timeout_after_acceptance:2",
            "smtp=cut_after_data:3",
            "sendgrid=waves:20",
        ],
    )
    def test_it_reads_and_writes_a_fault(self, text: str) -> None:
        assert str(faults.parse(text)) == text

    def test_each_has_a_default(self) -> None:
        defaults = [None, 0.2, 10, 10, "refused*", None, 1, 10, 10]
        assert [faults.parse(f"smtp={kind}").value for kind in faults.KINDS] == defaults

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("down", "resend=down"),
            ("postmark=down", "resend, sendgrid, smtp"),
            ("resend=dwon", "down, slow, throttle"),
            ("resend=slow:quick", "seconds"),
            ("resend=slow:-1", "more than 0"),
            ("resend=slow:nan", "more than 0"),
            ("resend=lost_answers:0", "more than 0"),
            ("resend=lost_answers:1.5", "whole"),
            ("resend=down:1", "no value"),
        ],
    )
    def test_a_fault_that_does_not_exist_is_told_what_does(self, text: str, told: str) -> None:
        with pytest.raises(faults.FaultError, match=re.escape(told)):
            faults.parse(text)


class TestLoopback:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.example.com", "192.0.2.1", ""])
    def test_it_listens_nowhere_else(self, host: str) -> None:
        with pytest.raises(ValueError, match=re.escape("127.0.0.1 only")):
            Sandbox(host=host)

    def test_the_command_refuses_as_well(self) -> None:
        with pytest.raises(CommandError, match="only"):
            call_command("sandbox", host="0.0.0.0")

    def test_a_taken_port_is_told(self, sandbox: Sandbox) -> None:
        with pytest.raises(OSError, match="in use"):
            Sandbox(http_port=sandbox.ports["http"]).start()


def test_the_command_says_where_it_is_and_stops_when_told() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "django", "sandbox", "--json-ready", "--fault", "resend=down"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        ready = json.loads(child.stdout.readline())
        assert ready["credentials"]["resend"] == {"api_key": RESEND_KEY}
        answer = requests.post(ready["urls"]["resend"] + "emails", json={}, timeout=5)
        assert answer.status_code == 503
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
