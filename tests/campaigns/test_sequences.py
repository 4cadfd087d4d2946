"""Campaigns of several steps over days of virtual time, from the queue to the facts: who gets which mail, and when."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from campaigns import (
    advance,
    changes,
    control,
    dispatch,
    draft,
    feedback,
    forecast,
    launch,
    lifecycle,
)
from campaigns.envelopes import Envelopes
from campaigns.models import Campaign, Contact, Enrollment, Link, Message, Step, Subscription, Suppression
from providers.accounts.envelope import Envelope
from providers.accounts.events import BounceClass, EventType, Heard, Reader
from providers.accounts.models import Account, Allotment
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns import ledgers
from tests.stage import NOON

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def campaign(count: int, *steps: dict[str, object], name: str = "a", **fields: object) -> Campaign:
    """Launched at noon, in the agency entered now; each of `steps` comes after the first mail."""
    made = stage.campaign(stage.contact_list(name, count), traffic_class="bulk", **fields)
    made.steps.update(subject="{Hello|Hi|Good day} {{ first_name }}")
    for position, step in enumerate(steps, start=2):
        defaults = {"subject": "", "html": f"<p>Step {position}</p>", "delay": 3, "unit": "days"}
        Step.objects.create(campaign=made, position=position, **{**defaults, **step})
    launch.launch(made, now=NOON)
    return made


class Days:
    """An agency's days: what may leave leaves, each hour unless told; each mail that left is told of to `react`."""

    def __init__(self, agency: Agency, account: Account) -> None:
        self.agency = agency
        self.allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
        self.now = NOON
        self.mails: dict[str, list[tuple[int, datetime]]] = defaultdict(list)
        self.envelopes: dict[str, list[Envelope]] = defaultdict(list)

    def live(
        self,
        until: datetime,
        react: Callable[[Message, datetime], None] = lambda message, now: None,
        *,
        every: timedelta = HOUR,
    ) -> None:
        while self.now <= until:
            advance.advance(now=self.now)
            while batch := dispatch.claim_batch(self.agency, self.allotment, now=self.now, limit=100):
                self.send(batch)
                for message in Message.objects.filter(pk__in=[one.id for one in batch], status="sent"):
                    react(message, self.now)
            control.finish_done(now=self.now)
            self.now += every

    def send(self, batch: list[lifecycle.Claimed]) -> None:
        made = Envelopes(self.agency)
        made.prepare(batch)
        cleared = lifecycle.begin(batch, now=self.now)
        going = [one for one in batch if one.id in cleared]
        lifecycle.stop([one for one in batch if one.id not in cleared])
        for one in going:
            envelope = made.of(one)
            self.envelopes[envelope.recipient].append(envelope)
            step = Step.objects.get(pk=one.step_id)
            self.mails[envelope.recipient].append((step.position or 0, self.now))
        lifecycle.sent([(one, f"id-{one.id}") for one in going], now=self.now)

    def steps(self) -> dict[str, list[int]]:
        return {who: [step for step, _ in sent] for who, sent in self.mails.items()}


@pytest.fixture
def days(alpha: Agency, account: Account) -> Days:
    return Days(alpha, account)


def tell(message: Message, type: EventType, at: datetime, **more: object) -> None:
    raw_id = str(more.pop("raw_id", uuid4().hex))
    feedback.record([Heard("tracking", raw_id, type, at, at, message.key, **more)], now=at)  # type: ignore[arg-type]


