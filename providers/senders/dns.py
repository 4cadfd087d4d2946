"""The DNS check of sender domains: asks, has the answers judged by `published`, and keeps what was found.

How to use it, with the agency entered:

- `check(domain, now=now)` asks the DNS now (SECONDS at most, with no transaction open) and returns the stored
  `DnsCheck`: `.sound` is True, False, or None where the DNS did not answer; `wrongs(that)` says why in words.
- `sound(domain, now=now)` answers from the last check without asking; None where there is none of late: check first.

A stage that waits for the DNS goes on only on True, stays on False, and asks again later on None.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import dns.asyncresolver
import dns.exception
import dns.resolver
from django.conf import settings
from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from providers.accounts.models import Kind
from providers.senders import dkim, published
from providers.senders.models import DnsCheck, SenderDomain
from providers.senders.published import Answer, Finding, Key, Level, Relay, Wanted, Zone

# Of one domain, however many questions it takes.
SECONDS = 10.0
AT_ONCE = 20
# The longest chain of answers that lead to further questions: an SPF record of includes within includes.
ROUNDS = 12
# For how long a check speaks for its domain.
FRESH = timedelta(hours=48)

# Names that nobody can register (RFC 2606): what a demonstration sends from.
_RESERVED = r"\.(example|test|invalid|localhost)$"


def sound(domain: SenderDomain, *, now: datetime, within: timedelta = FRESH) -> bool | None:
    """What the last check found, if it is no older than `within`; asks nothing."""
    last = DnsCheck.objects.filter(domain=domain, at__gt=now - within).first()
    return None if last is None else last.sound


def check(domain: SenderDomain, *, now: datetime, resolver: dns.asyncresolver.Resolver | None = None) -> DnsCheck:
    """Ask the DNS about one domain and keep what was found. Never raises for what the DNS says or does not say.

    A DKIM key whose record is seen for the first time signs from now on.
    """
    findings = asyncio.run(_findings([_wanted(domain)], resolver))[0]
    if _switched(domain, findings, now):
        findings = asyncio.run(_findings([_wanted(domain)], resolver))[0]
    return _keep(domain, findings, now)


def check_all(
    *,
    now: datetime,
    domains: QuerySet[SenderDomain] | None = None,
    resolver: dns.asyncresolver.Resolver | None = None,
) -> list[DnsCheck]:
    """The same for these domains, or for each of the agency entered now that can exist, several at once."""
    if domains is None:
        domains = SenderDomain.objects.exclude(name__regex=_RESERVED)
    chosen = list(domains.prefetch_related("homes__account").order_by("name"))
    found = asyncio.run(_findings([_wanted(domain) for domain in chosen], resolver))
    return [
        check(domain, now=now, resolver=resolver) if _switched(domain, findings, now) else _keep(domain, findings, now)
        for domain, findings in zip(chosen, found, strict=True)
    ]


def _switched(domain: SenderDomain, findings: Iterable[Finding], now: datetime) -> bool:
    seen = (str(one.about["name"]).partition("._domainkey.")[0] for one in findings if one.code == "dkim_next_good")
    return any(dkim.switch(domain, selector, now=now) for selector in seen)


def _keep(domain: SenderDomain, findings: list[Finding], now: datetime) -> DnsCheck:
    kept, _made = DnsCheck.objects.update_or_create(
        domain=domain, defaults={"at": now, "sound": verdict(findings), "findings": [_stored(one) for one in findings]}
    )
    return kept


def verdict(findings: Iterable[Finding]) -> bool | None:
    """False if anything is wrong, None if something could not be asked, else True."""
    levels = {finding.level for finding in findings}
    if Level.WRONG in levels:
        return False
    return None if Level.UNKNOWN in levels else True


def _stored(finding: Finding) -> dict[str, object]:
    record = finding.record
    return {
        "part": finding.part.value,
        "level": finding.level.value,
        "code": finding.code,
        "about": dict(finding.about),
        "record": record and {"name": record.name, "type": record.type, "value": record.value},
    }


def _wanted(domain: SenderDomain) -> Wanted:
    accounts = [home.account for home in domain.homes.all()]
    servers = [account for account in accounts if account.kind == Kind.SMTP]
    return Wanted(
        name=domain.name,
        return_domain=settings.BOUNCE_DOMAIN or domain.name,
        kinds=frozenset(account.kind for account in accounts),
        relays=tuple(
            sorted(
                {Relay(str(one.options.get("host", "")), str(one.options.get("spf", ""))) for one in servers},
                key=lambda relay: relay.host,
            )
        ),
        keys=tuple(Key(key.selector, key.public, key.current) for key in dkim.in_use(domain)),
    )


async def _findings(wanted: list[Wanted], resolver: dns.asyncresolver.Resolver | None) -> list[list[Finding]]:
    try:
        asked = resolver or dns.asyncresolver.Resolver()
    except dns.exception.DNSException:
        return [published.judge(one, Zone({})) for one in wanted]
    gate = asyncio.Semaphore(AT_ONCE)
    return await asyncio.gather(*(_judged(one, asked, gate) for one in wanted))


async def _judged(wanted: Wanted, resolver: dns.asyncresolver.Resolver, gate: asyncio.Semaphore) -> list[Finding]:
    answers: dict[tuple[str, str], Answer] = {}
    async with gate:
        try:
            async with asyncio.timeout(SECONDS):
                for _round in range(ROUNDS):
                    zone = Zone(answers)
                    findings = published.judge(wanted, zone)
                    if not zone.missing:
                        return findings
                    questions = sorted(zone.missing)
                    found = await asyncio.gather(*(_answer(name, kind, resolver) for name, kind in questions))
                    answers |= dict(zip(questions, found, strict=True))
        except TimeoutError:
            pass
    return published.judge(wanted, Zone(answers))


async def _answer(name: str, kind: str, resolver: dns.asyncresolver.Resolver) -> Answer:
    try:
        answer = await resolver.resolve(f"{name}.", kind)
    except dns.resolver.NXDOMAIN:
        return Answer(exists=False)
    except dns.resolver.NoAnswer:
        return Answer()
    # A name that cannot be one is no DNSException.
    except (dns.exception.DNSException, OSError, ValueError):
        return published.FAILED
    return Answer(tuple(_text(record) for record in answer))


def _text(record: object) -> str:
    if isinstance(record, TXT):
        # RFC 7208 section 3.3: its strings are put together without spaces.
        return b"".join(record.strings).decode("utf-8", "replace")
    if isinstance(record, MX):
        return f"{record.preference} {record.exchange.to_text()}"
    return str(record)


def wrongs(found: DnsCheck) -> list[str]:
    """What is wrong with the domain, each in a sentence, in the language of the reader."""
    return [told(one) for one in found.findings if one["level"] == Level.WRONG]


def told(finding: Mapping[str, object]) -> str:
    """What a stored finding says, in the language of the reader."""
    about = finding.get("about")
    return str(TEXTS[str(finding["code"])]) % (about if isinstance(about, dict) else {})


TEXTS: dict[str, Promise | str] = {
    "unasked": _("The DNS did not answer for %(name)s (%(type)s). Nothing is wrong so far; check again later."),
    "no_name": _("There is no domain %(domain)s in the DNS. Register it or correct its name."),
    "mx_good": _("Mail for %(domain)s is taken by %(hosts)s."),
    "mx_null": _(
        "%(domain)s says that it takes no mail (null MX). Replies and bounces are lost, and receivers may refuse its "
        "mails. Publish an MX record that names your mail server."
    ),
    "mx_implicit": _(
        "%(domain)s has no MX record; mail goes to its address. Publish an MX record that names your mail server."
    ),
    "mx_none": _(
        "%(domain)s takes no mail: it has neither an MX record nor an address. Replies and bounces are lost. Publish "
        "an MX record that names your mail server."
    ),
    "spf_good": _("SPF of %(domain)s lets the senders' accounts send (%(count)s DNS look-ups of at most 10)."),
    "spf_none": _("%(domain)s has no SPF record. Publish this one."),
    "spf_several": _("%(domain)s has %(count)s SPF records, so none counts (RFC 7208). Leave one."),
    "spf_lookups": _(
        "SPF of %(domain)s takes %(count)s DNS look-ups; beyond %(most)s it counts as broken (RFC 7208). Take out "
        "includes that are not needed."
    ),
    "spf_broken": _(
        "SPF of %(domain)s cannot be evaluated: %(name)s has no SPF record, several, or one with an error. Correct it "
        "or take its include out."
    ),
    "spf_all": _("SPF of %(domain)s lets everyone send (+all). Publish this one instead."),
    "spf_open": _("SPF of %(domain)s does not end with ~all or -all, so it keeps nobody out."),
    "spf_without": _("SPF of %(domain)s does not name the mail server %(host)s (%(term)s). Add it."),
    "spf_inside": _(
        "From which address %(host)s sends cannot be told. Write into the account's connection what SPF has to name, "
        'such as "spf": "ip4:192.0.2.1".'
    ),
    "dkim_good": _("The DKIM key is published at %(name)s; mails are signed with it."),
    "dkim_next_good": _("The next DKIM key is published at %(name)s and can sign now."),
    "dkim_none": _("The DKIM key that signs is not published: there is nothing at %(name)s. Publish this record."),
    "dkim_next": _("The next DKIM key waits for its record at %(name)s. Publish it."),
    "dkim_several": _("%(name)s has several TXT records, so the DKIM key may not be found. Leave this one."),
    "dkim_unreadable": _("What is published at %(name)s is no DKIM key that can be read. Publish it again."),
    "dkim_revoked": _("The DKIM key at %(name)s is revoked (p= is empty). Publish it again."),
    "dkim_hash": _("The DKIM key at %(name)s forbids SHA-256 (h=), which mails are signed with. Take h= out."),
    "dkim_service": _("The DKIM key at %(name)s is not for mail (s=). Take s= out."),
    "dkim_short": _(
        "The DKIM key at %(name)s is shorter than 1024 bits and does not count (RFC 8301). Make a new one."
    ),
    "dkim_other": _("Another DKIM key is published at %(name)s. Publish this record instead."),
    "dkim_testing": _("The DKIM key at %(name)s is marked as a test (t=y). Take that out when mails arrive well."),
    "dkim_unsigned": _(
        "Mails of %(domain)s leave through a mail server without a DKIM signature of ours. Gmail and Yahoo demand one: "
        "make a key, unless the mail server signs by itself."
    ),
    "dkim_foreign": _(
        "There is no DKIM key at %(name)s, where %(kind)s usually has it. See there which records it asks for."
    ),
    "dkim_foreign_good": _("The DKIM key of %(kind)s is published at %(name)s."),
    "dmarc_good": _("DMARC of %(domain)s is in force (p=%(policy)s)."),
    "dmarc_none": _("%(domain)s has no DMARC record, which Gmail and Yahoo demand of bulk senders. Publish this one."),
    "dmarc_several": _("%(domain)s has several DMARC records, so none counts (RFC 7489). Leave one."),
    "dmarc_broken": _(
        "The DMARC record of %(domain)s has an error: its policy (p=) is missing or unknown. Correct it."
    ),
    "dmarc_unheard": _(
        "DMARC of %(domain)s is in force (p=%(policy)s), but asks for no reports. With rua=mailto:… you would see who "
        "sends in its name."
    ),
    "dmarc_unaligned": _(
        "Without a DKIM signature of ours, mails through the mail server fail DMARC of %(domain)s (p=%(policy)s): "
        "their return path is at %(return)s. Make a DKIM key, unless the mail server signs by itself."
    ),
}
