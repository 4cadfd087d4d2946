"""What may go wrong when a mail is handed over. Adapters raise nothing else; outcomes make verbs of it."""

import re
from collections.abc import Iterable

DETAIL_LENGTH = 240


class DeliveryError(Exception):
    """A mail was not handed over, or perhaps not. `detail` is one short line without secrets, fit for a page.

    `code` is the HTTP status or the SMTP reply code, where there was one.
    """

    def __init__(self, detail: str = "", *, code: int | None = None) -> None:
        self.detail = " ".join(detail.split())[:DETAIL_LENGTH]
        self.code = code
        super().__init__(self.detail)

    def without(self, secrets: Iterable[str]) -> "DeliveryError":
        """Blank out secrets that the far end may have repeated in its answer; returns itself."""
        for secret in secrets:
            if secret:
                self.detail = re.sub(re.escape(secret), "•••", self.detail, flags=re.IGNORECASE)
        self.args = (self.detail,)
        return self


class NotAccepted(DeliveryError):
    """Surely not taken: another account may send it at once."""


class Throttled(DeliveryError):
    """Too fast: surely not taken, the same account takes it in `after` seconds.

    `recipient_only`: the far end puts off this one recipient (greylisting, a full mailbox), the account may
    go on with others. Such a mail should not wait for ever: RFC 5321 section 4.5.4.1 gives up after 4-5 days.
    """

    def __init__(
        self, detail: str = "", *, after: float, code: int | None = None, recipient_only: bool = False
    ) -> None:
        super().__init__(detail, code=code)
        self.after = after
        self.recipient_only = recipient_only


class RecipientRefused(DeliveryError):
    """Final for this address. `hard`: the address is dead, so it should be suppressed."""

    def __init__(self, detail: str = "", *, hard: bool, code: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.hard = hard


class MessageRefused(DeliveryError):
    """Final for this mail: its content or a header is not acceptable. `field` names the part, if known."""

    def __init__(self, detail: str = "", *, field: str = "", code: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.field = field


class AccountBlocked(DeliveryError):
    """Surely not taken, and neither is any other: wrong key, suspended, quota at the provider spent."""


class Unsure(DeliveryError):
    """May have been taken. Never to be sent again without proof or the provider's own idempotency."""


class AccountMisconfigured(Exception):
    """An account's setting is missing or wrong, so nothing was tried; `setting` is its name.

    Outside the family above: it is the operator's mistake, not an outcome of a mail.
    """

    def __init__(self, setting: str, detail: str) -> None:
        self.setting = setting
        self.detail = detail
        super().__init__(f"{setting}: {detail}")
