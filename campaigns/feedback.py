"""Turns events into facts on messages, suppressions and outcomes. The only writer of MessageFacts and CampaignOutcome.

hear   ─► record    what providers posted, agency by agency
record ─► store     each event once; `keep` does only this, in one statement, and `act` the rest later
       ─► facts     a time each, set once
       ─► readers   opens and clicks by people, by machines, and unclear ones
       ─► proved    what was in doubt was sent
       ─► suppress  whose address is dead, who complained or opted out
       ─► stop      sequences that a fact ends, and what waits of them
       ─► count     in the rows that counted the mail when it was sent; their locks last, for claims wait for them

All of a batch goes in a handful of statements, and only what ends a sequence touches the queue. Locks are taken in the
order of `lifecycle`: facts, messages, enrollments, domain days, the accounts' ledger, sender days.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from campaigns import erased, feed, lifecycle, optout, readership, stops, trials, verdicts
from campaigns.models import FeedEntry, Message, Suppression
from campaigns.reasons import Reason
from providers.accounts import hearing, silence, webhooks
from providers.accounts import ledger as accounts
from providers.accounts.events import FACTS, NOTHING, BounceClass, EventType, Heard, Outcome, Reader
from providers.accounts.models import WebhookDay, WebhookPost
from providers.senders import events
from providers.senders import ledger as senders
from tenants import context, visits
from tenants.models import Agency

logger = logging.getLogger(__name__)

# So many mails in a row that came back, none delivered in between, and the address is taken for dead.
SOFT_BOUNCES = 3
_SOFT = [BounceClass.SOFT, BounceClass.MAILBOX_FULL]
_DELIVERED, _OPENED, _CLICKED, _BOUNCED, _COMPLAINED, _UNSUBSCRIBED = (
    FACTS.index(one)
    for one in (
        EventType.DELIVERED,
        EventType.OPENED,
        EventType.CLICKED,
        EventType.BOUNCED,
        EventType.COMPLAINED,
        EventType.UNSUBSCRIBED,
    )
)
_TOLD_AS = {
    place: FeedEntry.Kind(f"message.{fact.value}")
    for place, fact in enumerate(FACTS)
    if place not in (_OPENED, _CLICKED)
}
_AT_ONCE = 5_000
_POSTS = 200
_LOOK_AGAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Mail:
    """A message with what is told of it now; `times` are those of FACTS."""

    id: int
    status: str
    account_id: int
    sender_id: int
    domain_id: int
    campaign_id: int
    contact_id: int
    email: str
    claimed_at: datetime
    counted_on: date
    provider_id: str
    source: str
    bounce_class: str
    detail: str
    # Seconds from its sending until a mail server's answer was heard.
    delay: float | None
    times: tuple[datetime | None, ...]


def hear(*, now: datetime, interrupted: Callable[[], bool] = lambda: False) -> int:
    """Act on what providers have posted until none is left, or it is interrupted; return how many events were new.

    Works in the public schema and enters agencies. One at a time does it; harmless when it is cut off and repeated.
    """
    new = after = 0
    while True:
        with webhooks.alone() as mine:
            if not mine:
                return new
            while posts := webhooks.take(_POSTS, after=after):
                after = posts[-1].pk
                new += _hear(posts, now=now)
                if interrupted():
                    return new
        # Whoever was told of a post while we were looking has left it to us.
        if not webhooks.pending(after=after):
            return new


def _hear(posts: Sequence[WebhookPost], *, now: datetime) -> int:
    agencies = {agency.schema_name: agency for agency in context.ready_agencies()}
    told: dict[Agency, list[Heard]] = {}
    told_by: dict[Agency, list[WebhookPost]] = {}
    results: dict[int, Counter[WebhookDay.Result]] = {}
    for post in posts:
        account, counts = post.account, results.setdefault(post.account_id, Counter())
        try:
            found = list(
                hearing.events(
                    account.kind,
                    post.headers,
                    bytes(post.body),
                    account_id=account.pk,
                    received_at=post.received_at,
                )
            )
        except hearing.UnreadableError as error:
            counts[WebhookDay.Result.UNREADABLE] += 1
            post.trouble = f"Not what {account.get_kind_display()} posts: {error}"
            continue
        if url := hearing.subscription(account.kind, bytes(post.body)):
            post.trouble = f"Open this once to let Amazon SNS post events here: {url}"[:300]
        for one in found:
            agency = agencies.get(one.agency)
            # An agency's own account speaks of nobody else's mails.
            if agency is None or account.owner_id not in (None, agency.pk):
                counts[WebhookDay.Result.STRANGERS] += 1
                continue
            counts[WebhookDay.Result.EVENTS] += 1
            told.setdefault(agency, []).append(one.heard)
            told_by.setdefault(agency, []).append(post)
    new = 0
    undone: dict[int, WebhookPost] = {}
    emptied: list[int] = []
    for agency in sorted(told, key=lambda one: one.pk):
        try:
            with context.entered(agency):
                new += record(told[agency], now=now)
                erasing = erased.mails(one.message for one in told[agency] if one.message)
        except Exception as error:
            # What is wrong with one agency must not stop the others.
            logger.exception("events could not be recorded", extra={"schema": agency.schema_name})
            undone |= {post.pk: post for post in told_by[agency]}
            webhooks.failed(list(undone.values()), type(error).__name__, now=now)
        else:
            pairs = zip(told[agency], told_by[agency], strict=True)
            emptied += [post.pk for one, post in pairs if one.message in erasing]
    webhooks.handled([post for post in posts if post.pk not in undone], now=now)
    webhooks.empty(emptied)
    for account_id, counts in sorted(results.items()):
        webhooks.count(account_id, counts, now=now)
    return new


def record(heard: Iterable[Heard], *, now: datetime) -> int:
    """Store these events of the agency entered now and act on those that are new; return how many these were.

    Harmless with the same events twice, in any order, at the same time, and of mails that are not known.
    """
    every = list(heard)
    new = 0
    for first in range(0, len(every), _AT_ONCE):
        with transaction.atomic():
            ids = events.store(every[first : first + _AT_ONCE])
            if unknown := _act(ids, now=now):
                events.wait(unknown)
                visits.ask(now + _LOOK_AGAIN)
        new += len(ids)
    return new


def keep(heard: Sequence[Heard]) -> list[int]:
    """Store these events of the agency entered now, durably and quickly; return the ids of those that are new.

    What they ask for is done by `act`, or else by `look_again`.
    """
    return events.store(heard, waits=True)


def act(ids: Sequence[int], *, now: datetime) -> None:
    """Do what kept events ask for. Harmless when repeated."""
    for first in range(0, len(ids), _AT_ONCE):
        some = ids[first : first + _AT_ONCE]
        with transaction.atomic():
            unknown = set(_act(some, now=now))
            events.settle([one for one in some if one not in unknown])


def opted_out(
    message: Message,
    *,
    how: str,
    clock: Callable[[], datetime],
    lists: Sequence[int] | None = None,
    remote_ip: str | None = None,
) -> None:
    """A reader leaves for good, or these lists, see `optout`: a fact of the mail that brought them if it is of one."""
    if lists is None:
        optout.leave(message, how=how, clock=clock, remote_ip=remote_ip)
        _tell(message, "everything", EventType.UNSUBSCRIBED, how, clock())
    for list_id in sorted(lists or ()):
        optout.leave_list(message, list_id, how=how, clock=clock, remote_ip=remote_ip)
        if list_id == message.campaign.list_id:
            _tell(message, "list", EventType.UNSUBSCRIBED, how, clock())
        else:
            _tell(message, f"list.{list_id}", EventType.OTHER, "left another list", clock())


def paused(message: Message, *, days: int, clock: Callable[[], datetime], remote_ip: str | None = None) -> None:
    """A reader wants no mails for so many days, see `optout.pause`; none at all: they want mails again."""
    if days:
        until = optout.pause(message, days=days, clock=clock, remote_ip=remote_ip)
        _tell(message, f"pause.{until:%Y%m%d}", EventType.OTHER, f"no mails until {until:%Y-%m-%d}", clock())
    else:
        optout.end_pause(message, now=clock())
        _tell(message, f"resume.{clock():%Y%m%d}", EventType.OTHER, "mails again", clock())


def _tell(message: Message, what: str, type_: EventType, detail: str, now: datetime) -> None:
    record([Heard(optout.SOURCE, f"{message.key.hex}.{what}", type_, now, now, message.key, detail=detail)], now=now)


def look_again(*, now: datetime, interrupted: Callable[[], bool] = lambda: False) -> bool:
    """Act on events whose mail has become known since, batch after batch until it is interrupted; return whether some
    are left. Forget those that have waited too long."""
    after = 0
    while waiting := _known_by_now(after):
        after = waiting[-1]
        act(waiting, now=now)
        if len(waiting) < _AT_ONCE:
            break
        if interrupted():
            return True
    events.give_up(now=now)
    return False


def _known_by_now(after: int) -> list[int]:
    """Ids of events later than this one that wait and need not: the oldest, a batch of them. Those whose mail is not
    known are left out here, so that however many they are, they hold up no other."""
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN_BY_NOW, [after, _AT_ONCE])
        return [row[0] for row in cursor.fetchall()]


def _act(ids: Sequence[int], *, now: datetime) -> list[int]:
    """Do what these events ask for; return those whose mail is not known, or has surely not left."""
    if not ids:
        return []
    erased.scrub(ids)
    with connection.cursor() as cursor:
        cursor.execute(_GOING_AGAIN, [list(ids)])
        again = cursor.fetchall()
        # Before all else: what is known to be sent already is then told like any other mail.
        lifecycle.proved_sent([row[0] for row in again], [row[1] for row in again], now=now)
        cursor.execute(_UNKNOWN, [list(ids)])
        unknown = trials.heard([row[0] for row in cursor.fetchall()])
        cursor.execute(_TOLD, [_CLASSES, _CLASSES, list(ids)])
        mails = [_Mail(*(*row[:15], row[15:])) for row in cursor.fetchall()]
    new = _set_facts([mail for mail in mails if any(mail.times)])
    doubted = [mail for mail in mails if mail.status != Message.Status.SENT]
    lifecycle.proved_sent([mail.id for mail in doubted], [mail.provider_id for mail in doubted], now=now)
    _tell_others(mails, new)
    read = _set_readers([mail.id for mail in mails if mail.times[_OPENED] or mail.times[_CLICKED]])
    _suppress(mails, new, now)
    stops.stop(_endings(mails, new), now=now)
    readership.recount(read)
    _count(mails, new)
    _note_delays(mails, now)
    return unknown


def _set_facts(mails: Sequence[_Mail]) -> dict[int, set[int]]:
    """Set the times that are not set yet; return which facts are new, as places in FACTS, by message."""
    if not mails:
        return {}
    columns: list[list[Any]] = [
        [mail.id for mail in mails],
        [mail.bounce_class for mail in mails],
        *([mail.times[fact] for mail in mails] for fact in range(len(FACTS))),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_FACTS, columns)
        opened = {row[0] for row in cursor.fetchall()}
        cursor.execute(_LOCK_FACTS, [[mail.id for mail in mails if mail.id not in opened]])
        known = {row[0]: row[1:] for row in cursor.fetchall()}
        if known:
            cursor.execute(_SET_FACTS, [_CLASSES, _CLASSES, *columns, list(known)])
    nothing = (False,) * len(FACTS)
    return {
        mail.id: {
            fact for fact, set_before in enumerate(known.get(mail.id, nothing)) if mail.times[fact] and not set_before
        }
        for mail in mails
    }


def _tell_others(mails: Sequence[_Mail], new: Mapping[int, set[int]]) -> None:
    """Tell others of new facts; of opens and clicks `_set_readers` does, once it knows by whom."""
    feed.tell(
        [
            (mail.id, kind, at, {"bounce_class": mail.bounce_class} if fact == _BOUNCED else {})
            for mail in mails
            for fact in sorted(new.get(mail.id, ()))
            if (kind := _TOLD_AS.get(fact)) and (at := mail.times[fact])
        ]
    )


def _set_readers(message_ids: Sequence[int]) -> list[readership.Change]:
    """Judge by time who opened these mails and followed their links, and say so in their facts, which are locked.
    Return what to count differently."""
    if not message_ids:
        return []
    ids = list(message_ids)
    with connection.cursor() as cursor:
        for haste in verdicts.HASTE:
            no_better = READERS[READERS.index(haste.reader) :]
            hasty: list[Any] = [haste.reader, ids, haste.type, no_better, haste.within]
            cursor.execute(_HASTY, hasty)
        together: list[Any] = [Reader.MACHINE, ids, -verdicts.TOGETHER, verdicts.TOGETHER]
        cursor.execute(_TOGETHER, together)
        cursor.execute(_READERS, [ids])
        changes = [readership.Change(-1, *row) for row in cursor.fetchall()]
        cursor.execute(_SET_READERS, [READERS, READERS, ids])
        feed.ring()
        return changes + [readership.Change(1, *row) for row in cursor.fetchall()]


def _suppress(mails: Sequence[_Mail], new: Mapping[int, set[int]], now: datetime) -> None:
    found: dict[str, tuple[str, str]] = {}
    soft: dict[int, _Mail] = {}
    for mail in mails:
        value = mail.email.lower()
        told = f"{mail.source}: {mail.detail}".removesuffix(": ")
        if mail.times[_BOUNCED] and mail.bounce_class == BounceClass.HARD:
            found[value] = (Suppression.Source.BOUNCE, told)
        elif _BOUNCED in new.get(mail.id, ()) and mail.bounce_class in _SOFT:
            soft[mail.contact_id] = mail
        if mail.times[_COMPLAINED]:
            found[value] = (Suppression.Source.COMPLAINT, told)
        if mail.times[_UNSUBSCRIBED] and mail.source != optout.SOURCE:
            message = Message.objects.select_related("contact", "campaign").get(pk=mail.id)
            optout.leave(message, how=f"unsubscribed at {mail.source}", clock=lambda: now)
    for contact_id, count in _came_back_in_a_row(soft).items():
        mail = soft[contact_id]
        told = f"{count} mails in a row came back. {mail.source}: {mail.detail}".removesuffix(": ")
        found.setdefault(mail.email.lower(), (Suppression.Source.BOUNCE, told))
    Suppression.objects.bulk_create(
        [
            Suppression(value=value, source=source, evidence=evidence)
            for value, (source, evidence) in sorted(found.items())
        ],
        ignore_conflicts=True,
    )


def _endings(mails: Sequence[_Mail], new: Mapping[int, set[int]]) -> list[tuple[int, Reason]]:
    """What in these mails may end a sequence. A click does where a person reached the goal with it."""
    found = [
        (mail.id, stops.REASONS[FACTS[fact]])
        for mail in mails
        for fact in new.get(mail.id, ())
        if fact != _CLICKED and FACTS[fact] in stops.REASONS
    ]
    clicked = [mail.id for mail in mails if mail.times[_CLICKED]]
    return found + [(one, Reason.GOAL_REACHED) for one in (stops.goals(clicked) if clicked else ())]


def _came_back_in_a_row(contact_ids: Iterable[int]) -> dict[int, int]:
    if not (ids := list(contact_ids)):
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_IN_A_ROW, [_SOFT, ids, SOFT_BOUNCES])
        return dict(cursor.fetchall())


def _count(mails: Sequence[_Mail], new: Mapping[int, set[int]]) -> None:
    """Count new facts where the mail was counted when it was sent. The account's rows last but for the senders'."""
    by_campaign: dict[int, Counter[int]] = {}
    by_domain: dict[tuple[int, date], Outcome] = {}
    by_account: dict[tuple[int, date], Outcome] = {}
    by_sender: dict[tuple[int, date], Outcome] = {}
    for mail in mails:
        if not (facts := new.get(mail.id)):
            continue
        by_campaign.setdefault(mail.campaign_id, Counter()).update(facts)
        outcome = Outcome(int(_DELIVERED in facts), int(_BOUNCED in facts), int(_COMPLAINED in facts))
        for counts, key in (
            (by_domain, (mail.domain_id, mail.counted_on)),
            (by_account, (mail.account_id, accounts.utc_day(mail.claimed_at))),
            (by_sender, (mail.sender_id, mail.counted_on)),
        ):
            counts[key] = counts.get(key, NOTHING) + outcome
    if by_campaign:
        with connection.cursor() as cursor:
            cursor.executemany(
                _COUNT_CAMPAIGN,
                [
                    [campaign, *(facts[place] for place in range(len(FACTS)))]
                    for campaign, facts in sorted(by_campaign.items())
                ],
            )
    senders.count_for_domains(by_domain)
    accounts.count_outcomes(by_account, context.current_agency().pk)
    senders.count_for_senders(by_sender)


def _note_delays(mails: Sequence[_Mail], now: datetime) -> None:
    delays: dict[int, list[float]] = {}
    for mail in mails:
        if mail.delay is not None:
            delays.setdefault(mail.account_id, []).append(mail.delay)
    silence.note(delays, now=now)


_CLASSES = list(BounceClass.values)
READERS = list(Reader.values)
_COLUMNS = [f"{fact.value}_at" for fact in FACTS]
# The account must be the one that the mail went through: an agency's own account says nothing of what others sent.
_OF_MAIL = """
senders_event e LEFT JOIN campaigns_message m
  ON m.key = e.message AND m.status IN ('claimed', 'sent', 'unknown')
  AND (e.account_id IS NULL OR e.account_id = m.account_id)
