"""Pure: the whole policy of failed attempts, row by row, and what must never come out of it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.outcomes import CONFIRMATIONS, SNOOZES, Decision, Trouble, Verb, decide
from campaigns.reasons import Reason
from providers.accounts.errors import (
    AccountBlocked,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    RecipientRefused,
    Throttled,
    Unsure,
)

ERRORS: dict[str, DeliveryError] = {
    "not accepted": NotAccepted("refused"),
    "account blocked": AccountBlocked("wrong key"),
    "throttled": Throttled("too fast", after=7),
    "recipient throttled": Throttled("greylisted", after=1800, recipient_only=True),
    "recipient refused": RecipientRefused("no such user", hard=True),
    "recipient full": RecipientRefused("mailbox full", hard=False),
    "message refused": MessageRefused("spam"),
    "unsure": Unsure("no answer"),
    "anything else": DeliveryError("what is this"),
}
FIRST = {
    "not accepted": Decision(Verb.FAIL_OVER, Reason.ACCOUNTS_REFUSED, Trouble.REFUSED),
    "account blocked": Decision(Verb.FAIL_OVER, Reason.ACCOUNTS_REFUSED, Trouble.BLOCKED),
    "throttled": Decision(Verb.SNOOZE, Reason.THROTTLED, Trouble.THROTTLED, timedelta(seconds=7)),
    "recipient throttled": Decision(Verb.SNOOZE, Reason.RECIPIENT_BUSY, delay=timedelta(seconds=1800)),
    "recipient refused": Decision(Verb.FAIL, Reason.RECIPIENT_REFUSED, suppress=True),
    "recipient full": Decision(Verb.FAIL, Reason.RECIPIENT_REFUSED),
    "message refused": Decision(Verb.FAIL, Reason.MESSAGE_REFUSED),
}
# Any of these may have been taken. Five in a row are an account in trouble all the same.
IN_DOUBT = Decision(Verb.DOUBT, Reason.IN_DOUBT, Trouble.REFUSED)
TO_CONFIRM = Decision(Verb.CONFIRM, Reason.IN_DOUBT)


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("name", FIRST)
def test_a_first_answer_that_says_no(name: str, idempotent: bool) -> None:
    assert decide(ERRORS[name], confirmations=0, snoozes=0, idempotent=idempotent) == FIRST[name]


@pytest.mark.parametrize("name", ["unsure", "anything else"])
def test_a_first_answer_that_is_lost_is_asked_for_again_only_where_the_key_is_honoured(name: str) -> None:
    assert decide(ERRORS[name], confirmations=0, snoozes=0, idempotent=True) == TO_CONFIRM
    assert decide(ERRORS[name], confirmations=0, snoozes=0, idempotent=False) == IN_DOUBT


@pytest.mark.parametrize("confirmations", range(1, CONFIRMATIONS + 3))
@pytest.mark.parametrize("name", ERRORS)
def test_after_a_lost_answer_no_refusal_ends_the_doubt(name: str, confirmations: int) -> None:
    wanted = TO_CONFIRM if confirmations < CONFIRMATIONS else IN_DOUBT
    assert decide(ERRORS[name], confirmations=confirmations, snoozes=0, idempotent=True) == wanted
    assert decide(ERRORS[name], confirmations=confirmations, snoozes=0, idempotent=False) == IN_DOUBT


def test_a_recipient_that_always_puts_us_off_is_believed_in_the_end() -> None:
    busy = ERRORS["recipient throttled"]
    assert decide(busy, confirmations=0, snoozes=SNOOZES - 1, idempotent=False).verb is Verb.SNOOZE
    assert decide(busy, confirmations=0, snoozes=SNOOZES, idempotent=False) == FIRST["recipient full"]
    # The account's own pause uses no patience up.
    assert decide(ERRORS["throttled"], confirmations=0, snoozes=SNOOZES, idempotent=False) == FIRST["throttled"]


@given(
    st.sampled_from(sorted(ERRORS)),
    st.integers(0, 10),
    st.integers(0, 100),
    st.booleans(),
)
def test_what_may_have_been_taken_is_never_sent_by_another_way(
    name: str, confirmations: int, snoozes: int, idempotent: bool
) -> None:
    """P1: with a lost answer among its attempts, a message is asked for again by the same key or is in doubt."""
    error = ERRORS[name]
    may_be_taken = confirmations > 0 or name in ("unsure", "anything else")
    decision = decide(error, confirmations=confirmations, snoozes=snoozes, idempotent=idempotent)
    if may_be_taken:
        assert decision.verb in (Verb.CONFIRM, Verb.DOUBT)
        assert not decision.suppress
    else:
        assert decision.verb not in (Verb.CONFIRM, Verb.DOUBT)
    if decision.verb is Verb.CONFIRM:
        assert idempotent
        assert confirmations < CONFIRMATIONS


def test_only_a_dead_address_is_suppressed() -> None:
    suppressing = {
        name for name, error in ERRORS.items() if decide(error, confirmations=0, snoozes=0, idempotent=True).suppress
    }
    assert suppressing == {"recipient refused"}
