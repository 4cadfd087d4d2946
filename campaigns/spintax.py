"""Pure: `{a|b|c}` in a text becomes tags of Liquid, of which a mail shows one option; and which that is.

A group has a `|`: other braces stay what they are, in styles too. Groups may be in each other and hold Liquid, but for
one that starts with an output: `{ {{ a }}|b}` needs the space. A backslash before `{`, `|` or `}` makes it a letter.
"""

import re
from hashlib import blake2b

from django.utils.translation import gettext as _

TAG, OR, END = "polza_spin", "polza_or", "endpolza_spin"
# The name under which a render is told what its choices follow from; without it all options are shown.
SEED = "polza_seed"
DEEPEST = 5
MOST_GROUPS = 300
MOST_OPTIONS = 50

_mark = re.compile(r"\\[{|}]|[{|}]")


class SpintaxError(ValueError):
    """The groups of a text are not fit; says what is wrong."""


def seed(*belongs_to: object) -> bytes:
    """What the choices in a mail follow from: the same for the same step and contact, in a preview and a retry too."""
    return blake2b("\0".join(map(str, belongs_to)).encode(errors="surrogatepass"), digest_size=16).digest()


def chosen(seed: bytes, group: int, options: int) -> int:
    """Which of so many options the mail of this seed has in a group, counted from 0."""
    return int.from_bytes(blake2b(group.to_bytes(4, "big"), key=seed, digest_size=8).digest(), "big") % options


def to_liquid(text: str, first: int = 0) -> str:
    """The text with tags in the place of its groups, which are numbered from `first`. It holds no Liquid of its own.

    Raises SpintaxError.
    """
    # One frame for each open brace: where it is, and where the bars of its own are.
    frames: list[tuple[int, list[int]]] = []
    marks: dict[int, str] = {}
    groups: list[tuple[int, list[int], int]] = []
    for found in _mark.finditer(text):
        at, mark = found.start(), found[0]
        if mark == "{":
            frames.append((at, []))
        elif mark == "|" and frames:
            frames[-1][1].append(at)
        elif mark == "}" and frames:
            opened, bars = frames.pop()
            if bars:
                groups.append((opened, bars, at))
        elif len(mark) > 1:
            marks[at] = "{{ '" + mark[1] + "' }}" if mark[1] != "|" else "|"
    if any(bars for _opened, bars in frames):
        raise SpintaxError(_("a “{” with a “|” after it is never closed; write \\{ for a brace that is a letter"))
    if len(groups) > MOST_GROUPS:
        raise SpintaxError(_("it has more than %(most)d groups like {a|b}") % {"most": MOST_GROUPS})
    _check_depth(groups)
    for number, (opened, bars, closed) in enumerate(sorted(groups), start=first):
        if len(bars) >= MOST_OPTIONS:
            raise SpintaxError(_("a group like {a|b} has more than %(most)d options") % {"most": MOST_OPTIONS})
        marks[opened] = f"{{% {TAG} {number} %}}"
        marks |= dict.fromkeys(bars, f"{{% {OR} %}}")
        marks[closed] = f"{{% {END} %}}"
    return _mark.sub(lambda found: marks.get(found.start(), found[0]), text)


def _check_depth(groups: list[tuple[int, list[int], int]]) -> None:
    ends: list[int] = []
    for opened, _bars, closed in sorted(groups):
        while ends and ends[-1] < opened:
            ends.pop()
        ends.append(closed)
        if len(ends) > DEEPEST:
            raise SpintaxError(_("its groups like {a|b} are more than %(most)d deep in each other") % {"most": DEEPEST})
