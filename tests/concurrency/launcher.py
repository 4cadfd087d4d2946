"""One of two processes that launch at once and then claim through the same senders; `tests.racing` starts them."""

import time
from collections.abc import Callable

from campaigns import dispatch, launch
from campaigns.models import Campaign
from providers.senders import ledger as senders
from providers.senders.ledger import Seats
from tenants import context
from tenants.models import Agency
from tests.stage import NOON


def without_lock() -> None:
    """Let a claim take senders that another one has, and look long enough at them for both to see them free."""
    senders._LOCK_SENDERS = senders._LOCK_SENDERS.replace("FOR UPDATE OF s SKIP LOCKED", "")
    take = senders.take_seats

    def slowly(*args: object, **known: object) -> Seats:
        found = take(*args, **known)  # type: ignore[arg-type]
        time.sleep(0.1)
        return found

    # Before the days of the domains, which would let only one go on.
    senders._LOCK_DOMAIN_DAYS = senders._LOCK_DOMAIN_DAYS.replace("FOR UPDATE OF d", "")
    senders.take_seats = slowly


def race(
    schema: str, account_id: int, campaign_id: int, locked: bool, ready: Callable[[], object]
) -> list[tuple[int, int]]:
    """Launch this campaign, claim whatever is due until there is nothing; return (campaign, sender) of each mail."""
    if not locked:
        without_lock()
    agency = Agency.objects.get(schema_name=schema)
    allotment = agency.allotments.select_related("account").get(account=account_id)
    claimed: list[tuple[int, int]] = []
    with context.entered(agency):
        campaign = Campaign.objects.get(pk=campaign_id)
        ready()
        launch.launch(campaign, now=NOON)
        empty = 0
        # A claim may find every sender held by the other, so one empty answer does not mean the end.
        while empty < 5:
            batch = dispatch.claim_batch(agency, allotment, now=NOON, limit=3)
            claimed += [(message.campaign_id, message.sender_id) for message in batch]
            empty = 0 if batch else empty + 1
            if not batch:
                time.sleep(0.02)
    return claimed
