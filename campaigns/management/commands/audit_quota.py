import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from campaigns import audit
from tenants import context


class Command(BaseCommand):
    """Replay the messages against every ledger; exit 1 and name each row that differs."""

    help = "Prove the quotas: compare every ledger with the messages and print zero drift or each row that differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, **options: Any) -> None:
        with context.public():
            found = audit.audit_quota()
        if options["json"]:
            drifts = [str(drift) for drift in found.drifts]
            self.stdout.write(json.dumps({"rows": found.rows, "mails": found.mails, "drifts": drifts}))
        else:
            for drift in found.drifts:
                self.stdout.write(str(drift))
            self.stdout.write(f"{found.mails} mails against {found.rows} ledger rows: {len(found.drifts)} differ.")
        if found.drifts:
            raise CommandError("The ledgers and the messages differ.")
