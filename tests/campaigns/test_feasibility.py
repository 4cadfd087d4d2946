"""What can never go on is refused at launch, or paused with its reason and an alert; what only waits is left alone."""

import logging
from collections.abc import Callable
from datetime import time, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from campaigns import actions, control, feasibility, jobs, launch
from campaigns.models import Campaign, Message
from campaigns.reasons import WAYS_OUT, PauseReason
from outreach.schedules import SCHEDULES
from providers.accounts import health
from providers.accounts.models import Account, HealthCheck
from providers.senders.models import Home, Sender, SenderDomain
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, at, body

DAY = timedelta(days=1)
Break = Callable[[Agency, list[Account]], Any]


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> list[Account]:
    every = stage.accounts()
    found = [every["smtp"], every["resend"]]
    for agency in (alpha, beta):
        stage.allot(agency, *found)
    return found


def queue(name: str = "a", **fields: Any) -> Campaign:
    made = stage.campaign(stage.contact_list(name, 6), **{"distribution": "even", **fields})
    launch.launch(made, now=NOON)
    return made


def block(accounts: list[Account]) -> None:
    for account in accounts:
        health.block(account.pk, "key revoked", now=NOON)


def fail_checks(accounts: list[Account], *, since: timedelta) -> None:
    for account in accounts:
        health.unanswered(account.pk, "wrong key", clear=True, now=NOON)
        for when in (NOON - since, NOON - timedelta(minutes=5)):
            HealthCheck.objects.create(account=account, at=when, ok=False, milliseconds=1)


IMPOSSIBLE: dict[str, tuple[PauseReason, str, Break]] = {
    "allotments gone": (PauseReason.NO_ACCOUNTS, "", lambda agency, _: agency.allotments.all().delete()),
    "accounts not in use": (PauseReason.NO_ACCOUNTS, "", lambda *_: Account.objects.update(enabled=False)),
    "accounts blocked": (PauseReason.ACCOUNTS_BLOCKED, "resend, smtp", lambda _, found: block(found)),
    "checks refused for a day": (
        PauseReason.ACCOUNTS_BLOCKED,
        "resend, smtp",
        lambda _, found: fail_checks(found, since=DAY),
    ),
    "shares of nothing": (
        PauseReason.NOTHING_ALLOWED,
        "resend, smtp",
        lambda agency, _: agency.allotments.update(per_day=0),
    ),
    "months of nothing": (
        PauseReason.NOTHING_ALLOWED,
        "resend, smtp",
        lambda *_: Account.objects.update(per_month=0),
    ),
    "senders of nothing": (PauseReason.NOTHING_ALLOWED, "resend, smtp", lambda *_: Sender.objects.update(per_day=0)),
    "domains of nothing": (
        PauseReason.NOTHING_ALLOWED,
        "resend, smtp",
        lambda *_: SenderDomain.objects.update(per_day=0),
    ),
    "senders switched off": (PauseReason.NO_SENDERS, "resend, smtp", lambda *_: Sender.objects.update(active=False)),
    "domains verified nowhere": (PauseReason.NO_SENDERS, "resend, smtp", lambda *_: Home.objects.all().delete()),
    "one blocked, the other without senders": (
        PauseReason.NO_SENDERS,
        "resend, smtp",
        lambda _, found: (block(found[:1]), Sender.objects.filter(account=found[1]).update(active=False)),
    ),
}
TEMPORARY: dict[str, Break] = {
    "nothing": lambda *_: None,
    "accounts down for an hour": lambda _, found: [
        health.throttled(one.pk, 3600, "busy", now=NOON) or [health.refused(one.pk, "down", now=NOON) for _ in range(9)]
        for one in found
    ],
    "checks refused for an hour": lambda _, found: fail_checks(found, since=timedelta(hours=1)),
    "checks refused for a day but for one": lambda _, found: (
        fail_checks(found, since=DAY),
        HealthCheck.objects.create(account=found[0], at=NOON - timedelta(hours=2), ok=True, milliseconds=1),
    ),
    "one account blocked": lambda _, found: block(found[:1]),
    "one account without senders": lambda _, found: Sender.objects.filter(account=found[0]).update(active=False),
    "today spent": lambda *_: Account.objects.update(per_day=1),
    "in warmup": lambda *_: SenderDomain.objects.update(warmup_started_on=NOON.date(), warmup_plan=[1, 50]),
    "outside the window": lambda *_: Campaign.objects.update(window_until=time(9)),
}


def state(campaign: Campaign) -> tuple[str, str, str]:
    campaign.refresh_from_db()
    return campaign.status, campaign.paused_reason, campaign.paused_detail


