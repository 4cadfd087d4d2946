"""The sandbox as a process of its own, as far away as a provider is: nothing of ours shares its memory."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from outreach.cluster import end_with_parent


class NoSandboxError(RuntimeError):
    """The sandbox did not start; the message is its own."""


@dataclass(frozen=True, slots=True)
class FarEnd:
    """Where the sandbox answers and with which keys."""

    ports: dict[str, int]
    urls: dict[str, str]
    credentials: dict[str, dict[str, str]]
    webhook_secrets: dict[str, str]

    def snapshot(self) -> dict[str, Any]:
        """What it has taken so far."""
        return self._ask("counts")

    def listen(self, hooks: dict[str, str]) -> None:
        """Let it post events of mails to these addresses, by provider."""
        self._ask("webhooks", json.dumps(hooks).encode())

    def events(self) -> dict[str, Any]:
        """What became of the mails that it has taken, and how many posts about it are still to come."""
        return self._ask("events")

    def replay(self) -> None:
        """Let it post what was lost on the way."""
        self._ask("replay", b"")

    def _ask(self, what: str, body: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(self.urls["control"] + what, body, timeout=30) as answer:  # noqa: S310 - loopback
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def running(faults: Sequence[str]) -> Iterator[FarEnd]:
    """Run the sandbox with these faults, such as `resend=down`. Raises NoSandboxError that names a wrong fault."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "sandbox", "--json-ready"]
    for fault in faults:
        command += ["--fault", fault]
    process = subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,  # safe: the demo has no threads at this point
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _out, problem = process.communicate()
            raise NoSandboxError(problem.strip().removeprefix("CommandError: ") or "The sandbox did not start.")
        yield FarEnd(**json.loads(line))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
