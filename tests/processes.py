"""Other processes that work with this run's test database."""

import os
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
