"""Other processes that work with this run's test database."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
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
