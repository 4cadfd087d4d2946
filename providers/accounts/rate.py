"""Keeps an account's mails a second over all worker hosts. The only writer of AccountRate.

A mail takes a piece of time, and the pieces of all workers are strung together in one row by one conditional UPDATE
(the generic cell rate algorithm). The clock is the database's, because those of the hosts differ.
"""

from decimal import Decimal

from django.db import connection

from providers.accounts.models import Account

# What a new account of a kind is limited to unless the operator says otherwise. Resend: 5 requests a second and team,
# https://resend.com/docs/api-reference/rate-limit, as of 2026-11.
USUAL = {"resend": Decimal("5")}
# Of the provider's rate: how long a mail takes from here to there varies, and it counts what arrives in a second.
_USED = Decimal("0.92")


def pace(per_second: Decimal) -> float:
    """Mails a second, on and on, of an account that is limited to so many."""
    return float(per_second * _USED)


def take(account: Account, want: int) -> tuple[int, float]:
    """(how many of up to `want` mails may go now, 0.0), or (0, in how many seconds to ask again).

    Every second has `per_second` mails at most: an even pace, and together what the margin below it allows.
    """
    if account.per_second is None:
        return want, 0.0
    together = min(want, _together(account.per_second))
    with connection.cursor() as cursor:
        values = {
            "account": account.pk,
            "piece": _piece(account.per_second),
            "count": together,
            "together": _together(account.per_second),
        }
        cursor.execute(_OPEN, values)
        cursor.execute(_TAKE, values)
        if cursor.rowcount:
            return together, 0.0
        cursor.execute(_WAIT, values)
        return 0, max(0.001, float(cursor.fetchone()[0]))


def give_back(account: Account, count: int) -> None:
    """Return what was taken and not used."""
    _shift(account, -count)


def spend(account: Account, count: int) -> None:
    """Count requests that do not wait for their turn."""
    _shift(account, count)


def _shift(account: Account, count: int) -> None:
    if account.per_second is None or not count:
        return
    with connection.cursor() as cursor:
        values = {"account": account.pk, "piece": _piece(account.per_second), "count": count}
        cursor.execute(_OPEN, values)
        cursor.execute(_SHIFT, values)


def _piece(per_second: Decimal) -> float:
    return 1 / pace(per_second)


def _together(per_second: Decimal) -> int:
    """How many mails may go at once: with those of the second that follows they are no more than `per_second`."""
    return max(1, int(per_second * (1 - _USED)))


_OPEN = "INSERT INTO accounts_accountrate VALUES (%(account)s, clock_timestamp()) ON CONFLICT DO NOTHING"
_TAKE = """
UPDATE accounts_accountrate
SET next_at = greatest(next_at, clock_timestamp()) + %(count)s * %(piece)s * interval '1 second'
WHERE account_id = %(account)s
  AND next_at + %(count)s * %(piece)s * interval '1 second'
      <= clock_timestamp() + %(together)s * %(piece)s * interval '1 second'
"""
_WAIT = """
SELECT extract(epoch FROM next_at - clock_timestamp()) + (%(count)s - %(together)s) * %(piece)s
FROM accounts_accountrate WHERE account_id = %(account)s
"""
_SHIFT = """
UPDATE accounts_accountrate
SET next_at = greatest(next_at, clock_timestamp()) + %(count)s * %(piece)s * interval '1 second'
WHERE account_id = %(account)s
"""
