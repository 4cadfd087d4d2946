"""What a drain does when something changes or goes wrong under its hands."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine

from campaigns import audit, control, delivery, dispatch, envelopes, jobs, launch, lifecycle, progress
from campaigns.due import Due
from campaigns.envelopes import Envelopes
from campaigns.models import Campaign, Contact, Enrollment, Message
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.adapters.anymail import AnymailWire
from providers.accounts.errors import Unsure
from providers.accounts.models import Account, Allotment, Turn
from providers.sandbox.service import Sandbox
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

UNTIL = NOON + timedelta(seconds=15)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> Iterator[dict[str, Account]]:
    """All three accounts, used by both; Beta's queue must be as it was in the end."""
    found = stage.accounts(sandbox)
    stage.allot(alpha, *found.values())
    stage.allot(beta, *found.values())
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 3), traffic_class="bulk"), now=NOON)
    yield found
    with context.entered(beta):
        assert set(Message.objects.values_list("status", "account")) == {("scheduled", found["smtp"].pk)}
    assert audit.audit_quota().drifts == []


def queue(count: int, **fields: str) -> Campaign:
    """A running campaign of so many mails, in the agency entered now; through SMTP unless another class is given."""
    campaign = stage.campaign(stage.contact_list("a", count), **{"traffic_class": "bulk", **fields})
    launch.launch(campaign, now=NOON)
    return campaign


def drain(account: Account, now: datetime = NOON) -> dispatch.Drained:
    return dispatch.drain(account.pk, clock=lambda: now, until=now + timedelta(seconds=15))


