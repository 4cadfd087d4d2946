"""A campaign keeps its days, hours, holidays and daily caps, and what waits for them says so."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from campaigns import audit, caps, control, dispatch, launch, lifecycle, paced
from campaigns.caps import Cap, Mail
from campaigns.models import Campaign, CampaignDay, Contact, Message, RecipientDay, Step
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

TODAY = date(2026, 11, 24)
# Berlin, where Alpha is, is an hour ahead of UTC.
OPENS = datetime(2026, 11, 25, 8, tzinfo=UTC)
MIDNIGHT_IN_BERLIN = datetime(2026, 11, 24, 23, tzinfo=UTC)
EVENING = datetime(2026, 11, 24, 17, tzinfo=UTC)
OFFICE: dict[str, Any] = {"weekdays": [0, 1, 2, 3, 4], "window_from": time(9), "window_until": time(17)}


@pytest.fixture
def smtp(alpha: Agency) -> Iterator[Account]:
    found = stage.accounts()["smtp"]
    stage.allot(alpha, found)
    with context.entered(alpha):
        yield found


def launched(name: str, count: int = 6, **fields: Any) -> Campaign:
    domain = fields.pop("domain", "people.example")
    made = stage.campaign(stage.contact_list(name, count, domain=domain), traffic_class="bulk", **fields)
    launch.launch(made, now=NOON)
    return made


def claim(agency: Agency, account: Account, now: datetime = NOON, limit: int = 100) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=now, limit=limit)


def waiting() -> set[tuple[str, datetime]]:
    return set(Message.objects.filter(status="scheduled").values_list("reason", "due_at"))


def test_a_closed_campaign_gives_nothing_and_an_open_one_behind_it_does(alpha: Agency, smtp: Account) -> None:
    launched("a", **OFFICE)
    behind = launched("b", 2)
    assert {message.campaign_id for message in claim(alpha, smtp, EVENING)} == {behind.pk}
    assert len(claim(alpha, smtp, OPENS)) == 6


@pytest.mark.parametrize(
    ("fields", "now", "reason", "until"),
    [
        (OFFICE, EVENING, Reason.OUTSIDE_WINDOW, OPENS),
        ({**OFFICE, "timezone": "Asia/Tokyo"}, NOON, Reason.OUTSIDE_WINDOW, datetime(2026, 11, 25, tzinfo=UTC)),
        ({"weekdays": [5]}, NOON, Reason.OUTSIDE_WINDOW, datetime(2026, 11, 27, 23, tzinfo=UTC)),
        (
            {**OFFICE, "holidays": "DE"},
            datetime(2026, 12, 25, 12, tzinfo=UTC),
            Reason.HOLIDAY,
            datetime(2026, 12, 28, 8, tzinfo=UTC),
        ),
    ],
)
def test_what_waits_for_a_window_is_due_when_it_opens_and_says_why(
    alpha: Agency, smtp: Account, fields: dict[str, Any], now: datetime, reason: Reason, until: datetime
) -> None:
    launched("a", **fields)
    assert claim(alpha, smtp, now) == []
    assert paced.set_aside(alpha, smtp.pk, now=now) == 6
    assert waiting() == {(reason, until)}
    assert paced.set_aside(alpha, smtp.pk, now=until) == 0
    assert len(claim(alpha, smtp, until)) == 6
    assert set(Message.objects.values_list("reason", flat=True)) == {""}


def test_a_window_can_be_the_recipients(alpha: Agency, smtp: Account) -> None:
    made = launched("a", 4, window_zone="recipient", **OFFICE)
    zones = ["America/Los_Angeles", "Asia/Tokyo", "No/Where", 7]
    for person, zone in zip(Contact.objects.order_by("pk"), zones, strict=True):
        Contact.objects.filter(pk=person.pk).update(attributes={"timezone": zone})
    # 13:00 in Berlin, which also stands for the two that do not exist; 4:00 in Los Angeles, 21:00 in Tokyo.
    batch = claim(alpha, smtp)
    assert [message.contact["timezone"] for message in batch] == ["No/Where", 7]
    assert paced.set_aside(alpha, smtp.pk, now=NOON) == 2
    assert waiting() == {
        (Reason.OUTSIDE_WINDOW, datetime(2026, 11, 24, 17, tzinfo=UTC)),
        (Reason.OUTSIDE_WINDOW, datetime(2026, 11, 25, tzinfo=UTC)),
    }
    assert made.messages.filter(due_at__lte=NOON).count() == 2


def test_a_drain_goes_past_what_waits(alpha: Agency) -> None:
    with Sandbox() as sandbox:
        found = stage.accounts(sandbox)["smtp"]
        stage.allot(alpha, found)
        with context.entered(alpha):
            capped = launched("a", 150, new_contacts_per_day=120)
            closed, behind = launched("b", 5, **OFFICE), launched("c", 5)
            done = dispatch.drain(found.pk, clock=lambda: EVENING, until=EVENING + timedelta(seconds=15))
            assert done.sent == 125
            assert [stage.statuses(one) for one in (capped, closed, behind)] == [
                {"sent": 120, "scheduled": 30},
                {"scheduled": 5},
                {"sent": 5},
            ]
            assert waiting() == {(Reason.CAMPAIGN_DAY_SPENT, MIDNIGHT_IN_BERLIN), (Reason.OUTSIDE_WINDOW, OPENS)}
            assert audit.audit_quota().drifts == []


def test_a_cap_on_new_contacts_leaves_follow_ups_alone(alpha: Agency, smtp: Account) -> None:
    made = launched("a", 6, new_contacts_per_day=2)
    second = Step.objects.create(campaign=made, position=2, subject="Again", text="Again")
    Message.objects.filter(pk__in=Message.objects.order_by("-pk").values("pk")[:3]).update(step=second)
    assert sorted(message.step_id == second.pk for message in claim(alpha, smtp)) == [False] * 2 + [True] * 3
    assert (CampaignDay.objects.get().used, CampaignDay.objects.get().allowed) == (2, 2)
    assert claim(alpha, smtp) == []
    # The agency's next day begins in its own zone.
    assert claim(alpha, smtp, MIDNIGHT_IN_BERLIN - timedelta(seconds=1)) == []
    assert len(claim(alpha, smtp, MIDNIGHT_IN_BERLIN)) == 1


def test_a_cap_holds_for_each_recipient_domain(alpha: Agency, smtp: Account) -> None:
    made = launched("a", 5, per_domain_per_day=2)
    Contact.objects.filter(email="a4@people.example").update(email="a4@Other.Example")
    batch = claim(alpha, smtp)
    assert sorted(message.contact["email"] for message in batch) == [
        "a0@people.example",
        "a1@people.example",
        "a4@Other.Example",
    ]
    assert {row.domain: row.used for row in RecipientDay.objects.all()} == {"people.example": 2, "other.example": 1}
    assert paced.set_aside(alpha, smtp.pk, now=NOON) == 2
    assert waiting() == {(Reason.RECIPIENT_DOMAIN_SPENT, MIDNIGHT_IN_BERLIN)}
    assert made.messages.filter(status="claimed").count() == 3


def test_what_was_surely_not_sent_is_given_back_to_the_caps(alpha: Agency, smtp: Account) -> None:
    launched("a", 5, new_contacts_per_day=3, per_domain_per_day=4)
    failed, again, doubted = claim(alpha, smtp)
    lifecycle.fail(failed, Reason.RECIPIENT_REFUSED, "no such user")
    lifecycle.reschedule(again, due_at=NOON, reason=Reason.THROTTLED)
    lifecycle.doubt(doubted, "no answer")
    assert CampaignDay.objects.get().used == RecipientDay.objects.get().used == 1
    assert len(claim(alpha, smtp, NOON + timedelta(minutes=1))) == 2
    assert CampaignDay.objects.get().used == RecipientDay.objects.get().used == 3


def test_a_mail_without_a_seat_uses_no_cap(alpha: Agency, smtp: Account) -> None:
    launched("a", 5, new_contacts_per_day=3)
    Account.objects.filter(pk=smtp.pk).update(per_day=1)
    assert len(claim(alpha, smtp)) == 1
    assert CampaignDay.objects.get().used == 1


def test_a_campaign_without_caps_has_no_rows(alpha: Agency, smtp: Account) -> None:
    launched("a", **OFFICE)
    assert len(claim(alpha, smtp)) == 6
    assert not CampaignDay.objects.exists()
    assert not RecipientDay.objects.exists()


def test_the_database_refuses_what_the_lock_should_have(alpha: Agency, smtp: Account) -> None:
    made = launched("a", 5, new_contacts_per_day=3, per_domain_per_day=3)
    step = made.steps.get().pk
    mails = [Mail(made.pk, step, "people.example")] * 4
    for cap in (Cap(made.pk, step, 3, None), Cap(made.pk, step, None, 3)):
        caps.lock({made.pk: cap}, mails, day=TODAY)
        with pytest.raises(IntegrityError, match="used_within_allowed"), transaction.atomic():
            caps.spend({made.pk: cap}, mails, day=TODAY)


def test_a_paused_campaign_is_not_set_aside(alpha: Agency, smtp: Account) -> None:
    made = launched("a", **OFFICE)
    control.pause(made)
    assert paced.set_aside(alpha, smtp.pk, now=EVENING) == 0
