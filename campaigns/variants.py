"""Pure: the texts that are tried for a step, and which of them a contact gets.

The first is the step's own, A; a step has up to five more, B to F. Who gets which follows from the step and the
contact's address alone, and another weight moves no more contacts than it must (weighted rendezvous hashing). What a
mail was first tried with stays with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import log

OWN = "A"
FURTHER = "BCDEF"
MOST = 1 + len(FURTHER)


def further(letter: str) -> str:
    """The letter of a text that is not the step's own, else nothing."""
    return letter if letter != OWN else ""


MOST_WEIGHT = 100


@dataclass(frozen=True, slots=True)
class Text:
    """One text of the step at a place. `letter` is empty where the step has no other; `changed_at` tells the one from
    what it was before; nobody new gets one of weight 0."""

    place: int | None
    letter: str
    subject: str
    html: str
    text: str
    weight: int = 1
    changed_at: object = None

    @property
    def name(self) -> str:
        """What it is called to people: 2, or 2B."""
        return f"{self.place}{self.letter}"


def assigned(weights: Mapping[str, int], step_id: int, address: str) -> str:
    """The letter that a contact gets of a step; empty where there is nothing to choose from."""
    if len(weights) < 2:
        return next(iter(weights), "")
    return max(weights, key=lambda letter: (_score(weights[letter], step_id, letter, address), letter))


def shares(weights: Mapping[str, int]) -> dict[str, int]:
    """Of new contacts, the percent that each letter gets; together 100."""
    total, found, before = sum(weights.values()), {}, 0
    for letter, weight in sorted(weights.items()):
        found[letter] = round(100 * (before + weight) / total) - round(100 * before / total)
        before += weight
    return found


def _score(weight: int, step_id: int, letter: str, address: str) -> float:
    drawn = blake2b(f"{step_id}\0{letter}\0{address}".encode(errors="surrogatepass"), digest_size=7).digest()
    return -weight / log((int.from_bytes(drawn, "big") + 0.5) / 2**56)
