"""P1, P2, P3, P5: a mail in doubt is asked about with the same bytes or not at all, and a person has the last word."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest
import time_machine

from campaigns import audit, control, delivery, dispatch, doubt, feedback, jobs, launch, lifecycle
from campaigns.due import Due
from campaigns.envelopes import Envelopes
from campaigns.models import Campaign, Contact, DoubtEntry, Message, MessageFacts, Step, Suppression
from campaigns.reasons import Reason
from providers.accounts import adapters, health
from providers.accounts.events import EventType, Heard
from providers.accounts.models import Account, Allotment
from providers.sandbox.service import Sandbox
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns.ledgers import used
from tests.stage import NOON

SOON = NOON + timedelta(minutes=6)
What = DoubtEntry.What


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> dict[str, Account]:
    """Both agencies use all three; Beta has a mail in doubt of its own, which no test may touch."""
    found = stage.accounts(sandbox)
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 1)), now=NOON)
        doubted(beta, found["resend"], 1, posted=False)
    return found


@pytest.fixture
def account(accounts: dict[str, Account]) -> Account:
    return accounts["resend"]


@pytest.fixture
def campaign(account: Account, alpha: Agency, beta: Agency) -> Iterator[Campaign]:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 2))
        launch.launch(made, now=NOON)
        yield made
        assert audit.audit_quota().drifts == []
    with context.entered(beta):
        assert list(Message.objects.values_list("status", "ask_at")) == [("unknown", None)]


def doubted(agency: Agency, account: Account, count: int, *, posted: bool, now: datetime = NOON) -> list[Message]:
    """Mails whose worker died: after it had posted them, or just before."""
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    batch = dispatch.claim_batch(agency, allotment, now=now, limit=count)
    made = Envelopes(agency)
    made.prepare(batch)
    envelopes = [made.of(message) for message in batch]
    known = [adapters.fingerprint(account, envelope) for envelope in envelopes]
    kind = adapters.KINDS[account.kind]
    marks = {"together": kind.together > 1, "fingerprints": known if kind.idempotent else None}
    assert len(lifecycle.begin(batch, now=now, **marks)) == count  # type: ignore[arg-type]
    if posted:
        with adapters.open(account.kind, account.credentials, account.options) as wire:
            if kind.together > 1 and count > 1:
                wire.send_together(envelopes, delivery.together_key(agency, batch[0].claim, account.pk))
            else:
                for envelope in envelopes:
                    wire.send(envelope)
    assert lifecycle.rescue(now=now + timedelta(minutes=6)) == (0, count)
    return list(Message.objects.filter(pk__in=[message.id for message in batch]).order_by("pk"))


def ask(account: Account, now: datetime = SOON) -> int:
    return doubt.ask(account.pk, clock=lambda: now, until=now + timedelta(seconds=15))


def posts(sandbox: Sandbox) -> int:
    return int(sandbox.snapshot()["requests"].get("resend", 0))


def arrived(sandbox: Sandbox) -> tuple[int, int]:
    """Different recipients, and mails that somebody got twice."""
    seen = sandbox.snapshot()
    return seen["distinct_recipients"], seen["duplicates"]


def told(message: Message) -> list[tuple[str, str]]:
    return list(message.doubts.values_list("what", "by"))


def test_a_lost_answer_is_asked_for_and_one_mail_arrives(
    account: Account, campaign: Campaign, sandbox: Sandbox
) -> None:
    """The whole way: the drain loses the answer and has no time left to ask at once."""
    sandbox.script("resend=lost_answers:1")

    def clock() -> datetime:
        begun = Message.objects.filter(attempted_at__isnull=False).exists()
        return NOON + timedelta(minutes=begun)

    dispatch.drain(account.pk, clock=clock, until=NOON + timedelta(seconds=15))
    assert stage.statuses(campaign) == {"unknown": 2}
    assert ask(account) == 2
    assert stage.statuses(campaign) == {"sent": 2}
    for message in Message.objects.all():
        assert (message.sent_at, message.reason, bool(message.provider_id)) == (NOON, "", True)
        assert message.enrollment.sender_id == message.sender_id
        assert told(message) == [(What.ANSWERED, "")]
    assert arrived(sandbox) == (2, 0)
    assert used()["senders"] == 2


def test_an_answer_that_is_lost_again_is_asked_for_again(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    """It had not left when its worker died: it leaves when the provider is asked."""
    doubted(alpha, account, 1, posted=False)
    sandbox.script("resend=lost_answers:1")
    assert ask(account) == 0
    assert arrived(sandbox) == (1, 0)
    assert ask(account, SOON + timedelta(minutes=5)) == 1
    assert arrived(sandbox) == (1, 0)


@pytest.mark.parametrize("posted", [True, False])
def test_a_dead_workers_mail_arrives_once_whether_it_had_left_or_not(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, posted: bool
) -> None:
    doubted(alpha, account, 2, posted=posted)
    assert doubt.find(now=SOON).accounts == [account.pk]
    assert ask(account) == 2
    assert stage.statuses(campaign) == {"sent": 2}
    assert arrived(sandbox) == (2, 0)
    assert doubt.find(now=SOON) == Due([], None)
    assert used()["senders"] == 2


@pytest.mark.parametrize("posted", [True, False])
def test_of_one_request_it_asks_about_those_that_may_still_go(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, posted: bool
) -> None:
    """P1, P5. The request's key says whether the first was taken; nobody is written to who must not be."""
    doubted(alpha, account, 2, posted=posted)
    optout = Suppression.objects.create(value="a0@people.example", source="opt_out")
    assert ask(account) == 1
    assert stage.statuses(campaign) == {"sent": 1, "unknown": 1}
    assert arrived(sandbox) == (1 + posted, 0)
    left = Message.objects.get(status="unknown")
    assert (left.contact.email, left.fingerprint) == ("a0@people.example", "")
    # Asked about later, it would be taken for a part of the first request.
    optout.delete()
    assert ask(account, SOON + timedelta(minutes=9)) == 0
    assert arrived(sandbox) == (1 + posted, 0)


