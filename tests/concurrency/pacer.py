"""One of many processes that take their turn at one account; `tests.racing` starts them."""

import time
from collections.abc import Callable

from providers.accounts import rate
from providers.accounts.models import Account


def race(account_id: int, seconds: float, ready: Callable[[], object]) -> list[tuple[float, int]]:
    """Take whatever is granted, up to a hundred at a time; return when it got how many, by the machine's clock."""
    account = Account.objects.get(pk=account_id)
    taken = []
    ready()
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        granted, wait = rate.take(account, 100)
        if granted:
            taken.append((time.monotonic(), granted))
        else:
            time.sleep(min(wait, max(0.0, end - now)))
    return taken
