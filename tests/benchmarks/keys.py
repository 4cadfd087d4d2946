"""The keys of the table: what each means, what it must be, what it aims at, and what measures it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.benchmarks.ground import Ground

Values = dict[str, float]
# Sets a scene, gives the function that measures once, and clears up.
Benchmark = Callable[[Ground], AbstractContextManager[Callable[[], Values]]]


@dataclass(frozen=True)
class Key:
    """One line of the table. `more`: whether more is better. A goal of None is not a number; `aim_text` says it."""

    name: str
    more: bool
    must: float | None
    aim: float | None
    aim_text: str = ""

    def verdict(self, value: float) -> str:
        """aim, must or missed."""
        for word, goal in (("aim", self.aim), ("must", self.must)):
            if goal is not None and (value >= goal if self.more else value <= goal):
                return word
        return "missed" if self.must is not None else ""


@dataclass(frozen=True)
class Group:
    """Keys that one benchmark measures together. `most` bounds the repetitions of an expensive one."""

    benchmark: str
    keys: tuple[Key, ...]
    most: int = 5


GROUPS = (
    Group(
        "draining.over_smtp",
        (Key("engine_vs_raw_loop", True, 0.9, 3.0), Key("two_workers_vs_one", True, 1.7, 1.9)),
    ),
)


def chosen(names: list[str]) -> Iterator[Group]:
    """The groups with one of these keys, or all. Raises ValueError that lists the known keys."""
    known = {key.name for group in GROUPS for key in group.keys}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"No such key: {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    for group in GROUPS:
        if not names or any(key.name in names for key in group.keys):
            yield group
