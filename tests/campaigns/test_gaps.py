"""The gap between two mails of one sender, from the claim to what the page says."""

import itertools
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns import control, dispatch, gaps, inspection, launch, lifecycle, progress
from campaigns.explain import explain
from campaigns.models import Campaign, Message
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

MINUTE = timedelta(minutes=1)
COLD = gaps.of_campaign("cold_outreach", None, None)


@given(st.uuids(version=4), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_gap_is_at_least_its_base_and_at_most_all_of_its_random_part_more(key: UUID, base: int, most: int) -> None:
    found = gaps.of_campaign("bulk", base, most).of(key).total_seconds()
    assert base <= found <= base + most
    assert found == gaps.of_campaign("cold_outreach", base, most).of(key).total_seconds()


def test_cold_mails_have_nine_to_fourteen_minutes_and_others_none() -> None:
    found = {COLD.of(UUID(int=number)).total_seconds() for number in range(1000)}
    assert (min(found), max(found)) == (540, 840)
    assert gaps.of_campaign("bulk", None, None).of(UUID(int=7)) == timedelta()


@pytest.fixture
def account(alpha: Agency) -> Account:
    found = stage.accounts()["smtp"]
    stage.allot(alpha, found)
    return found


def queue(name: str, count: int, **fields: object) -> Campaign:
    made = stage.campaign(stage.contact_list(name, count), **fields)
    launch.launch(made, now=NOON)
    return made


def claim(agency: Agency, account: Account, now: datetime) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=now, limit=100)


def run(agency: Agency, account: Account, minutes: int) -> list[tuple[datetime, lifecycle.Claimed]]:
    """Claim until nothing is left to claim, every minute for so long; return what was claimed and when."""
    found = []
    for minute in range(minutes):
        now = NOON + minute * MINUTE
        while batch := claim(agency, account, now):
            found += [(now, message) for message in batch]
            lifecycle.sent([(message, "id") for message in batch], now=now)
    return found


def test_two_mails_of_a_sender_are_a_gap_apart_and_nobody_rests_longer_than_it_must(
    alpha: Agency, account: Account
) -> None:
    with context.entered(alpha):
        queue("a", 40, gap_seconds=None, gap_jitter_seconds=None)
        found = run(alpha, account, 90)
    by_sender: dict[int, list[tuple[datetime, lifecycle.Claimed]]] = {}
    for when, message in found:
        by_sender.setdefault(message.sender_id, []).append((when, message))
    assert len(by_sender) == 4
    for mails in by_sender.values():
        for (before, first), (after, second) in itertools.pairwise(mails):
            assert max(first.gap, second.gap) <= after - before <= timedelta(minutes=20)
    # Each of four senders one in 9 to 14 minutes, for an hour and a half.
    assert 4 * 5 <= len(found) <= 4 * 10


def test_a_claim_with_all_senders_at_rest_is_empty_and_the_reason_says_until_when(
    alpha: Agency, account: Account
) -> None:
    with context.entered(alpha):
        campaign = queue("a", 10, gap_seconds=600)
        assert len(claim(alpha, account, NOON)) == 4
        assert claim(alpha, account, NOON + 9 * MINUTE) == []
        report = progress.progress(campaign, now=NOON + MINUTE)
        assert [(one.code, one.count, one.clears_at) for one in report.reasons] == [
            (Reason.SENDERS_RESTING, 6, NOON + 10 * MINUTE),
            (Reason.SENDING, 4, None),
        ]
        assert report.live
        assert len(claim(alpha, account, NOON + 10 * MINUTE)) == 4


@pytest.mark.parametrize("overflow", ["reroute", "wait"])
def test_mails_stay_with_senders_that_only_rest(alpha: Agency, account: Account, overflow: str) -> None:
    other = Account.objects.get(name="resend")
    stage.allot(alpha, other)
    with context.entered(alpha):
        campaign = queue("a", 20, gap_seconds=600, overflow=overflow, distribution="shares", shares={"smtp": 100})
        claim(alpha, account, NOON)
        assert dispatch.failover.relieve(alpha, account.pk, now=NOON) == set()
        assert set(Message.objects.values_list("account", flat=True)) == {account.pk}
        codes = {one.code for one in progress.progress(campaign, now=NOON).reasons}
        assert codes == {Reason.SENDERS_RESTING, Reason.SENDING}


def test_a_shared_sender_keeps_the_longer_gap_and_neither_campaign_starves(alpha: Agency, account: Account) -> None:
    """A newsletter without a gap lies in the queue behind cold mails, over the same four senders."""
    with context.entered(alpha):
        Sender.objects.update(per_day=200)
        cold = queue("a", 12, gap_seconds=600)
        bulk = queue("b", 20, traffic_class="bulk")
        found = run(alpha, account, 90)
        assert stage.statuses(cold) == {"sent": 12}
        assert stage.statuses(bulk) == {"sent": 20}
    for sender_id in {message.sender_id for _, message in found}:
        mails = [(when, message) for when, message in found if message.sender_id == sender_id]
        for (before, first), (after, second) in itertools.pairwise(mails):
            assert after - before >= max(first.gap, second.gap) == 10 * MINUTE


