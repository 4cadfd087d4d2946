"""Pure: which sender a claimed message gets."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from campaigns.dispatch import place
from campaigns.lifecycle import Claimed
from providers.senders.ledger import Seat, Seats
from tests.stage import NOON as NOW


def message(number: int) -> Claimed:
    return Claimed(number, UUID(int=number), 1, 1, number, "bulk", {}, 1, [], 0)


def seats(*rooms: int, domains: dict[int, int]) -> Seats:
    """Senders 1, 2, … with that much room, over the domains in turn."""
    names = sorted(domains)
    return Seats(
        [
            Seat(number, names[number % len(names)], f"s{number}@d.example", f"S{number}", 50, room)
            for number, room in enumerate(rooms, start=1)
        ],
        dict(domains),
    )


@st.composite
def queues(draw: st.DrawFn) -> tuple[list[tuple[Claimed, int | None]], Seats]:
    domains = draw(st.dictionaries(st.integers(1, 4), st.integers(-1, 8), min_size=1))
    found = seats(*draw(st.lists(st.integers(0, 4), max_size=8)), domains=domains)
    # A thread may also belong to a sender that is not among the seats.
    threads = draw(st.lists(st.none() | st.integers(1, 9), max_size=30))
    return [(message(number), thread) for number, thread in enumerate(threads, start=1)], found


@given(queues())
def test_no_seat_and_no_domain_gets_more_than_its_room(made: tuple[list[tuple[Claimed, int | None]], Seats]) -> None:
    queue, found = made
    rooms = {seat.sender_id: seat.room for seat in found.seats}
    domains = dict(found.domains)
    placed = place(queue, found, now=NOW)
    for sender_id, count in Counter(seat.sender_id for _, seat in placed).items():
        assert count <= rooms[sender_id]
    for domain_id, count in Counter(seat.domain_id for _, seat in placed).items():
        assert count <= domains[domain_id]
    for each, seat in placed:
        assert (each.sender_id, each.sender_address, each.sender_name) == (seat.sender_id, seat.address, seat.name)


@given(queues())
def test_a_thread_gets_its_own_sender_or_waits(made: tuple[list[tuple[Claimed, int | None]], Seats]) -> None:
    queue, found = made
    wanted = {each.id: thread for each, thread in queue}
    for each, seat in place(queue, found, now=NOW):
        assert wanted[each.id] in (None, seat.sender_id)


@given(queues())
def test_each_is_placed_once_in_order_and_a_free_one_waits_only_when_nothing_is_left(
    made: tuple[list[tuple[Claimed, int | None]], Seats],
) -> None:
    queue, found = made
    placed = [each.id for each, _ in place(queue, found, now=NOW)]
    assert placed == sorted(set(placed))
    left = [each for each, thread in queue if thread is None and each.id not in placed]
    if left:
        assert not any(seat.room > 0 and found.domains[seat.domain_id] > 0 for seat in found.seats)


@given(st.integers(1, 6), st.integers(1, 40))
def test_senders_with_room_take_turns(senders: int, mails: int) -> None:
    found = seats(*[50] * senders, domains={1: 1000, 2: 1000})
    placed = place([(message(number), None) for number in range(1, mails + 1)], found, now=NOW)
    assert [seat.sender_id for _, seat in placed] == [number % senders + 1 for number in range(mails)]


def test_a_full_domain_is_passed_over() -> None:
    found = seats(5, 5, 5, domains={1: 0, 2: 9})
    placed = place([(message(number), None) for number in range(1, 5)], found, now=NOW)
    assert {seat.domain_id for _, seat in placed} == {2}
    assert len(placed) == 4


def test_a_thread_whose_sender_is_full_holds_nobody_up() -> None:
    found = seats(1, 5, domains={1: 9})
    placed = place([(message(1), 1), (message(2), 1), (message(3), 9), (message(4), None)], found, now=NOW)
    assert [(each.id, seat.sender_id) for each, seat in placed] == [(1, 1), (4, 2)]


def test_without_seats_nothing_is_placed() -> None:
    assert place([(message(1), None), (message(2), 1)], Seats([], {}), now=NOW) == []


# --- the gap between two mails of a sender


@st.composite
def paced_queues(draw: st.DrawFn) -> tuple[list[tuple[Claimed, int | None]], Seats]:
    queue, found = draw(queues())
    minutes = st.integers(0, 20).map(lambda number: timedelta(minutes=number))
    for each, _ in queue:
        each.gap = draw(st.just(timedelta()) | minutes)
    for seat in found.seats:
        seat.used_at = draw(st.none() | minutes.map(lambda ago: NOW - ago))
        seat.free_at = seat.used_at and seat.used_at + draw(minutes)
    return queue, found


@given(paced_queues())
def test_a_sender_rests_after_a_mail_and_before_one_as_long_as_the_longer_gap(
    made: tuple[list[tuple[Claimed, int | None]], Seats],
) -> None:
    queue, found = made
    rests = {seat.sender_id: (seat.used_at, seat.free_at) for seat in found.seats}
    taken: dict[int, list[timedelta]] = {}
    for each, seat in place(queue, found, now=NOW):
        taken.setdefault(seat.sender_id, []).append(each.gap)
        used_at, free_at = rests[seat.sender_id]
        assert free_at is None or free_at <= NOW
        assert used_at is None or not each.gap or used_at + each.gap <= NOW
        assert seat.used_at == NOW
    for sender_id, gaps in taken.items():
        # With a gap it is alone.
        assert len(gaps) == 1 or not any(gaps)
        (seat,) = (seat for seat in found.seats if seat.sender_id == sender_id)
        if any(gaps):
            assert seat.free_at == NOW + gaps[0]


@given(paced_queues())
def test_the_first_mail_waits_only_for_room_or_rest(made: tuple[list[tuple[Claimed, int | None]], Seats]) -> None:
    queue, found = made
    if not queue:
        return
    first, thread = queue[0]
    able = [
        seat
        for seat in found.seats
        if thread in (None, seat.sender_id) and seat.room > 0 and found.domains[seat.domain_id] > 0
    ]
    could = any(seat.rested(first.gap, NOW) for seat in able)
    assert (first.id in [each.id for each, _ in place(queue, found, now=NOW)]) == could


def test_a_mail_with_a_long_gap_keeps_the_longest_rested_seat_from_those_behind() -> None:
    found = seats(5, 5, domains={1: 9})
    found.seats[0].used_at = NOW - timedelta(minutes=1)
    found.seats[1].used_at = NOW - timedelta(minutes=5)
    cold = message(1)
    cold.gap = timedelta(minutes=9)
    placed = place([(cold, None), (message(2), None), (message(3), None)], found, now=NOW)
    assert [(each.id, seat.sender_id) for each, seat in placed] == [(2, 1), (3, 1)]
