"""What events make of the mails they tell of: facts, suppressions, outcomes; each once, whatever the order."""

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from campaigns import audit, dispatch, feedback, hooks, launch, lifecycle
from campaigns.models import Campaign, CampaignOutcome, Message, MessageFacts, Suppression
from providers.accounts.events import BounceClass, EventType, Heard
from providers.accounts.models import Account, Allotment, LedgerRow
from providers.senders import events
from providers.senders.models import DomainDay, Event, SenderDay
from tenants import bells, context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    return found


def sent(agency: Agency, account: Account, count: int = 1) -> list[Message]:
    """So many mails that the agency entered now has sent through the account, all to different people."""
    people = stage.contact_list(f"l{Campaign.objects.count()}", count)
    launch.launch(stage.campaign(people, distribution="shares", shares={account.name: 100}), now=NOON)
    claimed = claim(agency, account, count)
    lifecycle.begin(claimed, now=NOON)
    lifecycle.sent([(one, f"id-{one.id}") for one in claimed], now=NOON)
    return list(Message.objects.filter(pk__in=[one.id for one in claimed]).order_by("pk"))


def claim(agency: Agency, account: Account, limit: int) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    found = dispatch.claim_batch(agency, allotment, now=NOON, limit=limit)
    assert len(found) == limit
    return found


def heard(
    message: Message | UUID,
    type: EventType,
    *,
    account: Account | None,
    at: datetime = NOON,
    raw_id: str = "",
    bounce_class: BounceClass | None = None,
) -> Heard:
    return Heard(
        source=account.kind if account else "tracking",
        raw_id=raw_id or uuid4().hex,
        type=type,
        at=at,
        received_at=LATER,
        message=message.key if isinstance(message, Message) else message,
        account_id=account.pk if account else None,
        detail="they said so",
        bounce_class=bounce_class,
    )


def bounce(message: Message, account: Account, bounce_class: BounceClass = BounceClass.HARD) -> Heard:
    return heard(message, EventType.BOUNCED, account=account, bounce_class=bounce_class)


def outcome(campaign_id: int) -> dict[str, int]:
    found = CampaignOutcome.objects.filter(campaign=campaign_id).values().first() or {}
    return {name: count for name, count in found.items() if count and name != "campaign_id"}


@pytest.mark.parametrize("type", [EventType.DELIVERED, EventType.OPENED])
def test_whoever_is_told_of_facts_is_told_at_once(
    alpha: Agency, accounts: dict[str, Account], django_capture_on_commit_callbacks: Any, type: EventType
) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"])
        hooks.create("http://127.0.0.1:9/", now=NOON)
        with django_capture_on_commit_callbacks(execute=True):
            feedback.record([heard(mail, type, account=accounts["resend"])], now=LATER)
        assert bells.rung("hooks")


def test_a_backlog_is_worked_off_past_any_number_of_events_of_unknown_mails(
    alpha: Agency, accounts: dict[str, Account], monkeypatch: Any
) -> None:
    monkeypatch.setattr(feedback, "_AT_ONCE", 2)
    resend = accounts["resend"]
    with context.entered(alpha):
        feedback.record([heard(uuid4(), EventType.DELIVERED, account=resend) for _ in range(3)], now=LATER)
        mails = sent(alpha, resend, 5)
        # Others' account says nothing of them.
        feedback.record([heard(mails[0], EventType.BOUNCED, account=accounts["smtp"])], now=LATER)
        feedback.keep([heard(mail, EventType.CLICKED, account=None) for mail in mails])
        assert feedback.look_again(now=LATER, interrupted=lambda: True)
        assert outcome(mails[0].campaign_id)["clicked"] == 2
        assert not feedback.look_again(now=LATER)
        assert outcome(mails[0].campaign_id)["clicked"] == 5
        assert Event.objects.filter(waits=True).count() == 4


