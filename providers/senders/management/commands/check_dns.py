import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.senders import dkim, dns
from providers.senders.models import SenderDomain
from tenants import clock, context
from tenants.commands import named


class Command(BaseCommand):
    """Check what an agency's sender domains publish in the DNS; exit 1 unless all are sound."""

    help = (
        "Ask the DNS about the sender domains of an agency and print what is wrong and what to publish. A DKIM key "
        "whose record is seen signs from then on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("agency", metavar="AGENCY", help="the agency's short name")
        parser.add_argument("domains", nargs="*", metavar="DOMAIN", help="these alone; all unless given")
        parser.add_argument("--make-key", action="store_true", help="make the next DKIM key of each first")
        parser.add_argument("--json", action="store_true")

    def handle(self, *_: Any, agency: str, domains: list[str], **options: Any) -> None:
        with context.entered(named(agency)):
            wanted = SenderDomain.objects.filter(name__in=domains) if domains else SenderDomain.objects.all()
            if unknown := set(domains) - {domain.name for domain in wanted}:
                raise CommandError(f"No domain of this agency: {', '.join(sorted(unknown))}.")
            if options["make_key"]:
                for domain in wanted:
                    dkim.make(domain, now=clock.now())
            found = dns.check_all(now=clock.now(), domains=wanted)
            for one in found:
                if options["json"]:
                    shown = {"domain": one.domain.name, "sound": one.sound, "findings": one.findings}
                    self.stdout.write(json.dumps(shown))
                else:
                    self._tell(one.domain.name, one.findings)
        if not all(one.sound for one in found):
            raise CommandError("Not every domain is sound.")

    def _tell(self, domain: str, findings: list[dict[str, Any]]) -> None:
        self.stdout.write(f"{domain}:")
        for finding in findings:
            self.stdout.write(f"  {finding['level']:8}{dns.told(finding)}")
            if record := finding["record"]:
                self.stdout.write(f"          {record['name']} {record['type']} {record['value']}")
