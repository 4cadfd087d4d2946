"""What a program reads about a campaign with a key."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine

from campaigns import dispatch, launch
from campaigns.models import Campaign
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def key(agency: Agency, user: User, expires_at: datetime | None = None) -> str:
    with context.entered(agency):
        return keys.issue(user, "program", expires_at=expires_at)


def got(agency: Agency, path: str, secret: str = "") -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    response = at(agency).get(f"/api/v1/{path}", headers=headers)
    return response.status_code, response.json()


def test_it_tells_what_became_of_the_mails_and_why_the_rest_waits(
    alpha: Agency, beta: Agency, carol: User, sandbox: Sandbox
) -> None:
    accounts = stage.accounts(sandbox, sendgrid={"per_day": 4})
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 30), distribution="even", overflow="wait")
        launch.launch(campaign, now=NOON)
        for account in accounts.values():
            dispatch.drain(account.pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))
    secret = key(alpha, carol)

    with time_machine.travel(NOON, tick=False):
        status, told = got(alpha, f"campaigns/{campaign.pk}/", secret)

    assert status == 200
    progress = told.pop("progress")
    # Nothing was heard of them yet, so nothing can be said of deliveries.
    delivered, opened, *_rest = heard = progress.pop("told")
    assert (delivered["code"], opened["code"]) == ("delivered", "opened")
    assert delivered["percent"] is None
    assert {(one["count"], one["percent"]) for one in heard[1:]} == {(0, 0.0)}
    assert told == {
        "id": campaign.pk,
        "name": "To a",
        "list": "a",
        "status": "running",
        "traffic_class": "cold_outreach",
        "distribution": "even",
        "shares": {},
        "overflow": "wait",
        "weekdays": [0, 1, 2, 3, 4, 5, 6],
        "window_from": None,
        "window_until": None,
        "timezone": "",
        "window_zone": "campaign",
        "holidays": "",
        "new_contacts_per_day": None,
        "per_domain_per_day": None,
        "gap_seconds": 0,
        "gap_jitter_seconds": 0,
        "duplicates": "campaign",
        "stop_on": ["reply", "bounce", "goal"],
        "stop_scope": "campaign",
        "goal_url": "",
        "track_opens": True,
        "track_clicks": True,
        "paused_reason": "",
        "paused_detail": "",
        "created_at": told["created_at"],
        "launched_at": "2026-11-24T13:00:00+01:00",
        "finished_at": None,
    }
    assert progress == {
        "total": 30,
        "sent": 24,
        "in_progress": 0,
        "waiting": 6,
        "failed": 0,
        "in_doubt": 0,
        "cancelled": 0,
        "percent": 80,
        "rate_per_minute": None,
        "live": False,
        "updated_at": "2026-11-24T13:00:00+01:00",
        "accounts": [
            {"name": "resend", "kind": "Resend", "planned": 10, "sent": 10, "percent": 100},
            {"name": "sendgrid", "kind": "SendGrid", "planned": 10, "sent": 4, "percent": 40},
            {"name": "smtp", "kind": "SMTP", "planned": 10, "sent": 10, "percent": 100},
        ],
        "reasons": [
            {
                "code": "account_day_spent",
                "label": "The account has sent its mails for today",
                "count": 6,
                "clears_at": "2026-11-25T01:00:00+01:00",
            }
        ],
    }


@pytest.mark.parametrize("secret", ["", "pk_nonsense", "pk_" + "x" * 60, "pk_ж"])
@pytest.mark.parametrize("path", ["campaigns/1/", "campaigns/", "nothing/", ""])
def test_without_a_valid_key_there_is_nothing(alpha: Agency, beta: Agency, path: str, secret: str) -> None:
    response = at(alpha).get(f"/api/v1/{path}", headers={"authorization": f"Bearer {secret}"} if secret else {})

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] in {"not_authenticated", "authentication_failed"}


def test_a_key_ends_with_its_time_its_user_and_its_agency(
    alpha: Agency, beta: Agency, carol: User, oscar: User
) -> None:
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 1))
    path = f"campaigns/{campaign.pk}/"
    assert got(alpha, path, key(alpha, carol, NOON - timedelta(days=999)))[0] == 401
    assert got(alpha, path, key(beta, oscar))[0] == 401
    secret = key(alpha, carol)
    assert got(alpha, path, secret)[0] == 200
    with context.entered(alpha):
        User.objects.update(is_active=False)
    assert got(alpha, path, secret)[0] == 401


def test_a_session_is_no_key(alpha: Agency, beta: Agency, carol: User) -> None:
    assert at(alpha, carol).get("/api/v1/campaigns/").status_code == 401


def test_the_outsider_gets_the_404_of_a_campaign_that_does_not_exist(
    alpha: Agency, beta: Agency, carol: User, oscar: User
) -> None:
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 1))
    secret = key(beta, oscar)

    theirs = got(beta, f"campaigns/{campaign.pk}/", secret)

    assert theirs == got(beta, "campaigns/999999/", secret)
    assert theirs[0] == 404
    assert theirs[1]["error"]["code"] == "not_found"
    assert got(beta, "campaigns/", secret)[1]["results"] == []


@pytest.mark.parametrize("path", ["campaigns/x/", "campaigns/99999999999999999999999/", "nothing", ""])
def test_an_address_that_is_none_answers_in_the_same_shape(alpha: Agency, beta: Agency, carol: User, path: str) -> None:
    status, told = got(alpha, path, key(alpha, carol))

    assert status == 404
    assert set(told["error"]) == {"code", "message", "fields"}


def test_it_is_read_only(alpha: Agency, beta: Agency, carol: User) -> None:
    headers = {"authorization": f"Bearer {key(alpha, carol)}"}

    response = at(alpha).post("/api/v1/campaigns/", {}, headers=headers)

    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_the_list_has_pages_and_names_each_campaign(alpha: Agency, beta: Agency, carol: User) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1)
        for number in range(3):
            Campaign.objects.create(name=f"Number {number}", list=people)

    status, told = got(alpha, "campaigns/?page_size=2", key(alpha, carol))

    assert status == 200
    assert told["count"] == 3
    assert [one["name"] for one in told["results"]] == ["Number 2", "Number 1"]
    assert told["next"] == "http://alpha.localhost/api/v1/campaigns/?page=2&page_size=2"
