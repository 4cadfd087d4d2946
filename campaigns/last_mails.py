"""How long after an opt-out the last mail to that person was begun: never, as P5 promises. Measured, not assumed.

A mail counts from its mark, which is set before the wire is touched; an opt-out from the moment at which its commit was
seen. What was begun before may have been on its way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection

from campaigns.models import Suppression
from tenants import context
from tenants.models import Agency


@dataclass(frozen=True, slots=True)
class Late:
    """A mail that was begun so long after its contact had opted out."""

    campaign_id: int
    key: UUID
    after: timedelta


# A page looks at so many opt-outs of an agency; `mail_audit` looks at all, every night.
NEWEST = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """An agency's newest opt-outs, at most `NEWEST`, and the mails that were begun after them, the latest first."""

    agency: Agency
    opt_outs: int
    late: list[Late]

    @property
    def longest(self) -> timedelta:
        """From an opt-out to the last mail: zero where none was begun after any."""
        return self.late[0].after if self.late else timedelta()


def late(*, newest: int | None = None) -> list[Late]:
    """The mails of the agency entered now that were begun after their contact had opted out; with `newest`, only those
    after its so many newest opt-outs."""
    with connection.cursor() as cursor:
        cursor.execute(_LATE, {"newest": newest})
        return [Late(*row) for row in cursor.fetchall()]


def everywhere() -> Iterator[Kept]:
    """Every ready agency in which somebody has opted out. Works in the public schema and enters agencies."""
    for agency in context.ready_agencies():
        with context.entered(agency):
            count = Suppression.objects.filter(source=Suppression.Source.OPT_OUT)[:NEWEST].count()
            if count:
                yield Kept(agency, count, late(newest=NEWEST))


_LATE = """
SELECT m.campaign_id, m.key, max(m.attempted_at - COALESCE(s.in_force_at, s.created_at + interval '1 minute')) AS after
FROM (
    SELECT value, list_id, in_force_at, created_at FROM campaigns_suppression
    WHERE source = 'opt_out' ORDER BY created_at DESC LIMIT %(newest)s
) s
JOIN campaigns_contact p ON lower(p.email) = s.value
JOIN campaigns_message m ON m.contact_id = p.id AND m.status IN ('sent', 'unknown')
JOIN campaigns_campaign c ON c.id = m.campaign_id
WHERE (s.list_id IS NULL OR s.list_id = c.list_id)
  AND m.attempted_at > COALESCE(s.in_force_at, s.created_at + interval '1 minute')
GROUP BY m.campaign_id, m.key
ORDER BY after DESC, m.key
"""
