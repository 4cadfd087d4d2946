"""P1, P2: clocks that jump, and days of 23 and 25 hours, give nobody more mails than a day or 24 hours have."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from campaigns import dispatch
from campaigns.models import Message
from outreach.demo.far_end import FarEnd
from tenants import context
from tenants.models import Agency
from tests.chaos import acts, scene
from tests.chaos.scene import Scene, scaled
from tests.stage import NOON

EACH = 4
CHANGES = [
    ("alpha", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC)),
    ("alpha", "Europe/Berlin", datetime(2027, 3, 27, 12, tzinfo=UTC)),
    ("beta", "America/New_York", datetime(2026, 10, 31, 12, tzinfo=UTC)),
    ("beta", "America/New_York", datetime(2027, 3, 13, 12, tzinfo=UTC)),
]


@pytest.fixture
def small(alpha: Agency, beta: Agency, far: FarEnd) -> Scene:
    """Both agencies, each sender with four mails a day."""
    found = scene.set_up({"alpha": alpha, "beta": beta}, far, senders=3)
    for agency in found.agencies.values():
        with context.entered(agency):
            acts.Sender.objects.update(per_day=EACH, per_hour=EACH)
    return found


def test_a_clock_that_jumps_back_gives_no_second_day(small: Scene) -> None:
    acts.queue(small, 60, overflow="wait")

    def sent_at(now: datetime) -> int:
        before = small.statuses()["sent"]
        with acts.in_alpha(small):
            dispatch.drain(small.accounts["smtp"].pk, clock=lambda: now, until=now + timedelta(minutes=1))
        return small.statuses()["sent"] - before

    hours = [0, 24, 25, 1, 0, -24, 26, 0]
    # What goes out in the wrong day counts there; back in the right one, nothing more goes.
    assert [sent_at(NOON + timedelta(hours=each)) for each in hours] == [12, 0, 12, 0, 0, 0, 0, 0]
    assert small.counts()["max_per_sender"] == 2 * EACH
    assert acts.audit_drifts() == []


@pytest.mark.parametrize(("slug", "zone", "begins"), CHANGES[:: scaled(3, 1)])
def test_days_of_23_and_25_hours(small: Scene, slug: str, zone: str, begins: datetime) -> None:
    small.launch_for(slug, 120, now=begins)
    for half_hours in range(0, 2 * 60, 3):
        now = begins + timedelta(minutes=30 * half_hours)
        with context.entered(small.agencies[slug]):
            for account in small.accounts.values():
                dispatch.drain(account.pk, clock=lambda at=now: at, until=now + timedelta(minutes=1))
    with context.entered(small.agencies[slug]):
        sent = list(Message.objects.filter(status="sent").values_list("sender_id", "claimed_at"))
    days = Counter((sender, at.astimezone(ZoneInfo(zone)).date()) for sender, at in sent)
    assert max(days.values()) == EACH
    for sender, at in sent:
        assert sum(other == sender and at - timedelta(hours=24) < when <= at for other, when in sent) <= EACH
    # Three days began in this time, so nothing was held back for longer than it had to be.
    assert len(sent) >= 2 * EACH * 9
    assert small.counts()["duplicates"] == 0
    assert acts.audit_drifts() == []


def test_a_host_whose_clock_is_a_day_ahead_takes_nothing_that_another_one_sends(small: Scene) -> None:
    acts.queue(small, 6)
    batch = acts.claim(small, 6)
    with acts.once_after(acts.lifecycle, "begin", lambda: acts.rescue(small, now=NOON + timedelta(days=1))):
        acts.send(small, batch)
    acts.drain(small)
    assert small.findings(now=NOON) == []
