"""P6: an account that takes mails and of which nothing is heard is closed, though each check of it succeeds."""

from datetime import datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from campaigns import dispatch, failover, feedback, launch
from campaigns.models import Campaign, Message
from providers.accounts import checkup, health, silence, webhooks
from providers.accounts.events import EventType, Heard
from providers.accounts.models import Account, WebhookDay, WebhookPost
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

MINUTE = timedelta(minutes=1)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> dict[str, Account]:
    found = stage.accounts(sandbox)
    for agency in (alpha, beta):
        stage.allot(agency, *found.values(), senders=8)
    return found


def send(agency: Agency, account: Account, count: int, at: datetime) -> list[Message]:
    """The agency sends so many mails through the account."""
    with context.entered(agency):
        people = stage.contact_list(f"l{Campaign.objects.count()}", count)
        campaign = stage.campaign(people, distribution="shares", shares={account.name: 100})
        launch.launch(campaign, now=at)
        dispatch.drain(account.pk, clock=lambda: at, until=at + MINUTE)
        return list(campaign.messages.filter(status="sent"))


def hear(agency: Agency, mails: list[Message], at: datetime, type: EventType = EventType.DELIVERED) -> None:
    with context.entered(agency):
        told = [Heard("x", f"{mail.pk} {type}", type, at, at, mail.key, mail.account_id) for mail in mails]
        feedback.record(told, now=at)


def checks(first: int, last: int) -> list[list[int]]:
    """Ask all accounts every five minutes; which were closed each time."""
    return [checkup.check_all(now=NOON + minute * MINUTE).closed for minute in range(first, last + 1, 5)]


def quiet(agency: Agency, account: Account, count: int = 12) -> list[Message]:
    """An account that has spoken before and then took so many mails of which nothing is heard."""
    hear(agency, send(agency, account, 3, NOON), NOON + MINUTE)
    assert checks(5, 5) == [[]]
    return send(agency, account, count, NOON + 6 * MINUTE)


def test_it_is_closed_and_its_mails_move(alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox) -> None:
    sendgrid = accounts["sendgrid"]
    mails = quiet(alpha, sendgrid)
    assert len(mails) == 12
    # Opens of old mails say nothing of the new ones.
    hear(alpha, mails[:1], NOON + 20 * MINUTE, EventType.OPENED)
    assert checks(10, 65) == [[]] * 12
    assert checks(70, 70) == [[sendgrid.pk]]
    state = health.of(sendgrid.pk)
    assert not state.open(NOON + 71 * MINUTE)
    assert "nothing was heard of 12 of them for 69 minutes" in state.detail
    # It answers to every check, and stays closed.
    assert checks(75, 80) == [[], []]
    assert not health.of(sendgrid.pk).open(NOON + 81 * MINUTE)
    with context.entered(alpha):
        waiting = stage.campaign(stage.contact_list("w", 4), traffic_class="newsletters")
        launch.launch(waiting, now=NOON + 80 * MINUTE)
        Message.objects.filter(campaign=waiting).update(account=sendgrid)
        assert failover.relieve(alpha, sendgrid.pk, now=NOON + 81 * MINUTE)
        assert not Message.objects.filter(campaign=waiting, account=sendgrid).exists()
    # Once it speaks again it is open, and filled gradually.
    hear(alpha, mails[1:3], NOON + 90 * MINUTE)
    state = health.of(sendgrid.pk)
    assert state.open(NOON + 90 * MINUTE)
    assert health.room(state, 100, now=NOON + 90 * MINUTE) == 1


def test_a_person_may_open_it_and_it_is_judged_anew(alpha: Agency, accounts: dict[str, Account]) -> None:
    quiet(alpha, accounts["sendgrid"])
    assert [accounts["sendgrid"].pk] in checks(10, 70)
    health.reopen(accounts["sendgrid"].pk, now=NOON + 71 * MINUTE)
    assert checks(75, 180) == [[]] * 22


def test_few_mails_and_accounts_that_never_spoke_are_not_judged(alpha: Agency, accounts: dict[str, Account]) -> None:
    quiet(alpha, accounts["sendgrid"], silence.LEAST - 1)
    send(alpha, accounts["smtp"], 30, NOON + 7 * MINUTE)
    assert checks(10, 120) == [[]] * 23


def test_nobody_is_closed_when_it_may_be_us_who_do_not_listen(alpha: Agency, accounts: dict[str, Account]) -> None:
    sendgrid = accounts["sendgrid"]
    quiet(alpha, sendgrid)
    checks(10, 65)
    now = NOON + 71 * MINUTE
    post = WebhookPost.objects.create(account=sendgrid, digest="0" * 32, body=b"[]")
    assert silence.close_silent(now=now) == []
    webhooks.handled([post], now=now)
    webhooks.count(sendgrid.pk, {WebhookDay.Result.BAD_SIGNATURE: 1}, now=now)
    assert silence.close_silent(now=now) == []
    WebhookDay.objects.all().delete()
    assert silence.close_silent(now=now) == [sendgrid.pk]


def test_when_all_are_silent_at_once_none_is_closed(alpha: Agency, accounts: dict[str, Account]) -> None:
    for name in ("resend", "sendgrid"):
        hear(alpha, send(alpha, accounts[name], 3, NOON), NOON + MINUTE)
    checks(5, 5)
    for name in ("resend", "sendgrid"):
        send(alpha, accounts[name], 12, NOON + 6 * MINUTE)
    assert checks(10, 120) == [[]] * 23


@pytest.mark.django_db
@given(seconds=st.lists(st.floats(-5, 200_000), min_size=60, max_size=90))
def test_usual_is_longer_than_most_delays(seconds: list[float]) -> None:
    with transaction.atomic():
        account = Account.objects.create(name="a", kind="resend")
        silence.note({account.pk: seconds}, now=NOON)
        found = silence.usual(account.pk, now=NOON + timedelta(days=1))
        longer = sum(one > found.total_seconds() for one in seconds)
        assert longer <= len(seconds) * (1 - silence.QUANTILE) or found == timedelta(hours=24)
        assert timedelta(minutes=10) <= found <= timedelta(hours=24)
        assert silence.usual(account.pk, now=NOON + timedelta(days=8)) == timedelta(hours=1)
        transaction.set_rollback(True)
