"""Pure: how the mails of a new domain grow, step by step, up to its limits.

A step is a line of a plan, counted from 1. A domain goes up a step a day at most, and only on evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

STEPS = 14
FIRST_OF_SENDER, FIRST_OF_DOMAIN = 5, 50
# Of what was sent. Google asks bulk senders to stay below 0.1 % (Email sender guidelines, spam rate).
BOUNCE_RATE, COMPLAINT_RATE = 0.02, 0.001
# A day that used less of what it might says nothing of the next step.
ENOUGH = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """One day of a domain: mails sent of those allowed, and how many came back or were complained about."""

    sent: int
    allowed: int
    bounced: int = 0
    complained: int = 0

    @property
    def bad(self) -> bool:
        """Too many bounces or complaints. One bounce is none: of few mails it would be a large part."""
        return self.bounced > max(1, self.sent * BOUNCE_RATE) or self.complained > self.sent * COMPLAINT_RATE

    @property
    def enough(self) -> bool:
        """So many mails that a good day says something."""
        return self.sent > 0 and self.sent >= self.allowed * ENOUGH


def plan(limit: int, *, first: int, steps: int = STEPS) -> list[int]:
    """Mails a day at each step, growing by the same factor from `first` to `limit`."""
    limit = max(1, limit)
    first = min(first, limit)
    if steps < 2:
        return [limit]
    return [round(first * (limit / first) ** (step / (steps - 1))) for step in range(steps)]


def allowed(limit: int, steps: Sequence[int], step: int) -> int:
    """Mails a day at this step: never more than the limit, and the limit itself beyond the plan."""
    return min(limit, steps[step - 1]) if step <= len(steps) else limit


def together(
    limits: Sequence[int], plan: Sequence[int], domain_limit: int, domain_plan: Sequence[int], step: int
) -> int:
    """Mails a day of a whole domain at this step, whose senders have these limits."""
    of_senders = sum(allowed(limit, plan, step) for limit in limits)
    return min(of_senders, allowed(domain_limit, domain_plan, step))


def next_step(step: int, evidence: Evidence, *, last: int) -> int:
    """The step of the day after: one back after a bad day, one on after a good and busy one, else the same.

    One beyond the last the domain is warm.
    """
    if evidence.bad:
        return max(1, step - 1)
    return min(step + 1, last + 1) if evidence.enough else step
