"""Posts what happens to addresses of others, by the Standard Webhooks scheme (standardwebhooks.com). The only writer of
Endpoint, HookDelivery and HookAttempt.

post ─► _take      events that an endpoint has not had become deliveries; some of those that are due, under a lease
     ─► _bodies    described and signed now, and kept nowhere
     ─► posting    no transaction open, each endpoint's in threads beside the others'
     ─► _settle    what came of it, and what comes next

An endpoint's deliveries are begun in the order of the feed, some at once; one that fails comes again later and holds up
none behind it. A worker that dies leaves its deliveries to be posted again: under the same `webhook-id`, by which the
other side knows them. An endpoint at which nothing is taken gets one post at a time.
"""

import base64
import json
import logging
import random
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import F, Max, Q, QuerySet
from django.dispatch import Signal
from django.utils.translation import gettext as _
from standardwebhooks.webhooks import Webhook

from campaigns import feed, posting
from campaigns.models import Endpoint, FeedEntry, HookAttempt, HookDelivery
from campaigns.outside import RefusedUrlError
from campaigns.posting import Answer, Failure
from tenants import context
from tenants.models import Agency

logger = logging.getLogger(__name__)

MOST_ENDPOINTS = 10
AT_ONCE = 10
THREADS = 100
TEST = "endpoint.test"
# After the first attempt; the last one comes two days after it.
DELAYS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 60, 300, 1_800, 2 * 3_600, 5 * 3_600, 8 * 3_600, 12 * 3_600, 20 * 3_600)
)
LONGEST_DELAY = timedelta(hours=24)
GIVES_UP_AFTER = timedelta(days=5)
BOTH_SECRETS_FOR = timedelta(hours=24)
# Longer than a post takes: whose worker died goes again after it.
LEASE = timedelta(minutes=2)
_WINDOW, _WINDOWS = 1_000, 20
# Seconds between looks at who else there is while posts are under way.
_LISTENS = 1.0
_GONE = 410
_PURGED = 10_000
# With the agency, the two numbers of a lock: any constant of our own.
_CREATING = 7_302_199_2
# Sent in the agency, after the commit, when an endpoint was switched off by no person.
switched_off = Signal()
State = HookDelivery.State
Clock = Callable[[], datetime]
Post = Callable[[str, bytes, Mapping[str, str]], Answer]


class HookRefusedError(ValueError):
    """Nothing was changed; says why."""


@dataclass(frozen=True, slots=True)
class _Posted:
    """A delivery under way: what it is, and the lease that its result is good for."""

    delivery: HookDelivery
    url: str
    body: bytes
    headers: Mapping[str, str]


def create(url: str, *, kinds: Iterable[str] = (), name: str = "", now: datetime) -> tuple[Endpoint, str]:
    """An endpoint that is told all that happens from now on, and its secret, which is never shown again.

    `kinds`: what it is told, everything where there are none. Raises HookRefusedError.
    """
    checked = _checked(url)
    feed.number()
    secret = _new_secret()
    with transaction.atomic():
        # Two at once would both find room for the last one.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_CREATING, context.current_agency().pk])
        if Endpoint.objects.count() >= MOST_ENDPOINTS:
            raise HookRefusedError(_("An agency has %(most)d webhooks at most.") % {"most": MOST_ENDPOINTS})
        made = Endpoint.objects.create(
            url=checked,
            kinds=sorted(set(kinds)),
            name=name.strip(),
            secrets={"current": secret},
            position=_last_position(),
            created_at=now,
        )
    return made, secret


def change(
    endpoint: Endpoint, *, url: str | None = None, kinds: Iterable[str] | None = None, name: str | None = None
) -> None:
    """Write what is given; raises HookRefusedError. What waits for it goes to the new address."""
    if url is not None:
        endpoint.url = _checked(url)
    if kinds is not None:
        endpoint.kinds = sorted(set(kinds))
    if name is not None:
        endpoint.name = name.strip()
    endpoint.save(update_fields=["url", "kinds", "name"])


def rotate(endpoint: Endpoint, *, now: datetime) -> str:
    """A new secret, which is never shown again. For a day posts are signed with the one before as well."""
    with transaction.atomic():
        held = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        secret = _new_secret()
        held.secrets = {"current": secret, "previous": held.secrets["current"]}
        held.previous_until = now + BOTH_SECRETS_FOR
        held.save(update_fields=["secrets", "previous_until"])
    return secret


