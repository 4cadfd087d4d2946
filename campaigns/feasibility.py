"""Whether a campaign can go on at all, ever, as things stand. What can send later today, or once an account that is
down comes back by itself, can go on.

An account that a check has blocked opens by itself when a check succeeds, so it counts as lost after a day of that.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from campaigns import control, pace
from campaigns.models import Campaign
from campaigns.reasons import WAYS_OUT, PauseReason
from tenants.models import Agency

logger = logging.getLogger(__name__)

LOST_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a campaign cannot go on; `detail` names the accounts that it is about."""

    reason: PauseReason
    detail: str = ""

    @property
    def text(self) -> str:
        """The reason and the way out."""
        return told(self.reason, self.detail)


def told(reason: str, detail: str) -> str:
    """An obstacle in words: why, about which accounts, and what a person has to do."""
    label = str(PauseReason(reason).label)
    why = _("%(reason)s (%(accounts)s).") % {"reason": label, "accounts": detail} if detail else f"{label}."
    return f"{why} {WAYS_OUT[PauseReason(reason)]}"


def obstacle(campaign: Campaign, agency: Agency, *, now: datetime) -> Obstacle | None:
    """What keeps this campaign of the agency entered now from sending any mail, if it is to run now."""
    if _never_opens(campaign, agency, now):
        return Obstacle(PauseReason.NEVER_OPENS)
    return next(iter(_stuck(agency, now, campaign).values()), None) or _of_agency(agency, now)


def pause_impossible(agency: Agency, *, now: datetime) -> int:
    """Pause each running campaign of the agency entered now that cannot go on, with an error in the log; return how
    many those were."""
    running = Campaign.objects.filter(status=Campaign.Status.RUNNING)
    found = {one.pk: Obstacle(PauseReason.NEVER_OPENS) for one in running if _never_opens(one, agency, now)}
    found |= _stuck(agency, now)
    return sum(_pause(campaign, agency, found[campaign.pk]) for campaign in running.filter(pk__in=found))


def _pause(campaign: Campaign, agency: Agency, why: Obstacle) -> bool:
    done = control.pause(campaign, reason=why.reason, detail=why.detail)
    if done:
        logger.error(
            "campaign paused, it cannot go on: %s",
            why.reason.value,
            extra={"agency": agency.slug, "campaign": campaign.pk, "accounts": why.detail},
        )
    return done


def _never_opens(campaign: Campaign, agency: Agency, now: datetime) -> bool:
    schedule = campaign.schedule(agency.zone)
    return not schedule.always_open and pace.next_open(schedule, now) is None


