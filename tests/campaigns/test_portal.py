"""The portal: thin pages over the verbs, for the people of one agency."""

import io
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from campaigns import access, dispatch, launch
from campaigns.models import Campaign, Contact, ContactList, Intake
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.visitor import Visitor, at, body

PAGES = ["/", "/campaigns/", "/campaigns/new/", "/contacts/"]


@pytest.fixture
def accounts(alpha: Agency) -> dict[str, Account]:
    """Three accounts of which Alpha has allotments."""
    found = stage.accounts()
    stage.allot(alpha, *found.values())
    return found


@pytest.fixture
def draft(alpha: Agency, accounts: dict[str, Account]) -> Campaign:
    """A draft of Alpha's to thirty people."""
    with context.entered(alpha):
        return stage.campaign(stage.contact_list("Spring", 30), distribution="even")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def details(people: ContactList, **changes: Any) -> dict[str, Any]:
    return {
        "name": "Spring",
        "list": people.pk,
        "traffic_class": "cold_outreach",
        "distribution": "even",
        "overflow": "reroute",
        "weekdays": [*range(7)],
        "window_zone": "campaign",
        "subject": "Hello {{ first_name }}",
        "html": "<p>From {{ city }}</p>",
        "text": "",
        **changes,
    }


def said(response: Any) -> list[str]:
    """The notices on the page that was landed on."""
    return [str(message) for message in response.context["messages"]]


@pytest.mark.parametrize("path", [*PAGES, "/campaigns/1/", "/campaigns/1/progress/", "/contacts/imports/1/"])
def test_a_stranger_is_asked_to_sign_in(alpha: Agency, beta: Agency, path: str) -> None:
    assert at(alpha).get(path).headers["location"] == f"/accounts/login/?next={path}"


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", ["en", "ru"])
def test_every_page_opens_before_there_is_anything_to_show(
    carols: Visitor, beta: Agency, path: str, language: str
) -> None:
    carols.cookies["django_language"] = language
    response = carols.get(path)

    assert response.status_code == 200
    assert f'<html lang="{language}"' in body(response)


def test_a_campaign_is_written_launched_and_seen_through_to_its_end(
    carols: Visitor, alpha: Agency, beta: Agency, sandbox: Sandbox
) -> None:
    found = stage.accounts(sandbox)
    stage.allot(alpha, *found.values())
    with context.entered(alpha):
        people = stage.contact_list("a", 9)

    page = carols.post("/campaigns/new/", details(people), follow=True)
    assert said(page) == ["“Spring” is saved as a draft."]
    campaign = page.redirect_chain[-1][0]
    assert "every 1s" not in body(page)

    page = carols.post(f"{campaign}launch/", follow=True)
    assert said(page) == ["“Spring” is running: 9 mails are queued."]
    assert f'hx-get="{campaign}progress/"' in body(page)

    with context.entered(alpha):
        for account in found.values():
            until = timezone.now() + timedelta(seconds=15)
            dispatch.drain(account.pk, clock=timezone.now, until=until)
    fragment = body(carols.get(f"{campaign}progress/"))
    assert "9 of 9 mails have gone out" in fragment
    assert "hx-get" not in fragment
    assert sandbox.snapshot()["distinct_recipients"] == 9


def test_its_steps_are_those_that_its_state_allows(carols: Visitor, beta: Agency, draft: Campaign) -> None:
    url = f"/campaigns/{draft.pk}/"

    def offered() -> list[str]:
        return re.findall(rf'action="{url}(\w+)/"', body(carols.get(url)))

    assert offered() == ["launch"]
    carols.post(f"{url}launch/")
    assert offered() == ["pause", "join", "cancel"]
    carols.post(f"{url}pause/")
    assert offered() == ["resume", "join", "cancel"]
    carols.post(f"{url}resume/")
    carols.post(f"{url}cancel/")
    assert offered() == []


def test_a_step_out_of_turn_changes_nothing_and_says_why(
    carols: Visitor, alpha: Agency, beta: Agency, draft: Campaign
) -> None:
    page = carols.post(f"/campaigns/{draft.pk}/pause/", follow=True)

    assert said(page) == ["“To Spring” is not running, so it cannot be paused."]
    with context.entered(alpha):
        draft.refresh_from_db()
        assert draft.status == Campaign.Status.DRAFT


