"""Far ends of the wire that do exactly as told, once for each connection or request."""

import json
import socket
import socketserver
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpServer:
    """Answers every request with `answer`: (status, body, headers), "cut" or "silence"."""

    def __init__(self) -> None:
        self.answer: tuple[int, Any, dict[str, str]] | str = (200, {}, {})
        self.seen: list[Seen] = []
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._handle(self)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def posts(self) -> list[Seen]:
        return [one for one in self.seen if one.method == "POST"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.seen.append(Seen(handler.command, handler.path, headers, body))
        if self.answer == "cut":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.answer == "silence":
            self._ended.wait(20)
            return
        assert isinstance(self.answer, tuple)
        status, content, extra = self.answer
        raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in extra.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)


PLACES = ("greeting", "ehlo", "auth", "mail", "rcpt", "data", "dot", "rset", "noop")
FINE = {
    "greeting": "220 scripted",
    "ehlo": "250-scripted\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
    "auth": "235 2.7.0 ok",
    "mail": "250 2.1.0 ok",
    "rcpt": "250 2.1.5 ok",
    "data": "354 go on",
    "dot": "250 2.0.0 Ok: queued as 4XYZ",
    "rset": "250 ok",
    "noop": "250 ok",
}
PIPELINING = "250-scripted\r\n250-AUTH PLAIN LOGIN\r\n250-PIPELINING\r\n250 8BITMIME"


@dataclass
class SmtpServer:
    """Answers `answers[place]`, or "drop" (hang up instead), or "silence". `once`: only for the first time there;
    `second`: only for the second. "heard" at the dot: with HEARD if more has come already, with ALONE if not."""

    answers: dict[str, str] = field(default_factory=lambda: dict(FINE))
    once: dict[str, str] = field(default_factory=dict)
    second: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    # What had come of bodies that the client did not end.
    unended: list[bytes] = field(default_factory=list)
    connections: int = 0
    # Of them, those that are over.
    over: int = 0

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._times: Counter[str] = Counter()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                # A client that leaves answers unread resets the connection.
                with suppress(ConnectionError):
                    outer._session(self)
                outer.over += 1

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _session(self, handler: socketserver.StreamRequestHandler) -> None:
        if not self._answer(handler, "greeting"):
            return
        while line := handler.rfile.readline():
            command = line.decode().strip()
            self.commands.append(command)
            verb = command.split(" ")[0].lower()
            if verb == "quit":
                handler.wfile.write(b"221 bye\r\n")
                return
            if not (reply := self._answer(handler, verb)):
                return
            if verb == "data" and reply.startswith("354"):
                content = self._body(handler)
                if not content.endswith(b"\r\n.\r\n"):
                    self.unended.append(content)
                    return
                self.mails.append(content.removesuffix(b".\r\n"))
                if not self._answer(handler, "dot"):
                    return

    def _body(self, handler: socketserver.StreamRequestHandler) -> bytes:
        lines = []
        with suppress(ConnectionError):
            while line := handler.rfile.readline():
                lines.append(line)
                if line == b".\r\n":
                    break
        return b"".join(lines)

    def _answer(self, handler: socketserver.StreamRequestHandler, place: str) -> str:
        """What was answered, "" if the session is over."""
        self._times[place] += 1
        reply = self.once.pop(place, None) or self.answers.get(place, "500 what?")
        if self._times[place] == 2:
            reply = self.second.get(place, reply)
        if reply == "heard":
            handler.connection.settimeout(0.1)
            try:
                more = handler.rfile.peek(1)
            except TimeoutError:
                more = b""
            handler.wfile.write(b"250 2.0.0 Ok: queued as %s\r\n" % (b"HEARD" if more else b"ALONE"))
            return reply if more else ""
        if reply == "drop":
            return ""
        if reply == "silence":
            self._ended.wait(20)
            return ""
        handler.wfile.write(reply.encode() + b"\r\n")
        return "" if reply.startswith("421") else reply
