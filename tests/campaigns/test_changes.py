"""A running sequence is changed: who is told to be concerned is, and nobody else, and nobody gets a mail twice."""

from dataclasses import replace
from datetime import timedelta

import pytest

from campaigns import advance, changes, dispatch, lifecycle
from campaigns.changes import ChangeRefusedError, Effect, Wanted
from campaigns.models import Campaign, Enrollment, Message
from providers.accounts.models import Account
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns.test_sequences import DAY, HOUR, Days, campaign
from tests.stage import NOON


@pytest.fixture
def days(alpha: Agency, account: Account) -> Days:
    return Days(alpha, account)


def started(days: Days) -> Campaign:
    """Three contacts have had the first of three mails, and wait for the second until three days later."""
    made = campaign(3, {}, {"delay": 4})
    days.live(NOON + HOUR)
    return made


def due() -> dict[int | None, set[timedelta]]:
    """When mails are due that wait, by the place of their step, from the first mail on."""
    found: dict[int | None, set[timedelta]] = {}
    for message in Message.objects.filter(status="scheduled").select_related("step"):
        found.setdefault(message.step.position, set()).add(message.due_at - NOON)
    return found


def said(found: list[Effect]) -> list[tuple[int, int | None, int | None]]:
    return [(one.count, one.step, one.to) for one in found]


