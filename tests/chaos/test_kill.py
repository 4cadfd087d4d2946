"""P1 and P3: what becomes of the mails that a dead or slow worker had in its hands, step by step."""

from datetime import timedelta

from campaigns import audit, dispatch, launch, lifecycle
from campaigns.reasons import Reason
from tenants import context
from tenants.models import Agency
from tests import stage


def test_a_crash_of_postgresql_puts_every_claim_in_doubt(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, accounts["smtp"])
    now = stage.NOON
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 6))
        launch.launch(campaign, now=now)
        allotment = alpha.allotments.select_related("account").get()
        dispatch.claim_batch(alpha, allotment, now=now, limit=2)
        forget_the_epoch()
        dispatch.claim_batch(alpha, allotment, now=now, limit=3)
        back, doubted = lifecycle.rescue(now=now + timedelta(minutes=6))
        assert (back, doubted) == (3, 2)
        assert stage.statuses(campaign) == {"scheduled": 4, "unknown": 2}


def forget_the_epoch() -> None:
    """What PostgreSQL does to an unlogged table when it starts after a crash."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM server_epoch")


def test_a_worker_that_was_only_slow_is_fenced_out(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, accounts["smtp"])
    now = stage.NOON
    later = now + timedelta(minutes=6)
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 2))
        launch.launch(campaign, now=now)
        allotment = alpha.allotments.select_related("account").get()
        first, second = dispatch.claim_batch(alpha, allotment, now=now, limit=2)
        assert lifecycle.begin([first], now=now) == {first.id}
        assert lifecycle.rescue(now=later) == (1, 1)
        # The one that was on the wire turns out to be sent; the other is no longer this worker's to send.
        lifecycle.sent([(first, "id")], now=later)
        assert lifecycle.begin([second], now=later) == set()
        assert stage.statuses(campaign) == {"sent": 1, "scheduled": 1}


def test_a_message_that_ends_three_workers_is_held(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, accounts["smtp"])
    now = stage.NOON
    with context.entered(alpha):
        campaign = stage.campaign(stage.contact_list("a", 1))
        launch.launch(campaign, now=now)
        allotment = alpha.allotments.select_related("account").get()
        for _ in range(3):
            assert len(dispatch.claim_batch(alpha, allotment, now=now, limit=1)) == 1
            now += timedelta(minutes=6)
            lifecycle.rescue(now=now)
        assert stage.statuses(campaign) == {"held": 1}
        assert campaign.messages.get().reason == Reason.BREAKS_WORKERS
    assert audit.audit_quota().drifts == []
