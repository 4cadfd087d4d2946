"""What follows for a contact and when, purely; and the thread that a mail goes on with."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import pace, sequence, threads
from campaigns.reasons import Reason
from campaigns.sequence import Condition, End, Otherwise, Queue, Standing, Step, Wait, follow
from campaigns.threads import Sent, thread

RIGA = pace.Schedule(ZoneInfo("Europe/Riga"))
GERMAN = pace.Schedule(ZoneInfo("Europe/Berlin"), country="DE")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
# Of the clock of UTC, which hypothesis adds.
EARLY, LATE = datetime(2026, 11, 20), datetime(2027, 2, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("schedule", "moment", "count", "unit", "expected"),
    [
        (RIGA, "2026-11-27T10:00Z", 36, "hours", "2026-11-28T22:00Z"),
        (RIGA, "2026-11-27T10:00Z", 3, "days", "2026-11-30T10:00Z"),
        # The time on the wall stays, though the clock is put back in between.
        (RIGA, "2026-10-24T07:00Z", 1, "days", "2026-10-25T08:00Z"),
        (RIGA, "2026-11-27T10:00Z", 1, "working_days", "2026-11-30T10:00Z"),
        (RIGA, "2026-11-28T10:00Z", 1, "working_days", "2026-11-30T10:00Z"),
        (RIGA, "2026-11-24T10:00Z", 5, "working_days", "2026-12-01T10:00Z"),
        # Friday and Saturday are Christmas, Sunday would not count anyway.
        (GERMAN, "2026-12-24T10:00Z", 1, "working_days", "2026-12-28T10:00Z"),
        (GERMAN, "2026-12-24T10:00Z", 1, "days", "2026-12-25T10:00Z"),
        # A day by the zone: Sunday evening in UTC is Monday there.
        (RIGA, "2026-11-29T23:00Z", 1, "working_days", "2026-11-30T23:00Z"),
    ],
)
def test_delays_count_what_they_say(schedule: pace.Schedule, moment: str, count: int, unit: str, expected: str) -> None:
    assert pace.later(schedule, datetime.fromisoformat(moment), count, unit) == datetime.fromisoformat(expected)


@given(st.datetimes(EARLY, LATE, timezones=st.just(UTC)), st.integers(1, 40))
def test_working_days_are_never_fewer_than_days_and_end_on_one(moment: datetime, count: int) -> None:
    until = pace.later(GERMAN, moment, count, "working_days")
    local = until.astimezone(GERMAN.zone)
    assert local.weekday() < 5
    assert not pace.is_holiday(GERMAN, until)
    assert until >= pace.later(GERMAN, moment, count, "days")


def step(id: int, condition: str = Condition.NONE, otherwise: str = Otherwise.NEXT) -> Step:
    return Step(id, 3, "days", condition, otherwise)


OPENED, CLICKED, NOT_OPENED = Condition.OPENED, Condition.CLICKED, Condition.NOT_OPENED
IN_TIME, TOO_LATE, OVER = NOW + DAY, NOW + 4 * DAY, NOW + 3 * DAY


@pytest.mark.parametrize(
    ("steps", "opened_at", "clicked_at", "after", "expected"),
    [
        ([], None, None, 0, End()),
        ([step(2)], None, None, 0, Queue(2, OVER)),
        ([step(2), step(3)], None, None, 9, Queue(2, OVER)),
        ([step(2, OPENED)], IN_TIME, None, 2, Wait(OVER, None, NOW)),
        ([step(2, OPENED)], IN_TIME, None, 3, Queue(2, OVER)),
        ([step(2, OPENED)], None, IN_TIME, 3, Queue(2, OVER)),
        ([step(2, OPENED)], TOO_LATE, None, 5, End()),
        ([step(2, CLICKED)], IN_TIME, None, 3, End()),
        ([step(2, CLICKED)], None, IN_TIME, 3, Queue(2, OVER)),
        ([step(2, NOT_OPENED)], None, None, 3, Queue(2, OVER)),
        ([step(2, NOT_OPENED)], IN_TIME, None, 3, End()),
        ([step(2, NOT_OPENED)], None, IN_TIME, 3, End()),
        ([step(2, NOT_OPENED)], TOO_LATE, None, 5, Queue(2, OVER)),
        ([step(2, OPENED, Otherwise.END), step(3)], None, None, 3, End(Reason.CONDITION_NOT_MET)),
        # What follows a step that was passed over counts from there.
        ([step(2, OPENED), step(3)], None, None, 3, Queue(3, NOW + 6 * DAY)),
        ([step(2, OPENED), step(3, NOT_OPENED)], None, None, 3, Wait(NOW + 6 * DAY, 2, OVER)),
        ([step(2, OPENED), step(3, NOT_OPENED)], None, None, 6, Queue(3, NOW + 6 * DAY)),
    ],
)
def test_what_follows(
    steps: list[Step],
    opened_at: datetime | None,
    clicked_at: datetime | None,
    after: int,
    expected: Queue | Wait | End,
) -> None:
    assert follow(steps, Standing(NOW, opened_at, clicked_at), RIGA, now=NOW + after * DAY) == expected


STEPS = st.builds(
    Step,
    st.integers(1, 99),
    st.integers(1, 9),
    st.sampled_from(pace.Unit.values),
    st.sampled_from(Condition.values),
    st.sampled_from(Otherwise.values),
)


@given(st.lists(STEPS, max_size=5, unique_by=lambda one: one.id), st.data())
def test_looking_when_told_to_ends_as_looking_once_late_does(steps: list[Step], data: st.DataObject) -> None:
    """Whoever waits is told to look later, each time; and nothing is queued before its delay is over."""
    moments = st.none() | st.datetimes(EARLY, LATE, timezones=st.just(UTC))
    standing = Standing(NOW, data.draw(moments), data.draw(moments))
    late = follow(steps, standing, RIGA, now=NOW + timedelta(days=400))
    now, left, current = NOW, steps, standing
    while isinstance(found := follow(left, current, RIGA, now=now), Wait):
        assert found.until > now
        now = found.until
        if found.passed is not None:
            left = left[[one.id for one in left].index(found.passed) + 1 :]
            current = Standing(found.since, standing.opened_at, standing.clicked_at)
    assert found == late
    if isinstance(found, Queue):
        assert found.due_at > NOW


SUBJECTS = st.lists(st.sampled_from(["", "One", "Two"]), min_size=1, max_size=6).map(lambda rest: ["One", *rest])


@given(SUBJECTS)
def test_a_thread_is_what_follows_the_last_new_subject(subjects: list[str]) -> None:
    mails = [Sent(f"<{number}@a.example>", number, subject) for number, subject in enumerate(subjects)]
    found = thread(mails[:-1], mails[-1].step_id, mails[-1].subject)
    spoken = subjects[0]
    first = 0
    for number, subject in enumerate(subjects):
        if subject and subject != spoken:
            spoken, first = subject, number
    ids = [mail.message_id for mail in mails[first:-1]]
    assert list(found.references) == ids
    assert found.step_id == first
    assert found.headers == ({"In-Reply-To": ids[-1], "References": " ".join(ids)} if ids else {})
    assert found.as_reply("Hello") == ("Re: Hello" if ids else "Hello")
    assert found.as_reply("RE: Hello") == "RE: Hello"


def test_a_first_mail_begins_a_thread() -> None:
    assert thread([], 7, "Hello") == threads.Thread(7, subject="Hello")
    assert sequence.MET.keys() == set(Condition) - {Condition.NONE}
