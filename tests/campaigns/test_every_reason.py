"""sent + reasons = due, exactly, and the page and the mail tell the same, in whatever state things are."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.db import transaction

from campaigns import control, dispatch, launch
from campaigns.explain import explain
from campaigns.models import Campaign, CampaignDay, Contact, Message, RecipientDay, Step
from campaigns.progress import progress
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.models import Account, Allotment, LedgerRow, Period
from providers.senders import ledger as senders
from providers.senders import recovering
from providers.senders.models import Home, Sender, SenderDay, SenderDomain, SenderHour
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency, Incarnation
from tests import stage
from tests.stage import NOON

CHRISTMAS = datetime(2026, 12, 25, 12, tzinfo=UTC)
OTHERS = {
    "held": [Reason.NOT_RENDERED, Reason.MISSING_VALUE, Reason.BREAKS_WORKERS, Reason.NEEDS_CONSENT],
    "failed": [Reason.RECIPIENT_REFUSED, Reason.MESSAGE_REFUSED],
    "unknown": [Reason.IN_DOUBT],
    "cancelled": [
        Reason.SUPPRESSED,
        Reason.OPTED_OUT,
        Reason.REPLIED,
        Reason.BOUNCED,
        Reason.COMPLAINED,
        Reason.GOAL_REACHED,
        Reason.SEQUENCE_CHANGED,
        Reason.CAMPAIGN_CANCELLED,
    ],
}
LATER = [Reason.STEP_DELAY, "", Reason.THROTTLED, Reason.RECIPIENT_BUSY, Reason.ACCOUNTS_REFUSED, Reason.OUTSIDE_WINDOW]


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> list[Account]:
    every = stage.accounts()
    found = [every["smtp"], every["resend"]]
    for agency in (alpha, beta):
        stage.allot(agency, *found, senders=3, per_hour=None)
    return found


def queue(name: str, **fields: Any) -> Campaign:
    made = stage.campaign(stage.contact_list(name, 14), **{"distribution": "even", **fields})
    Step.objects.create(campaign=made, position=2, subject="Again", text="Again")
    launch.launch(made, now=NOON)
    return made


def scatter(made: Campaign, rng: random.Random) -> None:
    """Its mails in every state there is, some of them follow-ups to contacts who know their sender."""
    follow_up = made.steps.latest("position")
    writers = list(Sender.objects.order_by("pk"))
    zones = ["", "Asia/Tokyo", "America/Lima", "No/Where"]
    for message in made.messages.select_related("contact"):
        changes: dict[str, Any] = {}
        if rng.random() < 0.4:
            status = rng.choice(list(OTHERS))
            changes = {"status": status, "reason": rng.choice(OTHERS[status])}
            if changes["reason"] == Reason.NEEDS_CONSENT and message.pk % 2:
                changes["reason"] = Reason.SOURCE_PAUSED
        elif rng.random() < 0.3:
            changes = {"due_at": NOON + timedelta(days=60), "reason": rng.choice(LATER)}
            if changes["reason"] == Reason.STEP_DELAY:
                changes["reason"] = (Reason.STEP_DELAY, Reason.READER_PAUSED, Reason.AWAY)[message.pk % 3]
        if rng.random() < 0.5:
            made.enrollments.filter(pk=message.enrollment_id).update(sender=rng.choice(writers))
            changes["step"] = follow_up
        Message.objects.filter(pk=message.pk).update(**changes)
        email = f"{message.contact.email.split('@')[0]}@{rng.choice(['people.example', 'Other.Example'])}"
        Contact.objects.filter(pk=message.contact_id).update(email=email, attributes={"timezone": rng.choice(zones)})


def spend_senders(rng: random.Random, now: datetime, zone: Any) -> None:
    """Some senders have sent their day, some the last 24 hours, some this hour, some rest."""
    for sender in Sender.objects.all():
        match rng.choice(["day", "24 hours", "hour", "rest", "off", "nothing"]):
            case "day":
                SenderDay.objects.get_or_create(
                    sender=sender, day=senders.local_day(now, zone), defaults={"allowed": 50, "used": 50}
                )
            case "24 hours":
                SenderHour.objects.create(
                    sender=sender, hour=senders.hour_of(now - timedelta(hours=20)), allowed=50, used=50
                )
            case "hour":
                SenderHour.objects.create(sender=sender, hour=senders.hour_of(now), allowed=50, used=10)
            case "rest":
                Sender.objects.filter(pk=sender.pk).update(free_at=now + timedelta(minutes=rng.randrange(1, 30)))
            case "off":
                Sender.objects.filter(pk=sender.pk).update(active=False)


def spend_account(account: Account, agency: Agency, rng: random.Random, now: datetime) -> None:
    whose, period = rng.choice([None, agency]), rng.choice([Period.DAY, Period.MONTH])
    starts = now.date() if period == Period.DAY else now.date().replace(day=1)
    owner: Any = Account.objects.filter(pk=account.pk)
    if whose is not None:
        owner = Allotment.objects.filter(account=account, agency=agency)
    owner.update(**{"per_day" if period == Period.DAY else "per_month": 5})
    LedgerRow.objects.create(account=account, agency=whose, period=period, starts=starts, allowed=5, used=5)


def spend_caps(made: Campaign, now: datetime, zone: Any) -> None:
    day = senders.local_day(now, zone)
    if made.new_contacts_per_day:
        CampaignDay.objects.create(campaign=made, day=day, allowed=3, used=3)
    if made.per_domain_per_day:
        RecipientDay.objects.create(campaign=made, domain="other.example", day=day, allowed=3, used=3)


def disturb(account: Account, agency: Agency, rng: random.Random, now: datetime) -> None:
    things: list[Callable[[], Any]] = [
        lambda: None,
        lambda: None,
        lambda: health.block(account.pk, "key revoked", now=now),
        lambda: health.throttled(account.pk, 3600, "busy", now=now),
        lambda: [health.refused(account.pk, "down", now=now) for _ in range(9)],
        lambda: spend_account(account, agency, rng, now),
        lambda: Allotment.objects.filter(account=account, agency=agency).delete(),
        lambda: Home.objects.filter(account=account).delete(),
        lambda: SenderDay.objects.bulk_create(
            [
                SenderDay(sender=one, day=senders.local_day(now, agency.zone), allowed=50, used=50)
                for one in Sender.objects.filter(account=account)
            ],
            ignore_conflicts=True,
        ),
        lambda: Sender.objects.filter(account=account).update(free_at=now + timedelta(minutes=9)),
        lambda: SenderHour.objects.bulk_create(
            [
                SenderHour(sender=one, hour=senders.hour_of(now), allowed=50, used=10)
                for one in Sender.objects.filter(account=account)
            ],
            ignore_conflicts=True,
        ),
        lambda: SenderDomain.objects.filter(homes__account=account).update(
            warmup_started_on=now.date(), warmup_plan=[5, 50]
        ),
        lambda: spend_senders(rng, now, agency.zone) if not SenderHour.objects.exists() else None,
    ]
    rng.choice(things)()


def codes(made: Campaign, now: datetime) -> Counter[str]:
    """Why its mails have not gone, after the promise that the page adds up and that each mail tells the same."""
    report = progress(made, now=now)
    assert report.total == made.messages.count() == report.sent + sum(one.count for one in report.reasons)
    each: dict[str, list[datetime | None]] = {}
    for message in made.messages.exclude(status="sent"):
        told = explain(message, now=now)
        assert told.clears_at is None or told.clears_at > now
        each.setdefault(told.code, []).append(told.clears_at)
    assert {code: len(found) for code, found in each.items()} == {one.code: one.count for one in report.reasons}
    for one in report.reasons:
        assert one.clears_at == min(filter(None, each[one.code]), default=None)
    return Counter({code: len(found) for code, found in each.items()})


def test_every_mail_has_one_reason_in_any_state_and_every_reason_occurs(
    alpha: Agency, beta: Agency, accounts: list[Account]
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(75):
        rng = random.Random(seed)
        now = rng.choice([NOON, NOON, NOON, CHRISTMAS])
        with context.entered(rng.choice([alpha, beta])) as agency, transaction.atomic():
            made = queue(
                "a",
                overflow=rng.choice(["reroute", "wait"]),
                window_zone=rng.choice(["campaign", "recipient"]),
                window_until=rng.choice([None, None, time(11)]),
                holidays=rng.choice(["", "DE"]),
                new_contacts_per_day=rng.choice([None, None, 3]),
                per_domain_per_day=rng.choice([None, None, 3]),
                gap_seconds=rng.choice([0, 600]),
            )
            scatter(made, rng)
            for account in accounts:
                disturb(account, agency, rng, now)
            made.refresh_from_db()
            if rng.random() < 0.5:
                spend_caps(made, now, agency.zone)
            elif (found := Allotment.objects.filter(account=accounts[0], agency=agency).first()) and health.of(
                accounts[0].pk
            ).open(now):
                dispatch.claim_batch(agency, found, now=now, limit=3)
            if rng.random() < 0.1:
                control.pause(made) if rng.random() < 0.5 else control.cancel(made, now=now)
            if seed % 10 == 3:
                Incarnation.objects.update(place="elsewhere")
            seen += codes(made, now)
            transaction.set_rollback(True)
    # For the last of them a contact gets no mail; who recovers is looked at below.
    apart = {Reason.THREAD_RECOVERING, Reason.SENDERS_RECOVERING, Reason.CONDITION_NOT_MET}
    assert seen.keys() == set(Reason.values) - apart


def test_a_follow_up_says_when_its_own_sender_may_write_again(
    alpha: Agency, beta: Agency, accounts: list[Account]
) -> None:
    """Its account has other senders that are free, and they do not help it."""
    with context.entered(alpha):
        made = queue("a", distribution="shares", shares={"smtp": 100})
        allotment = Allotment.objects.select_related("account").get(account=accounts[0], agency=alpha)
        Allotment.objects.update(senders=9)
        allotment.refresh_from_db()
        add_senders(allotment, [(f"t{number}@new.example", "") for number in range(4)])
        resting, hour, day, rolling, off, free = Sender.objects.filter(account=accounts[0]).order_by("pk")[:6]
        Sender.objects.filter(pk=resting.pk).update(free_at=NOON + timedelta(minutes=7))
        SenderHour.objects.create(sender=hour, hour=NOON, allowed=50, used=10)
        SenderDay.objects.create(sender=day, day=NOON.date(), allowed=50, used=50)
        SenderHour.objects.create(sender=rolling, hour=NOON - timedelta(hours=20), allowed=50, used=50)
        Sender.objects.filter(pk=off.pk).update(active=False)
        expected = {
            resting: (Reason.THREAD_RESTING, NOON + timedelta(minutes=7)),
            hour: (Reason.THREAD_RESTING, NOON + timedelta(hours=1)),
            day: (Reason.THREAD_SPENT, senders.next_day(NOON, alpha.zone)),
            rolling: (Reason.THREAD_SPENT, NOON + timedelta(hours=5)),
            off: (Reason.THREAD_OFF, None),
            free: (Reason.IN_QUEUE, None),
        }
        follow_up = made.steps.latest("position")
        for sender, message in zip(expected, made.messages.order_by("pk")[: len(expected)], strict=True):
            made.enrollments.filter(pk=message.enrollment_id).update(sender=sender)
            Message.objects.filter(pk=message.pk).update(step=follow_up)
            message.refresh_from_db()
            told = explain(message, now=NOON)
            assert (told.code, told.clears_at) == expected[sender]
        codes(made, NOON)
        recovering._pause(free, alpha, now=NOON - timedelta(hours=4), cause="bounces", mails=100, bounced=9)
        told = explain(message, now=NOON)
        assert (told.code, told.clears_at) == (Reason.THREAD_RECOVERING, NOON + timedelta(hours=20))
        assert [(one.used, one.allowed) for one in told.numbers if free.address in one.label] == [(9, 100)]
        for one in Sender.objects.exclude(pk=free.pk):
            recovering.pause(one, alpha, by="ann", why="listed", now=NOON)
        first = explain(made.messages.filter(step__position=1).latest("pk"), now=NOON)
        assert first.code == Reason.SENDERS_RECOVERING
        codes(made, NOON)


def test_the_number_of_the_senders_is_what_they_really_may(
    alpha: Agency, beta: Agency, accounts: list[Account]
) -> None:
    with context.entered(alpha):
        made = queue("a", distribution="shares", shares={"smtp": 100})
        first, second, third = Sender.objects.filter(account=accounts[0]).order_by("pk")

        def number() -> tuple[int, int]:
            last = explain(made.messages.earliest("pk"), now=NOON).numbers[-1]
            return last.used, last.allowed

        assert number() == (0, 150)
        SenderHour.objects.create(sender=first, hour=NOON - timedelta(hours=20), allowed=50, used=30)
        assert number() == (0, 120)
        SenderDay.objects.create(sender=second, day=NOON.date(), allowed=50, used=10)
        assert number() == (10, 120)
        SenderDomain.objects.filter(pk=third.domain_id).update(per_day=20)
        before = number()[1]
        assert before < 120
        SenderDomain.objects.update(warmup_started_on=NOON.date(), warmup_plan=[5, 50])
        assert number()[1] < before
