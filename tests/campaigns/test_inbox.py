"""The portal's inbox, and replies as they came: what is shown of them, and what never is."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from campaigns import originals, replies
from campaigns.models import Message, Reply, Suppression, TrialMail
from providers.accounts import inbox
from providers.accounts.models import Account, InboundMail
from providers.senders.inbound.verdict import classify
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests.campaigns.test_feedback import sent
from tests.providers.inbound_mails import mail
from tests.stage import NOON
from tests.visitor import Visitor, body

LATER = NOON + timedelta(hours=1)
EVIL = (
    '<html><head><base href="https://evil.test/"><meta http-equiv="refresh" content="0;url=https://evil.test/">'
    '<link rel="stylesheet" href="https://evil.test/a.css"><style>@import url(https://evil.test/b.css);'
    "p{background:url(https://evil.test/c.png)}</style><script>alert(1)</script></head>"
    '<body background="https://evil.test/d.png" onload="alert(2)"><p onclick="alert(3)" style="color:red;'
    'background-color:url(https://evil.test/e.png)">Hello <b style="font-weight:bold">Anna</b></p>'
    '<svg onload="alert(4)"><image href="https://evil.test/f.png"/></svg>'
    '<math><mi xlink:href="javascript:x">x</mi></math>'
    '<form action="https://evil.test/"><input name="password"><button>Go</button></form>'
    '<iframe src="https://evil.test/"></iframe><object data="https://evil.test/g"></object><embed src="https://evil.test/">'
    '<video src="https://evil.test/h" poster="https://evil.test/i"></video><a href="javascript:alert(5)">one</a>'
    '<a href="data:text/html,x">two</a><a href="https://fine.test/" ping="https://evil.test/">three</a>'
    '<img src="https://pixel.test/p.gif" srcset="https://evil.test/q.gif" onerror="alert(6)" alt="logo">'
    '<img src="cid:own"><img src="data:image/svg+xml,x"></body></html>'
)
PIXEL = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def raw(key: str = "7c3e1f") -> bytes:
    """A reply of text, HTML, a picture of its own and two attachments."""
    return mail(
        "--=_b\r\nContent-Type: text/plain\r\n\r\nTell me more, please.\r\n"
        f"--=_b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{EVIL}\r\n"
        f"--=_b\r\nContent-Type: image/gif\r\nContent-ID: <own>\r\nContent-Transfer-Encoding: base64\r\n\r\n{PIXEL}\r\n"
        '--=_b\r\nContent-Type: text/html; name="page.html"\r\n'
        'Content-Disposition: attachment; filename="../pa\u202ege.html"\r\n'
        "\r\n\r\n<script>alert(7)</script>\r\n"
        "--=_b--\r\n",
        sender="Max <max@client.test>",
        subject="Re: Your autumn fair",
        headers=f"In-Reply-To: <{key}@sender.test>\r\nReferences: <{key}@sender.test>\r\n",
        kind='multipart/mixed; boundary="=_b"',
    )


@pytest.fixture
def reply(alpha: Agency, beta: Agency, account: Account) -> Iterator[Reply]:
    """Alpha's, with the mail as it came; Beta has one of its own."""
    with context.entered(beta):
        answered(sent(beta, account)[0], "Beta's own secret question?")
    with context.entered(alpha):
        message = sent(alpha, account)[0]
        inbox.keep("max@client.test", ["replies@us.test"], raw())
        digest = InboundMail.objects.get().digest
        found = replies.keep(message, classify(raw()), digest=digest, received_at=NOON)
        assert found is not None
    with time_machine.travel(LATER, tick=False):
        yield found


def answered(message: Message, text: str) -> Reply:
    verdict = classify(mail(text, sender="Max <max@client.test>", headers=""))
    found = replies.keep(message, verdict, digest=uuid4(), received_at=NOON)
    assert found is not None
    return found


