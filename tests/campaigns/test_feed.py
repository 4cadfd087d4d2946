"""What others are told: each fact once, in one order that has no gaps, whoever writes and whenever it is read."""

import random
import threading
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from campaigns import control, dispatch, feed, feedback, launch, lifecycle
from campaigns.models import Campaign, FeedEntry, Message, Suppression
from campaigns.reasons import Reason
from providers.accounts.events import BounceClass, EventType, Heard, Reader
from providers.accounts.models import Account, Allotment
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
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
