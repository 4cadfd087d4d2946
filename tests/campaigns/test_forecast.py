"""A forecast agrees with what the real engine then does on the same clock, and says what keeps mails back."""

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import CharField, Count, Value
from django.db.models.functions import Cast, Concat, TruncDate

from campaigns import audit, control, delivery, dispatch, forecast, launch
from campaigns.models import Campaign, Contact, Message
from providers.accounts import health
from providers.accounts.models import Account, Allotment, LedgerRow
from providers.senders import warming
from providers.senders.models import Home, SenderDomain
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at, body

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = date(2026, 11, 24)
OFFICE: dict[str, Any] = {"weekdays": [0, 1, 2, 3, 4], "window_from": time(9), "window_until": time(17)}
Days = dict[date, dict[str, int]]


class Taking:
    """A wire that takes every mail."""

    def send(self, envelope: object, following: object = None) -> str:
        return "id"

    def send_together(self, envelopes: Sequence[object], key: str) -> list[str]:
        return [f"{key}/{number}" for number, _ in enumerate(envelopes)]

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery.adapters, "open", lambda *_, **__: Taking())


def drive(
    agency: Agency,
    days: int,
    *,
    since: datetime = NOON,
    step: timedelta = HOUR,
    every: Callable[[datetime], bool] = bool,
) -> None:
    """Let the real engine work on a clock of its own: as every minute's job does, and every hour's."""
    now = since
    while now < since + days * DAY:
        if now.minute == 0:
            warming.advance(agency.zone, now=now)
        # In an hour there are minutes enough until nothing moves any more.
        while every(now) and ring(now) and step == HOUR:
            pass
        control.finish_done(now=now)
        now += step
    assert audit.audit_quota().drifts == []


def ring(now: datetime) -> bool:
    """A minute's work; whether anything was sent or moved."""
    due = Message.objects.filter(status="scheduled", due_at__lte=now).order_by("account_id")
    accounts = list(due.values_list("account_id", flat=True).distinct())
    busy = False
    while accounts:
        done = dispatch.drain(accounts.pop(0), clock=lambda: now, until=now + timedelta(seconds=30))
        accounts += sorted(done.moved_to)
        busy = busy or done.sent > 0 or bool(done.moved_to)
    return busy


def sent(campaign: Campaign, agency: Agency) -> Days:
    """Mails of each of the agency's days by account."""
    found: Days = {}
    rows = (
        campaign.messages.filter(status="sent")
        .annotate(day=TruncDate("sent_at", tzinfo=agency.zone))
        .values_list("day", "account__name")
        .annotate(count=Count("pk"))
    )
    for day, name, count in rows:
        found.setdefault(day, {})[name] = count
    return found


def foreseen(found: forecast.Forecast) -> Days:
    return {one.day: one.accounts for one in found.days if one.total}


def bounds(found: forecast.Forecast) -> list[str]:
    return [one.limit for one in found.days]


@pytest.fixture
def accounts(alpha: Agency) -> dict[str, Account]:
    return stage.accounts()


def draft(name: str, count: int, **fields: Any) -> Campaign:
    return stage.campaign(stage.contact_list(name, count), **{"traffic_class": "bulk", **fields})


def agreed(campaign: Campaign, agency: Agency, days: int, **how: Any) -> forecast.Forecast:
    """Foresee the draft, launch it, let the engine work, and compare every day and account, to the mail."""
    before = forecast.forecast(campaign, now=NOON)
    launch.launch(campaign, now=NOON)
    assert forecast.forecast(campaign, now=NOON) == before
    drive(agency, days, **how)
    assert sent(campaign, agency) == foreseen(before)
    return before


def test_the_accounts_day_binds(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=15)
    stage.allot(alpha, accounts["smtp"])
    with context.entered(alpha):
        found = agreed(draft("a", 40), alpha, 4)
    assert bounds(found) == ["account_day", "account_day", "nothing_left"]
    assert found.finishes_on == date(2026, 11, 26)


