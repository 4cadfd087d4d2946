"""Where contacts come from: an import, or a list for those who came without one. Of whose mails too much comes back, no
further first mails go to its contacts, in any campaign of its list, until a person releases it. The only writer of
SourcePause.

What a worker holds already still goes. Who has been written to before keeps getting what follows.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from campaigns import control, lifecycle
from campaigns.models import ContactList, Intake, SourcePause
from providers.senders import recovery
from providers.senders.recovery import Cause, Tally
from tenants import visits
from tenants.models import Agency

logger = logging.getLogger(__name__)


def pause_harmful(agency: Agency, *, now: datetime) -> int:
    """Pause each source of the agency entered now of which too much came back in a week, or since it was last
    released, with an error in the log; return how many those were."""
    since, paused = now - recovery.WINDOW, 0
    with connection.cursor() as cursor:
        cursor.execute(_CAME_BACK, {"since": since})
        rows: Iterable[Any] = cursor.fetchall()
    for list_id, intake_id, *counts in rows:
        tally = Tally(*counts)
        verdict = recovery.judge(tally)
        if verdict is None:
            continue
        made = _pause(
            list_id,
            intake_id,
            now=now,
            cause=verdict.cause,
            mails=tally.mails,
            bounced=tally.bounced,
            complained=tally.complained,
            least=verdict.rate.least,
        )
        if made is not None:
            logger.error(
                "list source paused, too much comes back: %s, %s",
                verdict.cause.value,
                verdict.rate,
                extra={"agency": agency.slug, "list": list_id, "import": intake_id},
            )
            paused += 1
    return paused


def pause(people: ContactList, intake: Intake | None, *, by: str, why: str, now: datetime) -> bool:
    """Write to nobody else of this source until a person releases it; return False if it is paused already."""
    cause = Cause.PERSON
    return (
        _pause(people.pk, intake.pk if intake else None, now=now, cause=cause, by=by[:254], why=why[:300]) is not None
    )


def release(found: SourcePause, *, by: str, why: str, now: datetime) -> bool:
    """Let its first mails go after all; return False if it was released already."""
    with transaction.atomic():
        done = SourcePause.objects.filter(pk=found.pk, ended_at=None).update(
            ended_at=now, ended_by=by[:254], ended_why=why[:300]
        )
        if done:
            control.reopen(lifecycle.let_sources_go(now=now))
            visits.ask(now)
    return bool(done)


def hold(*, list_id: int | None = None) -> int:
    """Hold the first mails that wait for contacts of paused sources, of this list or of all; return how many."""
    return lifecycle.hold_sources(list_id) if SourcePause.objects.filter(ended_at=None).exists() else 0


@dataclass(frozen=True, slots=True)
class Told:
    """One pause in words, for every edge; `held` are the mails that wait for its end."""

    id: int
    list: str
    file_name: str
    cause: str
    cause_label: str
    began_at: datetime
    mails: int
    bounced: int
    complained: int
    least_percent: float
    evidence: str
    held: int
    by: str
    why: str


def told() -> list[Told]:
    """The paused sources of the agency entered now, the latest first."""
    rows = list(SourcePause.objects.filter(ended_at=None).select_related("list", "intake"))
    held = lifecycle.held_of_sources() if rows else {}
    return [
        Told(
            id=one.pk,
            list=one.list.name,
            file_name=one.intake.file_name if one.intake else "",
            cause=one.cause,
            cause_label=str(one.get_cause_display()),
            began_at=one.began_at,
            mails=one.mails,
            bounced=one.bounced,
            complained=one.complained,
            least_percent=round(one.least * 100, 3),
            evidence=recovery.in_words(one.mails, one.bounced, one.complained, one.least),
            held=held.get((one.list_id, one.intake_id), 0),
            by=one.by,
            why=one.why,
        )
        for one in rows
    ]


def _pause(list_id: int, intake_id: int | None, *, now: datetime, **fields: Any) -> SourcePause | None:
    with transaction.atomic():
        # Two that pause it at the same time do so one after the other.
        ContactList.objects.select_for_update(no_key=True).get(pk=list_id)
        if SourcePause.objects.filter(list=list_id, intake=intake_id, ended_at=None).exists():
            return None
        made = SourcePause.objects.create(list_id=list_id, intake_id=intake_id, began_at=now, **fields)
        lifecycle.hold_sources(list_id)
    return made


# Lists of whose campaigns nothing has come back are not counted through.
_CAME_BACK = """
WITH lists AS MATERIALIZED (
    SELECT DISTINCT c.list_id FROM campaigns_campaign c
    LEFT JOIN campaigns_campaignoutcome o ON o.campaign_id = c.id
    WHERE c.status IN ('running', 'paused', 'finished', 'cancelled')
      AND (c.finished_at IS NULL OR c.finished_at >= %(since)s)
      AND (o.bounced > 0 OR o.complained > 0 OR EXISTS (
          SELECT FROM campaigns_message
          WHERE campaign_id = c.id AND status = 'failed' AND reason = 'recipient_refused'
      ))
), released AS MATERIALIZED (
    SELECT list_id, intake_id, max(ended_at) AS at, bool_or(ended_at IS NULL) AS paused
    FROM campaigns_sourcepause GROUP BY 1, 2
)
SELECT s.list_id, s.intake_id, count(*),
       count(*) FILTER (WHERE f.bounced_at IS NOT NULL OR m.status = 'failed') AS bounced,
       count(*) FILTER (WHERE f.complained_at IS NOT NULL) AS complained
FROM lists l
JOIN campaigns_campaign c ON c.list_id = l.list_id
JOIN campaigns_message m ON m.campaign_id = c.id
    AND (m.status = 'sent' OR m.status = 'failed' AND m.reason = 'recipient_refused')
JOIN campaigns_subscription s ON s.list_id = c.list_id AND s.contact_id = m.contact_id
LEFT JOIN campaigns_messagefacts f ON f.message_id = m.id
LEFT JOIN released r ON r.list_id = s.list_id AND r.intake_id IS NOT DISTINCT FROM s.intake_id
WHERE COALESCE(m.sent_at, m.attempted_at) >= GREATEST(%(since)s, r.at) AND r.paused IS NOT TRUE
GROUP BY 1, 2
HAVING count(*) FILTER (
    WHERE f.bounced_at IS NOT NULL OR f.complained_at IS NOT NULL OR m.status = 'failed'
) > 0
ORDER BY 1, 2
"""