def test_what_a_launch_refuses_is_said_on_the_page(carols: Visitor, alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 3))

    page = carols.post(f"/campaigns/{campaign.pk}/launch/", follow=True)

    assert said(page) == [
        "There is no account that this agency may use. Ask the operator for an allotment of an account that is in use."
    ]


def test_a_step_is_taken_by_post_alone_and_an_unknown_one_is_a_404(
    carols: Visitor, beta: Agency, draft: Campaign
) -> None:
    assert carols.get(f"/campaigns/{draft.pk}/launch/").status_code == 405
    assert carols.post(f"/campaigns/{draft.pk}/delete/").status_code == 404


def test_the_outsider_finds_nothing_of_another_agency(
    oscars: Visitor, alpha: Agency, beta: Agency, draft: Campaign
) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=timezone.now())
        intake = Intake.objects.create(list=draft.list, file_name="people.csv", status="done")
    for path in ("", "progress/"):
        assert oscars.get(f"/campaigns/{draft.pk}/{path}").status_code == 404
    for step in ("launch", "pause", "resume", "cancel"):
        assert oscars.post(f"/campaigns/{draft.pk}/{step}/").status_code == 404
    for path in ("", "rejected.csv"):
        assert oscars.get(f"/contacts/imports/{intake.pk}/{path}").status_code == 404
    for path in PAGES:
        assert "Spring" not in body(oscars.get(path))
    refused = oscars.post("/campaigns/new/", details(draft.list))
    assert "list" in refused.context["form"].errors
    with context.entered(alpha):
        draft.refresh_from_db()
        assert draft.status == Campaign.Status.RUNNING


def test_a_session_of_one_agency_is_none_in_another(carols: Visitor, alpha: Agency, beta: Agency) -> None:
    there = Visitor("beta.localhost")
    there.cookies = carols.cookies

    assert there.get("/campaigns/").status_code == 302


def test_every_door_is_shut_to_the_user_of_another_schema(alpha: Agency, beta: Agency, oscar: User) -> None:
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 1))
        intake = Intake.objects.create(list=campaign.list, file_name="people.csv", status="done")
        for found in (
            access.campaigns_for(oscar),
            access.lists_for(oscar),
            access.intakes_for(oscar),
            access.rejected_rows_for(oscar, intake),
        ):
            assert not found.exists()


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"name": ""}, "name", "required"),
        ({"html": "", "text": " "}, "html", "Write the mail"),
        ({"subject": "Hello\nBcc: all@example.com"}, "subject", "one line"),
        ({"subject": "Hello\x00"}, "subject", "Null characters"),
        ({"html": "{{ first_nmae }}"}, "__all__", "Step 1 names first_nmae"),
        ({"html": "{% if %}"}, "__all__", "The HTML is not valid"),
        ({"html": "{{ first_name "}, "__all__", "Step 1: The HTML"),
    ],
)
def test_a_bad_draft_is_refused_by_field_and_nothing_is_saved(
    carols: Visitor, alpha: Agency, beta: Agency, changes: dict[str, str], field: str, problem: str
) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 2)

    page = carols.post("/campaigns/new/", details(people, **changes))

    assert page.status_code == 200
    assert problem in " ".join(page.context["form"].errors[field])
    with context.entered(alpha):
        assert not Campaign.objects.exists()


def test_shares_are_given_by_account_and_must_add_up(
    carols: Visitor, alpha: Agency, beta: Agency, accounts: dict[str, Account]
) -> None:
    resend, smtp = (f"share_{accounts[name].pk}" for name in ("resend", "smtp"))
    with context.entered(alpha):
        people = stage.contact_list("a", 10)

    wrong = details(people, distribution="shares", html="{{ nonsense }}", **{resend: "70", smtp: "20"})
    page = carols.post("/campaigns/new/", wrong)
    assert "names nonsense" in page.context["form"].non_field_errors()[0]
    assert page.context["form"].errors[resend] == ["The shares add up to 90 %, not to 100 %."]
    page = carols.post("/campaigns/new/", details(people, distribution="shares", **{resend: "170", smtp: "-70"}))
    assert {resend, smtp} <= set(page.context["form"].errors)
    page = carols.post("/campaigns/new/", details(people, distribution="even", **{resend: "7", smtp: "1"}), follow=True)
    assert said(page) == ["“Spring” is saved as a draft."]

    page = carols.post(
        "/campaigns/new/", details(people, distribution="shares", **{resend: "70", smtp: "30"}), follow=True
    )
    carols.post(f"{page.redirect_chain[-1][0]}launch/")
    with context.entered(alpha):
        campaign, other = Campaign.objects.order_by("-pk")
        assert campaign.shares == {"resend": 70, "smtp": 30}
        assert other.shares == {}
        planned = list(campaign.messages.values_list("planned__name", flat=True))
    assert (planned.count("resend"), planned.count("smtp")) == (7, 3)