def test_a_cold_mail_behind_a_newsletter_gets_its_rested_sender(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        Sender.objects.update(per_day=1000)
        queue("b", 900, traffic_class="bulk", gap_seconds=20)
        cold = queue("a", 4, gap_seconds=600)
        Message.objects.filter(campaign=cold).update(due_at=NOON - MINUTE)
        found = run(alpha, account, 25)
        assert stage.statuses(cold) == {"sent": 4}
        assert len(found) > 4


def test_a_thread_waits_for_its_sender_to_rest(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        campaign = queue("a", 2, gap_seconds=600)
        writer = Sender.objects.order_by("pk").last()
        campaign.enrollments.update(sender=writer)
        assert [message.sender_id for message in claim(alpha, account, NOON)] == [writer.pk]
        assert claim(alpha, account, NOON + 9 * MINUTE) == []
        assert [message.sender_id for message in claim(alpha, account, NOON + 10 * MINUTE)] == [writer.pk]


@given(st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_two_mails_of_a_sender_are_the_longest_gap_of_the_running_campaigns_apart(
    alpha: Agency, account: Account, data: st.DataObject
) -> None:
    """Campaigns come, pause and end while others send through the same senders."""
    classes = st.sampled_from(["bulk", "newsletters", "cold_outreach"])
    chosen = data.draw(st.lists(st.tuples(classes, st.integers(0, 20), st.integers(0, 5)), min_size=2, max_size=4))
    pause_at = data.draw(st.none() | st.integers(0, 15))
    with context.entered(alpha), transaction.atomic():
        made = [
            stage.campaign(stage.contact_list(f"{number}", 9), traffic_class=kind, gap_seconds=60 * least)
            for number, (kind, least, _start) in enumerate(chosen)
        ]
        found: list[tuple[datetime, int, timedelta]] = []
        for minute in range(40):
            now = NOON + minute * MINUTE
            for campaign, (_kind, _least, start) in zip(made, chosen, strict=True):
                if start == minute:
                    launch.launch(campaign, now=now)
            if minute == pause_at:
                control.pause(made[0])
            control.finish_done(now=now)
            running = Campaign.objects.filter(status="running")
            longest = max((timedelta(seconds=one.gap_seconds or 0) for one in running), default=timedelta())
            batch = claim(alpha, account, now)
            found += [(now, message.sender_id, longest) for message in batch]
            lifecycle.sent([(message, "id") for message in batch], now=now)
        transaction.set_rollback(True)
    by_sender: dict[int, list[tuple[datetime, timedelta]]] = {}
    for when, sender_id, longest in found:
        by_sender.setdefault(sender_id, []).append((when, longest))
    assert by_sender
    for mails in by_sender.values():
        for (before, first), (after, second) in itertools.pairwise(mails):
            assert after - before >= max(first, second)


def test_a_newsletter_that_shares_senders_with_cold_mails_is_told_and_waits_for_them(
    alpha: Agency, account: Account
) -> None:
    with context.entered(alpha):
        cold = queue("a", 8, gap_seconds=600)
        bulk = stage.campaign(stage.contact_list("b", 8), traffic_class="bulk")
        (told,) = [one for one in inspection.inspect(bulk, now=NOON) if one.code == "slowed_down"]
        assert "“To a”" in told.text
        assert "every 10 minutes" in told.text
        launch.launch(bulk, now=NOON)
        assert len(claim(alpha, account, NOON)) == 4
        (waiting, *_) = bulk.messages.order_by("-pk")
        found = explain(waiting, now=NOON + MINUTE)
        assert (found.code, found.clears_at) == (Reason.SENDERS_RESTING, NOON + 10 * MINUTE)
        # The cold mails go first; what is left is the newsletter's, and still keeps their gap while one is in hand.
        assert len(claim(alpha, account, NOON + 10 * MINUTE)) == 4
        assert {one.campaign_id for one in claim(alpha, account, NOON + 20 * MINUTE)} == {bulk.pk}
        assert claim(alpha, account, NOON + 29 * MINUTE) == []
        control.pause(cold)
        assert explain(waiting, now=NOON + 30 * MINUTE).code in (Reason.IN_QUEUE, Reason.SENDING)
        assert len(claim(alpha, account, NOON + 30 * MINUTE)) == 4


def test_a_cold_campaign_is_told_whom_it_will_slow_down(alpha: Agency, account: Account) -> None:
    other = Account.objects.get(name="resend")
    stage.allot(alpha, other)
    with context.entered(alpha):
        queue("a", 4, traffic_class="bulk", distribution="shares", shares={"smtp": 100})
        for name, share, codes in (("smtp", "smtp", {"slows_down"}), ("resend", "resend", set())):
            cold = stage.campaign(
                stage.contact_list(name, 2), gap_seconds=None, distribution="shares", shares={share: 100}
            )
            told = {one.code for one in inspection.inspect(cold, now=NOON)}
            assert told & {"slows_down", "slowed_down"} == codes
