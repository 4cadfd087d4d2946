"""Every address of an agency's site, walked by a user of another agency: nothing is shown and nothing changes.

The addresses are read from the URL configuration, so a new page is walked the day it is added. One with an argument
needs an entry in ARGUMENTS below (pages of the admin need none), and a new model needs a sample in `planted`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse

from outreach import urls
from tenants import context, sites
from tenants.models import Agency
from tenants.rows import AgencyRow
from tenants.users import keys
from tenants.users.models import User
from tests.conftest import PASSWORD
from tests.isolation.planted import MARK, plant

ALPHA, BETA = "alpha.localhost", "beta.localhost"

# View → its arguments. The label of a planted row stands for the row's id.
ARGUMENTS: dict[str, dict[str, str]] = {
    "campaigns:detail": {"id": "campaigns.campaign"},
    "campaigns:progress": {"id": "campaigns.campaign"},
    "campaigns:forecast": {"id": "campaigns.campaign"},
    "campaigns:sequence": {"id": "campaigns.campaign"},
    "campaigns:files": {"id": "campaigns.campaign"},
    "campaigns:inspection": {"id": "campaigns.campaign"},
    "campaigns:results": {"id": "campaigns.campaign"},
    "campaigns:choice": {"id": "campaigns.campaign", "step": "campaigns.step"},
    "campaigns:preview": {"id": "campaigns.campaign"},
    "campaigns:preview_html": {"id": "campaigns.campaign"},
    "campaigns:trials": {"id": "campaigns.campaign"},
    "campaigns:contact": {"id": "campaigns.contact"},
    "campaigns:contact_bar": {"id": "campaigns.contact"},
    "campaigns:contact_consent": {"id": "campaigns.contact"},
    "campaigns:list_sign_up": {"id": "campaigns.contactlist"},
    "campaigns:act": {"id": "campaigns.campaign", "action": "pause"},
    "campaigns:doubts": {"id": "campaigns.campaign", "action": "send-again"},
    "campaigns:webhook": {"id": "campaigns.endpoint"},
    "campaigns:webhook_act": {"id": "campaigns.endpoint", "action": "off"},
    "campaigns:webhook_delivery": {"id": "campaigns.endpoint", "delivery": "campaigns.hookdelivery"},
    "campaigns:import": {"id": "campaigns.intake"},
    "campaigns:rejected": {"id": "campaigns.intake"},
    "campaigns:thread": {"id": "campaigns.reply"},
    "campaigns:answer": {"id": "campaigns.reply"},
    "campaigns:take_back": {"id": "campaigns.reply", "number": "campaigns.trialmail"},
    "campaigns:original": {"id": "campaigns.reply"},
    "campaigns:original_html": {"id": "campaigns.reply"},
    "campaigns:attachment": {"id": "campaigns.reply", "number": "1"},
    "campaigns:reply_act": {"id": "campaigns.reply", "action": "done"},
    "api:campaign-detail": {"pk": "campaigns.campaign"},
    "api:campaign-forecast": {"pk": "campaigns.campaign"},
    "api:campaign-inspect": {"pk": "campaigns.campaign"},
    "api:campaign-results": {"pk": "campaigns.campaign"},
    "api:campaign-choice": {"pk": "campaigns.campaign", "step": "campaigns.step"},
    "api:campaign-files": {"pk": "campaigns.campaign", "step": "campaigns.step"},
    "api:campaign-file": {"pk": "campaigns.campaign", "step": "campaigns.step", "file": "campaigns.stepfile"},
    "api:campaign-trials": {"pk": "campaigns.campaign"},
    "api:campaign-held": {"pk": "campaigns.campaign"},
    "api:contact-detail": {"pk": "campaigns.contact"},
    "api:contact-consent": {"pk": "campaigns.contact"},
    "api:import-detail": {"pk": "campaigns.intake"},
    "api:list-detail": {"pk": "campaigns.contactlist"},
    "api:campaign-steps": {"pk": "campaigns.campaign"},
    "api:endpoint-detail": {"pk": "campaigns.endpoint"},
    "api:endpoint-rotate": {"pk": "campaigns.endpoint"},
    "api:endpoint-test": {"pk": "campaigns.endpoint"},
    "api:endpoint-deliveries": {"pk": "campaigns.endpoint"},
    "api:endpoint-delivery": {"pk": "campaigns.endpoint", "delivery": "campaigns.hookdelivery"},
    "api:endpoint-redeliver": {"pk": "campaigns.endpoint"},
    "api:erasure-detail": {"pk": "campaigns.erasure"},
    "api:domain-detail": {"pk": "senders.senderdomain"},
    "api:domain-check-dns": {"pk": "senders.senderdomain"},
    "api:domain-make-key": {"pk": "senders.senderdomain"},
    "api:reply-detail": {"pk": "campaigns.reply"},
    "api:reply-answer": {"pk": "campaigns.reply"},
    "api:reply-take-back": {"pk": "campaigns.reply", "answer": "campaigns.trialmail"},
    "api:message-detail": {"key": "campaigns.message"},
    "api:message-count-as-sent": {"key": "campaigns.message"},
    "api:message-send-again": {"key": "campaigns.message"},
    "campaigns:opt_out": {"token": "none"},
    "campaigns:sign_up": {"token": "none"},
    "campaigns:confirm": {"token": "none"},
    "account_confirm_email": {"key": "none"},
    "account_reset_password_from_key": {"uidb36": "1", "key": "none"},
    "admin:app_list": {"app_label": "campaigns"},
    "admin:view_on_site": {"content_type_id": "1", "object_id": "campaigns.campaign"},
}
# What a stranger may open: signing in, getting a new password, choosing a language.
SIGNS_OUT = {"account_logout", "admin:logout"}
OPEN = SIGNS_OUT | {
    "account_confirm_email",
    "account_email_verification_sent",
    "account_inactive",
    "account_login",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "account_signup",
    "admin:jsi18n",
    "admin:login",
    "set_language",
}
# Without a name: the answers of the admin and the API to any other address, and the admin's redirects to a form.
UNNAMED = {"(?P<url>.*)$", "<path:object_id>/", ""}
# Carol may open these, but what they answer to a plain visit is not a page.
NOT_PAGES: dict[str, set[int]] = {
    "account_confirm_email": {404},
    "account_email_verification_sent": {404},
    "campaigns:sign_up": {404},  # These two open with a token of ours alone: tests/campaigns/test_signups.py.
    "campaigns:confirm": {404},
    "campaigns:original_html": {404},  # These two need the mail as it came, which is in the public schema.
    "campaigns:attachment": {404},
    "campaigns:opt_out": {404},  # Opens with a mail's own token alone: tests/campaigns/test_optout.py.
    "admin:autocomplete": {403},  # Asks for a field to complete.
    "admin:view_on_site": {404},  # No model of ours has a page beside its own.
}
CLOSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


@dataclass(frozen=True)
class Page:
    """One address; `row` is the label of the planted row that it is about."""

    name: str
    path: str
    row: str


@dataclass(frozen=True)
class Visitor:
    """A browser with a session, a program with a key, or nobody."""

    session: str = ""
    key: str = ""

    def get(self, host: str, path: str) -> HttpResponse:
        return self._ask("get", host, path)

    def post(self, host: str, path: str) -> HttpResponse:
        return self._ask("post", host, path, {"post": "yes", "name": "changed"})

    def _ask(self, method: str, host: str, *arguments: Any) -> HttpResponse:
        # A new browser each time: the test client would let one host delete another's cookie.
        client = Client(raise_request_exception=False)
        if self.session:
            client.cookies["sessionid"] = self.session
        headers = {"host": host} | ({"authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            answer: HttpResponse = getattr(client, method)(*arguments, headers=headers)
            body(answer)
            return answer
        finally:
            connection.set_schema_to_public()


@pytest.fixture
def planted(alpha: Agency, beta: Agency) -> dict[str, Model]:
    return plant(alpha)


@pytest.fixture
def pages(planted: dict[str, Model]) -> list[Page]:
    return [page(name, planted) for name in names(get_resolver("outreach.urls"))]


@pytest.fixture
def carols(alpha: Agency) -> list[Visitor]:
    return visitors(alpha, ALPHA)


@pytest.fixture
def oscars(beta: Agency) -> list[Visitor]:
    return visitors(beta, BETA)


def visitors(agency: Agency, host: str) -> list[Visitor]:
    """The agency's owner, signed in on the agency's own host, and a program with the owner's key."""
    browser = Client()
    with context.entered(agency):
        owner = User.objects.get(is_superuser=True)
        key = keys.issue(owner, "walker")
    browser.post("/accounts/login/", {"login": owner.email, "password": PASSWORD}, headers={"host": host})
    connection.set_schema_to_public()
    return [Visitor(session=browser.cookies["sessionid"].value), Visitor(key=key)]


