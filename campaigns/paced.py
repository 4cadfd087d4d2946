"""Running campaigns that may not send at any time to anybody: what a claim leaves out, and until when that waits.

A claim leaves out the campaigns whose window is closed, and looks at each mail where the window is the recipient's or
the campaign has a cap. So that it does not read past the same mails again and again, what cannot leave before a known
moment is set aside: it is due at that moment, and says why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Q

from campaigns import caps, gaps, lifecycle, pace
from campaigns.caps import Cap, Mail
from campaigns.gaps import Gap
from campaigns.lifecycle import Claimed
from campaigns.models import Campaign, every_day
from campaigns.reasons import Reason
from providers.senders import ledger as senders
from tenants.models import Agency

Fixed = TypeVar("Fixed")

ZONE = "timezone"
# What never opens is looked at again, should its holidays be others by then.
NEVER = timedelta(days=1)


@dataclass(slots=True)
class Paced:
    """The running campaigns with windows or caps at one moment. `closed` are closed for every recipient.

    In `hours` a sender may send its day's mails: the shortest window of all, or less.
    """

    now: datetime
    day: date
    zone: ZoneInfo
    campaigns: dict[int, Campaign] = field(default_factory=dict)
    closed: list[int] = field(default_factory=list)
    caps: dict[int, Cap] = field(default_factory=dict)
    hours: float = senders.HOURS
    _open: dict[tuple[int, str], bool] = field(default_factory=dict)

    def admit(self, due: Sequence[tuple[Claimed, Fixed]]) -> list[tuple[Claimed, Fixed]]:
        """Those of the locked mails that may leave now. Locks the rows of their caps."""
        found = [pair for pair in due if self._is_open(pair[0])]
        if not self.caps:
            return found
        rooms = caps.lock(self.caps, [_mail(message) for message, _ in found], day=self.day)
        return [pair for pair in found if rooms.take(_mail(pair[0]))]

    def spend(self, batch: Sequence[Claimed]) -> None:
        """Count mails that were admitted."""
        if self.caps:
            caps.spend(self.caps, [_mail(message) for message in batch], day=self.day)

    def _is_open(self, message: Claimed) -> bool:
        campaign = self.campaigns.get(message.campaign_id)
        if campaign is None or campaign.window_zone != Campaign.WindowZone.RECIPIENT:
            return True
        key = (campaign.pk, str(message.contact.get(ZONE, "")))
        if key not in self._open:
            self._open[key] = pace.is_open(campaign.schedule(self.zone, of=key[1]), self.now)
        return self._open[key]


def running(agency: Agency, *, now: datetime) -> Paced:
    """The running campaigns of the agency entered now that have windows or caps, in one query if there are none."""
    found = Paced(now, senders.local_day(now, agency.zone), agency.zone)
    found.campaigns = {one.pk: one for one in Campaign.objects.filter(_PACED, status=Campaign.Status.RUNNING)}
    found.closed = [
        one.pk
        for one in found.campaigns.values()
        if one.window_zone == Campaign.WindowZone.CAMPAIGN and not pace.is_open(one.schedule(agency.zone), now)
    ]
    found.caps = caps.of(found.campaigns.values())
    windows = (one.schedule(agency.zone).hours for one in found.campaigns.values())
    found.hours = min([senders.HOURS, *windows])
    return found


def gaps_kept(domain_ids: Iterable[int] | None = None) -> dict[int, Gap]:
    """What the senders of these domains, or of all, keep between two mails: the longest gap of the running campaigns
    that have given mails to an account which they may leave through. Left out are domains without any.

    Ask while the senders are locked: a campaign that is launched at that moment counts from the next claim on.
    """
    with connection.cursor() as cursor:
        cursor.execute(_GAPS_KEPT, {"domains": None if domain_ids is None else list(domain_ids)})
        return {domain_id: Gap(seconds, jitter) for domain_id, seconds, jitter in cursor.fetchall()}


def why_closed(schedule: pace.Schedule, now: datetime) -> tuple[Reason, datetime | None] | None:
    """Why a mail may not leave by this schedule, and when it opens; None while it is open."""
    if pace.is_open(schedule, now):
        return None
    working_day = now.astimezone(schedule.zone).weekday() in schedule.weekdays
    holiday = working_day and pace.is_holiday(schedule, now)
    return Reason.HOLIDAY if holiday else Reason.OUTSIDE_WINDOW, pace.next_open(schedule, now)


def set_aside(agency: Agency, account_id: int, *, now: datetime) -> int:
    """Let the due mails of this account that windows or caps keep wait until those clear; return how many there are."""
    found = running(agency, now=now)
    moved = 0
    for campaign in found.campaigns.values():
        for zones, schedule in _schedules(campaign, account_id, found):
            if closed := why_closed(schedule, now):
                reason, until = closed
                moved += lifecycle.set_aside(
                    account_id, campaign.pk, reason, until=until or now + NEVER, now=now, zones=zones
                )
    tomorrow = senders.next_day(now, agency.zone)
    spent = caps.spent_campaigns(found.caps, day=found.day)
    for cap in found.caps.values():
        if cap.campaign_id in spent:
            moved += lifecycle.set_aside(
                account_id, cap.campaign_id, Reason.CAMPAIGN_DAY_SPENT, until=tomorrow, now=now, step=cap.first_step
            )
        if domains := caps.spent_domains(cap, day=found.day):
            moved += lifecycle.set_aside(
                account_id, cap.campaign_id, Reason.RECIPIENT_DOMAIN_SPENT, until=tomorrow, now=now, domains=domains
            )
    return moved


def _schedules(campaign: Campaign, account_id: int, found: Paced) -> list[tuple[list[str] | None, pace.Schedule]]:
    """The schedules that bind due mails, each with the names of the zones in which it does; None is all of them."""
    own = campaign.schedule(found.zone)
    if own.always_open:
        return []
    if campaign.window_zone == Campaign.WindowZone.CAMPAIGN:
        return [(None, own)]
    names: dict[pace.Schedule, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_ZONES, [account_id, campaign.pk, found.now])
        for (name,) in cursor.fetchall():
            names.setdefault(campaign.schedule(found.zone, of=name), []).append(name)
    return [(zones, schedule) for schedule, zones in names.items()]


def _mail(message: Claimed) -> Mail:
    return Mail(message.campaign_id, message.step_id, caps.domain_of(message.contact["email"]))


_PACED = (
    ~Q(weekdays=every_day())
    | Q(window_from__isnull=False)
    | Q(window_until__isnull=False)
    | ~Q(holidays="")
    | Q(new_contacts_per_day__isnull=False)
    | Q(per_domain_per_day__isnull=False)
)
_LEAST, _JITTER = (
    f"""max(COALESCE(c.{column}, CASE c.traffic_class {
        " ".join(f"WHEN '{name}' THEN {default[part]}" for name, default in gaps.DEFAULTS.items())
    } ELSE 0 END))"""
    for part, column in enumerate(("gap_seconds", "gap_jitter_seconds"))
)
_GAPS_KEPT = f"""
WITH kept AS (
    SELECT account_id, {_LEAST} AS least, {_JITTER} AS jitter
    FROM campaigns_campaign c CROSS JOIN LATERAL unnest(c.accounts) AS account_id
    WHERE c.status = 'running'
    GROUP BY account_id HAVING {_LEAST} + {_JITTER} > 0
)
SELECT h.domain_id, max(kept.least), max(kept.jitter)
FROM kept JOIN senders_home h USING (account_id)
WHERE %(domains)s::bigint[] IS NULL OR h.domain_id = ANY(%(domains)s::bigint[])
GROUP BY 1
"""  # noqa: S608 - of constants
_ZONES = """
SELECT DISTINCT COALESCE(p.attributes->>'timezone', '')
FROM campaigns_message m JOIN campaigns_contact p ON p.id = m.contact_id
WHERE m.account_id = %s AND m.status = 'scheduled' AND NOT m.parked AND m.campaign_id = %s AND m.due_at <= %s
"""
