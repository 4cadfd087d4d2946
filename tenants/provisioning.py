"""Makes an agency whole: row, host name, schema, owner.

Safe to repeat: a second call finishes what a first began.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils.translation import gettext as _
from django_tenants.utils import schema_exists

from tenants import context, restored
from tenants.context import PUBLIC
from tenants.models import HOST, Agency, Domain, host_name
from tenants.users.models import User

logger = logging.getLogger(__name__)
RESERVED = {"operator", "public", "www"}
# Any constant: one provisioning at a time, so two commands never migrate one schema together.
_LOCK = 7_302_199_001


@dataclass(frozen=True, slots=True)
class Owner:
    """Who administers a new agency. Without a password the person sets one by the reset mail."""

    email: str
    password: str | None = None
    name: str = ""


def prepare() -> None:
    """Bring the public schema up to date and make the operator's site answer on the public host.

    Raises ImproperlyConfigured when PUBLIC_HOST is the host name of an agency.
    """
    with context.public(), _one_at_a_time():
        _migrate(PUBLIC)
        restored.adopt()
        operator, _created = Agency.objects.get_or_create(
            schema_name=PUBLIC, defaults={"slug": "operator", "name": "Operator"}
        )
        public_host = host_name(settings.PUBLIC_HOST)
        for host in [public_host, *(["127.0.0.1"] if public_host == "localhost" else [])]:
            domain, _created = Domain.objects.get_or_create(
                domain=host, defaults={"tenant": operator, "is_primary": host == public_host}
            )
            if domain.tenant_id != operator.pk:
                raise ImproperlyConfigured(f"PUBLIC_HOST is {host}, which leads to the agency {domain.tenant.slug}.")


def create_agency(
    slug: str,
    name: str,
    *,
    host: str = "",
    owner: Owner | None = None,
    timezone: str = "UTC",
    language: str = "en",
) -> Agency:
    """An agency that is whole and ready. Repeating the call changes nothing that is there.

    Raises ValidationError for a bad slug, a host name another agency has, a bad address or a weak password;
    then nothing has been made. Whatever breaks later leaves the agency not ready, and the next call goes on.
    """
    with context.public(), _one_at_a_time():
        agency, domain = check(slug, name, host=host, owner=owner, timezone=timezone, language=language)
        with transaction.atomic():
            if agency.pk is None:
                agency.save()
            if domain.pk is None:
                domain.tenant = agency
                domain.is_primary = not agency.domains.exists()
                domain.save()
        _bring_up_to_date(agency)
        if owner is not None:
            with context.entered(agency):
                if not User.objects.filter(email__iexact=owner.email).exists():
                    User.objects.create_superuser(owner.email, owner.password, name=owner.name)
        Agency.objects.filter(pk=agency.pk).update(ready=True)
        agency.refresh_from_db()
    return agency


def check(
    slug: str,
    name: str,
    *,
    host: str = "",
    owner: Owner | None = None,
    timezone: str = "UTC",
    language: str = "en",
) -> tuple[Agency, Domain]:
    """The agency and the host name that this call is about, as they are or as they would be made.

    Raises ValidationError, by field, for whatever `create_agency` refuses. Changes nothing.
    """
    if slug in RESERVED:
        raise ValidationError({"slug": _("The short name %(slug)s is reserved. Take another one.") % {"slug": slug}})
    agency = Agency.objects.filter(slug=slug).first()
    if agency is None:
        schema = Agency.schema_for(slug)
        agency = Agency(slug=slug, schema_name=schema, name=name, timezone=timezone, language=language)
        agency.full_clean(exclude=["schema_name"], validate_unique=False, validate_constraints=False)
        if schema_exists(schema):
            # It would become the new agency's data.
            raise ValidationError(
                {
                    "slug": _("A schema %(schema)s is there but no agency has it. Drop it, or take another name.")
                    % {"schema": schema}
                }
            )
    domain = _host(agency, host)
    if owner is not None:
        _check_owner(owner)
    return agency, domain


def migrate_all() -> None:
    """Bring the public schema and every agency up to date.

    An agency that fails is left not ready until a later call succeeds; RuntimeError names it once all others
    are done.
    """
    prepare()
    failed = []
    with context.public():
        agencies = list(Agency.objects.exclude(schema_name=PUBLIC).order_by("pk"))
    for agency in agencies:
        with context.public(), _one_at_a_time():
            try:
                _bring_up_to_date(agency)
            except Exception:
                logger.exception("migration failed", extra={"schema": agency.schema_name})
                failed.append(agency.slug)
                continue
            with context.entered(agency):
                # Without anyone who could sign in, its making was cut short: create_agency finishes that.
                whole = agency.ready or User.objects.exists()
            Agency.objects.filter(pk=agency.pk).update(ready=whole)
    if failed:
        raise RuntimeError(f"These agencies could not be brought up to date and are switched off: {', '.join(failed)}")


def _host(agency: Agency, host: str) -> Domain:
    if not host and agency.pk and (domain := agency.domains.order_by("-is_primary", "pk").first()):
        return cast(Domain, domain)
    host = host_name(host or f"{agency.slug}.{host_name(settings.PUBLIC_HOST)}")
    try:
        HOST(host)
    except ValidationError as error:
        raise ValidationError({"host": error}) from None
    domain = Domain.objects.filter(domain=host).first() or Domain(domain=host)
    if domain.pk and domain.tenant_id != agency.pk:
        raise ValidationError(
            {"host": _("The host name %(host)s leads to another site. Give this agency another one.") % {"host": host}}
        )
    return domain


def _check_owner(owner: Owner) -> None:
    candidate = User(email=owner.email.lower(), name=owner.name)
    candidate.set_unusable_password()
    candidate.full_clean(validate_unique=False, validate_constraints=False)
    if owner.password is not None:
        try:
            validate_password(owner.password, candidate)
        except ValidationError as error:
            raise ValidationError({"password": error}) from None


def _bring_up_to_date(agency: Agency) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {connection.ops.quote_name(agency.schema_name)}")
        _migrate(agency.schema_name)
    except Exception:
        with context.public():
            Agency.objects.filter(pk=agency.pk).update(ready=False)
        raise


def _migrate(schema: str) -> None:
    """Apply what is not applied yet. Django looks for it for half a second, which hundreds of agencies would wait for
    at each start."""
    if not _is_up_to_date(schema):
        _apply(schema)


def _is_up_to_date(schema: str) -> bool:
    with connection.cursor() as cursor:
        table = f"{connection.ops.quote_name(schema)}.django_migrations"
        cursor.execute("SELECT to_regclass(%s)", [table])
        if cursor.fetchone()[0] is None:
            return False
        cursor.execute(f"SELECT app, name FROM {table}")  # noqa: S608 - a quoted name
        return _known_migrations() <= set(cursor.fetchall())


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations)


def _apply(schema: str) -> None:
    call_command("migrate_schemas", schema_name=schema, interactive=False, verbosity=0, stdout=StringIO())


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """A session lock on a connection of its own: migrate_schemas closes the one it works with."""
    keeper = cast(Any, connection).copy()
    try:
        with keeper.cursor() as cursor:
            # Another one's migrations may take longer than a query may wait for a lock.
            cursor.execute("SELECT set_config('lock_timeout', '0', true), pg_advisory_lock(%s)", [_LOCK])
        yield
    finally:
        try:
            if keeper.connection is not None:
                with keeper.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
        finally:
            keeper.close()
