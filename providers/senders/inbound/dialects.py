"""What the detectors of Mailman's authors (flufl.bounce) know beyond our own rules: older and rarer servers. Pure."""

import logging
from collections.abc import Set
from email import message_from_bytes

from flufl.bounce import all_failures

# It logs a traceback for every mail that it cannot read.
logging.getLogger("flufl.bounce").disabled = True

# Its patterns read the mail once each.
MOST_BYTES = 100_000
MOST_LINES = 2000


def failures(raw: bytes) -> tuple[list[str], list[str]]:
    """Addresses that a notice says failed for now and for good; empty where no detector knows the notice."""
    raw = b"\n".join(line[:1000] for line in raw[:MOST_BYTES].split(b"\n")[:MOST_LINES])
    try:
        temporary, permanent = all_failures(message_from_bytes(raw))
    except Exception:
        # It was not made for bytes that mean harm, and a verdict must never fail.
        return [], []
    return _addresses(temporary - permanent), _addresses(permanent)


def _addresses(found: Set[bytes]) -> list[str]:
    texts = sorted(address.decode("ascii", "replace").strip("<>") for address in found)
    return [text for text in texts if "@" in text.strip("@") and len(text) < 320 and not set(text) & set(' "{}<>')]
