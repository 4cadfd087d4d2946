"""Whether a contact has given consent, and whether a mail may leave through an account: the one definition, in SQL,
for the plan, the claim, moves between accounts and the moment before sending.

What a list says of its own comes before what is said of the contact, but for a consent that was withdrawn as a whole.
"""

# Of a contact `p` and its subscription `u` to the list, which may be none.
GIVEN = "(p.basis <> 'withdrawn' AND COALESCE(NULLIF(u.basis, ''), p.basis) = 'consent')"


def takes(account: str, consented: str = "e.consented") -> str:
    """A condition: the account of that id takes the mail of an enrollment `e`."""
    strict = f"(SELECT a.requires_consent FROM public.accounts_account a WHERE a.id = {account})"  # noqa: S608 - names
    return f"({consented} OR {strict} IS NOT TRUE)"


# Of a mail `m`, its campaign `c`, its contact `p` and its enrollment `e`: what holds at this very moment, whatever its
# enrollment was marked with while the basis changed.
MAY_LEAVE = f"""(
    (SELECT a.requires_consent FROM public.accounts_account a WHERE a.id = m.account_id) IS NOT TRUE
    OR e.consented AND (
        SELECT {GIVEN} FROM (SELECT) one
        LEFT JOIN campaigns_subscription u ON u.list_id = c.list_id AND u.contact_id = p.id
    )
)"""  # noqa: S608 - of constants