def switch_off(endpoint: Endpoint, *, now: datetime) -> None:
    """Post nothing to it any more; what happens meanwhile is kept for it in the feed."""
    _switch_off(endpoint.pk, Endpoint.Off.PERSON, now)


def switch_on(endpoint: Endpoint) -> None:
    """Go on where it stopped: what waited and what has happened since is posted now."""
    Endpoint.objects.filter(pk=endpoint.pk).update(off="", off_at=None, failing_since=None)


def delete(endpoint: Endpoint) -> None:
    """Forget it, with its log and what waits for it."""
    with transaction.atomic():
        # Nobody claims meanwhile.
        held = Endpoint.objects.select_for_update().filter(pk=endpoint.pk)
        list(held)
        HookAttempt.objects.filter(delivery__endpoint=endpoint).delete()
        HookDelivery.objects.filter(endpoint=endpoint).delete()
        held.delete()


def test(endpoint: Endpoint, *, now: datetime) -> HookDelivery:
    """Post a test event, tried like any other. Raises HookRefusedError where the endpoint is off."""
    if endpoint.off:
        raise HookRefusedError(_("It is switched off: switch it on first."))
    return HookDelivery.objects.create(endpoint=endpoint, kind=TEST, at=now, next_at=now)


def redeliver(deliveries: QuerySet[HookDelivery], *, now: datetime) -> int:
    """Post these again that have ended, with all attempts anew; return how many. Each is described as of then."""
    with transaction.atomic():
        held = (
            deliveries.filter(state__in=[State.DELIVERED, State.FAILED]).order_by("pk").select_for_update(of=["self"])
        )
        ids = list(held.values_list("pk", flat=True))
        return HookDelivery.objects.filter(pk__in=ids).update(
            state=State.WAITING, attempts=0, next_at=now, done_at=None
        )


def redeliver_failed(endpoint: Endpoint, since: datetime, *, now: datetime) -> int:
    """Post again what has failed since then."""
    return redeliver(endpoint.deliveries.filter(state=State.FAILED, done_at__gte=since), now=now)


def body_of(delivery: HookDelivery) -> str:
    """What would be posted now, as JSON."""
    return _bodies([delivery])[delivery.pk]


def label(kind: str) -> str:
    """What an event is called."""
    return str(dict(FeedEntry.Kind.choices).get(kind, _("Test event")))


