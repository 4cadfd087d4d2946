"""What cannot be is said where it is entered, with its field and the way out: in the portal, both admins, commands."""

from datetime import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from campaigns import launch
from campaigns.models import Campaign
from providers.accounts import ledger
from providers.accounts.models import Account, Allotment
from providers.senders import ledger as senders
from providers.senders.models import Sender, SenderDay, SenderDomain
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, at, body

# Field, what is entered, the option of the command, and what is said.
WRONG: dict[str, tuple[str, Any, list[str], str]] = {
    "no day": ("weekdays", [], ["--days", "9"], ""),
    "ends before it begins": ("window_until", "08:00", ["--until", "08:00"], "The end must be later"),
    "no such zone": ("timezone", "Mars/Olympus", ["--timezone", "Mars/Olympus"], "Mars/Olympus is not a time zone"),
    "no such country": ("holidays", "XX", ["--holidays", "XX"], ""),
    "no contact a day": ("new_contacts_per_day", "0", ["--new-contacts-per-day", "0"], "Write 1 or more, or nothing"),
    "no mail a day": ("per_domain_per_day", "0", ["--per-domain-per-day", "0"], "Write 1 or more, or nothing"),
    "less than no gap": ("gap_seconds", "-1", ["--gap", "-1"], "greater than or equal to 0"),
    "less than no jitter": ("gap_jitter_seconds", "-1", ["--gap-jitter", "-1"], "greater than or equal to 0"),
}


