"""A worker: `python -m tests.benchmarks.worker SCHEMA:ACCOUNT …`. Says "ready", and for each line of input drains all
of them in turn, each for as long as a job may, until nothing is left; says as JSON what that took."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from campaigns import dispatch  # noqa: E402
from providers.accounts import adapters  # noqa: E402, F401 - a worker has it loaded long before
from tenants import context  # noqa: E402
from tenants.models import Agency  # noqa: E402

Pair = tuple[Agency, int]


def main() -> None:
    pairs = _found(sys.argv[1:])
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(drain_all(pairs)), flush=True)


def serve(line: "Connection[str, str]", arguments: Sequence[str]) -> None:
    """The same for a worker that was forked, until its line is closed."""
    pairs = _found(arguments)
    line.send("ready")
    with suppress(EOFError):
        while line.recv():
            line.send(json.dumps(drain_all(pairs)))


def _found(arguments: Sequence[str]) -> list[Pair]:
    return [
        (Agency.objects.get(schema_name=schema), int(account))
        for schema, account in (argument.split(":") for argument in arguments)
    ]


def drain_all(pairs: list[Pair]) -> dict[str, Any]:
    """Drain until one whole round sends nothing."""
    started, cpu, sent = time.monotonic(), time.process_time(), 0
    while done := sum(_drain(*pair) for pair in pairs):
        sent += done
    return {"sent": sent, "started": started, "ended": time.monotonic(), "cpu": time.process_time() - cpu}


def _drain(agency: Agency, account_id: int) -> int:
    with context.entered(agency):
        until = timezone.now() + timedelta(seconds=settings.DRAIN_SECONDS)
        return dispatch.drain(account_id, clock=timezone.now, until=until).sent


if __name__ == "__main__":
    main()
