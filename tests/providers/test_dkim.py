"""What is signed verifies by another implementation, as it arrives; a key signs only once its record is seen."""

import base64
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management import call_command
from django.db import connection
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers.accounts.adapters import mime
from providers.accounts.envelope import Envelope
from providers.senders import dkim
from providers.senders.models import DkimKey, SenderDomain
from tenants import context

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HEADERS = {
    "List-Unsubscribe": "<https://a.example/u/1>, <mailto:ann@mail.example?subject=unsubscribe%201>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "List-Id": "<1.a.example>",
    "Reply-To": "Ольга <olga@mail.example>",
}


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def record(public: bytes) -> bytes:
    return b"v=DKIM1; k=rsa; p=" + public


def public_of(key: RSAPrivateKey) -> bytes:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def verifies(mail: bytes, published: bytes) -> bool:
    found: bool = dkimpy.verify(mail, dnsfunc=lambda name, timeout=5: record(published))
    return found


def made(**fields: Any) -> Envelope:
    return Envelope(
        **{
            "key": "k",
            "sender": "ann@mail.example",
            "recipient": "bob@people.example",
            "subject": "Hello",
            "text": "Hi\n",
            "message_id": "<1@mail.example>",
            "headers": HEADERS,
            "date": NOW,
            **fields,
        }
    )


texts = st.text(st.sampled_from("a. \t\nü=-"), max_size=60)


@given(subject=st.text(st.sampled_from("ab =?ü\t"), max_size=50), text=texts, html=st.none() | texts)
@settings(max_examples=80, deadline=None)
@example(subject="", text="", html=None)
@example(subject=" a  b ", text=" \n\n \t \n", html=" x \n\n\n")
@example(subject="Привет " * 30, text="x" * 3000, html="ü" * 3000)
@example(subject="a " * 800, text=".\n..\nFrom here\n", html=None)
def test_every_mail_verifies(key: RSAPrivateKey, subject: str, text: str, html: str | None) -> None:
    mail = mime.as_bytes(made(subject=subject, text=text, html=html))
    above = dkim.signature(mail, "mail.example", "pz1", key)
    assert above == dkim.signature(mail, "mail.example", "pz1", key)
    assert max(map(len, above.split(b"\r\n"))) <= 78 + len("d=mail.example")
    # As a mail server ends it, and with the line ends that one stores.
    whole = above + mail + (b"" if mail.endswith(b"\r\n") else b"\r\n")
    assert verifies(whole, public_of(key))


@given(st.text(st.sampled_from("ab \t\n"), max_size=40))
@settings(max_examples=60, deadline=None)
def test_bodies_and_values_are_relaxed_as_by_another_implementation(text: str) -> None:
    body = text.replace("\n", "\r\n").encode()
    # Over SMTP every line ends.
    assert dkim.relaxed_body(body) == dkimpy.canonicalization.Relaxed.canonicalize_body(body + b"\r\n")
    folded = b"x" + text.replace("\n", "\r\n ").encode() + b"y"
    ((_, expected),) = dkimpy.canonicalization.Relaxed.canonicalize_headers([(b"Subject", folded)])
    assert dkim.relaxed_value(folded) + b"\r\n" == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"One-Click", b"Two-Click"),
        (b"https://a.example/u/1", b"https://b.example/u/1"),
        (b"Hi", b"Ho"),
        (b"To: bob", b"To: rob"),
        (b"From: ann", b"From: eve@evil.example\r\nFrom: ann"),
        (b"List-Id: <1", b"List-Id: <2"),
        (b"Reply-To: ", b"Reply-To: eve, "),
        (b"Date: Tue", b"Date: Wed"),
    ],
)
def test_what_is_changed_on_the_way_no_longer_verifies(key: RSAPrivateKey, old: bytes, new: bytes) -> None:
    mail = mime.as_bytes(made())
    above = dkim.signature(mail, "mail.example", "pz1", key)
    assert old in mail
    assert verifies(above + mail, public_of(key))
    assert not verifies(above + mail.replace(old, new, 1), public_of(key))


@pytest.fixture
def domains(alpha: Any, beta: Any) -> dict[str, SenderDomain]:
    found = {}
    for agency in (alpha, beta):
        with context.entered(agency):
            found[agency.slug] = SenderDomain.objects.create(name="mail.example")
    return found


def test_a_key_signs_from_when_its_record_is_seen_until_the_next(
    alpha: Any, beta: Any, domains: dict[str, SenderDomain]
) -> None:
    mail = mime.as_bytes(made())
    with context.entered(alpha):
        domain = domains["alpha"]
        assert dkim.signer() is None
        first = dkim.make(domain, now=NOW)
        assert dkim.make(domain, now=NOW).pk == first.pk
        assert dkim.signer() is None
        assert not dkim.switch(domain, "another", now=NOW)
        assert dkim.switch(domain, first.selector, now=NOW)
        sign = dkim.signer()
        assert sign is not None
        assert sign("other.example", mail) == mail
        signed = sign("mail.example", mail)
        assert verifies(signed, first.public.encode())
        assert b"s=pz20261124;" in signed

        second = dkim.make(domain, now=NOW)
        assert second.selector == "pz20261124-2"
        sign = dkim.signer()
        assert sign is not None
        assert b"s=pz20261124;" in sign("mail.example", mail)
        assert dkim.switch(domain, second.selector, now=NOW + timedelta(days=1))
        sign = dkim.signer()
        assert sign is not None
        assert verifies(sign("mail.example", mail), second.public.encode())
        first.refresh_from_db()
        assert (first.private, first.current, first.retired_at) == ({}, False, NOW + timedelta(days=1))
    with context.entered(beta):
        # The same domain's name in another agency has no key there.
        assert dkim.signer() is None


def test_the_private_key_is_never_in_clear(alpha: Any, domains: dict[str, SenderDomain]) -> None:
    with context.entered(alpha):
        kept = dkim.make(domains["alpha"], now=NOW)
        secret = kept.private["key"].splitlines()[3]
        with connection.cursor() as cursor:
            cursor.execute("SELECT private FROM senders_dkimkey")
            ((stored,),) = cursor.fetchall()
        assert secret.encode() not in bytes(stored)
        assert DkimKey.objects.get().private == kept.private
        dumped = StringIO()
        call_command("dumpdata", "senders.dkimkey", stdout=dumped)
        assert kept.public in dumped.getvalue()
        assert secret not in dumped.getvalue()
        assert secret not in f"{kept} {kept!r}"