def test_a_file_is_taken_in_and_its_bad_rows_can_be_read_and_downloaded(
    carols: Visitor, alpha: Agency, beta: Agency
) -> None:
    lines = [
        "email,first_name",
        "ann@people.example,Ann",
        "nobody",
        "ANN@people.example,Ann again",
        "bob@people.example,Bob",
    ]
    upload = SimpleUploadedFile("people.csv", "\n".join(lines).encode())

    page = carols.post("/contacts/", {"file": upload, "new_list": "Spring"}, follow=True)

    assert said(page) == ["2 of 4 rows were taken into “Spring”; the others are below, each with its reason."]
    assert "The same address is in row 2." in body(page)
    answer = carols.get(page.context["download_url"])
    assert answer.headers["content-disposition"] == 'attachment; filename="people-rejected.csv"'
    with context.entered(beta):
        # A server streams the rows after the request has left the agency.
        rows = answer.getvalue().decode("utf-8-sig").splitlines()
    assert [row.split(",")[0] for row in rows] == ["Row", "3", "4"]
    with context.entered(alpha):
        assert set(Contact.objects.values_list("email", flat=True)) == {"ann@people.example", "bob@people.example"}
    page = carols.get("/contacts/")
    assert [(found["name"], found["contacts"]) for found in page.context["lists"]] == [("Spring", 2)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "The submitted file is empty"), (b"name,city\nAnn,Riga\n", "email"), (b"PK\x03\x04broken", "workbook")],
)
def test_a_file_that_is_refused_is_said_to_be_and_nothing_is_taken(
    carols: Visitor, alpha: Agency, beta: Agency, content: bytes, problem: str
) -> None:
    page = carols.post("/contacts/", {"file": io.BytesIO(content), "new_list": "Spring"})

    assert page.status_code == 200
    assert problem in " ".join(page.context["form"].errors["file"])
    with context.entered(alpha):
        assert not Contact.objects.exists()
        assert not Intake.objects.exclude(status=Intake.Status.FAILED).exists()


def test_a_refused_file_stays_in_the_list_of_imports_with_its_problem(
    carols: Visitor, alpha: Agency, beta: Agency
) -> None:
    upload = SimpleUploadedFile("people.csv", b"name,city\nAnn,Riga\n")
    (refused,) = carols.post("/contacts/", {"file": upload, "new_list": "Spring"}).context["imports"]

    page = carols.get(refused["url"])

    assert "The file was not imported" in body(page)
    assert page.context["intake"].problem


def test_a_file_over_the_limit_is_refused_before_it_is_read(
    carols: Visitor, alpha: Agency, beta: Agency, settings: Any
) -> None:
    settings.CONTACT_FILE_MAX_BYTES = 100
    upload = SimpleUploadedFile("people.csv", b"email\n" + b"a@people.example\n" * 10)

    page = carols.post("/contacts/", {"file": upload, "new_list": "Spring"})

    assert "at most 100" in " ".join(page.context["form"].errors["file"]).replace("\xa0", " ")
    with context.entered(alpha):
        assert not Intake.objects.exists()


@pytest.mark.parametrize(("chosen", "problem"), [({}, "Choose a list"), ({"new_list": "Other"}, "not both")])
def test_a_file_goes_into_exactly_one_list(
    carols: Visitor, alpha: Agency, beta: Agency, chosen: dict[str, str], problem: str
) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1)
    both = {**chosen, "list": people.pk} if chosen else {}

    page = carols.post("/contacts/", {"file": SimpleUploadedFile("p.csv", b"email\nx@people.example\n"), **both})

    assert problem in " ".join(page.context["form"].errors["new_list"])


