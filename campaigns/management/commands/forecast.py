import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.markup import escape

from campaigns import forecast, tables
from campaigns.models import Campaign
from tenants import clock
from tenants.commands import AgencyCommand
from tenants.models import Agency


class Command(AgencyCommand):
    """Foresee when what waits of a campaign will have gone, and show what came of the forecast at launch."""

    help = "Foresee the finish, the mails of each day, what keeps more from going, and the cost; nothing is changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("campaign", type=int, help="the campaign's id")
        parser.add_argument("--json", action="store_true")

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        campaign = Campaign.objects.filter(pk=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"{agency.name} has no campaign {options['campaign']}.")
        report = forecast.report(campaign, now=clock.now())
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), cls=DjangoJSONEncoder))
            return
        console = Console()
        console.print(f"[bold]{escape(campaign.name)}[/bold]: {campaign.get_status_display()}")
        for problem in report.forecast.problems if report.forecast else ():
            console.print(escape(problem), style="yellow")
        for table in tables.foreseen(report):
            console.print(table)
