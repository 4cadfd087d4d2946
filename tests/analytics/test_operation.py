"""The numbers of the operator's front page."""

from datetime import UTC, timedelta

from django.utils import timezone

from analytics import operation
from campaigns import launch
from campaigns.models import Message
from outreach import heartbeat
from outreach.models import Heartbeat
from providers.accounts.ledger import reserve
from providers.accounts.models import Health, LedgerRow, Period
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON


def test_the_queue_of_each_agency_is_told_apart(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    for agency, mails in ((alpha, 3), (beta, 2)):
        stage.allot(agency, *accounts.values())
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("a", mails)), now=NOON)
    with context.entered(beta):
        one = Message.objects.order_by("pk").first()
        assert one is not None
        Message.objects.filter(pk=one.pk).update(due_at=NOON + timedelta(days=1))

    found = {one.agency.schema_name: one for one in operation.queues(now=NOON + timedelta(minutes=5))}

    assert {name: (one.waiting, one.due, one.in_doubt) for name, one in found.items()} == {
        alpha.schema_name: (3, 3, 0),
        beta.schema_name: (2, 1, 0),
    }
    assert found[alpha.schema_name].oldest == NOON


def test_rates_are_of_the_mails_of_which_something_can_be_heard(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    stage.allot(alpha, *accounts.values())
    for name, used in (("resend", 40), ("smtp", 60)):
        reserve(accounts[name], accounts[name].allotments.get(agency=alpha), used, now=NOON)
    for name, delivered, bounced in (("resend", 30, 1), ("smtp", 0, 0)):
        row = LedgerRow.objects.filter(account=accounts[name], agency=None, period=Period.DAY)
        row.update(delivered=delivered, bounced=bounced)
    Health.objects.update_or_create(account=accounts["resend"], defaults={"heard_at": NOON})

    found = operation.rates(now=NOON)
    resend, smtp, every = found[accounts["resend"].pk], found[accounts["smtp"].pk], found[None]
    assert (resend.delivered_percent, resend.bounced_percent) == (75.0, 2.5)
    assert (smtp.delivered_percent, smtp.bounced_percent) == (None, None)
    assert (every.delivered_percent, every.bounced_percent) == (75.0, 2.5)

    # A bounce comes back to an own SMTP pool, by mail; a delivery never does.
    LedgerRow.objects.filter(account=accounts["smtp"], agency=None, period=Period.DAY).update(bounced=3)
    found = operation.rates(now=NOON)
    smtp, every = found[accounts["smtp"].pk], found[None]
    assert (smtp.delivered_percent, smtp.bounced_percent) == (None, 5.0)
    assert (every.delivered_percent, every.bounced_percent) == (75.0, 4.0)


def test_days_without_mails_are_days_all_the_same(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, accounts["smtp"])
    for agency, used in ((alpha, 5), (beta, 6)):
        reserve(accounts["smtp"], accounts["smtp"].allotments.get(agency=agency), used, now=NOON)

    found = operation.sent_per_day(now=NOON)

    assert len(found) == operation.DAYS
    assert found[-1] == (NOON.astimezone(UTC).date(), 11)
    assert {count for _day, count in found[:-1]} == {0}
    assert found[0][0] == found[-1][0] - timedelta(days=operation.DAYS - 1)


def test_a_group_of_workers_that_has_long_run_nothing_is_not_counted(alpha: Agency, beta: Agency) -> None:
    now = timezone.now()
    Heartbeat.objects.create(cluster="one", seen_at=now)
    Heartbeat.objects.create(cluster="gone", seen_at=now - timedelta(hours=1))

    assert heartbeat.alive(now=now) == 1
    assert heartbeat.last() == now


def test_a_group_of_workers_that_has_ended_is_forgotten_when_another_starts(alpha: Agency, beta: Agency) -> None:
    now = timezone.now()
    for cluster, ago in (("starts", 0), ("works", 0), ("stopped", 3), ("ended", 30), ("ended before", 300)):
        Heartbeat.objects.create(cluster=cluster, seen_at=now - timedelta(hours=ago))
    heartbeat.forget("starts")
    assert set(Heartbeat.objects.values_list("cluster", flat=True)) == {"works", "stopped"}

    # When anybody last worked is told, however long ago it was.
    Heartbeat.objects.exclude(cluster="stopped").delete()
    Heartbeat.objects.update(seen_at=now - timedelta(days=9))
    heartbeat.forget("starts")
    assert heartbeat.last() == now - timedelta(days=9)
