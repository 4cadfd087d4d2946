"""Files of a step: which may be, that they go with its mails by every kind of account, and stay what they were."""

import base64
import email
import email.policy
import html
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from campaigns import changes, delivery, dispatch, files, inspection, launch, lifecycle, preview, rendering
from campaigns.envelopes import Envelopes
from campaigns.files import FileRefusedError
from campaigns.launch import LaunchRefusedError
from campaigns.models import Campaign, Contact, Step, StepFile
from providers.accounts import adapters
from providers.accounts.adapters import mime
from providers.accounts.envelope import Attachment, Envelope
from providers.accounts.models import Account, Allotment
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at, body

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
PDF = b"%PDF-1.7\n" + b"page\n" * 200
HTML = '<p>{Hello|Hi} {{ first_name }} <img src="cid:logo.png" alt="us"> <a href="https://a.example/">see</a></p>'


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> dict[str, Account]:
    found = stage.accounts(sandbox)
    stage.allot(alpha, *found.values())
    return found


def add(step: Step, name: str, content: bytes, *, inline: bool = False) -> StepFile:
    return files.add(step, name, content, inline=inline, by="carol@alpha.test", now=NOON)


@pytest.fixture
def draft(alpha: Agency, accounts: dict[str, Account]) -> Campaign:
    """Twelve contacts, a picture that is shown and a file that is attached."""
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("p", 12), html=HTML, traffic_class="bulk")
        add(made.steps.get(), "logo.png", PNG, inline=True)
        add(made.steps.get(), "Прайс, «весна».pdf", PDF)
        return made


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("setup.exe", b"MZ", "Gmail"),
        ("offer.pdf.exe", PDF, "Gmail"),
        ("offer.exe.pdf", PDF, "Gmail"),
        ("offer.docx.pdf", PDF, "ends twice"),
        ("offer.zip", b"PK\x03\x04", "may be sent"),
        ("offer", PDF, "may be sent"),
        (".pdf", PDF, "may be sent"),
        ("a\r\nBcc: x.pdf", PDF, "line break"),
        ("a\u202efdp.pdf", PDF, "invisible"),
        ("../a.pdf", PDF, "rename"),
        ('a".pdf', PDF, "rename"),
        (" a.pdf", PDF, "space"),
        ("a" * 97 + ".pdf", PDF, "too long"),
        ("ж" * 99 + "a.pdf", PDF, "too long"),
        ("a.pdf", b"", "empty"),
        ("a.pdf", b"MZ\x90\0", "not what its name says"),
        ("a.csv", "имя".encode("cp1251"), "UTF-8"),
        ("big.pdf", PDF + bytes(files.MOST_BYTES), "5121 kB; a file may have 5120 kB"),
    ],
)
def test_what_may_not_be_sent_is_refused_in_plain_words(name: str, content: bytes, says: str) -> None:
    with pytest.raises(FileRefusedError, match=says):
        files.check(name, content, inline=False)


def test_a_picture_that_is_shown_is_one() -> None:
    for name, content, says in (
        ("a.pdf", PDF, "PNG"),
        ("a.png", b"GIF89a", "not what"),
        ("лого.png", PNG, "Latin"),
        ("a.webp", b"RIFF0000WAVE", "not what"),
    ):
        with pytest.raises(FileRefusedError, match=says):
            files.check(name, content, inline=True)
    assert files.check("a.v1.2.PNG", PNG, inline=True).content_type == "image/png"
    assert files.check("a.webp", b"RIFF0000WEBP", inline=True).content_type == "image/webp"


@given(st.binary(max_size=2000))
def test_the_size_as_sent_is_told_before(content: bytes) -> None:
    file = Attachment("a.txt", "text/plain", "0", content)
    assert files.encoded(len(content)) - 2 <= len(file.lines) <= files.encoded(len(content))


