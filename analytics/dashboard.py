"""The numbers of an agency's front page, in a fixed number of queries. Days are the agency's, an account's are UTC."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Case, Count, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce, TruncDate
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from campaigns.models import Campaign, CampaignOutcome, Message
from campaigns.progress import Told, told
from campaigns.summaries import Summary, summaries
from providers.accounts import health
from providers.accounts import ledger as accounts
from providers.accounts.events import FACTS, EventType
from providers.accounts.models import Health
from providers.senders import ledger as senders
from providers.senders import routes
from tenants.models import Agency

_SUMMED = (
    *(fact.value for fact in FACTS),
    "opened_human",
    "opened_machine",
    "clicked_human",
    "clicked_machine",
)
DAYS = 30
SPARK_DAYS = 14
CAMPAIGNS = 6
Status = Message.Status

STATES: dict[str, Promise] = {
    "healthy": gettext_lazy("Ready"),
    "waiting": gettext_lazy("Used up for today"),
    "degraded": gettext_lazy("Tried again shortly"),
    "blocked": gettext_lazy("Blocked"),
}


@dataclass(slots=True)
class AccountToday:
    """What this agency has used of an account in the UTC day, and how much it may use: by the limits of the account
    and of its own share, and by what its senders can still send."""

    name: str
    kind: str
    used: int
    allowed: int
    state: str

    @property
    def percent(self) -> int:
        """Used in percent of allowed, 100 only when all is used."""
        return min(100, 100 * self.used // self.allowed) if self.allowed else 100

    @property
    def state_label(self) -> str:
        """The state in words."""
        return str(STATES[self.state])


def dashboard(agency: Agency, campaigns: QuerySet[Campaign], *, now: datetime) -> dict[str, Any]:
    """Everything on the front page about these campaigns of the agency entered now."""
    today = senders.local_day(now, agency.zone)
    first = today - timedelta(days=DAYS - 1)
    since = datetime.combine(first, time(), tzinfo=agency.zone)
    recent = list(
        campaigns.filter(Q(finished_at=None) | Q(finished_at__gte=since), launched_at__isnull=False)
        .order_by()
        .values_list("pk", flat=True)
    )
    of_accounts = accounts_today(agency, now=now)
    sent = _sent_per_day(agency, recent, since)
    series = [sent[first + timedelta(days=number)] for number in range(DAYS)]
    return {
        "kpis": [_sent_today(series), *_unsent(recent), _capacity(of_accounts)],
        "campaigns": _shown(campaigns),
        "told": _told(recent),
        "accounts": of_accounts,
        "days": {
            "labels": [(first + timedelta(days=number)).isoformat() for number in range(DAYS)],
            "sent": series,
        },
    }


def accounts_today(agency: Agency, *, now: datetime) -> list[AccountToday]:
    """Each account that the agency may use, by priority. Its own mails alone: what others use of it is not shown."""
    mine = list(accounts.allotments(agency))
    found = []
    for allotment, route in zip(mine, routes.usable(agency, now=now, mine=mine), strict=True):
        account = allotment.account
        limits = [account.per_day, route.used + route.room]
        if allotment.per_day is not None:
            limits.append(allotment.per_day)
        state = _state(getattr(account, "health", None), route.open, route.free)
        found.append(
            AccountToday(account.name, account.get_kind_display(), route.used, max(route.used, min(limits)), state)
        )
    return found


def _state(health: Health | None, is_open: bool, free: int) -> str:
    if health is not None and health.blocked:
        return "blocked"
    if not is_open:
        return "degraded"
    return "healthy" if free > 0 else "waiting"


def _sent_per_day(agency: Agency, campaign_ids: list[int], since: datetime) -> Counter[date]:
    rows = (
        Message.objects.filter(campaign__in=campaign_ids, status=Status.SENT, sent_at__gte=since)
        .annotate(day=TruncDate("sent_at", tzinfo=agency.zone))
        .values_list("day")
        .annotate(count=Count("pk"))
    )
    return Counter(dict(rows))


def _sent_today(series: list[int]) -> dict[str, Any]:
    week = sum(series[-7:])
    return {
        "label": _("Sent today"),
        "value": series[-1],
        "note": _("%(count)s in the last 7 days") % {"count": intcomma(week)},
        "tone": "",
        "points": series[-SPARK_DAYS:],
    }


def _unsent(campaign_ids: list[int]) -> list[dict[str, Any]]:
    """What has not gone out, of campaigns that are under way or ended in these days."""
    rows = (
        Message.objects.filter(campaign__in=campaign_ids)
        .exclude(status__in=[Status.SENT, Status.CANCELLED])
        .values_list("status", "campaign")
        .annotate(count=Count("pk"))
    )
    counts: Counter[str] = Counter()
    waiting_in = set()
    for status, campaign, count in rows:
        counts[status] += count
        if status in (Status.SCHEDULED, Status.CLAIMED, Status.HELD):
            waiting_in.add(campaign)
    waiting = counts[Status.SCHEDULED] + counts[Status.CLAIMED] + counts[Status.HELD]
    failed, doubt = counts[Status.FAILED], counts[Status.UNKNOWN]
    split = _("%(failed)s failed, %(doubt)s in doubt") % {"failed": intcomma(failed), "doubt": intcomma(doubt)}
    return [
        {
            "label": _("Waiting to go"),
            "value": waiting,
            "note": ngettext("in %(count)d campaign", "in %(count)d campaigns", len(waiting_in))
            % {"count": len(waiting_in)},
            "tone": "",
            "points": None,
        },
        {
            "label": _("Failed or in doubt"),
            "value": failed + doubt,
            "note": split if failed or doubt else _("every mail has a clear end"),
            "tone": "danger" if failed else "warning" if doubt else "success",
            "points": None,
        },
    ]


def _told(campaign_ids: list[int]) -> list[Told]:
    """What became of the mails of these campaigns together; nothing where none was sent."""
    rows = Message.objects.filter(campaign__in=campaign_ids, status=Status.SENT).values_list(
        "account", "campaign__track_opens", "campaign__track_clicks"
    )
    sent: Counter[int] = Counter()
    tracked = {EventType.OPENED: 0, EventType.CLICKED: 0}
    for account, opens, clicks, count in rows.annotate(count=Count("pk")).order_by():
        sent[account] += count
        tracked[EventType.OPENED] += count if opens else 0
        tracked[EventType.CLICKED] += count if clicks else 0
    telling = health.telling()
    sums = {name: Coalesce(Sum(name), 0) for name in _SUMMED}
    outcome = CampaignOutcome(**CampaignOutcome.objects.filter(campaign__in=campaign_ids).aggregate(**sums))
    heard = sum(sent[one] for one in sent if one in telling)
    return told(outcome, sent.total(), heard, tracked) if sent else []


def _capacity(accounts: list[AccountToday]) -> dict[str, Any]:
    used, allowed = sum(one.used for one in accounts), sum(one.allowed for one in accounts)
    percent = 100 * used / allowed if allowed else 0
    return {
        "label": _("Capacity used today"),
        "value": f"{number_format(percent, 0 if percent >= 10 or not percent else 1)} %",
        "note": _("%(used)s of %(allowed)s mails") % {"used": intcomma(used), "allowed": intcomma(allowed)},
        "tone": "warning" if percent >= 100 else "",
        "points": None,
    }


def _shown(campaigns: QuerySet[Campaign]) -> list[Summary]:
    """What is under way first, then the newest."""
    under_way = Case(
        When(status=Campaign.Status.RUNNING, then=Value(0)),
        When(status=Campaign.Status.PAUSED, then=Value(1)),
        default=Value(2),
    )
    return summaries(campaigns.order_by(under_way, "-created_at", "-pk")[:CAMPAIGNS])
