import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from campaigns.mail_audit import audit_mails
from tenants import clock, context


class Command(BaseCommand):
    """Check that no mail of any campaign is lost or stuck; exit 1 and name each finding."""

    help = "Prove that nothing is lost: every mail is sent or has its reason. Prints zero findings or each of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, **options: Any) -> None:
        with context.public():
            found = audit_mails(now=clock.now())
        if options["json"]:
            self.stdout.write(json.dumps({"findings": [asdict(finding) for finding in found]}))
        else:
            for finding in found:
                self.stdout.write(str(finding))
            self.stdout.write(f"{len(found)} findings.")
        if found:
            raise CommandError("Mails are lost or stuck.")