def test_html_is_made_harmless() -> None:
    clean, pictures = originals.harmless(EVIL, {"own": "data:image/gif;base64,AA"})
    assert pictures == 1
    for evil in ("evil.test", "pixel.test", "script", "alert", "onload", "svg", "form", "<base", "refresh", "url("):
        assert evil not in clean
    assert 'Hello <b style="font-weight:bold">Anna</b>' in clean
    assert 'href="https://fine.test/"' in clean
    assert 'rel="noopener noreferrer nofollow"' in clean
    assert 'src="data:image/gif;base64,AA"' in clean
    assert "svg+xml" not in clean
    asked, _count = originals.harmless(EVIL, pictures=True)
    assert 'src="https://pixel.test/p.gif"' in asked
    assert "evil.test" not in asked


@pytest.mark.parametrize(
    "style",
    [
        "color:u\\72l(https://evil.test/)",
        "background-color:URL (https://evil.test/)",
        "width:expression(alert(1))",
        "color:red;background-color:image-set('https://evil.test/a' 1x)",
        "font:1px/1 x url(https://evil.test/f)",
    ],
)
def test_no_style_loads_anything(style: str) -> None:
    assert originals.harmless(f'<p style="{style}">x</p>')[0].replace(' style=""', "") in (
        "<p>x</p>",
        '<p style="color:red">x</p>',
    )


def test_a_reply_as_it_came_is_in_a_closed_frame(reply: Reply, carols: Visitor) -> None:
    part = body(carols.get(f"/inbox/{reply.pk}/original/"))
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in part
    assert "1 picture from elsewhere is not loaded" in part
    frame = carols.get(f"/inbox/{reply.pk}/original/html/")
    policy = frame.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    assert "sandbox allow-popups" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "pixel.test" not in body(frame)
    asked = carols.get(f"/inbox/{reply.pk}/original/html/?pictures=1")
    assert "img-src data: https: http:;" in asked.headers["Content-Security-Policy"]
    assert "https://pixel.test/p.gif" in body(asked)


def test_attachments_are_downloads_alone(reply: Reply, carols: Visitor, oscars: Visitor) -> None:
    part = body(carols.get(f"/inbox/{reply.pk}/original/"))
    assert ".._pa_ge.html" in part
    answer = carols.get(f"/inbox/{reply.pk}/attachments/3/")
    assert answer.content.strip() == b"<script>alert(7)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    for number in (0, 1, 9):
        assert carols.get(f"/inbox/{reply.pk}/attachments/{number}/").status_code == 404
    for path in ("", "original/", "original/html/", "attachments/3/"):
        assert oscars.get(f"/inbox/{reply.pk + 500}/{path}").status_code == 404


def test_what_is_not_kept_any_more_is_said(reply: Reply, carols: Visitor) -> None:
    assert "As it came" in body(carols.get(f"/inbox/{reply.pk}/"))
    InboundMail.objects.all().delete()
    assert "As it came" not in body(carols.get(f"/inbox/{reply.pk}/"))
    assert "not kept any more" in body(carols.get(f"/inbox/{reply.pk}/original/"))
    assert carols.get(f"/inbox/{reply.pk}/original/html/").status_code == 404


