"""Many campaigns at a glance: one count for all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count
from django.urls import reverse

from campaigns.models import Campaign, Message
from campaigns.progress import COUNTED_AS


@dataclass(slots=True)
class Summary:
    """A campaign and its mails by what became of them; `total` is all that were planned."""

    id: int
    name: str
    status: str
    status_label: str
    traffic_class_label: str
    created_at: datetime
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


def of(campaign: Campaign) -> Summary:
    """What a campaign is called and where it stands, without a look at its mails."""
    return Summary(
        id=campaign.pk,
        name=campaign.name,
        status=campaign.status,
        status_label=campaign.get_status_display(),
        traffic_class_label=campaign.get_traffic_class_display(),
        created_at=campaign.created_at,
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
