"""When a campaign may send, over weekends, holidays and changes of the clock."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import pace
from campaigns.pace import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = Schedule(BERLIN, frozenset(range(5)), time(9), time(17))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STEP = timedelta(minutes=5)
# Zones that change by an hour, by half an hour, at midnight, and not at all.
ZONES = [ZoneInfo(name) for name in ("Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Asia/Kolkata")]
CLOCKS = st.integers(0, 287).map(lambda five: time(five // 12, five % 12 * 5))


def at(text: str, zone: ZoneInfo = BERLIN, *, fold: int = 0) -> datetime:
    # In UTC: Python holds a moment of the hour that comes twice unequal to the same one in any other zone.
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-11-24 08:59:59", "2026-11-24 09:00"),
        ("2026-11-24 09:00", "2026-11-24 09:00"),
        ("2026-11-24 16:59:59", "2026-11-24 16:59:59"),
        ("2026-11-24 17:00", "2026-11-25 09:00"),
        ("2026-11-27 17:00", "2026-11-30 09:00"),
    ],
)
def test_it_is_open_in_office_hours_and_else_opens_the_next_working_day(moment: str, opens: str) -> None:
    assert pace.next_open(OFFICE, at(moment)) == at(opens)
    assert pace.is_open(OFFICE, at(moment)) == (moment == opens or moment.endswith("16:59:59"))


def test_an_end_alone_and_a_beginning_alone_reach_to_midnight() -> None:
    mornings, evenings = Schedule(BERLIN, closes=time(12)), Schedule(BERLIN, opens=time(18))
    assert pace.next_open(mornings, at("2026-11-24 12:00")) == at("2026-11-25 00:00")
    assert pace.next_open(evenings, at("2026-11-25 00:00")) == at("2026-11-25 18:00")


def test_it_skips_the_holidays_of_its_country() -> None:
    german = Schedule(BERLIN, OFFICE.weekdays, OFFICE.opens, OFFICE.closes, "DE")
    christmas_eve_at_night = at("2026-12-24 17:00")
    assert pace.next_open(OFFICE, christmas_eve_at_night) == at("2026-12-25 09:00")
    assert pace.next_open(german, christmas_eve_at_night) == at("2026-12-28 09:00")
    assert pace.is_holiday(german, at("2026-12-25 12:00"))


def test_the_day_is_that_of_its_zone() -> None:
    mondays = Schedule(ZoneInfo("Asia/Tokyo"), frozenset({0}))
    assert pace.is_open(mondays, datetime(2026, 11, 22, 15, tzinfo=UTC))
    assert not pace.is_open(mondays, datetime(2026, 11, 23, 15, tzinfo=UTC))


def test_a_window_in_the_hour_that_is_left_out_begins_at_the_change() -> None:
    early = Schedule(BERLIN, opens=time(2, 30), closes=time(4))
    assert pace.next_open(early, at("2027-03-28 01:00")) == at("2027-03-28 03:00")
    gone = Schedule(BERLIN, opens=time(2, 10), closes=time(2, 50))
    assert pace.next_open(gone, at("2027-03-28 01:00")) == at("2027-03-29 02:10")


def test_the_hour_that_comes_twice_is_open_twice() -> None:
    twice = Schedule(BERLIN, opens=time(2, 10), closes=time(2, 20))
    assert pace.next_open(twice, at("2027-10-31 01:00")) == at("2027-10-31 02:10")
    assert pace.next_open(twice, at("2027-10-31 02:20")) == at("2027-10-31 02:10", fold=1)


@pytest.mark.parametrize("never", [Schedule(BERLIN, frozenset()), Schedule(BERLIN, opens=time(9), closes=time(9))])
def test_what_never_opens_says_so(never: Schedule) -> None:
    assert pace.next_open(never, at("2026-11-24 12:00")) is None


def test_only_a_schedule_without_limits_is_always_open() -> None:
    assert Schedule(BERLIN).always_open
    assert not any(
        one.always_open for one in (OFFICE, Schedule(BERLIN, country="DE"), Schedule(BERLIN, closes=time(9)))
    )


@pytest.mark.parametrize("named", ["Nowhere/Land", "", None, 7, "../etc/passwd"])
def test_a_zone_that_does_not_exist_is_the_campaigns(named: object) -> None:
    assert pace.zone_named(named, BERLIN) is BERLIN
    assert pace.zone_named("Asia/Tokyo", BERLIN).key == "Asia/Tokyo"


def test_countries_have_names() -> None:
    assert pace.countries()["US"] == "United States"
    assert all(len(code) == 2 for code in pace.countries())


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    weekdays=st.frozensets(st.integers(0, 6), min_size=1),
    clocks=st.lists(CLOCKS, min_size=2, max_size=2, unique=True),
    # Around both changes of the clock in 2027, whatever the hemisphere.
    start=st.sampled_from([datetime(2027, month, day, tzinfo=UTC) for month in (3, 4, 10, 11) for day in (1, 26)]),
    offset=st.integers(0, 12 * 24 * 9),
)
def test_the_next_opening_is_the_first_open_moment(
    zone: ZoneInfo, weekdays: frozenset[int], clocks: list[time], start: datetime, offset: int
) -> None:
    schedule = Schedule(zone, weekdays, *sorted(clocks))
    now = start + offset * STEP
    moment = now
    while not pace.is_open(schedule, moment):
        moment += STEP
    assert pace.next_open(schedule, now) == moment


def test_it_closes_when_its_window_ends_or_the_day_that_follows_is_none_of_its_days() -> None:
    assert pace.next_closed(OFFICE, at("2026-11-24 12:00")) == at("2026-11-24 17:00")
    assert pace.next_closed(OFFICE, at("2026-11-24 17:00")) == at("2026-11-24 17:00")
    assert pace.next_closed(Schedule(BERLIN, frozenset({1, 2})), at("2026-11-24 12:00")) == at("2026-11-26 00:00")
    assert pace.next_closed(Schedule(BERLIN), NOW) is None


@given(st.sampled_from(ZONES), CLOCKS, CLOCKS, st.integers(0, 3 * 288))
@settings(max_examples=50)
def test_it_is_open_until_it_closes(zone: ZoneInfo, one: time, other: time, after: int) -> None:
    found = Schedule(zone, opens=min(one, other), closes=max(one, other))
    now = at("2026-10-24 00:00") + after * STEP
    closes = pace.next_closed(found, now)
    if closes is None or one == other:
        return
    assert not pace.is_open(found, closes)
    while now < closes:
        assert pace.is_open(found, now)
        now += STEP
