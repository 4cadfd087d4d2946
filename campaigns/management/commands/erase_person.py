from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from campaigns import erasure
from campaigns.models import Erasure
from providers.accounts.models import OperatorErasure
from tenants import clock, context
from tenants.commands import named


class Command(BaseCommand):
    """Erase a person in one agency or in all; prints the receipt."""

    help = "Erase all that names a person, for good, and refuse them from then on; prints what was erased."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("address", help="the person's address")
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--agency", metavar="SLUG", help="in this agency alone")
        where.add_argument("--everywhere", action="store_true", help="in every agency: none may ever mail them again")
        parser.add_argument("--by", default="manage.py", help="who asks for it, for the receipt")

    def handle(self, *_: Any, address: str, agency: str | None, by: str, **options: Any) -> None:
        receipt: Erasure | OperatorErasure
        try:
            if agency:
                with context.entered(named(agency)):
                    receipt = erasure.erase(address, by=by, clock=clock.now)
            else:
                with context.public():
                    receipt = erasure.erase_everywhere(address, by=by, clock=clock.now)
        except erasure.ErasureRefusedError as refused:
            raise CommandError(str(refused)) from None
        for line in erasure.lines(receipt):
            self.stdout.write(f"{line.label}: {line.count}")
        if receipt.done_at is None:
            self.stdout.write("A mail to them is on its way: the rest is erased within minutes after it.")
        else:
            self.stdout.write(f"Erased. Receipt {receipt.pk}.")
