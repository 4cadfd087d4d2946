"""A browser without a screen, at one agency's host or at the operator's."""

from typing import Any

from django.db import connection
from django.http import HttpResponse
from django.test import Client

from tenants import context
from tenants.models import Agency
from tenants.users.models import User


class Visitor(Client):
    """A client of one host. What a request leaves entered is left again, as between the requests of a server."""

    def __init__(self, host: str, **kwargs: Any) -> None:
        super().__init__(headers={"host": host}, **kwargs)

    def request(self, **request: Any) -> Any:
        before = connection.tenant
        try:
            return super().request(**request)
        finally:
            connection.set_tenant(before)


def at(agency: Agency, user: User | None = None) -> Visitor:
    """Somebody at this agency's host, signed in as this user or a stranger."""
    visitor = Visitor(f"{agency.slug}.localhost")
    if user is not None:
        with context.entered(agency):
            visitor.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return visitor


def body(response: HttpResponse) -> str:
    """What the page says."""
    return response.content.decode()
