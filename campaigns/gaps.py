"""Pure: how long a sender rests between two mails."""

from datetime import timedelta
from uuid import UUID

from providers.accounts.models import TrafficClass

# Seconds, and up to how many more at random, where the campaign says nothing.
DEFAULTS = {TrafficClass.COLD_OUTREACH.value: (540, 300)}


def least_gap(traffic_class: str, seconds: int | None) -> timedelta:
    """The gap that every mail of such a campaign keeps at least."""
    return timedelta(seconds=DEFAULTS.get(traffic_class, (0, 0))[0] if seconds is None else seconds)


def most_jitter(traffic_class: str, jitter: int | None) -> int:
    """Up to so many seconds are added to that gap."""
    return DEFAULTS.get(traffic_class, (0, 0))[1] if jitter is None else jitter


def gap(key: UUID, traffic_class: str, seconds: int | None, jitter: int | None) -> timedelta:
    """The gap of one mail, always the same for its key: keys are random, so nothing else needs to be."""
    most = most_jitter(traffic_class, jitter)
    return least_gap(traffic_class, seconds) + timedelta(seconds=key.int % (most + 1))
