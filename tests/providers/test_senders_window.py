"""P2: a sender keeps its limit in its agency's day and in any 24 hours, whatever the clocks do."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import transaction

from providers.accounts.models import Account, Allotment
from providers.senders import ledger as senders
from providers.senders.models import Sender, SenderDay, SenderHour
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

DAY = timedelta(hours=24)


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    """Both agencies have two senders with five mails a day each."""
    found = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, found, senders=2, per_day=5, domains=1)
    return found


def send(account: Account, now: datetime, most: int = 100) -> list[int]:
    """Spend up to so many mails at this moment; return the senders that they left from."""
    day = senders.local_day(now, context.current_agency().zone)
    with transaction.atomic():
        found = senders.take_seats(account.pk, day=day, now=now, limit=10)
        taken = [seat for seat in found.seats for _ in range(seat.room)][:most]
        senders.spend(taken, day=day, now=now)
    return [seat.sender_id for seat in taken]


@pytest.mark.parametrize("first", [date(2026, 10, 24), date(2026, 10, 31), date(2026, 11, 24), date(2027, 3, 13)])
def test_no_day_and_no_24_hours_hold_more_than_the_limit(
    account: Account, alpha: Agency, beta: Agency, first: date
) -> None:
    """In October Berlin's day has 25 hours, in November New York's; in March New York's has 23."""
    rng = random.Random(first.toordinal())
    for agency in (alpha, beta):
        sent: list[tuple[int, datetime]] = []
        now = datetime(first.year, first.month, first.day, tzinfo=UTC)
        with context.entered(agency):
            while now < datetime(first.year, first.month, first.day, tzinfo=UTC) + 3 * DAY:
                sent += [(sender_id, now) for sender_id in send(account, now, rng.randrange(1, 4))]
                now += timedelta(minutes=rng.randrange(1, 200))
            by_day = Counter((sender_id, senders.local_day(when, agency.zone)) for sender_id, when in sent)
            assert dict(SenderDay.objects.values_list("sender", "used")).keys() == {key for key, _ in by_day}
        assert max(by_day.values()) <= 5
        for sender_id, when in sent:
            assert sum(one == sender_id and when - DAY <= other <= when for one, other in sent) <= 5
        # What is held back is no more than an hour's: three days bring at least two and a half limits.
        assert len(sent) >= 2 * 5 * 2


def test_what_left_before_midnight_counts_after_it(account: Account, alpha: Agency) -> None:
    evening = datetime(2026, 11, 24, 22, 30, tzinfo=UTC)
    with context.entered(alpha):
        assert len(send(account, evening)) == 10
        morning = senders.next_day(evening, alpha.zone)
        assert send(account, morning) == []
        assert send(account, evening + DAY + timedelta(minutes=29)) == []
        assert senders.room_from(account.pk, zone=alpha.zone, now=morning) == datetime(2026, 11, 25, 23, tzinfo=UTC)
        assert len(send(account, datetime(2026, 11, 25, 23, tzinfo=UTC))) == 10


def test_room_and_seats_agree_at_every_hour(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        send(account, NOON, 7)
        for hour in range(60):
            now = NOON + timedelta(hours=hour)
            day = senders.local_day(now, alpha.zone)
            with transaction.atomic():
                seats = senders.take_seats(account.pk, day=day, now=now, limit=10).seats
            assert senders.room_today([account.pk], day=day, now=now)[account.pk] == sum(seat.room for seat in seats)


def test_a_day_of_the_agency_gives_room_before_the_24_hours_when_those_have_some(
    account: Account, alpha: Agency
) -> None:
    with context.entered(alpha):
        Sender.objects.update(per_day=4)
        send(account, NOON)
        Sender.objects.update(per_day=6)
        assert len(send(account, NOON)) == 4
        assert senders.room_from(account.pk, zone=alpha.zone, now=NOON) == NOON + timedelta(hours=25)
        Sender.objects.update(active=False)
        assert senders.room_from(account.pk, zone=alpha.zone, now=NOON) is None


def test_hours_that_no_window_reaches_are_forgotten(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        send(account, NOON, 2)
        send(account, NOON + DAY, 2)
        kept = list(SenderHour.objects.filter(hour=NOON + DAY).values_list("pk", flat=True))
        assert senders.purge(now=NOON + 3 * DAY) == 0
        assert senders.purge(now=NOON + 3 * DAY + timedelta(hours=1)) > 0
        assert list(SenderHour.objects.values_list("pk", flat=True)) == kept


def test_more_than_a_limit_in_an_hour_is_refused_by_the_database(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        send(account, NOON, 1)
        assert set(SenderHour.objects.values_list("allowed", "used")) == {(5, 1)}
        Sender.objects.update(per_day=3)
        send(account, NOON, 1)
        # The most that was allowed in this hour stays on record for the audit.
        assert set(SenderHour.objects.values_list("allowed", flat=True)) <= {5, 3}
        assert max(SenderHour.objects.values_list("allowed", flat=True)) == 5


def test_senders_that_rest_are_not_seated_and_the_first_to_be_free_is_named(account: Account, alpha: Agency) -> None:
    gap = timedelta(minutes=9)
    with context.entered(alpha):
        today = senders.local_day(NOON, alpha.zone)
        with transaction.atomic():
            (first, second) = senders.take_seats(account.pk, day=today, now=NOON, limit=10).seats
            first.free_at, second.free_at = NOON + gap, NOON + 2 * gap
            senders.spend([first, second], day=today, now=NOON)
        assert send(account, NOON + timedelta(minutes=8)) == []
        assert senders.room_today([account.pk], day=today, now=NOON)[account.pk] == 8
        assert senders.rested_from(account.pk, timedelta(), day=today, now=NOON).until == NOON + gap
        # A longer gap of the next mail holds too, counted from the last one.
        longer = timedelta(minutes=30)
        assert senders.rested_from(account.pk, longer, day=today, now=NOON).until == NOON + longer
        assert set(send(account, NOON + gap)) == {first.sender_id}
        assert Allotment.objects.filter(account=account).count() == 2


def test_new_senders_rest_not_at_all(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        allotment = Allotment.objects.get(account=account, agency=alpha)
        Allotment.objects.filter(pk=allotment.pk).update(senders=3)
        allotment.refresh_from_db()
        add_senders(allotment, [("new@new.example", "")])
        today = senders.local_day(NOON, alpha.zone)
        assert senders.rested_from(account.pk, timedelta(hours=1), day=today, now=NOON).until == NOON
