import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from outreach import checks, cluster


class Command(BaseCommand):
    """The web server, until SIGTERM. `manage.py run` starts it beside the workers."""

    help = "Serve the sites with gunicorn. Started by `run`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000")
        parser.add_argument("--workers", type=int, default=2)
        parser.add_argument("--threads", type=int, default=8)

    def handle(self, **options: Any) -> None:
        checks.refuse()
        cluster.die_with_parent()
        os.environ["WEB_THREADS"] = str(options["threads"])
        sys.stdout.flush()
        os.execv(  # noqa: S606 - our own interpreter
            sys.executable,
            [
                sys.executable,
                *("-m", "gunicorn", "outreach.wsgi", "--preload"),
                *("--bind", options["bind"]),
                *("--worker-class", "gthread", "--workers", str(options["workers"])),
                *("--threads", str(options["threads"]), "--log-level", "warning"),
                *("--max-requests", "20000", "--max-requests-jitter", "2000", "--graceful-timeout", "20"),
            ],
        )
