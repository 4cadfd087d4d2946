"""Takes what providers post of the mails they took: checked, stored once as it came, answered; handled later.

Front   ─► receive      before Django, which costs more than all of this
receive ─► signatures   is it from the account's provider?
        ─► WebhookPost  durable before the answer; who posts is not kept waiting
        ─► arrived      somebody should look
take    ─► hearing      anymail's words become ours
"""

import hashlib
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection, connections
from django.db.models import F, Prefetch, Sum
from django.dispatch import Signal
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from providers.accounts import signatures
from providers.accounts.ledger import utc_day
from providers.accounts.models import Account, WebhookDay, WebhookPost
from tenants import context
from tenants.group_commit import GroupCommit, NotKeptError
from tenants.tally import Tally

logger = logging.getLogger(__name__)

KEPT = timedelta(days=14)
DAYS_KEPT = timedelta(days=400)
SHOWN = timedelta(days=7)
# A post that could not be handled so often is kept with its trouble, and looked at no more.
ATTEMPTS = 3
# Nobody else looks meanwhile: any constant of our own.
_LOOKING = 7_302_199_003
# Those that the events need.
_HEADERS = ("svix-id",)
# For so long an account is remembered, its secret with it.
_ACCOUNT_SECONDS = 5.0
_PATH = re.compile(r"/webhooks/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")

# Sent when a post was stored and nobody has been told of an earlier one that still waits.
arrived = Signal()


@dataclass(frozen=True, slots=True)
class _Post:
    """A post whose signature was checked."""

    account_id: int
    digest: UUID
    headers: dict[str, str]
    body: bytes


@csrf_exempt
@require_http_methods(["POST", "HEAD"])
def receive(request: HttpRequest, key: UUID) -> HttpResponse:
    """What a provider posts to an account's address. Whoever does not know the address learns nothing."""

    def keep(post: _Post) -> None:
        if first := _store([post]):
            _tell(first)

    account = _account(key)
    return _answer(request, account, keep, lambda result: count(account.pk, {result: 1}, now=timezone.now()))


class Front:
    """A WSGI application that answers posts to the public host below /webhooks/ and hands on the rest.

    Resend posts one event at a time, and the way through Django costs ten times what is done here with it.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._accounts: dict[UUID, tuple[Account, float]] = {}
        self._first: int | None = None
        self._commit: GroupCommit[_Post] = GroupCommit("webhooks", self._write, self._ring)
        self._refused: Tally[tuple[int, WebhookDay.Result]] = Tally(_count_all)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = _PATH.fullmatch(environ.get("PATH_INFO", ""))
        host = environ.get("HTTP_HOST", "").partition(":")[0]
        if path is None or environ["REQUEST_METHOD"] != "POST" or host != settings.PUBLIC_HOST:
            return self._application(environ, start)
        try:
            with context.public():
                response = self._answer(WSGIRequest(environ), UUID(path[1]))
        except Http404:
            return self._application(environ, start)
        except NotKeptError:
            response = HttpResponse(status=503)
        finally:
            connections.close_all()
        headers = [*response.items(), ("Content-Length", str(len(response.content)))]
        start(f"{response.status_code} {response.reason_phrase}", headers)
        return [response.content]

    def close(self) -> None:
        """Let what is being written end."""
        self._commit.close()
        self._refused.flush()

    def _answer(self, request: HttpRequest, key: UUID) -> HttpResponse:
        account, until = self._accounts.get(key, (None, 0.0))
        if account is None or time.monotonic() >= until or not _signed(request, account):
            # Its secret may have been changed since: before anything is refused, it is asked for again.
            fresh = _account(key)
            self._accounts[key] = fresh, time.monotonic() + _ACCOUNT_SECONDS
            return _answer(request, fresh, self._commit.keep, lambda result: self._refused.add((fresh.pk, result)))
        return _taken(request, account, self._commit.keep)

    def _write(self, posts: Sequence[_Post]) -> None:
        with context.public():
            first = _store(posts)
        self._first = min(filter(None, (self._first, first)), default=None)

    def _ring(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            with context.public():
                _tell(first)


@dataclass(frozen=True, slots=True)
class Heard:
    """What came for an account in the last days, when something was last posted, and the last trouble with a post."""

    results: dict[WebhookDay.Result, int]
    last_at: datetime | None
    trouble: str


def address(account: Account) -> str:
    """Where the account's provider is to post events."""
    port = f":{settings.PORT}" if settings.PUBLIC_SCHEME == "http" else ""
    return f"{settings.PUBLIC_SCHEME}://{settings.PUBLIC_HOST}{port}/webhooks/{account.webhook_key}/"


