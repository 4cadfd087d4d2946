"""Pure: when a campaign may send. Moments are aware, times are of the clock on the wall of the schedule's zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from django.db import models
from django.utils.translation import gettext_lazy as _

EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)
SATURDAY = 5
# Longer than any run of holidays: what has not opened by then never does.
HORIZON = timedelta(days=400)


class Unit(models.TextChoices):
    """What a delay is counted in."""

    HOURS = "hours", _("hours")
    DAYS = "days", _("days")
    WORKING_DAYS = "working_days", _("working days")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Weekdays (0 is Monday) and hours at which mails may leave, but for the holidays of a country.

    `opens` belongs to the window and `closes` does not; None is midnight. `country` is an ISO 3166-1 code in capitals.
    """

    zone: ZoneInfo
    weekdays: frozenset[int] = frozenset(EVERY_DAY)
    opens: time | None = None
    closes: time | None = None
    country: str = ""

    @property
    def hours(self) -> float:
        """How long the window of a day is open; that the clock is changed on some days is left out."""
        opens, closes = (
            (clock.hour + clock.minute / 60 + clock.second / 3600) if clock else 0.0
            for clock in (self.opens, self.closes)
        )
        return (closes or 24.0) - opens

    @property
    def always_open(self) -> bool:
        """Whether there is no moment at which it is closed."""
        whole_day = not self.opens and self.closes is None
        return whole_day and not self.country and self.weekdays >= frozenset(EVERY_DAY)


def is_open(schedule: Schedule, now: datetime) -> bool:
    """Whether a mail may leave at this moment."""
    local = now.astimezone(schedule.zone)
    clock = local.time()
    return (
        local.weekday() in schedule.weekdays
        and (schedule.opens is None or clock >= schedule.opens)
        and (schedule.closes is None or clock < schedule.closes)
        and not is_holiday(schedule, now)
    )


def next_open(schedule: Schedule, now: datetime) -> datetime | None:
    """The first moment from now on at which a mail may leave, in UTC; None if there is none within the horizon.

    Safe where the clock is changed: a window that begins in the hour left out begins at the change, and what falls
    into the hour that comes twice is open twice.
    """
    return _first(schedule, now, is_to_be_open=True)


def next_closed(schedule: Schedule, now: datetime) -> datetime | None:
    """The first moment from now on at which no mail may leave, in UTC; None if there is none within the horizon."""
    return None if schedule.always_open else _first(schedule, now, is_to_be_open=False)


def is_holiday(schedule: Schedule, now: datetime) -> bool:
    """Whether the day of this moment is a holiday of the schedule's country."""
    day = now.astimezone(schedule.zone).date()
    return bool(schedule.country) and day in _holidays(schedule.country, day.year)


def later(schedule: Schedule, moment: datetime, count: int, unit: str) -> datetime:
    """So much later, in UTC. Days keep the time on the wall.

    Working days are neither Saturdays nor Sundays nor holidays of the schedule's country, whatever its weekdays.
    """
    if unit == Unit.HOURS:
        return moment.astimezone(UTC) + timedelta(hours=count)
    local = moment.astimezone(schedule.zone)
    if unit == Unit.DAYS:
        return (local + timedelta(days=count)).astimezone(UTC)
    while count > 0:
        local += timedelta(days=1)
        count -= local.weekday() < SATURDAY and not is_holiday(schedule, local)
    return local.astimezone(UTC)


def zone_named(name: object, otherwise: ZoneInfo) -> ZoneInfo:
    """The zone that a contact's file names, or the other one where it names none that there is."""
    return ZoneInfo(name) if isinstance(name, str) and name in zones() else otherwise


@lru_cache(maxsize=1)
def countries() -> dict[str, str]:
    """Every country whose holidays are known: its code → its name in English."""
    from holidays.registry import COUNTRIES

    found = {entry[1]: _spaced(entry[0]) for entry in COUNTRIES.values()}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _first(schedule: Schedule, now: datetime, *, is_to_be_open: bool) -> datetime | None:
    now = now.astimezone(UTC)
    if is_open(schedule, now) is is_to_be_open:
        return now
    today = now.astimezone(schedule.zone).date()
    for number in range(HORIZON.days):
        found = [
            moment
            for moment in _edges(schedule, today + timedelta(days=number))
            if moment > now and is_open(schedule, moment) is is_to_be_open
        ]
        if found:
            return min(found)
    return None


def _edges(schedule: Schedule, day: date) -> Iterator[datetime]:
    """Where a window can begin or end on this day: at its times, in both hours of that name, at midnight, or where the
    clock is changed."""
    start = _moment(schedule.zone, day, time())
    end = _moment(schedule.zone, day + timedelta(days=1), time())
    yield start
    for clock in (schedule.opens or time(), schedule.closes or time()):
        for fold in (0, 1):
            yield _moment(schedule.zone, day, clock.replace(fold=fold))
    if _offset(schedule.zone, start) != _offset(schedule.zone, end):
        yield _change(schedule.zone, start, end)


def _moment(zone: ZoneInfo, day: date, clock: time) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The moment, to the second, at which the zone's offset changes."""
    first = _offset(zone, before)
    low, high = 0, int((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, before + timedelta(seconds=middle)) == first else (low, middle)
    return before + timedelta(seconds=high)


@lru_cache(maxsize=512)
def _holidays(country: str, year: int) -> frozenset[date]:
    # Loaded only where a campaign asks for it: the library is large.
    from holidays import country_holidays

    return frozenset(country_holidays(country, years=year))


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The names of all time zones."""
    return frozenset(available_timezones())


def _spaced(name: str) -> str:
    return "".join(f" {letter}" if index and letter.isupper() else letter for index, letter in enumerate(name))
