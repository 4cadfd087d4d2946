"""The numbers of the front page."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics.dashboard import dashboard
from campaigns import access, control, dispatch, launch
from campaigns.models import Campaign, Message
from providers.accounts import health
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def numbers(agency: Agency, user: User, now: datetime = NOON) -> dict[str, Any]:
    with context.entered(agency):
        return dashboard(agency, access.campaigns_for(user), now=now)


def kpis(found: dict[str, Any]) -> dict[str, Any]:
    return {item["label"]: item["value"] for item in found["kpis"]}


def send(accounts: dict[str, Any], now: datetime = NOON) -> None:
    for account in accounts.values():
        dispatch.drain(account.pk, clock=lambda: now, until=now + timedelta(seconds=15))


def test_an_agency_that_has_nothing_sees_zeros(alpha: Agency, beta: Agency, carol: User) -> None:
    found = numbers(alpha, carol)

    assert kpis(found) == {"Sent today": 0, "Waiting to go": 0, "Failed or in doubt": 0, "Capacity used today": "0 %"}
    assert (found["campaigns"], found["accounts"], sum(found["days"]["sent"])) == ([], [], 0)


def test_it_counts_the_agencys_own_mails_and_no_others(
    alpha: Agency, beta: Agency, carol: User, oscar: User, sandbox: Sandbox
) -> None:
    accounts = stage.accounts(sandbox, sendgrid={"per_day": 4})
    stage.allot(alpha, *accounts.values())
    stage.allot(beta, *accounts.values())
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 6), distribution="even", overflow="wait"), now=NOON)
        send(accounts)
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 30), distribution="even", overflow="wait"), now=NOON)
        send(accounts)

    found = numbers(alpha, carol)

    # Beta has used two of SendGrid's four.
    assert kpis(found) == {
        "Sent today": 22,
        "Waiting to go": 8,
        "Failed or in doubt": 0,
        "Capacity used today": "5.4 %",
    }
    assert [(one.name, one.used, one.allowed, one.state) for one in found["accounts"]] == [
        ("resend", 10, 200, "healthy"),
        ("sendgrid", 2, 4, "waiting"),
        ("smtp", 10, 200, "healthy"),
    ]
    assert [(one.name, one.total, one.sent, one.waiting, one.percent) for one in found["campaigns"]] == [
        ("To a", 30, 22, 8, 73)
    ]
    assert kpis(numbers(beta, oscar))["Sent today"] == 6


def test_days_are_those_of_the_agency(alpha: Agency, beta: Agency, carol: User, sandbox: Sandbox) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, *accounts.values())
    # Half past eleven in the evening in UTC is the next day in Berlin.
    late = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 6)), now=late)
        send(accounts, late)

    found = numbers(alpha, carol)

    days = dict(zip(found["days"]["labels"], found["days"]["sent"], strict=True))
    assert len(days) == 30
    assert (min(days), max(days)) == ("2026-10-26", "2026-11-24")
    assert {day: count for day, count in days.items() if count} == {"2026-11-21": 6}
    assert found["kpis"][0]["note"] == "6 in the last 7 days"
    assert found["kpis"][0]["points"][-4:] == [6, 0, 0, 0]


def test_an_account_that_is_shut_says_so(alpha: Agency, beta: Agency, carol: User) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, *accounts.values())
    health.block(accounts["resend"].pk, "the key is revoked", now=NOON)
    health.throttled(accounts["smtp"].pk, 60, "too fast", now=NOON)

    found = numbers(alpha, carol)

    assert [one.state for one in found["accounts"]] == ["blocked", "healthy", "degraded"]


def test_what_is_under_way_comes_first_and_what_was_cancelled_is_not_waiting(
    alpha: Agency, beta: Agency, carol: User
) -> None:
    stage.allot(alpha, *stage.accounts().values())
    with context.entered(alpha):
        for name in ("running", "paused", "cancelled"):
            campaign = stage.campaign(stage.contact_list(name, 3))
            launch.launch(campaign, now=NOON)
            if name == "paused":
                control.pause(campaign)
            if name == "cancelled":
                control.cancel(campaign, now=NOON)
        Message.objects.filter(campaign__name="To running").update(status="failed", reason="recipient_refused")

    found = numbers(alpha, carol)

    assert [one.status for one in found["campaigns"]] == ["running", "paused", "cancelled"]
    assert [one.failed for one in found["campaigns"]] == [3, 0, 0]
    assert (kpis(found)["Waiting to go"], kpis(found)["Failed or in doubt"]) == (3, 3)


def test_it_asks_the_database_the_same_however_much_there_is(alpha: Agency, beta: Agency, carol: User) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            numbers(alpha, carol)
        return len(queries)

    stage.allot(alpha, *stage.accounts().values())
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 3)), now=NOON)
    few = asked()
    with context.entered(alpha):
        for name in "bcdefg":
            launch.launch(stage.campaign(stage.contact_list(name, 3)), now=NOON)
        assert Campaign.objects.count() == 7

    assert asked() == few
