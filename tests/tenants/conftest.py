from collections.abc import Iterator

import pytest
from django.db import connection

from tenants.models import Agency

SLUG = "gamma"


@pytest.fixture
def gamma(committed: dict[str, Agency]) -> Iterator[str]:
    """The short name of an agency that does not exist, and that nothing is left of afterwards."""
    _remove()
    yield SLUG
    _remove()


def _remove() -> None:
    connection.set_schema_to_public()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS a_{SLUG} CASCADE")
        cursor.execute(
            "DELETE FROM tenants_domain WHERE tenant_id IN (SELECT id FROM tenants_agency WHERE slug = %s)", [SLUG]
        )
        cursor.execute("DELETE FROM tenants_agency WHERE slug = %s", [SLUG])
