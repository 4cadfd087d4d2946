"""A paused campaign leaves the queue: it costs claims nothing, nobody is rung for it, and it goes on where it was."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import time_machine
from django.db import IntegrityError, connection, transaction

from campaigns import audit, control, dispatch, due, jobs, launch, lifecycle
from campaigns.explain import explain
from campaigns.mail_audit import audit_mails
from campaigns.models import Campaign, Message
from campaigns.progress import progress
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

MINUTE = timedelta(minutes=1)


@pytest.fixture
def smtp(alpha: Agency, beta: Agency, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Entered is Alpha, where no job is run; Beta's campaign runs, and stays as it is."""
    monkeypatch.setattr(jobs.jobs, "enqueue", lambda *_: None)
    found = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, found)
    with context.entered(beta):
        made = launched("b")
    with context.entered(alpha):
        yield found
    with context.entered(beta):
        assert set(made.messages.values_list("status", "parked", "due_at")) == {("scheduled", False, NOON)}
    assert audit.audit_quota().drifts == []
    assert list(audit_mails(now=NOON + MINUTE)) == []


def launched(name: str, count: int = 5, **fields: Any) -> Campaign:
    made = stage.campaign(stage.contact_list(name, count), traffic_class="bulk", **fields)
    launch.launch(made, now=NOON)
    return made


def paused(name: str, count: int = 5) -> Campaign:
    made = launched(name, count)
    assert control.pause(made)
    control.follow_pauses(now=NOON)
    return made


def claim(agency: Agency, account: Account, now: Any = NOON, limit: int = 100) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=now, limit=limit)


def parked(made: Campaign) -> int:
    return made.messages.filter(parked=True).count()


def test_nobody_is_rung_for_a_paused_campaign_and_it_says_so(alpha: Agency, smtp: Account) -> None:
    made = launched("a")
    assert due.find(now=NOON) == due.Due([smtp.pk], NOON)
    control.pause(made)
    with context.public(), time_machine.travel(NOON, tick=False):
        jobs.tick()
    assert parked(made) == 5
    assert due.find(now=NOON) == due.Due([], None)
    (reason,) = progress(made, now=NOON).reasons
    assert (reason.code, reason.count, reason.clears_at) == (Reason.CAMPAIGN_PAUSED, 5, None)
    assert explain(made.messages.earliest("pk"), now=NOON).code == Reason.CAMPAIGN_PAUSED


def test_claims_take_what_is_behind_a_paused_campaign(alpha: Agency, smtp: Account) -> None:
    ahead, behind = paused("a", 20), launched("b", 3)
    assert {one.campaign_id for one in claim(alpha, smtp)} == {behind.pk}
    assert stage.statuses(ahead) == {"scheduled": 20}
    values = {"account": smtp.pk, "now": NOON, "closed": [], "senders": [1], "levels": [0], "limit": 9, "most": 9}
    with connection.cursor() as cursor:
        # So that it does not matter how small the table is.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {dispatch._DUE}", values)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using message_queue" in plan


def test_whether_anything_waits_is_read_in_the_queues_order(alpha: Agency, smtp: Account) -> None:
    assert not due.waits(smtp.pk, now=NOON)
    launched("a")
    assert due.waits(smtp.pk, now=NOON)
    assert not due.waits(smtp.pk, now=NOON - timedelta(days=365))
    with connection.cursor() as cursor:
        # So that it does not matter how small the table is. Where any would do, the planner reads the table instead.
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {due._WAITS}", [[0, 1], smtp.pk, NOON])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "message_queue" in plan, plan


def test_a_resumed_campaign_goes_on_at_once_as_it_was_and_no_older(alpha: Agency, smtp: Account) -> None:
    made = launched("a")
    soon, later = made.messages.order_by("pk")[:2]
    tomorrow = NOON + timedelta(days=1)
    Message.objects.filter(pk=soon.pk).update(due_at=NOON + 10 * MINUTE, reason=Reason.THROTTLED)
    Message.objects.filter(pk=later.pk).update(due_at=tomorrow, reason=Reason.RECIPIENT_BUSY)
    control.pause(made)
    control.follow_pauses(now=NOON)
    now = NOON + timedelta(hours=3)
    assert control.resume(made, now=now)
    assert parked(made) == 0
    assert set(made.messages.values_list("reason", "due_at")) == {
        ("", now),
        (Reason.THROTTLED, now),
        (Reason.RECIPIENT_BUSY, tomorrow),
    }
    assert len(claim(alpha, smtp, now)) == 4