def test_conditions_are_met_by_people_alone(alpha: Agency, days: Days) -> None:
    readers = [None, Reader.HUMAN, Reader.MACHINE, Reader.UNCLEAR]

    def react(message: Message, now: datetime) -> None:
        number = int(message.contact.email.partition("@")[0][1:])
        if message.step.position == 1 and (reader := readers[number % 4]):
            # Long after the mail, for what comes at once was a program anyway.
            tell(message, EventType.OPENED, now + HOUR, reader=reader)

    with context.entered(alpha):
        campaign(
            8,
            {"condition": "opened", "html": "<p>Seen</p>"},
            {"condition": "not_opened", "subject": "Once more", "delay": 4},
        )
        days.live(NOON + 12 * DAY, react)
        steps = days.steps()
        for number in range(8):
            human = readers[number % 4] is Reader.HUMAN
            sent = steps[f"a{number}@people.example"]
            # Of the second mail nobody is told that it was opened.
            assert sent == ([1, 2, 3] if human else [1, 3]), number
        for envelopes in days.envelopes.values():
            assert "In-Reply-To" not in envelopes[-1].headers
            assert envelopes[-1].subject == "Once more"
        late = [at - NOON for _, at in days.mails["a0@people.example"]]
        assert late == [0 * DAY, 7 * DAY]


