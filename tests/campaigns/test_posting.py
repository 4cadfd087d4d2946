"""What is posted for an agency goes to the public internet alone, to the address that was checked, and has an end."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import dns.message
import dns.resolver
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from campaigns import outside, posting
from campaigns.outside import RefusedUrlError
from campaigns.posting import Failure, post

INNER = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/29",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]
PUBLIC = "93.184.216.34"


class Scripted(dns.resolver.Resolver):
    """Gives the next of its answers each time that a host's addresses are asked for; the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        super().__init__(configure=False)
        self.answers = list(answers)
        self.asked: list[str] = []

    def resolve(self, qname: Any, rdtype: Any = "A", *_: Any, **__: Any) -> Any:
        four = rdtype.name == "A"
        if four:
            self.asked.append(str(qname))
        given = self.answers[min(len(self.asked), len(self.answers)) - 1]
        found = [type("Record", (), {"address": one}) for one in given if (":" in one) != four]
        if not found:
            raise dns.resolver.NoAnswer(response=dns.message.make_response(dns.message.make_query(qname, rdtype)))
        return found


@given(st.sampled_from(INNER).map(ip_network).flatmap(lambda net: st.ip_addresses(network=net)))
def test_no_inner_address_is_reachable(address: IPv4Address | IPv6Address) -> None:
    assert not outside.reachable(address, inside=False)


@given(st.ip_addresses(v=4))
def test_no_way_of_writing_an_ipv4_address_as_another_is_reachable(address: IPv4Address) -> None:
    inner = int(address)
    carried = [
        IPv6Address(inner),
        IPv6Address((0xFFFF << 32) | inner),
        IPv6Address((0x64FF9B << 96) | inner),
        IPv6Address((0x2002 << 112) | (inner << 80)),
    ]
    assert not any(outside.reachable(one, inside=False) or one.is_loopback for one in carried[1:])
    assert not outside.reachable(carried[0], inside=False)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:220:1::1", "2a02:6b8::2:242"])
def test_public_addresses_are_reachable(address: str) -> None:
    assert outside.reachable(ip_address(address), inside=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "//example.com/",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/#part",
        "https://example.com\\@127.0.0.1/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Other:1",
        "https://localhost/",
        "https://intranet/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://10.0.0.5:8443/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
        "https://１２７.0.0.1/",
        "https://" + "a" * 500 + ".example/",
    ],
)
def test_what_no_address_may_look_like(url: str) -> None:
    with pytest.raises(RefusedUrlError):
        outside.target(url, inside=False)


def test_an_address_is_written_in_one_way() -> None:
    def of(url: str) -> str:
        return outside.target(url, inside=False).url

    assert of("https://EXAMPLE.com.:443?a=b c".replace(" ", "%20")) == "https://example.com/?a=b%20c"
    assert of("https://почта.рф/крюк") == "https://xn--80a1acny.xn--p1ai/%D0%BA%D1%80%D1%8E%D0%BA"
    assert of("https://[2606:2800:220:1:0::1]:8443/x") == "https://[2606:2800:220:1::1]:8443/x"
    assert outside.target("http://127.0.0.1:8080/x", inside=True).url == "http://127.0.0.1:8080/x"


