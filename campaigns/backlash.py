"""Pauses campaigns of which too much comes back or is complained about, by what the rate is at least.

Judged are the mails of the last week, or of the time since a person last let the campaign go on: that person was shown
the evidence. Bounces that are our own fault are no facts of a mail, so they do not count; addresses that were refused
at once do. Where a provider tells of no complaints, complaints are not measured and pause nothing.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from campaigns import control
from campaigns.models import Campaign
from campaigns.reasons import PauseReason
from providers.senders.rates import too_high
from providers.senders.warmup import BOUNCE_RATE, COMPLAINT_RATE
from tenants.models import Agency

logger = logging.getLogger(__name__)

WINDOW = timedelta(days=7)


def pause_harmful(agency: Agency, *, now: datetime) -> int:
    """Pause each running campaign of the agency entered now whose rate is too high, with an error in the log; return
    how many those were."""
    with connection.cursor() as cursor:
        cursor.execute(_CAME_BACK, {"since": now - WINDOW})
        rows: Iterable[Any] = cursor.fetchall()
    paused = 0
    for campaign_id, mails, bounced, complained in rows:
        for count, limit, reason in (
            (complained, COMPLAINT_RATE, PauseReason.COMPLAINTS),
            (bounced, BOUNCE_RATE, PauseReason.BOUNCES),
        ):
            rate = too_high(count, mails, limit)
            if rate is None:
                continue
            if control.pause(Campaign.objects.get(pk=campaign_id), reason=reason, detail=str(rate)):
                logger.error(
                    "campaign paused, too much comes back: %s, %s",
                    reason.value,
                    rate,
                    extra={"agency": agency.slug, "campaign": campaign_id},
                )
                paused += 1
            break
    return paused


# A campaign of which nothing has come back is not counted through.
_CAME_BACK = """
SELECT c.id, n.mails, n.bounced, n.complained
FROM campaigns_campaign c
LEFT JOIN campaigns_campaignoutcome o ON o.campaign_id = c.id
CROSS JOIN LATERAL (
    SELECT count(*) AS mails,
           count(*) FILTER (WHERE f.bounced_at IS NOT NULL OR m.status = 'failed') AS bounced,
           count(*) FILTER (WHERE f.complained_at IS NOT NULL) AS complained
    FROM campaigns_message m LEFT JOIN campaigns_messagefacts f ON f.message_id = m.id
    WHERE m.campaign_id = c.id AND (m.status = 'sent' OR m.status = 'failed' AND m.reason = 'recipient_refused')
      AND COALESCE(m.sent_at, m.attempted_at) >= GREATEST(%(since)s, c.resumed_at)
) n
WHERE c.status = 'running' AND (o.bounced > 0 OR o.complained > 0 OR EXISTS (
    SELECT FROM campaigns_message WHERE campaign_id = c.id AND status = 'failed' AND reason = 'recipient_refused'
))
ORDER BY c.id
"""
