"""A person answers a reply: from the sender who was answered, in its thread, counted, once, and not just anybody."""

import email
import email.policy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from django.utils import timezone

from campaigns import answers, audit, conversations, erasure, jobs, replies, returned, trials
from campaigns.models import Contact, Message, Pause, Reply, Subscription, Suppression, TrialMail
from providers.accounts import inbox
from providers.accounts.models import Account, OperatorSuppression
from providers.sandbox.service import Sandbox
from providers.senders import recovering
from providers.senders.inbound.verdict import classify
from providers.senders.models import Recovery, Sender
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.campaigns import ledgers
from tests.campaigns.test_feedback import sent
from tests.providers.inbound_mails import THEIRS, reply
from tests.stage import NOON
from tests.visitor import at

CAROL = "carol@alpha.test"
LATER = NOON + timedelta(hours=1)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> Iterator[dict[str, Account]]:
    """All three accounts for Alpha; in the end the ledgers say what was sent, and Beta has answered nobody."""
    found = stage.accounts(sandbox)
    stage.allot(alpha, *found.values())
    yield found
    with context.entered(beta):
        assert not TrialMail.objects.exists()
    assert audit.audit_quota().drifts == []


@pytest.fixture
def answered(alpha: Agency, accounts: dict[str, Account]) -> Iterator[Reply]:
    """A reply to a mail of Alpha's, from an address that is not quite the contact's; Alpha is entered."""
    with context.entered(alpha):
        message = sent(alpha, accounts["smtp"])[0]
        found = came(message, "Tell me more, please.")
        Reply.objects.update(own_id="<n1@mx.test>")
        found.refresh_from_db()
        yield found


def came(message: Message, text: str, headers: str = "") -> Reply:
    found = replies.keep(message, classify(reply(text, headers=headers)), digest=uuid4(), received_at=NOON)
    assert found is not None
    return found


def ask(to: Reply, text: str = "With pleasure.", once: UUID | None = None) -> TrialMail:
    return answers.ask(to, text, by=CAROL, once=once or uuid4(), now=LATER)


def send() -> int:
    return trials.send(clock=lambda: LATER, until=LATER + timedelta(seconds=15))


def read(mail: dict[str, Any]) -> Any:
    return email.message_from_string(mail["content"], policy=email.policy.default)


def test_it_leaves_from_the_sender_who_was_answered_in_the_thread_and_counts(answered: Reply, sandbox: Sandbox) -> None:
    sender = answered.message.sender
    assert sender is not None
    before = ledgers.used()
    ask(answered, "With pleasure:\r\n<b>here</b>\n\nBye, Carol")
    assert send() == 1
    (got,) = sandbox.messages(THEIRS)
    mail = read(got)
    ours = f"<{answered.message.key}@{sender.address.rpartition('@')[2]}>"
    assert sender.address in mail["From"]
    assert mail["Subject"] == "Re: Your autumn fair"
    assert mail["In-Reply-To"] == answered.own_id
    assert mail["References"].split() == [ours, answered.own_id]
    assert not {"List-Unsubscribe", "Auto-Submitted"} & set(mail.keys())
    text = mail.get_body(["plain"]).get_content().replace("\r\n", "\n")
    assert text == "With pleasure:\n<b>here</b>\n\nBye, Carol\n"
    assert "With pleasure:<br>&lt;b&gt;here&lt;/b&gt;</p><p>Bye, Carol" in mail.get_body(["html"]).get_content()
    assert {name: count - before[name] for name, count in ledgers.used().items()} == {
        "domains": 1,
        "senders": 1,
        "account of all": 1,
        "account of alpha": 1,
    }
    kinds = [(one.kind, one.text) for one in conversations.of(answered).entries[1:]]
    assert kinds[0] == ("reply", "Tell me more, please.")
    assert kinds[1][0] == "answer"
    # What follows names all that was before it.
    again = came(answered.message, "And then?")
    Reply.objects.filter(pk=again.pk).update(own_id="<n2@mx.test>", received_at=LATER)
    again.refresh_from_db()
    ask(again)
    assert send() == 1
    mail = read(sandbox.messages(THEIRS)[-1])
    answer = TrialMail.objects.order_by("pk")[0]
    first = f"<{answer.key}@{sender.address.rpartition('@')[2]}>"
    assert mail["References"].split() == [ours, answered.own_id, first, "<n2@mx.test>"]


def test_who_answers_an_answer_goes_on_with_the_conversation(answered: Reply, accounts: dict[str, Account]) -> None:
    made = ask(answered)
    assert send() == 1
    # Some programs name nothing but the mail before.
    raw = reply("And what does it cost?").replace(b"7c3e1f@sender.test", f"{made.key}@sender.test".encode())
    with context.public():
        inbox.keep(THEIRS, ["replies@us.test"], raw)
        returned.take_in(clock=lambda: LATER)
    assert Reply.objects.get(text="And what does it cost?").message_id == answered.message_id


