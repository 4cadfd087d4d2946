"""What every kind of account promises, each against a far end that answers as the real one does."""

import contextlib
import email
import json
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import override_settings

from providers.accounts import adapters
from providers.accounts.adapters.mime import as_bytes
from providers.accounts.envelope import Attachment, Envelope
from providers.accounts.errors import (
    AccountBlocked,
    AccountMisconfigured,
    DeliveryError,
    MessageRefused,
    NotAccepted,
    RecipientRefused,
    Throttled,
    Unsure,
)
from providers.accounts.models import Account
from tests.providers.scripted import FINE, HttpServer, SmtpServer

Make = Callable[..., Envelope]
SECRET = "s3cr3t-Key.do-not-show"
AMAZON_ERROR = "x-amzn-ErrorType"


@dataclass
class FarEnd:
    """A provider that can be told to misbehave, and the account that points to it."""

    kind: str
    credentials: dict[str, str]
    options: dict[str, Any]
    server: HttpServer | SmtpServer
    script: dict[str, Any]
    id: str | None
    settings: tuple[str, ...]
    wires: list[adapters.Wire] = field(default_factory=list)

    def does(self, what: str) -> None:
        told = self.script[what]
        if isinstance(self.server, HttpServer):
            self.server.answer = told
        else:
            self.server.answers = FINE | told

    @property
    def wire(self) -> adapters.Wire:
        if not self.wires:
            self.wires.append(adapters.open(self.kind, self.credentials, self.options))
        return self.wires[0]

    @property
    def uploads(self) -> int:
        if isinstance(self.server, HttpServer):
            return len(self.server.posts)
        return len(self.server.mails)


CUT_AND_SILENT = {"cut": "cut", "silent": "silence", "unavailable": (503, {}, {}), "broken": (500, {}, {})}
HTTP: dict[str, dict[str, Any]] = {
    "resend": {
        "credentials": {"api_key": SECRET},
        "id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794",
        "fine": (200, {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}, {}),
        "wrong key": (
            401,
            {"statusCode": 401, "message": f"API key {SECRET} is invalid", "name": "invalid_api_key"},
            {},
        ),
        "too fast": (
            429,
            {"statusCode": 429, "message": "Too many requests", "name": "rate_limit_exceeded"},
            {"retry-after": "7"},
        ),
        "bad recipient": (
            422,
            {"statusCode": 422, "message": "Invalid `to` field.", "name": "validation_error"},
            {},
        ),
        "spent": (
            429,
            {"statusCode": 429, "message": "You have reached your daily quota.", "name": "daily_quota_exceeded"},
            {},
        ),
    },
    "sendgrid": {
        "credentials": {"api_key": SECRET},
        "id": "alpha/resend/1",
        "fine": (202, "", {"X-Message-Id": "14c5d75ce93"}),
        "wrong key": (
            401,
            {"errors": [{"message": f"The grant {SECRET} is invalid", "field": None, "help": None}]},
            {},
        ),
        "too fast": (
            429,
            {"errors": [{"message": "too many requests", "field": None}]},
            {"Retry-After": "7"},
        ),
        "bad recipient": (
            400,
            {"errors": [{"message": "Does not contain a valid address.", "field": "personalizations.0.to.0.email"}]},
            {},
        ),
        "spent": (401, {"errors": [{"message": "Maximum credits exceeded", "field": None}]}, {}),
    },
    "postmark": {
        "credentials": {"server_token": SECRET},
        "id": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817",
        "fine": (
            200,
            {
                "To": "carol1@example.com",
                "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817",
                "ErrorCode": 0,
                "Message": "OK",
            },
            {},
        ),
        "wrong key": (401, {"ErrorCode": 10, "Message": f"No Server for token {SECRET}"}, {}),
        "too fast": (429, {"ErrorCode": 429, "Message": "Rate limit exceeded"}, {"Retry-After": "7"}),
        "bad recipient": (
            422,
            {
                "ErrorCode": 406,
                "Message": "You tried to send to a recipient that has been marked as inactive.\n"
                "Found inactive addresses: carol1@example.com.\nInactive recipients are ones that have bounced.",
            },
            {},
        ),
        "spent": (422, {"ErrorCode": 405, "Message": "Not allowed to send. You ran out of credits."}, {}),
    },
    "mailgun": {
        "credentials": {"api_key": SECRET},
        "id": "<20111114174239.25659.5817@samples.mailgun.org>",
        "fine": (
            200,
            {"id": "<20111114174239.25659.5817@samples.mailgun.org>", "message": "Queued. Thank you."},
            {},
        ),
        "wrong key": (401, f"Forbidden {SECRET}", {}),
        "too fast": (429, {"message": "Too many requests"}, {"Retry-After": "7"}),
        "bad recipient": (400, {"message": "'to' parameter is not a valid address. please check documentation"}, {}),
        "spent": (403, {"message": "Domain is suspended, the account is disabled"}, {}),
    },
    "amazon_ses": {
        "credentials": {"access_key_id": "AKIASANDBOX", "secret_access_key": SECRET},
        "options": {"region": "eu-central-1"},
        "id": "0107018f-6d4e-1111",
        "fine": (200, {"MessageId": "0107018f-6d4e-1111"}, {}),
        "wrong key": (
            403,
            {"message": f"The security token {SECRET} included in the request is invalid."},
            {AMAZON_ERROR: "UnrecognizedClientException"},
        ),
        "too fast": (
            429,
            {"message": "Maximum sending rate exceeded."},
            {AMAZON_ERROR: "TooManyRequestsException", "Retry-After": "7"},
        ),
        "spent": (400, {"message": "Sending is paused"}, {AMAZON_ERROR: "SendingPausedException"}),
    },
}
SMTP = {
    "fine": {},
    "wrong key": {"auth": f"535 5.7.8 no {SECRET} here"},
    "too fast": {"mail": "451 4.7.1 rate exceeded, try again in 7 seconds"},
    "bad recipient": {"rcpt": "550 5.1.1 user unknown"},
    "spent": {"mail": "550 5.7.1 this account is suspended"},
    "unavailable": {"mail": "421 4.3.2 closing"},
    "cut": {"dot": "drop"},
    "silent": {"dot": "silence"},
}


