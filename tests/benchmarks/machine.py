"""CPU seconds and memory of processes, and what others took of the machine meanwhile. Linux's /proc."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Quiet:
    """Of the time of all cores: which part programs that are not ours used."""

    foreign: float = 0.0


def pace() -> float:
    """Milliseconds that a fixed piece of work takes now. Where it changes, the machine itself does: a virtual one's
    cores are shared with others that no figure of its own shows."""
    began = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number * number % 7
    return (time.perf_counter() - began) * 1000


def tree(root: int) -> list[int]:
    """This process and all that came from it and live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))):
            children.setdefault(int(found[1]), []).append(int(entry.name))
    found_pids, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found_pids.append(pid)
        waiting += children.get(pid, [])
    return found_pids


def children(parent: int) -> list[int]:
    """The processes that this one started."""
    return [pid for pid in tree(parent) if (found := _stat(pid)) and int(found[1]) == parent]


def command(pid: int) -> list[str]:
    """The words that a process was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system seconds of these processes, their descendants, and those of them that have ended."""
    total = 0
    for root in roots:
        for pid in tree(root):
            if found := _stat(pid):
                # The four are this process's own and those of the children it has waited for.
                total += sum(int(value) for value in found[11:15])
    return total / _TICK


def pss_mb(roots: Iterable[int]) -> float:
    """Memory of these processes and their descendants in MB; what they share counts once."""
    total = 0
    for root in roots:
        for pid in tree(root):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def watched(roots: Iterable[int]) -> Iterator[Quiet]:
    """Fill in how much of the machine others used during the block."""
    ours = list(roots)
    quiet = Quiet()
    started, busy, own = time.monotonic(), _busy_seconds(), cpu_seconds(ours)
    yield quiet
    seconds = (time.monotonic() - started) * (os.cpu_count() or 1)
    quiet.foreign = max(0.0, (_busy_seconds() - busy) - (cpu_seconds(ours) - own)) / seconds


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / _TICK


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, so that the parent is the second; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
