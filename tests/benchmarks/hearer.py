"""Acts on what was posted, as a worker does, until its input ends: `hearer`. Says "ready" first."""

import select
import sys

import django

django.setup()

from django.utils import timezone  # noqa: E402

from campaigns import feedback  # noqa: E402
from tenants import context  # noqa: E402


def main() -> None:
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        with context.public():
            feedback.hear(now=timezone.now())


if __name__ == "__main__":
    main()
