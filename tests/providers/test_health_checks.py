"""P6: every account is asked through its real interface; what it says closes it, opens it, and is kept."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from campaigns import dispatch, failover, jobs, launch
from campaigns.models import Message
from providers.accounts import checkup, health
from providers.accounts.models import Account, Health, HealthCheck, Turn
from providers.sandbox import SMTP_PASSWORD
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON

FIVE = timedelta(minutes=5)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    return running


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> dict[str, Account]:
    found = stage.accounts(sandbox)
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    return found


def check(number: int = 0) -> checkup.Checkup:
    return checkup.check_all(now=NOON + number * FIVE)


def change_key(account: Account, **credentials: str) -> None:
    account.credentials = credentials
    account.save()


def test_accounts_that_answer_stay_open_and_every_answer_is_kept(accounts: dict[str, Account]) -> None:
    assert check() == checkup.Checkup()
    assert set(HealthCheck.objects.values_list("account__name", "at", "ok", "detail")) == {
        (name, NOON, True, "") for name in accounts
    }
    assert all(health.of(account.pk).open(NOON) for account in accounts.values())


def test_two_failures_in_a_row_close_an_account_and_a_success_opens_it(
    accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    pk = accounts["resend"].pk
    sandbox.script("resend=down")
    assert check(0) == checkup.Checkup()
    sandbox.heal()
    assert check(1) == checkup.Checkup()
    sandbox.script("resend=down")
    assert check(2) == checkup.Checkup()
    assert check(3) == checkup.Checkup(closed=[pk])
    assert "503" in health.of(pk).detail
    # Still down: it is closed already, and stays so.
    assert check(4) == checkup.Checkup()
    assert not health.of(pk).open(NOON + 5 * FIVE)
    sandbox.heal()
    assert check(5) == checkup.Checkup(opened=[pk])
    assert health.of(pk).open(NOON + 5 * FIVE)
    assert not health.broken(health.of(pk))


@pytest.mark.parametrize("other", ["sendgrid", "smtp"])
def test_the_others_are_asked_the_same_way(accounts: dict[str, Account], sandbox: Sandbox, other: str) -> None:
    sandbox.script(f"{other}=down")
    check(0)
    assert check(1) == checkup.Checkup(closed=[accounts[other].pk])


@pytest.mark.parametrize(
    ("name", "credentials", "setting"),
    [
        ("resend", {"api_key": "re_wrong"}, "api_key"),
        ("resend", {}, "api_key"),
        ("sendgrid", {"api_key": "SG.wrong"}, "api_key"),
        ("smtp", {"username": "someone", "password": "hunter2-wrong"}, "password"),
    ],
)
def test_a_clear_refusal_blocks_at_once_names_the_setting_and_ends_when_it_is_right(
    accounts: dict[str, Account], name: str, credentials: dict[str, str], setting: str
) -> None:
    account = accounts[name]
    right = account.credentials
    change_key(account, **credentials)
    assert check(0).closed == [account.pk]
    state = health.of(account.pk)
    assert state.blocked
    assert setting in state.detail
    kept = HealthCheck.objects.get(account=account)
    assert setting in kept.detail
    assert not any(secret and secret in kept.detail + state.detail for secret in credentials.values())
    assert check(1) == checkup.Checkup()
    change_key(account, **right)
    assert check(2).opened == [account.pk]
    assert health.of(account.pk).open(NOON)


def test_what_sending_has_blocked_is_not_opened_by_a_check(accounts: dict[str, Account]) -> None:
    """A suspended account still answers reads: only a person can say that it is well."""
    pk = accounts["resend"].pk
    health.block(pk, "suspended", now=NOON)
    assert check() == checkup.Checkup()
    assert health.of(pk).blocked
    # Nor when a check had found it out as well.
    health.unanswered(pk, "suspended", clear=True, now=NOON)
    assert not health.answered(pk, now=NOON)
    assert health.of(pk).blocked


def test_a_breaker_is_not_closed_by_a_check_but_by_a_mail(accounts: dict[str, Account]) -> None:
    pk = accounts["resend"].pk
    for _ in range(health.BREAKS_AFTER):
        health.refused(pk, "refused", now=NOON)
    assert check() == checkup.Checkup()
    assert health.broken(health.of(pk))


def test_sending_ends_what_checks_found(accounts: dict[str, Account]) -> None:
    pk = accounts["resend"].pk
    for _ in range(health.CHECKS_FAIL):
        health.unanswered(pk, "no connection", clear=False, now=NOON)
    assert health.room(health.of(pk), 100, now=NOON + health.CHECK_HOLDS) == 1
    assert health.of(pk).open(NOON + health.CHECK_HOLDS)
    health.worked(pk, now=NOON + health.CHECK_HOLDS)
    assert not health.broken(health.of(pk))


def test_a_job_that_comes_twice_is_one_check(accounts: dict[str, Account], sandbox: Sandbox) -> None:
    sandbox.script("smtp=down")
    check()
    assert checkup.check_all(now=NOON + timedelta(seconds=1)) == checkup.Checkup()
    assert HealthCheck.objects.count() == 3


def test_checks_are_kept_for_thirty_days(accounts: dict[str, Account]) -> None:
    check()
    checkup.check_all(now=NOON + checkup.KEPT)
    assert HealthCheck.objects.count() == 6
    checkup.check_all(now=NOON + checkup.KEPT + FIVE)
    assert HealthCheck.objects.count() == 6


def test_accounts_not_in_use_are_not_asked(accounts: dict[str, Account]) -> None:
    Account.objects.filter(name="smtp").update(enabled=False)
    check()
    assert not HealthCheck.objects.filter(account__name="smtp").exists()


@contextmanager
def silence() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield listening.getsockname()[1]


def test_one_that_never_answers_holds_nobody_up(accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "ALL_WITHIN_SECONDS", 0.5)
    with silence() as port:
        smtp = accounts["smtp"]
        smtp.options["port"] = port
        smtp.save()
        check()
        kept = HealthCheck.objects.get(account=smtp)
        assert (kept.ok, kept.detail) == (False, "no answer within 0.5 seconds")
        assert HealthCheck.objects.filter(ok=True).count() == 2


def test_the_password_is_never_kept(accounts: dict[str, Account]) -> None:
    change_key(accounts["smtp"], username="wrong", password=SMTP_PASSWORD)
    check()
    with connection.cursor() as cursor:
        cursor.execute("SELECT h.*, c.* FROM accounts_health h, accounts_healthcheck c")
        assert SMTP_PASSWORD not in str(cursor.fetchall())


# --- what is due moves away, and comes back gradually


def where() -> dict[str, int]:
    found: dict[str, int] = {}
    for name in Message.objects.filter(status="scheduled").values_list("account__name", flat=True):
        found[name] = found.get(name, 0) + 1
    return found


def test_when_an_account_goes_down_every_agencys_due_mails_are_spread_by_what_is_free(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[object] = []
    monkeypatch.setattr("tenants.jobs.enqueue", rung.append)
    Account.objects.filter(name="resend").update(per_day=50)
    for agency in (alpha, beta):
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("a", 25), traffic_class="bulk"), now=timezone.now())
    change_key(accounts["smtp"], username="wrong", password="wrong")
    jobs.checkup()
    for agency in (alpha, beta):
        with context.entered(agency):
            # 200 of the senders at sendgrid, 50 of the account at resend.
            assert where() == {"sendgrid": 20, "resend": 5}
    assert turns_waiting() == [(agency.slug, name) for agency in (alpha, beta) for name in ("resend", "sendgrid")]
    assert rung == [jobs.serve] * 4


def test_an_account_that_comes_back_is_rung_for_in_each_agency(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[object] = []
    monkeypatch.setattr("tenants.jobs.enqueue", rung.append)
    health.unanswered(accounts["smtp"].pk, "wrong password", clear=True, now=NOON)
    jobs.checkup()
    assert turns_waiting() == [("alpha", "smtp"), ("beta", "smtp")]
    assert rung == [jobs.serve] * 2


def turns_waiting() -> list[tuple[str, str]]:
    return sorted(Turn.objects.values_list("agency__slug", "account__name"))


@pytest.mark.parametrize(
    ("seconds", "room"), [(-1, 100), (0, 1), (59, 1), (60, 10), (120, 25), (180, 50), (239, 50), (240, 100)]
)
def test_what_was_closed_is_filled_minute_by_minute(seconds: int, room: int) -> None:
    state = Health(opened_at=NOON)
    assert health.room(state, 100, now=NOON + timedelta(seconds=seconds)) == room


def test_a_healthy_account_gets_all_and_a_broken_one_a_single_mail() -> None:
    assert health.room(Health(), 100, now=NOON) == 100
    assert health.room(Health(refusals=health.BREAKS_AFTER), 100, now=NOON) == 1
    assert health.room(Health(opened_at=NOON), 3, now=NOON) == 1


def test_drains_fill_an_account_that_comes_back_gradually(alpha: Agency, accounts: dict[str, Account]) -> None:
    smtp = accounts["smtp"]
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 150), traffic_class="bulk"), now=NOON)
        health.unanswered(smtp.pk, "no connection", clear=True, now=NOON)
        assert dispatch.drain(smtp.pk, clock=lambda: NOON, until=NOON + FIVE).sent == 0
        Message.objects.update(account=smtp)
        assert health.answered(smtp.pk, now=NOON)
        sent = []
        for minute in range(5):
            now = NOON + timedelta(minutes=minute)
            sent.append(dispatch.drain(smtp.pk, clock=lambda now=now: now, until=now + FIVE).sent)
            assert failover.relieve(alpha, smtp.pk, now=now) == set()
        assert sent == [1, 10, 25, 50, 64]


def test_the_history_tells_each_account_its_own_part(accounts: dict[str, Account]) -> None:
    smtp, resend = accounts["smtp"], accounts["resend"]
    for hours, ok in [(1, True), (2, False), (30, True), (24 * 6, True), (24 * 20, False)]:
        HealthCheck.objects.create(account=smtp, at=NOON - timedelta(hours=hours), ok=ok, milliseconds=5)
    HealthCheck.objects.create(account=resend, at=NOON - timedelta(days=3), ok=True, milliseconds=5)
    found = checkup.history(smtp, now=NOON, latest=2)
    assert found.well == {1: 0.5, 7: 0.75, 30: 0.6}
    assert [one.at for one in found.latest] == [NOON - timedelta(hours=1), NOON - timedelta(hours=2)]
    assert checkup.history(resend, now=NOON).well == {7: 1.0, 30: 1.0}


def test_an_accounts_page_shows_what_its_checks_said_and_takes_its_rate(accounts: dict[str, Account]) -> None:
    smtp = accounts["smtp"]
    for minutes, ok in [(5, True), (10, True), (15, False), (20, True)]:
        at = timezone.now() - timedelta(minutes=minutes)
        HealthCheck.objects.create(account=smtp, at=at, ok=ok, milliseconds=41, detail="" if ok else "no route to it")
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("op@polza.test", "a-password-of-some-length"))
    page = client.get(f"/admin/accounts/account/{smtp.pk}/change/").content.decode()
    assert "75.00 % in the last 1 day" in page
    assert "41 ms" in page
    assert "no route to it" in page
    assert 'name="per_second"' in page
