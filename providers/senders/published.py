"""Pure: what a sender domain publishes in the DNS, judged by the rules of those who receive mail.

`judge` reads a `Zone` of answers; what it would still have to know it leaves in `Zone.missing`, so that whoever asks
the DNS fills that in and judges again. Nothing is raised for an answer, however broken.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

# RFC 7208 section 4.6.4.
MOST_LOOKUPS = 10
# RFC 8301 section 3.2: shorter keys count as no signature.
FEWEST_BITS = 1024
_COUNTED = ("include", "a", "mx", "ptr", "exists")
_TERM = re.compile(r"(?P<name>[a-z][a-z0-9_.-]*)(?P<rest>[:=/].*)?", re.I)

# What the provider of an account asks its customers to publish where mails leave by a return path of the domain itself.
SPF_OF_KIND = {
    "resend": "include:amazonses.com",
    "amazon_ses": "include:amazonses.com",
    "sendgrid": "include:sendgrid.net",
    "mailgun": "include:mailgun.org",
    "postmark": "include:spf.mtasv.net",
}
# The selectors that a provider gives each domain, where it gives the same to all.
SELECTORS_OF_KIND = {"resend": ("resend",), "sendgrid": ("s1", "s2")}


class Part(StrEnum):
    """What a finding is about."""

    NAME = "name"
    MX = "mx"
    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"


class Level(StrEnum):
    """How much a finding weighs: only `WRONG` keeps a domain from being sound; `UNKNOWN` is a DNS that failed."""

    GOOD = "good"
    ADVICE = "advice"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Record:
    """A record to publish: its whole name, its type and its value as a DNS console takes it (TXT without quotes)."""

    name: str
    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `code` names its text in `dns.TEXTS`, `about` fills that in."""

    part: Part
    level: Level
    code: str
    about: Mapping[str, str | int] = field(default_factory=dict)
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says of one name and type: its records as texts, none, that there is no such name, or nothing."""

    records: tuple[str, ...] = ()
    exists: bool = True
    failed: bool = False


FAILED = Answer(failed=True)


@dataclass(slots=True)
class Zone:
    """Answers by (name, type), names in small letters without a final dot; `missing` collects what was not there."""

    answers: Mapping[tuple[str, str], Answer]
    missing: set[tuple[str, str]] = field(default_factory=set)

    def ask(self, name: str, kind: str) -> Answer:
        asked = (name.lower().rstrip("."), kind)
        if (found := self.answers.get(asked)) is not None:
            return found
        self.missing.add(asked)
        return FAILED


@dataclass(frozen=True, slots=True)
class Relay:
    """A mail server that mails leave through. `spf`: what the operator says that a record must name, such as
    `include:spf.pool.example`; empty: its host's own addresses are looked for.
    """

    host: str
    spf: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A DKIM key of ours: `public` as a record's p= has it. The `current` one signs."""

    selector: str
    public: str
    current: bool = True

    @property
    def value(self) -> str:
        """What its TXT record says (RFC 6376 section 3.6.1)."""
        return f"v=DKIM1; k=rsa; p={self.public}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sender domain and what its mails need: where bounces go, the kinds of its accounts, its mail servers, its keys.

    `return_domain` is the domain of the return path of mails that leave through a mail server.
    """

    name: str
    return_domain: str
    kinds: frozenset[str] = frozenset()
    relays: tuple[Relay, ...] = ()
    keys: tuple[Key, ...] = ()


def judge(wanted: Wanted, zone: Zone) -> list[Finding]:
    """Everything that is to be said of the domain, in the order of `Part`."""
    mail = zone.ask(wanted.name, "MX")
    if not mail.exists:
        return [Finding(Part.NAME, Level.WRONG, "no_name", {"domain": wanted.name})]
    found = list(_mail_hosts(wanted.name, mail, zone))
    if wanted.relays and wanted.return_domain != wanted.name:
        found += _mail_hosts(wanted.return_domain, zone.ask(wanted.return_domain, "MX"), zone)
    found += _spf(wanted, zone)
    found += _dkim(wanted, zone)
    found += _dmarc(wanted, zone)
    return found


def _mail_hosts(name: str, mail: Answer, zone: Zone) -> Iterable[Finding]:
    about: dict[str, str | int] = {"domain": name}
    if mail.failed:
        yield Finding(Part.MX, Level.UNKNOWN, "unasked", {"name": name, "type": "MX"})
    elif any(record.split()[-1] == "." for record in mail.records):
        # RFC 7505 section 4.2: mail from such a domain may be refused.
        yield Finding(Part.MX, Level.WRONG, "mx_null", about)
    elif mail.records:
        yield Finding(Part.MX, Level.GOOD, "mx_good", {**about, "hosts": ", ".join(_hosts(mail))})
    else:
        addresses = [zone.ask(name, kind) for kind in ("A", "AAAA")]
        if any(one.records for one in addresses):
            yield Finding(Part.MX, Level.ADVICE, "mx_implicit", about)
        elif any(one.failed for one in addresses):
            yield Finding(Part.MX, Level.UNKNOWN, "unasked", {"name": name, "type": "A"})
        else:
            yield Finding(Part.MX, Level.WRONG, "mx_none", about)


def _hosts(mail: Answer) -> list[str]:
    return sorted(record.split()[-1].rstrip(".").lower() for record in mail.records)


@dataclass(slots=True)
class _Spf:
    """What was met on the way through a record and all that it includes."""

    terms: list[tuple[str, str]] = field(default_factory=list)
    lookups: int = 0
    failed: str = ""
    broken: str = ""


def _spf_records(answer: Answer) -> list[str]:
    return [one for one in answer.records if one.lower() == "v=spf1" or one.lower().startswith("v=spf1 ")]


def _walk(name: str, zone: Zone, met: _Spf, above: tuple[str, ...] = ()) -> None:
    answer = zone.ask(name, "TXT")
    if answer.failed:
        met.failed = met.failed or name
        return
    records = _spf_records(answer)
    if len(records) != 1:
        met.broken = met.broken or name
        return
    redirect = ""
    ends = False
    for term in records[0].split()[1:]:
        bare = term.lstrip("+-~?").lower()
        shape = _TERM.fullmatch(bare)
        if shape is None:
            met.broken = met.broken or name
            return
        kind, rest = shape["name"], shape["rest"] or ""
        met.terms.append((name, term.lower()))
        if kind in _COUNTED and not rest.startswith("="):
            met.lookups += 1
        ends = ends or kind == "all"
        if kind == "redirect" and rest.startswith("="):
            redirect = rest[1:]
        # A name made by macros is another for each mail.
        if kind == "include" and "%" not in rest:
            _follow(rest[1:], zone, met, (*above, name))
    # RFC 7208 section 6.1: where there is an `all`, a redirect is not looked at.
    if redirect and not ends:
        met.lookups += 1
        if "%" not in redirect:
            _follow(redirect, zone, met, (*above, name))


def _follow(target: str, zone: Zone, met: _Spf, above: tuple[str, ...]) -> None:
    if not target or target in above:
        met.broken = met.broken or above[-1]
    # Beyond twice the limit nothing can be put right by knowing more.
    elif met.lookups <= 2 * MOST_LOOKUPS:
        _walk(target, zone, met, above)


def _spf(wanted: Wanted, zone: Zone) -> Iterable[Finding]:
    name = wanted.return_domain if wanted.relays else wanted.name
    terms = _wanted_terms(wanted)
    proposed = Record(name, "TXT", " ".join(["v=spf1", *terms, "~all"]))
    about: dict[str, str | int] = {"domain": name}
    answer = zone.ask(name, "TXT")
    if answer.failed:
        yield Finding(Part.SPF, Level.UNKNOWN, "unasked", {"name": name, "type": "TXT"})
        return
    records = _spf_records(answer)
    if not records:
        # Providers with an HTTP interface have return paths of their own, which they had checked.
        yield Finding(Part.SPF, Level.WRONG if wanted.relays else Level.ADVICE, "spf_none", about, proposed)
        return
    if len(records) > 1:
        yield Finding(Part.SPF, Level.WRONG, "spf_several", {**about, "count": len(records)}, proposed)
        return
    met = _Spf()
    _walk(name, zone, met)
    if met.lookups > MOST_LOOKUPS:
        yield Finding(Part.SPF, Level.WRONG, "spf_lookups", {**about, "count": met.lookups, "most": MOST_LOOKUPS})
        return
    if met.broken:
        yield Finding(Part.SPF, Level.WRONG, "spf_broken", {**about, "name": met.broken})
        return
    if met.failed:
        yield Finding(Part.SPF, Level.UNKNOWN, "unasked", {"name": met.failed, "type": "TXT"})
        return
    if any(term.lstrip("+") == "all" for _, term in met.terms):
        yield Finding(Part.SPF, Level.WRONG, "spf_all", about, Record(name, "TXT", _with(records[0], terms, met)))
        return
    found = list(_unnamed(wanted, records[0], met, zone))
    if not any(term.lstrip("-~") == "all" for _, term in met.terms):
        found.append(Finding(Part.SPF, Level.ADVICE, "spf_open", about))
    yield from found or [Finding(Part.SPF, Level.GOOD, "spf_good", {**about, "count": met.lookups})]


def _wanted_terms(wanted: Wanted) -> list[str]:
    by_hand = [relay.spf or f"a:{relay.host}" for relay in wanted.relays if relay.spf or _is_name(relay.host)]
    asked = [SPF_OF_KIND[kind] for kind in sorted(wanted.kinds) if kind in SPF_OF_KIND] if not wanted.relays else []
    return list(dict.fromkeys([*by_hand, *asked])) or ["mx"]


def _unnamed(wanted: Wanted, record: str, met: _Spf, zone: Zone) -> Iterable[Finding]:
    """What of the accounts the record does not let send."""
    named = {term.lstrip("+") for _, term in met.terms}
    name = wanted.return_domain if wanted.relays else wanted.name
    for relay in wanted.relays:
        whom: dict[str, str | int] = {"domain": name, "host": relay.host}
        if relay.spf:
            if relay.spf.lower() not in named:
                added = Record(name, "TXT", _with(record, [relay.spf], met))
                yield Finding(Part.SPF, Level.WRONG, "spf_without", {**whom, "term": relay.spf}, added)
        elif not _is_name(relay.host):
            yield Finding(Part.SPF, Level.ADVICE, "spf_inside", whom)
        elif not _covers(relay.host, met, zone):
            # What a mail server takes mail at need not be what it sends from.
            added = Record(name, "TXT", _with(record, [f"a:{relay.host}"], met))
            yield Finding(Part.SPF, Level.ADVICE, "spf_without", {**whom, "term": f"a:{relay.host}"}, added)


def _is_name(host: str) -> bool:
    return "." in host and not host.replace(".", "").isdigit() and ":" not in host


def _with(record: str, terms: Iterable[str], met: _Spf) -> str:
    """The record with what it lacks, before its `all`, which lets nobody else in."""
    named = {term for _, term in met.terms}
    own = record.split()[1:]
    kept = [term for term in own if term.lstrip("+-~?").lower() != "all"]
    end = next((term for term in own if term.lower() in ("-all", "~all")), "~all")
    return " ".join(["v=spf1", *kept, *(term for term in terms if term.lower() not in named), end])


def _addresses(host: str, zone: Zone) -> set[IPv4Address | IPv6Address]:
    found = set()
    for kind in ("A", "AAAA"):
        for record in zone.ask(host, kind).records:
            try:
                found.add(ip_address(record))
            except ValueError:
                continue
    return found


def _covers(host: str, met: _Spf, zone: Zone) -> bool:
    host = host.lower()
    addresses = _addresses(host, zone)
    for owner, term in met.terms:
        kind, _, value = term.lstrip("+").partition(":")
        if kind in ("ip4", "ip6"):
            try:
                network = ip_network(value, strict=False)
            except ValueError:
                continue
            if any(one.version == network.version and one in network for one in addresses):
                return True
        elif kind in ("a", "mx"):
            target = (value or owner).partition("/")[0]
            if "%" in target:
                continue
            if kind == "a" and (target == host or _addresses(target, zone) & addresses):
                return True
            if kind == "mx" and host in _hosts(zone.ask(target, "MX")):
                return True
    return False


def tags(record: str) -> dict[str, str] | None:
    """The tags of a list (RFC 6376 section 3.2), values without white space; None if it is none."""
    found: dict[str, str] = {}
    for one in record.strip().rstrip(";").split(";"):
        name, sign, value = one.partition("=")
        name = name.strip().lower()
        if not sign or not name or name in found:
            return None
        found[name] = "".join(value.split())
    return found


def _keys_at(answer: Answer) -> list[dict[str, str]]:
    found = (tags(record) for record in answer.records)
    # RFC 6376 section 3.6.1: v= may be left out.
    return [one for one in found if one is not None and "p" in one and one.get("v", "DKIM1") == "DKIM1"]


def _trouble(found: Mapping[str, str]) -> str | None:
    """The code of what keeps a key record from being of use (RFC 6376 section 3.6.1, RFC 8301)."""
    if not found["p"]:
        return "dkim_revoked"
    if found.get("k", "rsa") != "rsa":
        return None
    if "h" in found and "sha256" not in found["h"].split(":"):
        return "dkim_hash"
    if "s" in found and not {"*", "email"} & set(found["s"].split(":")):
        return "dkim_service"
    try:
        key = load_der_public_key(base64.b64decode(found["p"], validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        return "dkim_unreadable"
    if isinstance(key, RSAPublicKey) and key.key_size < FEWEST_BITS:
        return "dkim_short"
    return None


def _dkim(wanted: Wanted, zone: Zone) -> Iterable[Finding]:
    for key in wanted.keys:
        yield from _own_key(wanted.name, key, zone)
    if wanted.relays and not any(key.current for key in wanted.keys):
        yield Finding(Part.DKIM, Level.ADVICE, "dkim_unsigned", {"domain": wanted.name})
    for kind in sorted(wanted.kinds):
        for selector in SELECTORS_OF_KIND.get(kind, ()):
            yield from _foreign_key(f"{selector}._domainkey.{wanted.name}", kind, zone)


def _own_key(domain: str, key: Key, zone: Zone) -> Iterable[Finding]:
    name = f"{key.selector}._domainkey.{domain}"
    about: dict[str, str | int] = {"name": name}
    record = Record(name, "TXT", key.value)
    # The next key signs nothing yet.
    bad = Level.WRONG if key.current else Level.ADVICE
    answer = zone.ask(name, "TXT")
    found = _keys_at(answer)
    if answer.failed:
        yield Finding(Part.DKIM, Level.UNKNOWN if key.current else Level.ADVICE, "unasked", {**about, "type": "TXT"})
    elif not answer.records:
        yield Finding(Part.DKIM, bad, "dkim_none" if key.current else "dkim_next", about, record)
    elif len(answer.records) > 1:
        yield Finding(Part.DKIM, bad, "dkim_several", about, record)
    elif not found:
        yield Finding(Part.DKIM, bad, "dkim_unreadable", about, record)
    elif trouble := _trouble(found[0]):
        yield Finding(Part.DKIM, bad, trouble, about, record)
    elif found[0]["p"] != key.public:
        yield Finding(Part.DKIM, bad, "dkim_other", about, record)
    elif "y" in found[0].get("t", "").split(":"):
        yield Finding(Part.DKIM, Level.ADVICE, "dkim_testing", about, record)
    else:
        yield Finding(Part.DKIM, Level.GOOD, "dkim_good" if key.current else "dkim_next_good", about)


def _foreign_key(name: str, kind: str, zone: Zone) -> Iterable[Finding]:
    about: dict[str, str | int] = {"name": name, "kind": kind}
    answer = zone.ask(name, "TXT")
    found = _keys_at(answer)
    if answer.failed:
        yield Finding(Part.DKIM, Level.UNKNOWN, "unasked", {"name": name, "type": "TXT"})
    elif not answer.records:
        # A customer may have had other selectors made.
        yield Finding(Part.DKIM, Level.ADVICE, "dkim_foreign", about)
    elif trouble := ("dkim_unreadable" if len(found) != 1 else _trouble(found[0])):
        yield Finding(Part.DKIM, Level.WRONG, trouble, about)
    else:
        yield Finding(Part.DKIM, Level.GOOD, "dkim_foreign_good", about)


def _dmarc(wanted: Wanted, zone: Zone) -> Iterable[Finding]:
    name = wanted.name
    proposed = Record(f"_dmarc.{name}", "TXT", f"v=DMARC1; p=none; rua=mailto:dmarc@{name}")
    labels = name.split(".")
    for start in range(len(labels) - 1):
        holder = ".".join(labels[start:])
        answer = zone.ask(f"_dmarc.{holder}", "TXT")
        if answer.failed:
            yield Finding(Part.DMARC, Level.UNKNOWN, "unasked", {"name": f"_dmarc.{holder}", "type": "TXT"})
            return
        records = [one for one in answer.records if re.match(r"v\s*=\s*DMARC1\s*(;|$)", one)]
        if not records:
            continue
        if len(records) > 1:
            # RFC 7489 section 6.6.3: then none counts.
            yield Finding(Part.DMARC, Level.WRONG, "dmarc_several", {"domain": holder}, proposed)
            return
        found = tags(records[0])
        policy = None if found is None else found.get("sp" if start and "sp" in found else "p", "").lower()
        if found is None or policy not in ("none", "quarantine", "reject"):
            yield Finding(Part.DMARC, Level.WRONG, "dmarc_broken", {"domain": holder}, proposed)
            return
        yield from _policy(wanted, holder, policy, found)
        return
    yield Finding(Part.DMARC, Level.WRONG, "dmarc_none", {"domain": name}, proposed)


def _policy(wanted: Wanted, holder: str, policy: str, found: Mapping[str, str]) -> Iterable[Finding]:
    about: dict[str, str | int] = {"domain": holder, "policy": policy}
    signed = any(key.current for key in wanted.keys)
    if wanted.relays and not signed and not _aligned(wanted, holder, found):
        yield Finding(Part.DMARC, Level.ADVICE, "dmarc_unaligned", {**about, "return": wanted.return_domain})
    elif "rua" not in found:
        yield Finding(Part.DMARC, Level.ADVICE, "dmarc_unheard", about)
    else:
        yield Finding(Part.DMARC, Level.GOOD, "dmarc_good", about)


def _aligned(wanted: Wanted, holder: str, found: Mapping[str, str]) -> bool:
    """Whether SPF alone satisfies DMARC: the return path's domain is the sender's, or of the same owner (relaxed)."""
    if wanted.return_domain == wanted.name:
        return True
    return found.get("aspf", "r").lower() != "s" and f".{wanted.return_domain}".endswith(f".{holder}")
