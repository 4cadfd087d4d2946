"""Who must not be mailed: the one definition, in SQL, for the import, the launch, the claim and the moment before
sending.

    anna@example.com    this address
    example.com         this domain and all below it
    *.example.com       all below it
    info@*              this name in any domain

An agency's suppression holds everywhere, or for the campaigns of one list; an operator's for every agency. A reader's
pause is one too while it lasts, by the database's clock: who takes contacts in or plans for them looks past it.
"""

from dataclasses import dataclass

from django.db import connection

PAUSE = "pause"
# Of `s` in what `matching` makes: that a reader left one list, which they may take back themselves.
LEFT_THE_LIST = "(s.source = 'opt_out' AND s.list_id IS NOT NULL)"


def matching(email: str, list_id: str, columns: str = "", *, lasting: bool = False) -> str:
    """A subquery of the suppressions that hold for an address and a list, both given as SQL.

    `public.suppressed_forms` names all that an address is suppressed by, so each table is probed by its index alone.
    `columns` are of `s`: value, source, list_id. `lasting`: without pauses.
    """
    pauses = f"""
          UNION ALL
          SELECT value, '{PAUSE}'::varchar(20), NULL::bigint FROM campaigns_pause WHERE until > statement_timestamp()
    """  # noqa: S608 - of constants
    return f"""
      SELECT {columns} FROM (
          SELECT value, source, list_id FROM campaigns_suppression
          UNION ALL
          SELECT value, 'manual'::varchar(20), NULL::bigint FROM public.accounts_operatorsuppression
          {"" if lasting else pauses}
      ) s
      WHERE s.value = ANY(public.suppressed_forms({email})) AND (s.list_id IS NULL OR s.list_id = {list_id})
    """  # noqa: S608 - from names in this package alone


@dataclass(frozen=True, slots=True)
class Barred:
    """That an address is suppressed: by what, why, and for which list alone, None for all mails."""

    value: str
    source: str
    list_id: int | None


def of(email: str) -> list[Barred]:
    """All that an address is suppressed by, what holds for all mails first."""
    with connection.cursor() as cursor:
        cursor.execute(_OF, [email])
        return [Barred(*row) for row in cursor.fetchall()]


_OF = matching("%s::text", "s.list_id", "s.value, s.source, s.list_id") + " ORDER BY s.list_id NULLS FIRST, s.value"
