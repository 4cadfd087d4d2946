"""From a draft to the wire, through real adapters into the sandbox."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from campaigns import delivery, dispatch, launch, progress
from campaigns.models import Campaign, Message
from campaigns.reasons import Reason
from providers.accounts.models import LedgerRow
from providers.sandbox.service import Sandbox
from providers.senders.models import SenderDay
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def drain_all(accounts: dict[str, object], now: datetime = NOON) -> None:
    """Drain every account until nothing moves any more."""
    for _ in range(4):
        for account in accounts.values():
            dispatch.drain(account.pk, clock=lambda: now, until=now + timedelta(seconds=15))  # type: ignore[attr-defined]


def test_it_sends_a_campaign_through_three_kinds_of_account(alpha: Agency, beta: Agency, sandbox: Sandbox) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, *accounts.values())
    stage.allot(beta, *accounts.values())
    with context.entered(beta):
        theirs = stage.campaign(stage.contact_list("b", 9), distribution="even")
        launch.launch(theirs, now=NOON)
    with context.entered(alpha):
        ours = stage.campaign(stage.contact_list("a", 30), distribution="even")
        launched = launch.launch(ours, now=NOON)
        assert [share.count for share in launched.shares] == [10, 10, 10]
        drain_all(accounts)
        assert stage.statuses(ours) == {"sent": 30}
        report = progress.progress(ours, now=NOON)
        assert [(one.name, one.planned, one.sent) for one in report.accounts] == [
            ("resend", 10, 10),
            ("sendgrid", 10, 10),
            ("smtp", 10, 10),
        ]
        assert report.reasons == []
        assert sum(SenderDay.objects.values_list("used", flat=True)) == 30
    seen = sandbox.snapshot()
    assert seen["distinct_recipients"] == 30
    assert seen["duplicates"] == 0
    assert sum(LedgerRow.objects.filter(agency=None, period="day").values_list("used", flat=True)) == 30
    with context.entered(beta):
        assert stage.statuses(theirs) == {"scheduled": 9}


@pytest.mark.parametrize(("overflow", "sent", "waiting"), [("reroute", 30, 0), ("wait", 24, 6)])
def test_a_full_account_reroutes_or_waits(
    alpha: Agency, beta: Agency, sandbox: Sandbox, overflow: str, sent: int, waiting: int
) -> None:
    accounts = stage.accounts(sandbox, sendgrid={"per_day": 4})
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 30), distribution="even", overflow=overflow)
        launch.launch(campaign, now=NOON)
        drain_all(accounts)
        report = progress.progress(campaign, now=NOON)
        assert (report.sent, report.waiting) == (sent, waiting)
        assert [(one.code, one.count) for one in report.reasons] == ([(Reason.ACCOUNT_DAY_SPENT, 6)] if waiting else [])
    assert LedgerRow.objects.get(account=accounts["sendgrid"], agency=None).used == 4


def test_an_account_that_is_down_loses_its_load_to_the_others(alpha: Agency, beta: Agency, sandbox: Sandbox) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, *accounts.values())
    sandbox.script("resend=down")
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 60), distribution="even")
        launch.launch(campaign, now=NOON)
        drain_all(accounts)
        assert stage.statuses(campaign) == {"sent": 60}
    seen = sandbox.snapshot()
    assert seen["accepted"].get("resend", 0) == 0
    assert (seen["distinct_recipients"], seen["duplicates"]) == (60, 0)
    assert LedgerRow.objects.get(account=accounts["resend"], agency=None).used == 0


def test_when_all_accounts_refuse_it_tries_again_in_an_hour(alpha: Agency, beta: Agency, sandbox: Sandbox) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, *accounts.values())
    for name in ("resend", "sendgrid", "smtp"):
        sandbox.script(f"{name}=down")
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 30), distribution="even")
        launch.launch(campaign, now=NOON)
        # What waits for an account that closed meanwhile is refused when that is tried again.
        for minute in range(6):
            drain_all(accounts, NOON + timedelta(minutes=minute))
        report = progress.progress(campaign, now=NOON + timedelta(minutes=6))
        assert [(one.code, one.count, one.clears_at) for one in report.reasons] == [
            (Reason.ACCOUNTS_REFUSED, 30, NOON + timedelta(seconds=3600))
        ]
        assert not any(SenderDay.objects.values_list("used", flat=True))
        sandbox.heal()
        later = NOON + timedelta(seconds=3601, minutes=6)
        drain_all(accounts, later)
        # One mail is the proof of each account that was closed; then they are filled gradually.
        closed = [account for name, account in accounts.items() if name != "resend"]
        assert campaign.messages.filter(status="sent", account__in=closed).count() <= 8
        for minute in range(1, 6):
            drain_all(accounts, later + timedelta(minutes=minute))
        assert stage.statuses(campaign) == {"sent": 30}
    assert sandbox.snapshot()["duplicates"] == 0


@pytest.mark.parametrize("name", ["resend", "sendgrid", "smtp"])
def test_a_lost_answer_never_makes_a_second_mail(alpha: Agency, beta: Agency, sandbox: Sandbox, name: str) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, accounts[name])
    sandbox.script(f"{name}=lost_answers:5")
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 30))
        launch.launch(campaign, now=NOON)
        drain_all(accounts)
        found = stage.statuses(campaign)
        doubted = campaign.messages.filter(status=Message.Status.UNKNOWN)
        assert {message.reason for message in doubted} <= {Reason.IN_DOUBT}
    seen = sandbox.snapshot()
    assert (seen["distinct_recipients"], seen["duplicates"]) == (30, 0)
    # Resend answers the same key with the same id, so the doubt ends at once; the others cannot tell.
    assert found == ({"sent": 30} if name == "resend" else {"sent": 24, "unknown": 6})


def test_a_suppression_made_after_the_claim_still_holds(alpha: Agency, beta: Agency, sandbox: Sandbox) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, accounts["smtp"])
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 3))
        launch.launch(campaign, now=NOON)
        allotment = alpha.allotments.select_related("account").get()
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=10)
        delivery.suppress_address("a1@people.example", "asked to stop")
        with delivery.Lines(accounts["smtp"]) as lines:
            sending = delivery.Delivery(alpha, accounts["smtp"], lines, lambda: NOON, until=NOON + timedelta(minutes=1))
            sending.run(delivery.Batch(batch), lambda: None)
        assert stage.statuses(campaign) == {"sent": 2, "cancelled": 1}
        assert campaign.messages.get(status="cancelled").reason == Reason.SUPPRESSED
    assert sandbox.snapshot()["distinct_recipients"] == 2


def test_a_draft_with_an_unknown_variable_is_refused_whole(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 3), html="<p>{{ first_nmae }} {{ city }}</p>")
        with pytest.raises(launch.LaunchRefusedError, match=r"names first_nmae.*Known: city, company, email"):
            launch.launch(campaign, now=NOON)
        campaign.refresh_from_db()
        assert campaign.status == Campaign.Status.DRAFT
        assert not Message.objects.exists()
