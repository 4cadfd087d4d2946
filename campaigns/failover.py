"""Moves mails from accounts that are full, or that refuse, to those that have room.

Who is next follows the traffic class: the accounts meant for it, then the others. Within each group the load is
spread in proportion to what is left of each account's quota.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from campaigns import control, due, lifecycle
from campaigns.models import Campaign, Message
from campaigns.outcomes import WHEN_ALL_REFUSE
from campaigns.planning import distribute, largest_remainder
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.routing import Route
from providers.senders import routes
from providers.senders.models import Sender
from tenants.models import Agency

# Mails that waited for consent, at a time.
HELD_AT_ONCE = 10_000


def relieve(agency: Agency, account_id: int, *, now: datetime) -> set[int]:
    """Find another way for the due mails that this account cannot send now; return the accounts they moved to.

    A full account keeps the mails of campaigns that chose to wait. An account that refuses keeps none while another
    is open; when every account refuses, its mails are tried again in an hour. Where a person must act first (it is
    blocked, or taken from the agency), they wait for that. A thread whose sender cannot leave here at all goes to where
    it can, whatever its campaign chose and however much room there is.
    """
    # So ends nearly every drain: nothing is left, and how much room the others have need not be summed up.
    if not due.waits(account_id, now=now):
        return set()
    usable = routes.usable(agency, now=now)
    here = next((route for route in usable if route.account_id == account_id), None)
    state = health.of(account_id)
    others = [route for route in usable if route.account_id != account_id]
    moved = _bring_home(account_id, others, now=now)
    leaving = who_leaves(here, broken=health.broken(state))
    if not leaving:
        return moved
    campaigns = Campaign.objects.filter(status=Campaign.Status.RUNNING, overflow__in=leaving)
    all_refuse = (
        here is not None
        and not here.open
        and not state.blocked
        and all(health.broken(health.of(route.account_id)) for route in others)
    )
    for traffic_class, ids in _by_class(campaigns).items():
        moved |= _spread(account_id, ids, traffic_class, others, now=now)
        if all_refuse:
            lifecycle.postpone(account_id, ids, Reason.ACCOUNTS_REFUSED, until=now + WHEN_ALL_REFUSE, now=now)
    return moved


def rehome(agency: Agency, *, now: datetime) -> int:
    """Let mails that wait for consent go: those whose contact has given it, or whose account no longer requires it, and
    those that another account takes without; return how many moved to another one."""
    reopened = lifecycle.let_go(now=now, at_most=HELD_AT_ONCE)
    held = Message.objects.filter(status=Message.Status.HELD, reason=Reason.NEEDS_CONSENT)
    waiting = Campaign.objects.filter(
        Exists(held.filter(campaign=OuterRef("pk"))),
        status__in=[Campaign.Status.RUNNING, Campaign.Status.PAUSED, Campaign.Status.FINISHED],
    )
    by_class, moved = _by_class(waiting), 0
    lenient = [one for one in routes.plannable(agency, now=now) if one.takes(consented=False)] if by_class else []
    for traffic_class, ids in by_class.items() if lenient else ():
        left = min(HELD_AT_ONCE, held.filter(campaign__in=ids).count())
        shares = distribute(left, lenient, traffic_class=traffic_class, mode="by_class")
        # And once more for the threads whose sender has no way through the account that they fell to.
        for share in [*shares, *(replace(one, count=left) for one in shares)]:
            if share.count and left:
                done = lifecycle.move_held(share.account_id, ids, at_most=min(share.count, left), now=now)
                left, moved = left - done, moved + done
        reopened |= set(ids) if moved else set()
    control.reopen(reopened)
    return moved


def who_leaves(here: Route | None, *, broken: bool) -> set[str]:
    """Pure: the mails of campaigns with which `overflow` find another way now; `here` None is an account taken away."""
    if here is None or (broken and not here.open):
        return set(Campaign.Overflow.values)
    return {Campaign.Overflow.REROUTE.value} if here.open and here.free <= 0 else set()


def spread(left: int, traffic_class: str, others: Sequence[Route], move: Callable[[int, int], int]) -> set[int]:
    """Spread so many mails of a class over other accounts; return those that got some.

    `move(account, at_most)` moves them and says how many it did: an account gets none that it has refused before.
    """
    moved: set[int] = set()
    meant = [route for route in others if traffic_class in route.classes]
    for group in (meant, [route for route in others if route not in meant]):
        open_ones = [route for route in group if route.open and route.free > 0]
        if not left or not open_ones:
            continue
        room = sum(route.free for route in open_ones)
        counts = largest_remainder(min(left, room), [float(route.free) for route in open_ones])
        rooms = {route.account_id: route.free for route in open_ones}
        shares = [(route.account_id, count) for route, count in zip(open_ones, counts, strict=True)]
        # And once more for what the account that it fell to had refused before.
        for to, count in [*shares, *((to, left) for to in rooms)]:
            most = min(count, left, rooms[to])
            if most and (done := move(to, most)):
                left -= done
                rooms[to] -= done
                moved.add(to)
    return moved


def _bring_home(account_id: int, others: Sequence[Route], *, now: datetime) -> set[int]:
    """Move the due mails of threads whose sender cannot leave through this account."""
    strays = Message.objects.filter(
        account=account_id,
        status=Message.Status.SCHEDULED,
        parked=False,
        campaign__status=Campaign.Status.RUNNING,
        due_at__lte=now,
        enrollment__sender__in=Sender.objects.exclude(domain__homes__account=account_id),
    )
    found: dict[str, list[int]] = {}
    for traffic_class, campaign_id in strays.values_list("campaign__traffic_class", "campaign"):
        found.setdefault(traffic_class, []).append(campaign_id)
    moved: set[int] = set()
    for traffic_class, ids in sorted(found.items()):

        def move(to: int, at_most: int, ids: Sequence[int] = tuple(set(ids))) -> int:
            return lifecycle.move(account_id, to, ids, at_most=at_most, now=now, only_strays=True)

        moved |= spread(len(ids), traffic_class, others, move)
    return moved


def _by_class(campaigns: QuerySet[Campaign]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for pk, traffic_class in campaigns.order_by("pk").values_list("pk", "traffic_class"):
        found.setdefault(traffic_class, []).append(pk)
    return found


def _spread(
    account_id: int, campaign_ids: Sequence[int], traffic_class: str, others: Sequence[Route], *, now: datetime
) -> set[int]:
    left = Message.objects.filter(
        account=account_id, status=Message.Status.SCHEDULED, parked=False, campaign__in=campaign_ids, due_at__lte=now
    ).count()

    def move(to: int, at_most: int) -> int:
        return lifecycle.move(account_id, to, campaign_ids, at_most=at_most, now=now)

    return spread(left, traffic_class, others, move)
