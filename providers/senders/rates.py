"""Pure: whether too many of some mails came back or were complained about, judged by what the rate is at least.

A raw percentage says little of few mails: one bounce of ten is 10 %. The lower end of an exact interval (Clopper and
Pearson, 1934) grows with the evidence, so what is judged is the rate that it surely exceeds.
"""

from dataclasses import dataclass
from math import exp, lgamma, log, log1p

# Fewer mails than this are not judged.
LEAST_MAILS = 100
# One-sided. High, because the same mails are looked at again and again.
CONFIDENCE = 0.99
_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of the mails, and the part of all such mails that they stand for at least."""

    count: int
    mails: int
    least: float

    def __str__(self) -> str:
        return f"{self.count} / {self.mails}, ≥ {self.least * 100:.2f} %"


def too_high(count: int, mails: int, limit: float, *, floor: int = LEAST_MAILS) -> Rate | None:
    """The evidence that the rate is above the limit, or None where there is not enough of it."""
    if mails < floor or count <= mails * limit or at_least(count, mails, limit) > 1 - CONFIDENCE:
        return None
    return Rate(count, mails, lower_bound(count, mails))


def lower_bound(count: int, mails: int) -> float:
    """What the rate is at least, with CONFIDENCE, if `count` of `mails` were seen."""
    low, high = 0.0, count / mails
    for _ in range(_HALVINGS if count else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if at_least(count, mails, middle) > 1 - CONFIDENCE else (middle, high)
    return low


def at_least(count: int, mails: int, rate: float) -> float:
    """How probable `count` or more of `mails` are where each has this chance, which is below `count / mails`."""
    total, one = 0.0, exp(_log_chance(count, mails, rate)) if rate else 0.0
    # Beyond the mean each term is smaller than the one before.
    for seen in range(count, mails + 1):
        total += one
        if one <= total * 1e-12:
            break
        one *= (mails - seen) / (seen + 1) * rate / (1 - rate)
    return min(total, 1.0) if count else 1.0


def _log_chance(count: int, mails: int, rate: float) -> float:
    ways = lgamma(mails + 1) - lgamma(count + 1) - lgamma(mails - count + 1)
    return ways + count * log(rate) + (mails - count) * log1p(-rate)
