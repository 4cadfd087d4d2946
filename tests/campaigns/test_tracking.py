"""Opens and links: what is answered is durable, no link leads where no mail said, machines are told apart."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from campaigns import feedback, launch, links, tokens, tracking, verdicts
from campaigns.models import Contact, Link, Message, MessageFacts
from providers.accounts.events import EventType, Reader
from providers.sandbox.service import Sandbox
from providers.senders.models import Event
from tenants import context
from tenants.models import Agency, Domain
from tests import processes, stage, visitor
from tests.browser.conftest import _wait_for
from tests.campaigns.test_dispatch import drain_all
from tests.campaigns.test_feedback import sent
from tests.stage import NOON

PERSON = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)
HTML = (
    '<html><body><p>Hello {{ first_name }}</p><a href="https://shop.example/a?x=1&amp;y=2">A</a>'
    "<a class=x href='https://shop.example/b/{{ city | url_encode }}'>B</a>"
    '<a href="mailto:anna@shop.example">write</a></BODY></html>'
)


@dataclass
class Asked:
    """An answer of the front."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def front(committed: dict[str, Agency]) -> Iterator[tracking.Front]:
    def nothing_else(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("418 I'm a teapot", [])
        return [b""]

    made = tracking.Front(nothing_else)
    yield made
    made.close()


@pytest.fixture
def mails(committed: dict[str, Agency]) -> Iterator[list[Message]]:
    """Three mails of Alpha's that left an hour ago."""
    alpha = committed["alpha"]
    account = stage.accounts()["smtp"]
    stage.allot(alpha, account)
    with context.entered(alpha):
        found = sent(alpha, account, 3)
        Message.objects.update(sent_at=timezone.now() - timedelta(hours=1))
        yield found


def ask(
    front: tracking.Front, path: str, *, host: str = "alpha.localhost:8000", method: str = "GET", **headers: str
) -> Asked:
    found: dict[str, Any] = {}

    def start(status: str, given: list[tuple[str, str]]) -> None:
        found.update(status=int(status[:3]), headers={name.lower(): value for name, value in given})

    named = {f"HTTP_{name.upper()}": value for name, value in ({"user_agent": PERSON} | headers).items()}
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": host, **named}
    before = connection.tenant
    try:
        body = b"".join(front(environ, start))
    finally:
        connection.set_tenant(before)
    return Asked(found["status"], found["headers"], body)


def pixel(message: Message, schema: str = "a_alpha") -> str:
    return f"/t/{tokens.Signer(schema, tokens.OPEN).of(message.key.bytes)}.gif"


def click(message: Message, link: Link, schema: str = "a_alpha") -> str:
    return f"/t/{tokens.Signer(schema, tokens.CLICK).of_link(message.key.bytes, link.pk)}"


def link(message: Message, url: str) -> Link:
    return Link.objects.create(step=message.step, url=url)


def acted() -> None:
    """What the recorder would do a moment later."""
    feedback.look_again(now=timezone.now())


class TestLinks:
    def test_those_to_the_web_are_found_and_nothing_else(self) -> None:
        hrefs = [href.url for href in links.find(HTML)]
        assert hrefs == ["https://shop.example/a?x=1&y=2", "https://shop.example/b/{{ city | url_encode }}"]
        replaced = links.replace(HTML, links.find(HTML), {hrefs[0]: 7, hrefs[1]: 8})
        assert '<a href="{{ polza_link_7 }}">A</a><a class=x href="{{ polza_link_8 }}">B</a>' in replaced
        assert "mailto:anna@shop.example" in replaced

    @pytest.mark.parametrize(
        "html",
        [
            '<a href="{{ website }}">x</a>',
            '<a href="{{ unsubscribe_url }}">x</a>',
            '<a href="https://shop.example/?leave={{ unsubscribe_url }}">x</a>',
            '{% assign a = "x" %}<a href="https://shop.example/{{ a }}">x</a>',
            '<a href="https://shop.example/{% if a %}b{% endif %}">x</a>',
            '<a href="ftp://shop.example/">x</a><a name="b" data-href="https://shop.example/">y</a><abbr href="https://a.example">',
            "{{ '<a href=\"https://shop.example/\">' }}",
            '<a href="javascript:alert(1)">x</a><a href="#top">y</a><a href>z</a><a href="https://a.example',
        ],
    )
    def test_what_is_not_known_when_it_is_followed_is_left_alone(self, html: str) -> None:
        assert links.find(html) == []

    @pytest.mark.parametrize(
        "piece", ["<a ", '<a "', "<a href=", "<a href='", '<a x="y" ', "\ue0000\ue001<a href=https://"]
    )
    def test_a_broken_text_takes_no_time(self, piece: str) -> None:
        links.find(piece * (200_000 // len(piece)))

    def test_a_campaign_that_switches_it_off_has_neither(self, alpha: Agency, beta: Agency, db: None) -> None:
        with Sandbox() as sandbox:
            accounts = stage.accounts(sandbox)
            stage.allot(alpha, accounts["smtp"])
            with context.entered(alpha):
                both = stage.campaign(stage.contact_list("a", 1), html=HTML)
                none = stage.campaign(stage.contact_list("b", 1), html=HTML, track_opens=False, track_clicks=False)
                for one in (both, none):
                    launch.launch(one, now=NOON)
                drain_all({"smtp": accounts["smtp"]})
                count = Link.objects.filter(step__campaign=both).count()
                assert (count, Link.objects.count()) == (2, 2)
            (tracked,) = sandbox.messages("a0@people.example")
            (plain,) = sandbox.messages("b0@people.example")
        assert tracked["content"].count("http://alpha.localhost:8000/t/") == 3
        assert ".gif" in tracked["content"]
        assert "/t/" not in plain["content"]
        assert "https://shop.example/b/Riga" in plain["content"]


class TestClicks:
    def test_it_leads_where_the_mail_said_and_is_recorded(self, front: tracking.Front, mails: list[Message]) -> None:
        answer = ask(front, click(mails[0], link(mails[0], "https://shop.example/a?x=1&y=ü")))
        assert answer.status == 302
        assert answer.headers["location"] == "https://shop.example/a?x=1&y=%C3%BC"
        assert "no-store" in answer.headers["cache-control"]
        event = Event.objects.get()
        assert (event.message, event.type, event.reader) == (mails[0].key, "clicked", "human")
        acted()
        facts = MessageFacts.objects.get()
        assert (facts.message_id, facts.clicked_by, facts.opened_by) == (mails[0].pk, "human", "")

    def test_words_of_the_contact_are_filled_in(self, front: tracking.Front, mails: list[Message]) -> None:
        Contact.objects.filter(pk=mails[0].contact_id).update(attributes={"city": "Riga\r\nX: y & co"})
        place = click(mails[0], link(mails[0], "https://shop.example/{{ city | url_encode }}?{{ first_name }}"))
        answer = ask(front, place)
        assert answer.headers["location"] == "https://shop.example/Riga%0D%0AX%3A+y+%26+co?N0"
        missing = ask(front, click(mails[0], link(mails[0], "https://shop.example/{{ no_such }}")))
        assert missing.status == 404

    def test_no_other_token_leads_anywhere(
        self, front: tracking.Front, mails: list[Message], committed: dict[str, Agency]
    ) -> None:
        mine = link(mails[0], "https://shop.example/")
        good = click(mails[0], mine)
        other = mine.pk + 1
        tampered = [
            good[:-1] + ("A" if good[-1] != "A" else "B"),
            good[:-4],
            good + "AAAA",
            good + ".gif",
            good + "/https://evil.example",
            "/t/https://evil.example/",
            "/t/",
            click(mails[0], mine, "a_beta"),
            f"/t/{tokens.Signer('a_alpha', tokens.CLICK).of_link(mails[0].key.bytes, other)}",
            pixel(mails[0]).removesuffix(".gif"),
        ]
        for path in tampered:
            answer = ask(front, path)
            assert (answer.status, "location" in answer.headers) == (404, False), path
        for host in ("beta.localhost", "localhost", "nobody.example", ""):
            assert ask(front, good, host=host).status == 404
        assert ask(front, good, method="POST").status == 405
        assert not Event.objects.exists()
        assert ask(front, "/campaigns/").status == 418, "the rest is not ours"

    def test_a_person_gets_there_when_nothing_can_be_written(
        self, front: tracking.Front, mails: list[Message], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> list[int]:
            raise RuntimeError("no database")

        path = click(mails[0], link(mails[0], "https://shop.example/"))
        monkeypatch.setattr(feedback, "keep", broken)
        assert ask(front, path).headers["location"] == "https://shop.example/"
        assert ask(front, pixel(mails[0])).status == 503


class TestOpens:
    def test_a_pixel_is_a_picture_and_one_event_a_minute(self, front: tracking.Front, mails: list[Message]) -> None:
        for _ in range(5):
            answer = ask(front, pixel(mails[0]))
            assert (answer.status, answer.body[:6]) == (200, b"GIF89a")
        assert Event.objects.count() <= 2, "two when a minute ends meanwhile"
        acted()
        assert MessageFacts.objects.get().opened_by == "human"

    @pytest.mark.parametrize(
        ("asked", "reader"),
        [
            ({}, "human"),
            ({"user_agent": "Mozilla/5.0"}, "machine"),
            ({"user_agent": ""}, "machine"),
            (
                {"user_agent": "Mozilla/5.0 (Windows NT 5.1) Firefox/11.0 (via ggpht.com GoogleImageProxy)"},
                "human",
            ),
            ({"user_agent": "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}, "human"),
            ({"user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}, "machine"),
            ({"user_agent": "Barracuda Sentinel (EE)"}, "machine"),
            ({"user_agent": "python-requests/2.32"}, "machine"),
            ({"user_agent": "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0)"}, "unclear"),
            ({"user_agent": "SomethingNew/1.0"}, "unclear"),
            ({"user_agent": "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.5; Pro)"}, "human"),
            ({"method": "HEAD"}, "machine"),
            ({"sec_purpose": "prefetch;prerender"}, "machine"),
        ],
    )
    def test_who_asks_is_told_by_what_it_says(
        self, front: tracking.Front, mails: list[Message], asked: dict[str, str], reader: str
    ) -> None:
        assert ask(front, pixel(mails[0]), **asked).status == 200
        acted()
        assert Event.objects.get().reader == reader
        assert MessageFacts.objects.get().opened_by == reader

    def test_apples_proxy_is_a_machine_for_pictures_alone(self) -> None:
        assert verdicts.judge(EventType.CLICKED, "GET", {"user-agent": "Mozilla/5.0"}) == Reader.HUMAN


class TestTime:
    @pytest.mark.parametrize(
        ("seconds", "opened", "clicked"), [(1, "machine", "machine"), (7, "unclear", "unclear"), (20, "human", "human")]
    )
    def test_haste_is_judged_by_when_the_mail_left(
        self, front: tracking.Front, mails: list[Message], seconds: int, opened: str, clicked: str
    ) -> None:
        ask(front, pixel(mails[0]))
        ask(front, click(mails[0], link(mails[0], "https://shop.example/")))
        left = Event.objects.earliest("at").at - timedelta(seconds=seconds)
        Message.objects.filter(pk=mails[0].pk).update(sent_at=left)
        acted()
        facts = MessageFacts.objects.get()
        assert (facts.opened_by, facts.clicked_by) == (opened, clicked)

    def test_all_links_at_once_were_followed_by_a_program(self, front: tracking.Front, mails: list[Message]) -> None:
        for number in range(2):
            ask(front, click(mails[0], link(mails[0], f"https://shop.example/{number}")))
        ask(front, click(mails[1], link(mails[1], "https://shop.example/")))
        acted()
        found = dict(MessageFacts.objects.values_list("message_id", "clicked_by"))
        assert found == {mails[0].pk: "machine", mails[1].pk: "human"}

    def test_a_person_who_comes_after_the_scanner_is_seen(self, front: tracking.Front, mails: list[Message]) -> None:
        ask(front, pixel(mails[0]), user_agent="curl/8")
        acted()
        assert MessageFacts.objects.get().opened_by == "machine"
        ask(front, pixel(mails[0]))
        acted()
        assert MessageFacts.objects.get().opened_by == "human"


class TestItsOwnHost:
    def test_links_lead_there_and_nothing_else_answers(self, alpha: Agency) -> None:
        Domain.objects.create(domain="click.alpha.test", tenant=alpha, is_primary=False, tracks=True)
        assert alpha.addresses() == ("http://alpha.localhost:8000/", "http://click.alpha.test:8000/")
        browser = visitor.Visitor("click.alpha.localhost")
        Domain.objects.create(domain="click.alpha.localhost", tenant=alpha, is_primary=False, tracks=True)
        assert browser.get("/accounts/login/").status_code == 404
        assert visitor.Visitor("alpha.localhost").get("/accounts/login/").status_code == 200


@pytest.mark.cluster
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_was_answered_is_there_however_the_server_ends(
    committed: dict[str, Agency], end: signal.Signals
) -> None:
    """A real gunicorn, ended in the middle of a storm."""
    alpha = committed["alpha"]
    account = stage.accounts()["smtp"]
    stage.allot(alpha, account, senders=40)
    with context.entered(alpha):
        paths = [pixel(message) for message in sent(alpha, account, 400)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "outreach.wsgi", "--preload", "--bind", f"127.0.0.1:{port}"),
            *("--worker-class", "gthread", "--workers", "2", "--threads", "8", "--log-level", "error"),
        ],
        cwd=processes.ROOT,
        env=processes.environment(POLZA_ROLE="web"),
        start_new_session=True,
    )
    answered: list[str] = []
    enough = threading.Event()

    def visit(mine: list[str]) -> None:
        for path in mine:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": "alpha.localhost"})
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    if answer.status == 200:
                        answered.append(path)
            except OSError:
                return
            if len(answered) >= 60:
                enough.set()

    try:
        _wait_for(port)
        visitors = [threading.Thread(target=visit, args=(paths[number::16],)) for number in range(16)]
        for one in visitors:
            one.start()
        assert enough.wait(60)
        if end == signal.SIGKILL:
            os.killpg(server.pid, signal.SIGKILL)
        else:
            server.terminate()
        for one in visitors:
            one.join(60)
    finally:
        server.terminate()
        server.wait(60)
    with context.entered(alpha):
        kept = {
            f"/t/{tokens.Signer('a_alpha', tokens.OPEN).of(key.bytes)}.gif"
            for key in Event.objects.values_list("message", flat=True)
        }
    assert len(answered) >= 60
    assert set(answered) <= kept
