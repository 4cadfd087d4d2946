"""SMTP that knows how far it got.

Django's backend raises the same exception before the final dot and after it, but only after
it may the mail have been taken. Here every failure carries its phase.
"""

import re
import smtplib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends import smtp
from django.core.mail.message import sanitize_address
from django.core.mail.utils import DNS_NAME
from django.utils.translation import gettext as _

from providers.accounts.adapters import mime
from providers.accounts.adapters.classification import classify
from providers.accounts.adapters.wire import Sign, Wire
from providers.accounts.envelope import Envelope
from providers.accounts.errors import AccountMisconfigured, DeliveryError, MessageRefused, Unsure

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DEFAULTS: Mapping[str, Any] = {
    "host": None,
    "port": None,
    "security": "starttls",
    "helo": None,
    "connect_timeout": 10,
    "command_timeout": 60,
    # RFC 5321 section 4.5.3.2.6: ten minutes, because giving up sooner makes a mail doubtful that was taken.
    "answer_timeout": 600,
    "mails_per_connection": 100,
    "connection_seconds": 60,
}
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
# What is written at once is taken as a whole or not at all: a record of TLS has so many bytes (RFC 8446 section 5.1).
_AT_ONCE = 2**14
_QUEUE_ID = re.compile(r"queued as <?([^\s<>]{1,200})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Mail:
    """A ready mail and the addresses of its envelope. `sender` may be "", the null return path."""

    sender: str
    recipient: str
    content: bytes


class Phase(StrEnum):
    """What was going on when it failed. Only in ANSWER may the mail have been taken."""

    CONNECT = "connecting"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "sending the body"
    ANSWER = "waiting for the answer to the final dot"


class SMTPFailure(smtplib.SMTPException):
    """A refusal with its `code` and `text`, or, with no code, a lost connection or a time-out."""

    def __init__(self, phase: Phase, code: int | None, text: str, cause: Exception | None = None) -> None:
        self.phase = phase
        self.code = code
        self.text = text
        self.cause = cause
        super().__init__(f"{phase}: {code or ''} {text}")


class EmailBackend(smtp.EmailBackend):
    """Django's backend with one recipient a mail, pipelining where it is offered, and SMTPFailure alone.

    Time-outs in seconds: `timeout` until the server is ready for mail, `command_timeout` for each command,
    `answer_timeout` after the final dot.
    """

    def __init__(
        self,
        *,
        helo: str | None = None,
        command_timeout: float = 60,
        answer_timeout: float = 600,
        mails_per_connection: int = 100,
        connection_seconds: float = 60,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.helo = helo or ("localhost" if self.host in LOOPBACK else None)
        self.command_timeout = command_timeout
        self.answer_timeout = answer_timeout
        self.mails_per_connection = mails_per_connection
        self.connection_seconds = connection_seconds
        self.connection: smtplib.SMTP | None = None
        self._mails = 0
        self._opened_at = 0.0
        # What the server was told of with the mail before: it waits for this one and no other.
        self._announced: Mail | None = None

    def transmit(self, mail: Mail, following: Mail | None = None) -> str:
        """Hand over one mail; return the server's answer.

        `following` is what will be handed over next: it may be announced with this one's body, which saves waiting.
        If another comes instead, or none, the connection is given up, and the server has seen no more than addresses.
        """
        with self._lock:
            if self._announced is not mail:
                if self._announced is not None:
                    self.drop()
                reused = self._fresh_connection()
            else:
                reused = True
            try:
                return self._transaction(mail, following)
            except SMTPFailure as failure:
                # The server gave up a line it had kept for us. It never saw this mail, so a new line is safe.
                if not (reused and failure.phase is Phase.MAIL and failure.code in (None, 421)):
                    raise
            self.drop()
            self.open()
            return self._transaction(mail, following)

    def open(self) -> bool:
        """Connect, secure and sign in. Whether a new connection was needed."""
        if self.connection is not None:
            return False
        try:
            self.connection = self._connect()
        except smtplib.SMTPResponseException as error:
            raise SMTPFailure(Phase.CONNECT, error.smtp_code, _text(error.smtp_error), error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise SMTPFailure(Phase.CONNECT, None, str(error), error) from error
        except OSError as error:
            raise SMTPFailure(Phase.CONNECT, None, _reason(error), error) from error
        self._mails = 0
        self._opened_at = time.monotonic()
        return True

    def noop(self) -> None:
        """Ask for a sign of life; raises SMTPFailure."""
        with self._lock:
            self._fresh_connection()
            assert self.connection is not None
            try:
                code, text = self.connection.noop()
            except OSError as error:
                self.drop()
                raise SMTPFailure(Phase.CONNECT, None, _reason(error), error) from error
            if code != 250:
                self.drop()
                raise SMTPFailure(Phase.CONNECT, code, _text(text))

    def drop(self) -> None:
        """Close without a word: after a failure nobody can say what the server would answer to QUIT."""
        connection, self.connection = self.connection, None
        self._announced = None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """End the connection in good order."""
        if self._announced is not None:
            # It would take QUIT for a line of that mail.
            self.drop()
        connection, self.connection = self.connection, None
        if connection is None:
            return
        try:
            if connection.sock is not None:
                connection.sock.settimeout(min(2, self.command_timeout))
            connection.quit()
        except OSError:
            connection.close()

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Django's interface, for mails that did not come from an envelope. One transaction per recipient."""
        sent = 0
        for message in email_messages:
            encoding = message.encoding or settings.DEFAULT_CHARSET
            content = message.message().as_bytes(linesep="\r\n")  # type: ignore[call-arg]
            for address in message.recipients():
                sender = sanitize_address(message.from_email, encoding)
                self.transmit(Mail(sender, sanitize_address(address, encoding), content))
            sent += 1
        return sent

    def _fresh_connection(self) -> bool:
        """Have a connection; whether it has been used before."""
        if self.connection is not None and self._worn_out():
            self.close()
        return not self.open() and self._mails > 0

    def _worn_out(self) -> bool:
        return self._mails >= self.mails_per_connection or time.monotonic() - self._opened_at >= self.connection_seconds

    def _connect(self) -> smtplib.SMTP:
        name = self.helo or DNS_NAME.get_fqdn()
        connection = (
            smtplib.SMTP_SSL(self.host, self.port, name, timeout=self.timeout or 10, context=self.ssl_context)
            if self.use_ssl
            else smtplib.SMTP(self.host, self.port, name, timeout=self.timeout or 10)
        )
        try:
            if self.use_tls:
                connection.starttls(context=self.ssl_context)
            connection.ehlo_or_helo_if_needed()
            if self.username and self.password:
                connection.login(self.username, self.password)
            assert connection.sock is not None
            connection.sock.settimeout(self.command_timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _transaction(self, mail: Mail, following: Mail | None) -> str:
        connection = self.connection
        assert connection is not None
        assert connection.sock is not None
        commands = _commands(connection, mail)
        self._mails += 1
        announced, self._announced = self._announced is mail, None
        # Local, so that no other thread and no later mail can change what is told about this one.
        phase = Phase.MAIL
        refusal: SMTPFailure | None = None
        try:
            pipelining = "pipelining" in connection.esmtp_features
            if pipelining and not announced:
                # RFC 2920 section 3.1: DATA may end a group.
                connection.sock.sendall(_group(commands))
            for phase, command, wanted in commands:
                if not pipelining:
                    connection.sock.sendall(command)
                code, text = connection.getreply()
                if code // 100 != wanted:
                    refusal = refusal or SMTPFailure(phase, code, _text(text))
                    if not pipelining:
                        break
                elif refusal is not None and phase is Phase.DATA:
                    # The server waits for a body although it refused the recipient. It gets none.
                    self.drop()
                    raise refusal
            if refusal is not None:
                self._after_refusal(connection, refusal)
                raise refusal
            phase = Phase.BODY
            body = _dotted(mail.content)
            group = self._announcing(connection, following, _AT_ONCE - len(body)) if following and pipelining else b""
            # If either raises, the kernel did not take the last bytes, so the server cannot have the dot.
            taken = connection.sock.send(body + group) if group else 0
            if taken < len(body):
                connection.sock.sendall(body[taken:])
                taken = len(body)
            phase = Phase.ANSWER
            if group:
                self._announced = following
                if rest := group[taken - len(body) :]:
                    connection.sock.sendall(rest)
            connection.sock.settimeout(self.answer_timeout)
            code, text = connection.getreply()
            if code // 100 == 2:
                connection.sock.settimeout(self.command_timeout)
                return _text(text)
            if 400 <= code < 600 and code != 421:
                connection.sock.settimeout(self.command_timeout)
            else:
                self.drop()
            raise SMTPFailure(phase, code, _text(text))
        except SMTPFailure:
            raise
        except OSError as error:
            self.drop()
            if refusal is not None:
                raise refusal from error
            raise SMTPFailure(phase, None, _reason(error), error) from error
        except BaseException:
            self.drop()
            raise

    def _announcing(self, connection: smtplib.SMTP, mail: Mail, most: int) -> bytes:
        """The commands of the mail that follows, to go with the body of this one; none if it should go by itself."""
        if self._worn_out():
            return b""
        try:
            group = _group(_commands(connection, mail))
        except MessageRefused:
            return b""
        return group if len(group) <= most else b""

    def _after_refusal(self, connection: smtplib.SMTP, refusal: SMTPFailure) -> None:
        """Make the connection fit for the next mail, or drop it."""
        try:
            if refusal.code == 421 or connection.rset()[0] != 250:
                self.drop()
        except OSError:
            self.drop()


class SmtpWire(Wire):
    """An account that is a mail server."""

    def __init__(self, credentials: Mapping[str, str], options: Mapping[str, Any], sign: Sign | None = None) -> None:
        self._sign = sign
        self._secrets = tuple(value for name, value in credentials.items() if name == "password")
        self._backend = EmailBackend(**_backend_arguments(credentials, options))

        # What `send` made ready of the mail that follows.
        self._next: tuple[Envelope, Mail] | None = None

    def send(self, envelope: Envelope, following: Envelope | None = None) -> str | None:
        try:
            made, self._next = self._next, None
            mail = made[1] if made is not None and made[0] is envelope else self._mail(envelope)
            answer = self._backend.transmit(mail, self._ready(following) if following is not None else None)
        except Exception as exc:
            error = self._told(exc)
        else:
            queued = _QUEUE_ID.search(answer)
            return queued[1] if queued else None
        # Outside the handlers: the chain of causes may hold the password.
        raise error

    def _ready(self, envelope: Envelope) -> Mail | None:
        try:
            mail = self._mail(envelope)
        except Exception:
            # It is told when it is its turn.
            return None
        self._next = (envelope, mail)
        return mail

    def _mail(self, envelope: Envelope) -> Mail:
        return_path = mime.wire_address(envelope.return_path) if envelope.return_path else ""
        return Mail(return_path, mime.wire_address(envelope.recipient), self._content(envelope))

    def _content(self, envelope: Envelope) -> bytes:
        """The mail as it goes over the wire: nothing may change it once it is signed."""
        content = mime.as_bytes(envelope)
        if self._sign is None:
            return content
        return self._sign(mime.wire_address(envelope.sender).rpartition("@")[2].lower(), content)

    def verify(self) -> None:
        try:
            self._backend.noop()
        except Exception as exc:
            error = self._told(exc)
        else:
            return
        raise error

    def close(self) -> None:
        self._backend.close()

    def _told(self, exc: Exception) -> DeliveryError:
        error = classify(exc) or Unsure()
        if not isinstance(exc, DeliveryError):
            error.detail = f"The mail server, {error.detail}"
        return error.without(self._secrets)


def _backend_arguments(credentials: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {**DEFAULTS, **options}
    username, password = credentials.get("username", ""), credentials.get("password", "")
    if not chosen["host"]:
        raise AccountMisconfigured("host", _("is missing: give the name of the mail server"))
    if chosen["security"] not in _PORTS:
        raise AccountMisconfigured("security", _("must be one of %(known)s") % {"known": ", ".join(_PORTS)})
    if bool(username) != bool(password):
        raise AccountMisconfigured("password" if username else "username", _("is missing: give both or neither"))
    if password and chosen["security"] == "none" and chosen["host"] not in LOOPBACK:
        raise AccountMisconfigured("security", _("must be starttls or tls: the password would travel in the clear"))
    return {
        "host": chosen["host"],
        "port": chosen["port"] or _PORTS[chosen["security"]],
        # Never None: Django would fill in its own EMAIL_HOST_USER and EMAIL_HOST_PASSWORD.
        "username": username,
        "password": password,
        "use_tls": chosen["security"] == "starttls",
        "use_ssl": chosen["security"] == "tls",
        "timeout": chosen["connect_timeout"],
        **{
            name: chosen[name]
            for name in (
                "helo",
                "command_timeout",
                "answer_timeout",
                "mails_per_connection",
                "connection_seconds",
            )
        },
    }


def _commands(connection: smtplib.SMTP, mail: Mail) -> tuple[tuple[Phase, bytes, int], ...]:
    parameters = ""
    features = connection.esmtp_features
    if not (mail.sender.isascii() and mail.recipient.isascii()):
        if "smtputf8" not in features:
            raise _unfit("recipient", "the mail server does not take addresses outside ASCII (SMTPUTF8)")
        parameters = " SMTPUTF8 BODY=8BITMIME"
    if (limit := features.get("size", "")).isdigit() and 0 < int(limit) < len(mail.content):
        raise _unfit("text", f"the mail has {len(mail.content)} bytes, the mail server takes {limit}")
    return (
        (Phase.MAIL, f"MAIL FROM:<{mail.sender}>{parameters}\r\n".encode(), 2),
        (Phase.RCPT, f"RCPT TO:<{mail.recipient}>\r\n".encode(), 2),
        (Phase.DATA, b"DATA\r\n", 3),
    )


def _group(commands: tuple[tuple[Phase, bytes, int], ...]) -> bytes:
    return b"".join(command for _, command, _ in commands)


def _unfit(field: str, detail: str) -> MessageRefused:
    return MessageRefused(detail, field=field)


def _dotted(content: bytes) -> bytes:
    """The body as it follows DATA: dots at the start of a line doubled (RFC 5321 4.5.2), final dot added."""
    if b"\n." in content:
        content = content.replace(b"\r\n.", b"\r\n..")
    return (content if content.endswith(b"\r\n") else content + b"\r\n") + b".\r\n"


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    return (error.strerror if isinstance(error.strerror, str) else None) or str(error) or type(error).__name__
