"""Pure: how many mails of a campaign go through which account."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