def post(
    agencies: Sequence[Agency],
    *,
    clock: Clock,
    until: datetime,
    interrupted: Callable[[datetime], bool] = lambda _now: False,
    more: Callable[[], Iterable[Agency]] = tuple,
    wire: Post | None = None,
) -> list[Agency]:
    """Post what is due in these agencies until nothing is, or the time is over, or it is interrupted; return where
    something may be left. What is under way then is awaited: `posting.SECONDS` more at most.

    `more` is asked again and again which other agencies there are. Harmless when it runs twice, also at the same time.
    `wire` stands in for the network.
    """
    wire = wire or _over_the_wire
    waiting = {agency.pk: agency for agency in agencies}
    flying: dict[Future[Answer], tuple[Agency, _Posted]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            waiting |= {agency.pk: agency for agency in more()}
            for agency in list(waiting.values()):
                if len(flying) >= THREADS or (now := clock()) >= until or interrupted(now):
                    break
                del waiting[agency.pk]
                with _apart(agency):
                    for one in _take(now):
                        flying[pool.submit(wire, one.url, one.body, one.headers)] = agency, one
            if not flying:
                return list(waiting.values())
            ended: dict[int, list[tuple[_Posted, Answer]]] = {}
            for future in wait(flying, _LISTENS, return_when=FIRST_COMPLETED).done:
                agency, one = flying.pop(future)
                waiting[agency.pk] = agency
                ended.setdefault(agency.pk, []).append((one, _answer(future)))
            for key, results in ended.items():
                with _apart(waiting[key]):
                    _settle(results, clock())


def wanted() -> bool:
    """Whether anybody is told what happens in the agency entered now."""
    return Endpoint.objects.filter(off="").exists()


def purge(*, now: datetime) -> int:
    """Forget what ended longer ago than the log goes back; return how many deliveries that were."""
    old = HookDelivery.objects.filter(done_at__lt=now - settings.HOOK_LOG_LIFE).order_by("pk")
    ids = list(old.values_list("pk", flat=True)[:_PURGED])
    HookAttempt.objects.filter(delivery__in=ids).delete()
    return HookDelivery.objects.filter(pk__in=ids).delete()[0]


def delay(attempt: int, seed: str, retry_after: float | None = None) -> timedelta | None:
    """How long to wait after this attempt, the first being 1, failed; None: it was the last. `retry_after`: the seconds
    that the other side asked for, which are granted up to LONGEST_DELAY."""
    if attempt > len(DELAYS):
        return None
    planned = DELAYS[attempt - 1] * random.Random(f"{seed}:{attempt}").uniform(0.9, 1.1)  # noqa: S311 - no secret
    return max(planned, min(timedelta(seconds=retry_after or 0), LONGEST_DELAY))


def signatures(endpoint: Endpoint, id: str, at: datetime, body: str, *, now: datetime) -> str:
    """The value of `webhook-signature`: by the current secret and, for a day, by the one before."""
    used = [endpoint.secrets["current"]]
    if endpoint.previous_until and endpoint.previous_until > now:
        used.append(endpoint.secrets["previous"])
    return " ".join(Webhook(secret).sign(id, at, body) for secret in used)


@contextmanager
def _apart(agency: Agency) -> Iterator[None]:
    """Inside this agency; what goes wrong there is for the log, and stops no other."""
    try:
        with context.entered(agency):
            yield
    except Exception:
        logger.exception("posting events failed", extra={"schema": agency.schema_name})


def _answer(future: Future[Answer]) -> Answer:
    """What came of a post; a fault of our own costs this one alone, which is tried again."""
    try:
        return future.result()
    except Exception:
        logger.exception("a post failed")
        return Answer(None, Failure.CONNECTION, 0.0)


def _take(now: datetime) -> list[_Posted]:
    """Claim some of what is due in the agency entered now."""
    if not wanted():
        return []
    # What is not numbered yet is not told yet; on its own, for it locks others out until it is committed.
    feed.number()
    with transaction.atomic():
        endpoints = list(Endpoint.objects.filter(off="").order_by("pk").select_for_update(skip_locked=True))
        claimed = [one for endpoint in endpoints for one in _claim(endpoint, now)]
        HookDelivery.objects.filter(pk__in=[one.pk for one in claimed]).update(
            attempts=F("attempts") + 1, claimed_until=now + LEASE
        )
        for one in claimed:
            one.attempts += 1
            one.claimed_until = now + LEASE
        bodies = _bodies(claimed)
    return [_posted(one, bodies[one.pk], now) for one in claimed]


def _claim(endpoint: Endpoint, now: datetime) -> list[HookDelivery]:
    """What of the endpoint's, whose row is locked, goes now; up to as many as are not under way."""
    waiting = endpoint.deliveries.filter(state=State.WAITING)
    room = (1 if endpoint.failing_since else AT_ONCE) - waiting.filter(claimed_until__gt=now).count()
    if room <= 0:
        return []
    due = waiting.filter(Q(claimed_until=None) | Q(claimed_until__lte=now), next_at__lte=now).order_by("next_at", "pk")
    found = list(due[:room])
    if len(found) < room and _look_through_feed(endpoint, now):
        found = list(due[:room])
    for one in found:
        one.endpoint = endpoint
    return found


def _look_through_feed(endpoint: Endpoint, now: datetime) -> int:
    """Make deliveries of the next entries that the endpoint is told; return how many."""
    for _window in range(_WINDOWS):
        entries = list(
            FeedEntry.objects.filter(position__gt=endpoint.position)
            .order_by("position")
            .only("position", "kind", "at")[:_WINDOW]
        )
        if not entries:
            return 0
        made = HookDelivery.objects.bulk_create(
            [
                HookDelivery(endpoint=endpoint, position=one.position, kind=one.kind, at=one.at, next_at=now)
                for one in entries
                if not endpoint.kinds or one.kind in endpoint.kinds
            ]
        )
        endpoint.position = entries[-1].position or 0
        endpoint.save(update_fields=["position"])
        if made:
            return len(made)
    return 0


def _bodies(deliveries: Sequence[HookDelivery]) -> dict[int, str]:
    """What is posted, as of now, by the delivery's id."""
    entries = FeedEntry.objects.filter(position__in={one.position for one in deliveries if one.position})
    told = {one["position"]: one for one in feed.described(entries)}
    found = {}
    for one in deliveries:
        data = {"type": one.kind, "timestamp": one.at, "data": {"endpoint": str(one.endpoint.key)}}
        found[one.pk] = json.dumps(
            told.get(one.position, data), cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":")
        )
    return found