def test_another_delay_moves_what_waits(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = started(days)
        first, second, third = changes.steps_of(made)
        wanted = [first, replace(second, delay=5), third]
        foreseen = changes.foresee(made, wanted, now=days.now)
        assert due() == {2: {3 * DAY}}
        span = (NOON + 5 * DAY, NOON + 5 * DAY)
        assert foreseen == [Effect(3, 2, 2, (NOON + 3 * DAY, NOON + 3 * DAY), span)]
        assert "3 contacts wait for step 2" in foreseen[0].text
        assert changes.change(made, wanted, now=days.now) == foreseen
        advance.advance(now=days.now)
        assert due() == {2: {5 * DAY}}
        days.live(NOON + 10 * DAY)
        assert set(map(tuple, days.steps().values())) == {(1, 2, 3)}
        assert {at - NOON for sent in days.mails.values() for step, at in sent if step == 3} == {9 * DAY}


def test_other_words_are_told_to_reach_those_who_have_not_had_them(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = started(days)
        first, second, third = changes.steps_of(made)
        wanted = [replace(first, html="<p>Late</p>"), replace(second, html="<p>Better</p>"), third]
        (effect,) = changes.foresee(made, wanted, now=days.now)
        assert (effect.count, effect.step, effect.words) == (3, 2, ("2",))
        assert "3 contacts have not had step 2 and get the new words of 2." in effect.text
        changes.change(made, wanted, now=days.now)
        # When each mail is due stays as it was.
        assert not Enrollment.objects.exclude(look_at=None).exists()
        days.live(NOON + 4 * DAY)
        assert all("Better" in str(sent[1].html) for sent in days.envelopes.values())
        assert changes.foresee(made, [first, second, third], now=days.now) == []


def test_whoever_has_had_nothing_yet_is_told_of_too(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(5, {}, new_contacts_per_day=2)
        days.live(NOON + HOUR)
        first, second = changes.steps_of(made)
        for change in ([first, replace(second, delay=9)], [first], [first, Wanted(html="<p>New</p>"), second]):
            effects = changes.foresee(made, change, now=days.now)
            assert said(effects)[0] == (3, 1, 1)
            assert "3 contacts have not had the first mail" in effects[0].text
            assert [one.count for one in effects[1:]] == [2]
        assert changes.foresee(made, [first, second], now=days.now) == []


def test_a_few_contacts_more_or_less_need_not_be_seen_again() -> None:
    wanted = [Wanted(html="x", subject="x")]

    def seen(before: int, after: int, **other: object) -> bool:
        sealed = changes.seal(wanted, [Effect(before, 2, 2)])
        return changes.is_seen(sealed, wanted, [replace(Effect(after, 2, 2), **other)])  # type: ignore[arg-type]

    assert seen(3, 3)
    assert seen(1000, 900)
    assert seen(1000, 1100)
    assert not seen(1000, 899)
    assert not seen(9, 10)
    assert not seen(0, 1)
    assert not seen(1000, 1000, to=3)
    assert not seen(1000, 1000, words=("2",))
    for forged in ("", "-", "x-3", changes.seal(wanted, []) + "-x"):
        assert not changes.is_seen(forged, wanted, [Effect(3, 2, 2)])


def test_a_step_taken_out_leaves_its_contacts_to_the_next(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = started(days)
        first, _, third = changes.steps_of(made)
        assert said(changes.change(made, [first, third], now=days.now)) == [(3, 2, 2)]
        # At once: none of its mails may leave any more.
        assert stage.statuses(made) == {"sent": 3, "cancelled": 3}
        advance.advance(now=days.now)
        assert due() == {2: {4 * DAY}}
        assert set(Message.objects.filter(status="cancelled").values_list("reason", flat=True)) == {"sequence_changed"}
        days.live(NOON + 10 * DAY)
        assert set(map(tuple, days.steps().values())) == {(1, 2)}


def test_a_step_put_in_between_comes_first_and_the_one_that_waited_after_it(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = started(days)
        first, second, third = changes.steps_of(made)
        new = Wanted(html="<p>New</p>", delay=1)
        assert said(changes.change(made, [first, new, second, third], now=days.now)) == [(3, 2, 2)]
        advance.advance(now=days.now)
        assert due() == {2: {DAY}}
        days.live(NOON + 12 * DAY)
        assert set(map(tuple, days.steps().values())) == {(1, 2, 3, 4)}
        assert stage.statuses(made) == {"sent": 12}


def test_whoever_has_had_all_gets_what_is_put_after_it(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(2, {})
        days.live(NOON + 4 * DAY)
        made.refresh_from_db()
        assert made.status == "finished"
        wanted = [*changes.steps_of(made), Wanted(html="<p>And</p>", delay=2)]
        found = changes.change(made, wanted, now=days.now)
        assert found == [Effect(2, None, 3, None, (NOON + 5 * DAY, NOON + 5 * DAY))]
        advance.advance(now=days.now)
        made.refresh_from_db()
        assert made.status == "running"
        days.live(NOON + 6 * DAY)
        assert set(map(tuple, days.steps().values())) == {(1, 2, 3)}


def test_a_condition_takes_mails_back_until_it_is_decided(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = started(days)
        first, second, third = changes.steps_of(made)
        wanted = [first, replace(second, condition="opened"), third]
        assert said(changes.change(made, wanted, now=days.now)) == [(3, 2, 2)]
        advance.advance(now=days.now)
        assert due() == {}
        days.live(NOON + 10 * DAY)
        assert set(map(tuple, days.steps().values())) == {(1, 3)}


def test_what_a_worker_has_in_its_hands_is_left_to_it(alpha: Agency, days: Days) -> None:
    """It was for the old step: that one is sent, and the new one follows it or does not, but nothing goes twice."""
    with context.entered(alpha):
        made = started(days)
        now = NOON + 3 * DAY
        batch = dispatch.claim_batch(alpha, days.allotment, now=now, limit=1)
        first, _, third = changes.steps_of(made)
        assert said(changes.change(made, [first, third], now=now)) == [(2, 2, 2)]
        days.now = now
        days.send(batch)
        days.live(NOON + 10 * DAY)
        assert sorted(map(tuple, days.steps().values())) == [(1, 0, 2), (1, 2), (1, 2)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda steps: [], "1 to 12 steps"),
        (lambda steps: [steps[0], steps[2], steps[1]], "keep their order"),
        (lambda steps: steps[1:], "stays the first"),
        (lambda steps: [replace(steps[0], subject=" "), *steps[1:]], "needs a subject"),
        (lambda steps: [*steps, Wanted()], "Step 4: write the mail"),
        (lambda steps: [*steps, Wanted(html="x", delay=0)], "1 to 999"),
        (lambda steps: [*steps, Wanted(html="{{ nobody }}")], "names nobody"),
        (lambda steps: [*steps, Wanted(html="x", subject="a\nb")], "one line"),
        (lambda steps: [replace(steps[0], id=0), *steps[1:]], "does not have"),
        (lambda steps: [steps[0], *steps], "does not have"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(alpha: Agency, days: Days, change: object, problem: str) -> None:
    with context.entered(alpha):
        made = started(days)
        before = changes.steps_of(made)
        wanted = change(before)  # type: ignore[operator]
        for verb in (changes.foresee, changes.change):
            with pytest.raises(ChangeRefusedError, match=problem):
                verb(made, wanted, now=days.now)
        assert changes.steps_of(made) == before


def test_a_draft_simply_has_other_steps(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 1))
        (first,) = changes.steps_of(made)
        assert changes.change(made, [first, Wanted(html="<p>2</p>"), Wanted(html="<p>3</p>")], now=NOON) == []
        changes.change(made, [replace(changes.steps_of(made)[2], subject="Now the first")], now=NOON)
        assert [one.html for one in changes.steps_of(made)] == ["<p>3</p>"]
        assert made.steps.count() == 1


def test_a_cancelled_campaign_is_over(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = started(days)
        Campaign.objects.filter(pk=made.pk).update(status="cancelled")
        made.refresh_from_db()
        with pytest.raises(ChangeRefusedError, match="cancelled"):
            changes.change(made, changes.steps_of(made), now=days.now)
        assert lifecycle.withdraw([]) == set()
