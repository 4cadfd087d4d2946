"""What cannot be is said where it is entered, with its field and the way out: in the portal, both admins, commands."""

import json
from datetime import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from campaigns import inspection, launch, signups
from campaigns.models import Campaign, Contact
from providers.accounts import ledger
from providers.accounts.models import Account, Allotment
from providers.senders import ledger as senders
from providers.senders.models import Sender, SenderDay, SenderDomain
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency
from tenants.users import keys
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


def test_what_postgresql_cannot_keep_is_refused_or_found_nowhere(alpha: Agency, beta: Agency, carol: User) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("p", 1))
        contact = Contact.objects.get()
        token = signups.token_of(made.list)
        secret = keys.issue(carol, "program")
    headers, carols = {"authorization": f"Bearer {secret}"}, at(alpha, carol)

    def said(path: str, raw: str) -> Any:
        return at(alpha).patch(f"/api/v1/{path}", raw, content_type="application/json", headers=headers)

    for raw in (
        r'{"attributes": {"\ud800": "x"}}',
        r'{"first_name": "\udfff"}',
        r'{"attributes": {"a\u0000b": "x"}}',
        r'{"attributes": {"city": "a\u0000b"}}',
        "[" * 100_000,
    ):
        answer = said(f"contacts/{contact.pk}/", raw)
        assert (answer.status_code, set(answer.json()["error"])) == (400, {"code", "message", "fields"})
    many = [{"attributes": {f"{letter}{number}": "x" for number in range(150)}} for letter in "ab"]
    assert said(f"contacts/{contact.pk}/", json.dumps(many[0])).status_code == 200
    for more in (many[1], {"attributes": {f"c{number}": "x" for number in range(201)}}):
        assert "at most 200 fields" in str(said(f"contacts/{contact.pk}/", json.dumps(more)).json())
    assert said(f"contacts/{contact.pk}/", r'{"first_name": "\ud83d\ude00"}').json()["first_name"] == "😀"
    assert at(alpha).get("/api/v1/contacts/?email=a%00b", headers=headers).json()["count"] == 0

    assert carols.get(f"/campaigns/{made.pk}/preview/?contact=a%00b").status_code == 200
    odd = {"user-agent": "a\0b", "origin": "a\0b"}
    assert at(alpha).post(f"/s/{token}", {"email": "zoe@people.example"}, headers=odd).status_code == 200
    page = f"/admin/campaigns/contact/{contact.pk}/change/"
    for attributes, why in (
        *(
            (odd, "Write names and values")
            for odd in (r'{"a": "\u0000"}', r'{"a": "\ud800"}', r'{"\ud800": ""}', "[1]")
        ),
        *((odd, "Write names and values") for odd in ("7", '{"a": 1e999999}', '{"a": NaN}', '{"a": [1]}')),
        *((odd, "Enter a valid JSON") for odd in ("[" * 50_000, '{"a":' * 50_000, '{"a": ' + "9" * 10_000 + "}")),
        (json.dumps(dict.fromkeys(map(str, range(201)), "")), "at most 200 fields"),
        (json.dumps({"a": "x" * 2001}), "longer than 2000 characters"),
    ):
        assert why in body(carols.post(page, {"first_name": "Zoe", "attributes": attributes}))
    assert carols.post(page, {"first_name": "Zoe", "attributes": ""}).status_code == 302
    with context.entered(alpha):
        contact.refresh_from_db()
    assert (contact.first_name, contact.attributes) == ("Zoe", {})


@pytest.mark.timeout(20, func_only=True)
@pytest.mark.parametrize("piece", ["<", "<!--", "<style", "<a href='"])
def test_broken_html_is_looked_through_before_a_launch_in_time_that_grows_as_it_does(
    alpha: Agency, account: Account, piece: str
) -> None:
    """It takes a second at most; with the square of its length it is cut off."""
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("p", 1), html="Hello" + piece * (250_000 // len(piece)))
        assert inspection.inspect(made, now=NOON)