def _posted(delivery: HookDelivery, body: str, now: datetime) -> _Posted:
    endpoint = delivery.endpoint
    id = id_of(delivery)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Polza-Outreach-Webhooks",
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signatures(endpoint, id, now, body, now=now),
    }
    return _Posted(delivery, endpoint.url, body.encode(), headers)


def id_of(delivery: HookDelivery) -> str:
    """The `webhook-id`: the same at each attempt and redelivery."""
    what = str(delivery.position) if delivery.position else f"{TEST} {delivery.pk}"
    return f"msg_{uuid.uuid5(delivery.endpoint.key, what).hex}"


def _over_the_wire(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    return posting.post(url, body, headers, inside=settings.HOOKS_INSIDE)


def _settle(results: Sequence[tuple[_Posted, Answer]], now: datetime) -> None:
    """Write what came of posts of the agency entered now, in one transaction."""
    results = sorted(results, key=lambda one: (one[0].delivery.endpoint_id, one[0].delivery.pk))
    with transaction.atomic():
        for endpoint_id, group in groupby(results, key=lambda one: one[0].delivery.endpoint_id):
            answers = list(group)
            # First, as in `_take`: nobody claims meanwhile, and a deleted one has no deliveries.
            endpoint = Endpoint.objects.select_for_update().filter(pk=endpoint_id).first()
            if endpoint is None:
                continue
            HookAttempt.objects.bulk_create(
                [
                    HookAttempt(
                        delivery=one.delivery,
                        at=now - timedelta(seconds=answer.seconds),
                        status=answer.status,
                        failure=answer.failure,
                        milliseconds=round(answer.seconds * 1000),
                        answer=answer.text,
                    )
                    for one, answer in answers
                ]
            )
            _end([one.delivery for one, answer in answers if answer.taken], State.DELIVERED, now)
            for one, answer in answers:
                if not answer.taken:
                    _try_again(one.delivery, answer, now)
            _judge(endpoint, [answer for _one, answer in answers], now)


def _held(deliveries: Iterable[HookDelivery]) -> QuerySet[HookDelivery]:
    """Those of them, all claimed at one time, that nobody has claimed since."""
    ids, leases = zip(*((one.pk, one.claimed_until) for one in deliveries), strict=True)
    return HookDelivery.objects.filter(pk__in=ids, claimed_until__in=set(leases), state=State.WAITING)


def _end(deliveries: Sequence[HookDelivery], state: State, now: datetime) -> None:
    if deliveries:
        _held(deliveries).update(state=state, next_at=None, claimed_until=None, done_at=now)


def _try_again(delivery: HookDelivery, answer: Answer, now: datetime) -> None:
    wait_for = None if answer.status == _GONE else delay(delivery.attempts, id_of(delivery), answer.retry_after)
    if wait_for is None:
        _end([delivery], State.FAILED, now)
    else:
        _held([delivery]).update(next_at=now + wait_for, claimed_until=None)


def _judge(endpoint: Endpoint, answers: Sequence[Answer], now: datetime) -> None:
    """What these answers say of the endpoint, whose row is locked."""
    if any(answer.status == _GONE for answer in answers):
        _switch_off(endpoint.pk, Endpoint.Off.GONE, now)
    elif any(answer.taken for answer in answers):
        if endpoint.failing_since:
            Endpoint.objects.filter(pk=endpoint.pk).update(failing_since=None)
    elif endpoint.failing_since is None:
        Endpoint.objects.filter(pk=endpoint.pk).update(failing_since=now)
    elif now - endpoint.failing_since >= GIVES_UP_AFTER:
        _switch_off(endpoint.pk, Endpoint.Off.FAILING, now)


def _switch_off(endpoint_id: int, why: Endpoint.Off, now: datetime) -> None:
    changed = Endpoint.objects.filter(pk=endpoint_id, off="").update(off=why, off_at=now)
    if changed and why != Endpoint.Off.PERSON:
        logger.error(
            "webhook switched off: %s", why.value, extra={"agency": context.current_schema(), "endpoint": endpoint_id}
        )
        transaction.on_commit(lambda: switched_off.send(sender="campaigns.hooks", endpoint=endpoint_id), robust=True)


def _checked(url: str) -> str:
    try:
        return posting.check(url.strip(), inside=settings.HOOKS_INSIDE)
    except RefusedUrlError as refused:
        raise HookRefusedError(str(refused)) from None


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _last_position() -> int:
    return FeedEntry.objects.aggregate(last=Max("position"))["last"] or 0
