"""The agency rides with the job; workers run nothing but ours; the queue holds nothing but plain values."""

import ast
import base64
import io
import pickle
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import Queue, Value
from typing import Any

import psycopg
import pytest
from django.core import signing
from django.core.exceptions import SuspiciousOperation
from django.db import connection, transaction
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule, Task
from django_q.monitor import save_task
from django_q.scheduler import scheduler
from django_q.signing import SignedPackage
from django_q.worker import worker

from tenants import context, jobs
from tenants.models import Agency

SECRET = "SG.planted-secret"
seen: list[tuple[Any, ...]] = []


@jobs.job
def noticed(*args: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        seen.append((context.current_schema(), cursor.fetchone()[0], *args))


@jobs.job
def broken(*args: Any) -> None:
    noticed(*args)
    raise RuntimeError(f"the provider refused the key {SECRET}")


def unmarked() -> None:
    raise AssertionError("this must never run")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


def work() -> int:
    """Do what a cluster does with every row that waits: push, work, monitor. Returns how many rows it took."""
    broker, taken = ORM(list_key=Conf.CLUSTER_NAME), 0
    for row in OrmQ.objects.order_by("pk"):
        taken += 1
        task = SignedPackage.loads(row.payload)
        task.update(cluster=Conf.CLUSTER_NAME, ack_id=row.pk)
        tasks: Any = Queue()
        results: Any = Queue()
        tasks.put(task)
        tasks.put("STOP")
        worker(tasks, results, Value("f", -1))
        done = results.get(timeout=10)
        save_task(done, broker)
        if done["success"] or done.get("ack_failure"):
            broker.acknowledge(done["ack_id"])
    return taken


def payload(row: OrmQ) -> dict[str, Any]:
    class Plain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # When the row was made is django-q2's own; nothing else may need an import.
            if (module, name) in {("datetime", "datetime"), ("datetime", "timezone"), ("datetime", "timedelta")}:
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f"{module}.{name} would have to be imported")

    class Serializer:
        @staticmethod
        def loads(data: bytes) -> Any:
            return Plain(io.BytesIO(data)).load()

    return signing.loads(row.payload, key=Conf.SECRET_KEY, salt=Conf.PREFIX, serializer=Serializer)


def test_a_job_runs_inside_the_agency_that_asked_for_it_and_leaves_it(committed: dict[str, Agency]) -> None:
    for agency in committed.values():
        with context.entered(agency):
            jobs.enqueue(noticed, agency.pk, "text", [1, "two"])
            jobs.enqueue(broken, agency.pk)
    jobs.enqueue(noticed, 0)

    assert jobs.waiting() == work() == 5

    expected = [(a.schema_name, a.schema_name, a.pk, "text", [1, "two"]) for a in committed.values()]
    failed = [(a.schema_name, a.schema_name, a.pk) for a in committed.values()]
    assert sorted(seen, key=repr) == sorted([*expected, *failed, ("public", "public", 0)], key=repr)
    assert context.current_schema() == "public"
    assert jobs.waiting() == 0, "a job that failed must not come back: retrying is ours"


def test_running_leaves_the_agency_that_was_entered_before(alpha: Agency, beta: Agency) -> None:
    with context.entered(beta):
        jobs.run(jobs._name(noticed), alpha.schema_name)
        assert context.current_schema() == beta.schema_name
        with pytest.raises(jobs.JobError):
            jobs.run(jobs._name(broken), alpha.schema_name)
        assert context.current_schema() == beta.schema_name
        jobs.run(jobs._name(noticed), "")
        assert context.current_schema() == beta.schema_name
    assert [schema for schema, _real in seen] == ["a_alpha", "a_alpha", "public"]


@pytest.mark.parametrize("off", ["ready", "active"])
def test_a_job_of_an_agency_that_is_switched_off_is_skipped(alpha: Agency, off: str) -> None:
    Agency.objects.filter(pk=alpha.pk).update(**{off: False})

    jobs.run(jobs._name(noticed), alpha.schema_name)

    assert seen == []


