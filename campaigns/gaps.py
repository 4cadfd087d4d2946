"""Pure: how long a sender rests between two mails: for the longest gap of all campaigns that it writes for."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from providers.accounts.models import TrafficClass

# Seconds, and up to how many more at random, where the campaign says nothing.
DEFAULTS = {TrafficClass.COLD_OUTREACH.value: (540, 300)}


class Gap(NamedTuple):
    """At least so many seconds, and up to so many more at random."""

    seconds: int = 0
    jitter: int = 0

    @property
    def least(self) -> timedelta:
        """What every mail keeps at least."""
        return timedelta(seconds=self.seconds)

    def of(self, key: UUID) -> timedelta:
        """The gap of one mail, always the same for its key: keys are random, so nothing else needs to be."""
        return timedelta(seconds=self.seconds + key.int % (self.jitter + 1))


def of_campaign(traffic_class: str, seconds: int | None, jitter: int | None) -> Gap:
    """The gap of a campaign; None is the default of its class."""
    default = DEFAULTS.get(traffic_class, (0, 0))
    return Gap(default[0] if seconds is None else seconds, default[1] if jitter is None else jitter)


def longest(gaps: Iterable[Gap]) -> Gap:
    """The gap of a sender whose campaigns have these: the longest of all, and the largest random part."""
    found = Gap()
    for gap in gaps:
        found = Gap(max(found.seconds, gap.seconds), max(found.jitter, gap.jitter))
    return found