"""
# What a person has had sent again, and that has not left again yet.
_GOING_AGAIN = """
SELECT m.id, max(e.provider_id)
FROM senders_event e
JOIN campaigns_message m ON m.key = e.message AND m.status IN ('scheduled', 'held') AND m.sendings > 0
JOIN campaigns_doubtentry d ON d.message_id = m.id AND d.claimed_at IS NOT NULL
  AND (e.account_id IS NULL OR e.account_id = d.account_id)
WHERE e.id = ANY(%s)
GROUP BY m.id
"""
_KNOWN_BY_NOW = """
SELECT e.id FROM senders_event e
WHERE e.waits AND e.id > %s AND (
    e.message IS NULL
    OR EXISTS (
        SELECT FROM campaigns_message m
        WHERE m.key = e.message AND (
            m.sendings > 0
            OR (m.status IN ('claimed', 'sent', 'unknown') AND (e.account_id IS NULL OR e.account_id = m.account_id))
        )
    )
    OR EXISTS (SELECT FROM campaigns_trialmail t WHERE t.key = e.message)
)
ORDER BY e.id LIMIT %s
"""
_UNKNOWN = f"SELECT e.id FROM {_OF_MAIL} WHERE e.id = ANY(%s) AND e.message IS NOT NULL AND m.id IS NULL"  # noqa: S608 - of constants
_FIRST = ", ".join(
    f"min(e.at) FILTER (WHERE e.type = '{fact.value}' AND e.bounce_class <> '{BounceClass.OURS.value}')"
    for fact in FACTS
)
_TOLD = f"""
SELECT m.id, m.status, m.account_id, m.sender_id, s.domain_id, m.campaign_id, m.contact_id, p.email, m.claimed_at,
       m.counted_on, max(e.provider_id), max(e.source),
       COALESCE((array_agg(e.bounce_class ORDER BY array_position(%s::text[], e.bounce_class::text))
                 FILTER (WHERE e.type = 'bounced'))[1], ''),
       (array_agg(e.detail ORDER BY array_position(%s::text[], e.bounce_class::text), e.id))[1],
       extract(epoch FROM min(e.received_at) FILTER (
           WHERE e.account_id IS NOT NULL AND e.type IN ('delivered', 'deferred', 'bounced')
       ) - COALESCE(m.sent_at, m.attempted_at, m.claimed_at))::float8,
       {_FIRST}
