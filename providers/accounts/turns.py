"""Whose turn it is to have a worker: agencies share the workers by their weights. The only writer of Turn, Served and
ServedAt.

Start-time fair queueing (Goyal, Vin and Cheng 1996): each agency has a clock of its own, which runs by the seconds of
workers that it has had, over its weight. The agency whose clock is least is next. One that has waited for nothing
begins at the clock of the latest turn, so nobody saves time up, and however much an agency has to send, another waits
for the turns that have begun and no longer.

A turn is paid in advance and settled after, so workers who take turns at the same time see each other's, and an agency
whose mails end workers pays for that too.

An account that allows few requests a second is worth one worker at a time. Whichever agency's turn leads a worker to
it, served is the one that has had least of this account by its weight, on clocks of the account's own. So its rate is
shared like the workers are, and what an agency does elsewhere neither wins nor loses it any of that.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction

from tenants.models import Agency

# After so long a turn ends where others wait, between two batches of mails.
SLICE = timedelta(seconds=1)
# And after so long where the worker is wanted for something else.
LEAST = SLICE / 5
# Requests a second that any worker is sure to make: an account that allows no more gains nothing by a second one.
ONE_WORKER = Decimal(100)
# Any constants: one worker at a time chooses a turn; and the class of the locks that are held while such an account is
# served, which the database frees with the connection of a worker that dies.
_CHOOSING = 7_302_199_005
_SERVING = 730_219_900


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
    """Begin the turn that is next, and none that another worker takes; None when nobody waits.

    Who waits only where another worker is enough gets none: that one goes on with whoever is next there.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHOOSING])
        cursor.execute(_TAKE, {**_open(), "slice": SLICE.total_seconds()})
        row = cursor.fetchone()
    return Turn(*row[:2]) if row else None


def settle(turn: Turn, took: timedelta) -> None:
    """The turn is over and took so long."""
    with connection.cursor() as cursor:
        values = {"agency": turn.agency_id, "account": turn.account_id, "more": (took - SLICE).total_seconds()}
        cursor.execute(_SETTLE, values)
        cursor.execute(_FREE, [_SERVING, turn.account_id])


def waiting() -> int:
    """How many turns could begin if a worker were free, of agencies that are whole and switched on."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, _open())
        return int(cursor.fetchone()[0])


def _open() -> dict[str, Decimal | float]:
    return {"one_worker": ONE_WORKER, "serving": _SERVING}


class Slice:
    """Tells a worker between two batches whether its turn is over because others wait. Each turn has a batch.

    `wanted` says whether the worker itself is, for something else than turns.
    """

    def __init__(self, wanted: Callable[[], bool] = lambda: False) -> None:
        self._wanted = wanted
        self._ask_at: datetime | None = None
        self._look_at: datetime | None = None

    def over(self, now: datetime) -> bool:
        """Whether a slice has passed since the first batch or the last asking, and somebody waits now; or a part of a
        slice, and the worker is wanted."""
        if self._ask_at is None or self._look_at is None:
            self._ask_at, self._look_at = now + SLICE, now + LEAST
            return False
        if now >= self._look_at:
            self._look_at = now + LEAST
            if self._wanted():
                return True
        if now < self._ask_at:
            return False
        self._ask_at = now + SLICE
        return waiting() > 0


_ASK = """
INSERT INTO accounts_turn (agency_id, account_id) SELECT %s, unnest(%s::bigint[])
ON CONFLICT (agency_id, account_id) DO NOTHING
"""
# Turns that could begin now; `limited` where one worker is enough, and no other may be there. A worker's own lock is
# that of the turn that it is about to end.
_OPEN = """
SELECT t.id, t.agency_id, t.account_id, g.weight::float8 AS weight,
       coalesce(a.per_second <= %(one_worker)s, false) AS limited,
       greatest(s.until, (SELECT max(began) FROM accounts_served), 0) AS begins
FROM accounts_turn t
JOIN tenants_agency g ON g.id = t.agency_id AND g.ready AND g.active
JOIN accounts_account a ON a.id = t.account_id
LEFT JOIN accounts_served s ON s.agency_id = t.agency_id
WHERE NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.classid = %(serving)s AND l.objid = t.account_id AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
)
"""
_TAKE = f"""
WITH open AS MATERIALIZED ({_OPEN}), leads AS (
    SELECT id, account_id, limited FROM open ORDER BY begins, id LIMIT 1
), turn AS (
    SELECT o.*, %(slice)s / o.weight AS costs,
           greatest(h.until, (SELECT max(began) FROM accounts_servedat x WHERE x.account_id = l.account_id), 0) AS there
    FROM leads l JOIN open o ON o.id = l.id OR (l.limited AND o.account_id = l.account_id)
    LEFT JOIN accounts_servedat h ON h.account_id = o.account_id AND h.agency_id = o.agency_id
    ORDER BY there, o.id LIMIT 1
), taken AS (
    DELETE FROM accounts_turn t USING turn WHERE t.id = turn.id
), paid AS (
    INSERT INTO accounts_served AS s (agency_id, began, until) SELECT agency_id, begins, begins + costs FROM turn
    ON CONFLICT (agency_id) DO UPDATE SET
        began = greatest(s.until, excluded.began),
        until = greatest(s.until, excluded.began) + excluded.until - excluded.began
), paid_here AS (
    INSERT INTO accounts_servedat (agency_id, account_id, began, until)
    SELECT agency_id, account_id, there, there + costs FROM turn WHERE limited
    ON CONFLICT (account_id, agency_id) DO UPDATE SET began = excluded.began, until = excluded.until
)
SELECT agency_id, account_id, CASE WHEN limited THEN pg_try_advisory_lock(%(serving)s, account_id::integer) END
FROM turn
"""  # noqa: S608 - of constants
_SETTLE = """
WITH here AS (
    UPDATE accounts_servedat h SET until = h.until + %(more)s / g.weight::float8
    FROM tenants_agency g WHERE h.agency_id = %(agency)s AND h.account_id = %(account)s AND g.id = h.agency_id
)
UPDATE accounts_served s SET until = s.until + %(more)s / g.weight::float8
FROM tenants_agency g WHERE s.agency_id = %(agency)s AND g.id = s.agency_id
"""
# Only what is held here: to free what is not would be a warning in the database's log each time.
_FREE = """
SELECT pg_advisory_unlock(classid::integer, objid::integer) FROM pg_locks
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 2 AND pid = pg_backend_pid()
"""
_WAITING = f"SELECT count(*) FROM ({_OPEN}) AS open"  # noqa: S608 - of constants