def _of_agency(agency: Agency, now: datetime) -> Obstacle | None:
    """What keeps every campaign of the agency from sending."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_AGENCY, _bounds(agency, now))
        return _of_means(*cursor.fetchone())


def _stuck(agency: Agency, now: datetime, campaign: Campaign | None = None) -> dict[int, Obstacle]:
    """The running campaigns, or this one, that have mails of which none can ever leave."""
    with connection.cursor() as cursor:
        cursor.execute(_STUCK, {**_bounds(agency, now), "campaign": campaign.pk if campaign else None})
        rows: Iterable[Any] = cursor.fetchall()
    return {
        pk: _of_means(*means)
        or (Obstacle(PauseReason.SENDERS_GONE) if threads else Obstacle(PauseReason.WAITS_IN_VAIN, accounts))
        for pk, threads, accounts, *means in rows
    }


def _of_means(usable: int, unblocked: int, allowed: int, staffed: int, ways: int, names: str | None) -> Obstacle | None:
    if not usable:
        return Obstacle(PauseReason.NO_ACCOUNTS)
    for count, reason in (
        (unblocked, PauseReason.ACCOUNTS_BLOCKED),
        (allowed, PauseReason.NOTHING_ALLOWED),
        (staffed, PauseReason.NO_SENDERS),
        (ways, PauseReason.NOTHING_ALLOWED),
    ):
        if not count:
            return Obstacle(reason, (names or "")[:300])
    return None


def _bounds(agency: Agency, now: datetime) -> dict[str, Any]:
    return {"agency": agency.pk, "lost": now - LOST_AFTER}


# The accounts that the agency may use, and the pairs of account and sender through which a mail can leave one day.
_MEANS = """
WITH usable AS MATERIALIZED (
    SELECT a.id, a.name, a.requires_consent,
           COALESCE(h.blocked, false) AND (
               NOT h.blocked_by_check
               OR EXISTS (SELECT FROM accounts_healthcheck k WHERE k.account_id = a.id AND k.at <= %(lost)s)
               AND NOT EXISTS (
                   SELECT FROM accounts_healthcheck k WHERE k.account_id = a.id AND k.ok AND k.at > %(lost)s
               )
           ) AS blocked,
           LEAST(a.per_day, a.per_month, t.per_day, t.per_month) > 0 AS allowed
    FROM accounts_allotment t
    JOIN accounts_account a ON a.id = t.account_id AND a.enabled AND COALESCE(a.owner_id, t.agency_id) = t.agency_id
    LEFT JOIN accounts_health h ON h.account_id = a.id
    WHERE t.agency_id = %(agency)s
), seats AS MATERIALIZED (
    SELECT u.id AS account_id, u.requires_consent, s.id AS sender_id, LEAST(s.per_day, g.per_day) > 0 AS allowed
    FROM usable u
    JOIN senders_home h ON h.account_id = u.id
    JOIN senders_senderdomain g ON g.id = h.domain_id
    JOIN senders_sender s ON s.domain_id = g.id AND s.active
    WHERE NOT u.blocked AND u.allowed
), ways AS MATERIALIZED (
    SELECT account_id, requires_consent, sender_id FROM seats WHERE allowed
), means AS (
    SELECT (SELECT count(*) FROM usable) AS usable,
           (SELECT count(*) FROM usable WHERE NOT blocked) AS unblocked,
           (SELECT count(*) FROM usable WHERE NOT blocked AND allowed) AS allowed,
           (SELECT count(*) FROM seats) AS staffed,
           (SELECT count(*) FROM ways) AS ways,
           (SELECT string_agg(name, ', ' ORDER BY name) FROM usable) AS names
)
"""
_OF_AGENCY = f"{_MEANS} SELECT * FROM means"  # noqa: S608 - of constants
# LATERAL with LIMIT: the first mail that can leave ends the search, which is nearly always the first of all. Mails move
# to another account unless the campaign chose to wait and theirs is neither gone nor blocked.
_STUCK = f"""{_MEANS}
SELECT c.id,
       NOT EXISTS (
           SELECT FROM campaigns_message m JOIN campaigns_enrollment e ON e.id = m.enrollment_id
           WHERE m.campaign_id = c.id AND m.status = 'scheduled' AND e.sender_id IS NULL
       ),
       (SELECT string_agg(name, ', ' ORDER BY name) FROM accounts_account a WHERE a.id IN (
           SELECT account_id FROM campaigns_message WHERE campaign_id = c.id AND status = 'scheduled'
       )),
       means.*
FROM means, campaigns_campaign c
LEFT JOIN LATERAL (
    SELECT true AS found
    FROM campaigns_message m
    JOIN campaigns_enrollment e ON e.id = m.enrollment_id
    JOIN ways w ON (e.sender_id IS NULL OR e.sender_id = w.sender_id)
        AND (e.consented OR NOT w.requires_consent) AND (
        w.account_id = m.account_id
        OR c.overflow = 'reroute'
        OR m.account_id NOT IN (SELECT id FROM usable WHERE NOT blocked)
    )
    WHERE m.campaign_id = c.id AND m.status = 'scheduled'
    LIMIT 1
) possible ON true
WHERE CASE WHEN %(campaign)s::bigint IS NULL THEN c.status = 'running' ELSE c.id = %(campaign)s END
  AND possible.found IS NULL
  AND EXISTS (SELECT FROM campaigns_message WHERE campaign_id = c.id AND status = 'scheduled')
  AND NOT EXISTS (SELECT FROM campaigns_message WHERE campaign_id = c.id AND status = 'claimed')
"""  # noqa: S608 - of constants