def test_carol_reads_sorts_and_finds(
    alpha: Agency, reply: Reply, carol: User, carols: Visitor, oscars: Visitor
) -> None:
    assert 'class="count">1<' in body(carols.get("/"))
    page = body(carols.get("/inbox/"))
    assert "Tell me more, please." in page
    assert "Beta" not in page
    assert "Tell me more" not in body(oscars.get("/inbox/?state=all"))
    own = f"/inbox/{reply.pk}/"
    page = body(carols.get(own))
    assert "Hello N0" in page
    assert "by “tell me more”" in page
    assert 'class="count"' not in body(carols.get("/"))

    def act(action: str, **data: Any) -> str:
        return body(carols.post(f"{own}{action}/?q=more", data, follow=True))

    assert "Question" in act("label", label="question")
    assert "sees to it" in act("assign", to=carol.pk)
    assert "It comes back by itself." in act("snooze", until="2026-12-01T09:00")
    assert "Choose a time to come." in act("snooze", until="2020-01-01T09:00")
    assert "Choose a time to come." in act("snooze", until="soon")
    with context.entered(alpha):
        reply.refresh_from_db()
        assert (reply.label, reply.decided_by, reply.assigned_to) == ("question", carol.email, carol)
        # In the agency's own time.
        assert reply.snoozed_until is not None
        assert reply.snoozed_until.astimezone(alpha.zone).hour == 9
    assert "Tell me more" not in body(carols.get("/inbox/"))
    assert "Tell me more" in body(carols.get("/inbox/?state=snoozed&assigned=me&label=question&q=pleas"))
    assert "Nothing matches" in body(carols.get("/inbox/?state=snoozed&q=nothing"))
    act("reopen")
    assert "Tell me more" in body(carols.get("/inbox/"))
    act("done")
    assert "Tell me more" in body(carols.get("/inbox/?state=done"))
    with context.entered(alpha):
        barred = Suppression.objects.create(value="client.test", source="manual").pk
    assert f"/admin/campaigns/suppression/{barred}/delete/" in body(carols.get(own))
    assert carols.post(f"/admin/campaigns/suppression/{barred}/delete/", {"post": "yes"}).status_code == 302
    act("label", label="opt_out")
    with context.entered(alpha):
        assert Suppression.objects.count() == 1
    assert "must not be mailed" in body(carols.get(own))
    for path, data in (("love", {}), ("label", {"label": "love"}), ("assign", {"to": "99999"})):
        assert carols.post(f"{own}{path}/", data).status_code == 404
    for query in ("state=x&label=x&campaign=x&assigned=x&before=x&q=%00", "campaign=99999999999999999999", "before=1"):
        assert carols.get(f"/inbox/?{query}").status_code == 200


def test_carol_answers_once_and_keeps_what_she_wrote_where_it_is_refused(
    alpha: Agency, reply: Reply, carols: Visitor
) -> None:
    own, once = f"/inbox/{reply.pk}/answer/", str(uuid4())
    for _ in range(2):
        page = body(carols.post(own, {"text": "With pleasure.", "once": once}, follow=True))
        assert "Your answer is on its way." in page
    assert page.count("With pleasure.") == 1
    assert 'hx-trigger="every 3s"' in page
    with context.entered(alpha):
        assert TrialMail.objects.get().once is not None
        answer = TrialMail.objects.get().pk
    back = f"/inbox/{reply.pk}/answers/{answer}/take-back/"
    assert f'action="{back}"' in page
    page = body(carols.post(back))
    assert "Taken back: it is not sent." in page
    assert page.count("With pleasure.") == 2, "what was written, and the form that has it again"
    assert f'action="{back}"' not in page
    assert carols.get(back).status_code == 302
    assert carols.post(back.replace(f"{answer}", "999999")).status_code == 404
    page = body(carols.post(own, {"text": " " + "Long. " * 4000, "once": str(uuid4())}))
    assert "20000 characters at most" in page
    assert "Long. Long." in page
    assert carols.post(own, {"text": "x", "once": "x"}).status_code == 404
    carols.post(own, {"text": "Bye.", "once": str(uuid4()), "then": "done"})
    assert "Tell me more" in body(carols.get("/inbox/?state=done"))


def test_a_page_asks_as_often_however_much_it_shows(
    alpha: Agency, reply: Reply, account: Account, carols: Visitor
) -> None:
    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            assert carols.get(path).status_code == 200
        return len(asked)

    paths = ("/inbox/", f"/inbox/{reply.pk}/")
    before = [queries(path) for path in paths for _ in range(2)]
    with context.entered(alpha):
        for message in sent(alpha, account, 10):
            answered(message, "And what is the price?")
        for _ in range(5):
            answered(reply.message, "And then?")
    after = [queries(path) for path in paths for _ in range(2)]
    assert after[1::2] == before[1::2]
