"""One of many processes that take their turn at one account: `python -m tests.concurrency.pacer ACCOUNT SECONDS`.

Waits for a line on standard input, takes for so many seconds, and prints when it got how many, by the machine's clock.
"""

import sys
import time

import django

django.setup()

from providers.accounts import rate  # noqa: E402
from providers.accounts.models import Account  # noqa: E402


def main(account_id: int, seconds: float) -> None:
    """Take whatever is granted, up to a hundred at a time."""
    account = Account.objects.get(pk=account_id)
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        granted, wait = rate.take(account, 100)
        if granted:
            print(time.monotonic(), granted, flush=True)
        else:
            time.sleep(min(wait, max(0.0, end - now)))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
