"""What waits in the agency entered now: where mails are due, and when the next are. Reads the queue's ends alone."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from campaigns import precedence


@dataclass(frozen=True, slots=True)
class Due:
    """`accounts` with mails that are due now; `following` is when there is something to do next, None is never.

    While a worker holds mails, that is now: whether it returns them and for when is not known yet.
    """

    accounts: list[int]
    following: datetime | None


def find(*, now: datetime) -> Due:
    """What is due in the agency entered now. Mails of paused campaigns count until they are parked."""
    with connection.cursor() as cursor:
        # All in one statement, and so of one moment: between two, a mail could go from one answer to the other.
        cursor.execute(_FIRST, [now, list(precedence.LEVELS)])
        rows = cursor.fetchall()
    return Due(
        sorted({account_id for account_id, due_at in rows if account_id is not None and due_at <= now}),
        min((due_at for _, due_at in rows), default=None),
    )


def waits(account_id: int, *, now: datetime) -> bool:
    """Whether the agency entered now has mails that are due at this account."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, [list(precedence.LEVELS), account_id, now])
        return bool(cursor.fetchone()[0])


_FIRST = """
SELECT NULL, %s WHERE EXISTS (SELECT FROM campaigns_message WHERE status = 'claimed')
UNION ALL
SELECT a.id, m.due_at
FROM accounts_account a CROSS JOIN unnest(%s::smallint[]) AS p (priority)
CROSS JOIN LATERAL (
    SELECT due_at FROM campaigns_message
    WHERE account_id = a.id AND status = 'scheduled' AND NOT parked AND priority = p.priority ORDER BY due_at LIMIT 1
) m
"""
# In order, although any would do: without it the planner expects to find one soon by reading the table, 31 times over.
_WAITS = """
SELECT EXISTS (
    SELECT FROM unnest(%s::smallint[]) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT due_at FROM campaigns_message
        WHERE account_id = %s AND status = 'scheduled' AND NOT parked AND priority = p.priority ORDER BY due_at LIMIT 1
    ) m
    WHERE m.due_at <= %s
)
"""
