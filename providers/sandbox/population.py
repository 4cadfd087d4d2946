"""Pure: what becomes of a mail, by whom it is to. The same address always fares the same."""

import hashlib
from collections.abc import Sequence

# What the local part begins with decides; else chance does, seeded with the address: (name, of 1,000, events).
STORIES: Sequence[tuple[str, int, tuple[str, ...]]] = (
    ("bounce", 20, ("bounced",)),
    ("full", 8, ("soft",)),
    ("complain", 2, ("delivered", "opened", "complained")),
    ("optout", 3, ("delivered", "opened", "unsubscribed")),
    ("click", 40, ("delivered", "opened", "clicked")),
    ("open", 260, ("delivered", "opened")),
)
_USUAL = ("delivered",)


def story(address: str) -> tuple[str, ...]:
    """The events of a mail to this address, in their order."""
    address = address.lower()
    for name, _, events in STORIES:
        if address.startswith(name):
            return events
    chance = int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) % 1000
    for _, share, events in STORIES:
        if chance < share:
            return events
        chance -= share
    return _USUAL
