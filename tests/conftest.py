"""The cast of every test: agency Alpha, where Carol works, and agency Beta, where Oscar is the outsider.

`alpha` and `beta` roll back with the test. `committed` is for tests with threads, processes or real workers: what
they write is seen by others, and is removed afterwards.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from django.utils import timezone, translation

from tenants import clock
from tenants.models import Agency
from tenants.users.models import User

PASSWORD = "correct horse battery"
CAST = [
    ("alpha", "Alpha", "carol@alpha.test", "Europe/Berlin"),
    ("beta", "Beta", "oscar@beta.test", "America/New_York"),
]
# Nobody steals these passwords, so they need not be slow. How slow is part of each hash: other processes read them too.
PBKDF2PasswordHasher.iterations = 1_000
# What outlives a test: the agencies, their people, and what migrations wrote.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "users_user", "tenants_agency", "tenants_domain"}
# What runs processes against the clock, and would disturb another of its kind.
HEAVY = ("chaos", "concurrency", "browser")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests out, all heavy ones go to one, beside which the others run light ones."""
    for item in items:
        if item.path.parent.name in HEAVY or item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("heavy"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_modify_db_settings: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, migrated once, with both agencies in it."""
    from django.test.utils import setup_databases, teardown_databases

    from tenants import provisioning

    with django_db_blocker.unblock():
        old = setup_databases(verbosity=0, interactive=False)
        provisioning.prepare()
        for slug, name, person, zone in CAST:
            owner = provisioning.Owner(person, PASSWORD, person.split("@")[0].title())
            provisioning.create_agency(slug, name, owner=owner, timezone=zone)
    yield
    with django_db_blocker.unblock():
        # A test that drove a browser has a connection of its own that nobody can reach any more.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connection.close()
        teardown_databases(old, verbosity=0)


@pytest.fixture(autouse=True)
def fresh_thread() -> Iterator[None]:
    """A request leaves its agency and its language behind in the thread: each test starts in public, in English."""
    connection.set_schema_to_public()
    with translation.override("en"):
        yield


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that travels in time takes the database along, as far as jobs of its own process ask it."""
    monkeypatch.setattr(clock.Clock, "__call__", lambda _: timezone.now())
    monkeypatch.setattr(clock, "now", lambda: timezone.now())


@pytest.fixture
def alpha(db: None) -> Agency:
    """The agency where Carol works."""
    return Agency.objects.get(slug="alpha")


@pytest.fixture
def beta(db: None) -> Agency:
    """The agency where Oscar, the outsider, works."""
    return Agency.objects.get(slug="beta")


@pytest.fixture
def carol(alpha: Agency) -> User:
    """Alpha's owner."""
    return _person(alpha)


@pytest.fixture
def oscar(beta: Agency) -> User:
    """Beta's owner, an outsider to Alpha."""
    return _person(beta)


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Agency]]:
    """Both agencies by slug, in a database that others see; emptied before and after."""
    with django_db_blocker.unblock():
        connection.set_schema_to_public()
        _empty()
        # Rows that were changed come in another order.
        yield {agency.slug: agency for agency in Agency.objects.exclude(schema_name="public").order_by("slug")}
        connection.set_schema_to_public()
        _empty()


def _person(agency: Agency) -> User:
    from tenants import context

    with context.entered(agency):
        return User.objects.get()


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables "
            "WHERE (schemaname = 'public' OR schemaname LIKE 'a\\_%%') AND tablename <> ALL(%s)",
            [list(KEPT)],
        )
        tables = ", ".join(row[0] for row in cursor.fetchall())
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