def test_a_second_press_is_the_same_answer(answered: Reply, sandbox: Sandbox) -> None:
    once = uuid4()
    assert ask(answered, once=once).pk == ask(answered, "With pleasure!", once=once).pk
    other = came(answered.message, "And the price?")
    with pytest.raises(answers.AnswerRefusedError, match="another reply"):
        ask(other, once=once)
    assert send() == 1
    assert ask(answered, once=once).status == "waiting" or TrialMail.objects.get().status == "sent"
    assert send() == 0
    assert len(sandbox.messages(THEIRS)) == 1


def test_an_answer_that_waits_is_taken_back_and_one_that_a_worker_has_is_not(
    answered: Reply, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ledgers.used()
    asked = ask(answered)
    for _ in range(2):
        assert answers.take_back(answered, asked.pk).status == "withdrawn"
    assert send() == 0
    assert ledgers.used() == before
    late = ask(answered, "Another.")
    refused: list[str] = []
    begin = trials._begin

    def at_the_wire(trial: TrialMail, now: Any) -> bool:
        with pytest.raises(answers.AnswerRefusedError) as caught:
            answers.take_back(answered, late.pk)
        refused.extend(caught.value.problems)
        return begin(trial, now)

    monkeypatch.setattr(trials, "_begin", at_the_wire)
    assert send() == 1
    with pytest.raises(answers.AnswerRefusedError, match="has been sent"):
        answers.take_back(answered, late.pk)
    assert refused == ["It is being sent: too late to take it back."]
    assert len(sandbox.messages(THEIRS)) == 1
    assert sorted(TrialMail.objects.values_list("text", "status")) == [
        ("Another.", "sent"),
        ("With pleasure.", "withdrawn"),
    ]


@pytest.mark.parametrize("whose", ["wrote", "contact", "everybody at the domain"])
def test_nobody_who_must_not_be_mailed_is_answered_not_even_once_it_was_asked_for(
    answered: Reply, sandbox: Sandbox, whose: str
) -> None:
    value = {"wrote": THEIRS, "contact": answered.message.contact.email}.get(whose, "client.test")
    before = ledgers.used()
    ask(answered)
    Suppression.objects.create(value=value, source="opt_out")
    assert send() == 0
    assert [(one.status, one.said) for one in TrialMail.objects.all()] == [
        ("failed", "The address must not be mailed any more.")
    ]
    with pytest.raises(answers.AnswerRefusedError, match="must not be mailed"):
        ask(answered)
    assert TrialMail.objects.count() == 1
    assert ledgers.used() == before
    assert sandbox.messages(THEIRS) == []


def test_it_is_said_what_forbids_an_answer_and_what_may_be_taken_back(answered: Reply) -> None:
    people = answered.message.campaign.list

    def said() -> tuple[str, list[int | None]]:
        return " ".join(answers.why_not(answered, now=LATER)), [one.id for one in answers.bars(answered)]

    assert said() == ("", [])
    Pause.objects.create(value=THEIRS, until=timezone.now() + timedelta(days=9), created_at=NOON)
    assert "ends by itself" in said()[0]
    manual = Suppression.objects.create(value="client.test", source="manual")
    words, ids = said()
    assert (words.startswith("client.test"), "may take that back" in words, ids) == (True, True, [manual.pk, None])
    Suppression.objects.create(value=THEIRS, source="opt_out", list=people)
    assert "signing up" in said()[0]
    with context.public():
        OperatorSuppression.objects.create(value="*.test")
    assert "Ask the operator" in said()[0]
    Suppression.objects.create(value=THEIRS, source="opt_out")
    words, ids = said()
    assert "your own mail program" in words
    # Nobody takes an opt-out back for them.
    assert [one for one in ids if one] == [manual.pk]
    manual.delete()
    assert not any(said()[1])


def test_machines_and_nobody_are_not_answered(answered: Reply, sandbox: Sandbox) -> None:
    machine = came(answered.message, "I am out of office.", "Auto-Submitted: auto-replied\r\n")
    with pytest.raises(answers.AnswerRefusedError, match="machine"):
        ask(machine)
    # Nor where it was asked for before: the last look is at the wire.
    waiting = ask(answered)
    Reply.objects.filter(pk=answered.pk).update(automatic=True)
    assert send() == 0
    waiting.refresh_from_db()
    assert waiting.status == "failed"
    Reply.objects.filter(pk=answered.pk).update(automatic=False, sender="")
    answered.refresh_from_db()
    for text, why in (("Hello", "no address"), ("  \n", "no address")):
        with pytest.raises(answers.AnswerRefusedError, match=why):
            ask(answered, text)
    Reply.objects.filter(pk=answered.pk).update(sender=THEIRS)
    answered.refresh_from_db()
    for text, why in ((" \n", "Write something"), ("x" * 20_001, "20000 characters")):
        with pytest.raises(answers.AnswerRefusedError, match=why):
            ask(answered, text)
    assert sandbox.messages(THEIRS) == []


def test_no_other_sender_takes_its_place(answered: Reply) -> None:
    ask(answered)
    with context.public():
        Account.objects.filter(name="smtp").update(enabled=False)
    assert send() == 0
    assert TrialMail.objects.get().status == "waiting"
    with context.public():
        Account.objects.filter(name="smtp").update(enabled=True)
    Sender.objects.filter(pk=answered.message.sender_id).update(active=False)
    assert send() == 0
    with pytest.raises(answers.AnswerRefusedError, match="sender"):
        ask(answered)


def test_from_a_sender_that_is_paused_it_waits_and_says_so(alpha: Agency, answered: Reply) -> None:
    sender = answered.message.sender
    assert sender is not None
    recovering.pause(sender, alpha, by=CAROL, why="on leave", now=LATER)
    asked = ask(answered)
    assert send() == 0
    asked.refresh_from_db()
    assert (asked.status, "is paused" in asked.said) == ("waiting", True)
    recovering.release(Recovery.objects.get(), alpha, by=CAROL, why="is back", now=LATER)
    assert send() == 1


def test_an_account_that_requires_consent_gets_none_without(answered: Reply, sandbox: Sandbox) -> None:
    with context.public():
        Account.objects.filter(name="smtp").update(consent_required=True)
    ask(answered)
    Subscription.objects.update(basis="")
    Contact.objects.update(basis="")
    with pytest.raises(answers.AnswerRefusedError, match="account"):
        ask(answered)
    # Withdrawn between the claim and the wire, too.
    real = answers.routes_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "_has_consented", lambda reply: True)
        assert real(answered, now=LATER)
        assert send() == 0
    assert TrialMail.objects.get().status == "failed"
    assert sandbox.messages(THEIRS) == []


