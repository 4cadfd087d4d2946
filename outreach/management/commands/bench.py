import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """The table of speed and memory, on a throw-away PostgreSQL of its own. `make bench` runs the same."""

    help = "Measure speed and memory on this machine, as ratios and growths."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("keys", nargs="*", help="which lines of the table; none: all")
        parser.add_argument("--quick", action="store_true", help="smaller sizes, one repetition, at most a minute")
        parser.add_argument("--repeat", type=int, help="how often, 5 (1 with --quick) if not given")
        parser.add_argument("--json", action="store_true", help="end with one line of JSON: key → value")

    def handle(self, *args: Any, **options: Any) -> None:
        if not (settings.BASE_DIR / "tests" / "benchmarks").is_dir():
            raise CommandError("The benchmarks are not installed here: run this from a checkout.")
        flags = [f"--{name}" for name in ("quick", "json") if options[name]]
        if options["repeat"]:
            flags += ["--repeat", str(options["repeat"])]
        os.chdir(settings.BASE_DIR)
        # A process of its own: it makes its database before it reads the settings.
        os.execv(  # noqa: S606 - our own interpreter
            sys.executable, [sys.executable, "-m", "tests.benchmarks", *options["keys"], *flags]
        )
