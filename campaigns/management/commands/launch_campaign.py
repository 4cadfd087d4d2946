from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.db import transaction

from campaigns import jobs, launch, pace
from campaigns.models import Campaign, ContactList, Step
from providers.accounts.models import TrafficClass
from tenants import clock
from tenants.commands import AgencyCommand
from tenants.models import Agency


class Command(AgencyCommand):
    """Launch a draft, or make one from a list and an HTML file and launch that."""

    help = "Launch a campaign of an agency. With --list, --subject and --html the draft is made first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("campaign", help="the campaign's id or name")
        parser.add_argument("--list", dest="into", metavar="NAME", help="make the draft: whom it writes to")
        parser.add_argument("--subject", help="make the draft: its subject, Liquid")
        parser.add_argument("--html", type=Path, metavar="FILE", help="make the draft: its HTML, Liquid")
        parser.add_argument("--class", dest="traffic_class", choices=TrafficClass.values, default="cold_outreach")
        parser.add_argument("--distribution", choices=["by_class", "even"], default="by_class")
        parser.add_argument("--overflow", choices=Campaign.Overflow.values, default="reroute")
        parser.add_argument("--days", metavar="N", type=int, nargs="+", help="days of the week: 0 is Monday")
        parser.add_argument("--from", dest="window_from", metavar="HH:MM", help="the first time of a day")
        parser.add_argument("--until", dest="window_until", metavar="HH:MM", help="the end of a day's window")
        parser.add_argument(
            "--timezone", metavar="TZ", default="", help="such as Europe/Berlin; by default the agency's"
        )
        parser.add_argument("--holidays", metavar="CC", default="", help="not on the holidays of this country: DE")
        parser.add_argument("--new-contacts-per-day", type=int, metavar="N")
        parser.add_argument("--per-domain-per-day", type=int, metavar="N", help="mails a day to each recipient domain")
        parser.add_argument("--gap", dest="gap_seconds", type=int, metavar="SECONDS", help="between a sender's mails")
        parser.add_argument(
            "--gap-jitter", dest="gap_jitter_seconds", type=int, metavar="SECONDS", help="at random on top"
        )

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        try:
            with transaction.atomic():
                campaign = self._draft(options) if options["into"] else _find(options["campaign"])
                launched = launch.launch(campaign, now=clock.now())
        except launch.LaunchRefusedError as refused:
            raise CommandError("Not launched, nothing was changed. " + " ".join(refused.problems)) from refused
        jobs.ring()
        for share in launched.shares:
            self.stdout.write(f"{share.name}: {share.count}")
        self.stdout.write(f"Campaign {campaign.pk} is running: {launched.total} mails are queued.")

    def _draft(self, options: dict[str, Any]) -> Campaign:
        if not options["subject"] or not options["html"]:
            raise CommandError("A new draft needs --subject and --html besides --list.")
        people = ContactList.objects.filter(name=options["into"]).first()
        if people is None:
            raise CommandError(f"No list is named “{options['into']}”: make it with import_contacts.")
        try:
            html = options["html"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--html {options['html']} cannot be read as UTF-8 text: {error}") from error
        campaign = Campaign(
            name=options["campaign"],
            list=people,
            weekdays=options["days"] if options["days"] is not None else list(pace.EVERY_DAY),
            **{name: options[name] for name in _AS_GIVEN},
        )
        try:
            campaign.full_clean()
        except ValidationError as error:
            raise CommandError("\n".join(_lines(error))) from None
        campaign.save()
        Step.objects.create(campaign=campaign, subject=options["subject"], html=html)
        return campaign


def _lines(error: ValidationError) -> list[str]:
    """What is wrong, each with the option that it is about."""
    found = error.message_dict.items()
    return [f"{_OPTIONS.get(name, '--' + name.replace('_', '-'))}: {text}" for name, texts in found for text in texts]


_AS_GIVEN = (
    "traffic_class",
    "distribution",
    "overflow",
    "window_from",
    "window_until",
    "timezone",
    "holidays",
    "new_contacts_per_day",
    "per_domain_per_day",
    "gap_seconds",
    "gap_jitter_seconds",
)
# The option of a field that is called otherwise.
_OPTIONS = {
    "name": "campaign",
    "weekdays": "--days",
    "window_from": "--from",
    "window_until": "--until",
    "gap_seconds": "--gap",
    "gap_jitter_seconds": "--gap-jitter",
}


def _find(name: str) -> Campaign:
    chosen = {"pk": int(name)} if name.isascii() and name.isdigit() else {"name": name}
    found = list(Campaign.objects.filter(**chosen)[:2])
    if len(found) > 1:
        same = ", ".join(f"{one.pk} ({one.status})" for one in Campaign.objects.filter(**chosen))
        raise CommandError(f"Several campaigns are named “{name}”: give the id of one, {same}.")
    if not found:
        some = ", ".join(f"{one.pk} “{one.name}”" for one in Campaign.objects.all()[:10]) or "none"
        raise CommandError(f"No campaign is named “{name}”. The latest: {some}.")
    return found[0]
