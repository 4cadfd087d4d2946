"""Who may post what to an account's address, and what is kept of it."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from providers.accounts import hearing, signatures, webhooks
from providers.accounts.events import BounceClass, EventType
from providers.accounts.models import Account, WebhookDay, WebhookPost
from tests.providers.payloads import KINDS, SECRETS, Post, post, resigned
from tests.visitor import Visitor

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = uuid4()
METADATA = {"agency": "a_alpha", "message": str(KEY)}


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def accounts(db: None) -> dict[str, Account]:
    return {
        kind: Account.objects.create(name=kind, kind=kind, webhook_secrets={"secret": SECRETS[kind][0]})
        for kind in KINDS
    }


def send(account: Account, sent: Post, **changed: Any) -> int:
    answer = Visitor("localhost").post(
        f"/webhooks/{account.webhook_key}/",
        changed.get("body", sent.body),
        content_type="application/json",
        headers=dict(sent.headers),
    )
    return int(answer.status_code)


def results() -> dict[str, int]:
    return dict(WebhookDay.objects.values_list("result", "count"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_provider_signed_is_stored_as_it_came(accounts: dict[str, Account], kind: str) -> None:
    sent = post(kind, "delivered", METADATA, now=NOW)
    assert send(accounts[kind], sent) == 200
    kept = WebhookPost.objects.get()
    assert (kept.account, bytes(kept.body), kept.handled_at) == (accounts[kind], sent.body, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_post_that_comes_again_is_stored_once(accounts: dict[str, Account], kind: str) -> None:
    sent = post(kind, "delivered", METADATA, now=NOW)
    assert [send(accounts[kind], sent) for _ in range(3)] == [200] * 3
    assert WebhookPost.objects.count() == 1
    send(accounts[kind], post(kind, "opened", METADATA, now=NOW))
    assert WebhookPost.objects.count() == 2


@pytest.mark.parametrize("kind", ["resend", "sendgrid"])
def test_a_later_attempt_with_a_new_signature_is_the_same_post(accounts: dict[str, Account], kind: str) -> None:
    sent = post(kind, "delivered", METADATA, now=NOW, unique="msg_1")
    send(accounts[kind], sent)
    again = resigned(kind, sent.body, NOW + timedelta(minutes=1), "msg_1")
    assert again.headers != sent.headers
    assert send(accounts[kind], again) == 200
    assert WebhookPost.objects.count() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_another_accounts_secret_opens_nothing(accounts: dict[str, Account], kind: str) -> None:
    assert send(accounts[kind], post(kind, "hard", METADATA, now=NOW, theirs=True)) == 400
    assert not WebhookPost.objects.exists()
    assert results() == {"bad_signature": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_headers_a_post_is_refused(accounts: dict[str, Account], kind: str) -> None:
    sent = post(kind, "hard", METADATA, now=NOW)
    bare = Post(b"{}" if kind == "mailgun" else sent.body, {})
    assert send(accounts[kind], bare) == (401 if kind in signatures.BASIC else 400)
    assert not WebhookPost.objects.exists()


@pytest.mark.parametrize("kind", ["resend", "sendgrid"])
def test_a_swapped_body_is_refused(accounts: dict[str, Account], kind: str) -> None:
    fine, other = (post(kind, what, METADATA, now=NOW) for what in ("delivered", "hard"))
    assert send(accounts[kind], fine, body=other.body) == 400
    assert results() == {"bad_signature": 1}


def test_mailgun_signs_no_body_so_its_token_is_taken_once(accounts: dict[str, Account]) -> None:
    fine, other = (post("mailgun", what, METADATA, now=NOW, unique="t" * 50) for what in ("delivered", "hard"))
    assert send(accounts["mailgun"], fine) == 200
    send(accounts["mailgun"], other)
    assert bytes(WebhookPost.objects.get().body) == fine.body


@pytest.mark.parametrize(
    ("kind", "age"),
    [("resend", timedelta(minutes=6)), ("sendgrid", timedelta(hours=25)), ("mailgun", timedelta(hours=25))],
)
def test_old_stamps_are_refused_and_those_of_a_late_attempt_are_not(
    accounts: dict[str, Account], kind: str, age: timedelta
) -> None:
    assert send(accounts[kind], post(kind, "hard", METADATA, now=NOW - age)) == 400
    assert results() == {"too_old": 1}
    assert send(accounts[kind], post(kind, "hard", METADATA, now=NOW + timedelta(minutes=10))) == 400
    assert not WebhookPost.objects.exists()
    assert send(accounts[kind], post(kind, "hard", METADATA, now=NOW - age * 0.7)) == 200


def test_an_account_without_a_secret_takes_nothing(db: None) -> None:
    account = Account.objects.create(name="bare", kind="resend")
    assert send(account, post("resend", "hard", METADATA, now=NOW)) == 400
    assert results() == {"no_secret": 1}


def test_strangers_learn_nothing(accounts: dict[str, Account]) -> None:
    nobody = Account(webhook_key=uuid4())
    smtp = Account.objects.create(name="pool", kind="smtp")
    for account in (nobody, smtp):
        assert send(account, post("resend", "hard", METADATA, now=NOW)) == 404
    url = f"/webhooks/{accounts['resend'].webhook_key}/"
    assert Visitor("localhost").get(url).status_code == 405
    assert Visitor("localhost").head(url).status_code == 200
    assert Visitor("alpha.localhost").post(url).status_code == 404
    assert results() == {}


@pytest.mark.parametrize("kind", KINDS)
@given(
    body=st.one_of(
        st.binary(max_size=200), st.sampled_from([b"[]", b"null", b'"x"', b"[1]", b"{}", b'{"signature":1}'])
    )
)
def test_no_post_is_more_than_refused(kind: str, body: bytes) -> None:
    from django.test import RequestFactory

    request = RequestFactory().post("/", body, content_type="application/json", headers={"svix-signature": "v1,x y"})
    with pytest.raises(signatures.PostRefused):
        signatures.check(kind, SECRETS[kind][0], request, now=NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_that_cannot_be_one_is_known(kind: str) -> None:
    assert signatures.usable(kind, SECRETS[kind][0])
    assert not signatures.usable(kind, "ключ")


def heard(kind: str, what: str, **changes: Any) -> list[hearing.Routed]:
    sent = post(kind, what, changes.pop("metadata", METADATA), now=NOW, unique="u1")
    headers = {name: value for name, value in sent.headers.items() if name == "svix-id"}
    return list(
        hearing.events(
            kind, headers, changes.pop("body", sent.body), account_id=7, received_at=NOW + timedelta(hours=1)
        )
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("what", "type", "bounce_class"),
    [
        ("delivered", EventType.DELIVERED, None),
        ("opened", EventType.OPENED, None),
        ("complained", EventType.COMPLAINED, None),
        ("hard", EventType.BOUNCED, BounceClass.HARD),
        ("soft", EventType.BOUNCED, BounceClass.MAILBOX_FULL),
    ],
)
def test_every_provider_says_the_same_in_our_words(
    kind: str, what: str, type: EventType, bounce_class: BounceClass | None
) -> None:
    (routed,) = heard(kind, what)
    one = routed.heard
    if kind == "postmark" and what == "soft":
        bounce_class = BounceClass.SOFT
    assert (one.type, one.bounce_class) == (type, bounce_class)
    assert (routed.agency, one.message, one.account_id, one.source) == ("a_alpha", KEY, 7, kind)
    assert one.recipient == "kim@people.example"
    assert abs(one.at - NOW) < timedelta(seconds=1)
    assert one.raw_id == heard(kind, what)[0].heard.raw_id


def test_one_odd_event_of_a_post_costs_nothing_else() -> None:
    body = (
        b'[{"event": "open"}, 3, {"nothing": 1}, {"event": "delivered", "timestamp": 1e99, "agency": 5, "message": 5}]'
    )
    found = heard("sendgrid", "opened", body=body)
    assert [one.heard.type for one in found] == [EventType.OPENED]


@pytest.mark.parametrize("kind", KINDS)
@given(body=st.one_of(st.binary(max_size=99), st.sampled_from([b"[]", b"null", b'"x"', b"{}", b'{"event-data": {}}'])))
def test_what_cannot_be_read_says_so_and_breaks_nothing(kind: str, body: bytes) -> None:
    try:
        found = list(hearing.events(kind, {}, body, account_id=1, received_at=NOW))
    except hearing.UnreadableError:
        return
    assert all(one.heard.message is None for one in found)


def test_amazon_asks_once_whether_it_may_post() -> None:
    body = b'{"Type": "SubscriptionConfirmation", "SubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=x"}'
    assert hearing.subscription("amazon_ses", body).startswith("https://sns.eu-central-1.amazonaws.com/")
    assert hearing.subscription("amazon_ses", b"[]") == hearing.subscription("resend", body) == ""


def test_somebody_is_told_of_the_first_post_that_waits(accounts: dict[str, Account]) -> None:
    told: list[object] = []

    def listener(**_: object) -> None:
        told.append(1)

    webhooks.arrived.connect(listener)
    try:
        for expected in (1, 1, 1):
            send(accounts["resend"], post("resend", "opened", METADATA, now=NOW))
            assert len(told) == expected
        webhooks.handled(webhooks.take(10), now=NOW)
        send(accounts["resend"], post("resend", "opened", METADATA, now=NOW))
        assert len(told) == 2
    finally:
        webhooks.arrived.disconnect(listener)


def test_old_posts_are_forgotten_once_they_were_handled(accounts: dict[str, Account]) -> None:
    for _ in range(3):
        send(accounts["resend"], post("resend", "opened", METADATA, now=NOW))
    WebhookPost.objects.update(received_at=NOW)
    webhooks.handled(webhooks.take(2), now=NOW)
    assert webhooks.prune(now=NOW + webhooks.KEPT) == 0
    assert webhooks.prune(now=NOW + webhooks.KEPT + timedelta(seconds=1)) == 2
    assert webhooks.pending()


def test_a_post_that_is_too_large_is_refused(accounts: dict[str, Account], settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    for kind in KINDS:
        assert send(accounts[kind], post(kind, "delivered", METADATA, now=NOW)) == 413
    assert results() == {"too_large": 1}
    assert WebhookDay.objects.count() == len(KINDS)
    assert not WebhookPost.objects.exists()


class TestFront:
    """What answers before Django: it takes and refuses what the view does, many posts in one statement."""

    @pytest.fixture
    def front(self, committed: object) -> Iterator[webhooks.Front]:
        def django(environ: dict[str, Any], start: Any) -> list[bytes]:
            start("418 I'm a teapot", [])
            return [b""]

        made = webhooks.Front(django)
        yield made
        made.close()

    @pytest.fixture
    def resend(self, committed: object) -> Account:
        return Account.objects.create(name="r", kind="resend", webhook_secrets={"secret": SECRETS["resend"][0]})

    def ask(
        self, front: webhooks.Front, path: str, sent: Post, *, host: str = "localhost", method: str = "POST"
    ) -> str:
        found = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "HTTP_HOST": host,
            "CONTENT_LENGTH": str(len(sent.body)),
            "wsgi.input": io.BytesIO(sent.body),
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.headers.items()},
        }
        front(environ, lambda status, headers: found.append(status))
        return str(found[0][:3])

    def test_what_many_threads_bring_at_once_is_stored_once_each(self, front: webhooks.Front, resend: Account) -> None:
        told: list[object] = []
        webhooks.arrived.connect(lambda **_: told.append(1), weak=False, dispatch_uid="front")
        sent = [post("resend", "delivered", METADATA, now=NOW, unique=f"msg_{number // 2}") for number in range(60)]
        path = f"/webhooks/{resend.webhook_key}/"
        try:
            with ThreadPoolExecutor(8) as threads:
                assert set(threads.map(lambda one: self.ask(front, path, one), sent)) == {"200"}
            front.close()
        finally:
            webhooks.arrived.disconnect(dispatch_uid="front")
        assert WebhookPost.objects.count() == 30
        assert told == [1], "of the first; who handles that sees the others"

    def test_a_wrong_signature_is_refused_and_a_changed_secret_holds_at_once(
        self, front: webhooks.Front, resend: Account
    ) -> None:
        path = f"/webhooks/{resend.webhook_key}/"
        ours, theirs = (post("resend", "delivered", METADATA, now=NOW, theirs=theirs) for theirs in (False, True))
        assert self.ask(front, path, ours) == "200"
        assert self.ask(front, path, theirs) == "400"
        Account.objects.filter(pk=resend.pk).update(webhook_secrets={"secret": SECRETS["resend"][1]})
        assert self.ask(front, path, theirs) == "200"
        assert self.ask(front, path, ours) == "400"
        assert WebhookPost.objects.count() == 2
        front.close()
        assert results() == {"bad_signature": 2}

    def test_the_rest_is_left_to_django(self, front: webhooks.Front, resend: Account) -> None:
        fine = post("resend", "delivered", METADATA, now=NOW)
        path = f"/webhooks/{resend.webhook_key}/"
        for elsewhere in (path[:-1], f"/webhooks/{uuid4()}/", f"{path}x", "/webhooks/x/", "/"):
            assert self.ask(front, elsewhere, fine) == "418", elsewhere
        assert self.ask(front, path, fine, method="HEAD") == "418"
        assert self.ask(front, path, fine, host="alpha.localhost") == "418"
        assert not WebhookPost.objects.exists()

    def test_what_could_not_be_stored_is_to_come_again(
        self, front: webhooks.Front, resend: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: object) -> int:
            raise RuntimeError("no database")

        path = f"/webhooks/{resend.webhook_key}/"
        fine = post("resend", "delivered", METADATA, now=NOW)
        with monkeypatch.context() as patch:
            patch.setattr(webhooks, "_store", broken)
            assert self.ask(front, path, fine) == "503"
        assert self.ask(front, path, fine) == "200"
        assert WebhookPost.objects.count() == 1