@pytest.fixture
def http_far_end(request: pytest.FixtureRequest, http_server: HttpServer) -> Iterator[FarEnd]:
    yield from _far_end(request.param, http_server)


@pytest.fixture(params=[*HTTP, "smtp"])
def far_end(request: pytest.FixtureRequest) -> Iterator[FarEnd]:
    with SmtpServer() if request.param == "smtp" else HttpServer() as server:
        yield from _far_end(request.param, server)


def _far_end(kind: str, server: HttpServer | SmtpServer) -> Iterator[FarEnd]:
    if isinstance(server, SmtpServer):
        end = FarEnd(
            kind,
            {"username": "anna", "password": SECRET},
            {
                "host": "127.0.0.1",
                "port": server.port,
                "security": "none",
                "command_timeout": 0.5,
                "answer_timeout": 0.3,
            },
            server,
            SMTP,
            "4XYZ",
            ("username", "password"),
        )
    else:
        told = HTTP[kind]
        end = FarEnd(
            kind,
            told["credentials"],
            {"api_url": server.url, "read_timeout": 0.3, **told.get("options", {})},
            server,
            CUT_AND_SILENT | told,
            told["id"],
            tuple(told["credentials"]),
        )
    end.does("fine")
    yield end
    for wire in end.wires:
        wire.close()


