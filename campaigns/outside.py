"""Pure: which addresses may be posted to for an agency. Whatever only this host or its network can reach is refused.

`inside` lets http and loopback be: for tests and the demo, never where strangers write addresses.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote, urlsplit

import idna
from django.utils.translation import gettext as _

LONGEST = 500
PORTS = (443, 8443)
# Beside what Python calls not global: the relays of 6to4 (RFC 7526), the address at which Azure's hosts are served by
# the host below them, documentation (RFC 9637), and what carries an IPv4 address: mapped, compatible, NAT64 and 6to4.
_REFUSED = tuple(
    ip_network(one)
    for one in (
        "192.88.99.0/24",
        "168.63.129.16/32",
        "3fff::/20",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
    )
)
# IANA has given out nothing else to be reached by others.
_GIVEN_OUT = ip_network("2000::/3")
# Some programs take such a last label for a part of an IPv4 address: 127.1, 0x7f000001, 2130706433.
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*\Z")
_SAFE = "/%:@!$&'()*+,;=~-._"


class RefusedUrlError(ValueError):
    """Nothing may be posted to this address; says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address to post to. `host` is in ASCII, an IPv6 address without brackets; `path` has the query too."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The same address, written in one way."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def literal(self) -> IPv4Address | IPv6Address | None:
        """The IP address that stands in place of a name, if one does."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


def target(url: str, *, inside: bool) -> Target:
    """The address taken apart. Raises RefusedUrlError; the DNS is not asked."""
    if len(url) > LONGEST:
        raise RefusedUrlError(_("An address has at most %(longest)d characters.") % {"longest": LONGEST})
    if any(letter <= " " or letter in "\\\x7f" or letter.isspace() for letter in url):
        raise RefusedUrlError(_("An address has no spaces and no backslashes."))
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _ascii(parts.hostname or "")
    except ValueError:
        raise RefusedUrlError(_("This is not an address. Write one such as https://example.com/hook.")) from None
    if parts.scheme not in (("https", "http") if inside else ("https",)):
        raise RefusedUrlError(_("The address must begin with https://."))
    if "@" in parts.netloc:
        raise RefusedUrlError(_("Leave the user name and the password out: requests are signed instead."))
    if "#" in url:
        raise RefusedUrlError(_("Leave out what follows the #: it is never sent."))
    port = (443 if parts.scheme == "https" else 80) if port is None else port
    if (port not in PORTS and not inside) or port == 0:
        raise RefusedUrlError(_("Only the ports 443 and 8443 may be posted to."))
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else "")
    found = Target(parts.scheme, host, port, path)
    literal = found.literal
    if literal is not None and not reachable(literal, inside=inside):
        raise RefusedUrlError(inside_words(host))
    if literal is None and not inside and "." not in host:
        raise RefusedUrlError(inside_words(host))
    return found


def reachable(address: IPv4Address | IPv6Address, *, inside: bool) -> bool:
    """Whether anybody on the internet would reach the same under this address; `inside`: or it is loopback."""
    if inside and address.is_loopback:
        return True
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, IPv6Address) and (address.scope_id or address not in _GIVEN_OUT):
        return False
    return not any(address in network for network in _REFUSED if network.version == address.version)


def inside_words(host: str) -> str:
    """Why a host is refused that has an address which not everybody would reach."""
    return _("%(host)s is not on the public internet: nothing is posted to it.") % {"host": host}


def _ascii(host: str) -> str:
    """The host as the DNS knows it; raises ValueError where it can be none."""
    if ":" in host:
        return str(IPv6Address(host))
    found = host.rstrip(".").lower()
    if not found.isascii():
        found = idna.encode(found, uts46=True).decode()
    if not _HOST.match(found):
        raise ValueError
    if _NUMBER.match(found.rpartition(".")[2]):
        # Only as everybody reads it: four numbers without leading zeros.
        return str(IPv4Address(found))
    return found
