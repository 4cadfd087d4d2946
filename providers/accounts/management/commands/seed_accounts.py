from typing import Any

from django.core.management.base import BaseCommand

from providers.accounts import reference


class Command(BaseCommand):
    """Make the three accounts of the reference strategy, not in use until their keys are entered."""

    help = "Make the accounts of the reference strategy; those that are there stay as they are."

    def handle(self, **options: Any) -> None:
        for account in reference.seed():
            state = "in use" if account.enabled else "not in use: enter its key on the operator's site"
            self.stdout.write(f"{account.name}: {account.get_kind_display()}, {account.per_day:,} mails a day, {state}")
