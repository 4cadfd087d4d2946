"""Both admin sites from list to list, in Russian: every page opens, and nothing on it is for programmers."""

import re

import pytest
from django.utils import translation

from tenants import context, sites
from tenants.models import Agency
from tenants.users.models import User
from tests.visitor import Visitor, body

CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)


@pytest.mark.parametrize("host", ["localhost", "alpha.localhost"])
def test_every_list_and_form_opens_and_speaks_russian(alpha: Agency, carol: User, host: str) -> None:
    visitor = Visitor(host)
    visitor.cookies["django_language"] = "ru"
    if host == "localhost":
        site, person = sites.operator, User.objects.create_superuser("olga@operator.test", "correct horse battery")
        visitor.force_login(person)
    else:
        site, person = sites.agency, carol
        with context.entered(alpha):
            visitor.force_login(person)
    paths = ["", f"users/user/{person.pk}/change/"]
    for model in site._registry:
        place = f"{model._meta.app_label}/{model._meta.model_name}/"
        paths += [f"{model._meta.app_label}/", place, f"{place}add/"]
        with translation.override("ru"):
            assert CYRILLIC.search(str(model._meta.verbose_name)), f"{model} has no Russian name"
    for path in sorted(set(paths)):
        answer = visitor.get(f"/admin/{path}")
        # Some are made by no person.
        assert answer.status_code == 200 or (path.endswith("/add/") and answer.status_code == 403), path
        page = body(answer)
        assert "object at 0x" not in page, path
        assert "object (" not in page, path
    # A person is given permissions for what the site has, and no others.
    page = body(visitor.get(f"/admin/users/user/{person.pk}/change/"))
    options = re.findall(r"<option[^>]*>([^<]*: [^<]*)</option>", page)
    assert options
    assert all(CYRILLIC.search(option.partition("|")[2]) for option in options), options
