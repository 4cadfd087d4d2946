"""The only code that switches schema.

A thread starts in the public schema; everything else enters an agency and leaves it again, on failure too.
django-tenants' `with agency:` and its decorator form share state between threads, so neither is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.db import connection
from django.db.models import QuerySet
from django_tenants.utils import schema_context, tenant_context

from tenants.models import Agency

PUBLIC = "public"


class OutsideAgencyError(RuntimeError):
    """Agency data was asked for in the public schema, or in another agency than the rows belong to."""


@contextmanager
def entered(agency: Agency) -> Iterator[Agency]:
    """Work in this agency's schema; return to the schema before, on failure too."""
    with tenant_context(agency):
        yield agency


@contextmanager
def public() -> Iterator[None]:
    """Work in the public schema; return to the schema before, on failure too."""
    with schema_context(PUBLIC):
        yield


def current_schema() -> str:
    """Name of the schema this thread works in."""
    return cast(str, cast(Any, connection).schema_name)


def in_agency() -> bool:
    """Whether this thread works inside an agency."""
    return current_schema() != PUBLIC


def current_agency() -> Agency:
    """The agency this thread works in; raises OutsideAgencyError in the public schema."""
    agency = cast(Any, connection).tenant
    if isinstance(agency, Agency):
        return agency
    if not in_agency():
        raise OutsideAgencyError(
            "No agency is entered, and this work belongs to one. Enter it with tenants.context.entered()."
        )
    found: Agency = Agency.objects.get(schema_name=current_schema())
    return found


def ready_agencies() -> QuerySet[Agency]:
    """Every agency that is whole and switched on, in a stable order."""
    found: QuerySet[Agency] = Agency.objects.exclude(schema_name=PUBLIC).filter(ready=True, active=True)
    return found.order_by("pk")
