"""P3: at any moment sent and the reasons for not sent add up to all, and each reason is the true one."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.core.serializers.json import DjangoJSONEncoder

from campaigns import control, dispatch, failover, launch, lifecycle, progress
from campaigns.models import Campaign, CampaignOutcome, Message
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.models import Account, Allotment
from providers.senders.models import Sender, SenderDomain
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
MIDNIGHT_IN_BERLIN = datetime(2026, 11, 24, 23, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 7), traffic_class="bulk"), now=NOON)
    return found


@pytest.fixture
def campaign(alpha: Agency, accounts: dict[str, Account]) -> Iterator[Campaign]:
    """Ten mails through SMTP, which wait for it when it is full."""
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 10), traffic_class="bulk", overflow="wait")
        launch.launch(made, now=NOON)
        yield made


def report(campaign: Campaign, now: datetime = NOON) -> progress.Progress:
    """The progress, after the promise that it adds up."""
    campaign.refresh_from_db()
    found = progress.progress(campaign, now=now)
    assert found.total == campaign.messages.count()
    assert found.total == found.sent + sum(one.count for one in found.reasons)
    parts = found.sent + found.in_progress + found.waiting + found.failed + found.in_doubt + found.cancelled
    assert found.total == parts
    assert found.total == sum(account.planned for account in found.accounts)
    assert found.sent == sum(account.sent for account in found.accounts)
    assert all(one.code in Reason.values and one.label for one in found.reasons)
    assert len({one.code for one in found.reasons}) == len(found.reasons)
    json.dumps(found.as_dict(), cls=DjangoJSONEncoder)
    return found


def reasons(campaign: Campaign, now: datetime = NOON) -> dict[str, tuple[int, datetime | None]]:
    return {one.code: (one.count, one.clears_at) for one in report(campaign, now).reasons}


def claim(agency: Agency, account: Account, count: int) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=NOON, limit=count)


def test_a_draft_has_nothing_to_count(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        found = report(stage.campaign(stage.contact_list("d", 3)))
        assert (found.total, found.percent, found.live, found.reasons) == (0, 0, False, [])


def test_what_can_go_is_next_in_the_queue(campaign: Campaign) -> None:
    assert reasons(campaign) == {Reason.IN_QUEUE: (10, None)}
    found = report(campaign)
    assert found.live
    assert found.rate_per_minute == 0


def test_every_state_has_its_reason(alpha: Agency, campaign: Campaign, accounts: dict[str, Account]) -> None:
    sent, failed, refused, held, doubted, busy, _stays = claim(alpha, accounts["smtp"], 7)
    later = NOON + timedelta(minutes=30)
    lifecycle.sent([(sent, "id")], now=NOON)
    lifecycle.fail(failed, Reason.MESSAGE_REFUSED, "spam")
    lifecycle.fail(refused, Reason.RECIPIENT_REFUSED, "no such user")
    lifecycle.hold(held, Reason.NOT_RENDERED, "why")
    lifecycle.doubt(doubted, "no answer")
    lifecycle.reschedule(busy, due_at=later, reason=Reason.RECIPIENT_BUSY)
    Message.objects.filter(pk=Message.objects.filter(status="scheduled").latest("pk").pk).update(due_at=MIDNIGHT)
    assert reasons(campaign) == {
        Reason.IN_QUEUE: (2, None),
        Reason.MESSAGE_REFUSED: (1, None),
        Reason.RECIPIENT_REFUSED: (1, None),
        Reason.NOT_RENDERED: (1, None),
        Reason.IN_DOUBT: (1, None),
        Reason.RECIPIENT_BUSY: (1, later),
        Reason.SENDING: (1, None),
        Reason.NOT_DUE: (1, MIDNIGHT),
    }
    found = report(campaign)
    assert (found.sent, found.in_progress, found.failed, found.in_doubt, found.waiting) == (1, 1, 2, 1, 5)
    assert found.percent == 10
    assert found.rate_per_minute == 1


def test_a_paused_campaign_says_so_for_all_that_waits(
    alpha: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    claim(alpha, accounts["smtp"], 1)
    Message.objects.filter(pk=Message.objects.latest("pk").pk).update(due_at=MIDNIGHT)
    control.pause(campaign)
    assert reasons(campaign) == {Reason.CAMPAIGN_PAUSED: (9, None), Reason.SENDING: (1, None)}
    assert not report(campaign).live


def test_a_cancelled_campaign_says_so_even_for_a_stray(campaign: Campaign) -> None:
    control.cancel(campaign, now=NOON)
    Message.objects.filter(pk=Message.objects.latest("pk").pk).update(status="scheduled", reason="")
    assert reasons(campaign) == {Reason.CAMPAIGN_CANCELLED: (10, None)}


@pytest.mark.parametrize(
    ("of", "fields", "reason", "clears"),
    [
        ("account", {"per_day": 4}, Reason.ACCOUNT_DAY_SPENT, MIDNIGHT),
        ("account", {"per_month": 4}, Reason.ACCOUNT_MONTH_SPENT, NEXT_MONTH),
        ("allotment", {"per_day": 4}, Reason.ALLOTMENT_DAY_SPENT, MIDNIGHT),
        ("allotment", {"per_month": 4}, Reason.ALLOTMENT_MONTH_SPENT, NEXT_MONTH),
        ("senders", {"per_day": 1}, Reason.SENDERS_SPENT, NOON + timedelta(hours=25)),
        ("domains", {"per_day": 2}, Reason.SENDERS_SPENT, MIDNIGHT_IN_BERLIN),
    ],
)
def test_a_quota_that_is_used_up_is_named_with_its_end(
    alpha: Agency,
    campaign: Campaign,
    accounts: dict[str, Account],
    of: str,
    fields: dict[str, int],
    reason: Reason,
    clears: datetime,
) -> None:
    {
        "account": Account.objects.filter(name="smtp"),
        "allotment": Allotment.objects.filter(agency=alpha, account=accounts["smtp"]),
        "senders": Sender.objects.all(),
        "domains": SenderDomain.objects.all(),
    }[of].update(**fields)
    assert reasons(campaign) == {Reason.IN_QUEUE: (10, None)}
    assert len(claim(alpha, accounts["smtp"], 10)) == 4
    assert reasons(campaign) == {Reason.SENDING: (4, None), reason: (6, clears)}
    # The day after, what may go again is in the queue again.
    after = reasons(campaign, clears)
    assert after[Reason.IN_QUEUE] == (6, None)


def test_a_quota_that_another_agency_used_up_is_the_accounts(
    alpha: Agency, beta: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    Account.objects.filter(name="smtp").update(per_day=5)
    with context.entered(beta):
        assert len(claim(beta, accounts["smtp"], 10)) == 5
    assert reasons(campaign) == {Reason.ACCOUNT_DAY_SPENT: (10, MIDNIGHT)}


@pytest.mark.parametrize("change", ["inactive", "no home"])
def test_an_account_without_senders_says_so(campaign: Campaign, change: str) -> None:
    if change == "inactive":
        Sender.objects.filter(account__name="smtp").update(active=False)
    else:
        SenderDomain.objects.get(name="smtp0.alpha.example").homes.all().delete()
        SenderDomain.objects.get(name="smtp1.alpha.example").homes.all().delete()
    assert reasons(campaign) == {Reason.NO_SENDERS: (10, None)}


@pytest.mark.parametrize("change", ["disabled", "no allotment", "of another agency"])
def test_an_account_that_is_gone_says_so(
    alpha: Agency, beta: Agency, campaign: Campaign, accounts: dict[str, Account], change: str
) -> None:
    match change:
        case "disabled":
            Account.objects.filter(name="smtp").update(enabled=False)
        case "no allotment":
            Allotment.objects.filter(agency=alpha, account=accounts["smtp"]).delete()
        case _:
            Account.objects.filter(name="smtp").update(owner=beta)
    assert reasons(campaign) == {Reason.ACCOUNT_GONE: (10, None)}


def test_a_pause_is_named_with_its_end_whoever_else_has_room(campaign: Campaign, accounts: dict[str, Account]) -> None:
    health.throttled(accounts["smtp"].pk, 30, "too fast", now=NOON)
    assert reasons(campaign) == {Reason.ACCOUNT_CLOSED: (10, NOON + timedelta(seconds=30))}
    assert reasons(campaign, NOON + timedelta(seconds=30)) == {Reason.IN_QUEUE: (10, None)}


def close_all(accounts: dict[str, Account], *names: str) -> None:
    for name in names:
        for _ in range(health.BREAKS_AFTER):
            health.refused(accounts[name].pk, "down", now=NOON)


def test_a_broken_account_is_about_to_be_relieved_or_is_tried_again_in_a_minute(
    alpha: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    close_all(accounts, "smtp")
    assert reasons(campaign) == {Reason.IN_QUEUE: (10, None)}
    close_all(accounts, "resend", "sendgrid")
    assert reasons(campaign) == {Reason.ACCOUNT_CLOSED: (10, NOON + timedelta(minutes=1))}
    failover.relieve(alpha, accounts["smtp"].pk, now=NOON)
    assert reasons(campaign) == {Reason.ACCOUNTS_REFUSED: (10, NOON + timedelta(hours=1))}


def test_a_blocked_account_waits_for_the_operator(
    alpha: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    for account in accounts.values():
        health.block(account.pk, "wrong key", now=NOON)
    failover.relieve(alpha, accounts["smtp"].pk, now=NOON)
    assert reasons(campaign) == {Reason.ACCOUNT_BLOCKED: (10, None)}
    health.reopen(accounts["smtp"].pk, now=NOON)
    assert reasons(campaign) == {Reason.IN_QUEUE: (10, None)}


def test_what_reroutes_is_in_the_queue_while_others_have_room(
    alpha: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    Campaign.objects.update(overflow="reroute")
    Account.objects.filter(name="smtp").update(per_day=0)
    assert reasons(campaign) == {Reason.IN_QUEUE: (10, None)}
    Account.objects.update(per_day=0)
    assert reasons(campaign) == {Reason.ACCOUNT_DAY_SPENT: (10, MIDNIGHT)}


def test_the_earliest_end_of_a_reason_is_told(campaign: Campaign) -> None:
    for index, message in enumerate(Message.objects.order_by("pk")[:4]):
        Message.objects.filter(pk=message.pk).update(due_at=NOON + timedelta(hours=5 - index), reason=Reason.THROTTLED)
    assert reasons(campaign) == {
        Reason.IN_QUEUE: (6, None),
        Reason.THROTTLED: (4, NOON + timedelta(hours=2)),
    }


def test_accounts_are_told_as_planned_and_as_sent(
    alpha: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    Message.objects.filter(pk__in=Message.objects.order_by("pk").values("pk")[:3]).update(account=accounts["resend"])
    for name in ("smtp", "resend"):
        batch = claim(alpha, accounts[name], 2)
        lifecycle.sent([(message, "id") for message in batch], now=NOON)
    found = {one.name: (one.planned, one.sent, one.percent) for one in report(campaign).accounts}
    assert found == {"resend": (0, 2, 100), "smtp": (10, 2, 20)}


def test_it_adds_up_after_anything_that_may_happen(
    alpha: Agency, campaign: Campaign, accounts: dict[str, Account]
) -> None:
    rng = random.Random(11)
    smtp = accounts["smtp"]
    for _ in range(60):
        now = NOON + timedelta(minutes=rng.randrange(0, 3000))
        batch = claim(alpha, rng.choice(list(accounts.values())), rng.randrange(1, 4))
        for message in batch:
            verb = rng.choice(["sent", "hold", "fail", "doubt", "release", "reschedule", "nothing"])
            match verb:
                case "sent":
                    lifecycle.sent([(message, "id")], now=now)
                case "hold":
                    lifecycle.hold(message, Reason.NOT_RENDERED, "why")
                case "fail":
                    lifecycle.fail(message, Reason.MESSAGE_REFUSED, "why")
                case "doubt":
                    lifecycle.doubt(message, "why")
                case "release":
                    lifecycle.release([message])
                case "reschedule":
                    lifecycle.reschedule(message, due_at=now, reason=Reason.THROTTLED, account_id=smtp.pk)
        match rng.choice(["close", "open", "pause", "resume", "rescue", "relieve", "nothing"]):
            case "close":
                close_all(accounts, rng.choice(list(accounts)))
            case "open":
                health.reopen(rng.choice(list(accounts.values())).pk, now=now)
            case "pause":
                control.pause(campaign)
            case "resume":
                control.resume(campaign, now=NOON)
            case "rescue":
                lifecycle.rescue(now=now)
            case "relieve":
                failover.relieve(alpha, rng.choice(list(accounts.values())).pk, now=now)
        report(campaign, now)
        if set(stage.statuses(campaign)) <= {"sent", "held", "failed", "unknown"}:
            break


@pytest.mark.parametrize(("heard", "percent"), [((), None), (("resend", "smtp"), 50.0), (("resend", "sendgrid"), 25.0)])
def test_delivered_is_in_percent_of_the_mails_whose_provider_tells(
    heard: tuple[str, ...], percent: float | None, alpha: Agency, beta: Agency
) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 12), distribution="even")
        launch.launch(campaign, now=NOON)
        Message.objects.update(status="sent", sent_at=NOON, sender=Sender.objects.first())
        CampaignOutcome.objects.create(campaign=campaign, delivered=2, clicked=3)
        for name in heard:
            health.heard(accounts[name].pk, now=NOON)

        told = {one.code: one.percent for one in progress.progress(campaign, now=NOON).told}

    # Four mails through each. An own SMTP pool never tells of deliveries, whatever else is heard of it.
    assert (told["delivered"], told["clicked"]) == (percent, 25.0)
