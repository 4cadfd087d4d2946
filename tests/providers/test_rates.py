"""Pure: when a rate of bounces or complaints is too high for its limit."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.senders.rates import LEAST_MAILS, at_least, lower_bound, too_high
from providers.senders.warmup import BOUNCE_RATE, COMPLAINT_RATE

MAILS = st.integers(1, 20_000)


def test_the_known_numbers_of_an_exact_interval() -> None:
    # 1 of 1: the chance itself. 7 of 100 at 2 %: the binomial table.
    assert abs(lower_bound(1, 1) - 0.01) < 1e-9
    assert abs(at_least(7, 100, 0.02) - 0.00411) < 1e-4
    assert too_high(6, 100, BOUNCE_RATE) is None
    assert str(too_high(7, 100, BOUNCE_RATE)) == f"7 / 100, ≥ {lower_bound(7, 100) * 100:.2f} %"
    assert too_high(1, 100, COMPLAINT_RATE) is None
    assert too_high(2, 100, COMPLAINT_RATE) is not None


@settings(max_examples=60, deadline=None)
@given(MAILS, st.data())
def test_more_of_the_same_mails_is_never_less_evidence(mails: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, min(mails, 400)))
    found, more = too_high(count, mails, BOUNCE_RATE), too_high(min(count + 1, mails), mails, BOUNCE_RATE)
    assert found is None or (more is not None and more.least >= found.least > BOUNCE_RATE)
    assert found is None or count > mails * BOUNCE_RATE


@given(st.integers(1, LEAST_MAILS - 1), st.data())
def test_few_mails_are_never_judged(mails: int, data: st.DataObject) -> None:
    assert too_high(data.draw(st.integers(0, mails)), mails, BOUNCE_RATE) is None


def test_what_stays_at_half_the_limit_is_rarely_paused_however_often_it_is_looked_at() -> None:
    dice, paused = random.Random(5), 0
    for _ in range(200):
        count = 0
        for mails in range(50, 2_001, 50):
            count += sum(dice.random() < BOUNCE_RATE / 2 for _ in range(50))
            if too_high(count, mails, BOUNCE_RATE):
                paused += 1
                break
    assert paused <= 4
