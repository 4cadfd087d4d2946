"""Errors to Sentry, without anything that is secret or a person's."""

import sentry_sdk
from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber

SECRET_NAMES = [
    *DEFAULT_DENYLIST,
    "credentials",
    "api_key",
    "server_token",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "username",
    "secrets_keys",
    "smtp_password",
    "dkim_key",
    "email",
    "recipient",
]


def start(dsn: str) -> None:
    """Report errors of this process. Local variables hold message bodies and keys, so they stay here."""
    sentry_sdk.init(
        dsn=dsn,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        event_scrubber=EventScrubber(denylist=SECRET_NAMES, recursive=True),
    )
