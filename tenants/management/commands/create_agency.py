import os
import secrets
import sys
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.http.request import validate_host

from tenants import context, provisioning
from tenants.models import Agency, Domain
from tenants.users.models import User

PASSWORD = "POLZA_OWNER_PASSWORD"  # noqa: S105 - the name of a variable
# The option for each of provisioning's fields.
OPTIONS = {"slug": "SLUG", "email": "--owner", "password": "the owner's password"}


class Command(BaseCommand):
    help = (
        "Makes an agency with its own schema, host name and owner, ready for use. Calling it again is harmless and "
        f"finishes what was cut short. The owner's password comes from {PASSWORD}, or is asked for on a terminal, or "
        "is made up and printed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="short name: small letters, digits and hyphens")
        parser.add_argument("--name", required=True, help="the agency's name, as people read it")
        parser.add_argument("--host", default="", help=f"host name; by default SLUG.{settings.PUBLIC_HOST}")
        parser.add_argument("--owner", default="", metavar="EMAIL", help="who administers the agency")
        parser.add_argument("--timezone", default="UTC", metavar="TZ", help="such as Europe/Berlin")
        parser.add_argument("--language", default="en", choices=["en", "ru"])

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._create(options)
        except ValidationError as error:
            raise CommandError("\n".join(_lines(error))) from None
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        except OperationalError as error:
            raise CommandError(f"The database did not do it: {error}") from None

    def _create(self, options: dict[str, Any]) -> None:
        provisioning.prepare()
        details = {name: options[name] for name in ("slug", "name", "host", "timezone", "language")}
        owner = provisioning.Owner(options["owner"]) if options["owner"] else None
        agency, domain = provisioning.check(**details, owner=owner)
        there = {"agency": agency.ready, "host": domain.pk is not None, "owner": _has(agency, owner)}
        made_up = ""
        if owner is not None and not there["owner"]:
            password, made_up = _password(owner.email)
            owner = provisioning.Owner(owner.email, password)
        agency = provisioning.create_agency(**details, owner=owner)
        if made_up and not _has(agency, owner):
            # Another command made the same owner at the same time, with a password of its own.
            there["owner"], made_up = True, ""
        domain = Domain.objects.get(domain=domain.domain)
        self._tell("Agency", agency.slug, there["agency"])
        self._tell("Host", domain.domain, there["host"])
        if owner is not None:
            self._tell("Owner", owner.email, there["owner"])
        if made_up:
            self.stdout.write(f"Password of {options['owner']}, shown only now: {made_up}")
        self.stdout.write(f"{agency.name} is ready at {domain.address}")
        if not validate_host(domain.domain, settings.ALLOWED_HOSTS):
            self.stderr.write(f"Add {domain.domain} to ALLOWED_HOSTS: until then it is answered with 404.")

    def _tell(self, what: str, name: str, there: bool) -> None:
        self.stdout.write(f"{what} {name}: {'was there already' if there else 'made'}")


def _has(agency: Agency, owner: provisioning.Owner | None) -> bool:
    """Whether this person is there, with this password if one is given."""
    if owner is None or not agency.ready:
        return False
    with context.entered(agency):
        found = User.objects.filter(email__iexact=owner.email).first()
    return found is not None and (owner.password is None or found.check_password(owner.password))


def _password(email: str) -> tuple[str, str]:
    """The password to set, and once more if a person has to be told it."""
    if given := os.environ.get(PASSWORD):
        return given, ""
    if sys.stdin.isatty():
        typed = getpass(f"Password for {email} (empty: one is made up): ")
        if typed:
            if getpass("The same again: ") != typed:
                raise CommandError("The two passwords differ. Nothing was made.")
            return typed, ""
    made_up = secrets.token_urlsafe(15)
    return made_up, made_up


def _lines(error: ValidationError) -> list[str]:
    if not hasattr(error, "error_dict"):
        return error.messages
    named = error.message_dict.items()
    return [f"{OPTIONS.get(field, f'--{field}')}: {text}" for field, texts in named for text in texts]
