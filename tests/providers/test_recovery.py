"""A sender or domain of which too much comes back is paused with its evidence, and returns stage by stage."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.accounts.models import Account
from providers.senders import ledger, recovering, recovery
from providers.senders.models import DomainDay, Recovery, Sender, SenderDay, SenderDomain
from providers.senders.recovery import CAPS, CLEAN, Cause, Stage, Tally, judge, next_stage
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.providers.test_warmup import send
from tests.stage import NOON
from tests.visitor import at

DAY = timedelta(days=1)
TODAY = NOON.date()
COUNTS = st.integers(0, 300)
TALLIES = st.builds(Tally, COUNTS, st.integers(0, 5), st.integers(0, 2))


@settings(max_examples=100)
@given(st.sampled_from(Stage), st.booleans(), st.booleans(), TALLIES, TALLIES)
def test_a_stage_is_followed_by_the_next_or_by_a_rest(
    now: Stage, rested: bool, in_order: bool, every: Tally, over: Tally
) -> None:
    order: list[Stage | None] = [*Stage, None]
    after = next_stage(now, rested=rested, in_order=in_order, all_mails=every, over=over)
    following = order[order.index(now) + 1]
    assert after in (now, following, Stage.RESTING)
    if CAPS[now] and judge(every, floor=1):
        assert after == Stage.RESTING
    if after == following and now in CLEAN:
        assert over.clean >= CLEAN[now]


@settings(max_examples=60)
@given(st.sampled_from(Stage), st.lists(st.integers(1, 25), min_size=80, max_size=80))
def test_whoever_sends_clean_mails_always_returns_and_never_above_its_cap(begin: Stage, wanted: list[int]) -> None:
    now: Stage | None = begin
    sent = 0
    for day, most in enumerate(wanted):
        if now is None:
            break
        tally = Tally(sent)
        after = next_stage(now, rested=day > 1, in_order=day > 2, all_mails=tally, over=tally)
        assert after is None or CAPS[after] >= CAPS[now]
        now = after
        sent += min(most, CAPS[now]) if now else 0
    assert now is None


@pytest.mark.parametrize(
    ("tally", "bad"),
    [
        (Tally(5, bounced=1), None),
        (Tally(5, bounced=2), Cause.BOUNCES),
        (Tally(5, complained=1), Cause.COMPLAINTS),
        (Tally(25, complained=1), None),
        (Tally(60, bounced=3), None),
        (Tally(60, bounced=6), Cause.BOUNCES),
    ],
)
def test_on_the_way_back_few_mails_are_judged_without_a_floor(tally: Tally, bad: Cause | None) -> None:
    found = judge(tally, floor=1)
    assert (found.cause if found else None) == bad
    assert judge(tally) is None


@settings(max_examples=60)
@given(st.sampled_from(Stage), st.integers(0, 5), st.integers(-3, 40))
def test_what_is_expected_only_grows(begin: Stage, rests: int, days: int) -> None:
    caps = recovery.outlook(begin, TODAY + rests * DAY if begin == Stage.RESTING else None, TODAY)
    on = [recovery.cap_on(caps, TODAY + number * DAY) for number in range(40)]
    known = [1_000 if cap is None else cap for cap in on]
    assert known == sorted(known)
    assert on[-1] is None
    assert recovery.cap_on(recovery.outlook(Stage.RESTING, None, TODAY), date(2090, 1, 1)) == 0
    assert recovery.rest(DAY, rests) <= max(DAY, recovery.LONGEST_REST)


# --- two domains of Alpha with two senders each; Beta's are the same


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Iterator[Account]:
    found = stage.accounts()["smtp"]
    for agency in (beta, alpha):
        stage.allot(agency, found, senders=4)
    with context.entered(alpha):
        yield found


def told(sender: Sender, day: date, used: int, **trouble: int) -> None:
    """What a day of this sender brought, and of its domain."""
    SenderDay.objects.create(sender=sender, day=day, allowed=200, used=used, **trouble)
    row, _ = DomainDay.objects.get_or_create(domain=sender.domain, day=day, defaults={"allowed": 2000})
    for name, count in {"used": used, **trouble}.items():
        setattr(row, name, getattr(row, name) + count)
    row.save()


def look(alpha: Agency, now: datetime, sound: bool = True) -> tuple[int, int]:
    return recovering.look_after(alpha, now=now, check=lambda _: sound)


def test_a_sender_is_paused_with_its_evidence_and_returns_in_stages(
    alpha: Agency, beta: Agency, account: Account
) -> None:
    sender, mate = Sender.objects.order_by("pk").filter(domain__name="smtp0.alpha.example")
    told(sender, TODAY - 8 * DAY, 200, bounced=90)
    told(sender, TODAY - DAY, 80, bounced=5)
    told(mate, TODAY - DAY, 200)
    told(mate, TODAY, 99, bounced=2)
    assert look(alpha, NOON) == (0, 0)
    told(sender, TODAY, 25, refused=3)
    assert look(alpha, NOON) == (1, 0)
    found = Recovery.objects.get()
    assert (found.sender, found.domain, found.cause, found.stage) == (sender, None, "bounces", "resting")
    assert (found.mails, found.bounced, found.window_from, found.window_to) == (108, 8, TODAY - DAY, TODAY)
    assert found.least > 0.02
    assert room(account, NOON, sender) is None
    assert look(alpha, NOON + timedelta(hours=23)) == (0, 0)
    rested = NOON + DAY
    assert look(alpha, rested) == (0, 1)
    assert look(alpha, rested + timedelta(minutes=5), sound=False) == (0, 0)
    assert Recovery.objects.get().checked_at == rested + timedelta(minutes=5)
    # Asked again after an hour.
    assert look(alpha, rested + timedelta(minutes=10)) == (0, 0)
    assert look(alpha, rested + timedelta(hours=2)) == (0, 1)
    first = TODAY + DAY
    assert room(account, rested + timedelta(hours=2), sender) == 5
    told(sender, first, 5)
    assert room(account, rested + timedelta(hours=3), sender) is None
    told(sender, first + DAY, 5)
    assert look(alpha, NOON + 2 * DAY) == (0, 0)
    assert look(alpha, NOON + 3 * DAY) == (0, 1)
    assert room(account, NOON + 3 * DAY, sender) == 25
    for number in (2, 3):
        told(sender, first + number * DAY, 25)
    assert look(alpha, NOON + 4 * DAY) == (0, 0)
    assert look(alpha, NOON + 5 * DAY) == (0, 1)
    sender.refresh_from_db()
    found = Recovery.objects.get()
    assert (sender.cap, found.ended_at, found.ended_by) == (None, NOON + 5 * DAY, "")
    # What it was paused for is not held against it again.
    assert look(alpha, NOON + 5 * DAY) == (0, 0)
    with context.entered(beta):
        assert not Recovery.objects.exists()


def room(account: Account, now: datetime, sender: Sender) -> int | None:
    """What it may send; None if it is not among those that may."""
    day = ledger.local_day(now, context.current_agency().zone)
    with transaction.atomic():
        seats = ledger.take_seats(account.pk, day=day, now=now, limit=100)
    return next(
        (min(one.room, seats.domains[one.domain_id]) for one in seats.seats if one.sender_id == sender.pk), None
    )


def test_trouble_on_the_way_back_brings_a_longer_rest(alpha: Agency, account: Account) -> None:
    sender = Sender.objects.earliest("pk")
    recovering._pause(sender, alpha, now=NOON, cause=Cause.BOUNCES)
    look(alpha, NOON + DAY)
    look(alpha, NOON + DAY)
    told(sender, TODAY + DAY, 1, refused=1)
    assert room(account, NOON + DAY, sender) == 3
    assert look(alpha, NOON + DAY) == (0, 0)
    SenderDay.objects.filter(sender=sender).update(bounced=1)
    assert look(alpha, NOON + DAY) == (0, 1)
    found = Recovery.objects.get()
    assert (found.stage, found.falls, found.bounced, found.mails) == ("resting", 1, 2, 2)
    assert found.rest_until == NOON + 4 * DAY
    assert room(account, NOON + DAY, sender) is None


def test_a_domain_is_paused_with_all_its_senders(alpha: Agency, account: Account) -> None:
    one, two = Sender.objects.filter(domain__name="smtp0.alpha.example")
    for sender in (one, two):
        told(sender, TODAY, 80, bounced=6)
    assert look(alpha, NOON) == (1, 0)
    assert Recovery.objects.get().whose == one.domain
    assert room(account, NOON, one) is room(account, NOON, two) is None
    # With 80 of 50 mails they would send nothing today anyway.
    assert not ledger.held_back(account.pk, day=TODAY, now=NOON)
    look(alpha, NOON + DAY)
    look(alpha, NOON + DAY)
    assert ledger.room_today([account.pk], day=TODAY + DAY, now=NOON + DAY)[account.pk] == 5 + 100
    # Addresses that were refused at once use it up as well.
    DomainDay.objects.create(domain=one.domain, day=TODAY + DAY, allowed=5, refused=2)
    assert ledger.room_today([account.pk], day=TODAY + DAY, now=NOON + DAY)[account.pk] == 3 + 100
    assert send(account, NOON + DAY) == 103
    assert DomainDay.objects.get(domain=one.domain, day=TODAY + DAY).used == 3


def test_who_comes_second_moves_nothing(alpha: Agency, account: Account) -> None:
    recovering._pause(Sender.objects.earliest("pk"), alpha, now=NOON, cause=Cause.BOUNCES)
    look(alpha, NOON + DAY)
    first = NOON + DAY + timedelta(hours=2)

    def while_it_asks(_: SenderDomain) -> bool:
        return look(alpha, first) == (0, 1)

    assert recovering.advance(alpha, now=first - timedelta(hours=1), check=while_it_asks) == 0
    found = Recovery.objects.get()
    assert (found.stage, found.stage_at) == ("few", first)


def test_a_person_pauses_and_releases_with_a_word_why(alpha: Agency, beta: Agency, account: Account) -> None:
    sender = Sender.objects.earliest("pk")
    assert recovering.pause(sender, alpha, by="ann@x.example", why="listed", now=NOON)
    assert not recovering.pause(sender, alpha, by="ann@x.example", why="again", now=NOON)
    assert look(alpha, NOON + 90 * DAY) == (0, 0)
    found = Recovery.objects.get()
    assert recovering.release(found, alpha, by="bob@x.example", why="off the list", now=NOON + DAY)
    assert not recovering.release(found, alpha, by="bob@x.example", why="again", now=NOON + DAY)
    found.refresh_from_db()
    assert (found.by, found.why, found.ended_by, found.ended_why) == (
        "ann@x.example",
        "listed",
        "bob@x.example",
        "off the list",
    )
    assert room(account, NOON + DAY, sender) == 50
    told(sender, TODAY + DAY, 200, bounced=90)
    # Its domain, which was never released.
    assert look(alpha, NOON + DAY) == (1, 0)
    assert Recovery.objects.filter(ended_at=None).get().domain == sender.domain
    with context.entered(beta):
        assert not Recovery.objects.exists()


def test_the_administration_pauses_one_of_the_two_and_releases_it(
    alpha: Agency, beta: Agency, account: Account, carol: User
) -> None:
    carols = at(alpha, carol)
    sender = Sender.objects.earliest("pk")
    path = "/admin/senders/recovery/"
    both = {"sender": sender.pk, "domain": sender.domain_id, "why": "listed"}
    for wrong in ({"why": "listed"}, both, {"sender": sender.pk, "why": ""}):
        assert carols.post(f"{path}add/", wrong).status_code == 200
    for name in ("sender", "domain"):
        assert carols.post(f"{path}add/", {name: both[name], "why": "listed"}).status_code == 302
    assert carols.post(f"{path}add/", {"sender": sender.pk, "why": "listed"}).status_code == 200
    first = Recovery.objects.earliest("pk")
    assert (first.sender, first.by, first.stage) == (sender, carol.email, Stage.RESTING)
    assert carols.post(f"{path}{first.pk}/change/", {"ended_why": "off the list"}).status_code == 302
    assert list(Recovery.objects.filter(ended_at=None).values_list("domain", flat=True)) == [sender.domain_id]
    with context.entered(beta):
        assert not Recovery.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sender": None},
        {"stage": "away"},
        {"by": ""},
        {"ended_at": NOON},
        {"ended_by": "c"},
    ],
)
def test_the_database_refuses_what_no_pause_is(alpha: Agency, account: Account, wrong: dict[str, Any]) -> None:
    fields = {
        "sender": Sender.objects.earliest("pk"),
        "cause": "person",
        "by": "a",
        "why": "b",
        "began_at": NOON,
        "stage_at": NOON,
        "counted_from": TODAY,
    }
    Recovery.objects.create(**fields)
    Recovery.objects.all().delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        Recovery.objects.create(**{**fields, **wrong})
    for model in (Sender, SenderDomain):
        with pytest.raises(IntegrityError), transaction.atomic():
            model._default_manager.update(cap=7)
