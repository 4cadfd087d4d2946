"""Takes mails and counts recipients: `python -m tests.benchmarks.sink`. Says its ports as JSON, then obeys its input.

One thread on epoll and the least of each protocol, because whatever the sink costs is taken from what is measured.
A line of input: `count` answers with JSON, `reset` forgets. It ends when its input does.
"""

import argparse
import heapq
import json
import os
import re
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol


@dataclass
class Tally:
    """What has come: mails, their recipients, answers 429, and the moments of the first and the last."""

    mails: int = 0
    requests: int = 0
    throttled: int = 0
    recipients: set[bytes] = field(default_factory=set)
    first: float = 0.0
    last: float = 0.0

    def take(self, recipient: bytes) -> None:
        self.mails += 1
        self.recipients.add(recipient)
        self.last = time.monotonic()
        self.first = self.first or self.last

    def counts(self) -> dict[str, Any]:
        return {
            "mails": self.mails,
            "distinct": len(self.recipients),
            "requests": self.requests,
            "throttled": self.throttled,
            "seconds": self.last - self.first,
        }


class Talk(Protocol):
    """One connection's side of a protocol: bytes in, bytes out."""

    greeting: bytes

    def hear(self, data: bytes) -> bytes: ...


_GROUP = re.compile(rb"MAIL FROM:<[^\r\n]*\r\nRCPT TO:<([^\r\n>]*)>[^\r\n]*\r\nDATA\r\n")


class Smtp:
    """RFC 5321 with PIPELINING (RFC 2920), as far as sending goes."""

    greeting = b"220 sink ESMTP\r\n"

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = b""
        self._in_data = False
        self._recipient = b""

    def hear(self, data: bytes) -> bytes:
        # The usual pieces first: what is spent here is taken from whoever is measured.
        if not self._buffer:
            if self._in_data and data.endswith(b"\r\n.\r\n") and data.find(b"\r\n.\r\n") == len(data) - 5:
                self._in_data = False
                self._tally.take(self._recipient)
                return b"250 2.0.0 Ok: queued as %X\r\n" % self._tally.mails
            if not self._in_data and (found := _GROUP.fullmatch(data)):
                self._in_data = True
                self._recipient = found[1]
                return b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go on\r\n"
        return self._hear_any(data)

    def _hear_any(self, data: bytes) -> bytes:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        answers = []
        while buffer:
            if self._in_data:
                end = buffer.find(b"\r\n.\r\n")
                if end < 0:
                    break
                buffer = buffer[end + 5 :]
                self._in_data = False
                self._tally.take(self._recipient)
                answers.append(b"250 2.0.0 Ok: queued as %X\r\n" % self._tally.mails)
                continue
            end = buffer.find(b"\r\n")
            if end < 0:
                break
            line, buffer = buffer[:end], buffer[end + 2 :]
            answers.append(self._answer(line))
        self._buffer = buffer
        return b"".join(answers)

    def _answer(self, line: bytes) -> bytes:
        match line[:4].upper():
            case b"MAIL":
                return b"250 2.1.0 Ok\r\n"
            case b"RCPT":
                self._recipient = line[line.find(b"<") + 1 : line.rfind(b">")]
                return b"250 2.1.5 Ok\r\n"
            case b"DATA":
                self._in_data = True
                return b"354 go on\r\n"
            case b"EHLO" | b"HELO":
                return b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000\r\n"
            case b"QUIT":
                return b"221 bye\r\n"
        return b"250 Ok\r\n"


class Resend:
    """Resend's interface, as far as its adapter and `requests` need it; so many requests a second, then 429."""

    greeting = b""

    def __init__(self, tally: Tally, per_second: int, passed: deque[float]) -> None:
        self._tally = tally
        self._per_second = per_second
        self._passed = passed
        self._buffer = b""

    def hear(self, data: bytes) -> bytes:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return b""
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return b""
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        return self._answer(body)

    def _answer(self, body: bytes) -> bytes:
        if not body:
            return _http(200, b'{"data":[]}')
        self._tally.requests += 1
        if not self._passes():
            self._tally.throttled += 1
            return _http(429, b'{"statusCode":429,"name":"rate_limit_exceeded","message":"Too many requests."}')
        mails = json.loads(body)
        ids = [self._take(mail) for mail in (mails if isinstance(mails, list) else [mails])]
        return _http(200, json.dumps({"data": ids} if isinstance(mails, list) else ids[0]).encode())

    def _take(self, mail: dict[str, Any]) -> dict[str, str]:
        self._tally.take(str(mail["to"]).encode())
        return {"id": f"sink-{self._tally.mails}"}

    def _passes(self) -> bool:
        now = time.monotonic()
        while self._passed and self._passed[0] <= now - 1:
            self._passed.popleft()
        if self._per_second and len(self._passed) >= self._per_second:
            return False
        self._passed.append(now)
        return True


