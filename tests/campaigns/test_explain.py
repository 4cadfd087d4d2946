"""One mail and one answer, whoever asks: the page, a program, a command; and the proof that no mail lacks one."""

import json
from datetime import UTC, datetime, time, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.core.management import CommandError, call_command

from campaigns import dispatch, launch, lifecycle, mail_audit
from campaigns.explain import explain
from campaigns.models import Campaign, Contact, Enrollment, Message
from campaigns.progress import progress
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at, body

MIDNIGHT_IN_BERLIN = datetime(2026, 11, 24, 23, tzinfo=UTC)
NINE_IN_BERLIN = datetime(2026, 11, 25, 8, tzinfo=UTC)


@pytest.fixture
def smtp(alpha: Agency) -> Account:
    found = stage.accounts()["smtp"]
    stage.allot(alpha, found)
    return found


def launched(count: int = 6, **fields: Any) -> Campaign:
    made = stage.campaign(stage.contact_list("a", count), traffic_class="bulk", **fields)
    launch.launch(made, now=NOON)
    return made


def claim(agency: Agency, account: Account, limit: int) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=NOON, limit=limit)


def reasons(campaign: Campaign, now: datetime) -> dict[str, tuple[int, datetime | None]]:
    """As the campaign's page tells them, after the promise that they add up and that each mail says the same."""
    report = progress(campaign, now=now)
    assert report.total == campaign.messages.count() == report.sent + sum(one.count for one in report.reasons)
    each: dict[str, int] = {}
    for message in campaign.messages.exclude(status="sent"):
        code = explain(message, now=now).code
        each[code] = each.get(code, 0) + 1
    assert each == {one.code: one.count for one in report.reasons}
    return {one.code: (one.count, one.clears_at) for one in report.reasons}


@pytest.mark.parametrize(
    ("fields", "now", "expected"),
    [
        ({"window_from": time(9)}, datetime(2026, 11, 25, tzinfo=UTC), {Reason.OUTSIDE_WINDOW: (6, NINE_IN_BERLIN)}),
        (
            {"holidays": "DE"},
            datetime(2026, 12, 25, 12, tzinfo=UTC),
            {Reason.HOLIDAY: (6, datetime(2026, 12, 26, 23, tzinfo=UTC))},
        ),
        (
            {"new_contacts_per_day": 2},
            NOON,
            {Reason.SENDING: (2, None), Reason.CAMPAIGN_DAY_SPENT: (4, MIDNIGHT_IN_BERLIN)},
        ),
        (
            {"per_domain_per_day": 2},
            NOON,
            {Reason.SENDING: (2, None), Reason.RECIPIENT_DOMAIN_SPENT: (4, MIDNIGHT_IN_BERLIN)},
        ),
    ],
)
def test_what_the_campaign_itself_keeps_is_told_before_and_after_it_is_set_aside(
    alpha: Agency, smtp: Account, fields: dict[str, Any], now: datetime, expected: dict[str, Any]
) -> None:
    with context.entered(alpha):
        made = launched(**fields)
        if now == NOON:
            claim(alpha, smtp, 100)
        assert reasons(made, now) == expected
        dispatch.paced.set_aside(alpha, smtp.pk, now=now)
        assert reasons(made, now) == expected


