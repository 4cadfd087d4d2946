"""The base of commands that work inside one agency."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import context
from tenants.models import Agency


class AgencyCommand(BaseCommand):
    """Adds `--agency SLUG` and calls `within` with that agency entered."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--agency", required=True, metavar="SLUG", help="the agency's short name")

    def handle(self, *_: Any, agency: str, **options: Any) -> None:
        with context.entered(named(agency)) as entered:
            self.within(entered, options)

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        """Do the command's work."""
        raise NotImplementedError


def named(slug: str) -> Agency:
    """The ready agency of this short name; raises CommandError that lists the known ones."""
    with context.public():
        ready = context.ready_agencies()
    for agency in ready:
        if agency.slug == slug:
            return agency
    known = ", ".join(agency.slug for agency in ready) or "none yet, make one with create_agency"
    raise CommandError(f"No agency “{slug}” is ready. Known: {known}.")
