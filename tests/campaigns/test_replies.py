"""Answers as they are kept: what they mean by the rules, by corrections, and by a person."""

import json
from datetime import date, datetime, time, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command

from campaigns import erasure, launch, replies
from campaigns.explain import explain
from campaigns.models import Enrollment, Message, Reply, ReplyLabel, Suppression
from providers.accounts.models import Account
from providers.senders.inbound import labels
from providers.senders.inbound.labels import Label
from providers.senders.inbound.verdict import classify
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns.test_feedback import sent
from tests.campaigns.test_returned import NOW, came
from tests.providers.inbound_mails import reply


@pytest.fixture
def smtp(alpha: Agency, beta: Agency) -> Account:
    account = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, account)
    return account


def answered(message: Message, text: str, headers: str = "") -> Reply:
    """An answer is kept as if it had just come."""
    raw = reply(text, headers=headers).replace(b"<n1@mx.test>", f"<{uuid4()}@mx.test>".encode())
    found = replies.keep(message, classify(raw), digest=uuid4(), received_at=NOW)
    assert found is not None
    return found


def test_the_labels_are_those_of_the_rules() -> None:
    assert set(ReplyLabel.values) == {str(one) for one in Label}


def test_an_answer_is_kept_once_with_what_its_sender_wrote(alpha: Agency, beta: Agency, smtp: Account) -> None:
    with context.entered(beta):
        message = sent(beta, smtp)[0]
    text = "We are not interested, thanks.\n\n-- \nMax Client\nClient Ltd.\n\nOn Monday, Anna wrote:\n> Hello Max\n"
    came(reply(text).replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode()))
    with context.entered(beta):
        (kept,) = Reply.objects.all()
        assert (kept.message_id, kept.label, kept.found) == (message.pk, "not_interested", "not_interested")
        assert (kept.text, kept.span, kept.rules) == (
            "We are not interested, thanks.",
            "not interested",
            labels.VERSION,
        )
        assert "Client Ltd." in kept.signed
        assert "Hello Max" not in kept.signed
        assert (kept.automatic, kept.decided_by, kept.subject) == (False, "", "Re: Your autumn fair")
        assert "@" in kept.sender
        again = replies.keep(message, classify(reply(text)), digest=kept.digest, received_at=NOW)
        assert again == kept
    with context.entered(alpha):
        assert not Reply.objects.exists()


def test_an_answer_that_is_brought_again_by_another_way_is_the_same(alpha: Agency, beta: Agency, smtp: Account) -> None:
    """A server before ours that did not hear our 250 brings it again, and writes another line above it."""
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    raw = reply("How much is it?").replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode())
    raw = raw.replace(b"<n1@mx.test>", b"<answer1@mx.test>")
    for number in (1, 2):
        came(f"Received: by mx.test with ESMTP id {number}\r\n".encode() + raw)
    # Some programs call all their mails the same.
    came(raw.replace(b"How much is it?", b"And when?"))
    with context.entered(alpha):
        assert sorted(Reply.objects.values_list("text", flat=True)) == ["And when?", "How much is it?"]


def test_an_absence_is_kept_with_its_day(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
    raw = reply("I am out of office. I am back on 5 January 2027.", headers="Auto-Submitted: auto-replied\r\n")
    came(raw.replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode()))
    with context.entered(alpha):
        kept = Reply.objects.get()
        assert (kept.label, kept.automatic, kept.returns_on) == ("out_of_office", True, date(2027, 1, 5))


