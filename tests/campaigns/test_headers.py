"""The headers of a trusted sender, as they arrive."""

import email
import email.message
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr

import dkim as dkimpy
import pytest
from django.conf import settings as configured
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from campaigns import dispatch, launch
from campaigns.envelopes import Envelopes
from campaigns.lifecycle import Claimed
from campaigns.models import Contact, Message
from campaigns.rendering import NotRenderedError
from providers.accounts.adapters import mime
from providers.accounts.errors import MessageRefused
from providers.accounts.models import Account, Allotment
from providers.sandbox.service import Sandbox
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

NAMES = ['Ann "the" O\'Brien, Dr.', "Жанна Дарк", "👩‍👩‍👧 Ünï", "שרה סארה", "李小龍 " * 12]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def smtp(alpha: Agency, beta: Agency, sandbox: Sandbox) -> Account:
    found = stage.accounts(sandbox)["smtp"]
    stage.allot(alpha, found)
    return found


def sent(alpha: Agency, smtp: Account, sandbox: Sandbox, **fields: str) -> list[tuple[str, EmailMessage, Message]]:
    """What arrived for five contacts with such names, as it came and as it is read, with its row."""
    with context.entered(alpha):
        people = stage.contact_list("h", len(NAMES))
        for person, name in zip(Contact.objects.order_by("pk"), NAMES, strict=True):
            first, _, last = name.partition(" ")
            Contact.objects.filter(pk=person.pk).update(
                first_name=first, last_name=last.strip(), email=f"h{person.pk}@bücher.example"
            )
        Sender.objects.update(name="Ольга из Polza")
        campaign = stage.campaign(people, **{"traffic_class": "bulk", **fields})
        campaign.steps.update(subject="Привет, {{ first_name }} — " + "очень длинная тема " * 8)
        launch.launch(campaign, now=NOON)
        dispatch.drain(smtp.pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))
        rows = {str(one.key): one for one in Message.objects.select_related("sender", "contact", "campaign")}
    found = []
    for mail in sandbox.messages():
        read = email.message_from_string(mail["content"], policy=email.policy.default)
        assert isinstance(read, EmailMessage)
        found.append((mail["content"], read, rows[read["Message-ID"][1:].partition("@")[0]]))
    assert len(found) == len(NAMES)
    return found


def test_they_are_those_of_a_trusted_sender(alpha: Agency, smtp: Account, sandbox: Sandbox) -> None:
    for raw, read, row in sent(alpha, smtp, sandbox, html="<p>{{ first_name }}</p>" + "ü" * 3000 + "x" * 3000):
        assert row.sender is not None
        # RFC 5322 section 2.1.1.
        assert max(len(line.encode()) for line in raw.splitlines()) <= 998
        head = raw.replace("\r\n", "\n").partition("\n\n")[0]
        assert head.isascii()
        assert read["Message-ID"] == f"<{row.key}@{row.sender.address.rpartition('@')[2]}>"
        name = f"{row.contact.first_name} {row.contact.last_name}".strip()
        # Not by `addresses`, which puts spaces between the encoded words of a phrase (RFC 2047 section 6.2 forbids it).
        shown, address = parseaddr(" ".join(email.message_from_string(raw)["To"].split()))
        assert str(make_header(decode_header(shown))) == name
        assert address == f"h{row.contact_id}@xn--bcher-kva.example"
        (sender,) = read["From"].addresses
        assert (sender.display_name, sender.addr_spec) == ("Ольга из Polza", row.sender.address)
        assert read["Subject"].startswith(f"Привет, {row.contact.first_name} — очень длинная")
        assert read["List-Id"] == f"<l{row.campaign.list_id}.alpha.localhost>"
        assert read["Feedback-ID"] == f"c{row.campaign_id}:alpha:bulk:polza"
        assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        # RFC 3834 section 5: a mail that a person wrote to many is not an automatic answer.
        assert "Auto-Submitted" not in read
        assert "Precedence" not in read
        assert configured.SECRET_KEY not in raw


def test_an_emoji_a_quote_or_a_comma_in_a_name_makes_no_second_recipient(
    alpha: Agency, smtp: Account, sandbox: Sandbox
) -> None:
    for _raw, read, _row in sent(alpha, smtp, sandbox):
        assert len(read["To"].addresses) == 1
        assert read["Cc"] is None
        assert read["Bcc"] is None


