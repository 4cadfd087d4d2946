"""What readers of the mails see in a real browser, and what comes over the wire that no browser would send."""

import http.client
import json
import re
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest

from campaigns import signups, tokens
from campaigns.models import ConsentEntry, Contact, ContactList, Message, SignUp, Step, Subscription, Suppression
from providers.senders.models import Event
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.browser.conftest import Complaints, Site, sign_in
from tests.campaigns.test_feedback import sent
from tests.campaigns.test_rendering import BOMBS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180, func_only=True)]
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def token(message: Message, purpose: str = tokens.OPT_OUT) -> str:
    """A signed name of the mail, in the agency entered now."""
    return tokens.Signer(context.current_schema(), purpose).of(message.key.bytes)


def test_a_reader_signs_up_chooses_and_leaves(
    committed: dict[str, Agency], site: Site, browser: Any, complaints: Complaints
) -> None:
    alpha, account = committed["alpha"], stage.accounts()["smtp"]
    for agency in committed.values():
        stage.allot(agency, account)
    with context.entered(alpha):
        (message,) = sent(alpha, account)
        contact = Contact.objects.get()
        news = ContactList.objects.create(name="news")
        Subscription.objects.create(contact=contact, list=news)
        sign_up, opt_out = f"/s/{signups.token_of(news)}", f"/u/{token(message)}"

    # Every page fits, in both languages, sizes and shades.
    for width, scheme, language, words in (
        (1440, "light", "en", ("I want mails of “news”", "Which mails should stop?")),
        (390, "dark", "en", ("I want mails of “news”", "Which mails should stop?")),
        (1440, "dark", "ru", ("Хочу получать", "От каких писем отписаться?")),
        (390, "light", "ru", ("Хочу получать", "От каких писем отписаться?")),
    ):
        opened = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale=language, java_script_enabled=True
        )
        page = opened.new_page()
        complaints.listen(page)
        for path, said in zip((sign_up, opt_out), words, strict=True):
            assert page.goto(site.url("alpha", path)).status == 200
            assert said in page.locator("main").inner_text()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", shade)[:3])) < 3 * 80) == (scheme == "dark")
        opened.close()

    # The form of the agency's own site, copied from the portal; nothing of it needs a script.
    page = browser.new_page()
    complaints.listen(page)
    sign_in(page, site, "alpha", "carol@alpha.test")
    page.goto(site.url("alpha", "/contacts/"))
    code = next(one for one in page.locator("textarea.code").all() if sign_up in one.input_value()).input_value()
    page = browser.new_context(java_script_enabled=False).new_page()
    page.set_content(f"<h1>Our shop</h1>{re.sub(r'http://[^/]+', site.url('alpha', '').rstrip('/'), code, count=1)}")
    page.fill("input[name=email]", "zoe@people.example")
    page.locator("form button").click()
    page.get_by_text("Look into your mailbox").wait_for()
    with context.entered(alpha):
        assert not Contact.objects.filter(email="zoe@people.example").exists()
        asked = SignUp.objects.get()
        confirm = tokens.Signer(context.current_schema(), tokens.CONFIRM).of(asked.key.bytes)
    page.goto(site.url("alpha", f"/c/{confirm}"))
    page.get_by_role("button", name="Yes, I want these mails").click()
    page.get_by_text("It is confirmed").wait_for()
    with context.entered(alpha):
        zoe = Subscription.objects.get(contact__email="zoe@people.example")
        assert (zoe.list, zoe.basis, zoe.active) == (news, "consent", True)
        (_asked, confirmed) = ConsentEntry.objects.filter(contact=zoe.contact).order_by("pk")
        assert "Mozilla" in confirmed.user_agent

    # Looking acts on nothing; each button on what it says.
    page.goto(site.url("alpha", opt_out))
    with context.entered(alpha):
        assert not Suppression.objects.exists()
    page.get_by_label("news").uncheck()
    page.get_by_role("button", name="Keep only those that are ticked").click()
    page.get_by_text("Your choice is kept").wait_for()
    page.get_by_role("button", name="All mails of").click()
    page.get_by_text("You will get no more mails").wait_for()
    with context.entered(alpha):
        left = set(Suppression.objects.filter(source="opt_out").values_list("value", "list"))
        assert left == {(contact.email, news.pk), (contact.email, None)}


