"""Proof that nothing is lost: every campaign's mails are all there, each sent or with its reason, none stuck."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from campaigns import last_mails
from campaigns.models import Campaign
from campaigns.progress import progress
from providers.accounts import ledger
from tenants import context
from tenants.models import Agency

# A dead worker's mails are taken back every minute; so long after the lease nobody has come for them.
LATE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with how many mails of a campaign."""

    agency: str
    campaign: str
    problem: str
    count: int

    def __str__(self) -> str:
        return f"{self.agency}, campaign {self.campaign}: {self.problem}: {self.count}"


def audit_mails(*, now: datetime) -> list[Finding]:
    """Check every campaign of every ready agency, also of those switched off. Works in the public schema."""
    found: list[Finding] = []
    for agency in Agency.objects.exclude(schema_name=context.PUBLIC).filter(ready=True).order_by("pk"):
        with context.entered(agency):
            found += _audit(agency, now)
    return found


def _audit(agency: Agency, now: datetime) -> Iterator[Finding]:
    usable = [route.account_id for route in ledger.routes(agency, now=now)]
    names = dict(Campaign.objects.values_list("pk", "name"))
    with connection.cursor() as cursor:
        cursor.execute(_FINDINGS, {"late": now - LATE, "usable": usable})
        for campaign_id, problem, count in cursor.fetchall():
            yield Finding(agency.slug, f"{campaign_id} “{names.get(campaign_id, '')}”", problem, count)
    for one in last_mails.late():
        problem = f"mail {one.key} was begun {one.after.total_seconds():g} s after its contact had opted out"
        yield Finding(agency.slug, f"{one.campaign_id} “{names.get(one.campaign_id, '')}”", problem, 1)
    for campaign in Campaign.objects.exclude(status=Campaign.Status.DRAFT).order_by("pk"):
        report = progress(campaign, now=now)
        told = report.sent + sum(one.count for one in report.reasons)
        planned = sum(account.planned for account in report.accounts)
        for problem, number in (
            ("mails that are neither sent nor have a reason", report.total - told),
            ("mails that no account was planned for", report.total - planned),
        ):
            if number:
                yield Finding(agency.slug, f"{campaign.pk} “{campaign.name}”", problem, number)


_FINDINGS = """
SELECT e.campaign_id, 'contacts without their first mail', count(*)
FROM campaigns_enrollment e
WHERE NOT EXISTS (
    SELECT FROM campaigns_message m WHERE m.enrollment_id = e.id AND m.step_id = (
        SELECT id FROM campaigns_step s WHERE s.campaign_id = e.campaign_id ORDER BY s.position LIMIT 1
    )
)
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails of another campaign''s or contact''s enrollment or step', count(*)
FROM campaigns_message m
JOIN campaigns_enrollment e ON e.id = m.enrollment_id
JOIN campaigns_step s ON s.id = m.step_id
WHERE e.campaign_id <> m.campaign_id OR e.contact_id <> m.contact_id OR s.campaign_id <> m.campaign_id
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails of a draft', count(*)
FROM campaigns_message m JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.status = 'draft'
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails whose worker has not come back for ten minutes', count(*)
FROM campaigns_message m WHERE m.status = 'claimed' AND m.lease_until < %(late)s
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails that are counted while they wait', count(*)
FROM campaigns_message m WHERE m.status = 'scheduled' AND (m.claim IS NOT NULL OR m.counted_on IS NOT NULL)
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails that are sent or in doubt and not counted', count(*)
FROM campaigns_message m WHERE m.status IN ('claimed', 'sent', 'unknown') AND m.counted_on IS NULL
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails that wait for an account which the agency may not use', count(*)
FROM campaigns_message m JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.status IN ('running', 'paused')
WHERE m.status = 'scheduled' AND m.account_id <> ALL(%(usable)s::bigint[])
GROUP BY 1
UNION ALL
SELECT m.campaign_id, 'mails of a campaign, step, enrollment, contact, account or sender that is gone', count(*)
FROM campaigns_message m
LEFT JOIN campaigns_campaign c ON c.id = m.campaign_id
LEFT JOIN campaigns_step s ON s.id = m.step_id
LEFT JOIN campaigns_enrollment e ON e.id = m.enrollment_id
LEFT JOIN campaigns_contact p ON p.id = m.contact_id
LEFT JOIN accounts_account planned ON planned.id = m.planned_id
LEFT JOIN accounts_account a ON a.id = m.account_id
LEFT JOIN senders_sender by ON by.id = m.sender_id
WHERE c.id IS NULL OR s.id IS NULL OR e.id IS NULL OR p.id IS NULL OR planned.id IS NULL OR a.id IS NULL
   OR (by.id IS NULL AND m.sender_id IS NOT NULL)
GROUP BY 1
UNION ALL
SELECT e.campaign_id, 'enrollments of a campaign, contact or sender that is gone', count(*)
FROM campaigns_enrollment e
LEFT JOIN campaigns_campaign c ON c.id = e.campaign_id
LEFT JOIN campaigns_contact p ON p.id = e.contact_id
LEFT JOIN senders_sender by ON by.id = e.sender_id
WHERE c.id IS NULL OR p.id IS NULL OR (by.id IS NULL AND e.sender_id IS NOT NULL)
GROUP BY 1
ORDER BY 1, 2
"""
