"""Who must not be mailed: the one definition, in SQL, for the import, the launch, the claim and the moment before
sending. An address, a domain with all below it; everywhere, or for the campaigns of one list."""


def matching(email: str, list_id: str, columns: str = "") -> str:
    """A subquery of the suppressions that hold for an address and a list, both given as SQL: one probe of an index."""
    return f"""
      SELECT {columns} FROM campaigns_suppression s
      WHERE s.value IN (lower({email}), split_part(lower({email}), '@', 2))
        AND (s.list_id IS NULL OR s.list_id = {list_id})
    """  # noqa: S608 - from names in this package alone