@given(st.one_of(st.text(max_size=40), st.text(max_size=30).map("https://{}".format)))
def test_any_text_is_an_address_or_is_refused(url: str) -> None:
    try:
        found = outside.target(url, inside=False)
    except RefusedUrlError:
        return
    assert outside.target(found.url, inside=False) == found
    assert found.url.isascii()
    assert found.port in outside.PORTS


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where connections were made to; all of them end at once."""
    made: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], **_: Any) -> socket.socket:
        made.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    return made


@pytest.mark.parametrize("answer", [["10.0.0.7"], [PUBLIC, "127.0.0.1"], [PUBLIC, "fd00::1"], ["64:ff9b::a00:1"]])
def test_a_host_with_any_inner_address_is_not_posted_to(answer: list[str], connected: list[Any]) -> None:
    assert post("https://a.example/", b"", {}, inside=False, resolver=Scripted(answer)).failure == Failure.REFUSED
    assert connected == []
    with pytest.raises(RefusedUrlError, match=r"a\.example is not on the public internet"):
        posting.check("https://a.example/", inside=False, resolver=Scripted(answer))


def test_a_second_answer_of_the_dns_changes_nothing(connected: list[Any]) -> None:
    rebinding = Scripted([PUBLIC], ["127.0.0.1"])
    assert post("https://a.example/", b"", {}, inside=False, resolver=rebinding).failure == Failure.CONNECTION
    assert (rebinding.asked, connected) == (["a.example."], [(PUBLIC, 443)])
    # The next post asks again, and is refused.
    assert post("https://a.example/", b"", {}, inside=False, resolver=rebinding).failure == Failure.REFUSED
    assert len(connected) == 1


def test_a_host_that_nobody_knows_is_told_when_it_is_written() -> None:
    with pytest.raises(RefusedUrlError, match=r"not known to the DNS: a\.example"):
        posting.check("https://a.example/", inside=False, resolver=Scripted([]))
    assert posting.check("https://A.example", inside=False, resolver=Scripted([PUBLIC])) == "https://a.example/"


def _asked(sock: socket.socket) -> bytes:
    """Head and body of a request, which may come in pieces; what has come when the other side is gone."""
    asked = b""
    while (ends := asked.find(b"\r\n\r\n")) < 0 or len(asked) < ends + 4 + _length(asked):
        if not (piece := sock.recv(65536)):
            break
        asked += piece
    return asked


def _length(asked: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", asked)
    return int(found[1]) if found else 0


@contextmanager
def receiver(answer: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """The far end of the wire, one connection at a time: gets what was asked and answers as it likes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _address = listening.accept()
            except OSError:
                return
            with sock:
                asked = _asked(sock)
                try:
                    answer(sock, asked)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def test_the_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    seen: list[bytes] = []

    def answer(sock: socket.socket, asked: bytes) -> None:
        seen.append(asked)
        sock.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 99999999\r\n\r\n" + b"no\0" * 50_000)

    with receiver(answer) as port:
        found = post(f"http://127.0.0.1:{port}/a?b=c", b"{}", {"webhook-id": "1"}, inside=True)
    assert (found.status, found.taken, found.retry_after, found.failure) == (503, False, 120.0, "")
    assert 0 < len(found.text) <= posting.KEPT
    assert "\0" not in found.text
    head, body = seen[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}".encode() in head
    assert b"webhook-id: 1" in head
    assert body == b"{}"


def test_a_redirect_is_not_followed() -> None:
    asked: list[bytes] = []

    def answer(sock: socket.socket, what: bytes) -> None:
        asked.append(what)
        sock.sendall(b"HTTP/1.1 307 Go\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")

    with receiver(answer) as port:
        found = post(f"http://127.0.0.1:{port}/", b"", {}, inside=True)
    assert (found.status, found.taken, len(asked)) == (307, False, 1)


def test_one_byte_at_a_time_has_an_end() -> None:
    over = threading.Event()

    def drip(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-")
        # Each byte comes long before any wait for one would end.
        while not over.wait(0.02):
            sock.sendall(b"a")

    with receiver(drip) as port:
        found = post(f"http://127.0.0.1:{port}/", b"", {}, inside=True, seconds=0.4)
        over.set()
    assert (found.status, found.failure) == (None, Failure.TIMEOUT)


def test_silence_garbage_and_closed_ports_are_told_apart() -> None:
    over = threading.Event()
    with receiver(lambda *_: over.wait(10) and None) as port:
        assert post(f"http://127.0.0.1:{port}/", b"", {}, inside=True, seconds=0.2).failure == Failure.TIMEOUT
        over.set()
    with receiver(lambda sock, _: sock.sendall(b"220 mail.example ESMTP\r\n")) as port:
        assert post(f"http://127.0.0.1:{port}/", b"", {}, inside=True).failure == Failure.ANSWER
    assert post(f"http://127.0.0.1:{port}/", b"", {}, inside=True).failure == Failure.CONNECTION


def test_tls_is_for_the_name_at_the_address_that_was_checked(tmp_path: Path) -> None:
    served, trust = certified("a.example", tmp_path)
    names: list[str | None] = []
    served.sni_callback = lambda _sock, name, _context: names.append(name)
    hosts: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            sock, _address = listening.accept()
            try:
                with served.wrap_socket(sock, server_side=True) as wrapped:
                    hosts.append(wrapped.recv(65536))
                    wrapped.sendall(b"HTTP/1.1 204 Done\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listening.getsockname()[1]
    here = Scripted(["127.0.0.1"])
    found = post(f"https://a.example:{port}/", b"", {}, inside=True, resolver=here, trust=trust)
    other = post(f"https://b.example:{port}/", b"", {}, inside=True, resolver=here, trust=trust)
    thread.join(10)
    listening.close()
    assert (found.status, found.taken) == (204, True)
    assert f"Host: a.example:{port}".encode() in hosts[0]
    assert names == ["a.example", "b.example"]
    assert (other.status, other.failure) == (None, Failure.TLS)


def certified(host: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for this host, and a client's that trusts nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "pem").write_bytes(pem + secret)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(folder / "pem")
    trust = ssl.create_default_context(cadata=pem.decode())
    return served, trust