def _rename(model: type[Contact] | type[Sender], field: str) -> None:
    model.objects.update(**{field: "Other"})


CHANGES: dict[str, Callable[[Campaign, Account], object]] = {
    "text": lambda campaign, account: Step.objects.update(html="<p>Hi {{ first_name }}</p>"),
    "contact": lambda campaign, account: _rename(Contact, "first_name"),
    "sender": lambda campaign, account: _rename(Sender, "name"),
    "key": lambda campaign, account: _save(account, credentials={"api_key": "re_another"}),
    "address": lambda campaign, account: _save(account, options={"api_url": account.options["api_url"] + "x/"}),
}
STOPS: dict[str, Callable[[Campaign, Account], object]] = {
    "pause": lambda campaign, account: control.pause(campaign),
    "cancel": lambda campaign, account: control.cancel(campaign, now=NOON),
    "address": lambda campaign, account: Suppression.objects.create(value="a0@people.example", source="opt_out"),
    "domain": lambda campaign, account: Suppression.objects.create(value="people.example", source="manual"),
    "window": lambda campaign, account: Campaign.objects.update(window_from=time(20)),
    "blocked": lambda campaign, account: health.block(account.pk, "key revoked", now=NOON),
    "taken away": lambda campaign, account: Allotment.objects.filter(account=account).delete(),
    "switched off": lambda campaign, account: _save(account, enabled=False),
}


def _save(account: Account, **fields: object) -> None:
    for name, value in fields.items():
        setattr(account, name, value)
    account.save()


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_not_be_the_same_mail_is_not_asked_about(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, change: str
) -> None:
    """P1. To post other bytes, or to another account, would send a second mail."""
    (message,) = doubted(alpha, account, 1, posted=True)
    before = posts(sandbox)
    CHANGES[change](campaign, account)
    assert ask(account) == 0
    assert posts(sandbox) == before
    message.refresh_from_db()
    assert (message.status, message.fingerprint) == ("unknown", "")
    # Nor when it is changed back: a person has been told that they must decide.
    assert doubt.find(now=SOON + timedelta(hours=1)) == Due([], None)