FROM {_OF_MAIL}
JOIN senders_sender s ON s.id = m.sender_id
JOIN campaigns_contact p ON p.id = m.contact_id
WHERE e.id = ANY(%s)
GROUP BY m.id, s.domain_id, p.email
ORDER BY m.id
"""  # noqa: S608 - of constants
_TIMES = ", ".join("%b::timestamptz[]" for _ in FACTS)
_OPEN_FACTS = f"""
INSERT INTO campaigns_messagefacts (message_id, bounce_class, {", ".join(_COLUMNS)})
SELECT * FROM unnest(%s::bigint[], %s::text[], {_TIMES})
ON CONFLICT DO NOTHING
RETURNING message_id
"""  # noqa: S608 - of constants
_LOCK_FACTS = f"""
SELECT message_id, {", ".join(f"{column} IS NOT NULL" for column in _COLUMNS)}
FROM campaigns_messagefacts WHERE message_id = ANY(%s) ORDER BY message_id FOR UPDATE
"""  # noqa: S608 - of constants
_SET_FACTS = f"""
UPDATE campaigns_messagefacts f
SET {", ".join(f"{column} = COALESCE(f.{column}, n.{column})" for column in _COLUMNS)},
    bounce_class = COALESCE((ARRAY(
        SELECT one FROM unnest(ARRAY[f.bounce_class, n.bounce_class]) AS one
        WHERE one = ANY(%s::text[]) ORDER BY array_position(%s::text[], one)
    ))[1], '')
