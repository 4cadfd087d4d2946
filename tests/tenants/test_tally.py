"""Counts are written together, by whichever thread they came, and none is lost where they cannot be written."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tenants import tally
from tenants.tally import Tally


def test_a_flood_is_written_at_once_and_what_could_not_be_is_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(tally, "WRITE_SECONDS", 0.01)
    written: list[Counter[str]] = []
    done, away = threading.Event(), [True]

    def write(counts: Counter[str]) -> None:
        if away:
            away.clear()
            raise OSError("the database is away")
        written.append(counts)
        done.set()

    counts: Tally[str] = Tally(write)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(counts.add, ["a", "b"] * 100))
    assert done.wait(60)
    counts.flush()
    assert sum(written, Counter()) == {"a": 100, "b": 100}
