"""The inbox: each conversation once, filtered, found by words, and what people do with it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from campaigns import conversations, erasure, replies
from campaigns.conversations import State, Wanted
from campaigns.models import Message, Reply, Step, Suppression
from providers.accounts.models import Account
from providers.senders.inbound.verdict import classify
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests.campaigns.test_feedback import sent
from tests.providers.inbound_mails import reply
from tests.stage import NOON
from tests.visitor import at

MACHINE = "Auto-Submitted: auto-replied\r\n"


def answered(message: Message, text: str, headers: str = "", *, after: int = 0) -> Reply:
    """An answer, so many minutes after noon."""
    verdict = classify(reply(text, headers=headers))
    found = replies.keep(message, verdict, digest=uuid4(), received_at=NOON + timedelta(minutes=after))
    assert found is not None
    return found


def shown(*, now: datetime = NOON + timedelta(hours=1), **wanted: Any) -> list[str]:
    """The texts of the inbox, in its order."""
    rows = conversations.found(Reply.objects.all(), Wanted(**wanted), now=now)
    return [one.text for one in conversations.page(rows, before=None, limit=100)[0]]


@pytest.fixture
def mails(alpha: Agency, beta: Agency, account: Account) -> Iterator[list[Message]]:
    """Three mails that Alpha has sent; Beta has sent one, and got an answer."""
    with context.entered(beta):
        answered(sent(beta, account)[0], "Beta's own secret question?")
    with context.entered(alpha):
        yield sent(alpha, account, 3)


def test_a_conversation_is_there_once_by_the_last_word_of_a_person(mails: list[Message]) -> None:
    first, second, third = mails
    answered(first, "Tell me more, please.", after=1)
    answered(second, "What does it cost?", after=2)
    answered(first, "I am out of office until Monday.", MACHINE, after=3)
    answered(first, "Are you still there?", after=4)
    answered(first, "I am out of office until Friday.", MACHINE, after=5)
    answered(third, "I am out of office until May.", MACHINE, after=6)
    answered(third, "I am out of office until June.", MACHINE, after=7)
    assert shown() == ["Are you still there?", "What does it cost?"]
    assert shown(state=State.AUTOMATIC) == ["I am out of office until June."]
    assert len(shown(state=State.ALL)) == 3
    assert conversations.unread(Reply.objects.all(), now=NOON) == 2


def test_snoozed_comes_back_by_the_clock_and_unread_and_a_new_reply_brings_all_back(mails: list[Message]) -> None:
    first, second, _third = mails
    one, other = answered(first, "Call me in May.", after=1), answered(second, "What does it cost?", after=2)
    until = NOON + timedelta(days=3)
    conversations.read(one, now=NOON)
    with pytest.raises(conversations.NotSnoozedError):
        conversations.snooze(one, NOON, now=NOON)
    conversations.snooze(one, until, now=NOON)
    assert shown() == ["What does it cost?"]
    assert shown(state=State.SNOOZED) == ["Call me in May."]
    # At that very moment, and above what came before.
    assert shown(now=until) == ["Call me in May.", "What does it cost?"]
    assert shown(state=State.SNOOZED, now=until) == []
    assert conversations.unread(Reply.objects.all(), now=until) == 2
    conversations.finish(other, now=NOON)
    assert (shown(), shown(state=State.DONE)) == ([], ["What does it cost?"])
    answered(first, "No, call me now!", after=5)
    answered(second, "And when?", after=6)
    assert shown() == ["And when?", "No, call me now!"]
    assert shown(state=State.SNOOZED) == shown(state=State.DONE) == []
    conversations.finish(other, now=NOON)
    conversations.reopen(other)
    assert "And when?" in shown()


def test_whoever_sees_to_a_conversation_goes_on_with_it(mails: list[Message], carol: User) -> None:
    one = answered(mails[0], "Tell me more, please.")
    answered(mails[1], "What does it cost?")
    conversations.assign(one, carol)
    answered(mails[0], "Are you still there?", after=1)
    assert shown(assigned="CAROL@alpha.test") == ["Are you still there?"]
    assert shown(assigned=conversations.NOBODY_YET) == ["What does it cost?"]
    carol.delete()
    assert shown(assigned=conversations.NOBODY_YET) == ["Are you still there?", "What does it cost?"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("PRICE", True),
        ("pri lis", True),
        ("списо", True),
        ("autumn fair", True),
        ("client.test", True),
        ("max@client.test", True),
        ("lient", False),
        ("price secret", False),
        ("' | ! & :* (", False),
        ("price' & !(", True),
        ("%_", False),
    ],
)
def test_it_is_found_by_beginnings_of_words(mails: list[Message], search: str, found: bool) -> None:
    answered(mails[0], "Send me the price list. Пришлите СПИСОК, please.")
    answered(mails[0], "Thanks anyway.", after=1)
    answered(mails[1], "What does it cost, secretly?")
    assert ("Thanks anyway." in shown(search=search)) == found


def test_a_text_of_any_length_is_kept(mails: list[Message]) -> None:
    words = " ".join(f"слово{number}" for number in range(60_000))
    answered(mails[0], f"beginning {words} end")
    assert len(shown(search="beginning")) == 1


def test_pages_follow_without_gaps_and_cost_the_same(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        for number, message in enumerate(sent(alpha, account, 7)):
            answered(message, f"Question {number}?", after=number // 2)
        rows = conversations.found(Reply.objects.all(), Wanted(), now=NOON + timedelta(hours=1))
        walked: list[str] = []
        before = None
        while True:
            page, before = conversations.page(rows, before=before, limit=3)
            walked += [one.text for one in page]
            if before is None:
                break
        assert walked == [f"Question {number}?" for number in range(6, -1, -1)]


def test_the_thread_shows_both_sides_as_they_were_written_in_few_queries(mails: list[Message]) -> None:
    message = mails[0]
    Step.objects.update(changed_at=NOON)
    one = answered(message, "Tell me more, please.", after=1)
    answered(mails[1], "Somebody else's.", after=1)

    def thread() -> tuple[list[Any], int]:
        loaded = Reply.objects.select_related("message__contact", "message__campaign", "assigned_to").get(pk=one.pk)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            found = conversations.of(loaded).entries
        return found, len(queries)

    (ours, theirs), before = thread()
    assert (ours.kind, ours.subject, ours.sender) == ("sent", "Hello N0", message.sender.address)  # type: ignore[union-attr]
    assert "Hello N0" in ours.text
    assert (ours.changed, ours.problem) == (False, "")
    assert (theirs.kind, theirs.text) == ("reply", "Tell me more, please.")
    for number in range(5):
        answered(message, f"And {number}?", after=2 + number)
    entries, after = thread()
    assert [entry.text for entry in entries][-1] == "And 4?"
    assert after == before
    # What was changed since is said to be so, and what can not be made any more does not break the page.
    Step.objects.update(subject="Other", changed_at=timezone.now())
    assert thread()[0][0].changed
    Step.objects.update(html="{{ company }}", changed_at=timezone.now() + timedelta(seconds=1))
    assert "company" in thread()[0][0].problem


def test_the_api_reads_labels_assigns_snoozes_and_ends(
    alpha: Agency, beta: Agency, mails: list[Message], carol: User, oscar: User
) -> None:
    one = answered(mails[0], "Tell me more, please.")
    answered(mails[1], "What does it cost?", after=1)
    tokens = {}
    for agency, user in ((alpha, carol), (beta, oscar)):
        with context.entered(agency):
            tokens[agency.slug] = f"Bearer {keys.issue(user, 'program')}"

    def ask(method: str, path: str = "", data: Any = None, agency: Agency = alpha) -> tuple[int, Any]:
        given = {"data": data, "content_type": "application/json"} if method != "get" else {}
        with time_machine.travel(NOON + timedelta(hours=1), tick=False):
            answer = getattr(at(agency), method)(
                f"/api/v1/replies/{path}", headers={"authorization": tokens[agency.slug]}, **given
            )
        return answer.status_code, answer.json()

    status, told = ask("get", "?limit=1")
    assert (status, [row["text"] for row in told["results"]]) == (200, ["What does it cost?"])
    _status, told = ask("get", f"?limit=1&before={told['next']}")
    assert (told["results"][0]["id"], told["next"]) == (one.pk, None)
    assert (told["results"][0]["span"], told["results"][0]["contact"]) == ("tell me more", mails[0].contact.email)
    status, told = ask("get", f"{one.pk}/")
    assert [entry["kind"] for entry in told["thread"]] == ["sent", "reply"]
    status, told = ask(
        "patch",
        f"{one.pk}/",
        {"label": "question", "assigned_to": "Carol@alpha.test", "snoozed_until": "2026-12-01T09:00:00Z"},
    )
    assert (status, told["label"], told["found"], told["decided_by"]) == (
        200,
        "question",
        "interested",
        "carol@alpha.test",
    )
    assert (told["assigned_to"], told["snoozed_until"][:10]) == ("carol@alpha.test", "2026-12-01")
    assert [len(ask("get", f"?state={state}")[1]["results"]) for state in ("open", "snoozed", "done")] == [1, 1, 0]
    assert ask("patch", f"{one.pk}/", {"done": True})[1]["done_at"]
    assert (
        ask("get", "?state=done&label=question&assigned=carol@alpha.test&search=tell")[1]["results"][0]["id"] == one.pk
    )
    assert ask("patch", f"{one.pk}/", {"snoozed_until": None, "assigned_to": None})[1]["done_at"] is None
    for wrong in (
        {"label": "love"},
        {"assigned_to": "oscar@beta.test"},
        {"snoozed_until": "2020-01-01T00:00:00Z"},
        {"done": "perhaps"},
    ):
        assert ask("patch", f"{one.pk}/", wrong)[0] == 400
    assert ask("get", "?state=lost")[0] == 400
    # Beta has its own, and nothing of Alpha's.
    assert [row["text"] for row in ask("get", agency=beta)[1]["results"]] == ["Beta's own secret question?"]
    assert ask("get", f"{one.pk + 1000}/", agency=beta)[0] == 404
    assert ask("patch", f"{one.pk}/", {"label": "opt_out"})[0] == 200
    with context.entered(alpha):
        assert Suppression.objects.get().value == mails[0].contact.email


def test_an_erased_person_is_in_no_inbox(mails: list[Message]) -> None:
    answered(mails[0], "Tell me more, please.")
    erasure.erase(mails[0].contact.email, by="carol", clock=lambda: NOON)
    assert shown(state=State.ALL) == shown(search="tell") == []
