"""Which domains surely take no mail, asked of the DNS."""

import asyncio
from collections.abc import Iterable
from itertools import islice

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdatatype import RdataType

AT_ONCE = 50
_BATCH = 2_000


def without_mail(domains: Iterable[str], resolver: dns.asyncresolver.Resolver | None = None) -> list[str]:
    """Those of the domains that take no mail.

    They have no such name, a null MX (RFC 7505), or neither an MX nor an address (RFC 5321 section 5.1).
    A DNS that fails or is late (`resolver.lifetime`, 5 s unless told) says nothing about a domain, which is then
    not among them.
    """
    asked = resolver or dns.asyncresolver.Resolver()
    found: list[str] = []
    rest = iter(domains)
    while batch := list(islice(rest, _BATCH)):
        found += asyncio.run(_without_mail(batch, asked))
    return found


async def _without_mail(domains: list[str], resolver: dns.asyncresolver.Resolver) -> list[str]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def takes_mail(domain: str) -> bool:
        async with gate:
            return await _takes_mail(domain, resolver)

    answers = await asyncio.gather(*map(takes_mail, domains))
    return [domain for domain, takes in zip(domains, answers, strict=True) if not takes]


async def _takes_mail(domain: str, resolver: dns.asyncresolver.Resolver) -> bool:
    for kind in (RdataType.MX, RdataType.A, RdataType.AAAA):
        try:
            answer = await resolver.resolve(f"{domain}.", kind)
        except dns.resolver.NXDOMAIN:
            return False
        except dns.resolver.NoAnswer:
            continue
        except (dns.exception.DNSException, OSError):
            return True
        return kind != RdataType.MX or any(host.exchange.to_text() != "." for host in answer)
    return False
