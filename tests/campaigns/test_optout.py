"""P5: a reader can always leave, only with their own mail, and from that moment on gets nothing more."""

import email
import email.policy
import re
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import override_settings
from django.utils import timezone

from campaigns import dispatch, last_mails, launch, lifecycle, mail_audit, optout, tokens
from campaigns.delivery import Batch, Delivery, Lines
from campaigns.models import Campaign, CampaignOutcome, Contact, Message, MessageFacts, Pause, Subscription, Suppression
from campaigns.reasons import Reason
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage, visitor
from tests.campaigns.test_dispatch import drain_all
from tests.stage import NOON

ONE_CLICK = {"List-Unsubscribe": "One-Click"}
LINK = re.compile(r"http://alpha\.localhost:8000/u/([A-Za-z0-9_-]{40})(?![A-Za-z0-9_-])")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, sandbox: Sandbox) -> dict[str, Account]:
    """Three accounts that Alpha and Beta use."""
    found = stage.accounts(sandbox)
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    return found


@pytest.fixture
def campaign(accounts: dict[str, Account], alpha: Agency, beta: Agency) -> Iterator[Campaign]:
    """Alpha's, launched; Beta has one to the same people and the same address."""
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("a", 3)), now=NOON)
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 3), distribution="even")
        launch.launch(made, now=NOON)
        yield made
    with context.entered(beta):
        assert not Suppression.objects.exists()
        assert set(Message.objects.values_list("status", flat=True)) == {"scheduled"}


@pytest.fixture
def message(campaign: Campaign) -> Message:
    return Message.objects.get(contact__email="a1@people.example")


def token_of(message: Message, schema: str = "a_alpha", purpose: str = tokens.OPT_OUT) -> str:
    return tokens.Signer(schema, purpose).of(message.key.bytes)


def ask(agency: Agency, token: str, method: str = "post", **form: str) -> HttpResponse:
    """What a mail program or a browser without a cookie asks."""
    browser = visitor.Visitor(f"{agency.slug}.localhost", enforce_csrf_checks=True)
    answer: HttpResponse = getattr(browser, method)(f"/u/{token}", form)
    return answer


def headers_of(mail: dict[str, Any]) -> dict[str, str]:
    if mail["provider"] == "smtp":
        return dict(parsed(mail).items())
    if mail["provider"] == "sendgrid":
        return {**mail["content"].get("headers", {}), **mail["content"]["personalizations"][0].get("headers", {})}
    return dict(mail["content"]["headers"])