FROM unnest(%s::bigint[], %s::text[], {_TIMES}) AS n (message_id, bounce_class, {", ".join(_COLUMNS)})
WHERE f.message_id = n.message_id AND f.message_id = ANY(%s)
"""  # noqa: S608 - of constants
_HASTY = """
UPDATE senders_event e SET reader = %s
FROM campaigns_message m
WHERE m.id = ANY(%s) AND e.message = m.key AND e.type = %s AND e.reader <> ALL(%s::text[]) AND e.at < m.sent_at + %s
"""
# What the source calls a click begins with the number of its link.
_TOGETHER = """
UPDATE senders_event e SET reader = %s
FROM campaigns_message m, senders_event o
WHERE m.id = ANY(%s) AND e.message = m.key AND o.message = m.key
  AND e.type = 'clicked' AND o.type = 'clicked' AND e.source = 'tracking' AND o.source = 'tracking'
  AND e.reader <> 'machine' AND split_part(e.raw_id, '.', 1) <> split_part(o.raw_id, '.', 1)
  AND e.at - o.at BETWEEN %s AND %s
"""
# Their facts are locked.
_READERS = """
SELECT m.campaign_id, f.opened_by, f.clicked_by
FROM campaigns_messagefacts f JOIN campaigns_message m ON m.id = f.message_id WHERE f.message_id = ANY(%s)
"""
# Told when a person is first seen to have done it, and when that turns out to be wrong.
_SET_READERS = """
WITH judged AS (
    UPDATE campaigns_messagefacts f
    SET opened_by = COALESCE(n.opened_by, ''), clicked_by = COALESCE(n.clicked_by, '')
    FROM (
        SELECT m.id, m.key, m.campaign_id,
               (array_agg(e.reader ORDER BY array_position(%s::text[], e.reader::text))
                FILTER (WHERE e.type = 'opened'))[1] AS opened_by,
               (array_agg(e.reader ORDER BY array_position(%s::text[], e.reader::text))
                FILTER (WHERE e.type = 'clicked'))[1] AS clicked_by
        FROM campaigns_message m JOIN senders_event e ON e.message = m.key
        WHERE m.id = ANY(%s) AND e.type IN ('opened', 'clicked')
        GROUP BY m.id
    ) AS n, campaigns_messagefacts AS was
    WHERE f.message_id = n.id AND was.message_id = n.id
    RETURNING n.key, n.campaign_id, f.opened_at, f.clicked_at, f.opened_by, f.clicked_by,
              was.opened_by AS opened_before, was.clicked_by AS clicked_before
), told AS (
    INSERT INTO campaigns_feedentry (kind, at, message, campaign, data)
    SELECT t.kind, t.at, j.key, j.campaign_id, jsonb_build_object('by', t.by)
    FROM judged j
    CROSS JOIN LATERAL (
        VALUES ('message.opened', j.opened_at, j.opened_before, j.opened_by),
               ('message.clicked', j.clicked_at, j.clicked_before, j.clicked_by)
    ) AS t (kind, at, before, by)
    WHERE t.before <> t.by AND 'human' IN (t.before, t.by)
)
SELECT campaign_id, opened_by, clicked_by FROM judged
"""
_IN_A_ROW = """
SELECT m.contact_id, count(*)
FROM campaigns_message m
JOIN campaigns_messagefacts f ON f.message_id = m.id AND f.bounce_class = ANY(%s::text[])
WHERE m.contact_id = ANY(%s) AND f.bounced_at > COALESCE((
    SELECT max(d.delivered_at) FROM campaigns_message o JOIN campaigns_messagefacts d ON d.message_id = o.id
    WHERE o.contact_id = m.contact_id AND d.bounced_at IS NULL
), '-infinity')
GROUP BY 1
HAVING count(*) >= %s
"""
_COUNT_CAMPAIGN = f"""
INSERT INTO campaigns_campaignoutcome AS o (campaign_id, {", ".join(fact.value for fact in FACTS)})
VALUES (%s, {", ".join("%s" for _ in FACTS)})
ON CONFLICT (campaign_id) DO UPDATE
SET {", ".join(f"{fact.value} = o.{fact.value} + EXCLUDED.{fact.value}" for fact in FACTS)}
"""  # noqa: S608 - of constants