def test_lists_ask_the_database_the_same_however_long_they_are(
    carols: Visitor, alpha: Agency, beta: Agency, accounts: dict[str, Account]
) -> None:
    def asked(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert carols.get(path).status_code == 200
        return len(queries)

    def grow(name: str) -> None:
        with context.entered(alpha):
            campaign = stage.campaign(stage.contact_list(name, 4), distribution="even")
            launch.launch(campaign, now=timezone.now())
            Intake.objects.create(list=campaign.list, file_name=f"{name}.csv", status="done")

    grow("a")
    few = [asked(path) for path in PAGES]
    for name in "bcdefg":
        grow(name)

    assert [asked(path) for path in PAGES] == few
    assert max(few) <= 20


def test_the_list_of_campaigns_has_pages(carols: Visitor, alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1)
        for number in range(23):
            Campaign.objects.create(name=f"Number {number:02}", list=people)

    first, second, beyond = (carols.get("/campaigns/", {"page": page}) for page in ("1", "2", "no page"))

    assert [len(page.context["campaigns"]) for page in (first, second, beyond)] == [20, 3, 20]
    assert "Number 22" in body(first)
    assert "Number 00" in body(second)


def test_the_language_is_switched_and_kept(carols: Visitor, beta: Agency) -> None:
    answer = carols.post("/i18n/setlang/", {"language": "ru", "next": "/campaigns/"})

    assert answer.headers["location"] == "/campaigns/"
    assert '<html lang="ru"' in body(carols.get("/campaigns/"))


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/password/reset/", "/accounts/signup/"])
def test_the_pages_on_the_way_in_open(alpha: Agency, beta: Agency, path: str) -> None:
    assert at(alpha).get(path).status_code == 200


@pytest.mark.parametrize("path", ["/accounts/password/change/", "/accounts/logout/", "/accounts/email/"])
def test_the_pages_of_ones_own_account_open(carols: Visitor, beta: Agency, path: str) -> None:
    assert carols.get(path).status_code == 200


def test_staff_alone_are_led_to_the_administration(carols: Visitor, alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        dan = User.objects.create_user("dan@alpha.test", "correct horse battery")

    assert 'href="/admin/"' in body(carols.get("/"))
    assert 'href="/admin/"' not in body(at(alpha, dan).get("/"))


def test_times_are_those_of_the_agency(carols: Visitor, alpha: Agency, beta: Agency, draft: Campaign) -> None:
    zone = alpha.zone
    with context.entered(alpha):
        Intake.objects.create(list=draft.list, file_name="people.csv", status="done")
        when = Intake.objects.get().created_at.astimezone(zone)

    assert f"{when:%H:%M}" in body(carols.get("/contacts/"))
    assert when.utcoffset()


def test_a_campaign_is_given_its_days_hours_and_caps(
    carols: Visitor, alpha: Agency, accounts: dict[str, Account]
) -> None:
    with context.entered(alpha):
        people = stage.contact_list("Spring", 3)
    chosen = {
        "weekdays": [0, 1, 2, 3, 4, 6],
        "window_from": "09:00",
        "window_until": "17:00",
        "timezone": "Asia/Tokyo",
        "holidays": "JP",
        "new_contacts_per_day": "50",
    }
    page = body(carols.post("/campaigns/new/", details(people, **chosen), follow=True))
    assert "Mon–Fri, Sun 09:00–17:00 Asia/Tokyo · not on holidays of Japan · at most 50 new contacts a day" in page


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weekdays": []}, "weekdays"),
        ({"weekdays": [7]}, "weekdays"),
        ({"window_from": "17:00", "window_until": "09:00"}, "window_until"),
        ({"window_until": "00:00"}, "window_until"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"holidays": "XX"}, "holidays"),
        ({"new_contacts_per_day": "0"}, "new_contacts_per_day"),
        ({"per_domain_per_day": "-1"}, "per_domain_per_day"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_at_its_field(
    carols: Visitor, alpha: Agency, accounts: dict[str, Account], changes: dict[str, Any], field: str
) -> None:
    with context.entered(alpha):
        people = stage.contact_list("Spring", 3)
    page = carols.post("/campaigns/new/", details(people, **changes))
    assert [*page.context["form"].errors] == [field]
    with context.entered(alpha):
        assert not Campaign.objects.exists()
