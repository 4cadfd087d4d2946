"""A worker serves agency after agency, gives way where others wait, and loses no turn."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from campaigns import dispatch, hooks, jobs, launch
from campaigns.audit import audit_quota
from campaigns.dispatch import BATCH
from campaigns.models import Campaign, Message
from providers.accounts import turns
from providers.accounts.models import Account, Served, Turn
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tests import stage


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> dict[str, Account]:
    found = stage.accounts(sandbox)
    for agency in (alpha, beta):
        stage.allot(agency, *found.values(), senders=10, per_day=1000)
    return found


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What workers were asked for."""
    found: list[object] = []
    monkeypatch.setattr(jobs.jobs, "enqueue", found.append)
    return found


def queue(agency: Agency, count: int, **fields: str) -> Campaign:
    with context.entered(agency):
        made = stage.campaign(stage.contact_list("list", count), **{"traffic_class": "bulk", **fields})
        launch.launch(made, now=timezone.now())
        jobs.ring()
    return made


def waiting() -> set[tuple[str, str]]:
    return set(Turn.objects.values_list("agency__slug", "account__name"))


def statuses(agency: Agency) -> list[str]:
    with context.entered(agency):
        return sorted(set(Message.objects.values_list("status", flat=True)))


def test_one_worker_serves_whoever_waits(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], rung: list[object]
) -> None:
    queue(alpha, 6, distribution="even")
    queue(beta, 6)
    with context.entered(alpha):
        hooks.create("http://127.0.0.1:9/", now=timezone.now())
    assert waiting() == {("alpha", "resend"), ("alpha", "sendgrid"), ("alpha", "smtp"), ("beta", "smtp")}
    assert rung == [jobs.serve] * 4

    jobs.serve()

    assert statuses(alpha) == statuses(beta) == ["sent"]
    # Of the agency that wants to know, somebody is told what left.
    assert (waiting(), rung) == (set(), [*[jobs.serve] * 4, jobs.post_told])
    for agency in (alpha, beta):
        with context.entered(agency):
            assert Campaign.objects.get().status == "finished"
    paid = {row.agency_id: row.until - row.began for row in Served.objects.all()}
    assert all(0 < seconds < 1 for seconds in paid.values()), "what was not used of a turn is given back"


def test_a_turn_ends_between_two_batches_where_others_wait(
    alpha: Agency, accounts: dict[str, Account], rung: list[object]
) -> None:
    queue(alpha, BATCH + 5)
    asked = []

    def interrupted(now: object) -> bool:
        asked.append(now)
        return len(asked) == 2

    with context.entered(alpha):
        until = timezone.now() + timedelta(seconds=15)
        done = dispatch.drain(accounts["smtp"].pk, clock=timezone.now, until=until, interrupted=interrupted)
        assert (done.sent, done.out_of_time) == (BATCH, True)
        assert Message.objects.filter(status="scheduled").count() == 5
        assert dispatch.drain(accounts["smtp"].pk, clock=timezone.now, until=until).sent == 5


def test_who_gives_way_waits_again_and_is_served_again(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], rung: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SLICE", timedelta())
    queue(alpha, 2 * BATCH)
    queue(beta, 3)
    order: list[str] = []
    drain = dispatch.drain

    def noticed(*arguments: object, **named: object) -> dispatch.Drained:
        order.append(context.current_agency().slug)
        return drain(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatch, "drain", noticed)
    jobs.serve()
    assert order[:2] == ["alpha", "beta"]
    assert order.count("alpha") > 1
    assert statuses(alpha) == statuses(beta) == ["sent"]
    assert waiting() == set()


