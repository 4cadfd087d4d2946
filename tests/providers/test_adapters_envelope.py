import email
import email.policy
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.accounts.adapters import mime
from providers.accounts.envelope import Envelope
from providers.accounts.errors import MessageRefused

Make = Callable[..., Envelope]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"recipient": "a@b.test,c@d.test"}, "recipient"),
        ({"recipient": "a@b.test c@d.test"}, "recipient"),
        ({"recipient": "Carol <a@b.test>"}, "recipient"),
        ({"recipient": "a@b.test\r\nBcc: c@d.test"}, "recipient"),
        ({"recipient": "a@b.test\n"}, "recipient"),
        ({"recipient": '"a,b"@c.test'}, "recipient"),
        ({"recipient": ""}, "recipient"),
        ({"recipient": "a"}, "recipient"),
        ({"recipient": f"{'a' * 65}@b.test"}, "recipient"),
        ({"sender": "a@b.test>\r\nRCPT TO:<c@d.test"}, "sender"),
        ({"envelope_sender": "a@b.test> SIZE=1"}, "envelope_sender"),
        ({"subject": "Hi\r\nBcc: evil@example.com"}, "subject"),
        ({"subject": "Hi\nthere"}, "subject"),
        ({"subject": "Hi\0"}, "subject"),
        ({"subject": "\ud800"}, "subject"),
        ({"subject": "x" * 901}, "subject"),
        ({"sender_name": "Anna\r\nX: y"}, "sender_name"),
        ({"recipient_name": "Carol\nX: y"}, "recipient_name"),
        ({"headers": {"X-A: b\r\nBcc": "evil"}}, "header 'X-A: b\\r\\nBcc'"),
        ({"headers": {"X-A": "b\r\nBcc: evil"}}, "header X-A"),
        ({"headers": {"X A": "b"}}, "header 'X A'"),
        ({"headers": {"": "b"}}, "header ''"),
        ({"headers": {"X" * 65: "b"}}, f"header '{'X' * 40}'"),
        ({"headers": {"bCC": "evil@example.com"}}, "header bCC"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "header x-a"),
        ({"metadata": {"a": "b\n"}}, "metadata 'a'"),
        ({"text": "a\0b"}, "text"),
        ({"html": "\udfff"}, "html"),
        ({"message_id": "no"}, "message_id"),
        ({"message_id": "<a@b>\r\nX: y"}, "message_id"),
        ({"key": ""}, "key"),
        ({"key": "k" * 257}, "key"),
        ({"key": "k\r\nX: y"}, "key"),
    ],
)
def test_an_envelope_that_could_be_misread_is_refused(envelope: Make, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageRefused) as caught:
        envelope(**changes)
    assert caught.value.field == field
    assert caught.value.detail.startswith(field)


def read(envelope: Envelope) -> EmailMessage:
    raw = mime.as_bytes(envelope)
    assert b"\0" not in raw
    assert raw.replace(b"\r\n", b"").count(b"\n") == raw.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    return message


def test_the_bytes_say_what_the_envelope_says(envelope: Make) -> None:
    message = read(envelope())
    assert message["From"].addresses[0].display_name == "Anna Schmidt"
    assert message["From"].addresses[0].addr_spec == "anna@mail.alpha.test"
    assert message["To"].addresses[0].addr_spec == "carol1@example.com"
    assert message["Subject"] == "A question about your shop"
    assert message["Message-ID"] == "<1@mail.alpha.test>"
    assert message["Date"].datetime == datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    assert message["Reply-To"] == "anna@alpha.test"
    assert message.get_content_type() == "multipart/alternative"
    plain, html = message.iter_parts()
    assert plain.get_content() == "Hello Carol,\r\nhow are you?\r\n"
    assert html.get_content_type() == "text/html"
    assert html.get_content().rstrip() == "<p>Hello Carol,<br>how are you?</p>"
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"):
        assert len(message.get_all(name)) == 1


def test_a_mail_without_html_has_one_part(envelope: Make) -> None:
    message = read(envelope(html=None))
    assert message.get_content_type() == "text/plain"
    assert message.get_content() == "Hello Carol,\r\nhow are you?\r\n"


def test_the_same_envelope_makes_the_same_bytes(envelope: Make) -> None:
    mail = envelope()
    turned = envelope(headers=dict(reversed(mail.headers.items())))
    assert mime.as_bytes(mail) == mime.as_bytes(turned)


def test_an_international_domain_travels_in_ascii(envelope: Make) -> None:
    assert read(envelope(recipient="info@почта.рф"))["To"].addresses[0].domain == "xn--80a1acny.xn--p1ai"


def test_what_looks_like_an_encoded_word_stays_as_it_is(envelope: Make) -> None:
    assert read(envelope(subject="=?utf-8?q?hidden?="))["Subject"] == "=?utf-8?q?hidden?="


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\u2028\u2029"), max_size=400
)
BODY = st.text(st.one_of(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), st.sampled_from("\n. =\t")))


@settings(max_examples=150, deadline=None)
@given(subject=TEXT, name=TEXT, body=BODY, html=BODY)
def test_any_text_comes_out_as_it_went_in(subject: str, name: str, body: str, html: str) -> None:
    if any(len(word) > 900 for word in f"{subject} {name}".split(" ")):
        return
    message = read(
        Envelope(
            key="k",
            sender="a@alpha.test",
            sender_name=name,
            recipient="c@example.com",
            subject=subject,
            text=body,
            html=html,
            message_id="<1@alpha.test>",
            headers={"X-Note": subject},
            date=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )
    raw = email.message_from_bytes(message.as_bytes())
    assert str(email.header.make_header(email.header.decode_header(raw["Subject"]))).split() == subject.split()
    assert str(email.header.make_header(email.header.decode_header(raw["X-Note"]))).split() == subject.split()
    assert message["To"].addresses[0].addr_spec == "c@example.com"
    assert message["From"].addresses[0].addr_spec == "a@alpha.test"
    plain, rich = message.iter_parts()
    assert plain.get_payload(decode=True).decode().replace("\r\n", "\n") == body
    assert rich.get_payload(decode=True).decode().replace("\r\n", "\n") == html
