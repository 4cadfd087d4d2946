"""What happens is posted to webhooks: signed, in order, again after failures, and by nobody's slowness held up."""

import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from campaigns import actions, erasure, feed, hooks, jobs
from campaigns.hooks import DELAYS, HookRefusedError
from campaigns.models import Endpoint, FeedEntry, HookAttempt, HookDelivery, Suppression
from campaigns.posting import Answer
from outreach.schedules import SCHEDULES
from tenants import context
from tenants import jobs as queue
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests.visitor import Visitor, at, body

NOON = datetime.now(UTC).replace(microsecond=0)
URL = "http://127.0.0.1:9/hook"
OK, DOWN = Answer(200, "", 0.01, "fine"), Answer(500, "", 0.01, "oh no")
State = HookDelivery.State
ADDED = FeedEntry.Kind.SUPPRESSED


class Wire:
    """The far end: keeps what was posted, answers as it is told by address, or else takes it."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any], Mapping[str, str]]] = []
        self.answers: dict[str, Answer] = {}
        self._lock = threading.Lock()

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        with self._lock:
            self.posts.append((url, json.loads(body), headers))
            return self.answers.get(url, OK)

    def positions(self, url: str = URL) -> list[int]:
        return [body["position"] for to, body, _headers in self.posts if to == url]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def happen(*names: str) -> None:
    for name in names:
        Suppression.objects.create(value=f"{name}@x.example", source="manual")


def post(wire: Wire, *agencies: Agency, at: datetime = NOON) -> None:
    hooks.post(agencies, clock=lambda: at, until=at + timedelta(seconds=1), wire=wire)


def test_each_event_is_posted_once_in_the_order_of_the_feed(alpha: Agency, beta: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        happen("before")
        _endpoint, secret = hooks.create(URL, now=NOON)
        happen(*"abcdefghijklmno")
    with context.entered(beta):
        happen("theirs")
    post(wire, alpha, beta)
    post(wire, alpha, beta)
    assert sorted(wire.positions()) == list(range(2, 17))
    # Some are posted at once, in no order; none before all those were begun that are further ahead.
    assert max(wire.positions()[: hooks.AT_ONCE]) < 2 + 2 * hooks.AT_ONCE
    _url, body, _headers = min(wire.posts, key=lambda one: one[1]["position"])
    assert (body["type"], body["data"]["value"]) == (ADDED, "a@x.example")
    assert len({headers["webhook-id"] for _url, _body, headers in wire.posts}) == 15
    with context.entered(alpha):
        assert set(HookDelivery.objects.values_list("state", flat=True)) == {State.DELIVERED}
        attempt = HookAttempt.objects.first()
        assert attempt is not None
        assert (attempt.status, attempt.answer, attempt.milliseconds) == (200, "fine", 10)
        with connection.cursor() as cursor:
            cursor.execute("SELECT e::text FROM campaigns_endpoint e")
            assert secret.removeprefix("whsec_") not in str(cursor.fetchall())


def test_only_what_is_chosen_is_posted(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        hooks.create(URL, kinds=[FeedEntry.Kind.UNSUPPRESSED], now=NOON)
        happen("a", "b")
        Suppression.objects.filter(value="a@x.example").delete()
    post(wire, alpha)
    assert [body["type"] for _url, body, _headers in wire.posts] == [FeedEntry.Kind.UNSUPPRESSED]
    with context.entered(alpha):
        assert Endpoint.objects.get().position == 3


def test_posts_are_signed_with_both_secrets_for_a_day(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        endpoint, old = hooks.create(URL, now=NOON)
        new = hooks.rotate(endpoint, now=NOON)
        happen("a")
        post(wire, alpha)
        happen("b")
        post(wire, alpha, at=NOON + hooks.BOTH_SECRETS_FOR)
    first, second = ({**headers, "body": json_of(body)} for _url, body, headers in wire.posts)
    assert len(first["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert signed_by(old, first)
    assert signed_by(new, first)
    assert signed_by(new, second)
    assert not signed_by(old, second)


def test_the_example_in_the_docs_takes_our_posts_and_no_others(alpha: Agency, wire: Wire) -> None:
    given: dict[str, Any] = {}
    (example,) = re.findall(r"```python\n(.*?)```", Path("docs/webhooks.md").read_text(), re.DOTALL)
    exec(example, given)
    with context.entered(alpha):
        _endpoint, secret = hooks.create(URL, now=NOON)
        happen("a")
    post(wire, alpha)
    _url, body, headers = wire.posts[0]
    assert given["is_ours"](secret, headers, json_of(body).encode())
    assert not given["is_ours"](secret, headers, json_of(body).encode() + b" ")
    assert not given["is_ours"]("whsec_" + base64.b64encode(b"other").decode(), headers, json_of(body).encode())


def test_of_an_erased_person_nothing_is_posted_or_kept(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("zoe")
        wire.answers[URL] = Answer(500, "", 0.01, "no such user zoe@x.example")
        post(wire, alpha)
        erasure.erase("zoe@x.example", by="carol", clock=lambda: NOON)
        assert HookAttempt.objects.get().answer == "no such user erased"
        wire.answers.clear()
        post(wire, alpha, at=NOON + timedelta(hours=1))
    assert len(wire.posts) >= 2
    assert "zoe" not in json.dumps([body for _url, body, _headers in wire.posts[1:]])


def json_of(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def signed_by(secret: str, post: Mapping[str, str]) -> bool:
    """Whether anybody who has the secret takes the post for ours, whenever it was."""
    at = datetime.fromtimestamp(int(post["webhook-timestamp"]), UTC)
    wanted = Webhook(secret).sign(post["webhook-id"], at, post["body"])
    return wanted in post["webhook-signature"].split()


def test_a_failure_comes_again_for_two_days_and_holds_up_nobody(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        endpoint, _secret = hooks.create(URL, now=NOON)
        happen("a")
    wire.answers[URL] = DOWN
    now, times = NOON, []
    while True:
        post(wire, alpha, at=now)
        with context.entered(alpha):
            delivery = HookDelivery.objects.get()
        times.append(now)
        if delivery.next_at is None:
            break
        # A moment before, nothing is posted.
        post(wire, alpha, at=delivery.next_at - timedelta(seconds=1))
        assert len(wire.posts) == len(times)
        now = delivery.next_at
    assert (len(times), delivery.state) == (len(DELAYS) + 1, State.FAILED)
    assert timedelta(hours=40) < times[-1] - times[0] < timedelta(hours=54)
    assert len({headers["webhook-id"] for _url, _body, headers in wire.posts}) == 1
    with context.entered(alpha):
        happen("b")
    wire.answers[URL] = OK
    post(wire, alpha, at=now)
    assert wire.positions()[-1] == 2
    with context.entered(alpha):
        assert Endpoint.objects.get().failing_since is None
        assert hooks.redeliver_failed(endpoint, since=NOON, now=now) == 1
        assert hooks.redeliver_failed(endpoint, since=NOON, now=now) == 0
    post(wire, alpha, at=now)
    assert wire.positions()[-1] == 1
    with context.entered(alpha):
        assert hooks.redeliver(HookDelivery.objects.filter(position=2), now=now) == 1
        assert HookAttempt.objects.filter(delivery__position=1).count() == len(times) + 1


def test_one_event_that_fails_does_not_block_the_next(alpha: Agency) -> None:
    taken: list[int] = []

    def picky(_url: str, body: bytes, _headers: Mapping[str, str]) -> Answer:
        position = json.loads(body)["position"]
        taken.append(position)
        return DOWN if position == 1 else OK

    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("a", "b", "c")
        hooks.post([alpha], clock=lambda: NOON, until=NOON + timedelta(seconds=1), wire=picky)
        states = dict(HookDelivery.objects.values_list("position", "state"))
    assert sorted(taken) == [1, 2, 3]
    assert states == {1: State.WAITING, 2: State.DELIVERED, 3: State.DELIVERED}


def test_a_fault_of_our_own_costs_its_post_alone(alpha: Agency) -> None:
    def faulty(_url: str, body: bytes, _headers: Mapping[str, str]) -> Answer:
        if json.loads(body)["position"] == 1:
            raise RuntimeError
        return OK

    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("a", "b")
        hooks.post([alpha], clock=lambda: NOON, until=NOON + timedelta(seconds=1), wire=faulty)
        states = dict(HookDelivery.objects.values_list("position", "state"))
    assert states == {1: State.WAITING, 2: State.DELIVERED}


@given(st.integers(1, 20), st.text(max_size=8), st.one_of(st.none(), st.floats(0, 1e9)))
def test_delays_are_bounded_and_always_the_same(attempt: int, seed: str, retry_after: float | None) -> None:
    found = hooks.delay(attempt, seed, retry_after)
    assert found == hooks.delay(attempt, seed, retry_after)
    if attempt > len(DELAYS):
        assert found is None
        return
    assert found is not None
    assert DELAYS[attempt - 1] * 0.9 <= found <= max(DELAYS[attempt - 1] * 1.1, hooks.LONGEST_DELAY)
    if retry_after and retry_after < 86_400:
        assert found >= timedelta(seconds=retry_after)


def test_an_endpoint_that_is_gone_or_fails_for_days_is_switched_off_and_goes_on_where_it_stopped(
    alpha: Agency, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    with context.entered(alpha):
        endpoint, _secret = hooks.create(URL, now=NOON)
        happen("a")
        wire.answers[URL] = DOWN
        post(wire, alpha)
        happen("b")
        post(wire, alpha, at=NOON + timedelta(days=4, hours=23))
        endpoint.refresh_from_db()
        assert endpoint.off == ""
        happen("c")
        post(wire, alpha, at=NOON + hooks.GIVES_UP_AFTER)
        endpoint.refresh_from_db()
        assert (endpoint.off, endpoint.off_at) == (Endpoint.Off.FAILING, NOON + hooks.GIVES_UP_AFTER)
        assert "webhook switched off: failing" in caplog.text
        before = len(wire.posts)
        happen("d")
        later = NOON + timedelta(days=6)
        post(wire, alpha, at=later)
        assert len(wire.posts) == before
        with pytest.raises(HookRefusedError):
            hooks.test(endpoint, now=later)
        hooks.switch_on(endpoint)
        wire.answers[URL] = OK
        post(wire, alpha, at=later)
        assert 4 in wire.positions()[before:]
        wire.answers[URL] = Answer(410, "", 0.01)
        happen("e")
        post(wire, alpha, at=later)
        endpoint.refresh_from_db()
        assert endpoint.off == Endpoint.Off.GONE
        assert HookDelivery.objects.get(position=5).state == State.FAILED


def test_those_who_may_change_it_are_mailed_in_their_language_when_it_is_switched_off(
    carol: User, wire: Wire, mailoutbox: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    agency = Agency.objects.get(slug="alpha")
    Agency.objects.filter(pk=agency.pk).update(language="ru")
    wire.answers[URL] = Answer(410, "", 0.01)
    with context.entered(agency):
        User.objects.create_user("reader@alpha.example", "x")
        endpoint, secret = hooks.create(URL, name="Till", now=NOON)
        happen("a")
        with django_capture_on_commit_callbacks(execute=True):
            post(wire, agency)
        assert queue.waiting() == 1
    with context.entered(Agency.objects.get(slug="alpha")):
        jobs.tell_of_webhook(endpoint.pk)
        (mail,) = mailoutbox
        assert (mail.to, mail.extra_headers["Importance"]) == ([carol.email], "high")
        assert mail.subject == "Вебхук выключен: Till"
        assert URL in mail.body
        assert f"/webhooks/{endpoint.pk}/" in mail.body
        assert secret not in mail.body
        hooks.switch_on(endpoint)
        jobs.tell_of_webhook(endpoint.pk)
        hooks.switch_off(endpoint, now=NOON)
        jobs.tell_of_webhook(endpoint.pk)
    assert len(mailoutbox) == 1


def test_what_a_dead_worker_held_is_posted_again_and_its_late_result_changes_nothing(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("a")
        (lost,) = hooks._take(NOON)
        post(wire, alpha)
        assert wire.posts == []
        post(wire, alpha, at=NOON + hooks.LEASE)
        assert wire.positions() == [1]
        hooks._settle([(lost, DOWN)], NOON + hooks.LEASE)
        assert HookDelivery.objects.get().state == State.DELIVERED
        assert wire.posts[0][2]["webhook-id"] == lost.headers["webhook-id"]


def test_a_test_event_is_posted_like_any_other(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        endpoint, _secret = hooks.create(URL, kinds=[FeedEntry.Kind.SENT], now=NOON)
        hooks.test(endpoint, now=NOON)
        post(wire, alpha)
        (_url, body, _headers) = wire.posts[0]
        assert (body["type"], body["data"]) == (hooks.TEST, {"endpoint": str(endpoint.key)})


def test_two_at_once_do_not_both_get_the_last_webhook(committed: dict[str, Agency], monkeypatch: Any) -> None:
    monkeypatch.setattr(hooks, "MOST_ENDPOINTS", 1)

    def make(number: int) -> str:
        try:
            with context.entered(committed["alpha"]):
                hooks.create(f"{URL}{number}", now=NOON)
        except HookRefusedError:
            return "refused"
        finally:
            connection.close()
        return "made"

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(make, range(8))) == {"made": 1, "refused": 7}


def test_an_address_inside_is_refused_when_it_is_written(alpha: Agency, settings: Any) -> None:
    settings.HOOKS_INSIDE = False
    with context.entered(alpha):
        for url in ("https://127.0.0.1/", "https://169.254.169.254/", "http://example.com/", "https://localhost/"):
            with pytest.raises(HookRefusedError):
                hooks.create(url, now=NOON)
        assert not Endpoint.objects.exists()


def test_an_address_that_became_one_inside_is_refused_when_it_is_posted_to(alpha: Agency, settings: Any) -> None:
    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("a")
        settings.HOOKS_INSIDE = False
        hooks.post([alpha], clock=lambda: NOON, until=NOON + timedelta(seconds=1))
        assert HookAttempt.objects.get().failure == "refused"


def test_the_job_posts_for_all_agencies_and_is_rung_for_by_who_waits(alpha: Agency, beta: Agency) -> None:
    assert (jobs.post_events, 1) in SCHEDULES.values()
    for agency in (alpha, beta):
        with context.entered(agency):
            endpoint, _secret = hooks.create(URL, now=NOON)
            actions.test_hook(endpoint, now=NOON)
    assert queue.waiting() == 2
    jobs.post_events()
    for agency in (alpha, beta):
        with context.entered(agency):
            assert HookAttempt.objects.get().failure == "connection"


def test_what_is_told_rings_once_and_only_where_somebody_is_told(
    committed: dict[str, Agency], wire: Wire, monkeypatch: Any
) -> None:
    alpha, beta = committed["alpha"], committed["beta"]
    monkeypatch.setattr(hooks, "_over_the_wire", wire)
    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        # As every fact is told: after its transaction, however much is told in it.
        with transaction.atomic():
            happen("a")
            feed.ring()
            feed.ring()
            assert not queue.waiting()
        feed.ring()
    with context.entered(beta):
        happen("theirs")
        feed.ring()
    assert queue.waiting() == 1
    jobs.post_told()
    assert len(wire.posts) == 1
    jobs.post_told()
    with context.entered(alpha):
        feed.ring()
    assert queue.waiting() == 2


def test_who_rings_while_posts_are_under_way_is_looked_after(alpha: Agency, beta: Agency, wire: Wire) -> None:
    with context.entered(beta):
        hooks.create(URL, now=NOON)
        happen("b")
    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("a")
    rings = iter([[alpha], [beta]])
    until = NOON + timedelta(seconds=1)
    assert not hooks.post([], clock=lambda: NOON, until=until, wire=wire, more=lambda: next(rings, []))
    assert len(wire.posts) == 2


def test_the_log_goes_back_a_month(alpha: Agency, wire: Wire) -> None:
    with context.entered(alpha):
        hooks.create(URL, now=NOON)
        happen("a")
        post(wire, alpha)
        assert hooks.purge(now=NOON + timedelta(days=29)) == 0
        assert hooks.purge(now=NOON + timedelta(days=31)) == 1
        assert not HookAttempt.objects.exists()
    post(wire, alpha)
    assert len(wire.posts) == 1


def test_programs_do_all_of_it_for_their_own_agency(alpha: Agency, beta: Agency, carol: User, wire: Wire) -> None:
    with context.entered(alpha):
        secret = keys.issue(carol, "program", expires_at=None)
    with context.entered(beta):
        theirs, _secret = hooks.create(URL, now=NOON)

    def ask(method: str, path: str, data: Any = None) -> Any:
        headers = {"authorization": f"Bearer {secret}"}
        ask = getattr(at(alpha), method)
        return ask(f"/api/v1/endpoints/{path}", data, content_type="application/json", headers=headers)

    assert set(ask("post", "", {"url": "ftp://x"}).json()["error"]["fields"]) == {"url"}
    assert set(ask("post", "", {"url": URL, "types": ["nothing"]}).json()["error"]["fields"]) == {"types"}
    made = ask("post", "", {"url": URL, "name": "Ours", "types": [ADDED]}).json()
    assert made.pop("secret").startswith("whsec_")
    assert (made["enabled"], made["types"], made["name"]) == (True, [ADDED], "Ours")
    (listed,) = ask("get", "").json()
    own = f"{made['id']}/"
    assert listed == made == ask("get", own).json()
    assert ask("post", f"{own}rotate/", {}).json()["secret"].startswith("whsec_")
    with context.entered(alpha):
        happen("a")
    wire.answers[URL] = Answer(410, "", 0.01, "gone")
    post(wire, alpha)
    assert ask("get", own).json()["disabled_reason"] == "gone"
    assert ask("post", f"{own}test/", {}).status_code == 409
    assert ask("patch", own, {"enabled": True}).json()["disabled_reason"] == ""
    (failed,) = ask("get", f"{own}deliveries/?state=failed").json()["results"]
    told = ask("get", f"{own}deliveries/{failed['id']}/").json()
    assert (told["tries"][0]["status"], told["tries"][0]["answer"]) == (410, "gone")
    assert json.loads(told["body"])["data"]["value"] == "a@x.example"
    assert ask("post", f"{own}redeliver/", {}).status_code == 400
    since = {"failed_since": (NOON - timedelta(days=1)).isoformat()}
    assert ask("post", f"{own}redeliver/", since).json() == {"count": 1}
    assert ask("post", f"{own}test/", {}).status_code == 202
    wire.answers.clear()
    post(wire, alpha, at=NOON + timedelta(hours=1))
    first, *again = (headers["webhook-id"] for _url, _body, headers in wire.posts)
    assert (first, len(again)) == (failed["webhook_id"], 2)
    assert first in again
    assert ask("post", f"{own}redeliver/", {"deliveries": [failed["id"], 1_000_000]}).json() == {"count": 1}
    assert ask("patch", own, {"enabled": False}).json()["disabled_reason"] == "person"
    assert ask("delete", own).status_code == 204
    for path in ("", "deliveries/"):
        assert ask("get", f"{theirs.pk + 1_000}/{path}").status_code == 404
    assert ask("get", "").json() == []
    with context.entered(beta):
        assert Endpoint.objects.count() == 1


def test_whoever_may_not_change_webhooks_reads_them_alone(alpha: Agency) -> None:
    with context.entered(alpha):
        endpoint, _secret = hooks.create(URL, now=NOON)
        reader = User.objects.create_user(email="reader@alpha.test", password="x")
        secret = keys.issue(reader, "program", expires_at=None)
    program = at(alpha)
    for method, path, status in (
        ("get", "", 200),
        ("post", "", 403),
        ("get", f"{endpoint.pk}/", 200),
        ("patch", f"{endpoint.pk}/", 403),
        ("delete", f"{endpoint.pk}/", 403),
        ("post", f"{endpoint.pk}/rotate/", 403),
        ("post", f"{endpoint.pk}/test/", 403),
        ("post", f"{endpoint.pk}/redeliver/", 403),
    ):
        answer = getattr(program, method)(
            f"/api/v1/endpoints/{path}", content_type="application/json", headers={"authorization": f"Bearer {secret}"}
        )
        assert answer.status_code == status, (method, path)


def test_people_do_all_of_it_in_the_portal(alpha: Agency, carols: Visitor, wire: Wire) -> None:
    made = carols.post("/webhooks/", {"url": URL, "name": "CRM", "kinds": [ADDED]})
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", body(made))
    assert made.headers["cache-control"] == "no-store"
    with context.entered(alpha):
        endpoint = Endpoint.objects.get()
        assert endpoint.secrets == {"current": secret}
        happen("a")
    own = f"/webhooks/{endpoint.pk}/"
    wire.answers[URL] = Answer(410, "", 0.01, "<b>gone</b>")
    post(wire, alpha)
    page = body(carols.get(own))
    assert "whsec_" not in page
    assert "gone for good" in page
    with context.entered(alpha):
        delivery = HookDelivery.objects.get()
    told = body(carols.get(f"{own}deliveries/{delivery.pk}/"))
    assert "&lt;b&gt;gone&lt;/b&gt;" in told
    assert "a@x.example" in told
    assert "No deliveries" in body(carols.get(f"{own}?state=delivered"))
    assert "Post again" in told
    assert secret not in body(carols.post(f"{own}rotate/"))
    for action in ("on", "test", "redeliver", "off", "delete"):
        data = {"delivery": delivery.pk} if action == "redeliver" else {}
        assert carols.post(f"{own}{action}/", data).status_code == 302
    assert carols.post(own, {"url": "gopher://x"}).status_code == 404
    assert carols.post(f"{own}explode/").status_code == 404
    with context.entered(alpha):
        assert not HookDelivery.objects.exists()


@pytest.fixture
def receivers() -> Iterator[dict[str, Any]]:
    """Two servers: one takes what comes and verifies it, one gives no answer until it is let go."""
    let_go = threading.Event()
    got: list[dict[str, Any]] = []
    found: dict[str, Any] = {"got": got, "let_go": let_go, "secret": ""}

    class Fast(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            try:
                got.append(Webhook(found["secret"]).verify(body.decode(), dict(self.headers)))
                self.send_response(200)
            except WebhookVerificationError:
                self.send_response(401)
            self.end_headers()
            if len(got) == 30:
                let_go.set()

        def log_message(self, *_: Any) -> None:
            pass

    class Hanging(Fast):
        def do_POST(self) -> None:
            let_go.wait(30)
            self.send_response(200)
            self.end_headers()

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (Fast, Hanging)]
    for name, server in zip(("fast", "hanging"), servers, strict=True):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found[name] = f"http://127.0.0.1:{server.server_port}/"
    yield found
    let_go.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_receiver_that_hangs_delays_no_other(alpha: Agency, beta: Agency, receivers: dict[str, Any]) -> None:
    """The one lets go only once the other, of the same agency and of another, has all: else neither ends in time."""
    with context.entered(alpha):
        hooks.create(receivers["hanging"], now=NOON)
        _endpoint, receivers["secret"] = hooks.create(receivers["fast"], now=NOON)
        happen(*map(str, range(15)))
    with context.entered(beta):
        hooks.create(receivers["hanging"], now=NOON)
        other, _secret = hooks.create(receivers["fast"], now=NOON)
        other.secrets = {"current": receivers["secret"]}
        other.save()
        happen(*map(str, range(15)))
    clock = lambda: datetime.now(UTC)  # noqa: E731
    hooks.post([alpha, beta], clock=clock, until=clock() + timedelta(seconds=60))
    assert sorted(body["position"] for body in receivers["got"]) == sorted([*range(1, 16)] * 2)
    assert receivers["let_go"].is_set()
    for agency in (alpha, beta):
        with context.entered(agency):
            assert not HookAttempt.objects.exclude(status=200).exists()