def test_who_does_not_meet_a_condition_may_hear_no_more(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(2, {"condition": "clicked", "otherwise": "end"}, {})
        days.live(NOON + 9 * DAY)
        assert days.steps() == {f"a{number}@people.example": [1] for number in range(2)}
        assert set(Enrollment.objects.values_list("ended", flat=True)) == {"condition_not_met"}
        made.refresh_from_db()
        assert made.status == "finished"


def test_a_campaign_that_waits_for_a_condition_is_not_finished(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(1, {"condition": "not_opened"})
        days.live(NOON + HOUR)
        made.refresh_from_db()
        assert made.status == "running"
        assert advance.advance(now=days.now) == NOON + 3 * DAY


def scoped(alpha: Agency, account: Account, scope: str, domain: str) -> dict[str, str]:
    """What becomes of whom when one contact of the first of two campaigns replies: reason by contact and campaign."""
    days = Days(alpha, account)
    first = campaign(2, {}, name="a", stop_scope=scope)
    second = stage.campaign(first.list, traffic_class="bulk")
    Step.objects.create(campaign=second, position=2, html="<p>2</p>")
    for number in range(2):
        Contact.objects.filter(first_name=f"N{number}").update(email=f"n{number}@{domain}")
    launch.launch(second, now=NOON)
    days.live(NOON)
    message = Message.objects.get(campaign=first, contact__first_name="N0", step__position=1)
    advance.advance(now=NOON + HOUR)
    tell(message, EventType.REPLIED, NOON + HOUR)
    advance.advance(now=NOON + HOUR)
    return {
        f"{one.contact.first_name} {'first' if one.campaign_id == first.pk else 'second'}": one.ended
        for one in Enrollment.objects.select_related("contact")
        if one.ended
    }


@pytest.mark.parametrize(
    ("scope", "domain", "expected"),
    [
        ("campaign", "acme.example", {"N0 first"}),
        ("agency", "acme.example", {"N0 first", "N0 second"}),
        ("company", "acme.example", {"N0 first", "N0 second", "N1 first", "N1 second"}),
        ("company", "gmail.com", {"N0 first", "N0 second"}),
    ],
)
def test_a_stop_reaches_as_far_as_the_campaign_says(
    alpha: Agency, account: Account, scope: str, domain: str, expected: set[str]
) -> None:
    with context.entered(alpha):
        found = scoped(alpha, account, scope, domain)
        assert found == dict.fromkeys(expected, "replied")
        left = {
            f"{one.contact.first_name} {'first' if one.campaign_id == min(found_campaigns()) else 'second'}"
            for one in Message.objects.filter(status="scheduled", step__position=2).select_related("contact")
        }
        assert left == {f"N{n} {which}" for n in (0, 1) for which in ("first", "second")} - expected
        colleague = Message.objects.filter(contact__first_name="N1", status="cancelled").first()
        assert (colleague.detail if colleague else "") == ("n0@acme.example" if "N1 first" in expected else "")


def found_campaigns() -> list[int]:
    return list(Campaign.objects.values_list("pk", flat=True))


def test_what_a_worker_holds_is_not_begun_once_the_contact_has_replied(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        campaign(1, {})
        days.live(NOON + 2 * DAY)
        now = NOON + 3 * DAY
        batch = dispatch.claim_batch(alpha, days.allotment, now=now, limit=9)
        assert len(batch) == 1
        tell(Message.objects.get(status="sent"), EventType.REPLIED, now)
        assert lifecycle.begin(batch, now=now) == set()
        lifecycle.stop(batch)
        held = Message.objects.get(step__position=2)
        assert (held.status, held.reason) == ("cancelled", "replied")
        assert ledgers.used().items() <= ledgers.all_at(1).items()


@pytest.mark.parametrize(("option", "type"), [("reply", EventType.REPLIED), ("bounce", EventType.BOUNCED)])
def test_a_campaign_may_go_on_after_a_reply_or_a_soft_bounce(
    alpha: Agency, days: Days, option: str, type: EventType
) -> None:
    def react(message: Message, now: datetime) -> None:
        more = {"bounce_class": BounceClass.SOFT} if type is EventType.BOUNCED else {}
        tell(message, type, now, **more)

    with context.entered(alpha):
        campaign(1, {}, stop_on=[one for one in ("reply", "bounce", "goal") if one != option])
        days.live(NOON + 4 * DAY, react)
        assert days.steps() == {"a0@people.example": [1, 2]}


@pytest.mark.parametrize(
    ("reader", "url", "ended"),
    [
        (Reader.HUMAN, "https://shop.example/buy?x=1", "goal_reached"),
        (Reader.MACHINE, "https://shop.example/buy?x=1", ""),
        (Reader.UNCLEAR, "https://shop.example/buy?x=1", ""),
        (Reader.HUMAN, "https://shop.example/about", ""),
    ],
)
def test_the_goal_is_reached_by_a_person_on_its_link(
    alpha: Agency, days: Days, reader: Reader, url: str, ended: str
) -> None:
    with context.entered(alpha):
        campaign(1, {}, goal_url="https://shop.example/buy")
        days.live(NOON)
        message = Message.objects.get(status="sent")
        link = Link.objects.create(step=message.step, url=url)
        tell(message, EventType.CLICKED, NOON + HOUR, reader=reader, raw_id=f"{link.pk}.{message.key.hex}.1.{reader}")
        assert Enrollment.objects.get().ended == ended


def test_looking_twice_or_after_a_crash_queues_each_follow_up_once(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        campaign(5, {}, {})
        days.live(NOON)
        for _ in range(2):
            advance.advance(now=NOON + HOUR)
            assert stage.statuses(Campaign.objects.get()) == {"sent": 5, "scheduled": 5}
            # As if whoever looked had been cut off before it was known.
            Enrollment.objects.update(look_at=NOON)
        follow_up = Message.objects.filter(status="scheduled")[0]
        assert (follow_up.reason, follow_up.due_at) == ("step_delay", NOON + 3 * DAY)
        assert follow_up.enrollment.sender is not None


def test_proof_that_a_mail_in_doubt_was_sent_moves_the_sequence_on(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        campaign(1, {})
        (message,) = dispatch.claim_batch(alpha, days.allotment, now=NOON, limit=9)
        lifecycle.begin([message], now=NOON)
        lifecycle.doubt(message, "cut")
        assert advance.advance(now=NOON + HOUR) is None
        tell(Message.objects.get(), EventType.DELIVERED, NOON + HOUR)
        advance.advance(now=NOON + HOUR)
        assert Message.objects.get(step__position=2).due_at == NOON + 3 * DAY


def test_a_suppression_cancels_the_follow_up_with_its_reason(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        campaign(1, {})
        days.live(NOON)
        Suppression.objects.create(value="people.example", source="manual")
        days.live(NOON + 4 * DAY)
        assert days.steps() == {"a0@people.example": [1]}
        assert Message.objects.get(step__position=2).reason == "suppressed"


def test_a_cancelled_campaign_is_not_looked_at_for_ever(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(2, {"condition": "opened"})
        days.live(NOON + HOUR)
        control.cancel(made, now=days.now)
        assert advance.advance(now=NOON + 4 * DAY) is None
        assert stage.statuses(made) == {"sent": 2}


@pytest.mark.parametrize(
    ("guard", "status", "expected"),
    [
        ("campaign", "running", 3),
        ("active", "running", 1),
        ("active", "paused", 1),
        ("active", "finished", 3),
        ("any", "finished", 1),
        ("any", "cancelled", 1),
    ],
)
def test_a_launch_leaves_out_whom_other_campaigns_have(
    alpha: Agency, account: Account, guard: str, status: str, expected: int
) -> None:
    with context.entered(alpha):
        first = campaign(2)
        Campaign.objects.filter(pk=first.pk).update(status=status)
        other = stage.contact_list("b", 1)
        Subscription.objects.bulk_create(
            [Subscription(list=other, contact=one.contact) for one in first.enrollments.select_related("contact")]
        )
        second = stage.campaign(other, traffic_class="bulk", duplicates=guard)
        assert draft.size(second) == expected
        assert launch.launch(second, now=NOON).total == expected


def test_who_comes_into_the_list_later_joins_once(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(2, {})
        days.live(NOON + 2 * HOUR)
        newcomer = Contact.objects.create(email="new@people.example", first_name="N9")
        Subscription.objects.create(list=made.list, contact=newcomer)
        assert launch.join(made, now=days.now).total == 1
        with pytest.raises(launch.LaunchRefusedError, match="does not have already"):
            launch.join(made, now=days.now)
        with pytest.raises(IntegrityError, match="a_contact_enters_a_campaign_once"), transaction.atomic():
            Enrollment.objects.create(campaign=made, contact=newcomer)
        days.live(NOON + 4 * DAY)
        assert {who: tuple(steps) for who, steps in days.steps().items()} == dict.fromkeys(
            ["a0@people.example", "a1@people.example", "new@people.example"], (1, 2)
        )
        control.finish_done(now=days.now)
        with pytest.raises(launch.LaunchRefusedError, match="runs or is paused"):
            launch.join(made, now=days.now)


def test_a_forecast_has_the_follow_ups_in_it(alpha: Agency, account: Account) -> None:
    """As if nobody stopped: on the day on which each is due."""
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 20), traffic_class="bulk")
        Step.objects.create(campaign=made, position=2, html="<p>2</p>", delay=2, unit="days")
        Step.objects.create(campaign=made, position=3, html="<p>3</p>", delay=3, unit="working_days")
        foreseen = forecast.forecast(made, now=NOON)
        assert foreseen.mails == 60
        days = {day.day - NOON.date(): day.total for day in foreseen.days if day.total}
        # Thursday and three working days later: Tuesday.
        assert days == {0 * DAY: 20, 2 * DAY: 20, 7 * DAY: 20}
        assert foreseen.days[-1].left == 0
        # Of a running one too.
        launch.launch(made, now=NOON)
        assert forecast.forecast(made, now=NOON).mails == 60
        Days(alpha, account).live(NOON + HOUR)
        assert forecast.forecast(made, now=NOON + 2 * HOUR).mails == 40


def test_a_changed_subject_leaves_the_threads_of_what_was_sent_alone(alpha: Agency, days: Days) -> None:
    with context.entered(alpha):
        made = campaign(4, {}, {"delay": 4, "unit": "days"})
        days.live(NOON + DAY)
        first, *later = changes.steps_of(made)
        changes.change(made, [replace(first, subject="{New|Newer} for {{ first_name }}"), *later], now=NOON + DAY)
        days.live(NOON + 9 * DAY)
        assert len(days.envelopes) == 4
        for mail, *rest in days.envelopes.values():
            assert rest
            assert not mail.subject.startswith("New")
            assert {one.subject for one in rest} == {f"Re: {mail.subject}"}
            assert rest[0].headers["In-Reply-To"] == mail.message_id