def test_a_story_told_any_number_of_times_in_any_order_is_the_same(
    alpha: Agency, beta: Agency, accounts: dict[str, Account]
) -> None:
    resend = accounts["resend"]
    with context.entered(alpha):
        mails = sent(alpha, resend, 8)
        story = [heard(mail, EventType.DELIVERED, account=resend, at=NOON + timedelta(minutes=1)) for mail in mails[:6]]
        story += [heard(mail, EventType.OPENED, account=resend, at=NOON + timedelta(minutes=2)) for mail in mails[:4]]
        story += [heard(mail, EventType.OPENED, account=resend, at=NOON + timedelta(minutes=9)) for mail in mails[:4]]
        story += [heard(mails[0], EventType.CLICKED, account=resend), heard(mails[1], EventType.REPLIED, account=None)]
        story += [bounce(mails[6], resend), heard(mails[5], EventType.COMPLAINED, account=resend)]
        story += [heard(mails[4], EventType.UNSUBSCRIBED, account=resend)]
        told = story * 5
        random.Random(7).shuffle(told)
        assert sum(feedback.record(told[first : first + 9], now=LATER) for first in range(0, len(told), 9)) == len(
            story
        )
        assert Event.objects.count() == len(story)
        assert outcome(mails[0].campaign_id) == {
            "delivered": 6,
            "opened": 4,
            "clicked": 1,
            # As soon as the mail had left.
            "clicked_machine": 1,
            "replied": 1,
            "bounced": 1,
            "complained": 1,
            "unsubscribed": 1,
        }
        facts = MessageFacts.objects.get(message=mails[6])
        assert (facts.bounced_at, facts.bounce_class, facts.delivered_at) == (NOON, "hard", None)
        assert not MessageFacts.objects.filter(message=mails[7]).exists()
        assert dict(Suppression.objects.values_list("value", "source")) == {
            mails[6].contact.email: "bounce",
            mails[5].contact.email: "complaint",
            mails[4].contact.email: "opt_out",
        }
        assert Suppression.objects.get(source="bounce").evidence == "resend: they said so"
        # And where the mails were counted when they were sent.
        days = DomainDay.objects.values_list("delivered", "bounced", "complained")
        assert tuple(map(sum, zip(*days, strict=True))) == (6, 1, 1)
        assert Counter(SenderDay.objects.filter(bounced__gt=0).values_list("sender", "bounced")) == {
            (mails[6].sender_id, 1): 1
        }
    for whose in (None, alpha):
        row = LedgerRow.objects.get(account=resend, agency=whose)
        assert (row.used, row.delivered, row.bounced, row.complained) == (8, 6, 1, 1)
    with context.entered(beta):
        assert not Event.objects.exists()
        assert not Suppression.objects.exists()
    assert audit.audit_quota().drifts == []