def test_full_accounts_hand_on_to_those_with_room(alpha: Agency, accounts: dict[str, Account]) -> None:
    limits = {"resend": 3, "sendgrid": 7, "smtp": 11}
    for name, per_day in limits.items():
        Account.objects.filter(name=name).update(per_day=per_day)
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        found = agreed(draft("a", 70, distribution="even"), alpha, 6)
    assert foreseen(found)[date(2026, 11, 25)] == limits


def test_a_campaign_can_wait_for_its_planned_accounts(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.filter(name="resend").update(per_day=3)
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        found = agreed(draft("a", 30, distribution="even", overflow="wait"), alpha, 5)
    assert [one.accounts for one in found.days] == [{"resend": 3, "sendgrid": 10, "smtp": 10}] + 2 * [{"resend": 3}] + [
        {"resend": 1}
    ]


def test_the_month_binds_and_the_share_of_an_account(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.filter(name="smtp").update(per_month=13)
    Account.objects.filter(name="resend").update(per_day=90)
    stage.allot(alpha, accounts["smtp"], per_month=20)
    with context.entered(alpha):
        found = agreed(draft("a", 20), alpha, 9)
    assert bounds(found)[0] == "account_month"
    assert found.days[-1].day == date(2026, 12, 1)
    Allotment.objects.update(per_month=None)
    Account.objects.update(per_month=None)
    Allotment.objects.update(per_day=5)
    with context.entered(alpha):
        later = forecast.forecast(draft("b", 20), now=NOON + 9 * DAY)
    assert set(bounds(later)) == {"allotment", "nothing_left"}
    assert [one.total for one in later.days] == [5, 5, 5, 5]


def test_senders_and_their_24_hours_bind(alpha: Agency, accounts: dict[str, Account]) -> None:
    stage.allot(alpha, accounts["smtp"], senders=3, per_day=4, domains=2)
    with context.entered(alpha):
        found = agreed(draft("a", 40), alpha, 6)
    assert bounds(found) == ["senders"] * 3 + ["nothing_left"]


def test_the_domain_binds(alpha: Agency, accounts: dict[str, Account]) -> None:
    stage.allot(alpha, accounts["smtp"])
    with context.entered(alpha):
        SenderDomain.objects.filter(name__startswith="smtp0").update(per_day=3)
        SenderDomain.objects.filter(name__startswith="smtp1").update(per_day=5)
        found = agreed(draft("a", 30), alpha, 6)
    assert bounds(found) == ["domain_day"] * 3 + ["nothing_left"]


def test_accounts_share_the_senders_of_a_domain(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=6)
    stage.allot(alpha, accounts["smtp"], accounts["resend"], senders=2, per_day=7, domains=1)
    with context.entered(alpha):
        shared = SenderDomain.objects.get(name__startswith="smtp")
        SenderDomain.objects.exclude(pk=shared.pk).update(per_day=2)
        Home.objects.create(domain=shared, account=accounts["resend"])
        agreed(draft("a", 50, distribution="even"), alpha, 6)


def test_domains_warm_up_step_by_step(alpha: Agency, accounts: dict[str, Account]) -> None:
    stage.allot(alpha, accounts["smtp"], senders=2, per_day=50, domains=1)
    with context.entered(alpha):
        SenderDomain.objects.update(
            warmup_started_on=TODAY, warmup_plan=[2, 4, 9], warmup_domain_plan=[3, 8, 13], warmup_step=1
        )
        found = agreed(draft("a", 60, window_from=time(9)), alpha, 6)
    assert [one.total for one in found.days] == [3, 8, 13, 36]
    assert bounds(found) == ["warmup"] * 3 + ["nothing_left"]


def test_windows_weekends_holidays_and_new_contacts_bind(alpha: Agency, accounts: dict[str, Account]) -> None:
    stage.allot(alpha, accounts["smtp"])
    with context.entered(alpha):
        # Thanksgiving is on Thursday the 26th.
        found = agreed(draft("a", 40, new_contacts_per_day=12, holidays="US", **OFFICE), alpha, 8)
    days = [(one.day.day, one.total, one.limit) for one in found.days]
    assert days == [
        (24, 12, "new_contacts"),
        (25, 12, "new_contacts"),
        (26, 0, "holiday"),
        (27, 12, "new_contacts"),
        (28, 0, "window"),
        (29, 0, "window"),
        (30, 4, "nothing_left"),
    ]


def test_the_window_can_be_the_recipients(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=9)
    stage.allot(alpha, accounts["smtp"], accounts["resend"])
    with context.entered(alpha):
        made = draft("a", 50, window_zone="recipient", distribution="even", **OFFICE)
        zones = ["America/Los_Angeles", "Asia/Kolkata", "", "No/Where", "Australia/Lord_Howe"]
        for number, person in enumerate(Contact.objects.order_by("pk")):
            Contact.objects.filter(pk=person.pk).update(attributes={"timezone": zones[number % 5]})
        agreed(made, alpha, 7, step=30 * MINUTE)


def test_a_cap_holds_for_each_recipient_domain(alpha: Agency, accounts: dict[str, Account]) -> None:
    stage.allot(alpha, accounts["smtp"])
    with context.entered(alpha):
        made = draft("a", 30, per_domain_per_day=3)
        for number, person in enumerate(Contact.objects.order_by("pk")[:20]):
            Contact.objects.filter(pk=person.pk).update(email=f"x{number}@d{number % 6}.example")
        found = agreed(made, alpha, 6)
    assert [one.total for one in found.days] == [21, 5, 3, 1]
    assert bounds(found)[0] == "recipient_domain"


def test_the_mails_of_older_campaigns_go_first(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=10)
    stage.allot(alpha, accounts["smtp"], accounts["resend"])
    with context.entered(alpha):
        for name, fields in {"o": {"overflow": "wait"}, "p": {"new_contacts_per_day": 4}}.items():
            launch.launch(draft(name, 14, **fields), now=NOON - HOUR)
        agreed(draft("a", 25, distribution="even"), alpha, 5)


def test_what_a_blocked_account_has_goes_through_the_others(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=10)
    stage.allot(alpha, *accounts.values())
    health.block(accounts["smtp"].pk, "suspended", now=NOON)
    with context.entered(alpha):
        found = agreed(draft("a", 30, distribution="even", overflow="wait"), alpha, 4)
    assert all("smtp" not in one.accounts for one in found.days)


@pytest.mark.parametrize(("gap", "jitter", "off"), [(600, 0, 0), (540, 300, 3), (30, 0, 0)])
def test_the_gap_binds(alpha: Agency, accounts: dict[str, Account], gap: int, jitter: int, off: int) -> None:
    """To the mail where gaps are all alike; else as many as they are on average, within a few."""
    stage.allot(alpha, accounts["smtp"], senders=6, domains=2)
    hours = {"window_from": time(9), "window_until": time(9, 45)}
    with context.entered(alpha):
        made = draft("a", 120, gap_seconds=gap, gap_jitter_seconds=jitter, **hours)
        before = forecast.forecast(made, now=NOON)
        launch.launch(made, now=NOON)
        drive(alpha, 1, step=MINUTE, every=lambda now: now.hour == 8 and now.minute < 50)
        ((day, really),) = sent(made, alpha).items()
    first = next(one for one in before.days if one.total)
    assert (first.day, first.limit) == (day, "gap" if gap > 30 else "nothing_left")
    assert abs(first.total - really["smtp"]) <= off


def test_a_newsletter_behind_cold_mails_is_foreseen_to_keep_their_gap(
    alpha: Agency, accounts: dict[str, Account]
) -> None:
    stage.allot(alpha, accounts["smtp"], senders=6, domains=2)
    hours = {"window_from": time(9), "window_until": time(9, 45)}
    with context.entered(alpha):
        cold = draft("a", 24, gap_seconds=600, new_contacts_per_day=6, **hours)
        launch.launch(cold, now=NOON)
        made = draft("b", 60, **hours)
        before = forecast.forecast(made, now=NOON)
        launch.launch(made, now=NOON)
        drive(alpha, 1, step=MINUTE, every=lambda now: now.hour == 8 and now.minute < 50)
        ((_day, really),) = sent(made, alpha).items()
    first = next(one for one in before.days if one.total)
    assert really["smtp"] == 24
    assert (first.limit, first.total) == ("gap", really["smtp"])


@pytest.mark.parametrize("until", [None, time(11)])
def test_the_senders_hours_bind(alpha: Agency, accounts: dict[str, Account], until: time | None) -> None:
    """Five mails an hour, and ten where the window has but two."""
    stage.allot(alpha, accounts["smtp"], senders=3, per_day=20, per_hour=None)
    with context.entered(alpha):
        found = agreed(draft("a", 150, window_until=until), alpha, 4)
    assert found.days[-2].limit == "senders"


def test_a_run_that_has_begun_is_foreseen_to_its_end(alpha: Agency, accounts: dict[str, Account]) -> None:
    """What was sent today counts: in the accounts' days, the senders' 24 hours, and the caps."""
    Account.objects.update(per_day=16)
    stage.allot(alpha, accounts["smtp"], senders=3, per_day=5)
    with context.entered(alpha):
        made = draft("a", 45, new_contacts_per_day=14, per_domain_per_day=13)
        Contact.objects.filter(pk__in=Contact.objects.order_by("pk")[:4]).update(
            email=Concat(Cast("pk", CharField()), Value("@d.example"))
        )
        launch.launch(made, now=NOON)
        drive(alpha, 1)
        rest = forecast.forecast(made, now=NOON + DAY)
        before = sent(made, alpha)
        drive(alpha, 4, since=NOON + DAY)
        came = {
            day: sum(counts.values()) - sum(before.get(day, {}).values()) for day, counts in sent(made, alpha).items()
        }
    assert {one.day: one.total for one in rest.days if one.total} == {
        day: count for day, count in came.items() if count
    }


def test_it_costs_the_accounts_days_and_the_mails_beyond_those_within_their_price(
    alpha: Agency, accounts: dict[str, Account]
) -> None:
    Account.objects.filter(name="smtp").update(
        per_day=10, monthly_price=Decimal(30), included_per_month=25, mail_price=Decimal("0.05")
    )
    stage.allot(alpha, accounts["smtp"])
    LedgerRow.objects.create(account=accounts["smtp"], period="day", starts=date(2026, 11, 2), allowed=9, used=9)
    with context.entered(alpha):
        found = forecast.forecast(draft("a", 40), now=NOON)
    # Four of November's thirty days; 9 mails and these 40 are 24 more than are within the price.
    assert found.cost == forecast.Cost(rent=Decimal("4.00"), mails=Decimal("1.20"))
    assert found.cost.total == Decimal("5.20")


def test_it_says_what_still_goes_if_an_account_dies(alpha: Agency, accounts: dict[str, Account]) -> None:
    for name, per_day in {"resend": 10, "sendgrid": 30, "smtp": 60}.items():
        Account.objects.filter(name=name).update(per_day=per_day)
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        found = forecast.forecast(draft("a", 300), now=NOON)
        older = draft("o", 50)
        launch.launch(older, now=NOON)
        beside = forecast.forecast(draft("b", 60), now=NOON)
    assert {one.account: one.percent for one in found.without} == {"resend": 90, "sendgrid": 70, "smtp": 40}
    assert {one.day for one in found.without} == {TODAY}
    # Of all mails: those of the older campaign go first, and so a campaign of its own would tell another story.
    assert {one.account: one.percent for one in beside.without} == {"resend": 90, "sendgrid": 70, "smtp": 40}


def test_the_error_is_what_came_beside_what_was_foreseen(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=10)
    stage.allot(alpha, accounts["smtp"])
    with context.entered(alpha):
        made = draft("a", 30)
        launch.launch(made, now=NOON)
        # The operator halves the account: it takes twice as long.
        Account.objects.update(per_day=5)
        drive(alpha, 2)
        made.refresh_from_db()
        running = forecast.report(made, now=NOON + 2 * DAY)
        drive(alpha, 5, since=NOON + 2 * DAY)
        made.refresh_from_db()
        over = forecast.report(made, now=NOON + 9 * DAY)
    assert running.forecast is not None
    assert running.outcome is not None
    assert (running.outcome.foreseen_on, running.outcome.finishes_on) == (date(2026, 11, 26), date(2026, 11, 29))
    assert (running.outcome.days_late, running.outcome.error_percent) == (3, -50)
    assert over.forecast is None
    assert over.outcome is not None
    assert (over.outcome.finishes_on, over.outcome.days_late, over.outcome.error_percent) == (date(2026, 11, 29), 3, 0)
    assert [(one.foreseen, one.sent) for one in over.outcome.days] == [(10, 5)] * 3 + [(0, 5)] * 3


def test_it_says_plainly_what_is_wrong(alpha: Agency, accounts: dict[str, Account]) -> None:
    def problems(**fields: Any) -> list[str]:
        return forecast.forecast(draft(f"l{Campaign.objects.count()}", 200, **fields), now=NOON).problems

    with context.entered(alpha):
        assert problems() == [launch_refusal(Campaign.objects.latest("pk"))]
    stage.allot(alpha, accounts["smtp"], senders=1)
    with context.entered(alpha):
        assert problems() == []
        assert "more than three months" in problems(new_contacts_per_day=1)[0]
        empty = forecast.forecast(draft("empty", 0), now=NOON)
    assert (empty.mails, empty.days, len(empty.problems)) == (0, [], 1)


def launch_refusal(campaign: Campaign) -> str:
    with pytest.raises(launch.LaunchRefusedError) as refused:
        launch.launch(campaign, now=NOON)
    return str(refused.value)


def test_every_surface_tells_it(alpha: Agency, beta: Agency, carol: User, accounts: dict[str, Account]) -> None:
    Account.objects.update(per_day=10, monthly_price=30)
    for agency in (alpha, beta):
        stage.allot(agency, accounts["smtp"])
    with context.entered(alpha):
        made = draft("a", 25)
        secret = keys.issue(carol, "program")

    def asked() -> Any:
        by_key = {"authorization": f"Bearer {secret}"}
        return at(alpha).get(f"/api/v1/campaigns/{made.pk}/forecast/", headers=by_key).json()

    with time_machine.travel(NOON, tick=False):
        answer = asked()
        out = StringIO()
        call_command("forecast", str(made.pk), "--agency", "alpha", "--json", stdout=out)
        page = at(alpha, carol).get(f"/campaigns/{made.pk}/forecast/")
        with pytest.raises(CommandError, match="Beta has no campaign"):
            call_command("forecast", str(made.pk), "--agency", "beta")
        call_command("forecast", str(made.pk), "--agency", "alpha")
    assert answer["outcome"] is None
    days = [(one["day"], one["accounts"], one["limit"]) for one in answer["forecast"]["days"]]
    assert days == [
        ("2026-11-24", {"smtp": 10}, "account_day"),
        ("2026-11-25", {"smtp": 10}, "account_day"),
        ("2026-11-26", {"smtp": 5}, "nothing_left"),
    ]
    printed = json.loads(out.getvalue())["forecast"]
    assert printed["days"] == answer["forecast"]["days"]
    # What the operator rents costs the agency what they agree on.
    assert (float(printed["cost"]["total"]) > 0, answer["forecast"]["cost"]) == (True, None)
    assert "Cost" not in body(page)
    Account.objects.update(owner=alpha)
    with time_machine.travel(NOON, tick=False):
        answer = asked()
        own = body(at(alpha, carol).get(f"/campaigns/{made.pk}/forecast/"))
    assert answer["forecast"]["cost"] == printed["cost"]
    assert "Cost of your own accounts" in own
    assert "Nov. 26, 2026" in body(page)
    with context.entered(alpha), time_machine.travel(NOON, tick=False):
        launch.launch(made, now=NOON)
    with time_machine.travel(NOON, tick=False):
        launched = body(at(alpha, carol).get(f"/campaigns/{made.pk}/forecast/"))
    assert "Forecast at launch" in launched
    assert "as foreseen" in launched


def test_a_launch_does_not_fail_for_its_forecast(
    alpha: Agency, accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.allot(alpha, accounts["smtp"])

    def broken(*_: object, **__: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    monkeypatch.setattr(forecast, "simulate", broken)
    with context.entered(alpha):
        made = draft("a", 5)
        assert launch.launch(made, now=NOON).total == 5
        assert forecast.outcome(made, now=NOON) is None