def heard(account: Account, *, now: datetime) -> Heard:
    """What came for this account lately."""
    days = WebhookDay.objects.filter(account=account, day__gt=utc_day(now - SHOWN)).values_list("result")
    counts = dict(days.annotate(sum=Sum("count")).order_by("result"))
    posts = WebhookPost.objects.filter(account=account)
    last = posts.order_by("-pk").first()
    troubled = posts.exclude(trouble="").order_by("-pk").first()
    return Heard(
        {result: counts[result.value] for result in WebhookDay.Result if result.value in counts},
        last.received_at if last else None,
        troubled.trouble if troubled else "",
    )


def pending(*, after: int = 0) -> bool:
    """Whether any post later than this one waits to be handled."""
    return WebhookPost.objects.filter(handled_at=None, pk__gt=after).exists()


@contextmanager
def alone() -> Iterator[bool]:
    """Whether nobody else handles posts; nobody does until this ends. Two would do the same work twice."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOOKING])
        (mine,) = cursor.fetchone()
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOOKING])


def take(limit: int, *, after: int = 0) -> list[WebhookPost]:
    """The oldest posts later than this one that wait, with what must be known of their accounts."""
    # Not joined: the secrets of each would be unsealed once a post.
    accounts = Prefetch("account", Account.objects.only("kind", "owner"))
    waiting = WebhookPost.objects.filter(handled_at=None, pk__gt=after).prefetch_related(accounts).order_by("pk")
    return list(waiting[:limit])


def handled(posts: Iterable[WebhookPost], *, now: datetime) -> None:
    """These need no more looking at; what is wrong with one is in its `trouble`."""
    fine, troubled = [], []
    for post in posts:
        post.handled_at = now
        if post.trouble:
            troubled.append(post)
        else:
            fine.append(post)
    WebhookPost.objects.filter(pk__in=[post.pk for post in fine]).update(handled_at=now, trouble="")
    WebhookPost.objects.bulk_update(troubled, ["handled_at", "trouble"])


def failed(posts: Sequence[WebhookPost], trouble: str, *, now: datetime) -> None:
    """These could not be handled: they are tried again, but not for ever."""
    found = WebhookPost.objects.filter(pk__in=[post.pk for post in posts])
    found.update(attempts=F("attempts") + 1, trouble=trouble[:300])
    found.filter(attempts__gte=ATTEMPTS).update(handled_at=now)


def forget(needles: Sequence[str]) -> int:
    """Empty the handled posts in which any of these texts stands, in small letters; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [list(needles)])
        return int(cursor.rowcount)


def empty(post_ids: Sequence[int]) -> None:
    """Forget what these posts said; that they came stays."""
    WebhookPost.objects.filter(pk__in=post_ids).update(body=b"", trouble="")


def count(
    account_id: int, results: "Counter[WebhookDay.Result] | dict[WebhookDay.Result, int]", *, now: datetime
) -> None:
    """Add to what came for the account today."""
    with connection.cursor() as cursor:
        for result, number in sorted(results.items()):
            if number:
                cursor.execute(_COUNT, [account_id, utc_day(now), result.value, number])


def refused_today(account_id: int, *, now: datetime) -> bool:
    """Whether posts to the account's address were refused on this UTC day: then it speaks, and we do not listen."""
    refusals = (WebhookDay.Result.NO_SECRET, WebhookDay.Result.BAD_SIGNATURE, WebhookDay.Result.TOO_OLD)
    return WebhookDay.objects.filter(account=account_id, day=utc_day(now), result__in=refusals).exists()


def prune(*, now: datetime) -> int:
    """Forget posts that were handled and are old; return how many."""
    WebhookDay.objects.filter(day__lt=utc_day(now - DAYS_KEPT)).delete()
    with connection.cursor() as cursor:
        cursor.execute(_PRUNE, [now - KEPT])
        return int(cursor.rowcount)


def _count_all(counts: Mapping[tuple[int, WebhookDay.Result], int]) -> None:
    with context.public():
        # In one order, so that two processes never wait for each other.
        for (account_id, result), number in sorted(counts.items()):
            count(account_id, {result: number}, now=timezone.now())


