"""Whether the hosts of links are known to the DNS. Nothing but the DNS is asked, and no host itself."""

import asyncio
from collections.abc import Collection
from enum import Enum
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdatatype import RdataType

# Of all hosts together: somebody waits for it.
SECONDS = 3.0
MOST = 50


class Found(Enum):
    """What the DNS says of a host. `INSIDE`: it is known, but only at addresses that nobody outside can reach."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    INSIDE = "inside"
    NOT_ASKED = "not_asked"


def look_up(hosts: Collection[str], resolver: dns.asyncresolver.Resolver | None = None) -> dict[str, Found]:
    """What the DNS says of each of these hosts within SECONDS; never raises. Beyond MOST, hosts are not asked about."""
    wanted = list(dict.fromkeys(hosts))
    answers = dict.fromkeys(wanted, Found.NOT_ASKED)
    if not wanted:
        return answers
    try:
        asked = resolver or dns.asyncresolver.Resolver()
    except dns.exception.DNSException:
        return answers
    return answers | asyncio.run(_look_up(wanted[:MOST], asked))


async def _look_up(hosts: list[str], resolver: dns.asyncresolver.Resolver) -> dict[str, Found]:
    tasks = {asyncio.create_task(_found(host, resolver)): host for host in hosts}
    done, late = await asyncio.wait(tasks, timeout=SECONDS)
    for task in late:
        task.cancel()
    return {tasks[task]: task.result() for task in done}


async def _found(host: str, resolver: dns.asyncresolver.Resolver) -> Found:
    inside = False
    for kind in (RdataType.A, RdataType.AAAA):
        try:
            answer = await resolver.resolve(f"{host}.", kind)
        except dns.resolver.NXDOMAIN:
            return Found.UNKNOWN
        except dns.resolver.NoAnswer:
            continue
        # A name that cannot be one is no DNSException.
        except (dns.exception.DNSException, OSError, ValueError):
            return Found.NOT_ASKED
        if any(ip_address(record.address).is_global for record in answer):
            return Found.KNOWN
        inside = True
    return Found.INSIDE if inside else Found.UNKNOWN