def test_a_worker_whose_time_is_over_asks_for_another_and_keeps_the_turn(
    alpha: Agency, accounts: dict[str, Account], rung: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(alpha, 5)
    monkeypatch.setattr(dispatch, "drain", lambda *_, **__: dispatch.Drained(out_of_time=True))
    rung.clear()
    monkeypatch.setattr(jobs.settings, "DRAIN_SECONDS", 0.2)
    jobs.serve()
    assert (waiting(), rung) == ({("alpha", "smtp")}, [jobs.serve])


def test_what_moves_to_another_account_is_rung_for_there(
    alpha: Agency, accounts: dict[str, Account], rung: list[object]
) -> None:
    Account.objects.filter(name="smtp").update(per_day=0)
    queue(alpha, 3)
    rung.clear()
    jobs.serve()
    assert statuses(alpha) == ["sent"]
    assert set(rung) == {jobs.serve}


def test_a_turn_that_breaks_is_paid_for_and_comes_back_with_the_minutes_work(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], rung: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(alpha, 3)
    queue(beta, 3)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "drain", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            jobs.serve()
    assert waiting() == {("beta", "smtp")}, "the other's turn has a doorbell of its own"
    assert Served.objects.get().agency == alpha
    jobs.tick()
    assert waiting() == {("alpha", "smtp"), ("beta", "smtp")}
    jobs.serve()
    assert statuses(alpha) == statuses(beta) == ["sent"]


@pytest.mark.parametrize(("queued", "expected"), [(0, 2), (1, 1), (2, 1), (9, 1)])
def test_doorbells_that_were_lost_are_replaced(
    alpha: Agency,
    beta: Agency,
    accounts: dict[str, Account],
    rung: list[object],
    monkeypatch: pytest.MonkeyPatch,
    queued: int,
    expected: int,
) -> None:
    queue(alpha, 3)
    queue(beta, 3)
    rung.clear()
    monkeypatch.setattr(jobs.jobs, "waiting", lambda: queued)
    jobs.tick()
    assert rung == [jobs.serve] * expected


def test_no_doorbell_is_rung_where_nobody_waits(alpha: Agency, rung: list[object]) -> None:
    jobs.tick()
    assert rung == []


def test_workers_share_an_accounts_rate_by_the_weight_of_agencies(
    committed: dict[str, Agency], sandbox: Sandbox, rung: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SLICE", timedelta(seconds=0.2))
    monkeypatch.setattr(jobs.settings, "DRAIN_SECONDS", 5)
    account = stage.accounts(sandbox, smtp={"per_second": Decimal(40)})["smtp"]
    Agency.objects.filter(slug="beta").update(weight=3)
    try:
        for agency in committed.values():
            stage.allot(agency, account, senders=10, per_day=1000)
            queue(agency, 300)

        def worker() -> None:
            jobs.serve()
            connection.close()

        workers = [threading.Thread(target=worker) for _ in range(2)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
    finally:
        Agency.objects.update(weight=1)
    sent = {}
    for slug, agency in committed.items():
        with context.entered(agency):
            sent[slug] = Message.objects.filter(status="sent").count()
    assert 30 < sum(sent.values()) < 300, "the rate was never what kept them"
    assert 0.65 < sent["beta"] / sum(sent.values()) < 0.85


def test_a_worker_that_other_jobs_wait_for_goes_back_to_the_end_of_their_queue(
    alpha: Agency,
    beta: Agency,
    accounts: dict[str, Account],
    rung: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue(alpha, 3)
    queue(beta, 3)
    rung.clear()
    monkeypatch.setattr(turns, "LEAST", timedelta())
    monkeypatch.setattr(jobs.jobs, "crowded", lambda _: len(Turn.objects.all()) < 2)
    jobs.serve()
    assert (len(waiting()), rung) == (1, [jobs.serve])


def test_only_other_jobs_want_a_worker_back(committed: dict[str, Agency]) -> None:
    jobs.jobs.enqueue(jobs.serve)
    assert not jobs.jobs.crowded(jobs.serve)
    jobs.jobs.enqueue(jobs.tick)
    assert jobs.jobs.crowded(jobs.serve)
    # A worker has it; later it must have ended, or its worker has.
    OrmQ.objects.update(lock=timezone.now() + timedelta(seconds=600))
    assert jobs.jobs.crowded(jobs.serve)
    OrmQ.objects.update(lock=timezone.now() + timedelta(seconds=500))
    assert not jobs.jobs.crowded(jobs.serve)


def slowed(alpha: Agency, sandbox: Sandbox) -> Account:
    """An account at which a mail takes a tenth of a second or more, one after the other."""
    sandbox.script("smtp=slow:0.05")
    found = stage.accounts(sandbox)["smtp"]
    found.options["connections"] = 1
    found.save(update_fields=["options"])
    stage.allot(alpha, found, senders=10, per_day=1000)
    return found


def test_at_a_slow_wire_a_turn_ends_within_a_batch_and_gives_the_rest_back(alpha: Agency, rung: list[object]) -> None:
    with Sandbox() as sandbox:
        account = slowed(alpha, sandbox)
        campaign = queue(alpha, 60)
        with context.entered(alpha):
            until = timezone.now() + timedelta(seconds=60)
            over: list[bool] = []

            def interrupted(now: datetime) -> bool:
                over.append(Message.objects.filter(status="sent").exists())
                return over[-1]

            done = dispatch.drain(account.pk, clock=timezone.now, until=until, interrupted=interrupted)
            assert done.out_of_time
            assert 0 < done.sent < 30
            assert stage.statuses(campaign) == {"sent": done.sent, "scheduled": 60 - done.sent}
    assert audit_quota().drifts == []
