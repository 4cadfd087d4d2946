"""Who must not be mailed: the one definition, in SQL, for the import, the launch, the claim and the moment before
sending.

    anna@example.com    this address
    example.com         this domain and all below it
    *.example.com       all below it
    info@*              this name in any domain

An agency's suppression holds everywhere, or for the campaigns of one list; an operator's for every agency.
"""


def matching(email: str, list_id: str, columns: str = "") -> str:
    """A subquery of the suppressions that hold for an address and a list, both given as SQL.

    `public.suppressed_forms` names all that an address is suppressed by, so each table is probed by its index alone.
    `columns` are of `s`: value, source, list_id.
    """
    return f"""
      SELECT {columns} FROM (
          SELECT value, source, list_id FROM campaigns_suppression
          UNION ALL
          SELECT value, 'manual'::varchar(20), NULL::bigint FROM public.accounts_operatorsuppression
      ) s
      WHERE s.value = ANY(public.suppressed_forms({email})) AND (s.list_id IS NULL OR s.list_id = {list_id})
    """  # noqa: S608 - from names in this package alone
