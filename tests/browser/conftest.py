"""A real Chromium before a real gunicorn, on the committed test database."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tenants.models import Agency
from tests import processes
from tests.conftest import PASSWORD

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Site:
    """Where the web server of this test listens."""

    port: int

    def url(self, host: str, path: str = "/") -> str:
        """An address on the agency's host, or on the operator's for an empty one."""
        return f"http://{f'{host}.' if host else ''}localhost:{self.port}{path}"


@dataclass
class Complaints:
    """What a page did that it must not: errors on the console, requests to anywhere else."""

    found: list[str] = field(default_factory=list)

    def listen(self, page: Any) -> None:
        """Note whatever this page complains about from now on."""
        page.on("console", lambda message: message.type == "error" and self.found.append(message.text))
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if "localhost" not in url.split("/")[2] if "//" in url else not url.startswith("data:"):
            self.found.append(f"request to {url}")


@pytest.fixture
def site(committed: dict[str, Agency]) -> Iterator[Site]:
    """gunicorn on the test database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "manage.py", "web", "--bind", f"127.0.0.1:{port}", "--workers", "1"],
        cwd=processes.ROOT,
        env=processes.environment(POLZA_ROLE="web"),
    )
    try:
        _wait_for(port)
        yield Site(port)
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("gunicorn did not answer within a minute")


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium, or a skip that says what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in requirements/e2e.txt")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    if trouble := _driver_trouble():
        pytest.skip(f"playwright does not run on this machine: {trouble}")
    # Playwright's event loop is not ours; Django would take it for an asynchronous caller.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def _driver_trouble() -> str:
    """Why playwright's own Node.js does not start, such as a library that a bare Debian does not have."""
    from playwright._impl._driver import compute_driver_executable

    node, *_script = compute_driver_executable()
    tried = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Fails the test if a page it listens to complains."""
    heard = Complaints()
    yield heard
    assert heard.found == []


def sign_in(page: Any, site: Site, slug: str, email: str) -> None:
    """Through the agency's sign-in page, to its dashboard."""
    page.goto(site.url(slug, "/accounts/login/"))
    page.fill("input[name=login]", email)
    page.fill("input[name=password]", PASSWORD)
    page.locator("form:has(input[name=login]) button[type=submit]").click()
    page.wait_for_url(site.url(slug))