def test_the_window_of_each_recipient_is_told(alpha: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        made = launched(3, window_zone="recipient", window_from=time(9), window_until=time(17))
        for person, zone in zip(Contact.objects.order_by("pk"), ["Asia/Tokyo", "", "America/Lima"], strict=True):
            Contact.objects.filter(pk=person.pk).update(attributes={"timezone": zone})
        # 21:00 in Tokyo, 13:00 in Berlin, 7:00 in Lima.
        lima = datetime(2026, 11, 24, 14, tzinfo=UTC)
        assert reasons(made, NOON) == {Reason.OUTSIDE_WINDOW: (2, lima), Reason.IN_QUEUE: (1, None)}


def test_a_mail_is_told_with_its_numbers_and_its_history(alpha: Agency, beta: Agency, smtp: Account) -> None:
    stage.allot(beta, smtp)
    with context.entered(beta):
        launched()
        claim(beta, smtp, 5)
    with context.entered(alpha):
        made = launched(new_contacts_per_day=3, per_domain_per_day=9)
        first, *_others = claim(alpha, smtp, 2)
        lifecycle.reschedule(
            first, due_at=NOON + timedelta(hours=1), reason=Reason.ACCOUNTS_REFUSED, refused_by=[smtp.pk]
        )
        told = explain(made.messages.get(pk=first.id), now=NOON)
    assert (told.status, told.code, told.clears_at) == (
        "scheduled",
        Reason.ACCOUNTS_REFUSED,
        NOON + timedelta(hours=1),
    )
    assert (told.attempts, told.refused_by, told.account, told.to) == (1, ["smtp"], "smtp", "a0@people.example")
    # What Beta has sent through the same account is nowhere among them.
    assert [(number.used, number.allowed) for number in told.numbers] == [(1, 3), (1, 9), (1, smtp.per_day), (1, 200)]


def test_page_program_and_command_tell_the_same(alpha: Agency, beta: Agency, carol: User, smtp: Account) -> None:
    with context.entered(alpha):
        made = launched(2, window_from=time(9), window_until=time(12))
        message = made.messages.earliest("pk")
        made.messages.filter(pk=message.pk).update(variant="B")
        secret = keys.issue(carol, "program")
    with time_machine.travel(NOON, tick=False):
        answer = at(alpha).get(f"/api/v1/messages/{message.key}/", headers={"authorization": f"Bearer {secret}"})
        page = body(at(alpha, carol).get(f"/admin/campaigns/message/{message.pk}/change/"))
        out = StringIO()
        call_command("explain", str(message.key), agency="alpha", json=True, stdout=out)
        words = StringIO()
        call_command("explain", str(message.pk), agency="alpha", stdout=words)
    told, commanded = answer.json(), json.loads(out.getvalue())
    assert told["code"] == commanded["code"] == Reason.OUTSIDE_WINDOW
    assert (told["step"], told["variant"]) == (commanded["step"], commanded["variant"]) == (1, "B")
    assert told["clears_at"] == "2026-11-25T09:00:00+01:00"
    assert commanded["clears_at"] == "2026-11-25T08:00:00Z"
    assert told["numbers"] == commanded["numbers"]
    assert str(Reason.OUTSIDE_WINDOW.label) in words.getvalue()
    assert str(Reason.OUTSIDE_WINDOW.label) in page


@pytest.mark.parametrize("name", ["12345678", "00000000-0000-4000-8000-000000000000", "neither"])
def test_a_mail_that_is_not_there_is_refused_in_words(alpha: Agency, name: str) -> None:
    with pytest.raises(CommandError, match=name):
        call_command("explain", name, agency="alpha")


def findings() -> list[tuple[str, str, int]]:
    return [(one.agency, one.problem, one.count) for one in mail_audit.audit_mails(now=NOON)]


def test_the_audit_finds_nothing_where_nothing_is_lost(alpha: Agency, beta: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        launched(new_contacts_per_day=3, window_until=time(17))
        sent, doubted, *_others = claim(alpha, smtp, 3)
        lifecycle.sent([(sent, "id")], now=NOON)
        lifecycle.doubt(doubted, "no answer")
    assert findings() == []
    out = StringIO()
    with time_machine.travel(NOON, tick=False):
        call_command("audit_ledger", stdout=out)
    assert out.getvalue() == "0 findings.\n"


def test_the_audit_names_what_is_lost_or_stuck(alpha: Agency, beta: Agency, smtp: Account) -> None:
    with context.entered(alpha):
        made = launched()
        claim(alpha, smtp, 1)
        Message.objects.filter(status="claimed").update(lease_until=NOON - timedelta(minutes=11))
        Message.objects.filter(pk=Message.objects.latest("pk").pk).update(claim=uuid4())
        Enrollment.objects.create(campaign=made, contact=Contact.objects.create(email="new@people.example"))
        Allotment.objects.all().delete()
    assert findings() == [
        ("alpha", "contacts without their first mail", 1),
        ("alpha", "mails that are counted while they wait", 1),
        ("alpha", "mails that wait for an account which the agency may not use", 5),
        ("alpha", "mails whose worker has not come back for ten minutes", 1),
    ]
    out = StringIO()
    with time_machine.travel(NOON, tick=False), pytest.raises(CommandError):
        call_command("audit_ledger", json=True, stdout=out)
    assert len(json.loads(out.getvalue())["findings"]) == 4
