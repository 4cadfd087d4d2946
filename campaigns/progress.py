"""One campaign in numbers: what was planned, what was sent, and why the rest is not."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from campaigns import readership
from campaigns.explain import Why
from campaigns.models import Campaign, CampaignOutcome, Message
from campaigns.readership import Readership
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.events import FACTS, EventType
from providers.accounts.models import Account
from tenants import context

Status = Message.Status


@dataclass(slots=True)
class AccountProgress:
    """Mails of one account: as planned at launch, and as sent through it so far."""

    id: int
    name: str
    kind: str
    planned: int = 0
    sent: int = 0

    @property
    def percent(self) -> int:
        """Sent through it in percent of what was planned for it, at most 100."""
        return min(100, round(100 * self.sent / self.planned)) if self.planned else 100 * bool(self.sent)


@dataclass(slots=True)
class Waiting:
    """So many mails are not sent for one reason, which clears at `clears_at` where that is known."""

    code: str
    count: int
    clears_at: datetime | None = None

    @property
    def label(self) -> str:
        """The reason in words."""
        return str(Reason(self.code).label)


@dataclass(slots=True)
class Told:
    """So many of the mails that went out have a fact, in percent of those of which it could be heard; None of none.

    Of opens and clicks, `readers` are who did. Not `measured`: nobody looked for it, so no count says anything.
    """

    code: str
    label: str
    count: int
    percent: float | None
    measured: bool = True
    readers: Readership | None = None

    @property
    def human_percent(self) -> float | None:
        """What of `percent` is people."""
        if self.readers is None or self.percent is None or not self.count:
            return self.percent
        return round(self.percent * self.readers.human / self.count, 2)


@dataclass(slots=True)
class Progress:
    """A campaign's mails; `total` is sent + every reason's count, exactly."""

    total: int = 0
    sent: int = 0
    in_progress: int = 0
    waiting: int = 0
    failed: int = 0
    in_doubt: int = 0
    cancelled: int = 0
    accounts: list[AccountProgress] = field(default_factory=list)
    reasons: list[Waiting] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    rate_per_minute: int | None = None
    updated_at: datetime | None = None
    live: bool = False

    @property
    def percent(self) -> int:
        """Sent in percent of all; 100 only when all are."""
        return int(100 * self.sent / self.total) if self.total else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {**asdict(self), "percent": self.percent}


def progress(campaign: Campaign, *, now: datetime) -> Progress:
    """Count a campaign's mails by state, account and reason, in a few queries whatever its size."""
    agency = context.current_agency()
    why = Why(campaign, agency, now)
    about, of = (_ABOUT_CONTACT, _CONTACTS) if why.looks_at_contacts else (_ABOUT_NOBODY, "")
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNTS.format(about=about, of=of, sender=_THEIR_SENDER if why.has_threads else "NULL::bigint"),
            {"now": now, "campaign": campaign.pk, "first": why.first_step, "domains": list(why.spent_domains)},
        )
        rows = cursor.fetchall()
    report = Progress(updated_at=now)
    # The database does not keep an account from being gone; its mails are told all the same.
    ids = {pk for row in rows for pk in row[1:3]}
    accounts = {pk: AccountProgress(pk, f"#{pk}", "") for pk in ids}
    for account in Account.objects.filter(pk__in=ids):
        accounts[account.pk] = AccountProgress(account.pk, account.name, account.get_kind_display())
    reasons: Counter[str] = Counter()
    clears: dict[str, datetime | None] = {}
    lately = 0
    for status, account_id, planned_id, reason, later, zone, first, to_spent, sender_id, count, due_at, recent in rows:
        report.total += count
        accounts[planned_id].planned += count
        lately += recent
        if status == Status.SENT:
            report.sent += count
            accounts[account_id].sent += count
            continue
        until_due = due_at if later else None
        code, until = why(
            status, account_id, reason, until_due, zone=zone, first=first, to_spent=to_spent, sender_id=sender_id
        )
        reasons[code] += count
        clears[code] = min(filter(None, (clears.get(code), until)), default=None)
        setattr(report, COUNTED_AS[status], getattr(report, COUNTED_AS[status]) + count)
    report.accounts = sorted(accounts.values(), key=lambda one: one.id)
    telling = health.telling()
    report.told = told(
        CampaignOutcome.objects.filter(campaign=campaign).first(),
        report.sent,
        sum(one.sent for one in report.accounts if one.id in telling),
        {
            EventType.OPENED: report.sent if campaign.track_opens else 0,
            EventType.CLICKED: report.sent if campaign.track_clicks else 0,
        },
    )
    report.reasons = [Waiting(code, count, clears[code]) for code, count in reasons.most_common()]
    moving = {
        Reason.IN_QUEUE,
        Reason.SENDERS_RESTING,
        Reason.SENDERS_HOUR_SPENT,
        Reason.THREAD_RESTING,
        Reason.ACCOUNT_CLOSED,
        Reason.THROTTLED,
    }
    report.live = campaign.status == Campaign.Status.RUNNING and (
        report.in_progress > 0 or any(one.code in moving for one in report.reasons)
    )
    report.rate_per_minute = lately if report.live else None
    return report


def told(outcome: CampaignOutcome | None, sent: int, telling: int, tracked: Mapping[EventType, int]) -> list[Told]:
    """What became of so many mails that were sent, fact by fact; `telling` of them through providers that tell of
    deliveries. `tracked`: those of which opens and clicks were looked for."""
    outcome = outcome or CampaignOutcome()
    readers = readership.of(outcome)
    found = []
    for fact in FACTS:
        count = getattr(outcome, fact.value)
        # A provider may tell of opens that we did not look for.
        of = telling if fact == EventType.DELIVERED else tracked.get(fact, sent) or (sent if count else 0)
        percent = round(100 * count / of, 2) if of else None
        measured = fact not in tracked or not sent or bool(of)
        found.append(Told(fact.value, str(fact.label), count, percent, measured, readers.get(fact)))
    return found


COUNTED_AS = {
    Status.SCHEDULED: "waiting",
    Status.CLAIMED: "in_progress",
    Status.HELD: "waiting",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
    Status.UNKNOWN: "in_doubt",
}
# Only for campaigns in which a mail's reason depends on whom it is to.
_ABOUT_CONTACT = """COALESCE(p.attributes->>'timezone', ''), COALESCE(m.step_id = %(first)s, false),
       lower(substring(p.email FROM '[^@]*$')) = ANY(%(domains)s)"""
_ABOUT_NOBODY = "'', COALESCE(m.step_id = %(first)s, false), false"
_CONTACTS = "JOIN campaigns_contact p ON p.id = m.contact_id"
# Only of what is due: for the rest it says nothing yet.
_THEIR_SENDER = """CASE WHEN m.status = 'scheduled' AND m.due_at <= now THEN (
    SELECT e.sender_id FROM campaigns_enrollment e WHERE e.id = m.enrollment_id
) END"""
_COUNTS = """
WITH moment AS (SELECT %(now)s::timestamptz AS now)
SELECT m.status, m.account_id, m.planned_id, m.reason, m.status = 'scheduled' AND m.due_at > now, {about}, {sender},
       count(*), min(m.due_at), count(*) FILTER (WHERE m.sent_at > now - interval '1 minute')
FROM moment, campaigns_message m {of}
WHERE m.campaign_id = %(campaign)s
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""
