"""An agency is whole or not ready, whatever happens while it is made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from tenants import context, provisioning
from tenants.models import Agency, Domain
from tenants.provisioning import Owner, create_agency
from tenants.users.models import User
from tests.conftest import PASSWORD

EVE = Owner("eve@gamma.test", PASSWORD)


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


@contextmanager
def killed_at(statement: str) -> Iterator[None]:
    """End the work at the first SQL statement that has this text in it."""

    def wrapper(execute: Callable[..., Any], sql: str, params: Any, many: bool, details: Any) -> Any:
        if statement in sql:
            raise Killed(statement)
        return execute(sql, params, many, details)

    with connection.execute_wrapper(wrapper), pytest.raises(Killed):
        yield


def answered(slug: str) -> int:
    status = Client().get("/accounts/login/", headers={"host": f"{slug}.localhost"}).status_code
    connection.set_schema_to_public()
    return status


def counts() -> tuple[int, int, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'a\\_%%'")
        return Agency.objects.count(), Domain.objects.count(), cursor.fetchone()[0]


def test_it_is_finished_by_the_next_call_whenever_it_was_killed(gamma: str) -> None:
    steps = [
        'INSERT INTO "tenants_agency"',
        'INSERT INTO "tenants_domain"',
        "CREATE SCHEMA",
        'CREATE TABLE "campaigns_campaign"',
        'INSERT INTO "users_user"',
        'UPDATE "tenants_agency" SET "ready"',
    ]
    for step in steps:
        with killed_at(step):
            create_agency(gamma, "Gamma", owner=EVE)
        connection.set_schema_to_public()
        assert not Agency.objects.filter(slug=gamma, ready=True).exists(), step
        assert answered(gamma) == 404, step

    agency = create_agency(gamma, "Gamma", owner=EVE)

    assert agency.ready
    assert answered(gamma) == 200
    with context.entered(agency):
        assert [user.email for user in User.objects.all()] == ["eve@gamma.test"]
        assert User.objects.get().check_password(PASSWORD)


def test_repeating_it_changes_nothing(gamma: str) -> None:
    first = create_agency(gamma, "Gamma", host="mail.gamma.test", owner=EVE, timezone="Europe/Berlin")
    before = counts()

    second = create_agency(gamma, "Other name", owner=Owner("EVE@gamma.test", "another password 1"))

    assert counts() == before
    assert (second.pk, second.name, second.timezone) == (first.pk, "Gamma", "Europe/Berlin")
    assert [domain.domain for domain in second.domains.all()] == ["mail.gamma.test"]
    with context.entered(second):
        assert User.objects.get().check_password(PASSWORD)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("slug", {"slug": ""}),
        ("slug", {"slug": "g"}),
        ("slug", {"slug": "Gamma"}),
        ("slug", {"slug": "gamma\n"}),
        ("slug", {"slug": "gamma-"}),
        ("slug", {"slug": "ga_mma"}),
        ("slug", {"slug": 'g"; DROP SCHEMA public'}),
        ("slug", {"slug": "g" * 32}),
        ("slug", {"slug": "operator"}),
        ("slug", {"slug": "public"}),
        ("slug", {"slug": "www"}),
        ("name", {"name": ""}),
        ("name", {"name": "n" * 121}),
        ("timezone", {"timezone": "Europe/Atlantis"}),
        ("language", {"language": "xx"}),
        ("host", {"host": "localhost"}),
        ("host", {"host": "www.localhost"}),
        ("host", {"host": "alpha.localhost"}),
        ("host", {"host": "ALPHA.localhost."}),
        ("host", {"host": "gamma.localhost:8000"}),
        ("host", {"host": "http://gamma.localhost"}),
        ("host", {"host": "gamma_mail.localhost"}),
        ("host", {"host": "-gamma.localhost"}),
        ("email", {"owner": Owner("not an address", PASSWORD)}),
        ("email", {"owner": Owner("", PASSWORD)}),
        ("password", {"owner": Owner("eve@gamma.test", "short")}),
        ("password", {"owner": Owner("eve@gamma.test", "password1234")}),
    ],
)
def test_it_refuses_bad_details_by_field_and_makes_nothing(alpha: Agency, field: str, changes: dict[str, Any]) -> None:
    before = counts()
    details = {"slug": "gamma", "name": "Gamma", **changes}

    with pytest.raises(ValidationError) as refused:
        create_agency(details.pop("slug"), details.pop("name"), **details)

    assert field in refused.value.message_dict
    assert counts() == before


def test_it_does_not_take_over_a_schema_that_another_agency_left(alpha: Agency) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA a_gamma")

    with pytest.raises(ValidationError, match="a_gamma is there but no agency has it"):
        create_agency("gamma", "Gamma")


def test_a_failed_migration_switches_off_one_agency_and_the_next_run_switches_it_on(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate = provisioning._migrate

    def broken(schema: str) -> None:
        if schema == "a_alpha":
            raise RuntimeError("disk full")
        migrate(schema)

    monkeypatch.setattr(provisioning, "_migrate", broken)
    with pytest.raises(RuntimeError, match="switched off: alpha"):
        provisioning.migrate_all()
    assert [agency.slug for agency in context.ready_agencies()] == ["beta"]

    monkeypatch.undo()
    provisioning.migrate_all()
    assert [agency.slug for agency in context.ready_agencies()] == ["alpha", "beta"]


def test_only_what_lacks_a_migration_is_migrated(committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    monkeypatch.setattr(provisioning, "_apply", applied.append)
    provisioning.migrate_all()
    assert applied == []

    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM a_alpha.django_migrations WHERE app = 'campaigns' AND name = '0047_newest_opt_outs'"
        )
        assert cursor.rowcount == 1
    try:
        provisioning.migrate_all()
        assert applied == ["a_alpha"]
    finally:
        with context.entered(committed["alpha"]):
            MigrationRecorder(connection).record_applied("campaigns", "0047_newest_opt_outs")


def test_no_agency_is_deleted_and_least_of_all_the_public_one(alpha: Agency) -> None:
    operator = Agency.objects.get(schema_name="public")

    for delete in (
        operator.delete,
        lambda: operator.delete(force_drop=True),
        alpha.delete,
        lambda: alpha.delete(force_drop=True),
        Agency.objects.all().delete,
        lambda: Agency.objects.filter(pk=alpha.pk).delete(),
    ):
        with pytest.raises(ValidationError, match="switch it off"):
            delete()

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname IN ('public', 'a_alpha')")
        assert cursor.fetchone()[0] == 2


def test_preparing_again_is_harmless_and_a_taken_public_host_is_named(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = counts()
    provisioning.prepare()
    assert counts() == before

    monkeypatch.setattr(settings, "PUBLIC_HOST", "alpha.localhost")
    with pytest.raises(ImproperlyConfigured, match=r"PUBLIC_HOST is alpha\.localhost, which leads to the agency alpha"):
        provisioning.prepare()


def test_host_names_are_stored_in_small_letters_without_www(alpha: Agency) -> None:
    domain = Domain.objects.create(tenant=alpha, domain="WWW.Mail.Alpha.Test.", is_primary=False)

    assert domain.domain == "mail.alpha.test"
