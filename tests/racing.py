"""Processes that race: `python -m tests.racing MODULE RACERS`, where RACERS is JSON, a list of arguments for each.

Sets Django up once and forks. The module's `race` gets its arguments and something to call when it is ready, which
returns when all are. Prints what each has returned, as JSON.
"""

import json
import multiprocessing
import sys
from importlib import import_module
from typing import Any

import django

django.setup()

PATIENCE = 60


def main(module: str, racers: list[list[Any]]) -> None:
    """Run one racer for each list of arguments; the exit code says whether all came through."""
    race = import_module(module).race
    forks = multiprocessing.get_context("fork")
    ready, said = forks.Barrier(len(racers)), forks.SimpleQueue()

    def run(number: int) -> None:
        said.put((number, race(*racers[number], lambda: ready.wait(PATIENCE))))

    running = [forks.Process(target=run, args=(number,), daemon=True) for number in range(len(racers))]
    for racer in running:
        racer.start()
    for racer in running:
        racer.join()
    if any(racer.exitcode for racer in running):
        sys.exit(1)
    print(json.dumps([answer for _, answer in sorted(said.get() for _ in running)]))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
