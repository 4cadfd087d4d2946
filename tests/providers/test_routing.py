"""Pure: which accounts serve a class, and who is next when one refuses."""

from hypothesis import given
from hypothesis import strategies as st

from providers.accounts.models import TrafficClass
from providers.accounts.routing import Route, in_order, meant_for, next_route


def route(number: int, *classes: str, priority: int = 10, free: int = 9, is_open: bool = True) -> Route:
    return Route(number, f"a{number}", "smtp", frozenset(classes), priority, free, is_open)


COLD = route(1, "cold_outreach", priority=30)
NEWS = route(2, "newsletters", priority=10)
BOTH = route(3, "newsletters", "cold_outreach", priority=20)
NONE = route(4, priority=1)
ALL = [COLD, NEWS, BOTH, NONE]


def test_the_accounts_meant_for_a_class_come_first_each_group_by_priority() -> None:
    assert in_order(ALL, "cold_outreach") == [BOTH, COLD, NONE, NEWS]
    assert in_order(ALL, "newsletters") == [NEWS, BOTH, NONE, COLD]


def test_only_those_meant_for_it_are_planned_on_or_all_where_none_is() -> None:
    assert meant_for(ALL, "cold_outreach") == [BOTH, COLD]
    assert meant_for(ALL, "bulk") == [NONE, NEWS, BOTH, COLD]


def test_the_next_is_the_first_that_has_not_refused_is_open_and_has_quota() -> None:
    assert next_route(ALL, "cold_outreach", refused_by=[]) == BOTH
    assert next_route(ALL, "cold_outreach", refused_by=[3]) == COLD
    assert next_route(ALL, "cold_outreach", refused_by=[3, 1]) == NONE
    closed = [route(1, "bulk", is_open=False), route(2, "bulk", free=0), route(3)]
    assert next_route(closed, "bulk", refused_by=[]) == closed[2]
    assert next_route(closed, "bulk", refused_by=[3]) is None
    assert next_route([], "bulk", refused_by=[]) is None


routes = st.lists(
    st.builds(
        route,
        st.integers(1, 9),
        *([st.sampled_from(TrafficClass.values)] * 2),
        priority=st.integers(1, 3),
        free=st.integers(0, 2),
        is_open=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.account_id,
)


@given(routes, st.sampled_from(TrafficClass.values), st.sets(st.integers(1, 9)))
def test_a_mail_is_offered_to_each_account_once_and_then_to_none(
    found: list[Route], traffic_class: str, refused: set[int]
) -> None:
    asked = list(refused)
    while (following := next_route(found, traffic_class, refused_by=asked)) is not None:
        assert following.account_id not in asked
        assert following.open
        assert following.free > 0
        asked.append(following.account_id)
    assert {one.account_id for one in found if one.open and one.free > 0} <= set(asked)
