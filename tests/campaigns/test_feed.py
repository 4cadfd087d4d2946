"""What others are told: each fact once, in one order that has no gaps, whoever writes and whenever it is read."""

import random
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from campaigns import answers, control, conversations, dispatch, feed, feedback, launch, lifecycle, replies, trials
from campaigns.models import Campaign, FeedEntry, Message, Reply, ReplyLabel, Suppression, TrialMail
from campaigns.reasons import Reason
from providers.accounts.events import BounceClass, EventType, Heard, Reader
from providers.accounts.models import Account, Allotment
from providers.sandbox.service import Sandbox
from providers.senders.inbound.verdict import classify
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.campaigns.test_feedback import sent
from tests.providers.inbound_mails import THEIRS, reply
from tests.stage import NOON
from tests.visitor import at

Kind = FeedEntry.Kind
LATER = NOON + timedelta(hours=1)


def claimed(agency: Agency, account: Account, count: int) -> list[lifecycle.Claimed]:
    launch.launch(stage.campaign(stage.contact_list("a", count)), now=NOON)
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    found = dispatch.claim_batch(agency, allotment, now=NOON, limit=count)
    lifecycle.begin(found, now=NOON)
    return found


def heard(mail: Message, type: EventType, raw_id: str, **fields: Any) -> Heard:
    return Heard(source="tracking", raw_id=raw_id, type=type, at=LATER, received_at=LATER, message=mail.key, **fields)


def told(after: int = 0) -> list[dict[str, Any]]:
    feed.number()
    return feed.described(FeedEntry.objects.filter(position__gt=after).order_by("position"))


