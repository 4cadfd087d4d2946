"""One of many processes that claim at once; `tests.racing` starts them."""

import time
from collections.abc import Callable
from typing import Any

from campaigns import dispatch, paced
from providers.accounts import ledger
from providers.accounts.models import LedgerRow
from tenants import context
from tenants.models import Agency
from tests.stage import NOON


def without_lock(account_id: int, agency_id: int, day: Any) -> dict[tuple[int | None, str], LedgerRow]:
    """What `ledger._lock` would be without its lock, and slow enough for everybody to read the same rows."""
    rows = {(row.agency_id, row.period): row for row in ledger._rows(account_id, agency_id, day)}
    time.sleep(0.2)
    return rows


def race(schema: str, account_id: int, locked: bool, ready: Callable[[], object]) -> int:
    """Claim batches of seven until there is none; return how many mails that were."""
    if not locked:
        ledger._lock = without_lock
    agency = Agency.objects.get(schema_name=schema)
    allotment = agency.allotments.select_related("account").get(account=account_id)
    claimed = 0
    with context.entered(agency):
        ready()
        empty = 0
        # A claim may find every sender held by the others, so one empty answer does not mean the end.
        while empty < 5:
            batch = dispatch.claim_batch(agency, allotment, now=NOON, limit=7)
            claimed += len(batch)
            empty = 0 if batch else empty + 1
            if not batch:
                # As a drain does, which else would look at the same mails again.
                paced.set_aside(agency, account_id, now=NOON)
                time.sleep(0.02)
    return claimed
