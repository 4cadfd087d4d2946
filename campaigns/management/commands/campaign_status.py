import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.markup import escape

from campaigns import feasibility, progress, tables
from campaigns.models import Campaign
from tenants import clock
from tenants.commands import AgencyCommand
from tenants.models import Agency


class Command(AgencyCommand):
    """Show a campaign in numbers: sent per account, and why the rest is not."""

    help = "Show what was sent through which account and why the rest is waiting."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("campaign", type=int, help="the campaign's id")
        parser.add_argument("--json", action="store_true")

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        campaign = Campaign.objects.filter(pk=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"{agency.name} has no campaign {options['campaign']}.")
        report = progress.progress(campaign, now=clock.now())
        if options["json"]:
            values = {"id": campaign.pk, "name": campaign.name, "status": campaign.status}
            values |= {
                "paused_reason": campaign.paused_reason,
                "paused_detail": campaign.paused_detail,
                **report.as_dict(),
            }
            self.stdout.write(json.dumps(values, cls=DjangoJSONEncoder))
            return
        console = Console()
        console.print(f"[bold]{escape(campaign.name)}[/bold]: {campaign.get_status_display()}")
        if campaign.paused_reason:
            console.print(escape(feasibility.told(campaign.paused_reason, campaign.paused_detail)))
        for table in tables.of(report):
            console.print(table)
