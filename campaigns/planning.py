"""Pure: how many mails of a campaign go through which account."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from providers.accounts.routing import Route, in_order, meant_for


class PlanRefusedError(ValueError):
    """The campaign cannot be planned; the message says which setting to change."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many mails through this account."""

    account_id: int
    name: str
    count: int


def distribute(
    total: int, routes: Sequence[Route], *, traffic_class: str, mode: str, shares: Mapping[str, float] | None = None
) -> list[Share]:
    """Split `total` mails over the accounts; the counts always add up to `total`.

    `even`: the same for all. `by_class`: over the accounts meant for the class, in proportion to what each may send
    today (they are failover for each other, and the other accounts for them). `shares`: by percent per account name.
    Raises PlanRefusedError when there is nothing to plan on or a share names no account.
    """
    if not routes:
        raise PlanRefusedError(_("This agency may use no account: ask the operator for an allotment."))
    if mode == "even":
        chosen = in_order(routes, traffic_class)
        weights = [1.0] * len(chosen)
    elif mode == "by_class":
        chosen = meant_for(routes, traffic_class)
        weights = [float(route.free) for route in chosen]
        if not any(weights):
            weights = [1.0] * len(chosen)
    else:
        chosen, weights = _by_shares(routes, traffic_class, shares or {})
    counts = largest_remainder(total, weights)
    return [Share(route.account_id, route.name, count) for route, count in zip(chosen, counts, strict=True)]


@dataclass(frozen=True, slots=True)
class Pool:
    """The mails to contacts who have given consent, to those who have not, or, with None, to all, by account."""

    consented: bool | None
    shares: list[Share]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the mails of a campaign are spread. `held` mails have no account that takes them; they are counted at
    `held_at`, which comes first in the plan. `without` contacts have given no consent."""

    pools: list[Pool]
    without: int = 0
    held: int = 0
    held_at: int | None = None

    @property
    def shares(self) -> list[Share]:
        """Mails by account, of all pools."""
        names = {share.account_id: share.name for pool in self.pools for share in pool.shares}
        counts: Counter[int] = Counter()
        for pool in self.pools:
            for share in pool.shares:
                counts[share.account_id] += share.count
        return [Share(account_id, name, counts[account_id]) for account_id, name in names.items()]


def spread(
    consented: int,
    others: int,
    routes: Sequence[Route],
    *,
    traffic_class: str,
    mode: str,
    shares: Mapping[str, float] | None = None,
) -> Plan:
    """Split so many mails to contacts who have given consent, and so many to others, as `distribute` splits them all.

    Those to others come on no account that requires consent. Where the plan has fewer mails for the accounts that take
    them, these get more; where it has none, those meant for the class do; where there are none, the mails are held.
    Raises PlanRefusedError.
    """
    wanted = distribute(consented + others, routes, traffic_class=traffic_class, mode=mode, shares=shares)
    lenient = [route for route in routes if route.takes(consented=False)]
    takers = {route.account_id for route in lenient}
    if len(takers) == len(routes):
        return Plan([Pool(None, wanted)], others)
    room = [share for share in wanted if share.account_id in takers]
    strict = [share for share in wanted if share.account_id not in takers]
    counts = [share.count for share in room]
    if others <= sum(counts):
        theirs = largest_remainder(others, counts) if others else [0] * len(counts)
        rest = [replace(share, count=share.count - part) for share, part in zip(room, theirs, strict=True)]
        by_id = {share.account_id: share for share in [*rest, *strict]}
        own = [by_id[share.account_id] for share in wanted]
        return Plan([Pool(True, own), Pool(False, _parts(room, theirs))], others)
    own = _parts(strict, largest_remainder(consented, [share.count for share in strict]) if consented else [])
    if sum(counts):
        return Plan([Pool(True, own), Pool(False, _parts(room, largest_remainder(others, counts)))], others)
    if lenient:
        found = distribute(others, lenient, traffic_class=traffic_class, mode="by_class")
        return Plan([Pool(True, own), Pool(False, found)], others)
    return Plan([Pool(True, own)], others, held=others, held_at=wanted[0].account_id)


def _parts(shares: Sequence[Share], counts: Sequence[int]) -> list[Share]:
    return [replace(share, count=count) for share, count in zip(shares, counts or [0] * len(shares), strict=True)]


def _by_shares(routes: Sequence[Route], traffic_class: str, shares: Any) -> tuple[list[Route], list[float]]:
    # A person wrote them as JSON, which may be anything.
    if not isinstance(shares, Mapping):
        raise PlanRefusedError(_('Write the shares as {"account name": percent, …}.'))
    known = {route.name for route in routes}
    if unknown := sorted(set(shares) - known):
        raise PlanRefusedError(
            _("The shares name accounts that this agency may not use: %(unknown)s. It may use: %(known)s.")
            % {"unknown": ", ".join(unknown), "known": ", ".join(sorted(known))}
        )
    if not all(type(share) in (int, float) and 0 <= share <= 100 for share in shares.values()):
        raise PlanRefusedError(_("Each share is a percentage from 0 to 100."))
    if abs(sum(shares.values()) - 100) > 0.01:
        raise PlanRefusedError(_("The shares add up to %(sum)g %%, not to 100 %%.") % {"sum": sum(shares.values())})
    chosen = [route for route in in_order(routes, traffic_class) if shares.get(route.name)]
    return chosen, [float(shares[route.name]) for route in chosen]


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the weights (not all zero) that add up to `total`."""
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: (counts[index] - exact[index], index))
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts
