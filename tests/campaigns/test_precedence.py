"""The turn of a mail combines its class, its step and its age, so that nothing starves."""

import random
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from campaigns import dispatch, doubt, forecast, launch, paced, precedence, simulation
from campaigns.models import Campaign, Message
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment, TrafficClass
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

DAY = timedelta(days=1)
CLASSES = [choice for choice in TrafficClass.values if choice != "testing"]
MOMENTS = st.integers(0, 365 * 24 * 3600).map(lambda seconds: NOON + timedelta(seconds=seconds))
LEVELS = st.sampled_from(precedence.LEVELS)


@pytest.fixture
def smtp(alpha: Agency, beta: Agency) -> Iterator[Account]:
    """Entered is Alpha; Beta's mails, which are older than all of Alpha's, stay where they are."""
    found = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, found, senders=20)
    with context.entered(beta):
        made = stage.campaign(stage.contact_list("b", 5), traffic_class="high_priority")
        launch.launch(made, now=NOON - 90 * DAY)
    with context.entered(alpha):
        yield found
    with context.entered(beta):
        assert stage.statuses(made) == {"scheduled": 5}


def launched(name: str, count: int, traffic_class: str, **fields: Any) -> Campaign:
    made = stage.campaign(stage.contact_list(name, count), traffic_class=traffic_class, **fields)
    launch.launch(made, now=NOON)
    return made


def claim(agency: Agency, account: Account, now: datetime, limit: int) -> list[int]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return [one.id for one in dispatch.claim_batch(agency, allotment, now=now, limit=limit)]


def follow_ups(campaign: Campaign) -> None:
    level = precedence.head_start(campaign.traffic_class, follow_up=True)
    campaign.messages.update(priority=level)


def test_the_class_decides(alpha: Agency, smtp: Account) -> None:
    made = {one: launched(one, 1, one).messages.get().pk for one in CLASSES}
    urgent, cold, thread = (made[name] for name in ("high_priority", "cold_outreach", "follow_ups"))
    assert claim(alpha, smtp, NOON, 3) == [urgent, thread, cold]


def test_the_step_decides(alpha: Agency, smtp: Account) -> None:
    first, later, urgent = (launched(f"a{number}", 1, CLASSES[-1]) for number in range(3))
    follow_ups(later)
    Message.objects.filter(campaign=urgent).update(priority=precedence.HIGH)
    assert claim(alpha, smtp, NOON, 3) == [one.messages.get().pk for one in (urgent, later, first)]


@pytest.mark.parametrize(("days", "first"), [(13.9, "new"), (14.1, "old")])
def test_the_age_decides(alpha: Agency, smtp: Account, days: float, first: str) -> None:
    old, new = launched("old", 1, "bulk"), launched("new", 1, "bulk")
    follow_ups(new)
    new.messages.update(due_at=NOON + days * DAY)
    found = {"old": old.messages.get().pk, "new": new.messages.get().pk}
    assert claim(alpha, smtp, NOON + 15 * DAY, 1) == [found[first]]


@pytest.mark.parametrize("hours", [{}, {"window_from": time(9), "window_until": time(17)}], ids=["always", "by day"])
def test_first_mails_do_not_starve_behind_follow_ups_without_end(
    alpha: Agency, smtp: Account, hours: dict[str, Any]
) -> None:
    """Three follow-ups come in a day and two mails go, so what has no age never has its turn."""
    thread, first = launched("thread", 90, "bulk"), launched("first", 1, "bulk", **hours)
    follow_ups(thread)
    for number, message in enumerate(thread.messages.order_by("pk")):
        Message.objects.filter(pk=message.pk).update(due_at=NOON + number * DAY / 3)
    waiting = first.messages.get().pk
    for day in range(1, 30):
        paced.set_aside(alpha, smtp.pk, now=NOON + day * DAY - 4 * timedelta(hours=1))
        if waiting in claim(alpha, smtp, NOON + day * DAY, 2):
            break
        paced.set_aside(alpha, smtp.pk, now=NOON + day * DAY + 7 * timedelta(hours=1))
    # Those of the first fourteen days, at two a day.
    assert day == pytest.approx(14 * 3 / 2, abs=2)


def test_what_waits_for_a_cap_of_its_campaign_grows_no_older_by_it(alpha: Agency, smtp: Account) -> None:
    made = launched("a", 3, "bulk", new_contacts_per_day=1)
    for day in range(2):
        assert len(claim(alpha, smtp, NOON + day * DAY, 3)) == 1
        paced.set_aside(alpha, smtp.pk, now=NOON + day * DAY)
    assert made.messages.get(status="scheduled").priority == precedence.BULK


