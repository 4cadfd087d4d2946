"""The command line: what it launches, shows and proves, and the words it has for a mistake."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from campaigns import dispatch, launch, lifecycle
from campaigns.models import Campaign, Message
from providers.accounts.models import Account, Allotment, LedgerRow
from tenants import context, jobs
from tenants.models import Agency
from tests import stage
from tests.stage import NOON


def say(*args: str, **options: Any) -> str:
    """Run a command and return what it said."""
    out = StringIO()
    call_command(*args, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
        with context.entered(agency):
            stage.contact_list("people", 9)
    return found


@pytest.fixture
def html(tmp_path: Path) -> str:
    path = tmp_path / "mail.html"
    path.write_text("<p>Привет, {{ first_name }}</p>", encoding="utf-8")
    return str(path)


def draft(html: str, *more: str) -> tuple[str, ...]:
    return (
        "launch_campaign",
        "Autumn",
        "--agency",
        "alpha",
        "--list",
        "people",
        "--subject",
        "Hi",
        "--html",
        html,
        *more,
    )


# --- launch_campaign


def test_it_makes_and_launches_a_draft_and_rings_for_workers(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], html: str
) -> None:
    before = jobs.waiting()
    said = say(*draft(html, "--distribution", "even", "--class", "newsletters", "--overflow", "wait"))
    assert said.splitlines()[:3] == ["sendgrid: 3", "resend: 3", "smtp: 3"]
    assert said.splitlines()[3].endswith("is running: 9 mails are queued.")
    assert jobs.waiting() == before + 3
    with context.entered(alpha):
        campaign = Campaign.objects.get()
        assert (campaign.status, campaign.traffic_class, campaign.overflow) == ("running", "newsletters", "wait")
        assert stage.statuses(campaign) == {"scheduled": 9}
    with context.entered(beta):
        assert not Campaign.objects.exists()


def test_it_launches_a_draft_by_its_number_or_its_name(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        people = stage.contact_list("few", 2)
        first, second = stage.campaign(people), stage.campaign(people)
        Campaign.objects.filter(pk=second.pk).update(name="Winter")
    assert "2 mails are queued" in say("launch_campaign", str(first.pk), "--agency", "alpha")
    assert f"Campaign {second.pk} is running" in say("launch_campaign", "Winter", "--agency", "alpha")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["Nothing", "--agency", "alpha"], r"No campaign is named “Nothing”\. The latest: \d+ “To one”"),
        (["99999999999999999999", "--agency", "alpha"], "No campaign is named “99999999999999999999”"),
        (
            ["Twin", "--agency", "alpha"],
            r"Several campaigns are named “Twin”: give the id of one, \d+ \(draft\), \d+ \(draft\)",
        ),
        (["Running", "--agency", "alpha"], "nothing was changed. Only a draft can be launched"),
        (["x", "--agency", "gamma"], "No agency “gamma” is ready. Known: alpha, beta"),
        (["x", "--agency", "alpha", "--list", "people"], "needs --subject and --html besides --list"),
        (
            ["x", "--agency", "alpha", "--list", "nobody", "--subject", "s", "--html", "HTML"],
            "No list is named “nobody”: make it with import_contacts",
        ),
        (
            ["x", "--agency", "alpha", "--list", "people", "--subject", "s", "--html", "missing.html"],
            "--html missing.html cannot be read as UTF-8 text: .*No such file",
        ),
        (
            ["x", "--agency", "alpha", "--list", "people", "--subject", "s", "--html", "LATIN"],
            "cannot be read as UTF-8 text: 'utf-8' codec",
        ),
        (
            ["x", "--agency", "alpha", "--list", "empty", "--subject", "s", "--html", "HTML"],
            "nothing was changed. The list “empty” has nobody to write to",
        ),
        (
            ["x", "--agency", "alpha", "--list", "people", "--subject", "{{ nmae }}", "--html", "HTML"],
            "nothing was changed. Step 1 names nmae, which no contact of the list has. Known: city, company",
        ),
        (
            ["x", "--agency", "alpha", "--list", "people", "--subject", "{% for a in b %}", "--html", "HTML"],
            "nothing was changed. Step 1: The subject is not valid: unexpected tag 'for'",
        ),
        (["x", "--agency", "alpha", "--class", "spam"], "argument --class: invalid choice: 'spam'"),
        (["x"], "required: --agency"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_changed(
    alpha: Agency, accounts: dict[str, Account], html: str, tmp_path: Path, args: list[str], said: str
) -> None:
    latin = tmp_path / "latin.html"
    latin.write_bytes("<p>é</p>".encode("latin-1"))
    with context.entered(alpha):
        stage.contact_list("empty", 0)
        people = stage.contact_list("one", 1)
        for name in ("Twin", "Twin", "Running", "To one"):
            Campaign.objects.filter(pk=stage.campaign(people).pk).update(name=name)
        launch.launch(Campaign.objects.get(name="Running"), now=NOON)
        before = (list(Campaign.objects.values()), Message.objects.count())
    names = {"HTML": html, "LATIN": str(latin)}
    with pytest.raises(CommandError, match=said):
        say("launch_campaign", *(names.get(arg, arg) for arg in args))
    with context.entered(alpha):
        assert (list(Campaign.objects.values()), Message.objects.count()) == before


def test_without_an_account_it_says_whom_to_ask(alpha: Agency, beta: Agency, html: str) -> None:
    with context.entered(alpha):
        stage.contact_list("people", 2)
    with pytest.raises(CommandError, match="Ask the operator for an allotment"):
        say(*draft(html))
    with context.entered(alpha):
        assert not Campaign.objects.exists()


# --- campaign_status


@pytest.fixture
def running(alpha: Agency, accounts: dict[str, Account]) -> Campaign:
    """A campaign of nine with a hostile name, of which two mails are sent and one is in doubt."""
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 9), traffic_class="bulk")
        Campaign.objects.filter(pk=campaign.pk).update(name="[/bold] [red]sale[/red]")
        launch.launch(campaign, now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=accounts["smtp"])
        first, second, third = dispatch.claim_batch(alpha, allotment, now=NOON, limit=3)
        lifecycle.sent([(first, "id"), (second, "id")], now=NOON)
        lifecycle.doubt(third, "no answer")
        return campaign


def test_the_status_as_json_has_every_number(running: Campaign) -> None:
    found = json.loads(say("campaign_status", str(running.pk), "--agency", "alpha", "--json"))
    assert (found["id"], found["name"], found["status"]) == (running.pk, "[/bold] [red]sale[/red]", "running")
    assert (found["total"], found["sent"], found["in_doubt"], found["percent"]) == (9, 2, 1, 22)
    assert found["accounts"] == [
        {"id": found["accounts"][0]["id"], "name": "smtp", "kind": "SMTP", "planned": 9, "sent": 2}
    ]
    assert {one["code"]: one["count"] for one in found["reasons"]}["in_doubt"] == 1
    assert sum(one["count"] for one in found["reasons"]) + found["sent"] == found["total"]


def test_the_status_for_people_shows_the_name_as_it_is(running: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    said = say("campaign_status", str(running.pk), "--agency", "alpha") + capsys.readouterr().out
    assert "[/bold] [red]sale[/red]: Running" in said
    assert "It may have been sent" in said


def test_another_agencys_campaign_does_not_exist(running: Campaign) -> None:
    for number in (str(running.pk), "99999999999999999999"):
        with pytest.raises(CommandError, match=f"Beta has no campaign {number}"):
            say("campaign_status", number, "--agency", "beta")
    with pytest.raises(CommandError, match="invalid int value: 'Autumn'"):
        say("campaign_status", "Autumn", "--agency", "alpha")


# --- audit_quota


def test_the_audit_says_that_nothing_differs(running: Campaign) -> None:
    assert say("audit_quota").endswith("ledger rows: 0 differ.\n")
    found = json.loads(say("audit_quota", "--json"))
    assert (found["mails"], found["drifts"]) == (3, [])


def test_the_audit_names_each_row_that_differs_and_fails(running: Campaign) -> None:
    LedgerRow.objects.filter(agency=None).update(used=4)
    for options in ((), ("--json",)):
        out = StringIO()
        with pytest.raises(CommandError, match="ledgers and the messages differ") as failed:
            call_command("audit_quota", *options, stdout=out)
        assert failed.value.returncode == 1
        assert "account day of all agencies" in out.getvalue()
        assert "the ledger says 4 of 1000, the messages 3" in out.getvalue()
