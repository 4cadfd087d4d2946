"""What a domain publishes is judged by the rules of those who receive mail, asked of a DNS that may do anything."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dns.asyncresolver
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dnslib import CNAME, MX, QTYPE, RCODE, RR, TXT, A
from dnslib.server import BaseResolver, DNSServer
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.accounts.models import Account, Kind
from providers.senders import dkim, published
from providers.senders import dns as checks
from providers.senders.models import DnsCheck, Home, SenderDomain
from providers.senders.published import Answer, Key, Level, Relay, Wanted, Zone
from tenants import context

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def der(bits: int) -> str:
    number = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | 1).public_key()
    return base64.b64encode(number.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


PUBLIC, SHORT = der(2048), der(1000)
OURS = Wanted(
    "mail.example",
    "mail.example",
    kinds=frozenset(["smtp"]),
    relays=(Relay("mx.pool.example"),),
    keys=(Key("pz1", PUBLIC),),
)
GOOD: dict[tuple[str, str], Answer] = {
    ("mail.example", "MX"): Answer(("10 mx.pool.example.",)),
    ("mail.example", "TXT"): Answer(("other=1", "v=spf1 a:mx.pool.example ~all")),
    ("mx.pool.example", "A"): Answer(("192.0.2.7",)),
    ("mx.pool.example", "AAAA"): Answer(),
    ("pz1._domainkey.mail.example", "TXT"): Answer((f"v=DKIM1; k=rsa; p={PUBLIC}",)),
    ("_dmarc.mail.example", "TXT"): Answer(("v=DMARC1; p=none; rua=mailto:d@mail.example",)),
}


def judged(changed: dict[tuple[str, str], Answer] | None = None, wanted: Wanted = OURS) -> dict[str, Level]:
    """Codes of what was found; what the zone lacks has no records."""

    class Whole(dict[tuple[str, str], Answer]):
        def get(self, key: Any, default: Any = None) -> Any:
            return super().get(key, Answer())

    found = published.judge(wanted, Zone(Whole({**GOOD, **(changed or {})})))
    for one in found:
        assert "%(" not in checks.told({"code": one.code, "about": dict(one.about)})
    return {one.code: one.level for one in found}


def spf(record: str, **others: str) -> dict[str, Level]:
    zone = {("mail.example", "TXT"): Answer((record,))}
    return judged(zone | {(f"{name}.example", "TXT"): Answer((text,)) for name, text in others.items()})


def test_what_is_all_right_is_sound() -> None:
    found = published.judge(OURS, Zone(GOOD))
    assert {one.level for one in found} == {Level.GOOD}
    assert checks.verdict(found) is True


class TestSpf:
    def test_one_record_is_wanted(self) -> None:
        assert judged({("mail.example", "TXT"): Answer(("x",))})["spf_none"] is Level.WRONG
        two = Answer(("v=spf1 ~all", "v=spf1 a ~all"))
        assert judged({("mail.example", "TXT"): two})["spf_several"] is Level.WRONG

    def test_ten_lookups_are_the_most(self) -> None:
        includes = {f"i{number}": "v=spf1 ip4:192.0.2.0/24 -all" for number in range(11)}
        names = [f"include:{name}.example" for name in includes]
        assert "spf_good" in spf(f"v=spf1 {' '.join(names[:10])} ~all", **includes)
        assert spf(f"v=spf1 {' '.join(names)} ~all", **includes)["spf_lookups"] is Level.WRONG

    def test_a_loop_ends_and_is_broken(self) -> None:
        assert spf("v=spf1 include:b.example ~all", b="v=spf1 include:mail.example ~all")["spf_broken"] is Level.WRONG
        assert spf("v=spf1 redirect=mail.example")["spf_broken"] is Level.WRONG

    @pytest.mark.parametrize(
        "record",
        [
            "v=spf1 ip4:192.0.2.0/28 -all",
            "v=spf1 mx ~all",
            "V=SPF1 A:mx.pool.example ?all -all",
            "v=spf1 redirect=b.example",
        ],
    )
    def test_the_mail_server_is_named_in_many_ways(self, record: str) -> None:
        assert spf(record, b="v=spf1 ip4:192.0.2.7 -all").get("spf_good") is Level.GOOD

    def test_what_lacks_a_term_is_shown_whole(self) -> None:
        wanted = Wanted("mail.example", "mail.example", relays=(Relay("127.0.0.1", "include:spf.pool.example"),))
        zone = {**GOOD, ("mail.example", "TXT"): Answer(("v=spf1 include:x.example -all",))}
        zone["x.example", "TXT"] = Answer(("v=spf1 -all",))
        (found,) = [one for one in published.judge(wanted, Zone(zone)) if one.code == "spf_without"]
        assert found.record is not None
        assert found.record.value == "v=spf1 include:x.example include:spf.pool.example -all"
        assert found.level is Level.WRONG

    def test_everyone_may_not_be_let_in(self) -> None:
        assert spf("v=spf1 +all")["spf_all"] is Level.WRONG
        assert spf("v=spf1 all")["spf_all"] is Level.WRONG


class TestDkim:
    @pytest.mark.parametrize(
        ("record", "code"),
        [
            (f"v=DKIM1; p={SHORT}", "dkim_short"),
            ("v=DKIM1; p=", "dkim_revoked"),
            (f"v=DKIM1; h=sha1; p={PUBLIC}", "dkim_hash"),
            (f"v=DKIM1; s=tlsrpt; p={PUBLIC}", "dkim_service"),
            ("v=DKIM1; p=%%%", "dkim_unreadable"),
            ("hello", "dkim_unreadable"),
            (f"v=DKIM1; p={der(2040)}", "dkim_other"),
        ],
    )
    def test_a_record_that_is_of_no_use_is_wrong(self, record: str, code: str) -> None:
        name = ("pz1._domainkey.mail.example", "TXT")
        assert judged({name: Answer((record,))})[code] is Level.WRONG
        waits = Wanted("mail.example", "mail.example", keys=(Key("pz1", PUBLIC, current=False),))
        assert judged({name: Answer((record,))}, waits)[code] is Level.ADVICE

    def test_a_key_in_pieces_is_the_same_key(self) -> None:
        spaced = f"k=rsa;\t p={PUBLIC[:200]} {PUBLIC[200:]} ;"
        assert judged({("pz1._domainkey.mail.example", "TXT"): Answer((spaced,))})["dkim_good"] is Level.GOOD

    def test_a_providers_key_may_be_elsewhere_but_not_revoked(self) -> None:
        wanted = Wanted("mail.example", "mail.example", kinds=frozenset(["resend"]))
        assert judged(wanted=wanted)["dkim_foreign"] is Level.ADVICE
        name = ("resend._domainkey.mail.example", "TXT")
        assert judged({name: Answer((f"p={PUBLIC}",))}, wanted)["dkim_foreign_good"] is Level.GOOD
        assert judged({name: Answer(("p=",))}, wanted)["dkim_revoked"] is Level.WRONG


class TestDmarc:
    NAME = ("_dmarc.mail.example", "TXT")

    def test_without_one_bulk_mail_is_refused(self) -> None:
        assert judged({self.NAME: Answer()})["dmarc_none"] is Level.WRONG
        assert judged({self.NAME: Answer(("v=DMARC1; p=maybe",))})["dmarc_broken"] is Level.WRONG
        assert judged({self.NAME: Answer(("v=DMARC1; p=none",) * 2)})["dmarc_several"] is Level.WRONG

    def test_a_domain_above_speaks_for_those_below(self) -> None:
        below = Wanted("a.mail.example", "a.mail.example")
        zone = {("a.mail.example", "MX"): Answer(("10 mx.",))}
        found = judged({**zone, self.NAME: Answer(("v=DMARC1; p=reject; sp=bad",))}, below)
        assert found["dmarc_broken"] is Level.WRONG
        assert "dmarc_unheard" in judged({**zone, self.NAME: Answer(("v=DMARC1; p=reject; sp=none",))}, below)

    def test_a_return_path_elsewhere_needs_a_signature(self) -> None:
        away = Wanted("mail.example", "back.pool.example", relays=OURS.relays)
        assert "dmarc_unaligned" in judged(wanted=away)
        signed = Wanted("mail.example", "back.pool.example", relays=OURS.relays, keys=OURS.keys)
        assert "dmarc_good" in judged(wanted=signed)


def test_mail_has_to_be_taken() -> None:
    assert judged({("mail.example", "MX"): Answer(("0 .",))})["mx_null"] is Level.WRONG
    assert judged({("mail.example", "MX"): Answer()})["mx_none"] is Level.WRONG
    found = judged({("mail.example", "MX"): Answer(), ("mail.example", "A"): Answer(("192.0.2.1",))})
    assert found["mx_implicit"] is Level.ADVICE
    assert judged({("mail.example", "MX"): Answer(exists=False)}) == {"no_name": Level.WRONG}


@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)),
        st.sampled_from(sorted({answer.records[0] for answer in GOOD.values() if answer.records}))
        | st.text(max_size=30)
        | st.sampled_from(
            ["v=spf1 " + term for term in ("include:", "include:%{d}", "redirect=", "ip4:x", "a/99 mx//1 exists:")]
        )
        | st.sampled_from(["v=DMARC1", "v=DMARC1;p", "v=DKIM1;p=;p=", ""]),
    )
)
@settings(max_examples=60, deadline=None)
def test_no_answer_however_broken_stops_the_judge(records: dict[tuple[str, str], str]) -> None:
    changed = {
        asked: Answer((f"10 {text.split()[0] if text.split() else '.'}",) if asked[1] == "MX" else (text,))
        for asked, text in records.items()
    }
    assert judged(changed)


class Published(BaseResolver):
    """A DNS on loopback that holds what it is told; a name `dead.example` never answers well."""

    records: dict[tuple[str, str], Any] = {}

    def resolve(self, request: Any, handler: Any) -> Any:
        reply = request.reply()
        name, kind = str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        if name.endswith("dead.example"):
            reply.header.rcode = RCODE.SERVFAIL
        elif (name, kind) in self.records:
            reply.add_answer(RR(name, request.q.qtype, rdata=self.records[name, kind], ttl=1))
        elif (name, "CNAME") in self.records:
            target = self.records[name, "CNAME"]
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=target, ttl=1))
            if (held := self.records.get((str(target.label).rstrip("."), kind))) is not None:
                reply.add_answer(RR(str(target.label), request.q.qtype, rdata=held, ttl=1))
        elif not any(known == name or known.endswith(f".{name}") for known, _ in self.records):
            reply.header.rcode = RCODE.NXDOMAIN
        return reply


@pytest.fixture
def resolver() -> Iterator[dns.asyncresolver.Resolver]:
    server = DNSServer(Published(), address="127.0.0.1", port=0)
    server.start_thread()
    asked = dns.asyncresolver.Resolver(configure=False)
    asked.nameservers, asked.port = ["127.0.0.1"], server.server.server_address[1]
    yield asked
    server.stop()
    server.server.server_close()


def test_each_agencys_domains_are_asked_about_and_kept(
    alpha: Any, beta: Any, resolver: dns.asyncresolver.Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [f"v=DKIM1; k=rsa; p={PUBLIC}"[:200], f"v=DKIM1; k=rsa; p={PUBLIC}"[200:]]
    monkeypatch.setattr(
        Published,
        "records",
        {
            ("mail.example", "MX"): MX("mx.mail.example"),
            ("mail.example", "TXT"): TXT("v=spf1 include:spf.example ~all"),
            ("spf.example", "TXT"): TXT("v=spf1 a:mx.pool.example -all"),
            ("mx.pool.example", "A"): A("192.0.2.7"),
            ("resend._domainkey.mail.example", "CNAME"): CNAME("key.resend.example"),
            ("key.resend.example", "TXT"): TXT(long),
            ("_dmarc.mail.example", "TXT"): TXT("v=DMARC1; p=reject; rua=mailto:d@mail.example"),
        },
    )
    pool = Account.objects.create(name="pool", kind=Kind.SMTP, options={"host": "mx.pool.example"})
    rented = Account.objects.create(name="rented", kind=Kind.RESEND)
    with context.entered(alpha):
        kept = [SenderDomain.objects.create(name=f"{name}.example") for name in ("dead", "gone", "mail")]
        for domain in kept:
            Home.objects.bulk_create(Home(domain=domain, account=account) for account in (pool, rented))
        found = checks.check_all(now=NOW, domains=SenderDomain.objects.all(), resolver=resolver)
        assert [one.sound for one in found] == [None, False, True]
        # Left to itself it does not ask about what nobody can register.
        assert checks.check_all(now=NOW, resolver=resolver) == []
        assert {one["code"] for one in found[2].findings} == {
            "mx_good",
            "spf_good",
            "dkim_unsigned",
            "dkim_foreign_good",
            "dmarc_good",
        }
        assert checks.wrongs(found[1]) == [
            "There is no domain gone.example in the DNS. Register it or correct its name."
        ]
        monkeypatch.setattr(Published, "records", {})
        again = checks.check(kept[2], now=NOW + timedelta(hours=1), resolver=resolver)
        assert again.pk == found[2].pk
        assert [checks.sound(domain, now=NOW + timedelta(hours=2)) for domain in kept] == [None, False, False]
        assert checks.sound(kept[2], now=NOW + timedelta(hours=50)) is None
    with context.entered(beta):
        assert checks.check_all(now=NOW, domains=SenderDomain.objects.all(), resolver=resolver) == []
        assert not DnsCheck.objects.exists()


def test_a_key_signs_once_its_record_is_seen(
    alpha: Any, resolver: dns.asyncresolver.Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with context.entered(alpha):
        domain = SenderDomain.objects.create(name="mail.example")
        key = dkim.make(domain, now=NOW)
        shown = published.Key(key.selector, key.public)
        name = f"{key.selector}._domainkey.mail.example"
        records = {("mail.example", "MX"): MX("mx.mail.example")}
        monkeypatch.setattr(Published, "records", records)

        found = checks.check(domain, now=NOW, resolver=resolver)
        (told,) = [one for one in found.findings if one["part"] == "dkim"]
        assert told["record"] == {"name": name, "type": "TXT", "value": shown.value}
        assert told["level"] == Level.ADVICE
        key.refresh_from_db()
        assert not key.current

        records[name, "TXT"] = TXT([shown.value[:200], shown.value[200:]])
        found = checks.check_all(now=NOW, domains=SenderDomain.objects.all(), resolver=resolver)[0]
        key.refresh_from_db()
        assert (key.current, key.signs_since) == (True, NOW)
        assert "dkim_good" in {one["code"] for one in found.findings}


def test_a_dns_that_never_answers_is_waited_for_no_longer_than_told(
    alpha: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "SECONDS", 0.05)
    silent = dns.asyncresolver.Resolver(configure=False)
    silent.nameservers, silent.port = ["127.0.0.1"], 9
    silent.lifetime = 60
    with context.entered(alpha):
        domain = SenderDomain.objects.create(name="mail.example")
        assert checks.check(domain, now=NOW, resolver=silent).sound is None
