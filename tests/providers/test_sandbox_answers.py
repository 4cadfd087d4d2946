"""What the sandbox brings back by mail, against what we take it for."""

import smtplib
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from providers.sandbox import RESEND_KEY, SENDGRID_KEY
from providers.sandbox.population import ANSWERS, STORIES, answer, story
from providers.sandbox.service import Sandbox
from providers.senders.inbound.verdict import Verdict, classify
from tests.stage import NOON

RETURN_PATH = "b+token@bounces.test"
MAIL = """\
From: Anna <anna@sender.test>
To: <{to}>
Subject: A question
Message-ID: <mail.{number}@sender.test>
List-Unsubscribe: <https://x.test/o/1>, <mailto:anna@sender.test?subject=unsubscribe%20abc>

Hello, are you interested?
If not, unsubscribe: https://x.test/o/1
"""


class Box:
    """A mail server that keeps what it is given."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bytes]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.original_content, bytes)
        self.found.append((envelope.rcpt_tos[0], envelope.original_content))
        return "250 2.0.0 OK"


@pytest.fixture
def box() -> Iterator[tuple[Box, str]]:
    found = Box()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(found, hostname="127.0.0.1", port=port)
    server.start()
    yield found, f"smtp://127.0.0.1:{port}"
    server.stop()


def settled(sandbox: Sandbox) -> dict[str, dict[str, dict[str, int]]]:
    """What the sandbox says became of mails, once all of it was brought, and what was lost too."""
    sandbox.replay()
    deadline = time.monotonic() + 20
    while sandbox.events()["left"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return sandbox.events()


def send(sandbox: Sandbox, people: list[str]) -> None:
    with smtplib.SMTP("127.0.0.1", sandbox.ports["smtp"]) as line:
        for number, to in enumerate(people):
            line.sendmail(RETURN_PATH, [to], MAIL.format(to=to, number=number).encode())


def read(box: Box) -> list[tuple[str, Verdict]]:
    """Each mail that came once, whatever servers on the way have written above it."""
    found = {raw.partition(b"\r\n")[2]: to for to, raw in box.found}
    return [(to, classify(raw, today=NOON.date())) for raw, to in found.items()]


def test_all_that_comes_back_by_mail_is_what_was_scripted(box: tuple[Box, str]) -> None:
    people = [f"{name}{number}@people.example" for name, _, _ in (*STORIES, *ANSWERS) for number in range(6)]
    with Sandbox() as sandbox:
        sandbox.listen(inbound=box[1])
        send(sandbox, people)
        told = settled(sandbox)
    verdicts = read(box[0])
    kinds = Counter(str(one.kind) for _, one in verdicts)
    happened, answered = Counter(told["outcomes"]["smtp"]), Counter(told["answers"]["smtp"])
    # The way out by mail is a mail of a person.
    assert kinds == {
        "bounce": happened["bounced"] + happened["soft"] + happened["delayed"],
        "complaint": happened["complained"],
        "human": happened["replied"] + 6,
        "auto_reply": answered["out_of_office"] + answered["auto_reply"],
    }
    assert happened == {"bounced": 6, "soft": 6, "delayed": 6, "complained": 6, "unsubscribed": 12, "replied": 36}
    hard = [one for _, verdict in verdicts for one in verdict.recipients if one.hard]
    assert len(hard) == 6
    labels = Counter(str(one.label) for _, one in verdicts if one.label and one.message_ids)
    assert labels == answered
    assert sum(answered.values()) == 48
    assert {to for to, one in verdicts if one.kind == "bounce"} == {RETURN_PATH}
    # Half of the notices name nothing but the envelope.
    assert 0 < sum(bool(one.message_ids) for _, one in verdicts if one.kind == "bounce") < 18
    assert any(one.returns for _, one in verdicts)


def test_people_answer_to_what_came_through_the_providers_too(box: tuple[Box, str]) -> None:
    with Sandbox() as sandbox:
        sandbox.listen(inbound=box[1])
        headers = {"Message-ID": "<mail.1@sender.test>", "List-Unsubscribe": "<mailto:out@sender.test?subject=out>"}
        for to in ("interested@people.example", "optout@people.example", "bounce@people.example"):
            one = {"from": "Anna <anna@sender.test>", "to": [to], "subject": "Hi", "text": "Hello", "headers": headers}
            answered = requests.post(
                f"{sandbox.urls['resend']}emails",
                json=one,
                headers={"Authorization": f"Bearer {RESEND_KEY}"},
                timeout=9,
            )
            assert answered.status_code == 200
        many = {
            "from": {"email": "ben@sender.test"},
            "reply_to": {"email": "replies@sender.test"},
            "subject": "Hi",
            "content": [{"type": "text/plain", "value": "Hello"}],
            "personalizations": [
                {"to": [{"email": "away@people.example"}], "headers": {"Message-ID": "<mail.2@sender.test>"}}
            ],
        }
        answered = requests.post(
            f"{sandbox.urls['sendgrid']}mail/send",
            json=many,
            headers={"Authorization": f"Bearer {SENDGRID_KEY}"},
            timeout=9,
        )
        assert answered.status_code == 202
        told = settled(sandbox)
    assert told["outcomes"] == {"resend": {"replied": 1, "unsubscribed": 1}}
    assert told["answers"] == {"resend": {"interested": 1}, "sendgrid": {"out_of_office": 1}}
    found = dict(read(box[0]))
    assert {to: str(one.kind) for to, one in found.items()} == {
        "anna@sender.test": "human",
        "out@sender.test": "human",
        "replies@sender.test": "auto_reply",
    }
    assert found["anna@sender.test"].text == answer("interested@people.example").text  # type: ignore[union-attr]
    assert found["replies@sender.test"].message_ids == ["mail.2@sender.test"]


def test_some_of_it_comes_twice_some_late_and_some_only_when_asked_for_again(box: tuple[Box, str]) -> None:
    with Sandbox() as sandbox:
        sandbox.listen(inbound=box[1])
        send(sandbox, [f"interested{number}@people.example" for number in range(400)])
        deadline = time.monotonic() + 20
        while sandbox.events()["left"] > sandbox.events()["disorder"]["lost"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = len({raw.partition(b"\r\n")[2] for _, raw in box[0].found})
        disorder = sandbox.events()["disorder"]
        settled(sandbox)
    assert before == 400 - disorder["lost"]
    assert len(box[0].found) == 400 + disorder["repeated"]
    assert len({raw.partition(b"\r\n")[2] for _, raw in box[0].found}) == 400
    # The same in each run.
    assert (disorder["lost"], disorder["repeated"], disorder["late"]) == (4, 18, 20)


def test_nobody_answers_whose_mail_came_back_and_who_is_named_by_chance_is_so_for_ever() -> None:
    people = [f"p{number}@people.example" for number in range(20_000)]
    answering = Counter(found.label for one in people if (found := answer(one)))
    assert all("delivered" in story(one) for one in people if answer(one))
    assert set(answering) == {str(one.label) for _, _, texts in ANSWERS for one in texts}
    assert 1_100 < sum(answering.values()) < 1_400
    assert [answer(one.upper()) for one in people[:1000]] == [answer(one) for one in people[:1000]]
