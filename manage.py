#!/usr/bin/env python
"""The command line of the engine: `python manage.py help` lists the commands."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - for whoever runs it with the wrong one
    sys.exit("Python 3.11 or newer is needed; this is {}.{}.".format(*sys.version_info))

try:
    from django.core.management import execute_from_command_line

    from outreach import embedded
except ModuleNotFoundError as error:
    sys.exit(f"The Python package {error.name} is missing. Run `make setup`, then .venv/bin/python manage.py ...")

# These work without a database, so none is started for them.
NO_DATABASE = {
    "help",
    "version",
    "makemessages",
    "compilemessages",
    "collectstatic",
    "diffsettings",
    "findstatic",
    "sandbox",
    "bench",
    "classify_mail",
}


def main(argv: list[str]) -> None:
    """Run one command, with PostgreSQL running if it needs ours."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "outreach.settings")
    # Python ends at once on these; an exception lets the last command stop PostgreSQL.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, _end)
    try:
        if _needs_database(argv[1:]):
            _start_database()
        execute_from_command_line(argv)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _needs_database(arguments: list[str]) -> bool:
    command = arguments[0] if arguments else "help"
    return not (command in NO_DATABASE or command.startswith("-") or {"-h", "--help"} & set(arguments))


def _start_database() -> None:
    # Read first, because `.env` may name a PostgreSQL that runs elsewhere.
    from django.conf import settings

    var = settings.VAR
    if embedded.needed():
        try:
            embedded.start(var)
        except embedded.EmbeddedError as error:
            sys.exit(str(error))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main(sys.argv)