@pytest.mark.parametrize("stop", STOPS)
def test_what_may_not_be_sent_now_is_not_asked_about_now(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, stop: str
) -> None:
    """P5. Had the provider not got it, to ask would send it."""
    (message,) = doubted(alpha, account, 1, posted=False)
    STOPS[stop](campaign, account)
    assert ask(account) == 0
    assert posts(sandbox) == 0
    message.refresh_from_db()
    assert (message.status, message.reason, message.ask_at) == ("unknown", Reason.IN_DOUBT, None)
    assert used()["senders"] == 1


@pytest.mark.parametrize("stop", ["pause", "cancel", "address", "domain"])
def test_the_mark_before_the_wire_sees_what_changed_since_the_look(
    account: Account, alpha: Agency, campaign: Campaign, stop: str
) -> None:
    (message,) = doubted(alpha, account, 1, posted=False)
    STOPS[stop](campaign, account)
    assert lifecycle.ask_again([message.pk], now=SOON, later=SOON + timedelta(hours=1)) == set()


def test_it_goes_on_asking_when_a_paused_campaign_does(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    doubted(alpha, account, 1, posted=False)
    control.pause(campaign)
    assert ask(account) == 0
    control.resume(campaign, now=SOON)
    assert ask(account) == 1
    assert arrived(sandbox) == (1, 0)


def test_a_finished_campaigns_doubts_are_asked_about(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    doubted(alpha, account, 2, posted=True)
    assert control.finish_done(now=SOON) == 1
    assert ask(account) == 2
    assert arrived(sandbox) == (2, 0)


@pytest.mark.parametrize(("hours", "asked"), [(22.9, True), (23.1, False)])
def test_it_asks_for_as_long_as_the_provider_surely_remembers(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, hours: float, asked: bool
) -> None:
    (message,) = doubted(alpha, account, 1, posted=True)
    when = NOON + timedelta(hours=hours)
    assert ask(account, when) == int(asked)
    assert lifecycle.ask_again([message.pk], now=when, later=when) == set()
    assert arrived(sandbox) == (1, 0)


def test_only_a_provider_that_sends_a_key_once_is_asked(
    accounts: dict[str, Account], alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    Message.objects.update(account=accounts["sendgrid"])
    (message,) = doubted(alpha, accounts["sendgrid"], 1, posted=True)
    assert message.fingerprint == ""
    assert doubt.find(now=SOON) == Due([], None)
    before = sandbox.snapshot()["requests"]
    assert ask(accounts["sendgrid"]) == 0
    assert sandbox.snapshot()["requests"] == before


def test_no_answer_leaves_the_doubt_and_it_is_asked_less_and_less_often(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    (message,) = doubted(alpha, account, 1, posted=True)
    sandbox.script("resend=down")
    before = posts(sandbox)
    assert ask(account) == 0
    assert ask(account) == 0
    assert posts(sandbox) == before + 1
    message.refresh_from_db()
    assert (message.status, message.ask_at) == ("unknown", SOON + timedelta(minutes=5))
    sandbox.heal()
    assert ask(account, SOON + timedelta(minutes=5)) == 1
    assert arrived(sandbox) == (1, 0)


def test_the_wait_grows_with_the_age_of_the_doubt() -> None:
    waits = [doubt.later(NOON, now=NOON + timedelta(hours=age)) - NOON for age in (0, 0.1, 2, 20)]
    assert [wait.total_seconds() / 3600 for wait in waits] == pytest.approx([1 / 12, 0.1 + 1 / 12, 3, 23])


def test_a_mail_that_the_provider_never_had_and_refuses_is_surely_not_sent(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    (message,) = doubted(alpha, account, 1, posted=False)
    sandbox.script("resend=refuse:a0*")
    assert ask(account) == 1
    message.refresh_from_db()
    assert (message.status, message.reason) == ("failed", Reason.RECIPIENT_REFUSED)
    assert told(message) == [(What.REFUSED, "")]
    assert Suppression.objects.filter(value="a0@people.example", source="bounce").exists()
    assert used()["senders"] == used()["account of alpha"] == 0


def test_a_mail_that_the_provider_has_is_sent_though_it_would_refuse_it_now(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    doubted(alpha, account, 1, posted=True)
    sandbox.script("resend=refuse:a0*")
    assert ask(account) == 1
    assert stage.statuses(campaign) == {"sent": 1, "scheduled": 1}
    assert arrived(sandbox) == (1, 0)


@pytest.mark.parametrize("hours", [1, 13])
def test_a_mail_that_may_be_sent_in_another_hour_is_counted_there_too(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, hours: int
) -> None:
    """P2. 13 hours later it is the next day, in UTC and in Berlin."""
    Campaign.objects.update(new_contacts_per_day=2, per_domain_per_day=2)
    (message,) = doubted(alpha, account, 1, posted=False)
    assert ask(account, NOON + timedelta(hours=hours)) == 1
    assert arrived(sandbox) == (1, 0)
    assert used()["senders"] == used()["domains"] == used()["account of alpha"] == 2
    assert told(message) == [(What.BOOKED_ANEW, ""), (What.ANSWERED, "")]


@pytest.mark.parametrize("spent", ["sender", "account", "campaign"])
def test_in_another_hour_it_is_not_asked_about_while_a_limit_is_reached(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox, spent: str
) -> None:
    (message,) = doubted(alpha, account, 1, posted=False)
    match spent:
        case "sender":
            Sender.objects.update(per_day=1)
        case "account":
            # Alpha's mail and Beta's.
            _save(account, per_day=2)
        case "campaign":
            Campaign.objects.update(new_contacts_per_day=1)
            launch_day = message.counted_on
            campaign.days.create(day=launch_day, allowed=1, used=1)
    assert ask(account, NOON + timedelta(hours=1)) == 0
    assert posts(sandbox) == 0
    assert used()["senders"] == 1
    message.refresh_from_db()
    assert (message.claimed_at, message.ask_at) == (NOON, None)
    assert told(message) == []


def test_a_person_counts_a_mail_as_sent(account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox) -> None:
    message, other = doubted(alpha, account, 2, posted=True)
    assert doubt.count_as_sent(Message.objects.filter(pk=message.pk), by="carol@alpha.test", now=SOON) == 1
    assert doubt.count_as_sent(Message.objects.filter(pk=message.pk), by="dan@alpha.test", now=SOON) == 0
    message.refresh_from_db()
    assert (message.status, message.sent_at, message.enrollment.sender_id) == ("sent", NOON, message.sender_id)
    assert told(message) == [(What.COUNTED_AS_SENT, "carol@alpha.test")]
    assert told(other) == []
    assert ask(account) == 1
    assert arrived(sandbox) == (2, 0)


def test_a_person_has_a_mail_sent_again_and_both_are_counted(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    """Whoever presses the button knows that it may arrive twice; the machine counts what may have been taken."""
    doubted(alpha, account, 2, posted=True)
    assert control.finish_done(now=SOON) == 1
    message = Message.objects.get(contact__email="a0@people.example")
    sender = message.sender
    assert doubt.send_again(Message.objects.filter(pk=message.pk), by="carol@alpha.test", now=SOON) == 1
    campaign.refresh_from_db()
    assert (campaign.status, campaign.finished_at) == (Campaign.Status.RUNNING, None)
    assert used()["senders"] == 2
    assert audit.audit_quota().drifts == []
    dispatch.drain(account.pk, clock=lambda: SOON, until=SOON + timedelta(seconds=15))
    message.refresh_from_db()
    assert (message.status, message.sent_at, message.sender) == ("sent", SOON, sender)
    assert told(message) == [(What.SENT_AGAIN, "carol@alpha.test")]
    assert arrived(sandbox) == (2, 1)
    assert used()["senders"] == used()["account of alpha"] == 3


@pytest.mark.parametrize("stop", ["cancel", "address", "domain"])
def test_what_must_not_go_is_not_sent_again_by_a_person_either(
    account: Account, alpha: Agency, campaign: Campaign, stop: str
) -> None:
    (message,) = doubted(alpha, account, 1, posted=False)
    STOPS[stop](campaign, account)
    assert doubt.send_again(Message.objects.filter(pk=message.pk), by="carol@alpha.test", now=SOON) == 0
    message.refresh_from_db()
    assert message.status == "unknown"
    assert told(message) == []


def test_proof_that_comes_before_it_is_sent_again_keeps_it_from_being_sent_twice(
    account: Account, alpha: Agency, campaign: Campaign, sandbox: Sandbox
) -> None:
    (message,) = doubted(alpha, account, 1, posted=True)
    doubt.send_again(Message.objects.filter(pk=message.pk), by="carol@alpha.test", now=SOON)
    delivered = Heard(
        source="resend",
        raw_id="one",
        type=EventType.DELIVERED,
        at=SOON,
        received_at=SOON,
        message=message.key,
        account_id=account.pk,
        provider_id="shown",
    )
    feedback.record([delivered, replace(delivered, raw_id="two")], now=SOON)
    assert MessageFacts.objects.get(message=message).delivered_at == SOON
    found = Message.objects.get(pk=message.pk)
    assert (found.status, found.sent_at, found.provider_id) == ("sent", NOON, "shown")
    assert (found.sender_id, found.counted_on) == (message.sender_id, message.counted_on)
    assert told(message) == [(What.SENT_AGAIN, "carol@alpha.test"), (What.SHOWN, "")]
    assert used()["senders"] == 1
    dispatch.drain(account.pk, clock=lambda: SOON, until=SOON + timedelta(seconds=15))
    assert arrived(sandbox) == (2, 0)


def test_it_says_what_will_end_each_doubt(
    accounts: dict[str, Account], account: Account, alpha: Agency, campaign: Campaign
) -> None:
    (first,) = doubted(alpha, account, 1, posted=True)

    def said(now: datetime = SOON, through: Account = account) -> str:
        loaded = Message.objects.select_related("campaign", "contact").get(pk=first.pk)
        loaded.account = through
        (found,) = doubt.what_next([loaded], now=now)
        return f"{found.text} {found.asked_at:%H:%M}" if found.asked_at else found.text

    assert said() == "The provider is asked again. 12:06"
    lifecycle.ask_again([first.pk], now=SOON, later=SOON + timedelta(minutes=9))
    assert said() == "The provider is asked again. 12:15"
    assert "does not remember" in said(NOON + timedelta(hours=24))
    control.pause(campaign)
    assert "once the campaign goes on" in said()
    blocked = Suppression.objects.create(value="people.example", source="manual")
    assert "must not be mailed" in said()
    blocked.delete()
    control.cancel(campaign, now=NOON)
    assert "is cancelled" in said()
    Campaign.objects.update(status="running")
    lifecycle.never_ask([first.pk], "changed")
    assert "cannot be made any more" in said()
    assert said(through=accounts["smtp"]) == "SMTP cannot be asked: a person must decide."


def test_the_minutes_work_asks_where_there_is_doubt_and_nowhere_else(
    account: Account, alpha: Agency, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubted(alpha, account, 2, posted=False)
    asked: list[tuple[str, int]] = []

    def enqueue(function: Callable[..., None], account_id: int) -> None:
        if function is jobs.ask:
            asked.append((context.current_agency().slug, account_id))

    monkeypatch.setattr(jobs.jobs, "enqueue", enqueue)
    with context.public():
        for minutes in (6, 7, 9):
            with time_machine.travel(NOON + timedelta(minutes=minutes), tick=False):
                jobs.tick()
    # Beta's is in doubt too. Nobody asked after the first time, and three minutes later it is looked at again.
    assert asked == [("alpha", account.pk), ("beta", account.pk)] * 2
