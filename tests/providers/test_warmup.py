"""A new domain grows into its limits: the pure plan, and what it means for claims, days and the admin."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from campaigns import jobs
from providers.accounts.models import Account, Allotment
from providers.senders import ledger, warming, warmup
from providers.senders.models import DomainDay, Sender, SenderDay, SenderDomain
from providers.senders.pool import add_senders
from providers.senders.warmup import Evidence
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, body

TODAY = date(2026, 11, 24)
DAY = timedelta(days=1)
LIMITS, STEPS = st.integers(1, 100_000), st.integers(1, 60)
EVIDENCE = st.builds(Evidence, st.integers(0, 99), st.integers(1, 99), st.integers(0, 9), st.integers(0, 3))


def test_the_usual_plan_takes_fourteen_days_from_five_to_fifty() -> None:
    assert warmup.plan(50, first=5) == [5, 6, 7, 9, 10, 12, 14, 17, 21, 25, 29, 35, 42, 50]


@given(LIMITS, st.integers(1, 200), STEPS)
def test_a_plan_grows_to_the_limit_and_never_beyond(limit: int, first: int, steps: int) -> None:
    found = warmup.plan(limit, first=first, steps=steps)
    assert len(found) == steps
    assert found == sorted(found)
    assert found[-1] == limit
    assert all(1 <= one <= limit for one in found)
    assert steps == 1 or found[0] == min(first, limit)


@given(LIMITS, st.lists(st.integers(1, 100_000), max_size=30), STEPS)
def test_what_is_allowed_is_never_above_the_limit_and_is_the_limit_beyond_the_plan(
    limit: int, steps: list[int], step: int
) -> None:
    found = warmup.allowed(limit, steps, step)
    assert 0 < found <= limit
    if step > len(steps):
        assert found == limit
    else:
        assert found <= steps[step - 1]


@given(STEPS, EVIDENCE, st.integers(1, 60))
def test_a_bad_day_steps_back_a_good_and_busy_one_on_and_any_other_stays(
    step: int, evidence: Evidence, last: int
) -> None:
    step = min(step, last)
    found = warmup.next_step(step, evidence, last=last)
    assert 1 <= found <= last + 1
    if evidence.bad:
        assert found == max(1, step - 1)
    elif evidence.sent and evidence.sent * 2 >= evidence.allowed:
        assert found == step + 1
    else:
        assert found == step


@given(st.integers(1, 30), st.integers(2, 20))
def test_while_all_is_well_the_allowance_only_grows_until_it_is_the_limit(limit: int, steps: int) -> None:
    plan, step, allowed = warmup.plan(limit, first=5, steps=steps), 1, []
    for _ in range(steps + 1):
        allowed.append(warmup.allowed(limit, plan, step))
        step = warmup.next_step(step, Evidence(allowed[-1], allowed[-1]), last=steps)
    assert allowed == sorted(allowed)
    assert allowed[-1] == limit


@pytest.mark.parametrize(
    ("evidence", "bad"),
    [
        (Evidence(100, 100, bounced=2), False),
        (Evidence(100, 100, bounced=3), True),
        (Evidence(5, 5, bounced=1), False),
        (Evidence(5, 5, bounced=2), True),
        (Evidence(1000, 1000, complained=1), False),
        (Evidence(999, 999, complained=1), True),
        (Evidence(0, 10, bounced=2), True),
        (Evidence(0, 10), False),
    ],
)
def test_a_day_is_bad_above_two_percent_of_bounces_or_one_in_a_thousand_complaints(
    evidence: Evidence, bad: bool
) -> None:
    assert evidence.bad == bad


# --- a domain of Alpha with three senders that warms up since today


@pytest.fixture
def account(alpha: Agency) -> Iterator[Account]:
    found = stage.accounts()["smtp"]
    allotment = Allotment.objects.create(account=found, agency=alpha, senders=10)
    with context.entered(alpha):
        addresses = [(f"s{number}@new.example", "") for number in range(3)]
        assert add_senders(allotment, addresses, per_hour=50, warming_since=TODAY) == 3
        yield found


def domain() -> SenderDomain:
    return SenderDomain.objects.get(name="new.example")


def send(account: Account, now: datetime, most: int = 10_000) -> int:
    """Spend all the room that there is now, or so much of it; return how many mails that was."""
    zone = context.current_agency().zone
    day = ledger.local_day(now, zone)
    with transaction.atomic():
        found = ledger.take_seats(account.pk, day=day, now=now, limit=100)
        taken = []
        for seat in found.seats:
            count = min(seat.room, found.domains[seat.domain_id], most - len(taken))
            found.domains[seat.domain_id] -= count
            taken += [seat] * count
        assert len(taken) == min(most, ledger.room_today([account.pk], day=day, now=now).get(account.pk, 0))
        ledger.spend(taken, day=day, now=now)
    return len(taken)


def advance(alpha: Agency, now: datetime, **trouble: tuple[int, int]) -> int:
    """Judge the day before, of which events have told so many bounces and complaints by domain."""
    yesterday = ledger.local_day(now, alpha.zone) - DAY
    for name, (bounced, complained) in trouble.items():
        days = DomainDay.objects.filter(domain__name=f"{name}.example", day=yesterday)
        days.update(bounced=bounced, complained=complained)
    warming.advance(alpha.zone, now=now)
    return domain().warmup_step


def test_pools_are_warm_unless_told(alpha: Agency, account: Account) -> None:
    add_senders(Allotment.objects.get(account=account), [("s@warm.example", "")])
    warm = SenderDomain.objects.get(name="warm.example")
    assert (warm.warmup_started_on, warm.warmup_plan, warm.warmup_domain_plan) == (None, [], [])
    assert domain().warmup_plan == warmup.plan(50, first=5)
    assert domain().warmup_domain_plan == warmup.plan(2000, first=50)


def test_a_sender_of_a_new_domain_sends_by_its_plan(alpha: Agency, account: Account) -> None:
    assert send(account, NOON) == 3 * 5
    assert send(account, NOON) == 0
    assert set(SenderDay.objects.values_list("allowed", "used")) == {(5, 5)}
    assert DomainDay.objects.get().allowed == 50
    Sender.objects.update(per_day=3)
    assert send(account, NOON + 3 * DAY) == 3 * 3


def test_the_domain_has_a_plan_of_its_own(alpha: Agency, account: Account) -> None:
    SenderDomain.objects.update(warmup_domain_plan=[7, 100])
    assert send(account, NOON) == 7
    assert send(account, NOON) == 0
    assert DomainDay.objects.get().allowed == 7


def test_good_busy_days_lead_to_the_whole_limit(alpha: Agency, account: Account) -> None:
    sent = []
    for number in range(16):
        # A little later each day, so that the 24 hours before leave room.
        now = datetime(2026, 11, 24, 1, tzinfo=UTC) + number * timedelta(hours=25)
        advance(alpha, now)
        sent.append(send(account, now))
    assert sent[:14] == [3 * one for one in warmup.plan(50, first=5)]
    assert sent[14:] == [150, 150]
    assert domain().warmup_step == 15


def test_a_day_is_judged_once_when_it_is_over_in_the_agencys_zone(alpha: Agency, account: Account) -> None:
    send(account, NOON)
    assert advance(alpha, NOON) == 1
    midnight = ledger.next_day(NOON, alpha.zone)
    assert advance(alpha, midnight - timedelta(seconds=1)) == 1
    assert advance(alpha, midnight) == 2
    assert advance(alpha, midnight + timedelta(hours=1)) == 2
    # Nobody sent on this day: nothing says that more would be well.
    assert advance(alpha, midnight + DAY) == 2


def test_a_day_with_little_sent_is_no_evidence(alpha: Agency, account: Account) -> None:
    send(account, NOON, 7)
    assert advance(alpha, NOON + DAY) == 1
    send(account, NOON + DAY + timedelta(hours=2), 8)
    assert advance(alpha, NOON + 2 * DAY) == 2


def test_a_bad_day_steps_back_and_its_limit_holds_at_once(alpha: Agency, account: Account) -> None:
    SenderDomain.objects.update(warmup_step=5)
    assert send(account, NOON) == 3 * 10
    assert advance(alpha, NOON + DAY, new=(5, 0)) == 4
    assert send(account, NOON + 2 * DAY) == 3 * 9
    SenderDomain.objects.update(warmup_step=1)
    assert advance(alpha, NOON + 3 * DAY, new=(0, 1)) == 1


def test_a_domain_that_is_warm_stays_warm(alpha: Agency, account: Account) -> None:
    SenderDomain.objects.update(warmup_step=15)
    assert advance(alpha, NOON + DAY, new=(100, 100)) == 15
    assert send(account, NOON + DAY) == 150


def test_the_hourly_job_judges_and_forgets(alpha: Agency, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    send(account, NOON)
    monkeypatch.setattr(timezone, "now", lambda: NOON + DAY)
    with context.public():
        jobs.warm()
    assert domain().warmup_step == 2
    assert ledger.SenderHour.objects.count() == 3
    monkeypatch.setattr(timezone, "now", lambda: NOON + 9 * DAY)
    with context.public():
        jobs.warm()
    assert ledger.SenderHour.objects.count() == 0


def test_planned_and_sent_are_shown_day_by_day(alpha: Agency, account: Account) -> None:
    send(account, NOON)
    send(account, NOON + DAY + timedelta(hours=2), 4)
    found = warming.days(domain(), today=TODAY + DAY)
    assert len(found) == 14
    assert found[0] == warming.Day(TODAY, 15, 50, 15)
    assert (found[1].planned, found[1].sent, found[13].planned, found[13].sent) == (18, 4, 150, None)
    assert len(warming.days(domain(), today=TODAY + 400 * DAY)) == warming.SHOWN


# --- in the admin


@pytest.fixture
def carols(alpha: Agency, carol: User) -> Visitor:
    visitor = Visitor("alpha.localhost")
    with context.entered(alpha):
        visitor.force_login(carol)
    return visitor


HOMES = {f"homes-{name}": count for name, count in (("TOTAL_FORMS", 0), ("INITIAL_FORMS", 0))}
ADD = "/admin/senders/senderdomain/add/"


def test_a_new_domain_begins_to_warm_up_unless_a_person_says_it_is_warm(carols: Visitor, alpha: Agency) -> None:
    today = ledger.local_day(timezone.now(), alpha.zone)
    assert f'value="{today.isoformat()}"' in body(carols.get(ADD))
    fields = {"name": "a.example", "per_day": 100, "warmup_step": 1, **HOMES}
    assert carols.post(ADD, {**fields, "warmup_started_on": today.isoformat()}).status_code == 302
    assert carols.post(ADD, {**fields, "name": "b.example", "warmup_plan": "3,4"}).status_code == 302
    with context.entered(alpha):
        cold, warm = SenderDomain.objects.order_by("name")
        assert (cold.warmup_plan[0], cold.warmup_domain_plan[-1], cold.warmup_step) == (5, 100, 1)
        assert (warm.warmup_started_on, warm.warmup_plan) == (None, [])


def test_a_plan_is_edited_and_its_days_are_shown(carols: Visitor, alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        send(account, NOON)
        pk = domain().pk
    page = f"/admin/senders/senderdomain/{pk}/change/"
    assert "<td" in body(carols.get(page))
    assert "step 1 of 14" in body(carols.get("/admin/senders/senderdomain/"))
    fields = {"per_day": 100, "warmup_started_on": "2026-11-24", "warmup_domain_plan": "", **HOMES}
    assert carols.post(page, {**fields, "warmup_plan": "3,6,9", "warmup_step": 2}).status_code == 302
    with context.entered(alpha):
        assert (domain().warmup_plan, domain().warmup_step, len(domain().warmup_domain_plan)) == ([3, 6, 9], 2, 3)
    assert "Steps count from 1." in body(carols.post(page, {**fields, "warmup_plan": "3", "warmup_step": 0}))
    assert carols.post(page, {**fields, "warmup_plan": "0,5", "warmup_step": 1}).status_code == 200
    with context.entered(alpha):
        assert domain().warmup_plan == [3, 6, 9]
