"""Host name to agency."""

import pytest
from django.db import connection
from django.test import Client

from tenants.models import Agency


@pytest.fixture(autouse=True)
def _cast(alpha: Agency, beta: Agency) -> None:
    """Both agencies."""


def answered(host: str, path: str = "/accounts/login/") -> int:
    return Client(raise_request_exception=False).get(path, headers={"host": host}).status_code


@pytest.mark.parametrize(
    "host",
    [
        "alpha.localhost",
        "ALPHA.LocalHost",
        "alpha.localhost:8000",
        "www.alpha.localhost",
        "WWW.alpha.localhost:8000",
        "alpha.localhost.",
    ],
)
def test_it_finds_the_agency_however_its_host_is_written(host: str) -> None:
    assert answered(host) == 200


@pytest.mark.parametrize("host", ["gamma.localhost", "alpha.example.com", "a_b.localhost", "[::1]", "localhost.evil"])
@pytest.mark.parametrize("path", ["/accounts/login/", "/admin/login/", "/"])
def test_a_host_that_no_agency_has_is_a_404_everywhere(host: str, path: str) -> None:
    assert answered(host, path) == 404


@pytest.mark.parametrize("off", ["ready", "active"])
def test_an_agency_that_is_not_ready_or_switched_off_is_a_404(off: str) -> None:
    assert answered("alpha.localhost") == 200
    connection.set_schema_to_public()
    Agency.objects.filter(slug="alpha").update(**{off: False})

    assert answered("alpha.localhost") == 404
    assert answered("beta.localhost") == 200


def test_each_host_has_its_own_site() -> None:
    assert Client().get("/", headers={"host": "localhost"}).headers["location"] == "/admin/"
    assert answered("localhost", "/admin/login/") == 200
    assert answered("localhost", "/accounts/login/") == 404
    assert answered("alpha.localhost") == 200
