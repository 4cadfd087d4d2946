"""After a pause or an outage no sender sends more in an hour than in the busiest hour of an undisturbed day."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.db import transaction

from campaigns import control, dispatch, explain, failover, launch, lifecycle
from campaigns.models import Campaign, Message
from campaigns.progress import progress
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.models import Account, Allotment
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage

EVERY = timedelta(minutes=10)
# Berlin, where Alpha is, is an hour ahead of UTC.
EIGHT = datetime(2026, 11, 24, 7, tzinfo=UTC)
TEN, NOON, EIGHT_PM = (EIGHT + timedelta(hours=hours) for hours in (2, 4, 12))


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> list[Account]:
    """Two accounts with two senders of fifty mails a day in each agency."""
    every = stage.accounts()
    found = [every["smtp"], every["resend"]]
    for agency in (alpha, beta):
        stage.allot(agency, *found, senders=2, per_hour=None)
    return found


def queue(count: int, **fields: Any) -> Campaign:
    made = stage.campaign(stage.contact_list("a", count), distribution="even", **fields)
    launch.launch(made, now=EIGHT)
    return made


def claim(agency: Agency, account: Account, now: datetime) -> list[lifecycle.Claimed]:
    """What a drain would send now; an account that is closed gets nothing and its mails find another way."""
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    batch = []
    if health.of(account.pk).open(now):
        batch = dispatch.claim_batch(agency, allotment, now=now, limit=100)
        lifecycle.sent([(message, "id") for message in batch], now=now)
    failover.relieve(agency, account.pk, now=now)
    return batch


def day(
    agency: Agency,
    accounts: list[Account],
    disturb: Callable[[datetime], None] = lambda now: None,
    until: datetime = EIGHT_PM,
) -> Counter[tuple[int, datetime]]:
    """Live a day of the agency; return how many mails each sender sent in each hour."""
    found: Counter[tuple[int, datetime]] = Counter()
    now = EIGHT
    while now < until:
        disturb(now)
        for account in accounts:
            while batch := claim(agency, account, now):
                found.update((message.sender_id, now.replace(minute=0)) for message in batch)
        now += EVERY
    return found


def paused(campaign: Campaign) -> Callable[[datetime], None]:
    def disturb(now: datetime) -> None:
        if now == TEN:
            assert control.pause(campaign)
        if now == NOON:
            assert control.resume(campaign, now=now)

    return disturb


def out(account: Account) -> Callable[[datetime], None]:
    def disturb(now: datetime) -> None:
        if TEN <= now < NOON:
            for _ in range(health.BREAKS_AFTER):
                health.refused(account.pk, "no route to host", now=now)
        if now == NOON:
            health.worked(account.pk, now=now)

    return disturb


@pytest.mark.parametrize("traffic_class", ["bulk", "cold_outreach"])
@pytest.mark.parametrize("trouble", ["pause", "outage"])
def test_what_waited_does_not_leave_at_once(
    alpha: Agency, accounts: list[Account], traffic_class: str, trouble: str
) -> None:
    with context.entered(alpha):
        made = queue(250, traffic_class=traffic_class, gap_seconds=None, gap_jitter_seconds=0)
        with transaction.atomic():
            usual = day(alpha, accounts)
            transaction.set_rollback(True)
        found = day(alpha, accounts, paused(made) if trouble == "pause" else out(accounts[0]))
        assert max(found.values()) <= max(usual.values()) == (10 if traffic_class == "bulk" else 6)
        afterwards = [count for (_, hour), count in found.items() if hour >= NOON]
        assert max(afterwards) == max(usual.values())
        assert made.messages.filter(status="sent").count() == found.total()
        if trouble == "pause":
            assert found.total() == usual.total() == 200


def test_threads_that_waited_for_their_sender_leave_by_the_hour(alpha: Agency, accounts: list[Account]) -> None:
    """Thirty follow-ups of one sender fell due while its account was down."""
    with context.entered(alpha):
        made = queue(30, traffic_class="bulk")
        writer = Sender.objects.earliest("pk")
        made.enrollments.update(sender=writer)
        Message.objects.update(account=accounts[0])
        found = day(alpha, accounts[:1], until=EIGHT + timedelta(hours=6))
        assert found == {(writer.pk, EIGHT + timedelta(hours=hours)): 10 for hours in range(3)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 10),
        ({"window_from": time(8), "window_until": time(10)}, 25),
        ({"window_from": time(8), "window_until": time(8, 30)}, 50),
        ({"window_from": time(8), "window_until": time(18)}, 10),
    ],
)
def test_a_sender_can_send_its_day_in_the_shortest_window(
    alpha: Agency, accounts: list[Account], fields: dict[str, Any], expected: int
) -> None:
    with context.entered(alpha):
        queue(250, traffic_class="bulk", **fields)
        found = day(alpha, accounts, until=EIGHT + timedelta(hours=1))
        assert set(found.values()) == {expected}


def test_a_sender_may_have_a_limit_of_its_own_and_a_small_one_is_not_held_up(
    alpha: Agency, accounts: list[Account]
) -> None:
    with context.entered(alpha):
        first, second, third, _fourth = Sender.objects.order_by("pk")
        Sender.objects.filter(pk=first.pk).update(per_hour=3)
        Sender.objects.filter(pk=second.pk).update(per_day=5)
        Sender.objects.filter(pk=third.pk).update(per_day=30)
        queue(250, traffic_class="bulk")
        found = day(alpha, accounts, until=EIGHT + timedelta(hours=1))
        assert sorted(found.values()) == [3, 5, 6, 10]
        assert found[first.pk, EIGHT] == 3


def test_the_page_says_that_the_hour_is_spent_and_when_the_next_begins(alpha: Agency, accounts: list[Account]) -> None:
    with context.entered(alpha):
        made = queue(60, traffic_class="bulk")
        day(alpha, accounts, until=EIGHT + EVERY)
        now = EIGHT + EVERY
        report = progress(made, now=now)
        assert [(one.code, one.count, one.clears_at) for one in report.reasons] == [
            (Reason.SENDERS_HOUR_SPENT, 20, EIGHT + timedelta(hours=1))
        ]
        assert report.live
        told = explain.explain(made.messages.exclude(status="sent").earliest("pk"), now=now)
        assert (told.code, told.clears_at) == (Reason.SENDERS_HOUR_SPENT, EIGHT + timedelta(hours=1))
