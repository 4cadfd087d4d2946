"""Makes an agency whole: row, host name, schema, owner. Safe to repeat: a second call finishes what a first began."""

import logging
from dataclasses import dataclass
from io import StringIO

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction

from tenants import context
from tenants.models import Agency, Domain
from tenants.users.models import User

logger = logging.getLogger(__name__)
PUBLIC = "public"
# Any constant: one provisioning at a time, so two commands never migrate one schema together.
_LOCK = 7_302_199_001


@dataclass(frozen=True, slots=True)
class Owner:
    """Who administers a new agency. Without a password the person sets one by the reset mail."""

    email: str
    password: str | None = None
    name: str = ""


def prepare() -> None:
    """Bring the public schema up to date and make the operator's site answer on the public host."""
    with context.public(), _one_at_a_time():
        _migrate(PUBLIC)
        operator, _created = Agency.objects.get_or_create(
            schema_name=PUBLIC, defaults={"slug": "operator", "name": "Operator"}
        )
        for host in {settings.PUBLIC_HOST, "127.0.0.1"} if settings.PUBLIC_HOST == "localhost" else {settings.PUBLIC_HOST}:
            Domain.objects.get_or_create(domain=host, defaults={"tenant": operator, "is_primary": host == settings.PUBLIC_HOST})


def create_agency(
    slug: str, name: str, *, host: str = "", owner: Owner | None = None, timezone: str = "UTC", language: str = "en"
) -> Agency:
    """An agency that is whole and ready. Repeating the call changes nothing that is there.

    Raises ValidationError for a bad slug, a host name another agency has, a bad address or a weak password;
    then nothing has been made. Whatever breaks later leaves the agency not ready, and the next call goes on.
    """
    host = (host or f"{slug}.{settings.PUBLIC_HOST}").lower()
    with context.public():
        agency = Agency.objects.filter(slug=slug).first() or Agency(
            slug=slug, schema_name=Agency.schema_for(slug), name=name, timezone=timezone, language=language
        )
        _check(agency, host, owner)
        with _one_at_a_time():
            with transaction.atomic():
                agency.save()
                Domain.objects.get_or_create(domain=host, defaults={"tenant": agency, "is_primary": True})
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {connection.ops.quote_name(agency.schema_name)}")
            _migrate(agency.schema_name)
            if owner is not None:
                with context.entered(agency):
                    if not User.objects.filter(email__iexact=owner.email).exists():
                        User.objects.create_superuser(owner.email, owner.password, name=owner.name)
            Agency.objects.filter(pk=agency.pk).update(ready=True)
    agency.refresh_from_db()
    return agency


def migrate_all() -> None:
    """Bring the public schema and every agency up to date; an agency that fails is left not ready and named."""
    prepare()
    failed = []
    for agency in Agency.objects.exclude(schema_name=PUBLIC).order_by("pk"):
        with context.public(), _one_at_a_time():
            try:
                _migrate(agency.schema_name)
            except Exception:
                logger.exception("migration failed", extra={"schema": agency.schema_name})
                Agency.objects.filter(pk=agency.pk).update(ready=False)
                failed.append(agency.slug)
    if failed:
        raise RuntimeError(f"These agencies could not be brought up to date and are switched off: {', '.join(failed)}")


def _check(agency: Agency, host: str, owner: Owner | None) -> None:
    agency.full_clean(exclude=["schema_name"] if agency.pk else None, validate_unique=False)
    taken = Domain.objects.filter(domain__iexact=host).exclude(tenant=agency.pk).first()
    if taken is not None:
        raise ValidationError({"host": f"The host name {host} leads to another agency. Give this one another --host."})
    if owner is not None:
        candidate = User(email=owner.email.lower(), name=owner.name)
        candidate.set_unusable_password()
        candidate.full_clean(validate_unique=False, validate_constraints=False)
        if owner.password is not None:
            validate_password(owner.password, candidate)


def _migrate(schema: str) -> None:
    call_command("migrate_schemas", schema_name=schema, interactive=False, verbosity=0, stdout=StringIO())


class _one_at_a_time:  # noqa: N801 - reads as a verb
    """A session lock of the database: a migration commits on its own, so a transaction lock would not last."""

    def __enter__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])

    def __exit__(self, *_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