def test_a_signature_covers_the_way_out(alpha: Agency, smtp: Account, sandbox: Sandbox) -> None:
    with context.entered(alpha):
        records = stage.signing()
    for raw, read, _row in sent(alpha, smtp, sandbox):
        assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        named = "".join(read["DKIM-Signature"].partition("h=")[2].partition(";")[0].split()).split(":")
        assert {"list-unsubscribe", "list-unsubscribe-post", "from", "to", "subject", "date"} <= set(named)
        assert named.count("from") == 2
        assert dkimpy.verify(raw.encode(), dnsfunc=lambda name, timeout=5: records[name.decode()])


def test_without_a_key_mails_leave_unsigned(alpha: Agency, smtp: Account, sandbox: Sandbox) -> None:
    assert not any("DKIM-Signature" in read for _raw, read, _row in sent(alpha, smtp, sandbox))


HEADERS = sorted(
    [
        "Content-Type",
        "Date",
        "Feedback-ID",
        "From",
        "List-Id",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
    ]
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=90)
ODD = [
    "Ann",
    '"',
    "<eve@evil.example>",
    ",",
    "\r\nBcc: eve@evil.example",
    "李",
    "👩‍👩‍👧",
    "\u202e",
    "=?",
    "{{",
    "x" * 80,
]
NAME = st.one_of(WORDS, st.lists(st.sampled_from(ODD), max_size=6).map(" ".join))


@pytest.fixture
def rendered(alpha: Agency, smtp: Account) -> Iterator[tuple[Envelopes, Claimed]]:
    """A mail in a worker's hands, and what makes its envelope."""
    with context.entered(alpha):
        html = "<p>{{ company }}, {hello|hi} {{ first_name }} {{ last_name }}</p><a href='https://shop.example/'>x</a>"
        html += "y" * 1200
        campaign = stage.campaign(stage.contact_list("h", 1), html=html)
        campaign.steps.update(subject="{{ first_name }} {{ company }}: a look at {{ last_name }}")
        launch.launch(campaign, now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=smtp)
        claimed = dispatch.claim_batch(alpha, allotment, now=NOON, limit=1)
        envelopes = Envelopes(alpha)
        envelopes.prepare(claimed)
        yield envelopes, claimed[0]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=NAME, last=NAME, company=NAME, sender=NAME, home=st.sampled_from(["alpha.test", "почта.рф", "bücher.example"])
)
def test_whatever_names_a_mail_holds_its_headers_are_these_and_no_line_is_too_long(
    rendered: tuple[Envelopes, Claimed], first: str, last: str, company: str, sender: str, home: str
) -> None:
    envelopes, claimed = rendered
    contact = {**claimed.contact, "first_name": first, "last_name": last, "company": company}
    message = replace(claimed, contact=contact, sender_name=sender, sender_address=f"ann@{home}")
    try:
        envelope = envelopes.of(message)
        raw = mime.as_bytes(envelope)
    except (NotRenderedError, MessageRefused):
        assume(False)
    head = raw.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    # RFC 5322 section 2.1.1, and 2.3: a line break is both of its letters.
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    read = email.message_from_bytes(raw)
    assert sorted(read.keys()) == HEADERS
    assert read["Message-ID"] == f"<{message.key}@{mime.ascii_domain(home)}>"
    for field, name, address in (
        ("To", f"{first} {last}".strip(), contact["email"]),
        ("From", sender, f"ann@{mime.ascii_domain(home)}"),
    ):
        shown, found = parseaddr(" ".join(read[field].split()))
        assert found == address
        assert str(make_header(decode_header(shown))).split() == name.split()
    assert str(make_header(decode_header(read["Subject"]))).split() == envelope.subject.split()
    for part, wanted in zip(read.get_payload(), (envelope.text, envelope.html), strict=True):
        assert isinstance(part, email.message.Message)
        written = part.get_payload(decode=True)
        assert isinstance(written, bytes)
        assert written.decode().splitlines() == (wanted or "").splitlines()
    # The same once more, as a retry makes it.
    again = envelopes.of(message)
    assert (again.subject, again.text, again.html, dict(again.headers), again.message_id) == (
        envelope.subject,
        envelope.text,
        envelope.html,
        dict(envelope.headers),
        envelope.message_id,
    )
