"""Many campaigns at a glance: one count for all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count
from django.urls import reverse
from django.utils import dates
from django.utils.translation import gettext as _

from campaigns import feasibility, pace
from campaigns.models import Campaign, Message
from campaigns.progress import COUNTED_AS
from tenants import context


@dataclass(slots=True)
class Summary:
    """A campaign and its mails by what became of them; `total` is all that were planned."""

    id: int
    name: str
    status: str
    status_label: str
    traffic_class_label: str
    created_at: datetime
    when: str = ""
    paused_because: str = ""
    total: int = 0
    sent: int = 0
    in_progress: int = 0
    waiting: int = 0
    failed: int = 0
    in_doubt: int = 0
    cancelled: int = 0

    @property
    def percent(self) -> int:
        """Sent in percent of all; 100 only when all are."""
        return 100 * self.sent // self.total if self.total else 0

    @property
    def url(self) -> str:
        """The campaign's page."""
        return reverse("campaigns:detail", args=[self.id])


def when(campaign: Campaign) -> str:
    """The campaign's days, hours, holidays and caps in one line; empty where it has none."""
    zone = context.current_agency().zone
    parts = []
    schedule = campaign.schedule(zone)
    if not schedule.always_open:
        opens, closes = campaign.window_from, campaign.window_until
        hours = f"{opens.strftime('%H:%M') if opens else '00:00'}–{closes.strftime('%H:%M') if closes else '24:00'}"
        recipients = campaign.window_zone == Campaign.WindowZone.RECIPIENT
        whose = _("in the recipient's time zone") if recipients else schedule.zone.key
        parts.append(" ".join([_days(campaign.weekdays), *([hours] if opens or closes else []), whose]))
    if campaign.holidays:
        country = pace.countries().get(campaign.holidays, campaign.holidays)
        parts.append(_("not on holidays of %(country)s") % {"country": country})
    if campaign.new_contacts_per_day is not None:
        parts.append(_("at most %(count)d new contacts a day") % {"count": campaign.new_contacts_per_day})
    if campaign.per_domain_per_day is not None:
        parts.append(_("at most %(count)d mails a day to one domain") % {"count": campaign.per_domain_per_day})
    return " · ".join(parts)


def _days(weekdays: Iterable[int]) -> str:
    """Days that follow each other as a range."""
    runs: list[list[int]] = []
    for day in sorted(weekdays):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    names = dates.WEEKDAYS_ABBR
    return ", ".join(f"{names[run[0]]}–{names[run[-1]]}" if len(run) > 1 else str(names[run[0]]) for run in runs)


def of(campaign: Campaign) -> Summary:
    """What a campaign is called and where it stands, without a look at its mails."""
    return Summary(
        id=campaign.pk,
        name=campaign.name,
        status=campaign.status,
        status_label=campaign.get_status_display(),
        traffic_class_label=campaign.get_traffic_class_display(),
        created_at=campaign.created_at,
        when=when(campaign),
        paused_because=feasibility.told(campaign.paused_reason, campaign.paused_detail)
        if campaign.paused_reason
        else "",
    )


def summaries(campaigns: Iterable[Campaign]) -> list[Summary]:
    """These campaigns with their counts, in the order given, in one query."""
    found = {campaign.pk: of(campaign) for campaign in campaigns}
    counts = Message.objects.filter(campaign__in=list(found)).values_list("campaign", "status")
    for campaign_id, status, count in counts.annotate(count=Count("pk")):
        summary = found[campaign_id]
        summary.total += count
        kind = "sent" if status == Message.Status.SENT else COUNTED_AS[Message.Status(status)]
        setattr(summary, kind, getattr(summary, kind) + count)
    return list(found.values())