def test_a_person_decides_and_an_opt_out_suppresses_for_good(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
        kept = answered(message, "Tell me more, please.")
        replies.decide(kept, ReplyLabel.OPT_OUT, by="carol@alpha.test", clock=lambda: NOW)
        assert (kept.label, kept.found, kept.decided_by) == ("opt_out", "interested", "carol@alpha.test")
        assert Suppression.objects.get().value == message.contact.email
        replies.decide(kept, ReplyLabel.QUESTION, by="carol@alpha.test", clock=lambda: NOW)
        assert Suppression.objects.count() == 1


def test_corrections_teach_but_nobody_leaves_or_stays_by_that(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
        first = answered(message, "Tell me more, please.")
        assert first.label == "interested"
        for _ in range(3):
            kept = answered(message, "Tell me more, please.")
            assert kept.label == "interested"
            replies.decide(kept, ReplyLabel.QUESTION, by="carol@alpha.test", clock=lambda: NOW)
        taught = answered(message, "Tell me more, please.")
        assert (taught.label, taught.found, taught.decided_by) == ("question", "interested", "")
        (row,) = replies.judged()
        assert (row.found, row.right, row.wrong, row.instead) == ("interested", 0, 3, ("question",))
        # Those who find it right outweigh it again.
        for _ in range(2):
            kept = answered(message, "Tell me more, please.")
            replies.decide(kept, ReplyLabel.INTERESTED, by="carol@alpha.test", clock=lambda: NOW)
        assert answered(message, "Tell me more, please.").label == "interested"
        for _ in range(9):
            kept = answered(message, "Please remove me from your list")
            replies.decide(kept, ReplyLabel.QUESTION, by="carol@alpha.test", clock=lambda: NOW)
        assert answered(message, "Please remove me from your list").label == "opt_out"


def test_history_is_read_again_by_new_rules_and_what_people_decided_holds(
    alpha: Agency, smtp: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
        plain = answered(message, "Tell me more, please.")
        decided = answered(message, "Tell me more, please.")
        replies.decide(decided, ReplyLabel.NOT_NOW, by="carol@alpha.test", clock=lambda: NOW)
        leaves = answered(message, "Please remove me from your list")
        Reply.objects.update(rules="older", found="other", span="")
        Reply.objects.exclude(pk=decided.pk).update(label="other")
        assert not Suppression.objects.exists()
    out = StringIO()
    call_command("judge_replies", "--agency", "alpha", "--json", stdout=out)
    assert json.loads(out.getvalue())["changed"] == 2
    with context.entered(alpha):
        found = dict(Reply.objects.values_list("pk", "label"))
        assert found == {plain.pk: "interested", decided.pk: "not_now", leaves.pk: "opt_out"}
        assert set(Reply.objects.values_list("rules", flat=True)) == {labels.VERSION}
        assert Suppression.objects.get().value == message.contact.email
        assert replies.classify_again(clock=lambda: NOW) == 0


def test_answers_go_with_the_person_and_none_is_kept_after(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        message = sent(alpha, smtp)[0]
        answered(message, "Tell me more, please.")
        receipt = erasure.erase(message.contact.email, by="carol@alpha.test", clock=lambda: NOW)
        assert receipt.counts["replies"] == 1
        assert not Reply.objects.exists()
        late = classify(reply("Tell me more, please."))
        assert replies.keep(message, late, digest=uuid4(), received_at=NOW) is None


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("I am out of office. I am back on {far:%d %B %Y}.", 90),
        ("Я в отпуске, вернусь 2 числа.", 7),
        ("Ich bin bis einschließlich {day:%d.%m.%Y} nicht im Büro.", 13),
        ("Je suis absent, de retour le {day:%d/%m/%Y}.", 12),
        ("Estoy fuera de la oficina hasta el {day:%d/%m/%Y}.", 12),
        ("Меня нет на месте. Буду в офисе с {day:%d.%m.%Y}.", 12),
        ("I am out of office until {day:%d %B %Y}.", 12),
    ],
)
def test_a_sequence_waits_for_the_day_of_return(alpha: Agency, smtp: Account, text: str, days: int) -> None:
    """What is queued and what is still to be looked at, but for mails that were asked for."""
    today = NOW.astimezone(alpha.zone).date()
    raw = reply(
        text.format(day=today + timedelta(days=12), far=today + timedelta(days=200)),
        subject="Automatic reply: Your autumn fair",
        headers="Auto-Submitted: auto-replied\r\n",
    )
    with context.entered(alpha):
        message, other = sent(alpha, smtp, 2)
        Enrollment.objects.update(look_at=NOW)
        queued = stage.campaign(message.campaign.list)
        launch.launch(queued, now=NOW)
        receipt = stage.campaign(message.campaign.list, traffic_class="high_priority")
        launch.launch(receipt, now=NOW)
    came(raw.replace(b"7c3e1f@sender.test", f"{message.key}@sender.test".encode()))
    with context.entered(alpha):
        back = datetime.combine(today + timedelta(days=days), time(), alpha.zone)
        assert Reply.objects.get().label == "out_of_office"
        found = {one.contact_id: one for one in queued.messages.all()}
        waits = found[message.contact_id]
        assert (waits.due_at, waits.reason, waits.status) == (back, "away", "scheduled")
        assert explain(waits, now=NOW).clears_at == back
        assert found[other.contact_id].due_at == NOW
        assert set(receipt.messages.values_list("due_at", flat=True)) == {NOW}
        assert message.campaign.enrollments.get(contact=message.contact_id).look_at == back
        assert message.campaign.enrollments.get(contact=other.contact_id).look_at == NOW