def _http(status: int, body: bytes) -> bytes:
    more = b"retry-after: 1\r\n" if status == 429 else b""
    return b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s" % (
        status,
        more,
        len(body),
        body,
    )


class Sink:
    """Both protocols on one epoll. `delays`: seconds from a command to its answer, by protocol."""

    def __init__(self, delays: dict[str, float], per_second: int) -> None:
        self._tally = Tally()
        self._delays = delays
        self._per_second = per_second
        self._passed: deque[float] = deque()
        self._epoll = select.epoll()
        self._listening: dict[int, tuple[socket.socket, str]] = {}
        self._lines: dict[int, tuple[socket.socket, Talk, float]] = {}
        self._late: list[tuple[float, int, int, socket.socket, bytes]] = []
        self._order = count()
        self._input = b""
        self.ports: dict[str, int] = {}
        for name in ("smtp", "http"):
            listener = socket.create_server(("127.0.0.1", 0), backlog=512)
            listener.setblocking(False)
            self._listening[listener.fileno()] = (listener, name)
            self._epoll.register(listener.fileno(), select.EPOLLIN)
            self.ports[name] = listener.getsockname()[1]

    def run(self) -> None:
        """Serve until the input ends."""
        self._epoll.register(0, select.EPOLLIN)
        while True:
            pause = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            for number, _ in self._epoll.poll(pause):
                if number in self._lines:
                    self._read(number)
                elif number in self._listening:
                    self._accept(*self._listening[number])
                elif not self._obey():
                    return
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, number, line, answer = heapq.heappop(self._late)
                if number in self._lines and self._lines[number][0] is line:
                    self._write(number, answer)

    def _accept(self, listener: socket.socket, name: str) -> None:
        line, _ = listener.accept()
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With a time-out every call asks the kernel first whether it may go on.
        line.setblocking(False)
        talk: Talk = Smtp(self._tally) if name == "smtp" else Resend(self._tally, self._per_second, self._passed)
        self._lines[line.fileno()] = (line, talk, self._delays[name])
        self._epoll.register(line.fileno(), select.EPOLLIN)
        self._answer(line.fileno(), talk.greeting)

    def _read(self, number: int) -> None:
        line, talk, _ = self._lines[number]
        try:
            data = line.recv(65_536)
        except OSError:
            data = b""
        if data:
            self._answer(number, talk.hear(data))
        else:
            self._drop(number)

    def _answer(self, number: int, answer: bytes) -> None:
        line, _, delay = self._lines[number]
        if not answer:
            return
        if delay:
            heapq.heappush(self._late, (time.monotonic() + delay, next(self._order), number, line, answer))
        else:
            self._write(number, answer)

    def _write(self, number: int, answer: bytes) -> None:
        line = self._lines[number][0]
        try:
            line.sendall(answer)
        except OSError:
            self._drop(number)
            return
        if answer.endswith(b"221 bye\r\n"):
            self._drop(number)

    def _drop(self, number: int) -> None:
        line = self._lines.pop(number)[0]
        self._epoll.unregister(number)
        line.close()

    def _obey(self) -> bool:
        data = os.read(0, 4096)
        self._input += data
        while b"\n" in self._input:
            word, self._input = self._input.split(b"\n", 1)
            if word == b"reset":
                self._tally.__init__()  # type: ignore[misc]
            print(json.dumps(self._tally.counts()), flush=True)
        return bool(data)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--smtp-delay", type=float, default=0.0, help="seconds of each answer")
    arguments.add_argument("--http-delay", type=float, default=0.0, help="seconds of each answer")
    arguments.add_argument("--per-second", type=int, default=0, help="HTTP requests that pass; 0: all")
    chosen = arguments.parse_args()
    sink = Sink({"smtp": chosen.smtp_delay, "http": chosen.http_delay}, chosen.per_second)
    print(json.dumps(sink.ports), flush=True)
    sink.run()


if __name__ == "__main__":
    sys.exit(main())
