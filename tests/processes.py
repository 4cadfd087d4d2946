"""Other processes that work with this run's test database."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that uses the test database as its own."""
    database = connection.settings_dict
    login = quote(database["USER"]) + (f":{quote(database['PASSWORD'])}" if database["PASSWORD"] else "")
    # The host may be a folder, which only the query can name.
    where = {name.lower(): str(database[name]) for name in ("HOST", "PORT") if database[name]}
    url = f"postgres://{login}@/{quote(database['NAME'])}?{urlencode(where)}"
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "outreach.settings", "DATABASE_URL": url, **more}


def race(module: str, racers: Sequence[Sequence[Any]]) -> list[Any]:
    """Run this test module's `race` in a process for each list of arguments, together; return what each returned."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.racing", module, json.dumps(racers)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        timeout=90,
        check=True,
    )
    return json.loads(ran.stdout)


def await_port(port: int, *, alive: Callable[[], bool] = lambda: True) -> None:
    """Return once something listens at this port of the machine; raises TimeoutError if nothing does within a minute,
    or what should has ended."""
    until = time.monotonic() + 60
    while time.monotonic() < until and alive():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"Nothing listens at port {port}.")
