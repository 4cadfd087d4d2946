"""One of many processes that claim at once: `python -m tests.concurrency.racer SCHEMA ACCOUNT [unlocked]`.

Waits for a line on standard input, claims until nothing is left, and prints how many it got.
"""

import sys
import time
from typing import Any

import django

django.setup()

from campaigns import dispatch, paced  # noqa: E402
from providers.accounts import ledger  # noqa: E402
from providers.accounts.models import LedgerRow  # noqa: E402
from tenants import context  # noqa: E402
from tenants.models import Agency  # noqa: E402
from tests.stage import NOON  # noqa: E402


def without_lock(account_id: int, agency_id: int, day: Any) -> dict[tuple[int | None, str], LedgerRow]:
    """What `ledger._lock` would be without its lock, and slow enough for everybody to read the same rows."""
    rows = {(row.agency_id, row.period): row for row in ledger._rows(account_id, agency_id, day)}
    time.sleep(0.2)
    return rows


def main(schema: str, account_id: int, *, unlocked: bool) -> None:
    """Claim batches of seven until there is none."""
    if unlocked:
        ledger._lock = without_lock
    agency = Agency.objects.get(schema_name=schema)
    allotment = agency.allotments.select_related("account").get(account=account_id)
    claimed = 0
    with context.entered(agency):
        print("ready", flush=True)
        sys.stdin.readline()
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
    print(claimed, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), unlocked=sys.argv[3:] == ["unlocked"])
