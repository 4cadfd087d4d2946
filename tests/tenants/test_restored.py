"""P1: a database that was put back from a backup sends nothing until a person says so."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from campaigns import dispatch, doubt, jobs, launch, trials
from campaigns.explain import explain
from campaigns.models import Contact, TrialMail
from campaigns.progress import progress
from campaigns.reasons import Reason
from providers.sandbox.service import Sandbox
from tenants import context, restored
from tenants.models import Agency, Incarnation
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor

LATER = NOON + timedelta(minutes=1)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def put_back() -> None:
    """As it is after recovery to a point in time: all as it was, on a later timeline of the log."""
    row = Incarnation.objects.get()
    row.place = row.place.replace("/", "/0", 1)
    row.save()


def test_nothing_goes_until_a_person_says_so_and_then_each_mail_once(
    alpha: Agency, carol: User, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = stage.accounts(sandbox)
    stage.allot(alpha, *accounts.values())
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 6), distribution="even")
        launch.launch(made, now=NOON)
        User.objects.update(last_login=NOON)
        trials.ask(made.steps.get(), Contact.objects.order_by("pk")[0], [carol.email], by=carol.email, now=NOON)
        message = made.messages.order_by("pk")[0]
        assert explain(message, now=LATER).code == Reason.IN_QUEUE

    def send() -> int:
        sent = 0
        with context.entered(alpha):
            for account in accounts.values():
                sent += dispatch.drain(account.pk, clock=lambda: LATER, until=LATER + timedelta(minutes=1)).sent
                sent += doubt.ask(account.pk, clock=lambda: LATER, until=LATER + timedelta(minutes=1))
            sent += trials.send(clock=lambda: LATER, until=LATER + timedelta(minutes=1))
        return sent

    put_back()
    assert send() == 0
    assert sandbox.snapshot()["distinct_recipients"] == 0
    with context.entered(alpha):
        assert explain(message, now=LATER).code == Reason.RESTORED
        report = progress(made, now=LATER)
        assert [(one.code, one.count) for one in report.reasons] == [(Reason.RESTORED, report.total)]
        assert TrialMail.objects.get().status == "waiting"
    call_command("release_sending")
    assert "alpha: 6 mails are due, 0 in doubt" in capsys.readouterr().out
    assert send() == 0
    call_command("release_sending", yes=True, by="ann")
    assert (Incarnation.objects.get().by, restored.frozen()) == ("ann", False)
    assert send() == 7
    assert sandbox.snapshot()["duplicates"] == 0
    call_command("release_sending", yes=True)
    assert "not put back" in capsys.readouterr().out


def test_what_was_claimed_in_the_backup_is_in_doubt_and_never_sent_again(alpha: Agency, sandbox: Sandbox) -> None:
    smtp = stage.accounts(sandbox)["smtp"]
    stage.allot(alpha, smtp)
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 3), distribution="even")
        launch.launch(made, now=NOON)
        allotment = alpha.allotments.select_related("account").get(account=smtp)
        assert len(dispatch.claim_batch(alpha, allotment, now=NOON, limit=2)) == 2
        made.messages.filter(status="claimed").update(lease_until=NOON)
    put_back()
    jobs.tick()
    with context.entered(alpha):
        assert stage.statuses(made) == {"claimed": 2, "scheduled": 1}
    restored.release(by="ann", now=LATER)
    jobs.tick()
    with context.entered(alpha):
        assert stage.statuses(made) == {"unknown": 2, "scheduled": 1}


def test_the_table_made_anew_in_its_database_is_another_place(alpha: Agency) -> None:
    """As by pg_restore --clean."""
    assert not restored.frozen()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.again AS TABLE public.tenants_incarnation")
        cursor.execute("DROP TABLE public.tenants_incarnation")
        cursor.execute("ALTER TABLE public.again RENAME TO tenants_incarnation")
    assert restored.frozen()


def test_another_database_of_the_same_server_is_another_place(committed: dict[str, Agency]) -> None:
    """As by pg_restore into a new one."""
    restored.adopt()
    here, name = Incarnation.objects.get(), "polza_put_back"
    values = {**connection.get_connection_params(), "dbname": name, "autocommit": True}
    values = {key: value for key, value in values.items() if key in ("dbname", "host", "port", "user", "password")}
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        with closing(psycopg.connect(**values, autocommit=True)) as other:
            other.execute("CREATE TABLE public.tenants_incarnation (id int, place text, since timestamptz, by text)")
            other.execute("INSERT INTO public.tenants_incarnation VALUES (1, %s, now(), '')", [here.place])
            assert other.execute(restored._ELSEWHERE).fetchone() == (True,)
            other.execute(restored._RELEASE, ["ann", NOON])
            assert other.execute(restored._ELSEWHERE).fetchone() == (False,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")
    assert not restored.frozen()


def test_the_operator_sees_that_nothing_is_sent(alpha: Agency) -> None:
    operator = Visitor("localhost")
    operator.force_login(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
    told = "The database was put back from a backup"
    assert told not in operator.get("/admin/").content.decode()
    put_back()
    assert told in operator.get("/admin/").content.decode()
