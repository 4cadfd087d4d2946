"""The demo as a new user runs it: a process of its own, on a database of its own, into its own sandbox."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes


def run(var: Path, *arguments: str) -> dict[str, object]:
    """Run a command on this installation; return its JSON line. It must succeed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "POLZA_ROLE")}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments, "--json"],
        cwd=processes.ROOT,
        env={**environment, "POLZA_VAR": str(var)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def play(var: Path, *arguments: str) -> dict[str, object]:
    """Run the demo once, and both audits of what it left."""
    found = run(var, "demo", "--once", *arguments)
    assert run(var, "audit_quota")["drifts"] == []
    run(var, "audit_ledger")
    return found


@pytest.mark.cluster
@pytest.mark.timeout(480)
def test_it_sends_everything_once_and_again_on_what_the_first_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    first = play(tmp_path)
    assert (first["rows"], first["accepted"]) == (1200, 1140)
    assert first["planned"] == {"resend": 380, "sendgrid": 380, "smtp": 380}
    assert first["sent"] == {"resend": 660, "sendgrid": 100, "smtp": 380}
    assert (first["distinct_recipients"], first["duplicates"], first["waiting"]) == (1140, 0, {})
    # Events come twice, late and out of order, and some only when they are sent anew: each counts once.
    assert first["heard"] == first["happened"]
    assert first["heard"]["delivered"] > 700  # type: ignore[index]
    second = play(tmp_path, "--fault", "smtp=lost_answers", "--overflow", "wait")
    assert second["waiting"] == {"account_day_spent": 280, "in_doubt": 38}
    assert (second["distinct_recipients"], second["duplicates"]) == (860, 0)
    assert second["heard"] == second["happened"]
