"""What many tests of campaigns begin with."""

from collections.abc import Iterator

import pytest

from campaigns import link_hosts
from campaigns.link_hosts import Found
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.visitor import Visitor, at


@pytest.fixture(autouse=True)
def known_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The DNS knows every host, and nobody asks it."""
    monkeypatch.setattr(link_hosts, "look_up", lambda hosts: dict.fromkeys(hosts, Found.KNOWN))


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    """The far end of the wire, for all tests of a module."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The same, without faults and with nothing in it."""
    shared_sandbox.heal()
    shared_sandbox.reset()
    yield shared_sandbox
    shared_sandbox.heal()


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    """One SMTP account of which both agencies have allotments."""
    found = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, found)
    return found


@pytest.fixture
def carols(alpha: Agency, carol: User) -> Visitor:
    """Carol's browser, signed in to Alpha."""
    return at(alpha, carol)


@pytest.fixture
def oscars(beta: Agency, oscar: User) -> Visitor:
    """The outsider's browser, signed in to Beta."""
    return at(beta, oscar)