def test_a_mail_has_so_much_at_most(alpha: Agency, beta: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        step = draft.steps.get()
        with pytest.raises(FileRefusedError, match="already"):
            add(step, "LOGO.png", PNG)
        add(step, "large.txt", b"x" * files.MOST_BYTES)
        with pytest.raises(FileRefusedError, match="Link to it"):
            add(step, "more.txt", b"x" * 200_000)
        found = {one.code for one in inspection.inspect(draft, now=NOON)}
        assert {"heavy"} <= found
        assert "attached_at_first" not in found
        Campaign.objects.update(traffic_class="cold_outreach")
        assert "attached_at_first" in {one.code for one in inspection.inspect(Campaign.objects.get(), now=NOON)}
        for number in range(files.MOST_FILES - 3):
            add(step, f"{number}.txt", b"x")
        with pytest.raises(FileRefusedError, match="10 files"):
            add(step, "eleven.txt", b"x")
    with context.entered(beta):
        assert not StepFile.objects.exists()


def test_a_picture_that_is_not_there_keeps_a_draft_and_is_said(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        step = draft.steps.select_related("campaign").get()
        files.remove(step.files.get(inline=True))
        with pytest.raises(LaunchRefusedError, match=r"cid:logo\.png"):
            launch.launch(draft, now=NOON)
        assert inspection.inspect(draft, now=NOON)[0].severity == inspection.Severity.REFUSED
        with pytest.raises(rendering.NotRenderedError, match=r"cid:logo\.png"):
            preview.of(step, Contact.objects.all()[0])
        # Attached, it cannot be shown.
        add(step, "logo.png", PNG)
        with pytest.raises(LaunchRefusedError, match=r"cid:logo\.png"):
            launch.launch(draft, now=NOON)


def test_files_of_a_step_with_mails_stay(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        step = draft.steps.get()
        launch.launch(draft, now=NOON)
        with pytest.raises(FileRefusedError, match="another step"):
            add(step, "more.pdf", PDF)
        with pytest.raises(FileRefusedError, match="another step"):
            files.remove(step.files.all()[0])
        # Also by a way that asks nobody.
        row = step.files.all()[0]
        for act in (
            row.delete,
            row.save,
            lambda: StepFile.objects.create(step=step, name="a.txt", size=1, digest="", added_at=NOON, content=b"x"),
        ):
            with pytest.raises(IntegrityError, match="kept as they are"), transaction.atomic():
                act()
        first = changes.steps_of(draft)[0]
        follow_up = changes.Wanted(html='<img src="cid:logo.png">')
        with pytest.raises(changes.ChangeRefusedError, match=r"Step 2: .*cid:logo\.png"):
            changes.change(draft, [first, follow_up], now=NOON)


def test_the_same_mail_again_has_the_same_bytes(alpha: Agency, accounts: dict[str, Account], draft: Campaign) -> None:
    def whole(envelope: Envelope) -> tuple[bytes, str]:
        return mime.as_bytes(replace(envelope, date=NOON)), adapters.fingerprint(accounts["smtp"], envelope)

    with context.entered(alpha):
        step = draft.steps.select_related("campaign").get()
        seen = {one.email: preview.of(step, one) for one in Contact.objects.all()}
        launch.launch(draft, now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=accounts["smtp"])
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=12)
        first, again = Envelopes(alpha), Envelopes(alpha)
        for made in (first, again):
            made.prepare(batch)
        for message in batch:
            sent, retried = first.of(message), again.of(message)
            assert whole(sent) == whole(retried)
            assert sent.files == retried.files == seen[sent.recipient].files
            assert [one.content for one in sent.files] == [PNG, PDF]
        # One object for all of them: in base64 once.
        assert len({id(first.of(message).files[0]) for message in batch}) == 1
        lifecycle.release(batch)


def test_a_text_takes_the_pictures_with_it_that_it_shows(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        step = draft.steps.select_related("campaign").get()
        step.variants.create(letter="B", subject="Plain", text="Hello")
        contact = Contact.objects.all()[0]
        assert [one.content for one in preview.of(step, contact, "A").files] == [PNG, PDF]
        assert [one.content for one in preview.of(step, contact, "B").files] == [PDF]
        assert preview.of(step, contact, "B").html is None


def structure(part: Any) -> Any:
    """The types of a mail's parts, each with those inside it."""
    inner = [structure(one) for one in part.iter_parts()] if part.is_multipart() else []
    return (part.get_content_type(), *inner) if inner else part.get_content_type()


def received(mail: dict[str, Any]) -> dict[str, tuple[bytes, str]]:
    """By name, the content of its files as the provider has them, and their Content-ID."""
    content = mail["content"]
    match mail["provider"]:
        case "resend" | "sendgrid":
            found = content["attachments"]
            return {one["filename"]: (base64.b64decode(one["content"]), one.get("content_id", "")) for one in found}
        case _:
            whole: Any = email.message_from_string(content, policy=email.policy.default)
            assert structure(whole) == (
                "multipart/mixed",
                ("multipart/related", ("multipart/alternative", "text/plain", "text/html"), "image/png"),
                "application/pdf",
            )
            assert max(map(len, content.splitlines())) <= 998
            found = [part for part in whole.walk() if part.get_filename()]
            return {one.get_filename(): (one.get_content(), (one["Content-ID"] or "").strip("<>")) for one in found}


@pytest.mark.parametrize("kind", ["smtp", "resend", "sendgrid"])
def test_they_go_by_each_kind_of_account(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, draft: Campaign, kind: str
) -> None:
    sandbox.script("resend=lost_answers:4")
    with context.entered(alpha):
        light = stage.campaign(stage.contact_list("light", 3), html="<p>Hello</p>")
        Campaign.objects.update(distribution="shares", shares={kind: 100})
        for one in Campaign.objects.all():
            launch.launch(one, now=NOON)
        dispatch.drain(accounts[kind].pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))
        found = stage.statuses(draft)
        assert (found, stage.statuses(light)) == ({"sent": 12}, {"sent": 3})
        if kind == "resend":
            # Those without files in one request, whatever came between them; each of the others by itself.
            assert set(light.messages.values_list("together", flat=True)) == {3}
            assert set(draft.messages.values_list("together", flat=True)) == {1}
        seen = sandbox.snapshot()
        assert seen["duplicates"] == 0
        mails = [one for one in sandbox.messages() if one["recipient"].startswith("p")]
        assert len(mails) == 12
    ids = [list(received(mail).items()) for mail in mails]
    host = ids[0][0][1][1].removeprefix("logo.png@")
    assert host
    expected = [("logo.png", (PNG, f"logo.png@{host}")), ("Прайс, «весна».pdf", (PDF, ""))]
    assert all(one == expected for one in ids)
    assert all(f"cid:logo.png@{host}" in html_of(mail) for mail in mails)


def html_of(mail: dict[str, Any]) -> str:
    content = mail["content"]
    match mail["provider"]:
        case "resend":
            return str(content["html"])
        case "sendgrid":
            return str(content["content"][1]["value"])
        case _:
            whole: Any = email.message_from_string(content, policy=email.policy.default)
            return str(whole.get_body(["html"]).get_content())


@pytest.mark.parametrize("room", [True, False])
def test_each_takes_its_place_in_the_rate_of_an_account_that_counts_requests(
    alpha: Agency, accounts: dict[str, Account], draft: Campaign, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    asked: list[Account] = []

    def answer(account: Account, *_: object) -> bool:
        asked.append(account)
        return room

    monkeypatch.setattr(delivery, "wait_for_turn", answer)
    with context.entered(alpha):
        Campaign.objects.update(distribution="shares", shares={"resend": 100})
        launch.launch(Campaign.objects.get(), now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=accounts["resend"])
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=12)
        with delivery.Lines(accounts["resend"]) as lines:
            sending = delivery.Delivery(
                alpha, accounts["resend"], lines, lambda: NOON, until=NOON + timedelta(minutes=1)
            )
            sending.run(delivery.Batch(batch), lambda: None)
        assert stage.statuses(draft) == ({"sent": 12} if room else {"scheduled": 12})
    assert len(asked) == (12 if room else 1)


def test_few_bytes_are_on_the_wire_at_once(
    alpha: Agency, accounts: dict[str, Account], draft: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = files.encoded(len(PNG)) + files.encoded(len(PDF))
    monkeypatch.setattr(delivery, "BYTES_IN_FLIGHT", 2 * size + 10)
    flying: list[int] = []
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        real = delivery.Delivery._fly

        def watched(self: delivery.Delivery, flights: Any) -> None:
            real(self, flights)
            flying.append(sum(map(len, self._flying.values())))

        monkeypatch.setattr(delivery.Delivery, "_fly", watched)
        dispatch.drain(accounts["smtp"].pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))
        assert stage.statuses(draft) == {"sent": 12}
    assert max(flying) <= 2


def test_pages_and_programs_add_and_remove_them(
    alpha: Agency, beta: Agency, carol: User, oscar: User, draft: Campaign
) -> None:
    carols, path = at(alpha, carol), f"/campaigns/{draft.pk}/files/"
    with context.entered(alpha):
        step = draft.steps.get()
        secret = keys.issue(carol, "program")
        shown = preview.framed(preview.of(step, Contact.objects.all()[0]))
    page = body(carols.get(path))
    assert "logo.png" in page
    assert "Прайс, «весна».pdf" in page

    def upload(name: str, content: bytes, **more: Any) -> str:
        given = {"step": step.pk, "file": SimpleUploadedFile(name, content), **more}
        return html.unescape(body(carols.post(path, given, follow=True)))

    assert 'Show it in the HTML with <img src="cid:two.png" alt="">' in upload("two.png", PNG, inline="on")
    assert "goes with each mail" in upload("terms.pdf", PDF)
    assert "“large.pdf” has 5121 kB; a file may have 5120 kB" in upload("large.pdf", PDF + bytes(files.MOST_BYTES))
    assert "Gmail" in upload("setup.exe", b"MZ")
    with context.entered(alpha):
        two = StepFile.objects.get(name="two.png")
        assert (two.inline, two.by, two.size) == (True, "carol@alpha.test", len(PNG))
    assert "“two.png” is removed" in body(carols.post(path, {"remove": two.pk}, follow=True))
    assert carols.post(path, {"remove": "x"}).status_code == 404

    # The preview shows the picture from itself, and lists what is attached.
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in shown
    assert "cid:" not in shown
    assert "terms.pdf" in body(carols.get(f"/campaigns/{draft.pk}/preview/"))
    assert "data:image/png" in body(carols.get(f"/campaigns/{draft.pk}/preview/html/"))

    api, headers = f"/api/v1/campaigns/{draft.pk}/steps/{step.pk}/files/", {"authorization": f"Bearer {secret}"}
    made = at(alpha).post(api, {"file": SimpleUploadedFile("three.png", PNG), "inline": "true"}, headers=headers)
    assert [(one["name"], one["inline"]) for one in made.json()][-1] == ("three.png", True)
    refused = at(alpha).post(api, {"file": SimpleUploadedFile("a.exe", b"MZ")}, headers=headers)
    assert refused.status_code == 400
    assert "Gmail" in str(refused.json())
    told = at(alpha).get(f"/api/v1/campaigns/{draft.pk}/steps/", headers=headers).json()["steps"][0]
    assert [one["name"] for one in told["files"]][-1] == "three.png"
    last = f"{api}{made.json()[-1]['id']}/"
    assert at(beta).delete(last, headers=headers).status_code == 401
    assert at(beta, oscar).post(path, {"remove": two.pk}).status_code == 404
    assert at(alpha).delete(last, headers=headers).status_code == 204
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        rest = StepFile.objects.all()[0]
    assert at(alpha).delete(f"{api}{rest.pk}/", headers=headers).status_code == 409
    assert "stay as they are" in body(carols.get(path))
