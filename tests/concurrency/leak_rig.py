"""Many threads in many agencies, looking for one that reads another's rows. `test_leaks` runs it in a process.

Prints one JSON line for each round: the settings as they are, then each planted leak until it is caught.
"""

import contextlib
import json
import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import django.db
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper as PlainWrapper
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django_tenants.postgresql_backend.base import DatabaseWrapper
from django_tenants.utils import tenant_context

from campaigns.models import ContactList
from tenants import context, jobs
from tenants.models import Agency

THREADS = 12
SEED = 20261124
AGENCIES = ("alpha", "beta")
ENTERED = context.entered


class Planned(Exception):
    """A failure that the rig throws on purpose."""


class Leak(Exception):
    """A thread saw something of another agency, or stayed where it should have left."""


def look(slug: str) -> None:
    """Read what the schema holds and compare it with whose it should be."""
    names = list(ContactList.objects.values_list("name", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        schema = cursor.fetchone()[0]
    if names != [slug] or schema != f"a_{slug}":
        raise Leak(f"in {slug}: schema {schema}, lists {names}")


def look_outside() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        if (schema := cursor.fetchone()[0]) != "public":
            raise Leak(f"outside: schema {schema}")


def plainly(slug: str, other: str) -> None:
    look(slug)


def twice(slug: str, other: str) -> None:
    look(slug)
    look(slug)


def failing(slug: str, other: str) -> None:
    look(slug)
    raise Planned


def with_an_sql_error(slug: str, other: str) -> None:
    with contextlib.suppress(django.db.Error), transaction.atomic():
        connection.cursor().execute("SELECT 1/0")
    look(slug)


def in_a_transaction(slug: str, other: str) -> None:
    with transaction.atomic():
        look(slug)
    look(slug)


def rolled_back(slug: str, other: str) -> None:
    with contextlib.suppress(Planned), transaction.atomic():
        look(slug)
        raise Planned
    look(slug)


def savepoint_rolled_back(slug: str, other: str) -> None:
    with transaction.atomic():
        with contextlib.suppress(Planned), transaction.atomic():
            look(slug)
            raise Planned
        look(slug)


def entered_in_a_savepoint_that_is_rolled_back(slug: str, other: str) -> None:
    agency = Agency.objects.get(slug=other)
    with transaction.atomic():
        with contextlib.suppress(Planned), transaction.atomic(), ENTERED(agency):
            look(other)
            raise Planned
        look(slug)
    look(slug)


def rolled_back_to_a_savepoint_older_than_the_agency(slug: str, other: str) -> None:
    agency = Agency.objects.get(slug=other)
    with transaction.atomic():
        savepoint = transaction.savepoint()
        with ENTERED(agency):
            look(other)
            transaction.savepoint_rollback(savepoint)
            look(other)
        look(slug)
    look(slug)


def nested(slug: str, other: str) -> None:
    look(slug)
    with ENTERED(Agency.objects.get(slug=other)):
        look(other)
    look(slug)
    with context.public():
        look_outside()
    look(slug)


def reconnecting(slug: str, other: str) -> None:
    look(slug)
    connection.close()
    look(slug)


def streaming(slug: str, other: str) -> None:
    with transaction.atomic():
        for row in ContactList.objects.iterator(chunk_size=1):
            if row.name != slug:
                raise Leak(f"in {slug}: streamed {row.name}")
    look(slug)


WAYS: dict[str, Callable[[str, str], None]] = {
    way.__name__: way
    for way in (
        plainly,
        twice,
        failing,
        with_an_sql_error,
        in_a_transaction,
        rolled_back,
        savepoint_rolled_back,
        entered_in_a_savepoint_that_is_rolled_back,
        rolled_back_to_a_savepoint_older_than_the_agency,
        nested,
        reconnecting,
        streaming,
    )
}


def other_than(slug: str) -> str:
    return AGENCIES[1 - AGENCIES.index(slug)]


@jobs.job
def job(way: str, slug: str) -> None:
    WAYS[way](slug, other_than(slug))


def page(request: HttpRequest, way: str) -> HttpResponse:
    slug = request.get_host().partition(".")[0]
    if request.tenant.slug != slug:  # type: ignore[attr-defined]
        raise Leak(f"on {slug}: agency {request.tenant.slug}")  # type: ignore[attr-defined]
    try:
        WAYS[way](slug, other_than(slug))
    except Leak as leak:
        return HttpResponse(f"leak: {leak}", status=218)
    return HttpResponse(slug)


urlpatterns = [path("look/<str:way>/", page)]


def ask(application: Any, way: str, slug: str) -> None:
    """One request as the web server makes it, ended as the web server ends it."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"/look/{way}/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "HTTP_HOST": f"{slug}.localhost",
        "wsgi.input": BytesIO(),
        "wsgi.url_scheme": "http",
    }
    answers: list[str] = []
    response = application(environ, lambda status, headers: answers.append(status))
    body = b"".join(response).decode()
    response.close()
    status = int(answers[0].split()[0])
    if status == 218:
        raise Leak(f"page {way}: {body}")
    if (status, body) != (200, slug) and (status, way) != (500, failing.__name__):
        raise Leak(f"page {way} on {slug}: {status} {body[:200]}")


def work(way: str, slug: str) -> None:
    """One job as a worker runs it, from outside all agencies."""
    connection.set_schema_to_public()
    try:
        jobs.run(jobs._name(job), f"a_{slug}", way, slug)
    except jobs.JobError as error:
        if "Leak" in str(error) or way != failing.__name__:
            raise Leak(f"job {way} in {slug}: {error}") from error
    if context.current_schema() != "public":
        raise Leak(f"job {way} stayed in {context.current_schema()}")
    look_outside()


def operate(application: Any, seed: int, most: int, found: list[str], done: list[int]) -> None:
    dice = random.Random(seed)
    count = 0
    try:
        while count < most and not found:
            way, slug = dice.choice(list(WAYS)), dice.choice(AGENCIES)
            if dice.random() < 0.5:
                ask(application, way, slug)
            else:
                work(way, slug)
            count += 1
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}"[:300])
    finally:
        connection.close()
        done.append(count)


def play(name: str, most: int) -> None:
    application = get_wsgi_application()
    found: list[str] = []
    done: list[int] = []
    threads = [
        threading.Thread(target=operate, args=(application, SEED + number, most, found, done))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = {"round": name, "operations": sum(done), "found": found[:3], "pool": connection.pool is not None}
    sys.stdout.write(json.dumps(told) + "\n")


@contextlib.contextmanager
def patched(target: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)


def forgets_to_set(self: Any, tenant: Any, include_public: bool = True) -> None:
    self.tenant, self.schema_name, self.include_public_schema = tenant, tenant.schema_name, include_public


def closes_and_believes(self: Any) -> None:
    PlainWrapper.close(self)


def never_leaves(name: str, schema: str, *args: Any) -> None:
    connection.set_tenant(Agency.objects.get(schema_name=schema))
    jobs._known[name](*args)


@contextlib.contextmanager
def leaves_unless_it_fails(agency: Agency) -> Iterator[Agency]:
    before = connection.tenant
    connection.set_tenant(agency)
    yield agency
    connection.set_tenant(before)


_shared: dict[str, tenant_context] = {}


@contextlib.contextmanager
def one_object_for_all_threads(agency: Agency) -> Iterator[Agency]:
    """django-tenants' own forms `with agency:` and `@tenant_context(…)`, which keep their state in one object."""
    with _shared.setdefault(agency.schema_name, tenant_context(agency)):
        yield agency


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "the search path is not set when an agency is entered": (DatabaseWrapper, "set_tenant", forgets_to_set),
    "a rolled back savepoint is not noticed": (DatabaseWrapper, "savepoint_rollback", PlainWrapper.savepoint_rollback),
    "a rolled back transaction is not noticed": (DatabaseWrapper, "rollback", PlainWrapper.rollback),
    "a closed connection is not noticed": (DatabaseWrapper, "close", closes_and_believes),
    "a job does not leave its agency": (jobs, "run", never_leaves),
    "a job leaves its agency only when it succeeds": (context, "entered", leaves_unless_it_fails),
    "threads share the state of a context": (context, "entered", one_object_for_all_threads),
}


def main(operations: int) -> None:
    """Each round does this many operations in each thread, or stops at the first leak."""
    logging.disable(logging.CRITICAL)
    with override_settings(ROOT_URLCONF=__name__, LOGGING_CONFIG=None):
        play("as it is", operations)
        with override_settings(TENANT_LIMIT_SET_CALLS=not settings.TENANT_LIMIT_SET_CALLS):
            play("with the other TENANT_LIMIT_SET_CALLS", operations // 4)
        for name, (target, attribute, value) in PLANTED.items():
            with patched(target, attribute, value):
                play(name, operations)