def _account(key: UUID) -> Account:
    """Whose address this is; raises Http404."""
    account = Account.objects.filter(webhook_key=key).only("kind", "webhook_secrets").first()
    if account is None or account.kind not in signatures.SECRETS:
        raise Http404
    return account


def _signed(request: HttpRequest, account: Account) -> bool:
    try:
        len(request.body)
        _check(request, account, timezone.now())
    except (signatures.PostRefused, RequestDataTooBig, UnreadablePostError):
        return False
    return True


def _check(request: HttpRequest, account: Account, now: datetime) -> None:
    signatures.check(account.kind, account.webhook_secrets.get("secret", ""), request, now=now)


def _answer(
    request: HttpRequest,
    account: Account,
    keep: Callable[[_Post], None],
    refuse: Callable[[WebhookDay.Result], None],
) -> HttpResponse:
    if request.method == "HEAD":
        return HttpResponse()
    now = timezone.now()
    try:
        # It may be too large, or be cut off.
        len(request.body)
    except RequestDataTooBig:
        refuse(WebhookDay.Result.TOO_LARGE)
        return HttpResponse(status=413)
    except UnreadablePostError:
        return HttpResponse(status=400)
    try:
        _check(request, account, now)
    except signatures.PostRefused as refused:
        refuse(refused.result)
        if account.kind in signatures.BASIC and "Authorization" not in request.headers:
            # Amazon SNS names user and password only when it is asked to.
            return HttpResponse(status=401, headers={"WWW-Authenticate": 'Basic realm="webhook"'})
        return HttpResponse(status=400)
    return _taken(request, account, keep)


def _taken(request: HttpRequest, account: Account, keep: Callable[[_Post], None]) -> HttpResponse:
    headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
    keep(_Post(account.pk, _digest(account.kind, headers, request.body), headers, request.body))
    return HttpResponse()


def _store(posts: Sequence[_Post]) -> int | None:
    """Keep these posts, each once; return the id of the first new one. They are durable on return, outside a
    transaction."""
    # In one order, so that two processes with the same posts never wait for each other.
    rows = sorted((one.account_id, one.digest, json.dumps(one.headers), one.body) for one in posts)
    with connection.cursor() as cursor:
        cursor.execute(_STORE, [list(column) for column in zip(*rows, strict=True)])
        return min((row[0] for row in cursor.fetchall()), default=None)


def _tell(first: int) -> None:
    """Tell somebody of the posts from this one on, unless an earlier one still waits: who handles that looks once more
    when it is done, and then sees these."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, [first])
        (nobody_knows,) = cursor.fetchone()
    if nobody_knows:
        arrived.send(sender="providers.accounts.webhooks")


def _digest(kind: str, headers: dict[str, str], body: bytes) -> UUID:
    """The same for a post that is repeated. Mailgun's is of its token alone, for it signs nothing else."""
    one_of_a_kind = json.loads(body)["signature"]["token"].encode() if kind == "mailgun" else body
    return UUID(
        bytes=hashlib.blake2b(headers.get("svix-id", "").encode() + b"\n" + one_of_a_kind, digest_size=16).digest()
    )


_STORE = """
INSERT INTO accounts_webhookpost (account_id, digest, headers, body)
SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::jsonb[], %b::bytea[])
ON CONFLICT DO NOTHING RETURNING id
"""
_FIRST = "SELECT NOT EXISTS (SELECT FROM accounts_webhookpost WHERE handled_at IS NULL AND id < %s)"
_COUNT = """
INSERT INTO accounts_webhookday AS d (account_id, day, result, count) VALUES (%s, %s, %s, %s)
ON CONFLICT (account_id, day, result) DO UPDATE SET count = d.count + EXCLUDED.count
"""
_FORGET = """
WITH told AS MATERIALIZED (
    SELECT id, lower(encode(body, 'escape')) AS said FROM accounts_webhookpost WHERE handled_at IS NOT NULL
)
UPDATE accounts_webhookpost p SET body = '', trouble = '' FROM told
WHERE told.id = p.id AND EXISTS (SELECT FROM unnest(%s::text[]) AS needle WHERE strpos(told.said, needle) > 0)
"""
_PRUNE = """
DELETE FROM accounts_webhookpost WHERE id IN (
    SELECT id FROM accounts_webhookpost WHERE received_at < %s AND handled_at IS NOT NULL ORDER BY id LIMIT 50000
)
"""
