"""What counts say of texts that were tried side by side, beside brute force and beside chance."""

import random
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import experiments
from campaigns.experiments import Tried, Verdict, judge, reckon

COUNTS = st.integers(0, 3_000).flatmap(lambda sent: st.tuples(st.just(sent), st.integers(0, sent)))


@given(counts=st.lists(COUNTS, min_size=2, max_size=6))
@settings(max_examples=25, deadline=None)
def test_the_probabilities_add_up_and_follow_the_texts(counts: list[tuple[int, int]]) -> None:
    tried = {letter: Tried(*one) for letter, one in zip("ABCDEF", counts, strict=False)}
    found = reckon(tried)
    assert sum(found.best.values()) == pytest.approx(1)
    assert all(loss >= 0 for loss in found.loss.values())
    turned = reckon(dict(reversed(tried.items())))
    assert turned.best == pytest.approx(found.best)
    assert turned.same == pytest.approx(found.same, abs=1e-6)


@given(one=COUNTS, many=st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_equal_counts_are_equally_good(one: tuple[int, int], many: int) -> None:
    found = reckon({letter: Tried(*one) for letter in "ABCDEF"[:many]})
    assert list(found.best.values()) == pytest.approx([1 / many] * many)
    assert min(found.loss.values()) == pytest.approx(max(found.loss.values()), abs=1e-9)


@pytest.mark.parametrize(
    "tried",
    [
        {"A": Tried(200, 10), "B": Tried(200, 18)},
        {"A": Tried(100, 0), "B": Tried(1_000, 15), "C": Tried(300, 9)},
        {"A": Tried(0, 0), "B": Tried(400, 40)},
        {"A": Tried(50, 49), "B": Tried(60, 50)},
    ],
)
def test_it_agrees_with_brute_force(tried: dict[str, Tried]) -> None:
    rng = random.Random(7)
    draws = 40_000
    wins, loss = dict.fromkeys(tried, 0), dict.fromkeys(tried, 0.0)
    near, same = experiments._near(tried), dict.fromkeys(tried, 0)
    for _ in range(draws):
        rates = {letter: rng.betavariate(1 + one.did, 1 + one.sent - one.did) for letter, one in tried.items()}
        highest = max(rates.values())
        wins[max(rates, key=lambda letter: rates[letter])] += 1
        for letter, rate in rates.items():
            loss[letter] += highest - rate
            same[letter] += highest - rate <= near
    found = reckon(tried)
    for letter in tried:
        assert found.best[letter] == pytest.approx(wins[letter] / draws, abs=0.01)
        assert found.loss[letter] == pytest.approx(loss[letter] / draws, abs=0.003)
    assert found.same == pytest.approx(min(same.values()) / draws, abs=0.012)


@pytest.mark.parametrize(
    ("tried", "verdict"),
    [
        ({"A": Tried(20, 0), "B": Tried(20, 20)}, Verdict.EARLY),
        ({"A": Tried(500, 20), "B": Tried(500, 60)}, Verdict.WINNER),
        ({"A": Tried(500, 20), "B": Tried(500, 32)}, Verdict.OPEN),
        ({"A": Tried(20_000, 1_000), "B": Tried(20_000, 1_010)}, Verdict.SAME),
        ({"A": Tried(500, 20), "B": Tried(500, 60), "C": Tried(500, 58)}, Verdict.OPEN),
    ],
)
def test_what_is_said(tried: dict[str, Tried], verdict: Verdict) -> None:
    found = judge(tried, least=100, sure_at=0.95)
    assert found.verdict == verdict
    assert (found.more == 0) == (verdict in (Verdict.WINNER, Verdict.SAME))


def test_the_mails_still_needed_bring_an_answer_and_hardly_fewer_do() -> None:
    tried = {"A": Tried(500, 20), "B": Tried(500, 32)}
    more = judge(tried, least=100, sure_at=0.95).more
    assert more
    assert 0 < more < experiments.MOST_MORE

    def after(further: float) -> Verdict:
        grown = {
            letter: Tried(one.sent * (1 + further / 1_000), one.did * (1 + further / 1_000))
            for letter, one in tried.items()
        }
        return judge(grown, least=100, sure_at=0.95).verdict

    assert after(more * 1.01) in (Verdict.WINNER, Verdict.SAME)
    assert after(more * 0.8) == Verdict.OPEN
    rare = {"A": Tried(500, 0), "B": Tried(500, 1)}
    assert judge(rare, least=100, sure_at=0.99).more is not None


def test_equal_texts_looked_at_each_day_for_a_month_seldom_have_a_winner() -> None:
    """With the bar at the certainty itself, more than three times as many would have one."""
    rng = random.Random(26)
    runs, false, naive = 250, 0, 0
    for _ in range(runs):
        did, winner, lead = [0, 0], False, False
        for day in range(1, 31):
            sent = 50 * day
            did = [one + sum(rng.random() < 0.06 for _ in range(50)) for one in did]
            apart = abs(did[0] - did[1]) / sqrt(max(1, sum(did)))
            # What is near the middle of the normal distribution is no winner, and is not reckoned.
            if apart < 1.6 or sent < 100:
                continue
            found = judge({"A": Tried(sent, did[0]), "B": Tried(sent, did[1])}, least=100, sure_at=0.95)
            lead |= max(found.posterior.best.values()) >= 0.95
            winner |= found.verdict == Verdict.WINNER
            if winner:
                break
        false += winner
        naive += lead
    assert false <= 0.05 * runs
    assert naive > 0.15 * runs
