"""How fast what providers post is stored, how fast it is acted on, and what that costs the sending engine."""

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection
from django.utils import timezone

from campaigns import feedback
from campaigns.models import Message, Suppression
from providers.accounts.models import Account, WebhookPost
from providers.sandbox.posting import SECRETS, Event, signed
from tenants import context
from tenants.models import Agency
from tests.benchmarks import claiming, machine, scene, web
from tests.benchmarks.children import Child
from tests.benchmarks.ground import Ground, counted
from tests.benchmarks.keys import Values

# SendGrid waits for so many events or some seconds, then posts them together.
TOGETHER = 40
_TINY = {"subject": "Hi", "html": "", "text": "Hi"}
# Events a second: some, and as many as the goal is.
_SOME, _MANY = 300, 2_000
# Seconds of them before the engine is measured, and after.
_AROUND = 0.5
_SUPPRESSED = 5_000
# Mails a second that the engine surely does not reach.
_FASTEST = 4_000
# As whom the engine works, by which its statements are told from all others.
_ENGINE = "bench_engine"
_SPENT = {
    "server": "PostgreSQL's us a mail in statements",
    "backend": "CPU us a mail of its backend",
    "clock": "us a mail by the clock",
}


@contextmanager
def posts(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Signed posts to a real gunicorn of two processes: Resend's of one event, SendGrid's of many."""
    count = 1_000 if ground.quick else 10_000
    alpha = scene.agencies()[0]
    accounts = {kind: _account(kind) for kind in ("resend", "sendgrid")}

    def once() -> Values:
        _forget_posts()
        # Stored is what counts here; these mails are nobody's.
        ours = {
            kind: _requests(kind, account, alpha, [uuid4() for _ in range(count)]) for kind, account in accounts.items()
        }
        mixed = [
            one
            for kind, account in accounts.items()
            for one in _requests(kind, account, alpha, [uuid4() for _ in range(count // 2)])
        ]
        random.Random(5).shuffle(mixed)
        found: Values = {}
        with web.served() as server:
            for name, requests in {"resend_": ours["resend"], "sendgrid_": ours["sendgrid"], "": mixed}.items():
                began = {root: machine.cpu_seconds([root]) for root in (server.pid, ground.postmaster)}
                seconds, answered = server.ask(settings.PUBLIC_HOST, requests)
                web_s, postgres_s = (machine.cpu_seconds([root]) - before for root, before in began.items())
                found |= {
                    f"webhook_{name}events_per_s": count * answered / len(requests) / seconds,
                    f"{name}CPU ms a post, web": 1_000 * web_s / len(requests),
                    f"{name}CPU ms a post, PostgreSQL": 1_000 * postgres_s / len(requests),
                }
        sent = len(mixed) + sum(map(len, ours.values()))
        return found | {"webhook_posts_lost": sent - WebhookPost.objects.count()}

    yield once
    _forget_posts()
    scene.clear()


@contextmanager
def pending(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Seconds until 100,000 stored events of as many mails, half of each provider, have been acted on."""
    count = 5_000 if ground.quick else 100_000
    if ground.quick:
        ground.say(f"feedback_100k_s: with --quick of {count:,} events, and multiplied.")
    alpha = scene.agencies()[0]
    accounts = {kind: _account(kind) for kind in ("resend", "sendgrid")}
    scene.senders(alpha, accounts["resend"], 100, per_day=1_000)
    scene.people(alpha, count)

    def once() -> Values:
        keys = _sent(alpha, accounts)
        _store(alpha, accounts, keys)
        cpu = machine.cpu_seconds(ground.ours)
        began = timezone.now()
        with context.public():
            new = feedback.hear(now=timezone.now())
        took = (timezone.now() - began).total_seconds()
        if new != len(keys):
            raise RuntimeError(f"{new} of {len(keys)} events were new.")
        scale = 100_000 / len(keys)
        return {"feedback_100k_s": took * scale, "CPU s": (machine.cpu_seconds(ground.ours) - cpu) * scale}

    yield once
    _forget_posts()
    scene.clear()


@contextmanager
def under_events(ground: Ground) -> Iterator[Callable[[], Values]]:
    """Claim, reserve, mark and record of mails in quiet, and while events of the same agency and account pour in.

    What is compared is the time of the engine's statements within PostgreSQL, and the CPU seconds of its backend:
    at a rate that leaves the machine time, the former shows locks and dead rows; where both cores are full it is
    mostly waiting for a core, and the latter shows them alone.
    """
    seconds, rounds = (1.5, 2) if ground.quick else (3.0, 5)
    alpha = scene.agencies()[0]
    accounts = {kind: _account(kind) for kind in ("resend", "sendgrid")}
    for account in accounts.values():
        scene.senders(alpha, account, 200, per_day=1_000)
    events = {rate: round(rate * (seconds + 2 * _AROUND)) for rate in (_SOME, _MANY)}
    sent = rounds * sum(events.values())
    scene.people(alpha, sent + round(4 * rounds * seconds * _FASTEST))
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE IF EXISTS {_ENGINE}")
        cursor.execute(f"CREATE ROLE {_ENGINE} SUPERUSER")

    def once() -> Values:
        _forget_posts()
        keys = _some_sent(alpha, sent)
        spent: dict[int, list[Counter[str]]] = {0: [], _SOME: [], _MANY: []}
        reached: dict[int, list[float]] = {_SOME: [], _MANY: []}
        with web.served() as server, Child("hearer") as hearer, counted():
            hearer.hear()
            _engine(alpha, accounts["sendgrid"], seconds)
            for _ in range(rounds):
                for rate in (_SOME, _MANY):
                    spent[0].append(_engine(alpha, accounts["sendgrid"], seconds))
                    some = [keys.pop() for _ in range(events[rate])]
                    requests = _mixed(alpha, accounts, some)
                    with server.asked(settings.PUBLIC_HOST, requests, len(requests) * rate / len(some)) as asked:
                        time.sleep(_AROUND)
                        spent[rate].append(_engine(alpha, accounts["sendgrid"], seconds))
                        took, answered = asked()
                    reached[rate].append(len(some) * answered / len(requests) / took)
                    while WebhookPost.objects.filter(handled_at=None).exists():
                        time.sleep(0.1)
        each = {rate: {what: _median(many, what) for what in _SPENT} for rate, many in spent.items()}
        found: Values = {
            "claim_under_events": each[_SOME]["server"] / each[0]["server"],
            "claim_cpu_under_2000_events": each[_MANY]["backend"] / each[0]["backend"],
        }
        for rate, name in ((0, "quiet"), (_SOME, f"{_SOME} events/s"), (_MANY, f"{_MANY} events/s")):
            for what, words in _SPENT.items():
                found[f"{words}, {name}"] = each[rate][what]
            if rate:
                found[f"events/s reached of {rate}"] = statistics.median(reached[rate])
        return found

    yield once
    _forget_posts()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE {_ENGINE}")
    scene.clear()


def _engine(agency: Agency, account: Account, seconds: float) -> Counter[str]:
    """Let the engine work so long, mails going nowhere; what was spent, and on how many mails."""
    spent: Counter[str] = Counter()
    with connection.cursor() as cursor, claiming.another_connection() as other:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()

        def ended(mails: int) -> None:
            ((server,),) = other.execute(_STATEMENTS, [_ENGINE]).fetchall()
            spent["mails"] = mails
            spent["clock"] = round(1e6 * (time.perf_counter() - began))
            spent["backend"] = round(1e6 * (machine.cpu_seconds([backend]) - busy))
            spent["server"] = round(1e3 * (server or 0))

        cursor.execute(f"SET ROLE {_ENGINE}")
        cursor.execute("SELECT pg_stat_statements_reset()")
        busy, began = machine.cpu_seconds([backend]), time.perf_counter()
        claiming.windows(agency, account.pk, seconds=seconds, ended=ended)
        cursor.execute("RESET ROLE")
    if not spent["mails"]:
        raise RuntimeError("No mails are left: give fewer repetitions.")
    return spent


def _median(many: list[Counter[str]], what: str) -> float:
    return statistics.median(one[what] / one["mails"] for one in many)


def _mixed(agency: Agency, accounts: dict[str, Account], keys: list[tuple[int, UUID]]) -> list[web.Request]:
    requests = [
        one
        for kind, account in accounts.items()
        for one in _requests(kind, account, agency, [key for place, key in keys if place == account.pk])
    ]
    random.Random(7).shuffle(requests)
    return requests


def _account(kind: str) -> Account:
    return Account.objects.create(
        name=kind,
        kind=kind,
        traffic_classes=["bulk"],
        consent_required=False,
        per_day=100_000_000,
        sender_limit=100_000,
        webhook_secrets={"secret": SECRETS[kind]},
    )


def _batches(kind: str, agency: Agency, keys: list[UUID]) -> Iterator[list[Event]]:
    size = 1 if kind == "resend" else TOGETHER
    events = [_event(kind, agency, key, number) for number, key in enumerate(keys)]
    for first in range(0, len(events), size):
        yield events[first : first + size]


def _event(kind: str, agency: Agency, key: UUID, number: int) -> Event:
    """One of twenty mails came back, the others were delivered."""
    metadata = {"agency": agency.schema_name, "message": str(key)}
    back = number % 20 == 0
    now = datetime.now(UTC)
    content: dict[str, Any]
    if kind == "resend":
        content = {
            "type": "email.bounced" if back else "email.delivered",
            "created_at": now.isoformat(),
            "data": {
                "email_id": str(key),
                "from": "Sender <s1@d1.example>",
                "to": [f"person{number}@people.example"],
                "subject": "Hello",
                "headers": [{"name": "X-Metadata", "value": json.dumps(metadata)}],
            },
        }
        if back:
            content["data"]["bounce"] = {"type": "Permanent", "subType": "General", "message": "It came back."}
    else:
        content = {
            "email": f"person{number}@people.example",
            "timestamp": int(now.timestamp()),
            "event": "bounce" if back else "delivered",
            "sg_event_id": key.hex,
            "sg_message_id": f"{key.hex}.sink",
            **metadata,
        }
        if back:
            content |= {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"}
    return Event(kind, key.hex, content)


def _requests(kind: str, account: Account, agency: Agency, keys: list[UUID]) -> list[web.Request]:
    posts = (signed(kind, batch) for batch in _batches(kind, agency, keys))
    return [("POST", f"/webhooks/{account.webhook_key}/", headers, body.decode()) for body, headers in posts]


def _sent(agency: Agency, accounts: dict[str, Account]) -> list[UUID]:
    """Launch a campaign to all people, and let half of its mails have left through each account."""
    scene.queue(agency, **_TINY)
    with context.entered(agency), connection.cursor() as cursor:
        cursor.execute("TRUNCATE senders_event, campaigns_suppression")
        cursor.execute(_SENT, [[account.pk for account in accounts.values()]])
        scene.settle(agency)
        return list(Message.objects.order_by("pk").values_list("key", flat=True))


def _some_sent(agency: Agency, count: int) -> list[tuple[int, UUID]]:
    """Launch a campaign to all people, and let so many mails have left, each as planned; their accounts and keys."""
    scene.queue(agency, **_TINY)
    with context.entered(agency), connection.cursor() as cursor:
        cursor.execute("TRUNCATE senders_event, campaigns_suppression")
        # As an agency has that has mailed before. Plans that were made for an empty table are kept until PostgreSQL
        # looks at it again, within a minute.
        Suppression.objects.bulk_create(
            Suppression(value=f"gone{number}@people.example", source=Suppression.Source.BOUNCE)
            for number in range(_SUPPRESSED)
        )
        cursor.execute("ANALYZE campaigns_suppression")
        cursor.execute(_SOME_SENT, [count])
        found = cursor.fetchall()
    scene.settle()
    random.Random(6).shuffle(found)
    return found


def _store(agency: Agency, accounts: dict[str, Account], keys: list[UUID]) -> None:
    _forget_posts()
    accounts_of = {kind: keys[place :: len(accounts)] for place, kind in enumerate(accounts)}
    rows = []
    for kind, some in accounts_of.items():
        for batch in _batches(kind, agency, some):
            body, headers = signed(kind, batch)
            kept = {name: value for name, value in headers.items() if name == "svix-id"}
            rows.append(WebhookPost(account=accounts[kind], digest=uuid4(), headers=kept, body=body))
    WebhookPost.objects.bulk_create(rows, batch_size=2_000)


def _forget_posts() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE accounts_webhookpost, accounts_webhookday, django_q_ormq")


_SOME_SENT = """
UPDATE campaigns_message m SET status = 'sent', sent_at = now(), claimed_at = now(), counted_on = current_date,
    attempted_at = now(), sender_id = (SELECT min(id) + m.id %% 400 FROM senders_sender)
FROM (SELECT id FROM campaigns_message ORDER BY id LIMIT %s) n WHERE n.id = m.id
RETURNING m.account_id, m.key
"""
# In milliseconds. What the end of a transaction takes is not told.
_STATEMENTS = """
SELECT sum(total_exec_time + total_plan_time) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = %s
"""
_SENT = """
UPDATE campaigns_message m SET status = 'sent', sent_at = now(), claimed_at = now(), counted_on = current_date,
    attempted_at = now(), sender_id = (SELECT min(id) + m.id %% 100 FROM senders_sender),
    account_id = (%s::bigint[])[1 + n.place %% 2]
FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM campaigns_message) n WHERE n.id = m.id
"""
