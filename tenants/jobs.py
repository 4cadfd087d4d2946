"""The only importer of django_q. A job is a doorbell: it names work, carries plain values, is harmless twice.

The agency rides with the job and is entered and left around it, on failure too. Workers run nothing but
`run`, and `run` runs nothing but functions marked with `@job`: whoever can write to the queue table still
cannot choose code.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError, close_old_connections, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.dispatch import Signal
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule
from django_q.signals import post_spawn, pre_execute
from django_q.tasks import async_task

from tenants import context
from tenants.models import Agency

logger = logging.getLogger(__name__)

RUN = "tenants.jobs.run"
Function = TypeVar("Function", bound=Callable[..., Any])
_known: dict[str, Callable[..., Any]] = {}
# Jobs that may take longer than others, by name: so many seconds.
_long: dict[str, int] = {}
# What django-q2 would call or queue by name, or run in its own process, beside the function that is checked.
_SIDE_DOORS = ("hook", "chain", "sync", "cached", "iter_count")
# Any constant: one process at a time makes the schedules, whose names are not unique in django-q2's table.
_PLANNING = 7_302_199_002


# A queue that is longer has been waiting for long enough to be one of other jobs than those that are looked at.
_LOOKED_AT = 50
_CHANNEL = "polza_job"
_TAKE = """
UPDATE django_q_ormq SET lock = statement_timestamp() + make_interval(secs => %s)
WHERE id IN (
    SELECT id FROM django_q_ormq WHERE key = %s AND lock < statement_timestamp()
    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
)
RETURNING id, payload
"""
# Sent before and after every job, in the worker that runs it, and again and again during a long one; `running` tells
# which.
ran = Signal()
_STILL_RUNNING_SECONDS = 5.0
# Sent once by each process of a cluster that works on jobs, in that process; `part` is "worker" or "monitor".
began = Signal()
# Sent by a worker that leaves its cluster, as the last thing that it does.
left = Signal()
# Sent twice a second by the guard of a cluster, which also is its scheduler.
guarded = Signal()
# Asks a worker to finish what it has in its hands, to begin nothing else, and to leave.
LEAVE = signal.SIGUSR1
_working = _leaving = False


class Queue(ORM):  # type: ignore[misc]
    """django-q2's queue table, the oldest job first. An idle cluster is called by PostgreSQL instead of asking anew.

    Calls may get lost, for a row alone is the truth: so a cluster also asks every `poll` seconds.
    """

    _listening: Any = None
    _monitors: bool = False

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """What the guard of a cluster does in each of its rounds."""
        guarded.send(sender="tenants.jobs")
        super().set_stat(key, value, timeout)

    def acknowledge(self, task_id: int) -> None:
        """What the monitor of a cluster does for each job that is done."""
        if not self._monitors:
            self._monitors = True
            began.send(sender="tenants.jobs", part="monitor")
        super().acknowledge(task_id)

    def enqueue(self, task: str) -> int:
        """Queue a packed job, and call a cluster when the transaction is committed; return the row's id."""
        # By the database's clock, as it is taken: a host whose clock is ahead would keep its jobs from all others.
        pk: int = self.get_connection().create(key=self.list_key or Conf.CLUSTER_NAME, payload=task, lock=Now()).pk
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {_CHANNEL}")
        return pk

    def dequeue(self) -> list[tuple[int, str]]:
        """The next jobs, no more than `bulk`, for this cluster alone; none after `poll` seconds without any."""
        try:
            if not (rows := self._take()):
                self._wait()
        except (OperationalError, InterfaceError):
            # Not asked for before each use, as elsewhere: that would double what an idle cluster costs.
            logger.warning("the queue cannot be read: connecting anew", exc_info=True)
            connection.close()
            time.sleep(Conf.POLL)
            return []
        return rows

    def _take(self) -> list[tuple[int, str]]:
        with connection.cursor() as cursor:
            if self._listening is not connection.connection:
                cursor.execute(f"LISTEN {_CHANNEL}")
                self._listening = connection.connection
            cursor.execute(_TAKE, [Conf.RETRY, self.list_key, Conf.BULK])
            return sorted(cursor.fetchall())

    def _wait(self) -> None:
        with connection.wrap_database_errors:
            for _call in connection.connection.notifies(timeout=Conf.POLL, stop_after=1):
                pass


class JobError(Exception):
    """A job failed. Why is in the log; django-q2 stores only this, so that its tables never hold a secret."""


def job(function: Function) -> Function:
    """Mark a module-level function as something that workers may run."""
    _known[_name(function)] = function
    return function


def long_job(seconds: int) -> Callable[[Function], Function]:
    """The same for one that may take so long, less than a job that is lost is queued again after."""

    def mark(function: Function) -> Function:
        _long[_name(function)] = seconds
        return job(function)

    return mark


def enqueue(function: Callable[..., Any], *args: int | str | list[Any]) -> None:
    """Ask a worker to call this job in the agency entered now (or the public schema).

    Raises TypeError for anything but numbers, text and plain lists of them: a queue row that a worker cannot
    unpickle stops its whole cluster.
    """
    name = _name(function)
    if name not in _known:
        raise TypeError(f"{name} is not marked with @job.")
    for value in args:
        _check_plain(value)
    schema = context.current_schema() if context.in_agency() else ""
    with context.public():
        limits = {"timeout": _long[name]} if name in _long else {}
        async_task(RUN, name, schema, *args, task_name=name[-90:], **limits)


