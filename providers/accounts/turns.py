"""Whose turn it is to have a worker: agencies share the workers by their weights. The only writer of Turn and Served.

Start-time fair queueing (Goyal, Vin and Cheng 1996): each agency has a clock of its own, which runs by the seconds of
workers that it has had, over its weight. The agency whose clock is least is next. One that has waited for nothing
begins at the clock of the latest turn, so nobody saves time up, and however much an agency has to send, another waits
for the turns that have begun and no longer.

A turn is paid in advance and settled after, so workers who take turns at the same time see each other's, and an agency
whose mails end workers pays for that too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from tenants.models import Agency

# After so long a turn ends where others wait, between two batches of mails.
SLICE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Turn:
    """An agency that may have a worker now, to send through this account."""

    agency_id: int
    account_id: int


def ask(agency: Agency, account_ids: Iterable[int]) -> int:
    """Let the agency wait for its turns at these accounts; return how many it does not wait for already."""
    with connection.cursor() as cursor:
        cursor.execute(_ASK, [agency.pk, sorted(set(account_ids))])
        return int(cursor.rowcount)


def take() -> Turn | None:
    """Begin the turn that is next, and none that another worker takes; None when nobody waits."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [SLICE.total_seconds()])
        row = cursor.fetchone()
    return Turn(*row) if row else None


def settle(turn: Turn, took: timedelta) -> None:
    """The turn is over and took so long."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, [(took - SLICE).total_seconds(), turn.agency_id])


def waiting() -> int:
    """How many turns wait for a worker, of agencies that are whole and switched on."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return int(cursor.fetchone()[0])


class Slice:
    """Tells a worker between two batches whether its turn is over because others wait. Each turn has a batch."""

    def __init__(self) -> None:
        self._ask_at: datetime | None = None

    def over(self, now: datetime) -> bool:
        """Whether a slice has passed since the first batch or the last asking, and somebody waits now."""
        passed = self._ask_at is not None and now >= self._ask_at
        if passed or self._ask_at is None:
            self._ask_at = now + SLICE
        return passed and waiting() > 0


_ASK = """
INSERT INTO accounts_turn (agency_id, account_id) SELECT %s, unnest(%s::bigint[])
ON CONFLICT (agency_id, account_id) DO NOTHING
"""
_TAKE = """
WITH turn AS (
    SELECT t.id, t.agency_id, t.account_id, %s / g.weight::float8 AS costs,
           greatest(s.until, (SELECT max(began) FROM accounts_served), 0) AS begins
    FROM accounts_turn t
    JOIN tenants_agency g ON g.id = t.agency_id AND g.ready AND g.active
    LEFT JOIN accounts_served s ON s.agency_id = t.agency_id
    ORDER BY begins, t.id
    LIMIT 1 FOR UPDATE OF t SKIP LOCKED
), taken AS (
    DELETE FROM accounts_turn t USING turn WHERE t.id = turn.id
), paid AS (
    INSERT INTO accounts_served AS s (agency_id, began, until) SELECT agency_id, begins, begins + costs FROM turn
    ON CONFLICT (agency_id) DO UPDATE SET
        began = greatest(s.until, excluded.began),
        until = greatest(s.until, excluded.began) + excluded.until - excluded.began
)
SELECT agency_id, account_id FROM turn
"""
_SETTLE = """
UPDATE accounts_served s SET until = s.until + %s / g.weight::float8
FROM tenants_agency g WHERE s.agency_id = %s AND g.id = s.agency_id
"""
_WAITING = """
SELECT count(*) FROM accounts_turn t JOIN tenants_agency g ON g.id = t.agency_id AND g.ready AND g.active
"""