def claim(agency: Agency, account: Account, limit: int = 50) -> list[lifecycle.Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    return dispatch.claim_batch(agency, allotment, now=NOON, limit=limit)


def run(agency: Agency, account: Account, batch: list[lifecycle.Claimed], clock: Callable[[], datetime]) -> int:
    """Deliver a batch that was claimed before."""
    with delivery.Lines(account) as lines:
        sending = delivery.Delivery(agency, account, lines, clock, until=UNTIL)
        return sending.run(delivery.Batch(batch), lambda: None)


@pytest.mark.parametrize("change", ["disabled", "no allotment", "of another agency"])
def test_an_account_that_is_taken_away_gets_no_further_batch(
    alpha: Agency,
    beta: Agency,
    accounts: dict[str, Account],
    sandbox: Sandbox,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smtp = accounts["smtp"]

    def take_away(self: delivery.Delivery, *of: Any) -> int:
        match change:
            case "disabled":
                Account.objects.filter(pk=smtp.pk).update(enabled=False)
            case "no allotment":
                Allotment.objects.filter(agency=alpha, account=smtp).delete()
            case _:
                Account.objects.filter(pk=smtp.pk).update(owner=beta)
        return deliver(self, *of)

    deliver = delivery.Delivery.run
    monkeypatch.setattr(delivery.Delivery, "run", take_away)
    monkeypatch.setattr(dispatch, "BATCH", 5)
    with context.entered(alpha):
        campaign = queue(20)
        result = drain(smtp)
        assert result.sent == 5
        assert stage.statuses(campaign) == {"sent": 5, "scheduled": 15}
        # Its load goes to the others at once.
        assert result.moved_to == {accounts["resend"].pk, accounts["sendgrid"].pk}
        assert drain(smtp).sent == 0
    assert sandbox.snapshot()["duplicates"] == 0


def test_a_drain_ends_in_time_and_gives_back_what_it_did_not_begin(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    ticks = iter([NOON, NOON] + [NOON + timedelta(seconds=7 * tick) for tick in range(99)])
    with context.entered(alpha):
        campaign = queue(40)
        result = dispatch.drain(accounts["smtp"].pk, clock=lambda: next(ticks), until=UNTIL)
        found = stage.statuses(campaign)
        assert result.out_of_time
        assert 0 < result.sent == found["sent"] < 40
        assert found["sent"] + found["scheduled"] == 40


def test_a_campaign_cancelled_in_mid_batch_sends_no_more(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    with context.entered(alpha):
        campaign = queue(10)
        batch = claim(alpha, accounts["smtp"])
        control.cancel(campaign, now=NOON)
        assert run(alpha, accounts["smtp"], batch, lambda: NOON) == 0
        assert stage.statuses(campaign) == {"cancelled": 10}
    assert sandbox.snapshot()["distinct_recipients"] == 0


def test_a_campaign_paused_in_mid_batch_goes_on_when_it_is_resumed(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    with context.entered(alpha):
        campaign = queue(10)
        batch = claim(alpha, accounts["smtp"], 6)
        control.pause(campaign)
        assert run(alpha, accounts["smtp"], batch, lambda: NOON) == 0
        assert drain(accounts["smtp"]).sent == 0
        assert stage.statuses(campaign) == {"scheduled": 10}
        control.resume(campaign, now=NOON)
        assert drain(accounts["smtp"]).sent == 10
    assert sandbox.snapshot()["duplicates"] == 0


def test_one_bad_text_or_contact_holds_its_own_mail_alone(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    with context.entered(alpha):
        campaign = queue(6)
        people = list(Contact.objects.order_by("pk"))
        Contact.objects.filter(pk=people[0].pk).update(attributes=["no", "table"])
        Contact.objects.filter(pk=people[1].pk).update(email="two@a.example,three@b.example")
        Contact.objects.filter(pk=people[2].pk).update(first_name="A\r\nBcc: oscar@beta.test")
        drain(accounts["smtp"])
        assert stage.statuses(campaign) == {"sent": 4, "held": 2}
        assert {message.reason for message in Message.objects.filter(status="held")} == {Reason.NOT_RENDERED}
        campaign.steps.update(html="{% for x in y %}")
        launch_again = stage.campaign(stage.contact_list("c", 2), traffic_class="bulk")
        launch.launch(launch_again, now=NOON)
        launch_again.steps.update(html="{% for x in y %}{% endfor %}")
        drain(accounts["smtp"])
        assert stage.statuses(launch_again) == {"held": 2}


def test_a_contact_without_a_value_that_the_text_needs_is_held_for_it(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    with context.entered(alpha):
        people = stage.contact_list("c", 4)
        first, second, third, _fourth = Contact.objects.order_by("pk")
        Contact.objects.exclude(pk__in=[first.pk, second.pk]).update(company="Acme")
        Contact.objects.filter(pk=second.pk).update(company="  ")
        Contact.objects.filter(pk=third.pk).update(attributes={"city": None})
        campaign = stage.campaign(
            people, html="<p>{{ company }} in {{ city | default: 'town' }}</p>", traffic_class="bulk"
        )
        launch.launch(campaign, now=NOON)
        drain(accounts["smtp"])
        held = Message.objects.filter(status="held").order_by("contact")
        assert list(held.values_list("contact", "reason", "detail")) == [
            (one.pk, Reason.MISSING_VALUE, "missing company") for one in (first, second)
        ]
        assert stage.statuses(campaign) == {"sent": 2, "held": 2}
    assert sandbox.snapshot()["distinct_recipients"] == 2


def test_a_mail_that_is_tried_again_chooses_as_before_and_others_choose_anew(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    with context.entered(alpha):
        campaign = stage.campaign(
            stage.contact_list("c", 20), html="<p>" + "{a|b|c|d}" * 30 + "</p>", traffic_class="bulk"
        )
        launch.launch(campaign, now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=accounts["smtp"])
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=20)
        made, again = Envelopes(alpha), Envelopes(alpha)
        made.prepare(batch)
        bodies = [made.of(message) for message in batch]
        envelopes._ready.cache_clear()
        again.prepare(batch)
        assert [again.of(message) for message in batch] == bodies
        assert len({one.text.splitlines()[0] for one in bodies}) == 20
        lifecycle.release(batch)


@pytest.mark.parametrize(("name", "traffic_class"), [("smtp", "bulk"), ("sendgrid", "newsletters")])
def test_an_account_that_loses_every_answer_is_closed_before_all_is_in_doubt(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, name: str, traffic_class: str
) -> None:
    """P6 and P1: lost answers open the breaker, and only what was never on its wire goes elsewhere."""
    sandbox.script(f"{name}=lost_answers:1")
    with context.entered(alpha):
        campaign = queue(100, traffic_class=traffic_class)
        drain(accounts[name])
        doubted = stage.statuses(campaign)["unknown"]
        assert health.BREAKS_AFTER <= doubted <= health.BREAKS_AFTER + delivery.IN_FLIGHT
        assert not health.of(accounts[name].pk).open(NOON)
        for _ in range(3):
            for account in accounts.values():
                drain(account)
        assert stage.statuses(campaign) == {"unknown": doubted, "sent": 100 - doubted}
    assert sandbox.snapshot()["duplicates"] == 0


@pytest.mark.parametrize(("pause", "sent"), [(0.2, 3), (60, 0)])
def test_a_clock_that_stands_still_makes_no_drain_wait_for_ever(
    alpha: Agency, accounts: dict[str, Account], pause: float, sent: int
) -> None:
    """The account asked for a short pause, which is over although no clock says so, or for one beyond the drain."""
    health.throttled(accounts["smtp"].pk, pause, "too fast", now=NOON)
    with context.entered(alpha):
        queue(3)
        assert drain(accounts["smtp"]).sent == sent


@pytest.mark.parametrize("connections", [None, "many", 0, -3, 2.5, 10**9, True])
def test_a_number_of_connections_that_is_none_is_no_dead_end(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, connections: object
) -> None:
    smtp = accounts["smtp"]
    smtp.options["connections"] = connections
    Account.objects.filter(pk=smtp.pk).update(options=smtp.options)
    with context.entered(alpha):
        campaign = queue(3)
        drain(smtp)
        state = health.of(smtp.pk)
        if state.blocked:
            assert "connections" in state.detail
            for account in accounts.values():
                drain(account)
        assert stage.statuses(campaign) == {"sent": 3}


def test_a_mail_that_was_refused_rings_for_its_next_account(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    sandbox.script("smtp=down")
    with context.entered(alpha):
        queue(3)
        assert drain(accounts["smtp"]).moved_to == {accounts["resend"].pk}
        assert drain(accounts["resend"]).sent == 3
        assert [message.refused_by for message in Message.objects.all()] == [[accounts["smtp"].pk]] * 3


# --- threads: a contact that has heard from a sender hears from no other


def in_thread(account: Account) -> tuple[Message, Sender]:
    """Make the one message of the campaign a follow-up of the account's last sender in the rotation."""
    message = Message.objects.get()
    sender = Sender.objects.filter(account=account).latest("pk")
    Enrollment.objects.filter(pk=message.enrollment_id).update(sender=sender)
    return message, sender


def test_a_thread_is_found_however_many_other_senders_are_free(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "BATCH", 1)
    with context.entered(alpha):
        queue(1)
        message, sender = in_thread(accounts["smtp"])
        assert drain(accounts["smtp"]).sent == 1
        message.refresh_from_db()
        assert message.sender == sender


def test_a_broken_account_is_tried_with_a_thread_too(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    with context.entered(alpha):
        queue(1)
        in_thread(accounts["smtp"])
        for _ in range(health.BREAKS_AFTER):
            health.refused(accounts["smtp"].pk, "down", now=NOON - timedelta(minutes=2))
        assert drain(accounts["smtp"]).sent == 1
        assert not health.broken(health.of(accounts["smtp"].pk))


def test_an_account_that_was_broken_is_tried_with_a_single_mail(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    """P6: its minute is over, and it is still down; or it works again, and is filled without a burst."""
    sandbox.script("smtp=down")
    with context.entered(alpha):
        campaign = queue(10)
        for _ in range(health.BREAKS_AFTER):
            health.refused(accounts["smtp"].pk, "down", now=NOON - timedelta(minutes=2))
        drain(accounts["smtp"])
        assert Message.objects.exclude(refused_by=[]).count() == 1
        assert not health.of(accounts["smtp"].pk).open(NOON)
        Message.objects.update(account=accounts["smtp"], refused_by=[])
        sandbox.heal()
        assert drain(accounts["smtp"], NOON + timedelta(minutes=2)).sent == 1
        # From then on it is filled gradually.
        room = health.room(health.of(accounts["smtp"].pk), dispatch.BATCH, now=NOON + timedelta(minutes=3))
        assert room < dispatch.BATCH
        assert drain(accounts["smtp"], NOON + timedelta(minutes=3)).sent == min(room, 9)
        drain(accounts["smtp"], NOON + timedelta(minutes=8))
        assert stage.statuses(campaign) == {"sent": 10}


def test_a_thread_waits_for_its_sender_when_the_account_refuses(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    sandbox.script("smtp=down")
    with context.entered(alpha):
        campaign = queue(1)
        message, sender = in_thread(accounts["smtp"])
        drain(accounts["smtp"])
        message.refresh_from_db()
        assert (message.status, message.account) == ("scheduled", accounts["smtp"])
        assert message.due_at == NOON + timedelta(hours=1)
        sandbox.heal()
        drain(accounts["smtp"], NOON + timedelta(hours=2))
        message.refresh_from_db()
        assert (message.status, message.sender) == ("sent", sender)
        assert stage.statuses(campaign) == {"sent": 1}


# --- the minute's job


def test_what_is_wrong_with_one_agency_stops_no_other(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []

    def ring(*, now: datetime) -> Due:
        rung.append(context.current_agency().slug)
        if rung[-1] == "alpha":
            raise ValueError("something of Alpha's")
        return Due([], None)

    monkeypatch.setattr(jobs, "ring", ring)
    with time_machine.travel(NOON, tick=False):
        with pytest.raises(RuntimeError, match="alpha"):
            jobs.tick()
        assert rung == ["alpha", "beta"]
        with pytest.raises(RuntimeError, match="alpha"):
            jobs.tick()
    assert rung == ["alpha", "beta", "alpha"], "what failed is tried again, what is done is not"


def asked() -> set[tuple[str, str]]:
    """Whose turns wait, and where."""
    return set(Turn.objects.values_list("agency__slug", "account__name"))


def test_every_account_with_something_due_is_rung_for(
    alpha: Agency, accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[object, ...]] = []
    monkeypatch.setattr(jobs.jobs, "enqueue", lambda *args: rung.append(args))
    with context.entered(alpha):
        queue(6, distribution="even")
        Message.objects.update(due_at=NOON - timedelta(days=365))
        Message.objects.filter(account=accounts["resend"]).update(due_at=NOON + timedelta(days=3650))
        assert jobs.ring().accounts == [accounts["sendgrid"].pk, accounts["smtp"].pk]
        assert jobs.ring().accounts == [accounts["sendgrid"].pk, accounts["smtp"].pk]
    assert rung == [(jobs.serve,), (jobs.serve,)], "a worker for each, and none for what waits already"
    assert asked() == {("alpha", "sendgrid"), ("alpha", "smtp")}


def test_the_wires_and_threads_of_a_batch_that_breaks_are_closed(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the database is gone")

    with context.entered(alpha):
        campaign = queue(10)
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "sent", broken)
            with pytest.raises(RuntimeError, match="database is gone"):
                drain(accounts["smtp"])
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("smtp_")]
        found = stage.statuses(campaign)
        assert set(found) == {"claimed"}
        back, doubted = lifecycle.rescue(now=NOON + timedelta(minutes=6))
        assert back + doubted == 10
        assert doubted >= 1
        later = NOON + timedelta(minutes=7)
        for _ in range(10):
            drain(accounts["smtp"], later)
        assert stage.statuses(campaign) == {"unknown": doubted, "sent": back}
        report = progress.progress(campaign, now=later)
        assert report.total == report.sent + sum(one.count for one in report.reasons)
    assert sandbox.snapshot()["duplicates"] == 0


class TestOneRequestForMany:
    """Resend takes up to a hundred mails in one request."""

    @pytest.fixture
    def resend(self, accounts: dict[str, Account]) -> Account:
        return accounts["resend"]

    def test_a_claim_is_a_request(self, alpha: Agency, resend: Account, sandbox: Sandbox) -> None:
        with context.entered(alpha):
            campaign = queue(dispatch.BATCH + 40, traffic_class="high_priority")
            assert drain(resend).sent == dispatch.BATCH + 40
            assert stage.statuses(campaign) == {"sent": dispatch.BATCH + 40}
            assert set(campaign.messages.values_list("together", flat=True)) == {dispatch.BATCH, 40}
            assert campaign.messages.exclude(provider_id="").distinct("provider_id").count() == dispatch.BATCH + 40
        seen = sandbox.snapshot()
        assert (seen["requests"]["resend"], seen["duplicates"]) == (2, 0)

    def test_a_lost_answer_is_asked_for_again_as_a_whole(
        self, alpha: Agency, resend: Account, sandbox: Sandbox
    ) -> None:
        """P1: under any other key or in any other company, every mail of it would go twice."""
        sandbox.script("resend=lost_answers:1")
        with context.entered(alpha):
            campaign = queue(30, traffic_class="high_priority")
            drain(resend)
            assert stage.statuses(campaign) == {"sent": 30}
        seen = sandbox.snapshot()
        assert (seen["distinct_recipients"], seen["duplicates"]) == (30, 0)

    def test_a_request_that_stays_in_doubt_closes_the_account(
        self, alpha: Agency, resend: Account, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cut(*_: object) -> None:
            raise Unsure("cut")

        monkeypatch.setattr(AnymailWire, "send_together", cut)
        with context.entered(alpha):
            campaign = queue(dispatch.BATCH * 3, traffic_class="high_priority")
            drain(resend)
            assert stage.statuses(campaign)["unknown"] == dispatch.BATCH
            assert not health.of(resend.pk).open(NOON)
        assert sandbox.snapshot()["duplicates"] == 0

    def test_one_that_is_refused_does_not_hold_up_the_others(
        self, alpha: Agency, resend: Account, sandbox: Sandbox
    ) -> None:
        with context.entered(alpha):
            campaign = queue(10, traffic_class="high_priority")
            sandbox.script("resend=refuse:a3")
            drain(resend)
            assert stage.statuses(campaign) == {"sent": 9, "failed": 1}
            assert campaign.messages.get(status="failed").contact.email == "a3@people.example"

    def test_a_request_that_is_refused_as_a_whole_goes_elsewhere_and_counts_once(
        self, alpha: Agency, resend: Account, sandbox: Sandbox
    ) -> None:
        sandbox.script("resend=down")
        with context.entered(alpha):
            campaign = queue(10, traffic_class="high_priority")
            result = drain(resend)
            assert health.of(resend.pk).refusals == 1
            assert stage.statuses(campaign) == {"scheduled": 10}
            assert result.moved_to
            assert not campaign.messages.filter(account=resend).exists()


@pytest.mark.parametrize(
    ("kind", "options", "seconds", "spread"),
    [
        ("smtp", {}, 0.0002, (2, 12)),
        ("smtp", {}, 0.02, (12, 2)),
        ("smtp", {"connections": 4}, 0.02, (4, 6)),
        ("smtp", {"connections": 1}, 0.1, (1, 2)),
        ("smtp", {"connections": 1}, 1, (1, 1)),
        ("sendgrid", {}, 0.05, (24, 1)),
        ("sendgrid", {"connections": 2}, 0.05, (2, 1)),
        ("resend", {}, 0.05, (1, 100)),
    ],
)
def test_mails_in_flight_are_spread_over_lines_by_the_pace_of_the_account(
    kind: str, options: dict[str, int], seconds: float, spread: tuple[int, int]
) -> None:
    """How many lines, and how many mails each gets at a time."""
    with delivery.Lines(Account(name="one", kind=kind, options=options)) as lines:
        lines._pace = seconds
        assert (lines.count, lines.handful) == spread
