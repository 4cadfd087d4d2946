"""Both admin sites: the operator's accounts, and an agency's senders, contacts and campaigns."""

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from campaigns import launch
from campaigns.admin import CampaignAdmin, MessageAdmin
from campaigns.models import Campaign, Contact, Intake, Message, RejectedRow, Suppression
from providers.accounts import adapters, health
from providers.accounts.admin import CREDENTIALS
from providers.accounts.ledger import reserve
from providers.accounts.models import Account, Allotment, Health, LedgerRow
from providers.senders import recovering
from providers.senders.models import Sender, SenderDomain
from tenants import context, sites
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.visitor import Visitor, at, body

OPERATOR_LISTS = [
    "tenants/agency",
    "accounts/account",
    "accounts/allotment",
    "accounts/ledgerrow",
    "users/user",
    "auth/group",
]
AGENCY_LISTS = [
    "campaigns/campaign",
    "campaigns/message",
    "campaigns/contact",
    "campaigns/contactlist",
    "campaigns/intake",
    "campaigns/rejectedrow",
    "campaigns/suppression",
    "senders/senderdomain",
    "senders/sender",
    "users/user",
    "users/apikey",
]


@pytest.fixture
def operators(alpha: Agency, beta: Agency) -> Visitor:
    """The operator's browser, signed in to the public host."""
    visitor = Visitor("localhost")
    visitor.force_login(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
    return visitor


@pytest.fixture
def carols(alpha: Agency, beta: Agency, carol: User) -> Visitor:
    """Carol's browser, signed in to Alpha's admin."""
    return at(alpha, carol)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    """Three accounts: Alpha may use two of them, Beta all."""
    found = stage.accounts()
    stage.allot(alpha, found["resend"], found["smtp"])
    stage.allot(beta, *found.values())
    return found


@pytest.fixture
def draft(alpha: Agency, accounts: dict[str, Account]) -> Campaign:
    """A draft of Alpha's."""
    with context.entered(alpha):
        return stage.campaign(stage.contact_list("a", 6), distribution="even")


def furnish(agency: Agency, name: str) -> None:
    """One more of everything that an agency's lists show."""
    with context.entered(agency):
        campaign = stage.campaign(stage.contact_list(name, 2), distribution="even")
        launch.launch(campaign, now=timezone.now())
        intake = Intake.objects.create(list=campaign.list, file_name=f"{name}.csv", status="done", rows=1, rejected=1)
        RejectedRow.objects.create(intake=intake, number=2, email=name, verdict="bad_syntax")
        Suppression.objects.create(value=f"{name}@gone.example", source="manual")


def account(**changes: Any) -> dict[str, Any]:
    return {
        "name": "new",
        "kind": "resend",
        "enabled": "on",
        "api_key": "re_new_key",
        "options": "{}",
        "traffic_classes": ["bulk"],
        "priority": "5",
        "sender_limit": "10",
        "per_day": "100",
        "monthly_price": "20",
        "included_per_month": "50000",
        "mail_price": "0.0009",
        "allotments-TOTAL_FORMS": "0",
        "allotments-INITIAL_FORMS": "0",
        **changes,
    }


def act(visitor: Visitor, path: str, action: str, *rows: Any) -> list[str]:
    """Take an action on rows of a list; what the page then says."""
    page = visitor.post(path, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)
    assert page.status_code == 200
    return [str(message) for message in page.context["messages"]]


def asked(visitor: Visitor, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert visitor.get(path).status_code == 200, path
    return len(queries)


def errors(page: Any) -> dict[str, list[str]]:
    assert page.status_code == 200
    found: dict[str, list[str]] = page.context["adminform"].form.errors
    return found


def test_no_list_of_the_operator_asks_more_for_more_rows(operators: Visitor, accounts: dict[str, Account]) -> None:
    for one in accounts.values():
        reserve(one, one.allotments.first(), 1, now=timezone.now())
    paths = [f"/admin/{name}/" for name in OPERATOR_LISTS]
    few = [asked(operators, path) for path in paths]
    for number in range(6):
        more = Account.objects.create(name=f"more-{number}", kind="resend", credentials={"api_key": "x"})
        allotment = Allotment.objects.create(account=more, agency=Agency.objects.get(slug="alpha"), senders=1)
        reserve(more, allotment, 1, now=timezone.now())

    assert [asked(operators, path) for path in paths] == few


def test_no_list_of_an_agency_asks_more_for_more_rows(
    carols: Visitor, alpha: Agency, accounts: dict[str, Account]
) -> None:
    furnish(alpha, "a")
    paths = [f"/admin/{name}/" for name in AGENCY_LISTS]
    few = [asked(carols, path) for path in paths]
    for name in "bcdef":
        furnish(alpha, name)

    assert [asked(carols, path) for path in paths] == few


def test_every_page_of_an_agency_opens(carols: Visitor, alpha: Agency, draft: Campaign) -> None:
    furnish(alpha, "b")
    with context.entered(alpha):
        Suppression.objects.create(value="gone.example", source="opt_out")
        rows = [(model, model.objects.first()) for model in sites.agency._registry if model.objects.exists()]
    assert len(rows) >= 10
    for model, row in rows:
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert carols.get(f"{path}{row.pk}/change/").status_code == 200, path
        assert carols.get(f"{path}?q=a").status_code == 200, path
        assert carols.get(f"{path}add/").status_code in {200, 403}, path
    assert carols.get("/admin/").status_code == 200
    assert carols.get(f"/admin/campaigns/campaign/{draft.pk}/change/").status_code == 200
    assert carols.get("/admin/campaigns/message/?status__exact=sent&account=1").status_code == 200


def test_every_page_of_the_operator_opens(operators: Visitor, accounts: dict[str, Account]) -> None:
    one = accounts["smtp"]
    reserve(one, one.allotments.first(), 1, now=timezone.now())
    rows = [(model, model.objects.last()) for model in sites.operator._registry if model.objects.exists()]
    for model, row in rows:
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert operators.get(f"{path}{row.pk}/change/").status_code == 200, path
        assert operators.get(f"{path}add/").status_code in {200, 403}, path
    assert operators.get("/admin/").status_code == 200


def test_neither_site_shows_the_queue_or_the_other_sides_tables() -> None:
    operator, agency = ({model._meta.app_label for model in site._registry} for site in (sites.operator, sites.agency))

    assert operator == {"tenants", "accounts", "outreach", "users", "auth"}
    assert agency == {"campaigns", "senders", "users", "auth"}


def test_the_overview_shows_the_operator_every_account_and_an_agency_its_own_campaigns(
    operators: Visitor, alpha: Agency, beta: Agency, oscar: User, carol: User, accounts: dict[str, Account]
) -> None:
    furnish(alpha, "ours")
    health.block(accounts["resend"].pk, "the key is revoked", now=timezone.now())
    reserve(accounts["smtp"], accounts["smtp"].allotments.first(), 7, now=timezone.now())
    with context.entered(alpha):
        sender = Sender.objects.earliest("pk")
        recovering.pause(sender, alpha, by="ann@x.example", why="on a list", now=timezone.now())

    page = operators.get("/admin/")
    of_accounts, of_queues, of_pauses, _of_opt_outs = page.context["tables"]
    assert [(row["name"], row["cells"][0]) for row in of_queues["rows"]] == [("Alpha", "2")]
    assert [(row["name"], row["cells"][0], row["cells"][2]) for row in of_pauses["rows"]] == [
        (sender.address, "Alpha", "on a list")
    ]
    assert [(row["name"], row["state"], row["cells"][1]) for row in of_accounts["rows"]] == [
        ("resend", "Blocked", "0 / 1,000"),
        ("sendgrid", "Ready", "0 / 1,000"),
        ("smtp", "Ready", "7 / 1,000"),
    ]
    assert [row["name"] for row in at(alpha, carol).get("/admin/").context["tables"][0]["rows"]] == ["To ours"]
    assert at(beta, oscar).get("/admin/").context["tables"][0]["rows"] == []


def test_the_sidebar_shows_what_its_visitor_may_look_at(alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        dan = User.objects.create_user("dan@alpha.test", "correct horse battery", is_staff=True)
        dan.user_permissions.add(Permission.objects.get(codename="view_contact"))

    page = body(at(alpha, dan).get("/admin/"))

    assert 'href="/admin/campaigns/contact/"' in page
    assert 'href="/admin/campaigns/campaign/"' not in page
    assert "Choose on the left" in page


def test_the_outsider_finds_no_row_of_another_agency(alpha: Agency, beta: Agency, oscar: User, draft: Campaign) -> None:
    oscars = at(beta, oscar)

    page = oscars.get(f"/admin/campaigns/campaign/{draft.pk}/change/", follow=True)
    said = [str(message) for message in page.context["messages"]]
    assert len(said) == 1
    assert "doesn’t exist" in said[0]
    assert act(oscars, "/admin/campaigns/campaign/", "launch", draft) == []
    with context.entered(alpha):
        draft.refresh_from_db()
        assert draft.status == Campaign.Status.DRAFT


def test_a_credential_is_written_and_never_shown_again(operators: Visitor) -> None:
    page = operators.post("/admin/accounts/account/add/", account())
    assert page.status_code == 302
    made = Account.objects.get()
    assert made.credentials == {"api_key": "re_new_key"}

    url = f"/admin/accounts/account/{made.pk}/change/"
    assert "re_new_key" not in body(operators.get(url))
    operators.post(url, account(api_key="", priority="7"))
    made.refresh_from_db()
    assert (made.credentials, made.priority) == ({"api_key": "re_new_key"}, 7)
    operators.post(url, account(api_key="re_newer"))
    made.refresh_from_db()
    assert made.credentials == {"api_key": "re_newer"}
    assert "re_new" not in json.dumps(list(LogEntry.objects.values()), default=str)


def test_a_refused_form_does_not_repeat_the_credential(operators: Visitor) -> None:
    page = operators.post("/admin/accounts/account/add/", account(per_day="-1"))

    assert "per_day" in errors(page)
    assert "re_new_key" not in body(page)


def test_credentials_are_forgotten_on_request_alone(operators: Visitor, accounts: dict[str, Account]) -> None:
    smtp = accounts["smtp"]
    entered = account(name="smtp", kind="smtp", options=json.dumps(smtp.options), api_key="")
    del entered["api_key"]

    operators.post(f"/admin/accounts/account/{smtp.pk}/change/", entered)
    smtp.refresh_from_db()
    assert set(smtp.credentials) == {"username", "password"}
    operators.post(f"/admin/accounts/account/{smtp.pk}/change/", {**entered, "forget": "on"})
    smtp.refresh_from_db()
    assert smtp.credentials == {}


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"api_key": ""}, "api_key", "api_key is missing: Resend cannot be used without it"),
        ({"api_key": "re\u200bnew"}, "api_key", "api_key has a space, a line break or another invisible"),
        ({"password": "x"}, "password", "password is no credential of Resend"),
        ({"options": '{"hots": "x"}'}, "options", "hots is not an option of Resend"),
        ({"options": "[1]"}, "options", "Write the options as an object"),
        ({"options": '{"api_url": 5}'}, "options", "api_url must be text in quotes"),
        ({"options": '{"api_url": "example"}'}, "options", "api_url must be an address such as https://"),
        ({"options": '{"read_timeout": "5"}'}, "options", "read_timeout must be a number"),
        ({"options": "{"}, "options", "Enter a valid JSON"),
        ({"kind": "smtp", "api_key": "", "options": '{"security": "ssl", "host": "h"}'}, "options", "security must be"),
        ({"kind": "smtp", "api_key": "", "options": "{}"}, "options", "host is missing"),
        ({"traffic_classes": ["cold"]}, "traffic_classes", "cold is not one of the available choices"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(
    operators: Visitor, changes: dict[str, Any], field: str, problem: str
) -> None:
    page = operators.post("/admin/accounts/account/add/", account(**changes))

    assert problem in " ".join(errors(page)[field])
    assert not Account.objects.exists()


def test_an_account_that_is_not_in_use_may_wait_for_its_key(operators: Visitor) -> None:
    entered = account(api_key="")
    del entered["enabled"]

    assert operators.post("/admin/accounts/account/add/", entered).status_code == 302
    assert Account.objects.get().credentials == {}


def test_every_credential_of_every_kind_has_a_field() -> None:
    assert set(CREDENTIALS) == {name for kind in adapters.KINDS.values() for name in (*kind.required, *kind.optional)}


def test_a_blocked_account_is_opened_by_a_person(operators: Visitor, accounts: dict[str, Account]) -> None:
    health.block(accounts["resend"].pk, "the key is revoked", now=timezone.now())

    said = act(operators, "/admin/accounts/account/", "try_again", accounts["resend"])

    assert said == ["resend is tried again."]
    assert not Health.objects.get(account=accounts["resend"]).blocked


def test_accounts_and_their_ledger_cannot_be_deleted_or_rewritten(
    operators: Visitor, accounts: dict[str, Account]
) -> None:
    one = accounts["resend"]
    reserve(one, one.allotments.first(), 3, now=timezone.now())
    row = LedgerRow.objects.first()
    assert row is not None

    assert operators.post(f"/admin/accounts/account/{one.pk}/delete/", {"post": "yes"}).status_code == 403
    assert operators.post(f"/admin/accounts/ledgerrow/{row.pk}/change/", {"used": "0"}).status_code == 403
    assert operators.post(f"/admin/accounts/ledgerrow/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "3 / 1,000" in body(operators.get("/admin/accounts/account/"))


def test_campaigns_are_steered_by_the_actions(carols: Visitor, alpha: Agency, draft: Campaign) -> None:
    url = "/admin/campaigns/campaign/"

    assert act(carols, url, "launch", draft) == ["“To a” is running: 6 mails are queued."]
    assert act(carols, url, "launch", draft)[0].startswith("To a: Only a draft can be launched")
    assert act(carols, url, "pause", draft) == ["“To a” is paused: nothing more leaves until you resume it."]
    assert act(carols, url, "resume", draft) == ["“To a” goes on."]
    assert act(carols, url, "cancel", draft) == ["“To a” is cancelled: nothing more leaves."]
    with context.entered(alpha):
        assert stage.statuses(draft) == {"cancelled": 6}


def test_a_viewer_cannot_steer(alpha: Agency, beta: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        dan = User.objects.create_user("dan@alpha.test", "correct horse battery", is_staff=True)
        dan.user_permissions.add(Permission.objects.get(codename="view_campaign"))

    act(at(alpha, dan), "/admin/campaigns/campaign/", "launch", draft)

    with context.entered(alpha):
        draft.refresh_from_db()
        assert draft.status == Campaign.Status.DRAFT


def test_what_was_launched_is_no_longer_edited_or_deleted(carols: Visitor, alpha: Agency, draft: Campaign) -> None:
    step = {"steps-TOTAL_FORMS": "1", "steps-INITIAL_FORMS": "1", "steps-MIN_NUM_FORMS": "1"}
    with context.entered(alpha):
        text = draft.steps.get()
        launch.launch(draft, now=timezone.now())
        message = Message.objects.first()
        assert message is not None
    changed = {"name": "To b", "steps-0-id": text.pk, "steps-0-position": "1", "steps-0-subject": "Other", **step}

    carols.post(f"/admin/campaigns/campaign/{draft.pk}/change/", {**changed, "traffic_class": "bulk"})
    assert carols.post(f"/admin/campaigns/campaign/{draft.pk}/delete/", {"post": "yes"}).status_code == 403
    assert carols.post(f"/admin/campaigns/message/{message.pk}/change/", {"status": "sent"}).status_code == 403
    assert carols.post(f"/admin/campaigns/message/{message.pk}/delete/", {"post": "yes"}).status_code == 403

    with context.entered(alpha):
        draft.refresh_from_db()
        assert (draft.name, draft.traffic_class) == ("To b", "cold_outreach")
        assert draft.steps.get().subject == "Hello {{ first_name }}"


def test_a_draft_is_written_and_deleted(carols: Visitor, alpha: Agency, draft: Campaign) -> None:
    entered = {
        "name": "New",
        "list": draft.list_id,
        "traffic_class": "bulk",
        "distribution": "even",
        "shares": "{}",
        "overflow": "wait",
        "weekdays": [*range(5)],
        "window_zone": "campaign",
        "duplicates": "campaign",
        "stop_scope": "campaign",
        "steps-TOTAL_FORMS": "1",
        "steps-INITIAL_FORMS": "0",
        "steps-MIN_NUM_FORMS": "1",
        "steps-0-position": "1",
        "steps-0-delay": "3",
        "steps-0-unit": "days",
        "steps-0-otherwise": "next",
        "steps-0-subject": "Hi",
        "steps-0-text": "Hello",
    }

    assert carols.post("/admin/campaigns/campaign/add/", entered).status_code == 302
    with context.entered(alpha):
        made = Campaign.objects.get(name="New")
        assert made.steps.get().text == "Hello"
    assert carols.post(f"/admin/campaigns/campaign/{made.pk}/delete/", {"post": "yes"}).status_code == 302
    with context.entered(alpha):
        assert not Campaign.objects.filter(name="New").exists()


def test_an_agency_is_never_shown_an_account_that_it_may_not_use(
    carols: Visitor, alpha: Agency, accounts: dict[str, Account], draft: Campaign
) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=timezone.now())
        domain = SenderDomain.objects.first()
        sender = Sender.objects.first()
        assert domain is not None
        assert sender is not None
    for path in (
        "senders/sender/add/",
        f"senders/sender/{sender.pk}/change/",
        "senders/sender/",
        "senders/senderdomain/add/",
        f"senders/senderdomain/{domain.pk}/change/",
        "campaigns/message/",
    ):
        page = body(carols.get(f"/admin/{path}"))
        assert ("resend" in page, "sendgrid" in page) == (True, False), path


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"address": "new@elsewhere.example"}, "domain", "not of this domain"),
        ({"account": "smtp"}, "account", "is not verified at smtp"),
        ({"account": "sendgrid"}, "account", "not one of the available choices"),
        ({}, "account", "resend allows this agency 4 senders; it has 4"),
    ],
)
def test_a_sender_must_fit_its_domain_and_the_allotment(
    carols: Visitor, alpha: Agency, accounts: dict[str, Account], changes: dict[str, str], field: str, problem: str
) -> None:
    with context.entered(alpha):
        domain = SenderDomain.objects.get(name="resend0.alpha.example")
    through = accounts[changes.get("account", "resend")].pk
    entered = {"address": f"new@{domain}", "domain": domain.pk, "per_day": "50", **changes, "account": through}

    page = carols.post("/admin/senders/sender/add/", entered)

    assert problem in " ".join(errors(page)[field])


