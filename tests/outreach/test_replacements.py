"""The operator sees which workers were replaced; agencies do not."""

import pytest

from outreach.models import Replacement
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests.visitor import Visitor, body

LIST = "/admin/outreach/replacement/"


@pytest.fixture
def operator(db: None) -> Visitor:
    visitor = Visitor("localhost")
    visitor.force_login(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
    return visitor


def test_the_operator_sees_what_was_replaced_and_cannot_change_it(operator: Visitor) -> None:
    assert "replaced in 24 hours" not in body(operator.get("/admin/"))
    row = Replacement.objects.create(cluster="mill:1:2", part="guard", process=4711, silent_seconds=91)
    assert "1 replaced in 24 hours" in body(operator.get("/admin/"))
    page = body(operator.get(LIST))
    assert all(told in page for told in ("Guard and scheduler", "mill:1:2", "91"))
    assert operator.get(f"{LIST}add/").status_code == 403
    assert operator.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_an_agency_has_no_such_page(alpha: Agency, carol: User) -> None:
    visitor = Visitor("alpha.localhost")
    with context.entered(alpha):
        visitor.force_login(carol)
    assert visitor.get(LIST).status_code == 404
