"""Wrong passwords are counted on the admin sites too."""

import pytest
from django.core.cache import cache
from django.test import Client

from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests.conftest import PASSWORD


def attempt(host: str, email: str, password: str) -> bool:
    """Whether signing in to the admin of this host worked."""
    answer = Client(HTTP_HOST=host).post("/admin/login/?next=/admin/", {"username": email, "password": password})
    return answer.status_code == 302


@pytest.mark.parametrize("host", ["alpha.localhost", "localhost"])
def test_the_right_password_is_refused_after_five_wrong_ones(alpha: Agency, beta: Agency, host: str) -> None:
    cache.clear()
    if host == "localhost":
        with context.public():
            User.objects.create_superuser("carol@alpha.test", PASSWORD)
    assert attempt(host, "carol@alpha.test", PASSWORD)
    assert not any(attempt(host, "carol@alpha.test", f"wrong {number}") for number in range(5))
    assert not attempt(host, "carol@alpha.test", PASSWORD)
    # Counted per agency: Beta's people are not locked out by what happens at Alpha's.
    assert attempt("beta.localhost", "oscar@beta.test", PASSWORD)