def test_a_job_is_asked_for_only_when_the_transaction_ends_well(committed: dict[str, Agency]) -> None:
    with context.entered(committed["alpha"]):
        with transaction.atomic():
            jobs.enqueue(noticed)
            transaction.set_rollback(True)
        assert context.current_schema() == "a_alpha"
        assert jobs.waiting() == 0

        with transaction.atomic():
            jobs.enqueue(noticed)
        assert jobs.waiting() == 1


@pytest.mark.parametrize("value", [object(), {"key": SECRET}, 1.5, None, True, timezone.now(), (1,), [[object()]]])
def test_it_refuses_arguments_that_are_not_plain(alpha: Agency, value: Any) -> None:
    with pytest.raises(TypeError, match="Job arguments are numbers and text"):
        jobs.enqueue(noticed, value)
    assert jobs.waiting() == 0


def test_it_refuses_a_function_that_is_not_a_job(alpha: Agency) -> None:
    with pytest.raises(TypeError, match="not marked with @job"):
        jobs.enqueue(unmarked)
    with pytest.raises(jobs.JobError, match="No function is marked"):
        jobs.run("os.system", "")


def test_what_waits_in_the_queue_needs_no_import_to_be_read(alpha: Agency) -> None:
    with context.entered(alpha):
        for function in jobs._known.values():
            jobs.enqueue(function, 1, "text", [2, [3]])

    rows = list(OrmQ.objects.all())
    assert len(rows) == len(jobs._known) >= 2
    for row in rows:
        assert payload(row)["args"][1:] == (alpha.schema_name, 1, "text", [2, [3]])


def plant(func: str, *args: Any, **options: Any) -> OrmQ:
    task = {"id": "1" * 32, "name": "planted", "func": func, "args": args, "kwargs": {}, "started": timezone.now()}
    return OrmQ.objects.create(
        key=Conf.CLUSTER_NAME, payload=SignedPackage.dumps({**task, **options}), lock=timezone.now()
    )


@pytest.mark.parametrize(
    ("func", "options"),
    [
        ("os.system", {}),
        ("tests.tenants.test_jobs.unmarked", {}),
        (jobs.RUN, {"hook": "os.system"}),
        (jobs.RUN, {"chain": [("os.system", ("true",), {})]}),
        (jobs.RUN, {"cached": True}),
    ],
)
def test_a_foreign_row_is_removed_and_never_run(
    committed: dict[str, Agency], tmp_path: Any, func: str, options: dict[str, Any]
) -> None:
    mark = tmp_path / "ran"
    plant(func, f"touch '{mark}'", "", **options)

    with pytest.raises(SuspiciousOperation, match="removed, not run"):
        work()

    assert not mark.exists()
    assert (jobs.waiting(), Task.objects.count(), seen) == (0, 0, [])


def test_the_same_row_does_run_without_the_guard(committed: dict[str, Agency], tmp_path: Any) -> None:
    mark = tmp_path / "ran"
    plant("os.system", f"touch '{mark}'")
    jobs.pre_execute.disconnect(dispatch_uid="tenants.jobs.guard")
    try:
        work()
    finally:
        jobs.guard_workers()
    assert mark.exists()


def test_a_secret_in_an_error_never_reaches_the_tables_of_the_queue(
    committed: dict[str, Agency], caplog: pytest.LogCaptureFixture
) -> None:
    with context.entered(committed["alpha"]):
        jobs.enqueue(broken, 7)
    work()

    failure = Task.objects.get()
    assert "failed with RuntimeError; the log says why" in failure.result
    assert SECRET in caplog.text, "the test plants nothing"
    assert SECRET not in _everything_in_the_tables()


def _everything_in_the_tables() -> str:
    said = []
    with connection.cursor() as cursor:
        for table in ("django_q_ormq", "django_q_task", "django_q_schedule"):
            cursor.execute(f"SELECT t::text FROM {table} t")
            said += [row[0] for row in cursor.fetchall()]
    for task in Task.objects.all():
        said.append(repr((task.args, task.kwargs, task.result)))
    # Pickled and in base64, a text is found only at one of three alignments.
    return "\n".join([*said, *map(_decoded, said)])


