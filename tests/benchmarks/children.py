"""Processes of this run: started with a pipe to each side, and ended by their ids, whatever happens."""

import json
import multiprocessing
import os
import subprocess
import sys
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """One process that speaks in lines. Leaving the context ends it."""

    def __init__(self, module: str, *arguments: str | int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def hear(self) -> str:
        """Its next line. Raises RuntimeError if it has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A process of the benchmark ended: {self._process.args!r}. It says why above.")
        return line.strip()

    def tell(self, word: str) -> None:
        """Give it a line."""
        self._give(word)

    def _give(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(0 if kind else 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Sink(Child):
    """The far end of the wire."""

    def __init__(self, *, smtp_delay: float = 0, http_delay: float = 0, per_second: int = 0) -> None:
        super().__init__(
            "sink", "--smtp-delay", str(smtp_delay), "--http-delay", str(http_delay), "--per-second", per_second
        )
        self.ports: dict[str, int] = json.loads(self.hear())

    def counts(self, *, reset: bool = False) -> dict[str, Any]:
        """What has come so far, see sink.Tally; `reset` forgets it."""
        self.tell("count")
        found: dict[str, Any] = json.loads(self.hear())
        if reset:
            self.tell("reset")
            self.hear()
        return found


class Sender(Child):
    """A worker or a rival. Several may be started at once: each is waited for when it is first told something."""

    _ready = False

    def tell(self, word: str) -> None:
        """Give it a line, once it is ready."""
        self.await_ready()
        super().tell(word)

    def await_ready(self) -> None:
        """Return when it has started."""
        if not self._ready and self.hear() != "ready":
            raise RuntimeError("A process of the benchmark did not say that it is ready.")
        self._ready = True

    def result(self) -> dict[str, Any]:
        """What it did, once it is done."""
        found: dict[str, Any] = json.loads(self.hear())
        return found


_FORKS = multiprocessing.get_context("forkserver")


def preload() -> None:
    """Start, and do not wait for, the process that workers are forked from."""
    _FORKS.set_forkserver_preload(["tests.benchmarks.worker"])
    forkserver.ensure_running()


class Worker(Sender):
    """A worker that is forked from a process which has all of it loaded: what a start takes, it takes once."""

    def __init__(self, *pairs: str) -> None:
        from tests.benchmarks import worker

        preload()
        self._line, theirs = _FORKS.Pipe()
        self._forked = _FORKS.Process(target=worker.serve, args=(theirs, pairs), daemon=True)
        self._forked.start()
        theirs.close()
        assert self._forked.pid is not None
        self.pid = self._forked.pid

    def hear(self) -> str:
        """Its next line. Raises RuntimeError if it has ended instead."""
        try:
            return str(self._line.recv())
        except EOFError as error:
            raise RuntimeError("A worker of the benchmark ended. It says why above.") from error

    def _give(self, word: str) -> None:
        self._line.send(word)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self._forked.kill()
        self._forked.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        self._forked.join(0 if kind else 10)
        self.kill()


def together(senders: list[Sender]) -> dict[str, float]:
    """Let them all send at once; mails, seconds from the first start to the last end, and CPU seconds of all."""
    for sender in senders:
        sender.tell("go")
    results = [sender.result() for sender in senders]
    seconds = max(result["ended"] for result in results) - min(result["started"] for result in results)
    return {
        "sent": sum(result["sent"] for result in results),
        "seconds": seconds,
        "cpu": sum(result["cpu"] for result in results),
    }
