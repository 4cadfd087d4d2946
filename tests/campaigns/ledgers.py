"""What every ledger says, so that a test can tell that nothing was lost or given back twice."""

from providers.accounts.models import LedgerRow
from providers.senders.models import DomainDay, SenderDay


def used() -> dict[str, int]:
    """Mails of all days in each kind of ledger: accounts by agency, domains and senders of the agency entered."""
    found = {"domains": sum(DomainDay.objects.values_list("used", flat=True))}
    found["senders"] = sum(SenderDay.objects.values_list("used", flat=True))
    for row in LedgerRow.objects.filter(period="day").select_related("agency"):
        name = f"account of {row.agency.slug if row.agency else 'all'}"
        found[name] = found.get(name, 0) + row.used
    return found


def all_at(count: int, *, others: int = 0) -> dict[str, int]:
    """What `used` says in Alpha when it counted so many mails, and Beta so many through the same account."""
    return {
        "domains": count,
        "senders": count,
        "account of all": count + others,
        "account of alpha": count,
        "account of beta": others,
    }
