"""HTTP/1.1 with keep-alive and Content-Length, as much of it as the clients of two providers use."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from providers.sandbox import faults

LARGEST_BODY = 40 * 1024 * 1024
_LARGEST_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request; names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value; raises ValueError."""
        return json.loads(self.body)


@dataclass(slots=True)
class Response:
    """One answer, given `delay` seconds later, or `LOST` (the connection is cut) or `NEVER` (silence)."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    answer: faults.Answer = faults.Answer.GIVEN

    def encoded(self) -> bytes:
        """Head and body."""
        body = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if body:
            lines.append("Content-Type: application/json; charset=utf-8")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HttpProtocol(asyncio.Protocol):
    """One connection. Requests are answered one after another, in order."""

    transport: asyncio.Transport

    def __init__(self, handle: Callable[[Request], Response], connections: set[asyncio.Transport]) -> None:
        self._handle = handle
        self._connections = connections
        self._buffer = bytearray()
        self._busy = False
        self._close_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while not self._busy and not self.transport.is_closing():
            try:
                request = self._next_request()
            except _BadRequest as bad:
                self._close_after = True
                self._give(Response(bad.status, {"message": bad.why}))
                return
            if request is None:
                return
            response = self._handle(request)
            if response.answer is faults.Answer.LOST:
                self.transport.abort()
            elif response.answer is faults.Answer.NEVER:
                self._busy = True
            elif response.delay:
                self._busy = True
                asyncio.get_running_loop().call_later(response.delay, self._give, response)
            else:
                self._give(response)

    def _give(self, response: Response) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(response.encoded())
        if self._close_after:
            self.transport.close()
        elif self._busy:
            self._busy = False
            self._advance()

    def _next_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LARGEST_HEAD:
                raise _BadRequest(431, "the headers are too large")
            return None
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        method, target, version = _request_line(first)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "transfer-encoding" in headers:
            raise _BadRequest(411, "give a Content-Length")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise _BadRequest(400, "Content-Length is not a number")
        if int(length) > LARGEST_BODY:
            raise _BadRequest(413, f"the body may have {LARGEST_BODY} bytes")
        whole = end + 4 + int(length)
        if len(self._buffer) < whole:
            if headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        self._close_after = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()} if url.query else {}
        return Request(method, url.path, query, headers, body)


class _BadRequest(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why


def _request_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise _BadRequest(400, "this is not HTTP/1.1")
    return parts[0], parts[1], parts[2]
