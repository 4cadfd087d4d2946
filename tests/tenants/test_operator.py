"""The operator's admin: makes agencies whole, never deletes one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tenants import context, provisioning
from tenants.models import Agency, Domain
from tenants.users.models import User
from tests.conftest import PASSWORD

NEW = {
    "slug": "gamma",
    "name": "Gamma",
    "host": "",
    "owner": "eve@gamma.test",
    "timezone": "Europe/Berlin",
    "language": "ru",
}


@pytest.fixture
def operator(committed: dict[str, Agency]) -> Iterator[Callable[..., str]]:
    """Asks the operator's site for a page as the operator; returns its text, after redirects."""
    person = User.objects.create_superuser("op@polza.test", PASSWORD)
    client = Client(headers={"host": "localhost"})
    client.force_login(person)

    def ask(path: str, data: dict[str, Any] | None = None) -> str:
        answer = client.get(path) if data is None else client.post(path, data, follow=True)
        connection.set_schema_to_public()
        assert answer.status_code == 200, path
        return answer.content.decode()

    yield ask
    person.delete()


def test_a_new_agency_is_whole_when_the_page_comes_back(operator: Callable[..., str], gamma: str) -> None:
    page = operator("/admin/tenants/agency/add/", NEW)

    assert "Gamma is ready at http://gamma.localhost:8000/" in page
    agency = Agency.objects.get(slug=gamma)
    assert (agency.ready, agency.schema_name, agency.timezone, agency.language) == (
        True,
        "a_gamma",
        "Europe/Berlin",
        "ru",
    )
    with context.entered(agency):
        assert User.objects.get().is_superuser
        assert not User.objects.get().has_usable_password()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slug": "Gamma"}, "Use 2 to 31 small letters"),
        ({"slug": "operator"}, "already exists"),
        ({"slug": "www"}, "is reserved"),
        ({"slug": "alpha"}, "already exists"),
        ({"host": "alpha.localhost"}, "leads to another site"),
        ({"host": "http://x"}, "Write the host name alone"),
        ({"owner": "nobody"}, "valid email address"),
        ({"timezone": "Mars"}, "is not a time zone"),
    ],
)
def test_a_bad_detail_is_shown_at_the_form_and_nothing_is_made(
    operator: Callable[..., str], changes: dict[str, str], said: str
) -> None:
    before = Agency.objects.count()
    assert said in operator("/admin/tenants/agency/add/", {**NEW, **changes})
    assert Agency.objects.count() == before


def test_one_that_broke_half_way_is_finished_by_the_action(
    operator: Callable[..., str], gamma: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(schema: str) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(provisioning, "_migrate", broken)
    assert "Gamma is not ready yet" in operator("/admin/tenants/agency/add/", NEW)
    agency = Agency.objects.get(slug=gamma)
    assert not agency.ready

    monkeypatch.undo()
    chosen = {"action": "finish", "_selected_action": [agency.pk]}
    assert "Gamma is ready at" in operator("/admin/tenants/agency/", chosen)
    agency.refresh_from_db()
    assert agency.ready


def test_it_changes_an_agency_and_its_hosts_but_never_its_short_name(operator: Callable[..., str]) -> None:
    alpha = Agency.objects.get(slug="alpha")
    host = alpha.domains.get()
    page = f"/admin/tenants/agency/{alpha.pk}/change/"
    changes = {
        "slug": "omega",
        "name": "Alpha",
        "timezone": "Europe/Berlin",
        "weight": 2,
        "language": "en",
        "active": "on",
        "domains-TOTAL_FORMS": 2,
        "domains-INITIAL_FORMS": 1,
        "domains-0-id": host.pk,
        "domains-0-tenant": alpha.pk,
        "domains-0-domain": host.domain,
        "domains-0-is_primary": "on",
        "domains-1-tenant": alpha.pk,
        "domains-1-domain": "WWW.Mail.Alpha.Test",
    }
    try:
        assert host.domain in operator(page)
        operator(page, changes)
        assert set(alpha.domains.values_list("domain", "is_primary")) == {
            ("alpha.localhost", True),
            ("mail.alpha.test", False),
        }
        alpha.refresh_from_db()
        assert alpha.weight == 2
        again = operator(page, {**changes, "domains-1-domain": "mail alpha"})
        assert "Write the host name alone" in again
    finally:
        Domain.objects.filter(domain="mail.alpha.test").delete()
        Agency.objects.filter(pk=alpha.pk).update(weight=1)
    alpha.refresh_from_db()
    assert alpha.slug == "alpha"


def test_the_public_schema_is_not_shown_and_nothing_is_deleted(operator: Callable[..., str]) -> None:
    alpha, public = Agency.objects.get(slug="alpha"), Agency.objects.get(slug="operator")
    page = operator("/admin/tenants/agency/")

    assert "alpha.localhost" in page
    assert "127.0.0.1" not in page
    assert "delete_selected" not in page
    operator("/admin/tenants/agency/", {"action": "delete_selected", "_selected_action": [alpha.pk], "post": "yes"})
    assert Agency.objects.filter(pk__in=[alpha.pk, public.pk]).count() == 2