class Wire:
    """Requests as they are, to the host of an agency."""

    def __init__(self, site: Site, slug: str) -> None:
        self._port, self._host = site.port, f"{slug}.localhost"

    def ask(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> tuple[int, str]:
        """The answer's status and text."""
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        sent = {"Host": self._host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        line.request(method, path, body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body, sent)
        answer = line.getresponse()
        text = answer.read().decode(errors="replace")
        line.close()
        return answer.status, text

    def form(self, path: str, **fields: str) -> tuple[int, str]:
        """The same of a form that is posted."""
        fields = {name.replace("_", "-") if name.startswith("List") else name: value for name, value in fields.items()}
        return self.ask("POST", path, urlencode(fields), Content_Type="application/x-www-form-urlencoded")

    def raw(self, content: bytes) -> bytes:
        """Whatever comes back for these bytes."""
        back = b""
        # Who sends too much is answered and hung up on.
        with socket.create_connection(("127.0.0.1", self._port), 60) as line, suppress(OSError):
            line.sendall(content)
            line.shutdown(socket.SHUT_WR)
            while piece := line.recv(65536):
                back += piece
        return back


def test_bad_input_over_the_wire_is_refused_with_words_and_nothing_half_done(
    committed: dict[str, Agency], site: Site
) -> None:
    account = stage.accounts()["smtp"]
    made = {}
    for slug, agency in committed.items():
        stage.allot(agency, account)
        with context.entered(agency):
            (message,) = sent(agency, account)
            made[slug] = (message, token(message), keys.issue(User.objects.get(), "program"))
    (message, way_out, key), (_theirs, theirs, their_key) = made["alpha"], made["beta"]
    with context.entered(committed["alpha"]):
        draft = stage.campaign(message.campaign.list)
        contact = Contact.objects.get()
        pixel, sign_up = token(message, tokens.OPEN), f"/s/{signups.token_of(draft.list)}"
        steps = list(Step.objects.order_by("pk").values())
    wire = Wire(site, "alpha")
    path, person = f"/api/v1/campaigns/{draft.pk}/steps/", f"/api/v1/contacts/{contact.pk}/"

    def said(method: str, where: str, content: Any, secret: str = key) -> tuple[int, dict[str, Any]]:
        written = content if isinstance(content, str) else json.dumps(content)
        status, text = wire.ask(
            method, where, written, Authorization=f"Bearer {secret}", Content_Type="application/json"
        )
        return status, json.loads(text)

    # Texts: bombs, what is not offered, scripts, and far too long ones.
    for bomb in (
        *BOMBS.values(),
        "{{ first_name | shout }}",
        "{% endif %}",
        "<p>Hi</p><script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        '<a href="java&#x0a;script:alert(1)">x</a>',
        "<p>" + "x" * 4_900_000,
    ):
        status, answer = said("PUT", path, {"steps": [{"subject": "Hi", "html": bomb}]})
        if status != 200:
            assert status == 400, bomb[:80]
            assert answer["error"]["message"]
        else:
            # Only filled in is it too much: then the check before the launch says so.
            _status, findings = said("GET", f"/api/v1/campaigns/{draft.pk}/inspection/", "")
            assert any(one["refused"] for one in findings), bomb[:80]
            with context.entered(committed["alpha"]):
                Step.objects.filter(campaign=draft).update(html=steps[-1]["html"], subject=steps[-1]["subject"])

    # Numbers, and what no JSON is.
    for number in ("1e999999", "9" * 5000, "-1", "NaN", '"1e999999"', "[]", "[" * 50_000):
        status, answer = said("PUT", path, f'{{"steps": [{{"subject": "Hi", "html": "<p>x</p>", "delay": {number}}}]}}')
        assert (status, bool(answer["error"]["message"])) == (400, True), number[:20]

    # Names that a person may have stay what they are; those that would be a header or a formula are refused.
    for name in ('Ann "the" O’Brien', "👩‍👩‍👧", "שרה", "李小龍"):
        status, answer = said("PATCH", person, {"first_name": name})
        assert (status, answer["first_name"]) == (200, name)
    for name in ("Ann\r\nBcc: eve@people.example", "=HYPERLINK(1)", "a\0b", "\ud800", "x" * 300):
        assert said("PATCH", person, {"first_name": name})[0] == 400
    assert said("GET", person, "")[1]["first_name"] == "李小龍"

    # Links: forged, cut, another agency's, another purpose's, another mail's key; then a real one, again and again.
    forged = ("A" if way_out[0] != "A" else "B") + way_out[1:]
    for bad in (forged, way_out[:-1], way_out + "A", theirs, pixel, "A" * 40, "%00" * 40, "../" * 20):
        for method in ("GET", "POST"):
            form = {"Content_Type": "application/x-www-form-urlencoded"}
            assert wire.ask(method, f"/u/{bad}", urlencode(ONE_CLICK), **form)[0] == 404, bad
        # Whoever follows one sees no other page, and no other mail's picture.
        assert wire.ask("GET", f"/t/{bad}")[0] == 404
    assert said("GET", person, "", their_key)[0] == 401
    for fields in ({}, {"List_Unsubscribe": "No"}, {"List_Unsubscribe": "One-Click", "scope": "evil"}):
        assert wire.form(f"/u/{way_out}", **fields)[0] == 400
    with context.entered(committed["alpha"]):
        assert not Suppression.objects.exists()
        assert not Event.objects.exists()
    for _again in range(3):
        assert wire.form(f"/u/{way_out}", List_Unsubscribe="One-Click")[0] == 200
    for agency, count in zip(committed.values(), (1, 0), strict=True):
        with context.entered(agency):
            assert Suppression.objects.count() == count
            assert Event.objects.count() == count

    # A sign-up with anything in it, and requests that are none.
    for written in ("", "zoe", "zoe@people.example\r\nBcc: eve@people.example", "a\0b@people.example", "x" * 100_000):
        assert wire.form(sign_up, email=written)[0] == 400
    assert wire.form(sign_up, email="zoe@people.example", website="spam")[0] == 200
    head = f"POST {sign_up} HTTP/1.1\r\nHost: alpha.localhost\r\n".encode()
    for rest in (
        b"Content-Length: 1000\r\n\r\nemail=zoe",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"Content-Length: 6000000\r\n\r\nemail=" + b"x" * 5_999_994,
    ):
        assert b" 500 " not in wire.raw(head + rest)[:20]
    assert wire.raw(b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")[9:12] in {b"400", b"404"}
    with context.entered(committed["alpha"]):
        assert not SignUp.objects.exists()
        assert list(Step.objects.order_by("pk").values("subject", "html", "text")) == [
            {name: step[name] for name in ("subject", "html", "text")} for step in steps
        ]
    assert wire.ask("GET", sign_up)[0] == 200
