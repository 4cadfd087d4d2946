"""Pure: what the mails that went out say of the texts that were tried side by side.

The rate of each has a Beta posterior from a uniform prior; the integrals are numeric, so the same counts have the same
answer. Whoever looks often sees chance lead often: a text wins only beyond a bar that is stricter than the certainty
asked for, so that, of comparisons of equal texts that are looked at each day for a month, no more than the rest of that
certainty end with a winner.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise
from math import ceil, exp, floor, lgamma, log, log10, sqrt

# Thirty looks at two texts, by simulation and by Pocock's constant boundary (2.74 standard deviations at 5 %).
LOOKS = 16
# Rates no further apart than this part of them all, or than half a percentage point, are as good as equal.
SAME_PART, SAME_LEAST = 0.2, 0.005
# Who wins may lose this part of its rate at most, on average, to what would have been better.
LOSS = 0.05
MOST_MORE = 100_000
_POINTS = 120


class Verdict(StrEnum):
    """What may be said of a comparison."""

    EARLY = "early"
    OPEN = "open"
    WINNER = "winner"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Tried:
    """Of so many mails with one text, so many did what is counted."""

    sent: float
    did: float


@dataclass(frozen=True, slots=True)
class Posterior:
    """By letter: the probability that it is the best, and what its choice loses on average, as a rate. `same` is the
    probability that whichever is chosen is as good as the best."""

    best: dict[str, float]
    loss: dict[str, float]
    same: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a comparison. `leader` is the likeliest best; `more` the further mails, of all texts together, until
    there is an answer if the rates stay as they are: 0 where there is one, None for more than MOST_MORE."""

    verdict: Verdict
    leader: str
    posterior: Posterior
    more: int | None


def bar(sure_at: float) -> float:
    """The probability beyond which a text wins; `sure_at` below 1 is the share of equal pairs that end without one."""
    return 1 - (1 - sure_at) / LOOKS


def judge(tried: Mapping[str, Tried], *, least: int, sure_at: float) -> Finding:
    """Judge two texts or more, none before each has `least` mails."""
    posterior = reckon(tried)
    leader = max(sorted(tried), key=lambda letter: posterior.best[letter])
    verdict = _verdict(tried, posterior, leader, least, sure_at)
    more = 0 if verdict in (Verdict.WINNER, Verdict.SAME) else _more(tried, least, sure_at)
    return Finding(verdict, leader, posterior, more)


def reckon(tried: Mapping[str, Tried]) -> Posterior:
    """The posterior of texts that were tried side by side."""
    shapes = [(1 + one.did, 1 + max(0.0, one.sent - one.did)) for one in tried.values()]
    grid = _grid(shapes)
    rates = [1 / (1 + exp(-z)) for z in grid]
    masses = [_masses(shape, grid) for shape in shapes]
    edges = [[0.0, *accumulate(one)] for one in masses]
    # Of each cell, what lies below its middle.
    below = [
        [low + mass / 2 for low, mass in zip(edge, one, strict=False)] for edge, one in zip(edges, masses, strict=True)
    ]
    middles = [(low + high) / 2 for low, high in pairwise(rates)]
    best, highest = [], 0.0
    for number, mass in enumerate(masses):
        others = [one for other, one in enumerate(below) if other != number]
        weights = [m * _product(others, cell) for cell, m in enumerate(mass)]
        best.append(sum(weights))
        highest += sum(weight * rate for weight, rate in zip(weights, middles, strict=True))
    total = sum(best)
    means = [a / (a + b) for a, b in shapes]
    # Cells have a width, so a mean reckoned by them is set beside the other highest that is.
    ours = [sum(m * rate for m, rate in zip(mass, middles, strict=True)) for mass in masses]
    loss = [max(0.0, highest / total - mean) for mean in ours]
    same = min(_within(number, shapes, masses, edges, rates, _near(tried)) for number in range(len(means)))
    letters = list(tried)
    return Posterior(
        {letter: share / total for letter, share in zip(letters, best, strict=True)},
        dict(zip(letters, loss, strict=True)),
        same,
    )