@pytest.mark.parametrize("broken", IMPOSSIBLE)
def test_what_cannot_go_on_is_paused_once_with_its_reason_and_an_alert(
    alpha: Agency, beta: Agency, accounts: list[Account], broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, names, break_it = IMPOSSIBLE[broken]
    with context.entered(beta):
        theirs = queue("b")
    with context.entered(alpha):
        made, draft = queue(), stage.campaign(stage.contact_list("d", 1))
        break_it(alpha, accounts)
        with caplog.at_level(logging.ERROR):
            assert feasibility.pause_impossible(alpha, now=NOON) == 1
            assert feasibility.pause_impossible(alpha, now=NOON) == 0
        assert state(made) == ("paused", reason, names)
        assert state(draft)[0] == "draft"
        assert [record.getMessage() for record in caplog.records] == [
            f"campaign paused, it cannot go on: {reason.value}"
        ]
        assert caplog.records[0].__dict__["campaign"] == made.pk
        # Resuming looks again, and says what to do.
        with pytest.raises(actions.ActionRefusedError) as refused:
            actions.take("resume", made, now=NOON)
        assert str(WAYS_OUT[reason]) in str(refused.value)
        with pytest.raises(launch.LaunchRefusedError) as not_launched:
            launch.launch(draft, now=NOON)
        assert str(WAYS_OUT[reason]) in str(not_launched.value)
        assert state(draft)[0] == "draft"
    with context.entered(beta):
        assert state(theirs)[0] == "running"


@pytest.mark.parametrize("waiting", TEMPORARY)
def test_what_only_waits_goes_on(alpha: Agency, accounts: list[Account], waiting: str) -> None:
    with context.entered(alpha):
        made = queue()
        TEMPORARY[waiting](alpha, accounts)
        assert feasibility.pause_impossible(alpha, now=NOON) == 0
        assert state(made) == ("running", "", "")
        assert control.pause(made)
        actions.take("resume", made, now=NOON)


def test_a_schedule_that_never_opens_is_paused_and_goes_on_once_it_is_put_right(
    alpha: Agency, accounts: list[Account]
) -> None:
    with context.entered(alpha):
        made, other = queue(weekdays=[5]), queue("b")
        waiting = Message.objects.filter(campaign=made)
        waiting.update(due_at=NOON + 4 * DAY, reason="outside_window")
        Campaign.objects.filter(pk=made.pk).update(weekdays=[])
        assert feasibility.pause_impossible(alpha, now=NOON) == 1
        assert state(made) == ("paused", PauseReason.NEVER_OPENS, "")
        assert state(other)[0] == "running"
        with pytest.raises(actions.ActionRefusedError, match="Choose other days"):
            actions.take("resume", made, now=NOON)
        Campaign.objects.filter(pk=made.pk).update(weekdays=[1])
        made.refresh_from_db()
        actions.take("resume", made, now=NOON)
        assert state(made) == ("running", "", "")
        assert set(waiting.values_list("due_at", "reason")) == {(NOON, "")}


def test_threads_whose_senders_are_gone(alpha: Agency, accounts: list[Account]) -> None:
    with context.entered(alpha):
        made = queue()
        writer = Sender.objects.earliest("pk")
        made.enrollments.update(sender=writer)
        assert feasibility.pause_impossible(alpha, now=NOON) == 0
        writer.active = False
        writer.save()
        assert feasibility.pause_impossible(alpha, now=NOON) == 1
        assert state(made) == ("paused", PauseReason.SENDERS_GONE, "")


def test_mails_that_wait_for_an_account_that_will_not_send_them(alpha: Agency, accounts: list[Account]) -> None:
    with context.entered(alpha):
        shares = {"distribution": "shares", "shares": {"smtp": 100}}
        waits, moves = queue(overflow="wait", **shares), queue("b", **shares)
        Sender.objects.filter(account=accounts[0]).update(active=False)
        assert feasibility.pause_impossible(alpha, now=NOON) == 1
        assert state(waits) == ("paused", PauseReason.WAITS_IN_VAIN, "smtp")
        assert state(moves)[0] == "running"


def test_a_blocked_account_gives_its_mails_away_also_where_they_chose_to_wait(
    alpha: Agency, accounts: list[Account]
) -> None:
    with context.entered(alpha):
        made = queue(overflow="wait", distribution="shares", shares={"smtp": 100})
        block(accounts[:1])
        assert feasibility.pause_impossible(alpha, now=NOON) == 0
        assert state(made)[0] == "running"


def test_what_is_with_a_worker_or_done_is_left_alone(alpha: Agency, accounts: list[Account]) -> None:
    with context.entered(alpha):
        made = queue()
        Message.objects.update(status="cancelled", reason="campaign_cancelled")
        Sender.objects.update(active=False)
        assert feasibility.pause_impossible(alpha, now=NOON) == 0
        assert state(made)[0] == "running"


def test_a_reason_stays_only_while_it_is_paused(alpha: Agency, accounts: list[Account]) -> None:
    with context.entered(alpha):
        made, other = queue(), queue("b")
        control.pause(made, reason=PauseReason.NO_SENDERS, detail="smtp")
        control.cancel(made, now=NOON)
        assert state(made) == ("cancelled", "", "")
        with pytest.raises(IntegrityError, match="only_a_paused_campaign_says_why"):
            Campaign.objects.filter(pk=other.pk).update(paused_reason=PauseReason.NO_SENDERS)


def test_the_job_looks_into_every_agency_every_five_minutes(
    alpha: Agency, beta: Agency, accounts: list[Account]
) -> None:
    made = {}
    for agency in (alpha, beta):
        with context.entered(agency):
            made[agency] = queue()
            Sender.objects.update(active=False)
    assert (jobs.check_possible, 5) in SCHEDULES.values()
    jobs.check_possible()
    for agency in (alpha, beta):
        with context.entered(agency):
            assert state(made[agency])[:2] == ("paused", PauseReason.NO_SENDERS)


def test_every_surface_says_why_and_what_to_do(alpha: Agency, accounts: list[Account], carol: User) -> None:
    with context.entered(alpha):
        made, draft = queue(), stage.campaign(stage.contact_list("d", 1))
        Sender.objects.update(active=False)
        feasibility.pause_impossible(alpha, now=NOON)
        secret = keys.issue(carol, "program")
    words = ["no active sender at these accounts (resend, smtp)", "switch one on"]
    visitor = at(alpha, carol)
    pages = {
        "portal": body(visitor.get(f"/campaigns/{made.pk}/")),
        "poll": body(visitor.get(f"/campaigns/{made.pk}/progress/")),
        "admin": body(visitor.get(f"/admin/campaigns/campaign/{made.pk}/change/")),
        "resume in the portal": body(visitor.post(f"/campaigns/{made.pk}/resume/", follow=True)),
        "launch in the portal": body(visitor.post(f"/campaigns/{draft.pk}/launch/", follow=True)),
        "launch in the admin": body(
            visitor.post(
                "/admin/campaigns/campaign/",
                {"action": "launch", "_selected_action": [draft.pk]},
                follow=True,
            )
        ),
    }
    for name, page in pages.items():
        for word in words:
            assert word in page, (name, word)
    assert "Cannot go on" in body(visitor.get("/admin/"))
    told = at(alpha).get(f"/api/v1/campaigns/{made.pk}/", headers={"authorization": f"Bearer {secret}"}).json()
    assert (told["status"], told["paused_reason"], told["paused_detail"]) == ("paused", "no_senders", "resend, smtp")
    out = StringIO()
    call_command("campaign_status", made.pk, agency="alpha", json=True, stdout=out)
    assert '"paused_reason": "no_senders"' in out.getvalue()
    with pytest.raises(CommandError, match="switch one on"):
        call_command("launch_campaign", str(draft.pk), agency="alpha")


def test_the_schedule_of_a_paused_campaign_can_be_put_right_in_the_administration(
    alpha: Agency, accounts: list[Account], carol: User
) -> None:
    with context.entered(alpha):
        made = queue(weekdays=[5])
    page = f"/admin/campaigns/campaign/{made.pk}/change/"
    assert 'name="weekdays"' not in body(at(alpha, carol).get(page))
    with context.entered(alpha):
        control.pause(made)
    changing = body(at(alpha, carol).get(page))
    assert 'name="weekdays"' in changing
    assert 'name="new_contacts_per_day"' not in changing
    assert 'name="list"' not in changing


def test_the_operator_sees_where_campaigns_cannot_go_on(alpha: Agency, beta: Agency, accounts: list[Account]) -> None:
    operator = Visitor("localhost")
    operator.force_login(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
    with time_machine.travel(NOON, tick=False), context.entered(alpha):
        queue()
        Sender.objects.update(active=False)
        feasibility.pause_impossible(alpha, now=NOON)
    page = body(operator.get("/admin/"))
    assert "Campaigns that cannot go on" in page
    assert "of Alpha, paused by the machine" in page
    assert "of Beta, paused" not in page
