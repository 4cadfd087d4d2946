"""P2: every quota of an account, a sender and a domain is counted exactly and never exceeded."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from providers.accounts import ledger
from providers.accounts.models import Account, Allotment, LedgerRow, Period
from providers.senders import ledger as senders
from providers.senders.models import DomainDay, Home, Sender, SenderDay, SenderDomain, SenderHour
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

TODAY = date(2026, 11, 24)
Used = dict[tuple[str | None, str, date], int]


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    found = stage.accounts(smtp={"per_day": 100})["smtp"]
    for agency in (alpha, beta):
        Allotment.objects.create(account=found, agency=agency, senders=10)
    return found


def used(account: Account) -> Used:
    """What each row of the account says: (agency's slug, period, start) → used."""
    rows = LedgerRow.objects.filter(account=account).select_related("agency")
    return {(row.agency and row.agency.slug, row.period, row.starts): row.used for row in rows}


def limit(account: Account, agency: Agency, **limits: int | None) -> Allotment:
    """Change the agency's allotment; `of_account` and `of_account_month` change the account's own limits."""
    if "of_account" in limits:
        account.per_day = limits.pop("of_account")
    if "of_account_month" in limits:
        account.per_month = limits.pop("of_account_month")
    account.save()
    Allotment.objects.filter(account=account, agency=agency).update(**limits)
    return Allotment.objects.select_related("account").get(account=account, agency=agency)


def reserve(account: Account, agency: Agency, want: int, now: datetime = NOON) -> int:
    allotment = Allotment.objects.select_related("account").get(account=account, agency=agency)
    with transaction.atomic():
        return ledger.reserve(allotment.account, allotment, want, now=now)


@pytest.mark.parametrize(
    "limits",
    [{"of_account": 7}, {"of_account_month": 7}, {"per_day": 7}, {"per_month": 7}],
    ids=lambda one: next(iter(one)),
)
def test_each_limit_grants_what_is_left_and_not_one_more(
    account: Account, alpha: Agency, limits: dict[str, int | None]
) -> None:
    limit(account, alpha, **limits)
    assert [reserve(account, alpha, 5) for _ in range(3)] == [5, 2, 0]
    assert set(used(account).values()) == {7}


def test_agencies_share_the_account_and_not_their_allotments(account: Account, alpha: Agency, beta: Agency) -> None:
    limit(account, alpha, of_account=10, per_day=6)
    assert reserve(account, alpha, 50) == 6
    assert reserve(account, beta, 50) == 4
    assert used(account) == {(None, "day", TODAY): 10, ("alpha", "day", TODAY): 6, ("beta", "day", TODAY): 4}


def test_what_is_given_back_returns_to_every_row_it_came_from_and_no_other(
    account: Account, alpha: Agency, beta: Agency
) -> None:
    limit(account, alpha, of_account_month=90, per_month=80)
    for when in (NOON, NOON + timedelta(days=1)):
        reserve(account, alpha, 10, when)
        reserve(account, beta, 5, when)
    ledger.give_back(account.pk, alpha.pk, 3, day=TODAY)
    tomorrow, month = TODAY + timedelta(days=1), TODAY.replace(day=1)
    assert used(account) == {
        (None, "day", TODAY): 12,
        (None, "day", tomorrow): 15,
        (None, "month", month): 27,
        ("alpha", "day", TODAY): 7,
        ("alpha", "day", tomorrow): 10,
        ("alpha", "month", month): 17,
        ("beta", "day", TODAY): 5,
        ("beta", "day", tomorrow): 5,
    }


def test_a_day_ends_at_midnight_utc_whatever_the_zone(account: Account, alpha: Agency) -> None:
    limit(account, alpha, of_account=3)
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    berlin = midnight.astimezone(alpha.zone)
    assert reserve(account, alpha, 9, berlin - timedelta(microseconds=1)) == 3
    assert reserve(account, alpha, 9, berlin) == 3
    assert {key[2] for key in used(account)} == {date(2026, 11, 30), date(2026, 12, 1)}


def test_a_monthly_limit_set_in_mid_month_counts_the_days_before_it(
    account: Account, alpha: Agency, beta: Agency
) -> None:
    reserve(account, beta, 11, NOON - timedelta(days=40))
    reserve(account, alpha, 30, NOON - timedelta(days=2))
    reserve(account, beta, 5, NOON - timedelta(days=2))
    limit(account, alpha, per_month=45, of_account_month=60)
    assert [reserve(account, alpha, 10) for _ in range(2)] == [10, 5]
    assert reserve(account, beta, 99) == 10
    month = TODAY.replace(day=1)
    assert used(account)["alpha", "month", month] == 45
    assert used(account)[None, "month", month] == 60


def test_a_monthly_limit_lower_than_what_is_used_grants_nothing(account: Account, alpha: Agency) -> None:
    reserve(account, alpha, 30)
    limit(account, alpha, per_month=20)
    assert reserve(account, alpha, 1) == 0
    ledger.give_back(account.pk, alpha.pk, 30, day=TODAY)
    assert reserve(account, alpha, 99) == 20


def test_mails_of_before_a_monthly_limit_can_be_given_back_after_it(account: Account, alpha: Agency) -> None:
    reserve(account, alpha, 10)
    limit(account, alpha, per_month=50)
    reserve(account, alpha, 1)
    ledger.give_back(account.pk, alpha.pk, 10, day=TODAY)
    assert set(used(account).values()) == {1}


def test_mails_of_after_a_monthly_limit_was_lifted_can_be_given_back(account: Account, alpha: Agency) -> None:
    limit(account, alpha, per_month=50)
    reserve(account, alpha, 1)
    limit(account, alpha, per_month=None)
    assert reserve(account, alpha, 60) == 60
    ledger.give_back(account.pk, alpha.pk, 40, day=TODAY)
    assert set(used(account).values()) == {21}
    # The limit comes back, and knows what was sent meanwhile.
    limit(account, alpha, per_month=50)
    assert reserve(account, alpha, 99) == 29


def test_a_limit_that_was_lowered_below_what_is_used_grants_nothing_until_there_is_room(
    account: Account, alpha: Agency
) -> None:
    reserve(account, alpha, 50)
    limit(account, alpha, of_account=40)
    assert reserve(account, alpha, 1) == 0
    ledger.give_back(account.pk, alpha.pk, 15, day=TODAY)
    assert reserve(account, alpha, 50) == 5
    limit(account, alpha, of_account=42)
    assert reserve(account, alpha, 50) == 2


@pytest.mark.parametrize("model", [LedgerRow, SenderDay, SenderHour, DomainDay])
def test_the_database_itself_refuses_more_than_is_allowed(
    account: Account, alpha: Agency, model: type[LedgerRow | SenderDay | SenderHour | DomainDay]
) -> None:
    reserve(account, alpha, 1)
    with context.entered(alpha):
        allotment = Allotment.objects.get(account=account, agency=alpha)
        add_senders(allotment, [("s@x.example", "")], per_day=5, domain_per_day=7)
        taken = senders.take_seats(account.pk, day=TODAY, now=NOON, limit=1)
        senders.spend(taken.seats, day=TODAY, now=NOON)
        for allowed_and_more in (101, -1):
            with pytest.raises(IntegrityError), transaction.atomic():
                model.objects.update(used=allowed_and_more)


def test_any_order_of_taking_and_giving_back_comes_out_even(account: Account, alpha: Agency, beta: Agency) -> None:
    limit(account, alpha, of_account=60, per_day=50, per_month=90, of_account_month=150)
    rng = random.Random(7)
    held: Counter[tuple[Agency, date]] = Counter()
    for _ in range(120):
        agency = rng.choice([alpha, beta])
        when = NOON + timedelta(days=rng.randrange(3))
        key = (agency, when.date())
        if rng.random() < 0.6:
            held[key] += reserve(account, agency, rng.randrange(1, 30), when)
        elif held[key]:
            count = rng.randrange(1, held[key] + 1)
            ledger.give_back(account.pk, agency.pk, count, day=when.date())
            held[key] -= count
    for row in LedgerRow.objects.filter(account=account):
        counted = sum(
            count
            for (agency, day), count in held.items()
            if row.agency_id in (None, agency.pk) and (row.period == Period.MONTH or row.starts == day)
        )
        assert row.used == counted <= row.allowed


def test_routes_name_what_is_left_of_each_account_that_the_agency_may_use(alpha: Agency, beta: Agency) -> None:
    accounts = stage.accounts(smtp={"per_day": 30}, sendgrid={"enabled": False}, resend={"owner": beta})
    for account in accounts.values():
        Allotment.objects.create(account=account, agency=alpha, senders=1, per_day=20)
        Allotment.objects.create(account=account, agency=beta, senders=1)
    reserve(accounts["smtp"], beta, 12)
    assert [(route.name, route.free) for route in ledger.routes(alpha, now=NOON)] == [("smtp", 18)]
    assert [(route.name, route.free) for route in ledger.routes(beta, now=NOON)] == [("resend", 1000), ("smtp", 18)]
    assert ledger.allotment(alpha, accounts["resend"].pk) is None
    assert ledger.allotment(alpha, accounts["sendgrid"].pk) is None
    found = ledger.allotment(beta, accounts["resend"].pk)
    assert found is not None
    assert found.agency == beta


@pytest.mark.parametrize(
    ("limits", "reason", "until"),
    [
        ({"of_account": 5}, "account_day_spent", datetime(2026, 12, 31, tzinfo=UTC)),
        ({"per_day": 5}, "allotment_day_spent", datetime(2026, 12, 31, tzinfo=UTC)),
        ({"of_account_month": 5}, "account_month_spent", datetime(2027, 1, 1, tzinfo=UTC)),
        ({"per_month": 5, "per_day": 5}, "allotment_month_spent", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_quota_that_binds_longest_is_named_with_its_end(
    account: Account, alpha: Agency, limits: dict[str, int | None], reason: str, until: datetime
) -> None:
    allotment = limit(account, alpha, **limits)
    now = datetime(2026, 12, 30, 22, 30, tzinfo=UTC)
    assert ledger.spent(account, allotment, now=now) is None
    reserve(account, alpha, 5, now)
    assert ledger.spent(allotment.account, allotment, now=now) == ledger.Spent(reason, until)


# --- senders and domains, in the agency's own days


@pytest.fixture
def pool(account: Account, alpha: Agency, beta: Agency) -> Callable[..., None]:
    """Makes senders s0, s1, … of a domain, in the agency entered then."""

    def make(count: int, domain: str = "one.example", *, per_day: int = 5, domain_per_day: int = 2000) -> None:
        allotment = Allotment.objects.get(account=account, agency=context.current_agency())
        addresses = [(f"s{number}@{domain}", "") for number in range(count)]
        add_senders(allotment, addresses, per_day=per_day, domain_per_day=domain_per_day)

    return make


def spend(account: Account, count: int, *, now: datetime = NOON, limit: int = 10) -> None:
    """Use up so many mails of the first seats that are free."""
    day = senders.local_day(now, context.current_agency().zone)
    for _ in range(count):
        seat = senders.take_seats(account.pk, day=day, now=now, limit=limit).seats[0]
        senders.spend([seat], day=day, now=now)


def test_senders_take_turns_and_stop_at_their_limit(account: Account, alpha: Agency, pool: Callable[..., None]) -> None:
    with context.entered(alpha):
        pool(3, per_day=2)
        for turn in range(6):
            spend(account, 1, now=NOON + timedelta(seconds=turn))
            if turn == 2:
                assert sorted(SenderDay.objects.values_list("used", flat=True)) == [1, 1, 1]
        assert senders.take_seats(account.pk, day=TODAY, now=NOON, limit=10).seats == []
        assert sorted(SenderDay.objects.values_list("used", flat=True)) == [2, 2, 2]


def test_a_domain_stops_all_its_senders_and_no_others(
    account: Account, alpha: Agency, pool: Callable[..., None]
) -> None:
    with context.entered(alpha):
        pool(3, "one.example", domain_per_day=4)
        pool(1, "two.example")
        spend(account, 4 + 2)
        found = senders.take_seats(account.pk, day=TODAY, now=NOON, limit=10)
        one, two = (SenderDomain.objects.get(name=f"{name}.example") for name in ("one", "two"))
        room = {domain: room for domain, room in found.domains.items() if room > 0}
        assert {seat.domain_id for seat in found.seats} == set(room)
        used = dict(DomainDay.objects.values_list("domain__name", "used"))
        assert used["one.example"] <= 4
        assert sum(used.values()) == 6
        assert senders.room_today([account.pk], day=TODAY, now=NOON) == {
            account.pk: (4 - used["one.example"]) + (5 - used.get("two.example", 0))
        }
        assert {one.pk, two.pk} >= set(found.domains)


def test_an_agencys_day_begins_at_its_own_midnight(
    account: Account, alpha: Agency, beta: Agency, pool: Callable[..., None]
) -> None:
    late = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)
    for agency, day in ((alpha, date(2026, 11, 25)), (beta, date(2026, 11, 24))):
        with context.entered(agency):
            pool(1, f"{agency.slug}.example")
            spend(account, 1, now=late)
            assert SenderDay.objects.get().day == DomainDay.objects.get().day == day
            assert senders.local_day(late, agency.zone) == day
    assert senders.next_day(late, beta.zone) == datetime(2026, 11, 25, 5, tzinfo=UTC)
    # Clocks go forward on 29 March: the day has 23 hours.
    spring = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)
    assert senders.next_day(spring, alpha.zone) - spring == timedelta(hours=22, minutes=30)


def test_only_active_senders_of_a_domain_at_home_there_are_seated(
    account: Account, alpha: Agency, beta: Agency, pool: Callable[..., None]
) -> None:
    with context.entered(beta):
        pool(2, "theirs.example")
    with context.entered(alpha):
        pool(2)
        Sender.objects.filter(address="s0@one.example").update(active=False)
        assert [seat.address for seat in senders.take_seats(account.pk, day=TODAY, now=NOON, limit=9).seats] == [
            "s1@one.example"
        ]
        assert senders.accounts_with_senders() == {account.pk}
        Home.objects.all().delete()
        assert senders.take_seats(account.pk, day=TODAY, now=NOON, limit=9).seats == []
        assert senders.accounts_with_senders() == set()
        assert senders.room_today([account.pk], day=TODAY, now=NOON) == {}


def test_more_than_a_seat_has_is_refused_by_the_database(
    account: Account, alpha: Agency, pool: Callable[..., None]
) -> None:
    with context.entered(alpha):
        pool(1, per_day=3, domain_per_day=3)
        seat = senders.take_seats(account.pk, day=TODAY, now=NOON, limit=1).seats[0]
        with pytest.raises(IntegrityError), transaction.atomic():
            senders.spend([seat] * 4, day=TODAY, now=NOON)
        senders.spend([seat] * 3, day=TODAY, now=NOON)


def test_what_a_sender_gives_back_returns_to_its_day_and_its_domain(
    account: Account, alpha: Agency, pool: Callable[..., None]
) -> None:
    tomorrow = TODAY + timedelta(days=1)
    with context.entered(alpha):
        pool(1)
        spend(account, 3)
        spend(account, 2, now=NOON + timedelta(days=1))
        sender = Sender.objects.get()
        senders.give_back_domains({(sender.domain_id, TODAY): 2})
        senders.give_back_senders({(sender.pk, TODAY, NOON): 2})
        for model in (SenderDay, DomainDay):
            assert dict(model.objects.values_list("day", "used")) == {TODAY: 1, tomorrow: 2}
        assert dict(SenderHour.objects.values_list("hour", "used")) == {NOON: 1, NOON + timedelta(days=1): 2}


def test_a_limit_of_a_sender_that_was_lowered_holds_at_once(
    account: Account, alpha: Agency, pool: Callable[..., None]
) -> None:
    with context.entered(alpha):
        pool(1)
        spend(account, 3)
        Sender.objects.update(per_day=2)
        assert senders.take_seats(account.pk, day=TODAY, now=NOON, limit=1).seats == []
        Sender.objects.update(per_day=4)
        spend(account, 1)
        assert SenderDay.objects.get().used == SenderDay.objects.get().allowed == 4


def test_an_allotments_number_of_senders_is_kept(account: Account, alpha: Agency, pool: Callable[..., None]) -> None:
    with context.entered(alpha):
        pool(10)
        pool(10)
        assert Sender.objects.count() == 10
        with pytest.raises(Exception, match="allows this agency 10 senders; it has 10, so 1 more do not fit"):
            pool(1, "two.example")
        assert not SenderDomain.objects.filter(name="two.example").exists()


def test_allotments_cannot_give_away_more_senders_than_the_account_has(alpha: Agency, beta: Agency) -> None:
    account = stage.accounts(smtp={"sender_limit": 10})["smtp"]
    Allotment.objects.create(account=account, agency=alpha, senders=7)
    with pytest.raises(ValidationError, match="smtp has 3 senders left to allot of its 10"):
        Allotment(account=account, agency=beta, senders=4).full_clean()
    Allotment(account=account, agency=beta, senders=3).full_clean()