def test_what_a_reply_calls_itself_gets_into_no_header(answered: Reply, sandbox: Sandbox) -> None:
    Reply.objects.filter(pk=answered.pk).update(own_id="<a b>\r\nBcc: x@y.test", subject="Re:\r\nBcc: x@y.test")
    answered.refresh_from_db()
    ask(answered)
    assert send() == 1
    mail = read(sandbox.messages(THEIRS)[0])
    assert (mail["Bcc"], mail["Subject"]) == (None, "Re: Bcc: x@y.test")
    assert mail["In-Reply-To"].startswith(f"<{answered.message.key}@")


def test_an_erased_person_s_answers_are_kept_without_a_name(answered: Reply) -> None:
    ask(answered, "Dear Max, with pleasure.")
    assert send() == 1
    ask(answered, "And another.")
    receipt = erasure.erase(answered.message.contact.email, by="carol", clock=lambda: LATER)
    assert receipt.counts["answers"] == 2
    rows = list(TrialMail.objects.values_list("recipient", "subject", "text", "reply", "provider_id"))
    assert rows == [("", "", "", None, "")] * 2
    assert send() == 0
    assert sorted(TrialMail.objects.values_list("status", flat=True)) == ["failed", "sent"]


def test_the_api_answers_once_and_says_why_not(
    alpha: Agency, answered: Reply, carol: User, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[bool] = []
    monkeypatch.setattr(jobs, "ring_for_trials", lambda: rung.append(True))
    secret, once = keys.issue(carol, "program"), str(uuid4())

    def post(data: dict[str, str], path: str = f"{answered.pk}/answer/") -> tuple[int, Any]:
        with time_machine.travel(LATER, tick=False):
            answer = at(alpha).post(
                f"/api/v1/replies/{path}",
                data,
                content_type="application/json",
                headers={"authorization": f"Bearer {secret}"},
            )
        return answer.status_code, answer.json()

    assert post({"text": "Yes"})[0] == 400
    for _ in range(2):
        status, told = post({"text": "Yes", "once": once})
        assert (status, told["status"], told["once"]) == (202, "waiting", once)
    assert TrialMail.objects.get().by == CAROL
    assert rung
    answered.refresh_from_db()
    assert answered.read_at == LATER
    number = told["id"]

    def take_back(number: int) -> tuple[int, Any]:
        path = f"/api/v1/replies/{answered.pk}/answers/{number}/"
        answer = at(alpha).delete(path, headers={"authorization": f"Bearer {secret}"})
        return answer.status_code, answer.json()

    assert take_back(number + 99)[0] == 404
    status, told = take_back(number)
    assert (status, told["status"], told["text"]) == (200, "withdrawn", "Yes")
    TrialMail.objects.filter(pk=number).update(status="failed")
    status, told = take_back(number)
    assert (status, "nothing to take back" in told["error"]["message"]) == (409, True)
    Suppression.objects.create(value=THEIRS, source="opt_out")
    status, told = post({"text": "Yes", "once": str(uuid4())})
    assert (status, "must not be mailed" in told["error"]["message"]) == (409, True)
    assert post({"text": "Yes", "once": once}, f"{answered.pk + 99}/answer/")[0] == 404