def test_a_sender_with_room_is_added_and_kept(carols: Visitor, alpha: Agency, accounts: dict[str, Account]) -> None:
    Allotment.objects.update(senders=5)
    with context.entered(alpha):
        domain = SenderDomain.objects.get(name="resend0.alpha.example")
    entered = {"address": f"New@{domain}", "domain": domain.pk, "per_day": "50", "account": accounts["resend"].pk}

    assert carols.post("/admin/senders/sender/add/", entered).status_code == 302
    with context.entered(alpha):
        made = Sender.objects.get(address="new@resend0.alpha.example")
    assert carols.post(f"/admin/senders/sender/{made.pk}/delete/", {"post": "yes"}).status_code == 403
    act(carols, "/admin/senders/sender/", "switch_off", made)
    with context.entered(alpha):
        made.refresh_from_db()
        assert not made.active


@pytest.mark.parametrize("value", ["Gone@Example.COM", "@Example.com"])
def test_a_suppression_is_kept_as_it_is_looked_up(carols: Visitor, alpha: Agency, value: str) -> None:
    assert carols.post("/admin/campaigns/suppression/add/", {"value": value}).status_code == 302

    with context.entered(alpha):
        (made,) = Suppression.objects.all()
        assert (made.value, made.source) == (value.lower().removeprefix("@"), "manual")