def names(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """The full name of every view; one without a name is refused."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from names(entry, f"{prefix}{entry.namespace}:" if entry.namespace else prefix)
        elif entry.name:
            yield prefix + entry.name
        else:
            assert str(entry.pattern) in UNNAMED, f"{entry.pattern} in outreach.urls has no name: give it one"


def page(name: str, planted: dict[str, Model]) -> Page:
    wanted = arguments_of(name)
    given = ARGUMENTS.get(name) or of_the_admin(name, wanted)
    missing = wanted - set(given)
    assert not missing, f"{name} takes {missing}: name them in ARGUMENTS of {__file__}"
    rows = [label for label in given.values() if label in planted]
    values = {
        argument: getattr(planted[label], argument, planted[label].pk) if label in planted else label
        for argument, label in given.items()
    }
    return Page(name, reverse(name, urlconf=urls, kwargs=values or None), rows[0] if rows else "")


def arguments_of(name: str) -> set[str]:
    *namespaces, last = name.split(":")
    resolver = get_resolver("outreach.urls")
    for namespace in namespaces:
        _prefix, resolver = resolver.namespace_dict[namespace]
    possible, *_others = resolver.reverse_dict.getlist(last)
    return set(possible[0][0][1])


def of_the_admin(name: str, wanted: set[str]) -> dict[str, str]:
    """Pages of the admin are named after their model."""
    for model in sites.agency._registry:
        if name.startswith(f"admin:{model._meta.app_label}_{model._meta.model_name}_"):
            return dict.fromkeys(wanted, model._meta.label_lower)
    return {"id": "users.user"} if name == "admin:auth_user_password_change" else {}


def body(answer: HttpResponse) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]
    if answer.streaming:
        answer.streaming_content = [content]  # type: ignore[attr-defined]
    return content.decode(errors="replace") + str(answer.headers)


def leads_to_sign_in(answer: HttpResponse) -> bool:
    return answer.status_code == HTTPStatus.FOUND and "/login/" in answer.headers["location"]


def contents(schema: str) -> dict[str, tuple[int, str]]:
    """Count and digest of every table, but sessions and what signing in touches."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])
        found = {}
        for (table,) in cursor.fetchall():
            if table == "django_session":
                continue
            cursor.execute(f"SELECT t::text FROM {schema}.{table} t ORDER BY 1")
            rows = [row[0] for row in cursor.fetchall()]
            found[table] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
        return found


def test_every_model_of_an_agency_has_a_planted_row(planted: dict[str, Model]) -> None:
    models = {model._meta.label_lower for model in apps.get_models() if issubclass(model, AgencyRow)}
    shown = {model._meta.label_lower for model in sites.agency._registry}
    assert (models | shown) - set(planted) == set(), "plant a row of these in tests/isolation/planted.py"
    assert all(isinstance(row, Model) for row in planted.values())


def test_the_walk_covers_the_site(pages: list[Page]) -> None:
    found = {page.name for page in pages}
    assert {"analytics:dashboard", "campaigns:detail", "account_login", "admin:users_user_change"} <= found
    stale = set(ARGUMENTS) - found
    assert not stale, f"{stale} in ARGUMENTS are pages no more"


def test_carol_sees_her_own(pages: list[Page], carols: list[Visitor]) -> None:
    """The control: what is walked below exists, opens for its owner, and shows the mark."""
    wrong, marked = [], set()
    for page in pages:
        seen = []
        for carol in carols:
            with transaction.atomic():
                answer = carol.get(ALPHA, page.path)
                transaction.set_rollback(True)
            moved = answer.status_code == HTTPStatus.FOUND and not leads_to_sign_in(answer)
            fits = answer.status_code in {200, 405} | NOT_PAGES.get(page.name, set())
            # Nobody may add or delete what is history.
            fits |= answer.status_code == HTTPStatus.FORBIDDEN and page.name.endswith(("_add", "_delete"))
            seen.append(answer.status_code if not (moved or fits) else 0)
            if answer.status_code == HTTPStatus.OK and MARK in body(answer):
                marked.add(page.name)
        if all(seen):
            wrong.append(f"{page.name} {page.path}: {seen}")
    assert wrong == []
    about_a_row = {page.name for page in pages if page.row and page.name.endswith("_change")}
    assert about_a_row - marked == set(), "the mark is not on these pages, so a leak of them would not be seen"
    assert {"campaigns:detail", "campaigns:import", "campaigns:list", "campaigns:rejected"} <= marked
    assert {"campaigns:inbox", "campaigns:thread", "api:reply-list", "api:reply-detail"} <= marked


@pytest.mark.parametrize("method", ["get", "post"])
def test_oscar_gets_nothing_at_alphas_host(
    pages: list[Page], oscars: list[Visitor], alpha: Agency, method: str
) -> None:
    before = contents(alpha.schema_name)

    assert let_in(pages, oscars, method) == []

    assert contents(alpha.schema_name) == before
    assert oscars[0].get(BETA, "/admin/").status_code == HTTPStatus.OK, "else all were just sent to sign in again"


def test_nobody_gets_anything_at_alphas_host(pages: list[Page]) -> None:
    assert let_in(pages, [Visitor()], "get") == []


def test_the_walk_notices_when_agencies_share_their_sessions(
    pages: list[Page], oscars: list[Visitor], alpha: Agency, beta: Agency
) -> None:
    """A planted leak: Beta's session is in Alpha's table too, and its user has a twin there."""
    with context.entered(beta):
        oscar, session = User.objects.get(is_superuser=True), Session.objects.get(pk=oscars[0].session)
    with context.entered(alpha):
        User.objects.filter(is_superuser=True).update(id=oscar.pk, password=oscar.password)
        Session(session.session_key, session.session_data, session.expire_date).save(force_insert=True)

    noticed = let_in([page for page in pages if page.row], oscars, "get")

    assert {"campaigns:detail", "admin:campaigns_contact_change", "admin:users_user_change"} <= set(noticed)


def test_oscar_finds_nothing_of_alphas_at_his_own_host(pages: list[Page], oscars: list[Visitor], alpha: Agency) -> None:
    before = contents(alpha.schema_name)
    wrong = []
    for page in pages:
        if page.name in SIGNS_OUT:
            continue
        for oscar in oscars:
            for answer in [oscar.get(BETA, page.path), *([oscar.post(BETA, page.path)] if page.row else [])]:
                shown = answer.status_code == HTTPStatus.OK and page.row
                if answer.status_code >= 500 or MARK in body(answer) or shown:
                    wrong.append(f"{page.name} {page.path}: {answer.status_code}")
    assert wrong == []
    assert contents(alpha.schema_name) == before


def let_in(pages: list[Page], visitors: list[Visitor], method: str) -> list[str]:
    """The names of the pages at Alpha's host that told one of these visitors anything."""
    found = []
    for page in pages:
        for visitor in visitors:
            answer = getattr(visitor, method)(ALPHA, page.path)
            closed = answer.status_code in CLOSED or leads_to_sign_in(answer) or page.name in OPEN
            if answer.status_code >= 500 or MARK in body(answer) or not closed:
                found.append(page.name)
    return found