@pytest.fixture
def operator(alpha: Agency, beta: Agency) -> Visitor:
    visitor = Visitor("localhost")
    visitor.force_login(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
    return visitor


def entered(people_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": "Spring",
        "list": people_id,
        "traffic_class": "cold_outreach",
        "distribution": "even",
        "overflow": "reroute",
        "duplicates": "campaign",
        "stop_scope": "campaign",
        "weekdays": [*range(7)],
        "window_zone": "campaign",
        "window_from": "09:00",
        "subject": "Hello",
        "html": "<p>Hello</p>",
        "text": "",
        "shares": "{}",
        "steps-TOTAL_FORMS": "1",
        "steps-INITIAL_FORMS": "0",
        "steps-0-position": "1",
        "steps-0-delay": "3",
        "steps-0-unit": "days",
        "steps-0-otherwise": "next",
        "steps-0-subject": "Hello",
        "steps-0-html": "<p>Hello</p>",
        **changes,
    }


def fields(page: Any) -> dict[str, list[str]]:
    """What a form or an admin page refuses, by field."""
    form = page.context["adminform"].form if "adminform" in page.context else page.context["form"]
    return {name: list(texts) for name, texts in form.errors.items()}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_campaign_that_cannot_be_is_refused_on_every_surface(
    alpha: Agency, account: Account, carol: User, tmp_path: Path, wrong: str
) -> None:
    field, value, option, words = WRONG[wrong]
    html = tmp_path / "mail.html"
    html.write_text("<p>Hello</p>")
    with context.entered(alpha):
        people = stage.contact_list("people", 2)
    visitor = at(alpha, carol)
    for address in ("/campaigns/new/", "/admin/campaigns/campaign/add/"):
        found = fields(visitor.post(address, entered(people.pk, **{field: value})))
        assert list(found) == [field], address
        assert words in found[field][0]
    command = ["launch_campaign", "Spring", "--list", "people", "--subject", "Hello", "--html", str(html)]
    with pytest.raises(CommandError) as refused:
        call_command(*command, "--from", "09:00", *option, agency="alpha", stdout=StringIO())
    assert option[0] in str(refused.value)
    assert words in str(refused.value)
    with context.entered(alpha):
        assert not Campaign.objects.exists()


def test_the_gap_can_be_entered_on_every_surface(alpha: Agency, account: Account, carol: User, tmp_path: Path) -> None:
    html = tmp_path / "mail.html"
    html.write_text("<p>Hello</p>")
    with context.entered(alpha):
        people = stage.contact_list("people", 2)
    chosen = {"gap_seconds": "60", "gap_jitter_seconds": "7"}
    visitor = at(alpha, carol)
    for address in ("/campaigns/new/", "/admin/campaigns/campaign/add/"):
        assert visitor.post(address, entered(people.pk, **chosen)).status_code == 302
    call_command(
        *["launch_campaign", "Spring", "--list", "people", "--subject", "Hello", "--html", str(html)],
        *["--gap", "60", "--gap-jitter", "7", "--days", "0", "1", "--until", "17:00", "--holidays", "DE"],
        agency="alpha",
        stdout=StringIO(),
    )
    with context.entered(alpha):
        made = Campaign.objects.order_by("pk")
        assert set(made.values_list("gap_seconds", "gap_jitter_seconds")) == {(60, 7)}
        assert len(made) == 3
        last = made.latest("pk")
        assert (last.status, last.weekdays, last.window_until, last.holidays) == ("running", [0, 1], time(17), "DE")


def test_days_that_are_all_holidays_are_refused_at_the_country(
    alpha: Agency, account: Account, carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaigns.pace.is_holiday", lambda schedule, now: schedule.country == "DE")
    with context.entered(alpha):
        people = stage.contact_list("people", 2)
        draft = stage.campaign(people, holidays="DE")
        with pytest.raises(launch.LaunchRefusedError, match="Choose other days, hours or holidays"):
            launch.launch(draft, now=NOON)
    for address in ("/campaigns/new/", "/admin/campaigns/campaign/add/"):
        found = fields(at(alpha, carol).post(address, entered(people.pk, holidays="DE")))
        assert found == {
            "holidays": ["All these days are holidays there, so the campaign never sends: choose other days."]
        }


def test_limits_below_one_are_refused_with_what_to_do_instead(
    alpha: Agency, account: Account, carol: User, operator: Visitor
) -> None:
    with context.entered(alpha):
        sender = Sender.objects.earliest("pk")
    told = fields(
        operator.post(
            f"/admin/accounts/account/{account.pk}/change/",
            {
                "name": "smtp",
                "options": "{}",
                "priority": "1",
                "sender_limit": "0",
                "per_day": "0",
                "per_month": "0",
                "monthly_price": "0",
                "allotments-TOTAL_FORMS": "0",
                "allotments-INITIAL_FORMS": "0",
            },
        )
    )
    for name in ("sender_limit", "per_day", "per_month"):
        assert told[name] == ["Write 1 or more; to stop the account, take it out of use instead."]
    share = Allotment.objects.get(account=account, agency=alpha)
    told = fields(
        operator.post(
            f"/admin/accounts/allotment/{share.pk}/change/", {"senders": "4", "per_day": "0", "per_month": "0"}
        )
    )
    for name in ("per_day", "per_month"):
        assert "delete the allotment instead" in told[name][0]
    visitor = at(alpha, carol)
    told = fields(
        visitor.post(
            f"/admin/senders/sender/{sender.pk}/change/", {"account": account.pk, "per_day": "0", "per_hour": "0"}
        )
    )
    assert "switch it off instead" in told["per_day"][0]
    assert "per_hour" in told
    told = fields(
        visitor.post(
            f"/admin/senders/senderdomain/{sender.domain_id}/change/",
            {"per_day": "0", "warmup_step": "1", "homes-TOTAL_FORMS": "0", "homes-INITIAL_FORMS": "0"},
        )
    )
    assert "switch its senders off instead" in told["per_day"][0]
    with context.entered(alpha), pytest.raises(ValidationError) as refused:
        add_senders(share, [("new@new.example", "")], per_day=0, domain_per_day=-1)
    assert set(refused.value.message_dict) == {"per_day", "domain_per_day"}
    assert Account.objects.get(pk=account.pk).per_day == 1000


def notices(page: Any) -> list[str]:
    return [str(message) for message in page.context["messages"]]


def test_a_limit_cut_below_what_was_sent_is_saved_and_said_with_when_it_goes_on(
    alpha: Agency, beta: Agency, account: Account, carol: User, operator: Visitor
) -> None:
    now = timezone.now()
    share = Allotment.objects.get(account=account, agency=alpha)
    ledger.reserve(account, share, 70, now=now)
    entered = {
        "name": "smtp",
        "enabled": "on",
        "options": '{"host": "127.0.0.1"}',
        "priority": "1",
        "sender_limit": "400",
        "per_day": "60",
        "monthly_price": "0",
        "included_per_month": "0",
        "mail_price": "0",
        "allotments-TOTAL_FORMS": "0",
        "allotments-INITIAL_FORMS": "0",
    }
    said = notices(operator.post(f"/admin/accounts/account/{account.pk}/change/", entered, follow=True))
    whole = [text for text in said if text.startswith("smtp, “mails a day”: 60 is less than the 70 sent already")]
    assert len(whole) == 1
    assert "write more than 70" in whole[0]
    assert Account.objects.get(pk=account.pk).per_day == 60
    assert not [text for text in said if "Beta" in text]
    page = operator.post(
        f"/admin/accounts/allotment/{share.pk}/change/", {"senders": "4", "per_day": "50"}, follow=True
    )
    assert [text for text in notices(page) if text.startswith("smtp, “mails a day” (Alpha): 50 is less than the 70")]
    operator.post(f"/admin/accounts/account/{account.pk}/change/", entered | {"per_day": "100"}, follow=True)
    page = operator.post(
        f"/admin/accounts/allotment/{share.pk}/change/", {"senders": "4", "per_day": "70"}, follow=True
    )
    assert not [text for text in notices(page) if "less than" in text]


def test_a_sender_and_a_domain_say_the_same(alpha: Agency, account: Account, carol: User) -> None:
    with context.entered(alpha):
        sender = Sender.objects.earliest("pk")
        day = senders.local_day(timezone.now(), alpha.zone)
        SenderDay.objects.create(sender=sender, day=day, allowed=50, used=30)
        sender.domain.days.create(day=day, allowed=50, used=30)
    visitor = at(alpha, carol)
    page = visitor.post(
        f"/admin/senders/sender/{sender.pk}/change/",
        {"account": account.pk, "per_day": "20", "active": "on"},
        follow=True,
    )
    assert [text for text in notices(page) if "20 is less than the 30 sent today" in text]
    page = visitor.post(
        f"/admin/senders/senderdomain/{sender.domain_id}/change/",
        {"per_day": "20", "warmup_step": "1", "homes-TOTAL_FORMS": "0", "homes-INITIAL_FORMS": "0"},
        follow=True,
    )
    assert [text for text in notices(page) if "20 is less than the 30 sent today" in text]
    with context.entered(alpha):
        assert set(SenderDomain.objects.filter(pk=sender.domain_id).values_list("per_day", flat=True)) == {20}


def test_an_agency_has_a_time_zone_that_exists(alpha: Agency, beta: Agency, operator: Visitor) -> None:
    page = operator.post(f"/admin/tenants/agency/{alpha.pk}/change/", {"name": "Alpha", "timezone": "Mars/Olympus"})
    assert "Mars/Olympus is not a time zone" in body(page)
    with pytest.raises(CommandError, match="--timezone: Mars/Olympus is not a time zone"):
        call_command("create_agency", "gamma", name="Gamma", timezone="Mars/Olympus", stdout=StringIO())