def test_everything_that_happens_is_told_once_and_in_order(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        sent, failed, doubted = claimed(alpha, account, 3)
        campaign = Campaign.objects.get()
        lifecycle.sent([(sent, "id")], now=NOON)
        lifecycle.sent([(sent, "id")], now=NOON)
        lifecycle.fail(failed, Reason.MESSAGE_REFUSED, "too long")
        lifecycle.fail(failed, Reason.MESSAGE_REFUSED, "too long")
        lifecycle.doubt(doubted, "cut off")
        lifecycle.count_as_sent([doubted.id], by="carol", now=NOON)
        mail = Message.objects.get(pk=sent.id)
        story = [
            heard(mail, EventType.DELIVERED, "1"),
            heard(mail, EventType.OPENED, "2", reader=Reader.MACHINE),
            heard(mail, EventType.OPENED, "3", reader=Reader.HUMAN),
            heard(mail, EventType.REPLIED, "4"),
            heard(mail, EventType.BOUNCED, "5", bounce_class=BounceClass.HARD),
        ]
        for event in [*story, *story]:
            feedback.record([event], now=LATER)
        control.pause(campaign)
        control.resume(campaign, now=LATER)
        control.cancel(campaign, now=LATER)
        Suppression.objects.all().delete()
        entries = told()
        address = mail.contact.email

    assert [one["type"] for one in entries] == [
        Kind.LAUNCHED,
        Kind.SENT,
        Kind.FAILED,
        Kind.SENT,
        Kind.DELIVERED,
        Kind.OPENED,
        Kind.REPLIED,
        Kind.BOUNCED,
        Kind.SUPPRESSED,
        Kind.PAUSED,
        Kind.RESUMED,
        Kind.CANCELLED,
        Kind.UNSUPPRESSED,
    ]
    assert [one["position"] for one in entries] == list(range(1, len(entries) + 1))
    about = entries[1]["data"]
    assert (about["message"], about["address"]) == (str(mail.key), address)
    assert about["campaign"] == {"id": campaign.pk, "name": campaign.name}
    assert (entries[5]["data"]["by"], entries[7]["data"]["bounce_class"]) == ("human", "hard")
    assert entries[8]["data"]["value"] == address


def test_a_fact_that_is_rolled_back_is_not_told(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        (one,) = claimed(alpha, account, 1)
        before = len(told())
        with transaction.atomic():
            lifecycle.sent([(one, "id")], now=NOON)
            transaction.set_rollback(True)
        assert told(before) == []


def came(message: Message, number: int, text: str, headers: str = "") -> Reply:
    digest = UUID(int=number)
    found = replies.keep(message, classify(reply(text, headers=headers)), digest=digest, received_at=LATER)
    assert found is not None
    return found


def rebuilt(entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The inbox as a program knows it that has read nothing but the feed."""
    known: dict[int, dict[str, Any]] = {}
    for one in entries:
        data = one["data"]
        match one["type"]:
            case Kind.RECEIVED:
                fields = ("label", "automatic", "assigned_to", "from", "text")
                known[data["reply"]] = {"until": None, "done": False} | {name: data[name] for name in fields}
            case Kind.LABELLED:
                known[data["reply"]]["label"] = data["label"]
            case Kind.ASSIGNED | Kind.SNOOZED | Kind.DONE | Kind.REOPENED as kind:
                state = {"until": data.get("until"), "done": kind == Kind.DONE}
                now = {"assigned_to": data["assigned_to"]} if kind == Kind.ASSIGNED else state
                for number in data["replies"]:
                    known[number] |= now
    return known


def test_an_inbox_is_rebuilt_from_the_feed(alpha: Agency, beta: Agency, account: Account, carol: User) -> None:
    dice = random.Random(7)
    with context.entered(alpha):
        other = User.objects.create_user("dora@alpha.test")
        mails = sent(alpha, account, count=2)
        for number in range(60):
            kept = list(Reply.objects.order_by("pk"))
            if number % 10 == 0 or dice.random() < 0.1:
                came(
                    dice.choice(mails), number, f"Reply {number}", dice.choice(["", "Auto-Submitted: auto-replied\r\n"])
                )
                continue
            wanted: dict[str, Any] = dice.choice(
                [
                    {"label": dice.choice([ReplyLabel.INTERESTED, ReplyLabel.QUESTION])},
                    {"assigned_to": dice.choice([carol, other, None])},
                    {"snoozed_until": LATER + timedelta(days=dice.choice([1, 2]))},
                    {"snoozed_until": None},
                    {"done": dice.random() < 0.7},
                    {"read": True},
                ]
            )
            conversations.change(dice.choice(kept), wanted, by="carol@alpha.test", clock=lambda: LATER)
        conversations.assign(Reply.objects.earliest("pk"), other)
        # Emptied by the database, and told all the same.
        other.delete()
        entries = told()
        assert rebuilt(entries) == {
            one.pk: {
                "label": one.label,
                "automatic": one.automatic,
                "assigned_to": one.assigned_to.email if one.assigned_to else None,
                "until": one.snoozed_until and one.snoozed_until.isoformat(),
                "done": one.done_at is not None,
                "from": THEIRS,
                "text": one.text,
            }
            for one in Reply.objects.select_related("assigned_to")
        }
    kinds = {one["type"] for one in entries}
    assert kinds >= {Kind.RECEIVED, Kind.LABELLED, Kind.ASSIGNED, Kind.SNOOZED, Kind.DONE, Kind.REOPENED}
    with context.entered(beta):
        assert told() == []


def test_an_answer_is_told_from_its_writing_to_its_end(alpha: Agency, sandbox: Sandbox) -> None:
    account = stage.accounts(sandbox)["smtp"]
    stage.allot(alpha, account)
    with context.entered(alpha):
        found = came(sent(alpha, account)[0], 1, "Tell me more, please.")
        before = told()[-1]["position"]
        for number, text in enumerate(["First", "Second"], start=2):
            answers.ask(found, text, by="carol@alpha.test", once=UUID(int=number), now=LATER)
        first, second = TrialMail.objects.order_by("pk")
        answers.take_back(found, second.pk)
        assert trials.send(clock=lambda: LATER, until=LATER + timedelta(seconds=15)) == 1
        feedback.record(
            [
                Heard(
                    source="tracking",
                    raw_id="b",
                    type=EventType.COMPLAINED,
                    at=LATER,
                    received_at=LATER,
                    message=first.key,
                )
            ],
            now=LATER,
        )
        entries = told(before)
    assert [(one["type"], one["data"].get("answer")) for one in entries] == [
        (Kind.ASKED, first.pk),
        (Kind.ASKED, second.pk),
        (Kind.WITHDRAWN, second.pk),
        (Kind.ANSWERED, first.pk),
        (Kind.ANSWER_COMPLAINED, first.pk),
        (Kind.SUPPRESSED, None),
    ]
    data = entries[0]["data"]
    assert (data["reply"], data["by"], data["to"], data["text"]) == (found.pk, "carol@alpha.test", THEIRS, "First")
    assert data["message"] == str(found.message.key)


def test_a_program_reads_on_from_where_it_was(alpha: Agency, beta: Agency, carol: User) -> None:
    with context.entered(alpha):
        secret = keys.issue(carol, "program", expires_at=None)
        Suppression.objects.bulk_create([Suppression(value=f"n{n}@x.example", source="manual") for n in range(5)])
    with context.entered(beta):
        Suppression.objects.create(value="theirs@x.example", source="manual")

    def page(query: str) -> Any:
        return at(alpha).get(f"/api/v1/events/{query}", headers={"authorization": f"Bearer {secret}"}).json()

    first = page("?limit=3")
    assert [one["data"]["value"] for one in first["events"]] == ["n0@x.example", "n1@x.example", "n2@x.example"]
    assert (first["next"], first["more"]) == (3, True)
    rest = page("?after=3&limit=3")
    assert [one["position"] for one in rest["events"]] == [4, 5]
    assert (rest["next"], rest["more"]) == (5, False)
    assert page("?after=5") == {"events": [], "next": 5, "more": False}
    assert set(page("?after=-1&limit=0")["error"]["fields"]) == {"after", "limit"}
    assert at(alpha).get("/api/v1/events/").status_code == 401


WRITERS, ENTRIES = 4, 25


def test_a_reader_that_polls_misses_nothing_while_others_write(committed: dict[str, Agency]) -> None:
    alpha = committed["alpha"]
    ready = threading.Barrier(WRITERS + 1)

    def write(writer: int) -> None:
        dice = random.Random(writer)
        try:
            with context.entered(alpha):
                ready.wait(30)
                for number in range(ENTRIES):
                    with transaction.atomic():
                        Suppression.objects.create(value=f"w{writer}-{number}@x.example", source="manual")
                        # Its id is taken, and others' that are taken later are committed first.
                        with connection.cursor() as cursor:
                            cursor.execute("SELECT pg_sleep(%s)", [dice.random() / 100])
                        transaction.set_rollback(dice.random() < 0.2)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for one in writers:
        one.start()
    seen: list[dict[str, Any]] = []
    with context.entered(alpha):
        ready.wait(30)
        writing = True
        while writing:
            writing = any(one.is_alive() for one in writers)
            seen += told(after=len(seen))
        stored = set(Suppression.objects.values_list("value", flat=True))
    assert [one["position"] for one in seen] == list(range(1, len(seen) + 1))
    values = [one["data"]["value"] for one in seen]
    assert len(values) == len(stored)
    assert set(values) == stored
    for writer in range(WRITERS):
        own = [int(value.split("-")[1].split("@")[0]) for value in values if value.startswith(f"w{writer}-")]
        assert own == sorted(own), "what came first is told first"
