"""Pure: what a failed attempt means for its message and its account. The whole policy is the table below.

Only what was surely not taken may be tried again, here or through another account. Whatever may have been taken is
tried again only where the provider itself guarantees that the same key is delivered once.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from campaigns.reasons import Reason
from providers.accounts.errors import (
    AccountBlocked,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    RecipientRefused,
    Throttled,
)

WHEN_ALL_REFUSE = timedelta(seconds=3600)
CONFIRMATIONS = 3
# A recipient's server that keeps putting us off is believed after so many tries.
SNOOZES = 20


class Verb(StrEnum):
    """What lifecycle does with the message."""

    CONFIRM = "confirm"  # the same account, the same key and bytes, at once
    FAIL_OVER = "fail_over"  # the next account, or later when all have refused
    SNOOZE = "snooze"  # the same account, later, no attempt used
    FAIL = "fail"
    DOUBT = "doubt"


class Trouble(StrEnum):
    """What health learns about the account. Lost answers count as refusals: else a dead account puts all in doubt."""

    NONE = "none"
    REFUSED = "refused"
    THROTTLED = "throttled"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Decision:
    """One message's verb and one account's trouble. `suppress`: the address is dead."""

    verb: Verb
    reason: Reason
    trouble: Trouble = Trouble.NONE
    delay: timedelta = timedelta()
    suppress: bool = False


def decide(error: DeliveryError, *, confirmations: int, snoozes: int, idempotent: bool) -> Decision:
    """What to do after this error. `confirmations` were tried already; `idempotent`: our key still holds.

    Once a first answer was lost, no later refusal proves that the first attempt was refused too: only a yes ends the
    doubt.
    """
    match error:
        case _ if confirmations and (confirmations >= CONFIRMATIONS or not idempotent):
            return Decision(Verb.DOUBT, Reason.IN_DOUBT, Trouble.REFUSED)
        case _ if confirmations:
            return Decision(Verb.CONFIRM, Reason.IN_DOUBT)
        case NotAccepted():
            return Decision(Verb.FAIL_OVER, Reason.ACCOUNTS_REFUSED, Trouble.REFUSED)
        case AccountBlocked():
            return Decision(Verb.FAIL_OVER, Reason.ACCOUNTS_REFUSED, Trouble.BLOCKED)
        case Throttled(recipient_only=True) if snoozes >= SNOOZES:
            return Decision(Verb.FAIL, Reason.RECIPIENT_REFUSED)
        case Throttled(recipient_only=True):
            return Decision(Verb.SNOOZE, Reason.RECIPIENT_BUSY, delay=timedelta(seconds=error.after))
        case Throttled():
            return Decision(Verb.SNOOZE, Reason.THROTTLED, Trouble.THROTTLED, timedelta(seconds=error.after))
        case RecipientRefused():
            return Decision(Verb.FAIL, Reason.RECIPIENT_REFUSED, suppress=error.hard)
        case MessageRefused():
            return Decision(Verb.FAIL, Reason.MESSAGE_REFUSED)
        case _ if idempotent:
            return Decision(Verb.CONFIRM, Reason.IN_DOUBT)
        case _:
            return Decision(Verb.DOUBT, Reason.IN_DOUBT, Trouble.REFUSED)


def decide_doubt(error: DeliveryError) -> Decision:
    """What it means when a provider that knows our key is asked again, minutes later, and does not say yes.

    It looks the key up before the mail, so where it refuses the mail itself it never had it. Whatever is refused
    before, such as too many requests, says nothing about the first attempt.
    """
    now = decide(error, confirmations=0, snoozes=0, idempotent=False)
    if now.verb is Verb.FAIL and error.code is not None:
        return now
    return Decision(Verb.DOUBT, Reason.IN_DOUBT, now.trouble)
