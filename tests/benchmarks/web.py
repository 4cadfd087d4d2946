"""A real gunicorn of two processes, and one process that asks it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests import processes
from tests.benchmarks.children import ROOT, Child

CONNECTIONS = 32
# Method, path, headers, body.
Request = tuple[str, str, Mapping[str, str], str]


@dataclass(frozen=True)
class Server:
    """Where it listens, and its first process."""

    port: int
    pid: int

    def ask(self, host: str, requests: Sequence[Request]) -> tuple[float, int]:
        """Seconds until all of these were answered, and how many were answered well."""
        with self.asked(host, requests) as asked:
            return asked()

    @contextmanager
    def asked(
        self, host: str, requests: Sequence[Request], rate: float | None = None
    ) -> Iterator[Callable[[], tuple[float, int]]]:
        """The same meanwhile, at `rate` requests a second if it is given; the function waits for the result."""
        with Child("visitor", self.port, host, CONNECTIONS, rate or 0) as visitor:
            visitor.hear()
            for request in requests:
                visitor.tell(json.dumps(request))
            visitor.tell("go")

            def result() -> tuple[float, int]:
                seconds, answered = visitor.hear().split()
                return float(seconds), int(answered)

            yield result


@contextmanager
def served() -> Iterator[Server]:
    """Start it, and stop it as a deployment does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "outreach.wsgi", "--preload", "--bind", f"127.0.0.1:{port}"),
            *("--worker-class", "gthread", "--workers", "2", "--threads", "16", "--log-level", "error"),
        ],
        cwd=ROOT,
        env=os.environ | {"POLZA_ROLE": "web", "WEB_THREADS": "16"},
    )
    try:
        processes.await_port(port)
        yield Server(port, server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
