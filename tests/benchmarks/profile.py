"""Where the time of a mail goes in one worker: `python -m tests.benchmarks.profile [--mails N]`.

Wraps the functions of the way of a mail and counts, per thread, wall-clock and CPU microseconds without those of
wrapped functions below. What PostgreSQL did is told by its own pg_stat_statements. The wrapping costs about 1.5 us a
call, which is measured and told.
"""

import argparse
import importlib
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tests.benchmarks import ground

# Module, object within it, and what it is called in the table.
WRAPPED = [
    ("campaigns.dispatch", "claim_batch", "claim: the rest of it"),
    ("providers.senders.ledger", "take_seats", "claim: take seats"),
    ("campaigns.dispatch", "_due", "claim: read due messages"),
    ("campaigns.dispatch", "place", "claim: place"),
    ("providers.accounts.ledger", "reserve", "claim: reserve (account ledger)"),
    ("providers.senders.ledger", "spend", "claim: spend (senders, domains)"),
    ("campaigns.lifecycle", "claim", "claim: update messages"),
    ("providers.accounts.health", "of", "health of the account"),
    ("campaigns.delivery", "Envelopes", "steps of the batch"),
    ("campaigns.envelopes", "Envelopes.of", "envelope: build"),
    ("campaigns.rendering", "render", "render: the rest of it"),
    ("campaigns.rendering", "_fill", "render: liquid"),
    ("providers.accounts.envelope", "Envelope.check", "envelope: check"),
    ("campaigns.lifecycle", "begin", "begin"),
    ("campaigns.lifecycle", "sent", "sent"),
    ("campaigns.delivery", "Lines.send", "hand over: submit to the pool"),
    ("campaigns.delivery", "wait", "hand over: wait for a line"),
    ("campaigns.delivery", "Delivery._settle", "settle: the rest of it"),
    ("campaigns.delivery", "Delivery._launch", "launch: the rest of it"),
    ("campaigns.delivery", "Delivery.run", "batch: the rest of it"),
    ("campaigns.delivery", "Lines._send", "line: the rest of it"),
    ("providers.accounts.adapters.mime", "as_bytes", "line: MIME"),
    ("providers.accounts.adapters.smtp", "EmailBackend._transaction", "line: SMTP commands and body"),
    ("smtplib", "SMTP.getreply", "line: wait for a reply"),
    ("providers.accounts.adapters.smtp", "EmailBackend._connect", "line: connect"),
    ("django.db.backends.utils", "CursorWrapper.execute", "SQL: Django around execute"),
    ("psycopg", "Cursor.execute", "SQL: psycopg execute (sends, waits)"),
    ("psycopg", "Cursor.fetchall", "SQL: fetch"),
    ("django.db.backends.base.base", "BaseDatabaseWrapper.cursor", "SQL: Django's cursor()"),
    ("django.db.backends.base.base", "BaseDatabaseWrapper._commit", "SQL: commit"),
    ("django.db.models.query", "QuerySet._fetch_all", "SQL: ORM reads"),
    ("django.db.models.query", "QuerySet.update", "SQL: ORM updates"),
]


class Clock:
    """Exclusive wall and CPU seconds by (thread, name)."""

    def __init__(self) -> None:
        self._local = threading.local()
        self.spent: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        self.statements: dict[str, int] = defaultdict(int)

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, attribute)
        local, spent = self._local, self.spent

        def timed(*args: Any, **kwargs: Any) -> Any:
            stack = getattr(local, "stack", None)
            if stack is None:
                stack = local.stack = []
                local.side = "main" if threading.current_thread() is threading.main_thread() else "lines"
            stack.append([0.0, 0.0])
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                below = stack.pop()
                if stack:
                    stack[-1][0] += wall
                    stack[-1][1] += cpu
                found = spent[local.side, name]
                found[0] += 1
                found[1] += wall - below[0]
                found[2] += cpu - below[1]

        setattr(owner, attribute, timed)


def worker(pairs: list[str]) -> None:
    """The child: a worker, wrapped."""
    sys.argv = ["worker", *pairs]
    from tests.benchmarks import worker as plain

    clock = Clock()
    for module, path, name in WRAPPED:
        owner: Any = importlib.import_module(module)
        *inside, attribute = path.split(".")
        for part in inside:
            owner = getattr(owner, part, None)
        if hasattr(owner, attribute):
            clock.wrap(owner, attribute, name)
        else:
            print(f"{module}.{path} is not there any more: correct this list.", file=sys.stderr)
    _count_statements(clock)
    original = plain.drain_all

    def drain_all(found: Any) -> dict[str, Any]:
        clock.spent.clear()
        clock.statements.clear()
        result = original(found)
        result["spent"] = [[*key, *value] for key, value in clock.spent.items()]
        result["statements"] = dict(clock.statements)
        return result

    plain.drain_all = drain_all
    plain.main()