def test_a_time_is_set_once(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"])
        for minutes in (5, 1, 9):
            at = NOON + timedelta(minutes=minutes)
            feedback.record([heard(mail, EventType.OPENED, account=accounts["resend"], at=at)], now=LATER)
        assert MessageFacts.objects.get().opened_at == NOON + timedelta(minutes=5)


def test_a_later_and_graver_bounce_is_remembered_and_counted_once(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"])
        for bounce_class in (BounceClass.SOFT, BounceClass.HARD, BounceClass.MAILBOX_FULL):
            feedback.record([bounce(mail, accounts["resend"], bounce_class)], now=LATER)
        assert MessageFacts.objects.get().bounce_class == "hard"
        assert outcome(mail.campaign_id) == {"bounced": 1}
        assert Suppression.objects.count() == 1


def test_a_fault_on_our_side_is_kept_and_held_against_nobody(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"])
        feedback.record([bounce(mail, accounts["resend"], BounceClass.OURS)], now=LATER)
        assert Event.objects.get().bounce_class == "ours"
        assert outcome(mail.campaign_id) == {}
        assert not Suppression.objects.exists()


def test_an_account_says_nothing_of_what_went_through_another(
    alpha: Agency, beta: Agency, accounts: dict[str, Account]
) -> None:
    """P4: an agency with an account of its own could else speak of everybody's mails."""
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"])
        feedback.record([bounce(mail, accounts["sendgrid"])], now=LATER)
        assert outcome(mail.campaign_id) == {}
        assert not Suppression.objects.exists()
    with context.entered(beta):
        feedback.record([bounce(mail, accounts["resend"])], now=LATER)
        assert not Suppression.objects.exists()


def test_an_event_waits_for_its_mail_but_not_for_ever(alpha: Agency, accounts: dict[str, Account]) -> None:
    resend = accounts["resend"]
    with context.entered(alpha):
        key = uuid4()
        events_of_nobody = [heard(uuid4(), EventType.DELIVERED, account=resend), bounce_of(uuid4(), resend)]
        feedback.record([heard(key, EventType.DELIVERED, account=resend), *events_of_nobody], now=LATER)
        assert Event.objects.filter(waits=True).count() == 3
        (mail,) = sent(alpha, resend)
        Message.objects.filter(pk=mail.pk).update(key=key)
        feedback.look_again(now=LATER)
        assert outcome(mail.campaign_id) == {"delivered": 1}
        assert Event.objects.filter(waits=True).count() == 2
        feedback.look_again(now=LATER)
        assert outcome(mail.campaign_id) == {"delivered": 1}
        feedback.look_again(now=LATER + events.WAITS + timedelta(seconds=1))
        assert not Event.objects.filter(waits=True).exists()


def bounce_of(key: UUID, account: Account) -> Heard:
    return heard(key, EventType.BOUNCED, account=account, bounce_class=BounceClass.HARD)


def test_an_event_of_a_mail_that_has_not_left_waits(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 1)), now=NOON)
        mail = Message.objects.get()
        feedback.record([heard(mail, EventType.DELIVERED, account=mail.account)], now=LATER)
        assert Event.objects.get().waits
        assert not MessageFacts.objects.exists()


@pytest.mark.parametrize("type", [EventType.SENT, EventType.DEFERRED, EventType.DELIVERED, EventType.BOUNCED])
def test_whatever_is_told_of_a_mail_ends_the_doubt_about_it(
    alpha: Agency, accounts: dict[str, Account], type: EventType
) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 1)), now=NOON)
        (one,) = claim(alpha, accounts["resend"], 1)
        lifecycle.begin([one], now=NOON)
        lifecycle.doubt(one, "no answer")
        mail = Message.objects.get()
        feedback.record([heard(mail, type, account=mail.account, bounce_class=BounceClass.SOFT)], now=LATER)
        mail.refresh_from_db()
        assert (mail.status, mail.sent_at) == ("sent", NOON)


def test_the_third_mail_in_a_row_that_comes_back_ends_it(alpha: Agency, accounts: dict[str, Account]) -> None:
    resend = accounts["resend"]
    with context.entered(alpha):
        mails = [mail for _ in range(5) for mail in sent(alpha, resend)]
        person = mails[0].contact
        Message.objects.update(contact=person)
        for number, mail in enumerate(mails):
            at = NOON + timedelta(hours=number)
            if number == 1:
                feedback.record([heard(mail, EventType.DELIVERED, account=resend, at=at)], now=LATER)
                continue
            assert not Suppression.objects.exists(), number
            told = Heard("resend", uuid4().hex, EventType.BOUNCED, at, at, mail.key, resend.pk, detail="full")
            feedback.record([with_class(told, BounceClass.MAILBOX_FULL)] * 2, now=LATER)
        suppression = Suppression.objects.get()
        assert (suppression.value, suppression.source) == (person.email, "bounce")
        assert suppression.evidence == "3 mails in a row came back. resend: full"


def with_class(one: Heard, bounce_class: BounceClass) -> Heard:
    return Heard(
        one.source,
        one.raw_id,
        one.type,
        one.at,
        one.received_at,
        one.message,
        one.account_id,
        one.recipient,
        one.detail,
        bounce_class,
    )


def test_odd_texts_and_times_are_stored_as_far_as_they_can_be(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"])
        odd = Heard(
            "resend",
            "x" * 5000,
            EventType.OTHER,
            LATER + timedelta(days=400),
            LATER,
            mail.key,
            accounts["resend"].pk,
            detail="a\0b\ud800" * 999,
        )
        assert feedback.record([odd, odd], now=LATER) == 1
        event = Event.objects.get()
        assert event.at == LATER
        assert event.detail.startswith("ab?ab?")