def test_claims_and_the_forecast_have_one_order(alpha: Agency, smtp: Account) -> None:
    for seed in range(5):
        rng = random.Random(seed)
        with transaction.atomic():
            made = [launched(f"a{number}", 8, rng.choice(CLASSES)) for number in range(4)]
            minutes = iter(rng.sample(range(50 * 24 * 60), 32))
            for message in Message.objects.order_by("pk"):
                due_at = NOON + next(minutes) * timedelta(minutes=1)
                level = rng.choice(precedence.LEVELS)
                Message.objects.filter(pk=message.pk).update(account=smtp, due_at=due_at, priority=level)
            now = NOON + 40 * DAY
            clockwork = simulation._Clockwork(forecast._scene(alpha, made[0], now), None, now)
            foreseen = [(one.campaign.sending.campaign_id, one.due_at) for one in clockwork._due()]
            # However many are claimed at once.
            taken: list[int] = []
            while found := claim(alpha, smtp, now, rng.randrange(1, 9)):
                taken += found
            of = {one.pk: (one.campaign_id, one.due_at) for one in Message.objects.all()}
            assert [of[pk] for pk in taken] == foreseen
            assert 10 < len(taken) < 32
            assert not Message.objects.filter(status="scheduled", due_at__lte=now).exists()
            transaction.set_rollback(True)


def test_a_batch_is_asked_about_again_in_the_order_in_which_it_was_claimed(alpha: Agency, smtp: Account) -> None:
    launched("a", 30, "bulk")
    rng = random.Random(1)
    for message in Message.objects.all():
        due_at, level = NOON - rng.random() * 40 * DAY, rng.choice(precedence.LEVELS)
        Message.objects.filter(pk=message.pk).update(due_at=due_at, priority=level)
    taken = claim(alpha, smtp, NOON, 30)
    Message.objects.update(status="unknown", reason=Reason.IN_DOUBT, fingerprint="x", together=30, attempted_at=NOON)
    claim_id = Message.objects.values_list("claim", flat=True).distinct().get()
    assert [one.message.id for one in doubt._read(smtp.pk, 0, claim_id)] == taken


def test_there_is_no_head_start_that_claims_do_not_know(alpha: Agency, smtp: Account) -> None:
    launched("a", 1, "bulk")
    with pytest.raises(IntegrityError, match="priority_is_a_head_start"), transaction.atomic():
        Message.objects.update(priority=precedence.LEVELS.stop)


def test_a_claim_locks_what_it_takes_and_others_take_the_next(committed: dict[str, Agency]) -> None:
    smtp, alpha = stage.accounts()["smtp"], committed["alpha"]
    stage.allot(alpha, smtp)
    with context.entered(alpha):
        made = launched("a", 12, "bulk")
        ids = list(made.messages.order_by("pk").values_list("pk", flat=True))
        for number, pk in enumerate(ids):
            Message.objects.filter(pk=pk).update(priority=number // 3)
        order = sorted(ids, key=lambda pk: (-(ids.index(pk) // 3), pk))
        query = "SELECT id FROM {}.campaigns_message FOR UPDATE SKIP LOCKED"
        with transaction.atomic():
            assert claim(alpha, smtp, NOON, 4) == order[:4]
            with psycopg.connect(**connection.get_connection_params()) as other:
                free = {row[0] for row in other.execute(query.format(alpha.schema_name))}
        assert free == set(order[4:])
        with psycopg.connect(**connection.get_connection_params()) as other:
            other.execute(
                f"SELECT id FROM {alpha.schema_name}.campaigns_message WHERE id = ANY(%s) FOR UPDATE", [order[4:8]]
            )
            assert claim(alpha, smtp, NOON, 4) == order[8:]


@given(MOMENTS, MOMENTS, LEVELS)
def test_age_is_kept_to_the_day(due_at: datetime, until: datetime, level: int) -> None:
    aged = precedence.aged(level, due_at, until)
    assert aged in precedence.LEVELS
    assert aged >= level
    if aged < precedence.HIGH and until > due_at:
        lost = precedence.turn(aged, until) - precedence.turn(level, due_at)
        assert timedelta() <= lost < DAY


@given(MOMENTS, LEVELS, MOMENTS, LEVELS)
def test_nothing_goes_before_what_is_older_by_more_than_its_head_start(
    mine: datetime, level: int, theirs: datetime, other: int
) -> None:
    if theirs - mine > precedence.HIGH * DAY:
        assert precedence.turn(level, mine) < precedence.turn(other, theirs)