def _decoded(text: str) -> str:
    # What is over of the last four characters is cut: how many there are depends on the paths in a traceback.
    letters = re.sub(r"[^A-Za-z0-9_-]", "", text)
    return base64.urlsafe_b64decode(letters[: len(letters) // 4 * 4]).decode("latin1")


def test_schedules_are_made_again_after_all_tables_were_emptied(committed: dict[str, Agency]) -> None:
    schedules = {"notice": (noticed, 5), "break": (broken, 1)}
    jobs.plan(schedules)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_q_ormq, django_q_task, django_q_schedule")

    jobs.plan(schedules)

    assert set(Schedule.objects.values_list("name", "minutes", "repeats")) == {("notice", 5, -1), ("break", 1, -1)}


def test_django_q2_queues_a_schedule_as_our_job_with_its_arguments(committed: dict[str, Agency]) -> None:
    jobs.plan({"notice": (noticed, 5)})
    assert ast.literal_eval(Schedule.objects.get().args) == ("tests.tenants.test_jobs.noticed", "")

    scheduler(broker=ORM(list_key=Conf.CLUSTER_NAME))
    assert work() == 1

    assert seen == [("public", "public")]
    due = Schedule.objects.get().next_run - timezone.now()
    assert 200 < due.total_seconds() <= 300


def test_planning_again_heals_what_others_wrote_and_keeps_the_time_of_the_next_run(alpha: Agency) -> None:
    jobs.plan({"notice": (noticed, 5)})
    row = Schedule.objects.get()
    next_run = row.next_run + timedelta(minutes=3)
    Schedule.objects.update(hook="os.system", func="os.system", kwargs="x=1", repeats=0, next_run=next_run)
    Schedule.objects.create(name="notice", func="os.system")
    Schedule.objects.create(name="foreign", func="os.system")

    jobs.plan({"notice": (noticed, 10)})

    healed = Schedule.objects.get()
    assert (healed.pk, healed.func, healed.minutes, healed.repeats) == (row.pk, jobs.RUN, 10, -1)
    assert (healed.hook, healed.kwargs, healed.next_run) == (None, None, next_run)


# --- the queue itself


def test_clusters_take_the_oldest_jobs_and_none_twice(committed: dict[str, Agency]) -> None:
    for number in range(3):
        jobs.enqueue(noticed, number)
    queues = [jobs.Queue(list_key=Conf.CLUSTER_NAME) for _ in range(2)]

    taken = [queues[number % 2].dequeue() for number in range(3)]

    assert [SignedPackage.loads(row[0][1])["args"][2] for row in taken] == [0, 1, 2]
    assert queues[0]._take() == []


def test_a_job_that_another_cluster_is_just_taking_is_passed_by(committed: dict[str, Agency]) -> None:
    jobs.enqueue(noticed, 1)
    jobs.enqueue(noticed, 2)
    first, second = OrmQ.objects.order_by("pk")
    with psycopg.connect(**_dsn()) as other:
        other.execute("SELECT 1 FROM django_q_ormq WHERE id = %s FOR UPDATE", [first.pk])
        assert [row[0] for row in jobs.Queue(list_key=Conf.CLUSTER_NAME)._take()] == [second.pk]


@pytest.mark.timeout(30)
def test_a_waiting_cluster_is_called_when_a_job_is_committed(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conf, "POLL", 3600)
    waiting = jobs.Queue(list_key=Conf.CLUSTER_NAME)
    assert waiting._take() == []

    other = threading.Thread(target=_enqueue_elsewhere)
    other.start()
    while not waiting.dequeue():
        pass
    other.join()


def test_a_cluster_outlives_the_loss_of_its_connection_and_is_called_again(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conf, "POLL", 0)
    queue = jobs.Queue(list_key=Conf.CLUSTER_NAME)
    assert queue.dequeue() == []
    with psycopg.connect(**_dsn(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])

    assert queue.dequeue() == []
    jobs.enqueue(noticed, 1)
    assert len(queue.dequeue()) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM pg_listening_channels()")
        assert len(cursor.fetchall()) == 1


def _enqueue_elsewhere() -> None:
    try:
        jobs.enqueue(noticed, 1)
    finally:
        connection.close()


def _dsn() -> dict[str, Any]:
    settings = connection.settings_dict
    return {name: settings[key] for name, key in _PARTS.items() if settings[key]}


_PARTS = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