def failure(send: Callable[[], object]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send()
    return caught.value


class TestEveryKind:
    def test_it_hands_over_a_mail_once_and_tells_the_id(self, far_end: FarEnd, envelope: Make) -> None:
        assert far_end.wire.send(envelope()) == far_end.id
        assert far_end.uploads == 1

    def test_it_sends_many_through_one_wire(self, far_end: FarEnd, envelope: Make) -> None:
        for number in range(3):
            far_end.wire.send(envelope(number, recipient="carol1@example.com"))
        assert far_end.uploads == 3

    def test_a_wrong_key_blocks_the_account_and_names_the_setting(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.does("wrong key")
        error = failure(lambda: far_end.wire.send(envelope()))
        assert type(error) is AccountBlocked
        assert any(name in error.detail for name in far_end.settings)

    def test_verify_sends_nothing_and_finds_a_wrong_key(self, far_end: FarEnd) -> None:
        far_end.wire.verify()
        far_end.wire.close()
        far_end.does("wrong key")
        error = failure(far_end.wire.verify)
        assert type(error) is AccountBlocked
        assert any(name in error.detail for name in far_end.settings)
        assert SECRET not in error.detail
        assert far_end.uploads == 0

    def test_a_spent_or_suspended_account_is_blocked(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.does("spent")
        assert type(failure(lambda: far_end.wire.send(envelope()))) is AccountBlocked

    def test_a_refused_connection_is_surely_not_taken(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.options |= _pointing_to(far_end, _closed_port())
        assert type(failure(lambda: far_end.wire.send(envelope()))) is NotAccepted
        assert type(failure(far_end.wire.verify)) is NotAccepted

    def test_an_unknown_name_is_surely_not_taken(
        self, far_end: FarEnd, envelope: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nobody(*args: object, **kwargs: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", nobody)
        assert type(failure(lambda: far_end.wire.send(envelope()))) is NotAccepted

    def test_too_fast_says_how_long_to_wait_and_posts_once(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.does("too fast")
        error = failure(lambda: far_end.wire.send(envelope()))
        assert isinstance(error, Throttled)
        assert error.after == 7
        assert not error.recipient_only
        assert far_end.uploads == (0 if far_end.kind == "smtp" else 1)

    def test_a_dead_recipient_is_final_for_the_address(self, far_end: FarEnd, envelope: Make) -> None:
        if far_end.kind == "amazon_ses":
            pytest.skip("Amazon takes any recipient and tells by an event")
        far_end.does("bad recipient")
        error = failure(lambda: far_end.wire.send(envelope()))
        assert isinstance(error, RecipientRefused)
        assert error.hard

    def test_an_unavailable_service_has_surely_not_taken_it(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.does("unavailable")
        assert type(failure(lambda: far_end.wire.send(envelope()))) is NotAccepted

    def test_a_cut_after_the_upload_is_in_doubt_and_posts_once(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.does("cut")
        assert type(failure(lambda: far_end.wire.send(envelope()))) is Unsure
        assert far_end.uploads == 1

    def test_silence_after_the_upload_is_in_doubt_and_posts_once(self, far_end: FarEnd, envelope: Make) -> None:
        far_end.does("silent")
        assert type(failure(lambda: far_end.wire.send(envelope()))) is Unsure
        assert far_end.uploads == 1

    def test_it_works_again_after_each_failure(self, far_end: FarEnd, envelope: Make) -> None:
        for trouble in ("cut", "too fast", "unavailable", "silent", "spent"):
            far_end.does(trouble)
            failure(lambda: far_end.wire.send(envelope()))
            far_end.does("fine")
            assert far_end.wire.send(envelope()) == far_end.id

    @pytest.mark.parametrize("trouble", ["wrong key", "too fast", "spent", "cut", "silent", "unavailable"])
    def test_no_error_shows_a_credential(self, far_end: FarEnd, envelope: Make, trouble: str) -> None:
        far_end.does(trouble)
        error = failure(lambda: far_end.wire.send(envelope()))
        chain: BaseException | None = error
        while chain is not None:
            assert SECRET.lower() not in f"{chain} {chain!r} {vars(chain)}".lower()
            chain = chain.__cause__ or chain.__context__
        assert error.detail
        assert "\n" not in error.detail

    def test_one_wire_per_thread_keeps_each_mail_whole(self, far_end: FarEnd, envelope: Make) -> None:
        failures: list[BaseException] = []

        def work(first: int) -> None:
            try:
                with adapters.open(far_end.kind, far_end.credentials, far_end.options) as wire:
                    for number in range(first, first + 5):
                        wire.send(envelope(number, recipient="carol1@example.com"))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(index * 100,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert failures == []
        assert far_end.uploads == 20


@pytest.mark.parametrize("http_far_end", HTTP, indirect=True)
class TestEveryHttpKind:
    def test_a_broken_service_may_have_taken_it(self, http_far_end: FarEnd, envelope: Make) -> None:
        http_far_end.does("broken")
        assert type(failure(lambda: http_far_end.wire.send(envelope()))) is Unsure
        assert http_far_end.uploads == 1

    def test_a_yes_that_cannot_be_read_is_a_yes(self, http_far_end: FarEnd, envelope: Make) -> None:
        # Botocore itself breaks on a list, before it tells the status.
        more = () if http_far_end.kind == "amazon_ses" else ("[]", "null")
        for garbage in ("<html>", "{}", '{"id": 7', *more):
            http_far_end.server.answer = (200, garbage, {})
            found = http_far_end.wire.send(envelope())
            assert found in (None, "alpha/resend/1")

    def test_a_redirect_is_not_followed(self, http_far_end: FarEnd, envelope: Make) -> None:
        http_far_end.server.answer = (307, {}, {"Location": f"{http_far_end.server.url}elsewhere"})
        error = failure(lambda: http_far_end.wire.send(envelope()))
        assert type(error) is NotAccepted
        assert http_far_end.uploads == 1

    def test_settings_of_anymail_have_no_say(self, http_far_end: FarEnd, envelope: Make) -> None:
        elsewhere = f"http://127.0.0.1:{_closed_port()}/"
        names = [name.upper() for name in HTTP]
        anymail = {f"{name}_API_URL": elsewhere for name in names} | {f"{name}_API_KEY": "no" for name in names}
        with override_settings(ANYMAIL=anymail | {"DEBUG_API_REQUESTS": True, "REQUESTS_TIMEOUT": 0.001}):
            assert http_far_end.wire.send(envelope()) == http_far_end.id

    def test_a_receiver_that_fails_after_a_yes_changes_nothing(self, http_far_end: FarEnd, envelope: Make) -> None:
        from anymail.signals import post_send

        def receiver(**kwargs: object) -> None:
            raise RuntimeError("too late")

        post_send.connect(receiver)
        try:
            assert http_far_end.wire.send(envelope()) == http_far_end.id
        finally:
            post_send.disconnect(receiver)

    def test_the_mail_goes_to_one_recipient_with_its_headers(self, http_far_end: FarEnd, envelope: Make) -> None:
        http_far_end.wire.send(envelope())
        raw = http_far_end.server.posts[0].body.decode()
        if http_far_end.kind == "amazon_ses":
            import base64

            request = json.loads(raw)
            assert request["Destination"] == {"ToAddresses": ["carol1@example.com"]}
            raw = base64.b64decode(request["Content"]["Raw"]["Data"]).decode()
        for part in ("carol1", "One-Click", "1@mail.alpha.test"):
            assert part in raw or part.replace("@", "%40") in raw


class TestFiles:
    PNG, PDF = b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"%PDF-1.7 the price list"

    @pytest.fixture
    def with_files(self, envelope: Make) -> Envelope:
        shown = Attachment("logo.png", "image/png", "1", self.PNG, "logo.png@alpha.test")
        html = '<p>Hello <img src="cid:logo.png@alpha.test"></p>'
        return envelope(html=html, files=(shown, Attachment("prices.pdf", "application/pdf", "2", self.PDF)))

    @pytest.mark.parametrize("http_far_end", HTTP, indirect=True)
    def test_they_go_as_the_provider_wants_them(self, http_far_end: FarEnd, with_files: Envelope) -> None:
        assert http_far_end.wire.send(with_files) == http_far_end.id
        body, encoded = http_far_end.server.posts[0].body, [b64encode(one).decode() for one in (self.PNG, self.PDF)]
        match http_far_end.kind:
            case "mailgun":
                assert b'name="inline"; filename="logo.png@alpha.test"' in body
                assert b'name="attachment"; filename="prices.pdf"' in body
                assert self.PNG in body
                assert self.PDF in body
            case "amazon_ses":
                raw = b64decode(json.loads(body)["Content"]["Raw"]["Data"])
                assert _tree(email.message_from_bytes(raw)) == _tree(email.message_from_bytes(as_bytes(with_files)))
            case "postmark":
                shown, attached = json.loads(body)["Attachments"]
                assert (shown["ContentID"], shown["Content"], attached["Content"]) == (
                    "cid:logo.png@alpha.test",
                    *encoded,
                )
                assert "ContentID" not in attached
            case _:
                shown, attached = json.loads(body)["attachments"]
                assert (shown["content_id"], shown["content"], attached["content"]) == ("logo.png@alpha.test", *encoded)
                assert "content_id" not in attached

    def test_a_picture_needs_html_and_a_name_cannot_become_a_header(self, envelope: Make, with_files: Envelope) -> None:
        with pytest.raises(MessageRefused, match="HTML"):
            envelope(html=None, files=with_files.files)
        with pytest.raises(MessageRefused, match="line break"):
            Attachment("a\r\nBcc: eve@example.com", "text/plain", "3", b"x")

    def test_another_file_is_another_mail(self, envelope: Make, with_files: Envelope) -> None:
        account = Account(kind="resend", credentials={"api_key": "x"}, options={})
        other = (*with_files.files[:1], Attachment("prices.pdf", "application/pdf", "4", b"%PDF-1.7 others"))
        found = {
            adapters.fingerprint(account, envelope(html=with_files.html, files=files))
            for files in ((), with_files.files, other)
        }
        assert len(found) == 3


def _tree(part: Any) -> Any:
    if part.is_multipart():
        return part.get_content_type(), [_tree(one) for one in part.get_payload()]
    content = part.get_payload(decode=True)
    kept = content if part.get_content_maintype() != "text" else content.decode().strip().replace("\r\n", "\n")
    return part.get_content_type(), part["Content-Disposition"], part["Content-ID"], kept


class TestResend:
    @pytest.fixture
    def end(self, http_server: HttpServer) -> Iterator[FarEnd]:
        yield from _far_end("resend", http_server)

    def test_the_key_travels_as_a_header_and_the_body_is_the_same_each_time(self, end: FarEnd, envelope: Make) -> None:
        mails = [envelope(), envelope(metadata={"agency": "alpha", "message": "1"})]
        mails.append(envelope(headers=dict(reversed(mails[0].headers.items()))))
        for mail in mails:
            with adapters.open("resend", end.credentials, end.options) as wire:
                wire.send(mail)
        first, *others = end.server.posts
        assert first.headers["idempotency-key"] == "alpha/resend/1"
        assert "idempotency-key" not in json.dumps(first.json()).lower()
        for other in others:
            assert other.body == first.body
            assert other.headers["idempotency-key"] == first.headers["idempotency-key"]

    def test_a_key_that_is_in_use_leaves_doubt(self, end: FarEnd, envelope: Make) -> None:
        answer = {"statusCode": 409, "message": "Same key", "name": "concurrent_idempotent_requests"}
        end.server.answer = (409, answer, {})
        assert type(failure(lambda: end.wire.send(envelope()))) is Unsure

    def test_mails_together_are_one_request_with_one_key(self, end: FarEnd, envelope: Make) -> None:
        end.server.answer = (
            200,
            {"data": [{"id": "r0"}, {"id": "r2"}], "errors": [{"index": 1, "message": "Bad"}]},
            {},
        )
        mails = [envelope(number) for number in range(3)]
        found = end.wire.send_together(mails, "alpha/claim/1")
        assert (found[0], found[2]) == ("r0", "r2")
        assert isinstance(found[1], MessageRefused | RecipientRefused)
        (post,) = end.server.posts
        assert post.path.endswith("/emails/batch")
        assert post.headers["idempotency-key"] == "alpha/claim/1"
        assert [mail.recipient in one["to"][0] for mail, one in zip(mails, post.json(), strict=True)] == [True] * 3
        end.wire.send_together(mails, "alpha/claim/1")
        assert end.server.posts[1].body == post.body

    @pytest.mark.parametrize("answer", ["what?", {"data": [{"id": "r0"}]}, {"data": [], "errors": [{"index": 9}]}])
    def test_a_yes_to_many_that_cannot_be_read_is_a_yes(self, end: FarEnd, envelope: Make, answer: object) -> None:
        end.server.answer = (200, answer, {})
        with contextlib.suppress(Unsure):
            assert end.wire.send_together([envelope(1), envelope(2)], "alpha/claim/1") == [None, None]
        assert len(end.server.posts) == 1

    @pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, NotAccepted), (500, Unsure), (409, Unsure)])
    def test_what_is_wrong_with_a_whole_request_is_said_once(
        self, end: FarEnd, envelope: Make, status: int, kind: type[DeliveryError]
    ) -> None:
        end.server.answer = (status, {"statusCode": status, "message": "no", "name": "x"}, {})
        assert type(failure(lambda: end.wire.send_together([envelope(1), envelope(2)], "k"))) is kind

    def test_a_key_that_was_used_with_other_bytes_says_that_the_mail_was_taken(
        self, end: FarEnd, envelope: Make
    ) -> None:
        answer = {"statusCode": 409, "message": "Same key", "name": "invalid_idempotent_request"}
        end.server.answer = (409, answer, {})
        assert end.wire.send(envelope()) is None
        assert end.wire.send_together([envelope(1), envelope(2)], "k") == [None, None]

    def test_a_key_that_may_only_send_is_verified(self, end: FarEnd) -> None:
        end.server.answer = (
            401,
            {"statusCode": 401, "message": "This API key is restricted", "name": "restricted_api_key"},
            {},
        )
        end.wire.verify()


class TestPostmark:
    def test_a_refusal_that_anymail_overlooks_is_a_refusal(self, http_server: HttpServer, envelope: Make) -> None:
        http_server.answer = (422, {"ErrorCode": 300, "Message": "Error parsing 'To': no idea"}, {})
        with adapters.open("postmark", {"server_token": SECRET}, {"api_url": http_server.url}) as wire:
            assert isinstance(failure(lambda: wire.send(envelope())), RecipientRefused)


class TestOpening:
    @pytest.mark.parametrize(
        ("kind", "credentials", "options", "setting"),
        [
            ("fax", {}, {}, "kind"),
            ("resend", {}, {}, "api_key"),
            ("resend", {"api_key": ""}, {}, "api_key"),
            ("resend", {"api_key": "re_1\n"}, {}, "api_key"),
            ("resend", {"api_key": " re_1"}, {}, "api_key"),
            ("resend", {"api_key": "re_1", "token": "x"}, {}, "token"),
            ("resend", {"api_key": "re_1"}, {"url": "x"}, "url"),
            ("postmark", {"api_key": "x"}, {}, "server_token"),
            ("amazon_ses", {"access_key_id": "a", "secret_access_key": "b"}, {}, "region"),
            ("smtp", {}, {}, "host"),
            ("smtp", {"username": "a"}, {"host": "mail.test"}, "password"),
            ("smtp", {}, {"host": "mail.test", "security": "ssl"}, "security"),
            ("smtp", {"username": "a", "password": "b"}, {"host": "mail.test", "security": "none"}, "security"),
        ],
    )
    def test_a_wrong_setting_is_named(
        self, kind: str, credentials: dict[str, str], options: dict[str, Any], setting: str
    ) -> None:
        with pytest.raises(AccountMisconfigured) as caught:
            adapters.open(kind, credentials, options)
        assert caught.value.setting == setting
        assert "re_1" not in str(caught.value)

    def test_the_number_of_connections_is_not_the_wires_business(self) -> None:
        adapters.open("smtp", {}, {"host": "mail.test", "connections": 4}).close()

    def test_only_resend_is_idempotent(self) -> None:
        assert [name for name, kind in adapters.KINDS.items() if kind.idempotent] == ["resend"]

    def test_no_kind_lets_a_header_be_injected(self, envelope: Make) -> None:
        with pytest.raises(MessageRefused):
            envelope(headers={"X-A: b\r\nBcc": "evil@example.com"})


def _pointing_to(far_end: FarEnd, port: int) -> dict[str, Any]:
    return {"port": port} if far_end.kind == "smtp" else {"api_url": f"http://127.0.0.1:{port}/"}


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
