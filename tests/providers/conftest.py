from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.accounts.envelope import Envelope
from providers.sandbox.service import Sandbox
from tests.providers.scripted import HttpServer, SmtpServer


@pytest.fixture(scope="session")
def _running_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_running_sandbox: Sandbox) -> Sandbox:
    """A sandbox without faults that has seen no mail yet."""
    _running_sandbox.reset()
    return _running_sandbox


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


@pytest.fixture
def smtp_server() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture
def envelope() -> Callable[..., Envelope]:
    """Make an envelope; arguments replace its fields."""

    def make(number: int = 1, **changes: Any) -> Envelope:
        fields: dict[str, Any] = {
            "key": f"alpha/resend/{number}",
            "sender": "anna@mail.alpha.test",
            "sender_name": "Anna Schmidt",
            "recipient": f"carol{number}@example.com",
            "recipient_name": "Carol",
            "subject": "A question about your shop",
            "text": "Hello Carol,\nhow are you?\n",
            "html": "<p>Hello Carol,<br>how are you?</p>",
            "message_id": f"<{number}@mail.alpha.test>",
            "headers": {
                "Reply-To": "anna@alpha.test",
                "List-Unsubscribe": "<https://alpha.test/u/1>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            },
            "metadata": {"message": str(number), "agency": "alpha"},
            "date": datetime(2026, 11, 24, 10, 0, tzinfo=UTC),
        }
        return Envelope(**(fields | changes))

    return make