def _count_statements(clock: Clock) -> None:
    """Count what really goes to the server, the search_path and transactions too."""
    from psycopg import Connection, Cursor

    inner = Cursor.execute

    def execute_counted(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        clock.statements[" ".join(str(query).split())[:70]] += 1
        return inner(self, query, *args, **kwargs)

    Cursor.execute = execute_counted  # type: ignore[method-assign]
    for name in ("commit", "rollback"):
        ended = getattr(Connection, name)

        def counted(self: Any, ended: Any = ended, name: str = name) -> Any:
            clock.statements[name.upper()] += 1
            return ended(self)

        setattr(Connection, name, counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mails", type=int, default=6000)
    mails = parser.parse_args().mails
    with ground.laid(quick=True) as laid:
        from django.db import connection

        from tests.benchmarks import scene
        from tests.benchmarks.children import Child, Sender, Sink
        from tests.benchmarks.machine import cpu_seconds

        with Sink() as sink, connection.cursor() as cursor:
            accounts = scene.smtp_accounts(3, port=sink.ports["smtp"])
            for agency in scene.agencies():
                for account in accounts:
                    scene.senders(agency, account, 200)
                scene.people(agency, mails // 2)
            for module, title in (("worker", "plain"), ("profile", "wrapped")):
                scene.queue(*scene.agencies())
                extra = [] if module == "worker" else ["--worker"]
                child = Sender.__new__(Sender)
                Child.__init__(child, module, *extra, *scene.pairs(scene.agencies()))
                with child, ground.counted():
                    child.await_ready()
                    before = cpu_seconds([laid.postmaster])
                    far = cpu_seconds([sink.pid])
                    child.tell("go")
                    result = child.result()
                    database = cpu_seconds([laid.postmaster]) - before
                    far = cpu_seconds([sink.pid]) - far
                    cursor.execute(_STATEMENTS)
                    statements = cursor.fetchall()
                sent = result["sent"]
                seconds = result["ended"] - result["started"]
                print(
                    f"\n== {title}: {sent} mails, {sent / seconds:.0f}/s, {seconds / sent * 1e6:.0f} us a mail; "
                    f"CPU us a mail: worker {result['cpu'] / sent * 1e6:.0f}, "
                    f"PostgreSQL {database / sent * 1e6:.0f}, sink {far / sent * 1e6:.0f}"
                )
                if module == "profile":
                    print_spent(result, sent)
                print_statements(statements, sent)


def print_spent(result: dict[str, Any], sent: int) -> None:
    """The wrapped functions, and what the client sent to PostgreSQL."""
    print(f"\n{'thread':6} {'what, without what is wrapped below it':44}{'calls/mail':>10}{'wall us':>9}{'CPU us':>8}")
    rows = sorted(result["spent"], key=lambda row: (row[0] != "main", -row[3]))
    for side, name, calls, wall, cpu in rows:
        print(f"{side:6} {name:44}{calls / sent:10.3f}{wall / sent * 1e6:9.1f}{cpu / sent * 1e6:8.1f}")
    for side in ("main", "lines"):
        wall, cpu = (sum(row[column] for row in rows if row[0] == side) / sent * 1e6 for column in (3, 4))
        print(f"{side:6} {'sum':44}{'':10}{wall:9.1f}{cpu:8.1f}")
    print("\nround trips a mail, as the client sends them")
    for text, count in sorted(result["statements"].items(), key=lambda item: -item[1]):
        print(f"{count / sent:8.4f}  {text}")
    print(f"{sum(result['statements'].values()) / sent:8.4f}  in all")


def print_statements(rows: list[Any], sent: int) -> None:
    """What PostgreSQL says of its statements. It groups the checks of all foreign keys under one table's name."""
    print("\nOn the server, us a mail; parsing, the protocol and commits are not in it")
    print(f"{'calls/mail':>10}{'plan':>8}{'execute':>8}{'us each':>9}{'rows':>8}{'WAL bytes':>10}{'hits/call':>10}")
    for query, calls, plan, execution, count, wal, hits in rows:
        plan, execution = plan * 1000, execution * 1000
        print(
            f"{calls / sent:10.4f}{plan / sent:8.1f}{execution / sent:8.1f}{(plan + execution) / calls:9.1f}"
            f"{count / calls:8.1f}{wal / sent:10.0f}{hits / calls:10.0f}  {' '.join(query.split())[:110]}"
        )
    plan, execution = (sum(row[column] for row in rows) * 1000 / sent for column in (2, 3))
    print(f"{'':10}{plan:8.1f}{execution:8.1f}  in all")


_STATEMENTS = """
SELECT query, calls, total_plan_time, total_exec_time, rows, wal_bytes, shared_blks_hit
FROM pg_stat_statements WHERE calls > 0 AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY total_plan_time + total_exec_time DESC LIMIT 40
"""

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    else:
        main()