def _verdict(tried: Mapping[str, Tried], found: Posterior, leader: str, least: int, sure_at: float) -> Verdict:
    if min(one.sent for one in tried.values()) < least:
        return Verdict.EARLY
    rate = (1 + tried[leader].did) / (2 + tried[leader].sent)
    if found.best[leader] >= bar(sure_at) and found.loss[leader] <= LOSS * rate:
        return Verdict.WINNER
    return Verdict.SAME if found.same >= sure_at else Verdict.OPEN


def _more(tried: Mapping[str, Tried], least: int, sure_at: float) -> int | None:
    """How many further mails there are until an answer, by halving; to two digits, rounded up."""
    sent = sum(one.sent for one in tried.values())
    if not all(one.sent for one in tried.values()):
        return ceil(sum(max(0, least - one.sent) for one in tried.values())) or None
    first = max(1.0, least / min(one.sent for one in tried.values()))
    most = (sent + MOST_MORE) / sent

    def answered(times: float) -> bool:
        grown = {letter: Tried(one.sent * times, one.did * times) for letter, one in tried.items()}
        found = reckon(grown)
        leader = max(sorted(grown), key=lambda letter: found.best[letter])
        return _verdict(grown, found, leader, 0, sure_at) in (Verdict.WINNER, Verdict.SAME)

    low, high = first, first
    while not answered(high):
        if high >= most:
            return None
        low, high = high, min(most, high * 1.6)
    for _ in range(5 if high > low else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if answered(middle) else (middle, high)
    more = sent * (high - 1)
    digits: int = 10 ** max(0, floor(log10(max(1.0, more))) - 1)
    return min(MOST_MORE, max(1, ceil(more / digits) * digits))


def _near(tried: Mapping[str, Tried]) -> float:
    sent = sum(one.sent for one in tried.values())
    return max(SAME_LEAST, SAME_PART * sum(one.did for one in tried.values()) / sent) if sent else SAME_LEAST


def _grid(shapes: Sequence[tuple[float, float]]) -> list[float]:
    """Logits that are dense where any posterior is: there each is smooth, and falls away on both sides."""
    points: set[float] = set()
    for a, b in shapes:
        middle, width = log(a / b), sqrt(1 / a + 1 / b)
        points |= {middle + width * (24 * number / _POINTS - 15) for number in range(_POINTS + 1)}
    return sorted(points)


def _masses(shape: tuple[float, float], grid: Sequence[float]) -> list[float]:
    """What a posterior has in each cell; together 1. By Simpson's rule."""
    a, b = shape
    scale = lgamma(a + b) - lgamma(a) - lgamma(b)

    def density(z: float) -> float:
        # The logarithms of the rate and of the rest, without loss of digits at either end.
        down = log(1 + exp(-abs(z)))
        return exp(scale - a * (down + max(0.0, -z)) - b * (down + max(0.0, z)))

    ends = [density(z) for z in grid]
    found = [
        (high - low) / 6 * (ends[cell] + 4 * density((low + high) / 2) + ends[cell + 1])
        for cell, (low, high) in enumerate(pairwise(grid))
    ]
    total = sum(found)
    return [one / total for one in found]


def _product(others: Sequence[Sequence[float]], cell: int) -> float:
    found = 1.0
    for one in others:
        found *= one[cell]
    return found


def _within(
    number: int,
    shapes: Sequence[tuple[float, float]],
    masses: Sequence[Sequence[float]],
    edges: Sequence[Sequence[float]],
    rates: Sequence[float],
    near: float,
) -> float:
    """The probability that no other rate is above that of this text by more than `near`."""
    others = [other for other in range(len(shapes)) if other != number]
    found = 0.0
    for cell, mass in enumerate(masses[number]):
        if mass < 1e-9:
            continue
        reach = (rates[cell] + rates[cell + 1]) / 2 + near
        place = bisect_right(rates, reach)
        share = 1.0
        for other in others:
            share *= _up_to(reach, place, edges[other], rates)
        found += mass * share
    return found


def _up_to(reach: float, place: int, edges: Sequence[float], rates: Sequence[float]) -> float:
    if place >= len(rates):
        return 1.0
    low, high = rates[place - 1], rates[place]
    return edges[place - 1] + (edges[place] - edges[place - 1]) * (reach - low) / (high - low)
