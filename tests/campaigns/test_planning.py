"""Pure: the counts of a plan add up, keep the proportions, and refuse what cannot be planned."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.planning import PlanRefusedError, Share, distribute, largest_remainder
from providers.accounts.routing import Route


def route(number: int, *classes: str, free: int = 100, priority: int = 10) -> Route:
    """An open account with that much room."""
    return Route(number, f"a{number}", "smtp", frozenset(classes), priority, free, True)


def counts(shares: list[Share]) -> dict[str, int]:
    """Mails by the account's name."""
    return {share.name: share.count for share in shares}


weights = st.lists(st.integers(0, 10**9) | st.floats(0, 10**6), min_size=1, max_size=40).filter(any)


@given(st.integers(0, 10**7), weights)
def test_counts_add_up_and_are_off_by_less_than_one(total: int, weighted: list[float]) -> None:
    found = largest_remainder(total, weighted)
    assert sum(found) == total
    whole = sum(weighted)
    for count, weight in zip(found, weighted, strict=True):
        assert abs(count - total * weight / whole) < 1.000001
        assert count >= 0
        assert weight or not count


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any))
def test_no_account_gets_more_than_its_room_while_there_is_room_for_all(wanted: int, rooms: list[int]) -> None:
    for count, room in zip(largest_remainder(min(wanted, sum(rooms)), rooms), rooms, strict=True):
        assert count <= room


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_equal_weights_differ_by_one_at_most(total: int, accounts: int) -> None:
    found = largest_remainder(total, [1.0] * accounts)
    assert max(found) - min(found) <= 1
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("mode", ["even", "by_class", "shares"])
def test_1140_over_three_equal_accounts_is_380_each(mode: str) -> None:
    routes = [route(number, "bulk") for number in (1, 2, 3)]
    shares = {"a1": 100 / 3, "a2": 100 / 3, "a3": 100 / 3}
    found = distribute(1140, routes, traffic_class="bulk", mode=mode, shares=shares)
    assert [share.count for share in found] == [380, 380, 380]


def test_even_takes_every_account_and_those_of_the_class_first() -> None:
    routes = [route(1, "bulk", priority=1), route(2, "cold_outreach", free=0, priority=2), route(3, priority=3)]
    found = distribute(10, routes, traffic_class="cold_outreach", mode="even")
    assert [(share.name, share.count) for share in found] == [("a2", 4), ("a1", 3), ("a3", 3)]


def test_by_class_is_in_proportion_to_what_is_free_and_leaves_the_others_out() -> None:
    routes = [route(1, "bulk", free=300), route(2, "bulk", free=100), route(3, "newsletters", free=1000)]
    assert counts(distribute(100, routes, traffic_class="bulk", mode="by_class")) == {"a1": 75, "a2": 25}


def test_by_class_with_nothing_free_today_is_even() -> None:
    routes = [route(1, "bulk", free=0), route(2, "bulk", free=0)]
    assert counts(distribute(11, routes, traffic_class="bulk", mode="by_class")) == {"a1": 6, "a2": 5}


def test_a_class_that_no_account_is_meant_for_takes_all() -> None:
    routes = [route(1, "bulk", free=10), route(2, "newsletters", free=30)]
    assert counts(distribute(8, routes, traffic_class="testing", mode="by_class")) == {"a1": 2, "a2": 6}


def test_given_shares_are_kept_and_zero_means_none() -> None:
    routes = [route(1), route(2), route(3)]
    shares = {"a1": 70, "a3": 29.5, "a2": 0.5}
    assert counts(distribute(200, routes, traffic_class="bulk", mode="shares", shares=shares)) == {
        "a1": 140,
        "a2": 1,
        "a3": 59,
    }
    found = distribute(7, routes, traffic_class="bulk", mode="shares", shares={"a2": 100, "a1": 0})
    assert counts(found) == {"a2": 7}


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({}, "add up to 0 %"),
        (None, "add up to 0 %"),
        ({"a1": 60, "a2": 30}, "add up to 90 %"),
        ({"a1": 60, "b": 40}, "may not use: b. It may use: a1, a2"),
        ({"a1": 150, "a2": -50}, "from 0 to 100"),
        ({"a1": "100"}, "from 0 to 100"),
        ({"a1": None}, "from 0 to 100"),
        ({"a1": True, "a2": 99}, "from 0 to 100"),
        ({"a1": float("nan"), "a2": 100}, "from 0 to 100"),
        (["a1", "a2"], "account name"),
        ("a1", "account name"),
        (7, "account name"),
    ],
)
def test_shares_that_cannot_be_are_refused_in_words(shares: Any, said: str) -> None:
    with pytest.raises(PlanRefusedError, match=said):
        distribute(10, [route(1), route(2)], traffic_class="bulk", mode="shares", shares=shares)


def test_without_any_account_there_is_no_plan() -> None:
    with pytest.raises(PlanRefusedError, match="ask the operator for an allotment"):
        distribute(10, [], traffic_class="bulk", mode="even")


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["bulk", "testing"])), min_size=1, max_size=12),
    st.sampled_from(["even", "by_class"]),
)
def test_any_plan_adds_up_and_names_an_account_once(total: int, made: list[tuple[int, str]], mode: str) -> None:
    routes = [route(number, known, free=free) for number, (free, known) in enumerate(made)]
    found = distribute(total, routes, traffic_class="bulk", mode=mode)
    assert sum(share.count for share in found) == total
    assert len({share.account_id for share in found}) == len(found)