def test_only_a_suppression_that_a_person_made_can_be_taken_away(carols: Visitor, alpha: Agency) -> None:
    assert "value" in errors(carols.post("/admin/campaigns/suppression/add/", {"value": "no address"}))
    with context.entered(alpha):
        manual = Suppression.objects.create(value="a@gone.example", source="manual")
        opt_out = Suppression.objects.create(value="b@gone.example", source="opt_out")

    url = "/admin/campaigns/suppression/"
    both = {"action": "delete_selected", "_selected_action": [manual.pk, opt_out.pk], "post": "yes"}
    assert carols.post(url, both).status_code == 403
    assert carols.post(f"{url}{opt_out.pk}/delete/", {"post": "yes"}).status_code == 403
    assert carols.post(f"{url}{manual.pk}/delete/", {"post": "yes"}).status_code == 302
    with context.entered(alpha):
        assert list(Suppression.objects.values_list("value", flat=True)) == ["b@gone.example"]


def test_contacts_come_in_by_imports_and_keep_their_address(carols: Visitor, alpha: Agency) -> None:
    with context.entered(alpha):
        stage.contact_list("a", 1)
        person = Contact.objects.get()

    assert carols.get("/admin/campaigns/contact/add/").status_code == 403
    carols.post(
        f"/admin/campaigns/contact/{person.pk}/change/",
        {"email": "x@y.example", "first_name": "Ann", "attributes": "{}"},
    )
    with context.entered(alpha):
        person.refresh_from_db()
        assert (person.email, person.first_name) == ("a0@people.example", "Ann")
    assert carols.post(f"/admin/campaigns/contact/{person.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(("shown", "states"), [(CampaignAdmin, Campaign.Status), (MessageAdmin, Message.Status)])
def test_every_state_is_a_word_and_no_code(shown: Any, states: Any) -> None:
    """Unfold shows the code itself where a state has no colour."""
    assert set(states.values) == set(shown.state.label)
