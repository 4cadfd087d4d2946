"""Accounts as this agency can use them now: what its ledgers allow and what its senders can still send."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from providers.accounts import ledger as accounts
from providers.accounts.models import Allotment
from providers.accounts.routing import Route
from providers.senders import ledger as senders
from providers.senders.models import Home
from tenants.models import Agency


def usable(agency: Agency, *, now: datetime, mine: Sequence[Allotment] | None = None) -> list[Route]:
    """Every account that this agency may use; `free` is what both its quotas and its senders have left today. `mine`
    are its allotments where they have been read already."""
    found = accounts.routes(agency, now=now, mine=mine)
    rooms = senders.room_today([route.account_id for route in found], day=senders.local_day(now, agency.zone), now=now)
    return [
        replace(route, free=min(route.free, room), room=room)
        for route in found
        for room in (rooms.get(route.account_id, 0),)
    ]


def plannable(agency: Agency, *, now: datetime) -> list[Route]:
    """The accounts to plan a campaign on: those through which the agency has at least one active sender."""
    rooms = senders.accounts_with_senders()
    return [route for route in usable(agency, now=now) if route.account_id in rooms]


def of_sender(found: Iterable[Route], sender_id: int) -> list[Route]:
    """Those of the accounts at which this sender's domain is verified."""
    homes = set(Home.objects.filter(domain__senders=sender_id).values_list("account_id", flat=True))
    return [route for route in found if route.account_id in homes]
