"""Loaded before Django's settings (`-p tests.database`): a throw-away PostgreSQL that ends with this test run."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

VAR = Path(tempfile.mkdtemp(prefix="polza-test-"))
VAR.chmod(0o755)
os.environ["POLZA_VAR"] = str(VAR)
os.environ["POLZA_ROLE"] = "command"
os.environ.setdefault("SYSTEM_EMAIL_URL", "memorymail://")

from outreach import embedded  # noqa: E402 - reads the environment above

SERVER: embedded.Server | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the server, unless this process only shares the tests out to others, each of which has its own."""
    global SERVER
    shares_out = session.config.getoption("numprocesses", 0) and not hasattr(session.config, "workerinput")
    if embedded.needed() and not shares_out:
        SERVER = embedded.start(VAR)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server when the last test's connections are closed."""
    if SERVER is not None:
        SERVER.release()
    shutil.rmtree(VAR, ignore_errors=True)