def test_a_resumed_campaign_is_looked_after(alpha: Agency, smtp: Account) -> None:
    made = paused("a")
    with context.public(), time_machine.travel(NOON, tick=False):
        jobs.tick()
    assert alpha.visit.due_at > NOON + 10 * MINUTE
    control.resume(made, now=NOON + MINUTE)
    alpha.visit.refresh_from_db()
    assert alpha.visit.due_at == NOON + MINUTE


def test_a_large_campaign_leaves_and_comes_back_in_parts(
    alpha: Agency, smtp: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PARKED_AT_ONCE", 4)
    monkeypatch.setattr(control, "BATCHES", 2)
    made = launched("a", 19)
    control.pause(made)
    seen = []
    for number in range(4):
        with context.public(), time_machine.travel(NOON + number * MINUTE, tick=False):
            jobs.tick()
        alpha.visit.refresh_from_db()
        seen.append((parked(made), alpha.visit.due_at <= NOON + number * MINUTE))
    assert seen == [(8, True), (16, True), (19, False), (19, False)]
    control.resume(made, now=NOON + 4 * MINUTE)
    assert parked(made) == 15
    # Those that come back first need not be due.
    made.messages.update(due_at=NOON + timedelta(days=1))
    for left in (7, 0):
        with context.public(), time_machine.travel(NOON + 4 * MINUTE, tick=False):
            jobs.tick()
        alpha.visit.refresh_from_db()
        assert (parked(made), alpha.visit.due_at <= NOON + 4 * MINUTE) == (left, left > 0)


def test_what_a_worker_gives_back_during_a_pause_is_parked_too(alpha: Agency, smtp: Account) -> None:
    made = launched("a")
    batch = claim(alpha, smtp)
    control.pause(made)
    control.follow_pauses(now=NOON)
    assert parked(made) == 0
    assert lifecycle.begin(batch, now=NOON) == set()
    lifecycle.stop(batch)
    assert due.find(now=NOON).accounts == [smtp.pk]
    control.follow_pauses(now=NOON)
    assert due.find(now=NOON) == due.Due([], None)
    assert parked(made) == 5


def test_a_paused_campaign_can_be_cancelled_and_its_contacts_can_leave(alpha: Agency, smtp: Account) -> None:
    made = paused("a")
    one = made.messages.earliest("pk")
    assert lifecycle.cancel_for(one.contact_id, Reason.OPTED_OUT) == 1
    assert control.cancel(made, now=NOON)
    assert stage.statuses(made) == {"cancelled": 5}
    assert due.find(now=NOON) == due.Due([], None)
    assert {one.code: one.count for one in progress(made, now=NOON).reasons} == {
        Reason.OPTED_OUT: 1,
        Reason.CAMPAIGN_CANCELLED: 4,
    }


def test_no_worker_holds_what_is_parked(alpha: Agency, smtp: Account) -> None:
    launched("a")
    claim(alpha, smtp)
    with pytest.raises(IntegrityError, match="parked_is_in_no_hands"), transaction.atomic():
        Message.objects.update(parked=True)


def test_a_campaign_that_is_just_being_resumed_is_left_alone(committed: dict[str, Agency]) -> None:
    """Else mails could be parked for a pause that is over, and nobody would know."""
    alpha = committed["alpha"]
    smtp = stage.accounts()["smtp"]
    stage.allot(alpha, smtp)
    with context.entered(alpha):
        made = launched("a")
        control.pause(made)
        with psycopg.connect(**connection.get_connection_params()) as other:
            other.execute(f"UPDATE {alpha.schema_name}.campaigns_campaign SET status = 'running'")
            assert not control.follow_pauses(now=NOON)
            assert parked(made) == 0
        assert not control.follow_pauses(now=NOON)
        assert parked(made) == 0