def run(name: str, schema: str, *args: Any) -> None:
    """What every worker runs: the named job, inside its agency. Raises JobError when it fails."""
    global _working
    function = _known.get(name)
    if function is None:
        raise JobError(f"No function is marked with @job as {name}.")
    _working = True
    ran.send(sender="tenants.jobs", running=True)
    try:
        if not schema:
            with context.public():
                function(*args)
            return
        agency = Agency.objects.filter(schema_name=schema, ready=True, active=True).first()
        if agency is None:
            logger.info("job skipped: agency is gone or switched off", extra={"job": name, "schema": schema})
            return
        with context.entered(agency), _still_running(name):
            function(*args)
    except Exception as error:
        logger.exception("job failed", extra={"job": name, "schema": schema})
        raise JobError(f"{name} failed with {type(error).__name__}; the log says why.") from None
    finally:
        ran.send(sender="tenants.jobs", running=False)
        _working = False
        if _leaving:
            _leave()


def leaving() -> bool:
    """Whether this worker was asked to leave: a long job ends as soon as it can, and leaves the rest to others."""
    return _leaving


@contextmanager
def _still_running(name: str) -> Iterator[None]:
    """Say again and again that a long job runs: who watches takes silence for death. Its own time still ends it."""
    if name not in _long:
        yield
        return
    ended = threading.Event()

    def keep_saying() -> None:
        while not ended.wait(_STILL_RUNNING_SECONDS):
            ran.send_robust(sender="tenants.jobs", running=True)
            # The thread's own, which must not outlive it; opened again where it is needed.
            connection.close()

    saying = threading.Thread(target=keep_saying, name="still running", daemon=True)
    saying.start()
    try:
        yield
    finally:
        ended.set()
        saying.join()


def plan(schedules: dict[str, tuple[Callable[..., Any], int]]) -> None:
    """Make django-q2's schedule table say exactly this: name → (job, every so many minutes). Safe to repeat.

    Called again and again, so that a lost table heals by itself.
    """
    with context.public(), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_PLANNING])
        kept = []
        for name, (function, minutes) in schedules.items():
            wanted = {
                "func": RUN,
                "args": repr((_name(function), "")),
                "kwargs": None,
                "hook": None,
                "cluster": None,
                "intended_date_kwarg": None,
                "schedule_type": Schedule.MINUTES,
                "minutes": minutes,
                "repeats": -1,
            }
            row = Schedule.objects.filter(name=name).order_by("pk").first() or Schedule(name=name)
            if row.pk is None or any(getattr(row, field) != value for field, value in wanted.items()):
                for field, value in wanted.items():
                    setattr(row, field, value)
                row.save(update_fields=wanted if row.pk else None)
            kept.append(row.pk)
        Schedule.objects.exclude(pk__in=kept).delete()


def waiting() -> int:
    """How many jobs wait in the queue table."""
    with context.public():
        count: int = OrmQ.objects.count()
        return count


def crowded(long: Callable[..., Any]) -> bool:
    """Whether the queue has other jobs than this one, which goes on for long and should let go of its worker for them.

    One that runs counts as well, but not for longer than a job may.
    """
    with context.public():
        gone = Now() + timedelta(seconds=Conf.RETRY - Conf.TIMEOUT)
        rows = OrmQ.objects.filter(Q(lock__lt=Now()) | Q(lock__gt=gone)).order_by("pk")
        return any(row.name() != _name(long)[-90:] for row in rows[:_LOOKED_AT])


def guard_workers() -> None:
    """Let workers refuse every function but ours, and say when they begin."""
    pre_execute.connect(_refuse_foreign, dispatch_uid="tenants.jobs.guard")
    post_spawn.connect(_worker_began, dispatch_uid="tenants.jobs.began")


def _worker_began(**_: Any) -> None:
    signal.signal(LEAVE, _asked_to_leave)
    began.send(sender="tenants.jobs", part="worker")


def _asked_to_leave(*_: Any) -> None:
    global _leaving
    _leaving = True
    if not _working:
        _leave()


def _leave() -> None:
    left.send(sender="tenants.jobs")
    # At once: its cluster is about to be ended. A job that nobody says is done comes again, and is harmless twice.
    os._exit(0)


def _refuse_foreign(task: dict[str, Any], **_: Any) -> None:
    doors = [door for door in _SIDE_DOORS if task.get(door)]
    if task.get("func") == RUN and not doors:
        return
    OrmQ.objects.filter(pk=task.get("ack_id") or 0).delete()
    close_old_connections()
    what = f"{task.get('func')!r} with {', '.join(doors)}" if doors else repr(task.get("func"))
    raise SuspiciousOperation(f"A queue row named {what}, which is not ours: it was removed, not run.")


def _check_plain(value: Any) -> None:
    if type(value) is list:
        for item in value:
            _check_plain(item)
    elif type(value) not in (int, str):
        raise TypeError(f"Job arguments are numbers and text, not {type(value).__name__}: pass an id.")


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
