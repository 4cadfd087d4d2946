"""The pure core of a forecast: nothing is lost, and no limit is ever passed."""

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import gaps, pace, sequence, simulation
from campaigns.simulation import Bound, Scene, Sending, Through, Waiting, simulate
from providers.accounts import rate
from providers.accounts.models import Account, Allotment
from providers.senders import recovery
from providers.senders.standing import Group, Standing

GMT = ZoneInfo("UTC")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ALWAYS = pace.Schedule(GMT)
SOME = st.integers(1, 40)
SCHEDULES = st.builds(
    pace.Schedule,
    st.sampled_from([GMT, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York")]),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.sampled_from([None, time(9)]),
    st.sampled_from([None, time(17, 30)]),
    st.sampled_from(["", "US"]),
)
SENDINGS = st.builds(
    Sending,
    campaign_id=st.just(1),
    traffic_class=st.just("bulk"),
    overflow=st.sampled_from(["reroute", "wait"]),
    gap=st.builds(gaps.Gap, st.integers(0, 3000), st.integers(0, 600)),
    new_contacts=st.none() | SOME,
)


def through(number: int, *, agency: int = 7, **fields: Any) -> Through:
    share = fields.pop("share", None)
    account = Account(pk=number, name=f"a{number}", kind="smtp", **{"per_day": 1000, **fields})
    return Through(account, Allotment(account=account, agency_id=agency, per_day=share))


def senders(number: int, *homes: int, count: int = 10, per_day: int = 50, **fields: Any) -> Standing:
    group = Group(count, per_day, rested=count)
    return Standing(number, frozenset(homes or (number,)), fields.pop("limit", 2000), (group,), **fields)


def waiting(count: int, account: int = 1, campaign: int = 1, **fields: Any) -> Waiting:
    return Waiting(campaign, account, 0, NOW, **{"schedule": ALWAYS, "count": count, "first": True, **fields})


def plain(**fields: Any) -> Sending:
    return Sending(1, "bulk", "reroute", **fields)


def first_day(scene: Scene) -> tuple[int, Bound]:
    days = simulate(scene, 1, now=NOW).days
    return days[0].total, days[0].bound


@given(
    st.lists(st.tuples(SOME, st.none() | SOME, st.none() | SOME), min_size=1, max_size=3),
    st.lists(st.tuples(SOME, st.integers(1, 9), SOME), min_size=1, max_size=3),
    SENDINGS,
    st.lists(st.tuples(st.integers(0, 200), SCHEDULES), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_limit_is_passed(
    accounts: list[tuple[int, int | None, int | None]],
    domains: list[tuple[int, int, int]],
    sending: Sending,
    queues: list[tuple[int, pace.Schedule]],
) -> None:
    ids = range(1, len(accounts) + 1)
    scene = Scene(
        GMT,
        [
            through(number, per_day=per_day, per_month=per_month, share=share)
            for number, (per_day, per_month, share) in zip(ids, accounts, strict=True)
        ],
        [senders(n, *ids, count=count, per_day=each, limit=limit) for n, (limit, count, each) in enumerate(domains)],
        [sending],
        [waiting(count, 1 + n % len(accounts), schedule=schedule) for n, (count, schedule) in enumerate(queues)],
    )
    total = sum(count for count, _ in queues)
    run = simulate(scene, 1, now=NOW)
    assert sum(day.total for day in run.days) + run.left == total
    months: Counter[tuple[int, date]] = Counter()
    left = total
    for before, day in zip([None, *run.days], run.days, strict=False):
        assert before is None or day.day == before.day + DAY
        left -= day.total
        assert day.left == left
        for account_id, count in day.accounts.items():
            per_day, _, share = accounts[account_id - 1]
            assert 0 < count <= min(per_day, share or per_day)
            months[account_id, day.day.replace(day=1)] += count
        assert day.total <= sum(min(limit, count * each) for limit, count, each in domains)
        assert sending.new_contacts is None or day.total <= sending.new_contacts
    for (account_id, _), count in months.items():
        assert count <= (accounts[account_id - 1][1] or count)


@given(st.integers(1, 9), st.dictionaries(st.tuples(st.integers(1, 30), st.just(0)), st.integers(1, 9), min_size=1))
def test_no_recipient_domain_gets_more_than_its_cap_and_all_are_done_when_the_largest_is(
    cap: int, to_domains: dict[tuple[int, int], int]
) -> None:
    total = sum(size * count for (size, _), count in to_domains.items())
    sending = plain(per_domain=cap, to_domains=to_domains)
    scene = Scene(
        GMT, [through(1, per_day=100_000)], [senders(1, count=3000, limit=100_000)], [sending], [waiting(total)]
    )
    run = simulate(scene, 1, now=NOW)
    sizes = [size for (size, _), count in to_domains.items() for _ in range(count)]
    for number, day in enumerate(run.days):
        assert day.total == sum(min(cap, max(0, size - number * cap)) for size in sizes)
    assert len(run.days) == -(-max(sizes) // cap)


@given(st.integers(1, 9), st.integers(1, 5000), st.lists(st.integers(1, 300), min_size=1, max_size=8, unique=True))
@settings(max_examples=40, deadline=None)
def test_no_mail_is_left_over_where_domains_and_the_account_both_bind(cap: int, per_day: int, sizes: list[int]) -> None:
    to_domains = {(size, 0): 20_000 // size**2 + 1 for size in sizes}
    total = sum(size * count for (size, _), count in to_domains.items())
    slowest = total / per_day + max(sizes) / cap
    sending = plain(per_domain=cap, to_domains=to_domains)
    account = through(1, per_day=per_day)
    scene = Scene(GMT, [account], [senders(1, count=3000, limit=100_000)], [sending], [waiting(total)])
    run = simulate(scene, 1, now=NOW)
    assert run.left == 0 or slowest > 300


@given(st.integers(60, 2000), st.integers(0, 900))
@settings(max_examples=30, deadline=None)
def test_a_pace_is_that_of_senders_who_rest_at_random(base: int, jitter: int) -> None:
    found = simulation._Pace(gaps.Gap(base, jitter))
    whole_day = found(24 * 60)
    assert 24 * 3600 / (base + jitter + 60) - 1 <= whole_day <= 24 * 3600 / base + 1
    assert all(found(tick) <= found(tick + 1) for tick in range(0, 3000, 7))


def test_what_an_account_sends_a_second_binds() -> None:
    slow = through(1, per_day=100_000, per_second=1)
    scene = Scene(GMT, [slow], [senders(1, count=3000, limit=100_000)], [plain()], [waiting(90_000)])
    total, bound = first_day(scene)
    assert bound is Bound.RATE
    assert abs(total - rate.pace(1) * 12 * 3600) < 2  # type: ignore[arg-type]


def test_requests_are_counted_and_mails_with_files_share_none() -> None:
    slow = through(1, per_day=900_000, per_second=1)
    slow.account.kind = "resend"
    senders_ = senders(1, count=30_000, limit=900_000)

    def both(*by_itself: int) -> list[int]:
        """Mails of the first half day, of two steps whose second follows in an hour."""
        later = sequence.Step(2, 1, "hours")
        sending = plain(follow_ups=[later], by_itself=frozenset(by_itself))
        return [
            day.total for day in simulate(Scene(GMT, [slow], [senders_], [sending], [waiting(90_000)]), 1, now=NOW).days
        ]

    requests = rate.pace(1) * 12 * 3600  # type: ignore[arg-type]
    assert both() == [180_000]
    assert abs(both(0, 1)[0] - requests) < 5
    # The first step's mails take 900 requests in all, and the second's one each from the second hour on.
    assert abs(both(1)[0] - (90_000 + requests * 11 / 12 - 900)) < requests / 12


def test_the_default_gap_of_cold_mails_binds() -> None:
    gap = gaps.of_campaign("cold_outreach", None, None)
    hours = pace.Schedule(GMT, opens=time(9), closes=time(17))
    scene = Scene(GMT, [through(1)], [senders(1)], [plain(gap=gap)], [waiting(1000, schedule=hours)])
    days = simulate(scene, 1, now=NOW).days
    # A sender rests 540 to 840 s and then until the next minute: eight hours are room for 37 or 38 mails.
    assert 370 <= days[1].total <= 390
    assert {day.bound for day in days[:-1]} == {Bound.GAP}


def test_it_says_when_nothing_ever_goes() -> None:
    for scene in (
        Scene(GMT, [through(1)], [], [plain()], [waiting(5)]),
        Scene(GMT, [through(1, per_day=0)], [senders(1)], [plain()], [waiting(5)]),
    ):
        run = simulate(scene, 1, now=NOW)
        assert run.left == 5
    assert simulate(Scene(GMT, [through(1)], [], [plain()], [waiting(5)]), 1, now=NOW).days[0].bound is Bound.NO_SENDERS


def test_it_ends_after_a_year() -> None:
    run = simulate(Scene(GMT, [through(1, per_day=1)], [senders(1)], [plain()], [waiting(500)]), 1, now=NOW)
    assert (run.left, len(run.days)) == (133, 367)


def test_who_recovers_sends_nothing_then_a_little_then_all() -> None:
    today = NOW.date()
    caps = recovery.outlook(recovery.Stage.RESTING, today + 2 * DAY, today)
    of_sender = Standing(1, frozenset({1}), 2000, (Group(1, 50, rested=1, caps=caps),))
    of_domain = Standing(1, frozenset({1}), 2000, (Group(10, 50, rested=10),), caps=caps)
    for domain in (of_sender, of_domain):
        scene = Scene(GMT, [through(1)], [domain], [plain()], [waiting(90)])
        days = simulate(scene, 1, now=NOW).days
        assert [day.total for day in days] == [0, 0, 5, 5, 25, 25, 30]
        assert {day.bound for day in days[:-1]} == {Bound.RECOVERY}
