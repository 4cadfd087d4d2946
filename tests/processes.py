"""Other processes that work with this run's test database."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
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


def race(module: str, racers: Sequence[Sequence[str]]) -> list[str]:
    """Run this test module once for each list of arguments, let all go together; return what each printed.

    A racer prints "ready", waits for a line on its standard input, and ends by itself within a minute.
    """
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in racers
    ]
    try:
        for racer in running:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in running:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return [racer.communicate(timeout=60)[0] for racer in running]
    finally:
        for racer in running:
            racer.kill()
            racer.wait()