def parsed(mail: dict[str, Any]) -> EmailMessage:
    found = email.message_from_string(mail["content"], policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def bodies_of(mail: dict[str, Any]) -> list[str]:
    if mail["provider"] == "smtp":
        return [str(part.get_content()) for part in parsed(mail).iter_parts()]
    if mail["provider"] == "sendgrid":
        return [part["value"] for part in mail["content"]["content"]]
    return [mail["content"]["text"], mail["content"]["html"]]


class TestTheWayOut:
    def test_every_mail_has_it_in_its_headers_and_both_texts(
        self, campaign: Campaign, accounts: dict[str, Account], sandbox: Sandbox
    ) -> None:
        drain_all(accounts)
        mails = sandbox.messages()
        assert {mail["provider"] for mail in mails} == {"smtp", "resend", "sendgrid"}
        for mail in mails:
            headers = headers_of(mail)
            (token,) = set(LINK.findall(headers["List-Unsubscribe"]))
            assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            assert "Auto-Submitted" not in headers
            assert f"<mailto:{mail['sender']}?subject=unsubscribe%20{token}>" in headers["List-Unsubscribe"]
            for body in bodies_of(mail):
                assert set(LINK.findall(body)) == {token}
            found = optout.message_of(token)
            assert found is not None
            assert found.contact.email == mail["recipient"]

    def test_a_transactional_mail_has_none(self, alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox) -> None:
        with context.entered(alpha):
            launch.launch(stage.campaign(stage.contact_list("p", 1), traffic_class="high_priority"), now=NOON)
            drain_all(accounts)
        (mail,) = sandbox.messages()
        assert not {"List-Unsubscribe", "List-Unsubscribe-Post", "List-Id"} & headers_of(mail).keys()
        assert headers_of(mail)["Auto-Submitted"] == "auto-generated"
        assert not any(map(LINK.search, bodies_of(mail)))


class TestOneClick:
    @pytest.mark.parametrize("content", ["urlencoded", "multipart"])
    def test_a_post_acts_at_once(self, campaign: Campaign, alpha: Agency, message: Message, content: str) -> None:
        token = token_of(message)
        if content == "multipart":
            answer = ask(alpha, token, **ONE_CLICK)
        else:
            browser = visitor.Visitor("alpha.localhost", enforce_csrf_checks=True)
            answer = browser.post(
                f"/u/{token}", "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
            )
        assert answer.status_code == 200
        assert not answer.cookies
        row = Suppression.objects.get()
        assert (row.value, row.source, row.list, row.message) == ("a1@people.example", "opt_out", None, message)
        assert row.remote_ip == "127.0.0.1"
        assert "RFC 8058" in row.evidence
        message.refresh_from_db()
        assert (message.status, message.reason) == ("cancelled", Reason.OPTED_OUT)
        assert stage.statuses(campaign) == {"scheduled": 2, "cancelled": 1}

    @pytest.mark.parametrize("method", ["get", "head"])
    def test_a_look_changes_nothing(self, alpha: Agency, message: Message, method: str) -> None:
        answer = ask(alpha, token_of(message), method)
        assert answer.status_code == 200
        assert "no-store" in answer.headers["cache-control"]
        assert not Suppression.objects.exists()
        message.refresh_from_db()
        assert message.status == "scheduled"

    def test_a_post_that_says_nothing_changes_nothing(self, alpha: Agency, message: Message) -> None:
        assert ask(alpha, token_of(message), scope="everything").status_code == 400
        assert not Suppression.objects.exists()

    def test_a_replay_is_harmless_and_the_first_evidence_stays(self, alpha: Agency, message: Message) -> None:
        ask(alpha, token_of(message), **ONE_CLICK)
        before = Suppression.objects.values().get()
        assert ask(alpha, token_of(message), **ONE_CLICK, scope="everything").status_code == 200
        assert Suppression.objects.values().get() == before

    def test_what_a_person_had_added_cannot_be_taken_away_any_more(self, alpha: Agency, message: Message) -> None:
        Suppression.objects.create(value="a1@people.example", source=Suppression.Source.MANUAL)
        ask(alpha, token_of(message), **ONE_CLICK)
        assert Suppression.objects.get().source == Suppression.Source.OPT_OUT


class TestTheFact:
    @pytest.mark.parametrize("scope", ["everything", "list"])
    def test_it_counts_once_for_the_mail_that_was_left_by(
        self, campaign: Campaign, accounts: dict[str, Account], alpha: Agency, message: Message, scope: str
    ) -> None:
        drain_all(accounts)
        for _ in range(2):
            ask(alpha, token_of(message), **ONE_CLICK, scope=scope)
        assert MessageFacts.objects.get().message_id == message.pk
        assert CampaignOutcome.objects.get(campaign=campaign).unsubscribed == 1
        assert Suppression.objects.get().list == (campaign.list if scope == "list" else None)


class TestTokens:
    def test_forged_cut_and_foreign_ones_are_refused_with_a_page(
        self, alpha: Agency, beta: Agency, message: Message
    ) -> None:
        good = token_of(message)
        with context.entered(beta):
            theirs = Message.objects.first()
        assert theirs is not None
        others = [
            good[:-1] + ("A" if good[-1] != "A" else "B"),
            ("A" if good[0] != "A" else "B") + good[1:],
            good[:-4],
            good + "AAAA",
            good.lower(),
            "x",
            token_of(message, purpose=tokens.OPEN),
            token_of(message, schema="a_beta"),
            token_of(theirs, schema="a_beta"),
            token_of(theirs),
            tokens.Signer("a_alpha", tokens.OPT_OUT).of_link(message.key.bytes, 0),
        ]
        for token in others:
            answer = ask(alpha, token, **ONE_CLICK)
            assert answer.status_code == 404, token
            assert "does not work" in visitor.body(answer)
        assert ask(beta, good, **ONE_CLICK).status_code == 404
        assert not Suppression.objects.exists()

    def test_a_key_that_was_changed_still_checks_what_it_signed(self, alpha: Agency, message: Message) -> None:
        token = token_of(message)
        with override_settings(SECRET_KEY="x" * 50 + "another", SECRET_KEY_FALLBACKS=[]):
            assert optout.message_of(token) is None
            assert token_of(message) != token
        from django.conf import settings

        with override_settings(SECRET_KEY="x" * 50 + "another", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
            assert optout.message_of(token) == message


class TestThePage:
    def test_one_list_alone_can_be_left(self, campaign: Campaign, alpha: Agency, message: Message) -> None:
        other = stage.campaign(stage.contact_list("b", 1))
        Subscription.objects.create(list=other.list, contact=message.contact)
        launch.launch(other, now=NOON)

        assert "left this mailing list" in visitor.body(ask(alpha, token_of(message), **ONE_CLICK, scope="list"))

        row = Suppression.objects.get()
        assert (row.value, row.list) == ("a1@people.example", campaign.list)
        assert not Subscription.objects.get(list=campaign.list, contact=message.contact).active
        assert stage.statuses(campaign) == {"scheduled": 2, "cancelled": 1}
        assert stage.statuses(other) == {"scheduled": 2}
        page = visitor.body(ask(alpha, token_of(message), "get"))
        assert 'value="everything"' in page
        assert 'value="list"' not in page

        assert "no more mails" in visitor.body(ask(alpha, token_of(message), **ONE_CLICK, scope="everything"))
        assert stage.statuses(other) == {"scheduled": 1, "cancelled": 1}

    def test_it_speaks_the_contacts_language_else_the_browsers(self, alpha: Agency, message: Message) -> None:
        browser = visitor.Visitor("alpha.localhost")
        address = f"/u/{token_of(message)}"
        assert 'lang="en"' in visitor.body(browser.get(address))
        assert 'lang="ru"' in visitor.body(browser.get(address, headers={"accept-language": "ru-RU,ru;q=0.9"}))
        Contact.objects.filter(pk=message.contact_id).update(attributes={"language": "RU"})
        assert 'lang="ru"' in visitor.body(browser.get(address, headers={"accept-language": "en"}))
        assert 'lang="ru"' in visitor.body(browser.get("/u/none", headers={"accept-language": "ru"}))

    def test_it_tells_whoever_has_the_mail_no_more_than_whose_it_is(self, alpha: Agency, message: Message) -> None:
        page = visitor.body(ask(alpha, token_of(message), "get"))
        assert "a1@people.example" not in page
        assert "a•••@people.example" in page


class TestP5:
    @pytest.mark.parametrize("scope", ["everything", "list"])
    def test_no_mail_goes_that_a_worker_holds_already(
        self, campaign: Campaign, accounts: dict[str, Account], alpha: Agency, sandbox: Sandbox, scope: str
    ) -> None:
        drain_all(accounts)
        before = Message.objects.get(contact__email="a1@people.example")
        following = stage.campaign(campaign.list, distribution="shares", shares={"smtp": 100})
        launch.launch(following, now=NOON)
        account = accounts["smtp"]
        allotment = alpha.allotments.select_related("account").get(account=account)
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=10)
        message = following.messages.get(contact=before.contact)

        ask(alpha, token_of(before), **ONE_CLICK, scope=scope)
        message.refresh_from_db()
        assert message.status == "claimed", "else this shows nothing"
        Suppression.objects.update(created_at=NOON - timedelta(minutes=1))
        with Lines(account) as lines:
            a_moment_later = NOON + timedelta(seconds=1)
            sending = Delivery(alpha, account, lines, lambda: a_moment_later, until=NOON + timedelta(minutes=1))
            sending.run(Batch(batch), lambda: None)

        assert last_mails.late() == []
        message.refresh_from_db()
        assert (message.status, message.reason) == ("cancelled", Reason.OPTED_OUT)
        assert stage.statuses(following) == {"sent": 2, "cancelled": 1}
        assert len(sandbox.messages("a1@people.example")) == 1
        connection.set_schema_to_public()
        assert [(one.agency, one.opt_outs, one.longest) for one in last_mails.everywhere()] == [(alpha, 1, timedelta())]

    def test_the_time_to_the_last_mail_is_measured(
        self,
        campaign: Campaign,
        accounts: dict[str, Account],
        alpha: Agency,
        message: Message,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        drain_all(accounts)
        ask(alpha, token_of(message), **ONE_CLICK)
        assert last_mails.late() == []
        # What was begun before may have been on its way; this was begun after, whoever let it go.
        left = NOON + timedelta(hours=1)
        Suppression.objects.update(in_force_at=left)
        Message.objects.filter(pk=message.pk).update(attempted_at=left + timedelta(seconds=7))
        assert [(one.key, one.after) for one in last_mails.late()] == [(message.key, timedelta(seconds=7))]
        connection.set_schema_to_public()
        assert [(one.opt_outs, len(one.late)) for one in last_mails.everywhere()] == [(1, 1)]
        (finding,) = mail_audit.audit_mails(now=NOON)
        assert str(message.key) in str(finding)
        assert "7 s after" in str(finding)
        root = User.objects.create_superuser("root@operator.test", "correct horse battery")
        operators = visitor.Visitor("localhost")
        operators.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
        page = visitor.body(operators.get("/admin/"))
        assert "7.0 s" in page
        assert str(message.key) in page
        connection.set_schema(alpha.schema_name)
        # A page looks at the newest alone, the audit of every night at all.
        Suppression.objects.create(value="b@b.test", source="opt_out", created_at=timezone.now() + timedelta(days=1))
        monkeypatch.setattr(last_mails, "NEWEST", 1)
        connection.set_schema_to_public()
        assert [(one.opt_outs, one.late) for one in last_mails.everywhere()] == [(1, [])]
        assert len(mail_audit.audit_mails(now=NOON)) == 1
        connection.set_schema(alpha.schema_name)

    def test_a_launch_passes_over_who_left(self, campaign: Campaign, alpha: Agency, message: Message) -> None:
        ask(alpha, token_of(message), **ONE_CLICK, scope="list")
        again = stage.campaign(campaign.list)
        assert launch.launch(again, now=NOON).total == 2
        Subscription.objects.update(active=True)
        third = stage.campaign(campaign.list)
        assert launch.launch(third, now=NOON).total == 2, "whoever put them back on the list did not ask them"

    def test_only_what_waits_is_cancelled(self, campaign: Campaign, message: Message) -> None:
        Message.objects.filter(pk=message.pk).update(status="held", reason=Reason.NOT_RENDERED)
        assert lifecycle.cancel_for(message.contact_id, Reason.OPTED_OUT) == 1
        assert lifecycle.cancel_for(message.contact_id, Reason.OPTED_OUT) == 0
        assert stage.statuses(campaign) == {"scheduled": 2, "cancelled": 1}


class TestAPause:
    def test_what_waits_waits_on_and_what_a_worker_holds_does_not_go(
        self, campaign: Campaign, accounts: dict[str, Account], alpha: Agency, message: Message, sandbox: Sandbox
    ) -> None:
        account = accounts["smtp"]
        held = stage.campaign(campaign.list, distribution="shares", shares={"smtp": 100})
        launch.launch(held, now=NOON)
        allotment = alpha.allotments.select_related("account").get(account=account)
        batch = [
            one
            for one in dispatch.claim_batch(alpha, allotment, now=NOON, limit=10)
            if one.contact["email"] == message.contact.email
        ]
        assert held.pk in {one.campaign_id for one in batch}

        page = visitor.body(ask(alpha, token_of(message), **ONE_CLICK, scope="pause", days="30"))

        until = Pause.objects.get().until
        assert timedelta(days=29) < until - timezone.now() < timedelta(days=30)
        assert "You have a pause" in page
        assert 'value="resume"' in page
        with Lines(account) as lines:
            Delivery(alpha, account, lines, lambda: NOON, until=NOON + timedelta(minutes=1)).run(
                Batch(batch), lambda: None
            )
        drain_all(accounts)
        assert not sandbox.messages("a1@people.example")
        assert len(sandbox.messages()) > 0, "others get theirs"
        mine = Message.objects.filter(contact=message.contact)
        assert set(mine.values_list("status", "reason", "due_at")) == {("scheduled", Reason.READER_PAUSED, until)}
        assert not Suppression.objects.exists()
        assert MessageFacts.objects.filter(message=message, unsubscribed_at__isnull=False).count() == 0

    def test_a_launch_takes_them_along_and_their_mail_waits(
        self, campaign: Campaign, accounts: dict[str, Account], alpha: Agency, message: Message, sandbox: Sandbox
    ) -> None:
        ask(alpha, token_of(message), **ONE_CLICK, scope="pause", days="90")
        again = stage.campaign(campaign.list)
        assert launch.launch(again, now=NOON).total == 3
        drain_all(accounts)
        assert stage.statuses(again) == {"sent": 2, "scheduled": 1}

        assert "Which mails" in visitor.body(ask(alpha, token_of(message), **ONE_CLICK, scope="resume"))

        drain_all(accounts, timezone.now())
        assert stage.statuses(again) == {"sent": 3}
        assert len(sandbox.messages("a1@people.example")) == 2

    def test_who_leaves_in_a_pause_has_left(self, campaign: Campaign, alpha: Agency, message: Message) -> None:
        ask(alpha, token_of(message), **ONE_CLICK, scope="pause", days="30")
        assert "no more mails" in visitor.body(ask(alpha, token_of(message), **ONE_CLICK))
        message.refresh_from_db()
        assert (message.status, message.reason) == ("cancelled", Reason.OPTED_OUT)

    @pytest.mark.parametrize("form", [{"scope": "pause", "days": "36500"}, {"scope": "pause"}, {"scope": "all"}])
    def test_what_the_page_does_not_offer_is_refused(
        self, alpha: Agency, message: Message, form: dict[str, str]
    ) -> None:
        assert ask(alpha, token_of(message), **ONE_CLICK, **form).status_code == 400
        assert not Pause.objects.exists()
        assert not Suppression.objects.exists()


def test_lists_are_chosen(campaign: Campaign, alpha: Agency, message: Message) -> None:
    other, strange = stage.campaign(stage.contact_list("b", 1)), stage.contact_list("c", 1)
    Subscription.objects.create(list=other.list, contact=message.contact)
    launch.launch(other, now=NOON)
    page = visitor.body(ask(alpha, token_of(message), "get"))
    assert ">b<" in page
    assert ">c<" not in page

    kept = {"keep": str(campaign.list_id), "scope": "lists"}
    assert "Your choice is kept" in visitor.body(ask(alpha, token_of(message), **ONE_CLICK, **kept))

    assert Suppression.objects.get().list == other.list
    assert stage.statuses(other) == {"scheduled": 1, "cancelled": 1}
    # It was not about this mail's list, so its sequence goes on.
    assert stage.statuses(campaign) == {"scheduled": 3}
    assert not MessageFacts.objects.exists()
    ask(alpha, token_of(message), **ONE_CLICK, scope="lists", keep=str(strange.pk))
    assert set(Suppression.objects.values_list("list", flat=True)) == {other.list_id, campaign.list_id}
    assert stage.statuses(campaign) == {"scheduled": 2, "cancelled": 1}
