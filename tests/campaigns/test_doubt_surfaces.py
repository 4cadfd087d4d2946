"""What people and programs see of mails in doubt, and how they end it: the same everywhere."""

from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import ANY

import pytest
import time_machine
from django.urls import reverse

from campaigns import dispatch, launch, lifecycle
from campaigns.explain import explain
from campaigns.models import Message
from providers.accounts.models import Account, Allotment
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, at, body

SOON = NOON + timedelta(minutes=6)


@pytest.fixture
def doubted(alpha: Agency, beta: Agency) -> Iterator[list[Message]]:
    """Three mails of Alpha in doubt, and one of Beta, at an account that cannot be asked."""
    account = stage.accounts()["smtp"]
    with time_machine.travel(SOON, tick=False):
        found = {agency.slug: in_doubt(agency, account, count) for agency, count in ((alpha, 3), (beta, 1))}
        yield found["alpha"]
    with context.entered(beta):
        assert list(Message.objects.values_list("status", flat=True)) == ["unknown"]


def in_doubt(agency: Agency, account: Account, count: int) -> list[Message]:
    stage.allot(agency, account)
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    with context.entered(agency):
        launch.launch(stage.campaign(stage.contact_list(agency.slug, count)), now=NOON)
        lifecycle.begin(dispatch.claim_batch(agency, allotment, now=NOON, limit=count), now=NOON)
        lifecycle.rescue(now=SOON)
        return list(Message.objects.order_by("pk"))


def ended(agency: Agency, message: Message) -> tuple[str, list[tuple[str, str]]]:
    with context.entered(agency):
        message.refresh_from_db()
        return message.status, list(message.doubts.values_list("what", "by"))


def post(visitor: Visitor, mail: Message, action: str, **data: str) -> int:
    address = reverse("campaigns:doubts", args=[mail.campaign_id, action], urlconf="outreach.urls")
    return int(visitor.post(address, data).status_code)


def test_the_campaigns_page_lists_them_with_what_ends_the_doubt(
    alpha: Agency, carol: User, doubted: list[Message]
) -> None:
    page = body(at(alpha, carol).get(f"/campaigns/{doubted[0].campaign_id}/"))
    assert "3 mails in doubt" in page
    assert "alpha0@people.example" in page
    assert "SMTP cannot be asked: a person must decide." in page
    assert page.count("/doubts/send-again/") == page.count("/doubts/count-as-sent/") == 4


def test_a_person_ends_one_doubt_and_then_all(
    alpha: Agency, beta: Agency, carol: User, oscar: User, doubted: list[Message]
) -> None:
    visitor = at(alpha, carol)
    first, second, third = doubted
    assert post(visitor, first, "count-as-sent", message=str(first.key)) == 302
    assert ended(alpha, first) == ("sent", [("counted_as_sent", carol.email)])
    assert ended(alpha, second) == ("unknown", [])
    assert post(visitor, first, "send-again") == 302
    assert ended(alpha, first)[0] == "sent"
    for one in (second, third):
        assert ended(alpha, one) == ("scheduled", [("sent_again", carol.email)])
    assert "in doubt" not in body(visitor.get(f"/campaigns/{first.campaign_id}/")).split('id="progress"')[0]


def test_nobody_else_does_and_not_by_a_visit(
    alpha: Agency, beta: Agency, carol: User, oscar: User, doubted: list[Message]
) -> None:
    first = doubted[0]
    strict = at(alpha, carol)
    strict.handler.enforce_csrf_checks = True
    assert post(strict, first, "send-again") == 403
    assert post(at(alpha, carol), first, "pause") == 404
    assert post(at(alpha, carol), first, "send-again", message="no-key") == 404
    assert strict.get(f"/campaigns/{first.campaign_id}/doubts/send-again/").status_code == 405
    # Whether or not Beta has a campaign of that number: it has no such mail.
    assert post(at(beta, oscar), first, "count-as-sent", message=str(first.key)) in (302, 404)
    assert ended(alpha, first) == ("unknown", [])


def test_programs_end_doubts_too(alpha: Agency, carol: User, doubted: list[Message]) -> None:
    with context.entered(alpha):
        secret = keys.issue(carol, "program")
    first, second, _third = doubted
    headers = {"authorization": f"Bearer {secret}"}
    visitor = at(alpha)
    shown = visitor.get(f"/api/v1/messages/{first.key}/", headers=headers).json()
    assert shown["next"] == "SMTP cannot be asked: a person must decide."
    found = visitor.post(f"/api/v1/messages/{first.key}/count-as-sent/", headers=headers)
    assert (found.status_code, found.json()["status"], found.json()["next"]) == (200, "sent", "")
    again = visitor.post(f"/api/v1/messages/{first.key}/send-again/", headers=headers)
    assert (again.status_code, again.json()) == (409, {"error": {"code": "conflict", "message": ANY, "fields": {}}})
    found = visitor.post(f"/api/v1/messages/{second.key}/send-again/", headers=headers)
    assert (found.status_code, found.json()["status"]) == (200, "scheduled")
    assert ended(alpha, second) == ("scheduled", [("sent_again", carol.email)])


def test_the_admin_ends_doubts_and_shows_who_did(alpha: Agency, carol: User, doubted: list[Message]) -> None:
    first, second, _third = doubted
    visitor = at(alpha, carol)
    chosen = {"action": "count_as_sent", "_selected_action": [first.pk]}
    assert "is counted as sent" in body(visitor.post("/admin/campaigns/message/", chosen, follow=True))
    assert ended(alpha, first) == ("sent", [("counted_as_sent", carol.email)])
    page = body(visitor.get(f"/admin/campaigns/message/{first.pk}/change/"))
    assert "Counted as sent" in page
    assert carol.email in page
    assert "a person must decide" in body(visitor.get(f"/admin/campaigns/message/{second.pk}/change/"))


def test_a_mail_is_explained_with_what_comes_next(alpha: Agency, doubted: list[Message]) -> None:
    with context.entered(alpha):
        told = explain(Message.objects.select_related("campaign", "contact", "account").get(pk=doubted[0].pk), now=SOON)
    assert (told.status, told.code, told.next) == (
        "unknown",
        "in_doubt",
        "SMTP cannot be asked: a person must decide.",
    )
