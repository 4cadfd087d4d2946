"""A mail server that takes everything, RFC 5321 with SIZE, PIPELINING, 8BITMIME, SMTPUTF8 and AUTH.

On asyncio's protocols, because our adapter gives it 5,500 mails a second and aiosmtpd takes 2,000.
"""

import asyncio
import binascii
import re
from base64 import b64decode
from collections.abc import Mapping

from providers.sandbox.faults import Answer, Script
from providers.sandbox.http import LARGEST_BODY
from providers.sandbox.posting import Poster
from providers.sandbox.tally import Delivery, Tally

_LONGEST_LINE = 4096
_PATH = re.compile(r"(?:FROM|TO):\s*<([^<>]*)>", re.IGNORECASE)
_FROM = re.compile(rb"^from:[^\r\n]*?([^\s<>\"]+@[^\s<>\"]+)>?\s*$", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>\r\n]+>)", re.IGNORECASE | re.MULTILINE)


class SmtpProtocol(asyncio.Protocol):
    """One session. `users`: name → (password, name of the account in the tally); "" is anybody unsigned."""

    transport: asyncio.Transport

    def __init__(
        self,
        script: Script,
        tally: Tally,
        users: Mapping[str, tuple[str, str]],
        connections: set[asyncio.Transport],
        poster: Poster,
    ) -> None:
        self._script = script
        self._tally = tally
        self._users = users
        self._connections = connections
        self._poster = poster
        self._buffer = bytearray()
        self._searched = 0
        self._out: list[bytes] = []
        self._in_data = False
        self._busy = False
        self._user = ""
        self._login: list[str] | None = None
        self._sender: str | None = None
        self._recipients: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connections.add(transport)
        if self._script.down:
            self._leave("421 4.3.2 sandbox service is down")
        else:
            transport.write(b"220 sandbox ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while not self._busy and not self.transport.is_closing():
            if not (self._take_mail() if self._in_data else self._take_line()):
                break
        if self._out and not self.transport.is_closing():
            # One write for a whole group of pipelined commands.
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_LINE:
                self._leave("500 5.5.2 line too long")
            return False
        line = bytes(self._buffer[:end]).decode("utf-8", "replace")
        del self._buffer[: end + 2]
        if self._login is not None:
            self._continue_login(line)
            return True
        verb, _, rest = line.partition(" ")
        command = getattr(self, f"_on_{verb.lower()}", None) if verb.isalpha() else None
        if command is None:
            self._say("500 5.5.2 command not recognised")
        else:
            command(rest)
        return True

    def _take_mail(self) -> bool:
        buffer = self._buffer
        if buffer.startswith(b".\r\n"):
            end, after = 0, 3
        else:
            # Only CRLF.CRLF ends a mail: anything looser is how one mail is smuggled in another.
            found = buffer.find(b"\r\n.\r\n", self._searched)
            if found < 0:
                self._searched = max(0, len(buffer) - 4)
                if len(buffer) > LARGEST_BODY:
                    self._leave("552 5.3.4 message too big")
                return False
            end, after = found + 2, found + 5
        content = bytes(buffer[:end])
        del buffer[:after]
        self._searched = 0
        self._in_data = False
        if b"\r\n.." in content:
            content = content.replace(b"\r\n..", b"\r\n.")
        self._accept(content)
        return True

    def _accept(self, content: bytes) -> None:
        if self._script.cuts():
            self._out.clear()
            self.transport.abort()
            return
        head = content[: content.find(b"\r\n\r\n") + 2]
        found_sender, found_id = _FROM.search(head), _MESSAGE_ID.search(head)
        for recipient in self._recipients:
            self._tally.record(
                Delivery(
                    provider="smtp",
                    account=self._users[self._user][1],
                    sender=found_sender[1].decode("utf-8", "replace") if found_sender else self._sender or "",
                    recipient=recipient,
                    message_id=found_id[1].decode("ascii", "replace") if found_id else "",
                    content=content,
                )
            )
            if not self._script.silent:
                self._poster.smtp(recipient, self._sender or "", content, self._tally.providers["smtp"])
        self._reset()
        answer = self._script.answer()
        if answer is Answer.LOST:
            self._out.clear()
            self.transport.abort()
        elif answer is Answer.NEVER:
            self._busy = True
        elif self._script.latency:
            self._busy = True
            asyncio.get_running_loop().call_later(self._script.latency, self._answer_late)
        else:
            self._say(self._taken())

    def _answer_late(self) -> None:
        self._busy = False
        self._say(self._taken())
        self._advance()

    def _taken(self) -> str:
        return f"250 2.0.0 Ok: queued as {self._tally.providers['smtp']:X}"

    def _on_ehlo(self, name: str) -> None:
        self._reset()
        self._say(
            "250-sandbox",
            "250-PIPELINING",
            f"250-SIZE {LARGEST_BODY}",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250-ENHANCEDSTATUSCODES",
            "250 AUTH PLAIN LOGIN",
        )

    def _on_helo(self, name: str) -> None:
        self._reset()
        self._say("250 sandbox")

    def _on_mail(self, rest: str) -> None:
        self._tally.requests["smtp"] += 1
        path = _PATH.match(rest)
        if self._script.down:
            self._leave("421 4.3.2 sandbox service is down")
        elif not path:
            self._say("501 5.5.4 MAIL FROM:<address>")
        elif self._sender is not None:
            self._say("503 5.5.1 a mail is being given already")
        elif (wave := self._script.wave()) >= 500:
            self._tally.troubles[f"smtp {wave}"] += 1
            self._say("451 4.3.0 local error in processing")
        elif wave == 429 or not self._script.passes():
            self._say("451 4.7.1 rate exceeded, try again in 1 second")
        else:
            self._sender = path[1]
            self._say("250 2.1.0 ok")

    def _on_rcpt(self, rest: str) -> None:
        path = _PATH.match(rest)
        if self._sender is None:
            self._say("503 5.5.1 MAIL first")
        elif not path or "@" not in path[1]:
            self._say("501 5.1.3 RCPT TO:<address>")
        elif self._script.refuses(path[1]):
            self._say("550 5.1.1 user unknown")
        else:
            self._recipients.append(path[1])
            self._say("250 2.1.5 ok")

    def _on_data(self, rest: str) -> None:
        if not self._recipients:
            self._say("554 5.5.1 no valid recipients" if self._sender is not None else "503 5.5.1 MAIL first")
            return
        self._in_data = True
        self._say("354 end with <CRLF>.<CRLF>")

    def _on_rset(self, rest: str) -> None:
        self._reset()
        self._say("250 2.0.0 ok")

    def _on_noop(self, rest: str) -> None:
        self._say("250 2.0.0 ok")

    def _on_quit(self, rest: str) -> None:
        self._leave("221 2.0.0 bye")

    def _on_auth(self, rest: str) -> None:
        method, _, initial = rest.partition(" ")
        if method.upper() not in ("PLAIN", "LOGIN"):
            self._say("504 5.5.4 AUTH PLAIN or LOGIN")
            return
        self._login = [method.upper()]
        if initial:
            self._continue_login(initial)
        else:
            self._say("334 " if method.upper() == "PLAIN" else "334 VXNlcm5hbWU6")

    def _continue_login(self, line: str) -> None:
        assert self._login is not None
        self._login.append(line)
        if self._login[0] == "LOGIN" and len(self._login) == 2:
            self._say("334 UGFzc3dvcmQ6")
            return
        method, *given = self._login
        self._login = None
        try:
            decoded = [b64decode(part, validate=True).decode() for part in given]
        except (binascii.Error, UnicodeDecodeError):
            self._say("501 5.5.2 not base64")
            return
        name, password = [*decoded[0].split("\0"), "", ""][1:3] if method == "PLAIN" else decoded
        if name and name in self._users and self._users[name][0] == password:
            self._user = name
            self._say("235 2.7.0 ok")
        else:
            self._say("535 5.7.8 username or password is wrong")

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []

    def _say(self, *lines: str) -> None:
        self._out.append(("\r\n".join(lines) + "\r\n").encode())

    def _leave(self, line: str) -> None:
        self._say(line)
        self.transport.write(b"".join(self._out))
        self._out.clear()
        self.transport.close()
