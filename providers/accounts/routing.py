"""Pure: which accounts serve a traffic class, and in which order."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """An account as an agency may use it now. `free` is mails left today; `open` is whether it may be tried; `room` is
    what its senders alone may still send, `used` what the agency has sent today.

    With `consent_required`, it is for mails to contacts who have given consent alone.
    """

    account_id: int
    name: str
    kind: str
    classes: frozenset[str]
    priority: int
    free: int
    open: bool
    consent_required: bool = False
    room: int = 0
    used: int = 0

    def takes(self, *, consented: bool) -> bool:
        """Whether a mail to a contact who has given consent, or has not, may be placed on it."""
        return consented or not self.consent_required


def in_order(routes: Iterable[Route], traffic_class: str) -> list[Route]:
    """The accounts meant for the class first, the others behind them as failover; each group by priority."""
    return sorted(routes, key=lambda route: (traffic_class not in route.classes, route.priority, route.account_id))


def meant_for(routes: Iterable[Route], traffic_class: str) -> list[Route]:
    """The accounts to plan on: those meant for the class, or all in their order where none is."""
    ordered = in_order(routes, traffic_class)
    return [route for route in ordered if traffic_class in route.classes] or ordered


def next_route(routes: Iterable[Route], traffic_class: str, *, refused_by: Collection[int]) -> Route | None:
    """Where a mail goes after these accounts refused it: the first other that is open and has quota, or None."""
    for route in in_order(routes, traffic_class):
        if route.account_id not in refused_by and route.open and route.free > 0:
            return route
    return None
