"""Posts to an address that a stranger wrote: to nothing inside, to no other address than the one that was checked.

The host is resolved here, every address of it is checked, and the connection goes to one of these: a second answer of
the DNS changes nothing. No proxy, no redirect, no cookie; all of it has an end, also where the other side sends one
byte at a time.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.exception
import dns.rdatatype
import dns.resolver
from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from campaigns import outside
from campaigns.outside import Target

SECONDS = 10.0
CONNECT_SECONDS = 5.0
READ_MOST = 64 * 1024
KEPT = 1024
_TRIED = 4


class Failure(TextChoices):
    """Why there is no answer."""

    REFUSED = "refused", _("The address is not on the public internet")
    DNS = "dns", _("The host is not known to the DNS")
    CONNECTION = "connection", _("No connection, or it was cut")
    TLS = "tls", _("The certificate or the encryption is not right")
    TIMEOUT = "timeout", _("No answer in time")
    ANSWER = "answer", _("What came back is not HTTP")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a post: a status, or why there is none; `text` is the beginning of the body, `retry_after` the
    seconds that the other side asks to be left alone for."""

    status: int | None
    failure: str
    seconds: float
    text: str = ""
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the other side has it: any 2xx."""
        return self.status is not None and 200 <= self.status < 300


class _NotPostedError(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def check(url: str, *, inside: bool, resolver: dns.resolver.Resolver | None = None) -> str:
    """The address as it is kept. Raises RefusedUrlError where it, or an address of its host, is not allowed, or the
    DNS does not know the host now."""
    found = outside.target(url, inside=inside)
    try:
        _addresses(found, inside, time.monotonic() + CONNECT_SECONDS, resolver)
    except _NotPostedError as error:
        if error.failure == Failure.REFUSED:
            raise outside.RefusedUrlError(outside.inside_words(found.host)) from None
        raise outside.RefusedUrlError(f"{error.failure.label}: {found.host}") from None
    return found.url


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    inside: bool,
    resolver: dns.resolver.Resolver | None = None,
    trust: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> Answer:
    """Post it and wait for the answer, `seconds` in all. Never raises for what the other side does."""
    began = time.monotonic()
    try:
        aim = outside.target(url, inside=inside)
        sock = _connected(aim, inside, began, seconds, resolver, trust)
        try:
            status, retry_after, text = _asked(_Timed(sock, began + seconds), aim, body, headers)
        finally:
            sock.close()
    except outside.RefusedUrlError:
        return Answer(None, Failure.REFUSED, time.monotonic() - began)
    except _NotPostedError as error:
        return Answer(None, error.failure, time.monotonic() - began)
    except TimeoutError:
        return Answer(None, Failure.TIMEOUT, time.monotonic() - began)
    except ssl.SSLError:
        return Answer(None, Failure.TLS, time.monotonic() - began)
    except OSError:
        return Answer(None, Failure.CONNECTION, time.monotonic() - began)
    except (http.client.HTTPException, ValueError):
        return Answer(None, Failure.ANSWER, time.monotonic() - began)
    return Answer(status, "", time.monotonic() - began, text, retry_after)


def _connected(
    aim: Target,
    inside: bool,
    began: float,
    seconds: float,
    resolver: dns.resolver.Resolver | None,
    trust: ssl.SSLContext | None,
) -> socket.socket:
    until = began + min(seconds, CONNECT_SECONDS)
    addresses = _addresses(aim, inside, until, resolver)[:_TRIED]
    for tried, address in enumerate(addresses, start=1):
        try:
            # The address, never the name: nobody asks the DNS again.
            sock = socket.create_connection((str(address), aim.port), timeout=_left(until))
            break
        except OSError:
            if tried == len(addresses) or time.monotonic() >= until:
                raise
    if aim.scheme == "http":
        return sock
    try:
        sock.settimeout(_left(until))
        return (trust or _trusted()).wrap_socket(sock, server_hostname=aim.host)
    except BaseException:
        sock.close()
        raise


def _addresses(
    aim: Target, inside: bool, until: float, resolver: dns.resolver.Resolver | None
) -> list[IPv4Address | IPv6Address]:
    """Every address of the host, each of them allowed."""
    literal = aim.literal
    if literal is not None:
        found: list[IPv4Address | IPv6Address] = [literal]
    elif inside and aim.host.rpartition(".")[2] == "localhost":
        # RFC 6761 section 6.3.
        found = [IPv4Address("127.0.0.1")]
    else:
        found = _resolved(aim.host, until, resolver)
    # One that is not: then the host is not to be trusted with the others either.
    if not all(outside.reachable(one, inside=inside) for one in found):
        raise _NotPostedError(Failure.REFUSED)
    return found


def _resolved(host: str, until: float, resolver: dns.resolver.Resolver | None) -> list[IPv4Address | IPv6Address]:
    found: list[IPv4Address | IPv6Address] = []
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        try:
            # Absolute, so that no domain of this network is tried behind it.
            answer = (resolver or _resolver()).resolve(f"{host}.", kind, lifetime=_left(until))
        except (dns.exception.DNSException, OSError, ValueError):
            continue
        found += [ip_address(record.address) for record in answer]
    if not found:
        raise _NotPostedError(Failure.DNS)
    return found


def _asked(sock: "_Timed", aim: Target, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None, str]:
    connection = http.client.HTTPConnection(aim.host, aim.port)
    connection.sock = sock
    connection.putrequest("POST", aim.path, skip_host=True)
    given = {"Host": aim.authority, "Content-Length": str(len(body)), "Connection": "close", **headers}
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    try:
        text = response.read(READ_MOST)[:KEPT].decode(errors="replace").replace("\0", "")
    except (OSError, http.client.HTTPException):
        # It has said what counts.
        text = ""
    return response.status, _retry_after(response.headers.get("Retry-After", "")), text


def _retry_after(said: str) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date."""
    said = said.strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


@cache
def _resolver() -> dns.resolver.Resolver:
    """What this host asks, with a memory of its own for as long as the answers say."""
    found = dns.resolver.Resolver()
    found.cache = dns.resolver.Cache()
    return found


class _Timed:
    """As much of a socket as http.client needs, whose end is a time and not a wait for each byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left(self._until))
        self._sock.sendall(data)

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Bytes(self._sock, self._until))

    def close(self) -> None:
        """Closed by whoever opened it: http.client would do it while the answer is still read."""


class _Bytes(io.RawIOBase):
    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._sock.settimeout(_left(self._until))
        return self._sock.recv_into(buffer)  # type: ignore[arg-type]
