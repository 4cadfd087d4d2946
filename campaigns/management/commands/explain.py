import json
from argparse import ArgumentParser
from dataclasses import fields
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder

from campaigns.explain import explain
from campaigns.models import Message
from tenants import clock
from tenants.commands import AgencyCommand
from tenants.models import Agency


class Command(AgencyCommand):
    """Say where one mail is and why it has not gone."""

    help = "Say why a mail has not gone, with the numbers behind it and the earliest time it may."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("message", help="the mail's number or its key")
        parser.add_argument("--json", action="store_true")

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        told = explain(_named(options["message"], agency), now=clock.now())
        if options["json"]:
            self.stdout.write(json.dumps(told.as_dict(), cls=DjangoJSONEncoder))
            return
        for one in fields(told):
            value = getattr(told, one.name)
            if one.name == "numbers":
                for number in value:
                    self.stdout.write(f"{number.label}: {number.used} of {number.allowed}")
            elif one.name == "events":
                for event in value:
                    self.stdout.write(
                        f"{event.at:%Y-%m-%d %H:%M:%S %Z} {event.label} ({event.source}) {event.detail}".strip()
                    )
            elif value not in ("", None, []):
                shown = ", ".join(value) if isinstance(value, list) else value
                self.stdout.write(f"{one.name.replace('_', ' ')}: {shown}")


def _named(name: str, agency: Agency) -> Message:
    by: dict[str, Any]
    try:
        by = {"pk": int(name)} if name.isdecimal() and len(name) < 19 else {"key": UUID(name)}
    except ValueError:
        raise CommandError(f"“{name}” is neither a mail's number nor its key.") from None
    found = Message.objects.select_related("campaign", "step", "contact", "account", "sender").filter(**by).first()
    if found is None:
        raise CommandError(f"{agency.name} has no mail {name}.")
    return found
