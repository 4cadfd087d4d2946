"""Pixels and links that readers' mail programs ask for, answered before Django: thousands a second.

A hit is answered once it is durable, see `tenants.group_commit`. What the hits mean for their mails is worked out a
moment later, many at a time, by `feedback.act`, or by another process if this one is gone.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.db import connection, connections
from django.utils import timezone

from campaigns import feedback, links, rendering, tokens, verdicts
from campaigns.envelopes import TRACKING_PATH
from campaigns.models import Link, Message
from providers.accounts.events import EventType, Heard
from tenants import context
from tenants.group_commit import GroupCommit, NotKeptError
from tenants.models import Agency, Domain, host_name

logger = logging.getLogger(__name__)

SOURCE = "tracking"
PREFIX = f"/{TRACKING_PATH}"
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
# For so long a host's agency is remembered.
HOST_SECONDS = 30
MOST_REMEMBERED = 10_000

Start = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]


class Front:
    """A WSGI application that answers what is below PREFIX and hands on the rest."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._recorder = Recorder(clock=timezone.now)
        self._agencies: dict[str, tuple[Agency | None, float]] = {}
        self._urls: dict[tuple[str, int], str] = {}

    def close(self) -> None:
        """Act on what is kept, and end the recorder's thread."""
        self._recorder.close()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if not path.startswith(PREFIX):
            return self._application(environ, start)
        try:
            return self._answer(environ, path[len(PREFIX) :], start)
        finally:
            connections.close_all()

    def _answer(self, environ: dict[str, Any], token: str, start: Start) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            return _say(start, "405 Method Not Allowed", "Only GET is answered here.")
        agency = self._agency(host_name(environ.get("HTTP_HOST", "").partition(":")[0]))
        kind = EventType.OPENED if token.endswith(".gif") else EventType.CLICKED
        purpose = tokens.OPEN if kind is EventType.OPENED else tokens.CLICK
        named = tokens.read(token.removesuffix(".gif"), agency.schema_name, purpose) if agency else None
        target = self._target(agency, *named) if agency and named and kind is EventType.CLICKED else ""
        if agency is None or named is None or target is None:
            return _say(start, "404 Not Found", "This link does not work. Open it from the mail again.")
        kept = self._keep(agency, named, kind, method, environ)
        if kind is EventType.CLICKED:
            headers = [("Location", target), ("Referrer-Policy", "no-referrer"), *_headers("text/plain", b"")]
            start("302 Found", headers)
            return [b""]
        if not kept:
            return _say(start, "503 Service Unavailable", "")
        start("200 OK", _headers("image/gif", PIXEL))
        return [PIXEL if method == "GET" else b""]

    def _keep(
        self, agency: Agency, named: tuple[UUID, int], kind: EventType, method: str, environ: dict[str, Any]
    ) -> bool:
        key, link = named
        now = timezone.now()
        asked = {
            name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", "")
            for name in ("user-agent", "purpose", "sec-purpose", "x-moz")
        }
        reader = verdicts.judge(kind, method, asked)
        heard = Heard(
            source=SOURCE,
            # Asked for again within the minute it is the same event, so nobody can fill the table.
            raw_id=f"{link}.{key.hex}.{int(now.timestamp()) // 60}.{reader}",
            type=kind,
            at=now,
            received_at=now,
            message=key,
            detail=asked["user-agent"][:200],
            reader=reader,
        )
        try:
            self._recorder.keep(agency, heard)
        except NotKeptError:
            # A person who follows a link is not to wait for our books.
            logger.exception("a hit was not recorded", extra={"schema": agency.schema_name, "kind": str(kind)})
            return False
        return True

    def _agency(self, host: str) -> Agency | None:
        """Whose host this is, as of HOST_SECONDS ago at most."""
        found, until = self._agencies.get(host, (None, 0.0))
        if time.monotonic() < until:
            return found
        with context.public():
            domain = Domain.objects.select_related("tenant").filter(domain=host).first()
        agency: Agency | None = domain.tenant if domain else None
        if agency and (agency.schema_name == context.PUBLIC or not (agency.ready and agency.active)):
            agency = None
        if len(self._agencies) >= MOST_REMEMBERED:
            self._agencies.clear()
        self._agencies[host] = (agency, time.monotonic() + HOST_SECONDS)
        return agency

    def _target(self, agency: Agency, key: UUID, number: int) -> str | None:
        """Where a link leads; None if nowhere any more."""
        url = self._url(agency, number)
        if url is None or "{{" not in url:
            return url and _quoted(url)
        with context.entered(agency):
            message = Message.objects.select_related("contact").filter(key=key).first()
        if message is None:
            return None
        person = message.contact
        fields = rendering.fields(person.email, person.first_name, person.last_name, person.company, person.attributes)
        try:
            found = links.target(url, fields)
        except rendering.NotRenderedError:
            return None
        return found and _quoted(found)

    def _url(self, agency: Agency, number: int) -> str | None:
        """A link's address as it is kept, which never changes."""
        place = (agency.schema_name, number)
        found = self._urls.get(place)
        if found is None:
            with context.entered(agency):
                found = Link.objects.filter(pk=number).values_list("url", flat=True).first()
            if found is not None:
                if len(self._urls) >= MOST_REMEMBERED:
                    self._urls.clear()
                self._urls[place] = found
        return found


class Recorder:
    """Writes the hits of one process, and acts on them."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._kept: dict[int, tuple[Agency, list[int]]] = {}
        self._commit: GroupCommit[tuple[Agency, Heard]] = GroupCommit(
            SOURCE, self._write, self._act, kind=lambda hit: hit[0].pk
        )
        self.close = self._commit.close

    def keep(self, agency: Agency, heard: Heard) -> None:
        """Return once the hit is durable; raises NotKeptError if it does not become so in time."""
        self._commit.keep((agency, heard))

    def _write(self, hits: Sequence[tuple[Agency, Heard]]) -> None:
        agency = hits[0][0]
        with context.entered(agency):
            ids = feedback.keep([heard for _agency, heard in hits])
        self._kept.setdefault(agency.pk, (agency, []))[1].extend(ids)

    def _act(self) -> None:
        kept, self._kept = self._kept, {}
        for agency, ids in kept.values():
            try:
                with context.entered(agency):
                    feedback.act(ids, now=self._clock())
            except Exception:
                # They are kept: `feedback.look_again` comes for them.
                logger.exception("hits were not acted on", extra={"schema": agency.schema_name, "count": len(ids)})
                connection.close()


def _quoted(url: str) -> str:
    """As a header may have it; what is escaped already stays."""
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~-._")


def _headers(content_type: str, body: bytes) -> list[tuple[str, str]]:
    return [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store, private, max-age=0"),
        ("X-Robots-Tag", "noindex"),
    ]


def _say(start: Start, status: str, text: str) -> Iterable[bytes]:
    body = text.encode()
    start(status, _headers("text/plain; charset=utf-8", body))
    return [body]
