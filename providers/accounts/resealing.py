"""Every secret of the installation, sealed again with the first of `SECRETS_KEYS`, so that the others may go."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models.functions import Substr

from providers.accounts.secrets import SecretsField, key_prefix
from tenants import context
from tenants.models import Agency
from tenants.rows import AgencyRow


@dataclass(frozen=True, slots=True)
class Resealed:
    """A column of one schema: of its `rows` so many were sealed with another key and are sealed `anew`."""

    schema: str
    column: str
    rows: int
    anew: int


def reseal() -> Iterator[Resealed]:
    """Seal each secret again that another key has sealed, one row a transaction: it may be ended and run again.

    Works in the public schema and enters every agency that has tables, also those switched off. Raises
    ImproperlyConfigured where a secret's own key is not in `SECRETS_KEYS`.
    """
    for model, field in _columns():
        if not issubclass(model, AgencyRow):
            with context.public():
                yield _resealed(model, field)
    for agency in Agency.objects.exclude(schema_name=context.PUBLIC).filter(ready=True).order_by("pk"):
        with context.entered(agency):
            found = [_resealed(model, field) for model, field in _columns() if issubclass(model, AgencyRow)]
        yield from found


def _columns() -> Iterator[tuple[type[models.Model], str]]:
    for model in apps.get_models():
        for field in model._meta.local_fields:
            if isinstance(field, SecretsField):
                yield model, field.name


def _resealed(model: type[models.Model], field: str) -> Resealed:
    rows: models.QuerySet[Any] = model._default_manager.order_by("pk")
    prefix = key_prefix()
    sealed_with = Substr(field, 1, len(prefix), output_field=models.BinaryField())
    others = list(rows.annotate(sealed_with=sealed_with).exclude(sealed_with=prefix).values_list("pk", flat=True))
    for pk in others:
        with transaction.atomic():
            # Locked: what another process saves between would be lost.
            found = rows.select_for_update(of=("self",)).filter(pk=pk).values_list(field, flat=True)
            for secret in found:
                rows.filter(pk=pk).update(**{field: secret})
    return Resealed(context.current_schema(), f"{model._meta.label}.{field}", rows.count(), len(others))
