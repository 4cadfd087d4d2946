"""The only writer of a message's status, by guarded updates.

    scheduled ─claim→ claimed ─sent→ sent
    claimed ─reschedule, release→ scheduled          surely not sent: its quota goes back
    claimed ─hold→ held, ─fail→ failed               surely not sent: its quota goes back
    claimed ─doubt→ unknown                          perhaps sent: it stays counted and is never sent again unasked
    unknown ─sent→ sent                              the worker was only slow
    claimed, unknown ─proved_sent→ sent              the provider, or the reader, has shown that it has the mail
    unknown ─count_as_sent→ sent                     a person says so
    unknown ─send_again→ scheduled                   a person says so: what it was counted for stays counted
    unknown ─refused_after_all→ failed               the provider never had it, and refuses it: its quota goes back
    held ─try_again→ scheduled                       what its text lacked may be there now
    scheduled, held ─cancel, cancel_for→ cancelled
    scheduled ─bar→ cancelled
    scheduled ─follow_pauses→ scheduled              in the queue or parked, as its campaign runs or is paused
    scheduled, held ─cancel_ended→ cancelled         its contact hears no more from the campaign
    scheduled ─hold_unconsented→ held                its account takes no mail without the consent that is missing
    held ─let_go→ scheduled                          consent was given, or another account takes it without
    scheduled ─withdraw→ cancelled ─follow_up→ scheduled     the sequence was changed, and changed again

Every verb changes a row only from the state it expects and, once claimed, only for the claim it was given: a worker
that was paused for longer than its lease finds its rows taken and can do no harm.

Locks are taken in one order: senders, domain days, messages, enrollments, campaign days, recipient days, the account's
ledger, sender days, sender hours. What gives mails back takes messages before domain days; that is safe because nobody
who holds a domain day waits for a message: claims, moves and rescues skip what is locked, and `cancel` and `cancel_for`
wait for messages alone. Who is at a campaign's state, to change it or to park by it, takes that before messages. What
ends enrollments, or looks what follows for them, takes these before the messages that wait for them; that is safe
because what has a message and wants its enrollment has it claimed or in doubt.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from campaigns import caps, feed, precedence, suppressions
from campaigns.models import Campaign, DoubtEntry
from campaigns.permission import MAY_LEAVE, takes
from campaigns.planning import Plan, Share
from campaigns.reasons import Reason
from providers.accounts import ledger as accounts
from providers.accounts.models import TrafficClass
from providers.senders import ledger as senders
from tenants import context, visits

RESCUES = 3
What = DoubtEntry.What
# Resend keeps a key for 24 hours, https://resend.com/docs/dashboard/emails/idempotency-keys, as of 2026-11.
KEY_HOLDS = timedelta(hours=23)
# What is held for its text, and what waits for a campaign's days and hours.
TEXT_REASONS = [Reason.MISSING_VALUE, Reason.NOT_RENDERED]
WINDOW_REASONS = [Reason.OUTSIDE_WINDOW, Reason.HOLIDAY]


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A mail of a later step to be queued: through the account of the thread, due then."""

    enrollment_id: int
    campaign_id: int
    contact_id: int
    step_id: int
    account_id: int
    due_at: datetime
    priority: int


@dataclass(slots=True)
class Claimed:
    """A message in a worker's hands, with all that rendering needs."""

    id: int
    key: UUID
    campaign_id: int
    step_id: int
    enrollment_id: int
    traffic_class: str
    contact: dict[str, Any]
    account_id: int
    refused_by: list[int]
    attempts: int
    rescues: int = 0
    # Its contact has heard from this sender already, so it leaves from no other.
    in_thread: bool = False
    # Whether the contact has given consent: if not, it goes to no account that requires it.
    consented: bool = False
    sender_id: int = 0
    sender_address: str = ""
    sender_name: str = ""
    # How often a person had it sent again: each time is a mail of its own to the provider.
    sendings: int = 0
    # How long its sender rests before and after it.
    gap: timedelta = timedelta()
    claim: UUID = field(default_factory=lambda: UUID(int=0))
    # How many of the claim its last attempt had in one request.
    together: int = 1
    # The letter of its text, empty while that is not chosen or where there is one.
    variant: str = ""


def schedule(campaign: Campaign, step_id: int, plan: Plan, *, due_at: datetime, after: int = 0) -> int:
    """Queue the first step for every enrollment of the campaign after that one, in the order of the plan; return how
    many. What the plan has no account for is held."""
    total = 0
    pools = [(pool.consented, pool.shares, False) for pool in plan.pools]
    if plan.held and plan.held_at is not None:
        pools.append((False, [Share(plan.held_at, "", plan.held)], True))
    for consented, shares, held in pools:
        edges, first = [], 1
        for share in shares:
            if share.count:
                edges.append((share.account_id, first))
                first += share.count
        if not edges:
            continue
        _goes_through([campaign.pk], [edge[0] for edge in edges])
        with connection.cursor() as cursor:
            cursor.execute(
                _SCHEDULE,
                {
                    "campaign": campaign.pk,
                    "step": step_id,
                    "due": due_at,
                    "after": after,
                    "consented": consented,
                    "status": "held" if held else "scheduled",
                    "reason": Reason.NEEDS_CONSENT if held else "",
                    "priority": precedence.head_start(campaign.traffic_class, follow_up=False),
                    "accounts": [edge[0] for edge in edges],
                    "firsts": [edge[1] for edge in edges],
                },
            )
            total += cursor.rowcount
    return total


def _goes_through(campaign_ids: Sequence[int], account_ids: Sequence[int]) -> None:
    """Mails of these campaigns are given to these accounts, whose senders keep their gaps from now on."""
    with connection.cursor() as cursor:
        cursor.execute(_GOES_THROUGH, {"campaigns": list(campaign_ids), "accounts": list(account_ids)})


def follow_up(mails: Sequence[FollowUp]) -> set[int]:
    """Queue mails of later steps; return the enrollments of those that were queued. Call with these locked.

    Each once: one that is there already stays as it is, unless it was withdrawn from a sequence that was changed.
    """
    if not mails:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            _FOLLOW_UP,
            [
                Reason.STEP_DELAY,
                *(
                    [getattr(mail, name) for mail in mails]
                    for name in (
                        "campaign_id",
                        "step_id",
                        "enrollment_id",
                        "contact_id",
                        "account_id",
                        "due_at",
                        "priority",
                    )
                ),
                Reason.SEQUENCE_CHANGED,
            ],
        )
        return {row[0] for row in cursor.fetchall()}


def claim(messages: Sequence[Claimed], *, claim: UUID, now: datetime, day: date, lease: timedelta) -> None:
    """Put locked messages, each with its sender, into a worker's hands until the lease ends. Call in the transaction
    that reserved their quota, the senders' on that day."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_EPOCH)
        cursor.execute(
            _CLAIM,
            [
                claim,
                now,
                day,
                now + lease,
                [message.id for message in messages],
                [message.sender_id for message in messages],
            ],
        )
        if cursor.rowcount != len(messages):
            raise RuntimeError("A message was claimed that was not locked.")
    for message in messages:
        message.claim = claim


def begin(
    messages: Sequence[Claimed],
    *,
    now: datetime,
    together: bool = False,
    fingerprints: Sequence[str] | None = None,
) -> set[int]:
    """Mark attempts before the wire is touched; return the ids of the messages that may go, `together` in one request.

    `fingerprints` are of the bytes that are about to leave, where the provider may be asked again with the same.

    One statement sees all at once: the claim still holds, the campaign runs, the contact is not suppressed and has
    given the consent that the account may require.
    The marks may be lost in a crash of PostgreSQL, so a crash since the claim puts a message in doubt anyway.
    """
    if not messages:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            _BEGIN_TOGETHER if together else _BEGIN,
            {
                "now": now,
                "ids": [message.id for message in messages],
                "claims": [message.claim for message in messages],
                "fingerprints": list(fingerprints or [""] * len(messages)),
                "variants": [message.variant for message in messages],
            },
        )
        return {row[0] for row in cursor.fetchall()}


def sent(taken: Sequence[tuple[Claimed, str | None]], *, now: datetime) -> None:
    """The provider has taken these, and gave these ids. Also those that a rescuer has put in doubt meanwhile.

    From its first mail on, a contact's thread stays with the sender that wrote it; that, and that the sequence has
    passed the step, is known as soon as that the mail was sent.
    """
    if not taken:
        return
    ids = [message.id for message, _ in taken]
    claims = [message.claim for message, _ in taken]
    provider_ids = [provider_id or "" for _, provider_id in taken]
    with connection.cursor() as cursor:
        cursor.execute(_SENT, [now, ids, claims, provider_ids])


def proved_sent(
    ids: Sequence[int], provider_ids: Sequence[str], *, now: datetime, how: DoubtEntry.What = What.SHOWN
) -> set[int]:
    """An event or a provider's answer shows that these mails were sent; an id is "" where it is not known.

    Ends the doubt, or comes before the worker that sent it has said so. One that a person has had sent again, and that
    waits for it, is not sent again. Return the ids of the mails that changed; whatever is in another state stays as it
    is, so it is harmless twice.
    """
    if not ids:
        return set()
    with transaction.atomic(), connection.cursor() as cursor:
        values: dict[str, Any] = {
            "ids": list(ids),
            "provider_ids": list(provider_ids),
            "now": now,
            "what": how,
            "by": "",
        }
        cursor.execute(_PROVED_SENT.format(states="'claimed', 'unknown'"), values)
        changed = {row[0] for row in cursor.fetchall()}
        cursor.execute(_NOT_AGAIN, values)
        changed |= {row[0] for row in cursor.fetchall()}
        cursor.execute(_PASS, [list(changed)])
        cursor.execute(_TELL_SENT, [list(changed)])
        if changed:
            feed.ring()
            visits.ask(now)
    return changed


def count_as_sent(ids: Sequence[int], *, by: str, now: datetime) -> set[int]:
    """A person ends the doubt about these mails: they were sent. Return the ids of those that changed."""
    with transaction.atomic(), connection.cursor() as cursor:
        values: dict[str, Any] = {
            "ids": list(ids),
            "provider_ids": [""] * len(ids),
            "now": now,
            "what": What.COUNTED_AS_SENT,
            "by": by,
        }
        cursor.execute(_PROVED_SENT.format(states="'unknown'"), values)
        changed = {row[0] for row in cursor.fetchall()}
        cursor.execute(_PASS, [list(changed)])
        cursor.execute(_TELL_SENT, [list(changed)])
        if changed:
            feed.ring()
            visits.ask(now)
    return changed


def send_again(ids: Sequence[int], *, by: str, now: datetime) -> set[int]:
    """A person has these mails in doubt sent once more, though they may have been sent. Return the ids of those that
    will be: not those to suppressed contacts or of cancelled campaigns.

    What they were counted for stays counted, because the first attempt may have been taken; the next claim counts anew.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SEND_AGAIN, {"ids": list(ids), "now": now, "what": What.SENT_AGAIN, "by": by})
        changed = {row[0] for row in cursor.fetchall()}
    return changed


def ask_again(ids: Sequence[int], *, now: datetime, later: datetime) -> set[int]:
    """Mark mails in doubt before their provider is asked with the same bytes; return the ids of those that it may be.

    Should the provider not have them, it sends them now: so what `begin` demands is demanded here too, and that the
    provider still knows the key. Another worker may not ask before `later`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ASK_AGAIN, {"ids": list(ids), "now": now, "later": later, "since": now - KEY_HOLDS})
        return {row[0] for row in cursor.fetchall()}


def book_anew(messages: Sequence[Claimed], *, now: datetime, day: date) -> None:
    """Count locked mails in doubt where they are sent if that is now. Call in the transaction that reserved it."""
    with connection.cursor() as cursor:
        cursor.execute(
            _BOOK_ANEW,
            {"ids": [message.id for message in messages], "now": now, "day": day, "what": What.BOOKED_ANEW},
        )


def never_ask(ids: Sequence[int], detail: str) -> None:
    """The same cannot be asked with any more: only evidence or a person may end these doubts."""
    if ids:
        with connection.cursor() as cursor:
            cursor.execute(_NEVER_ASK, [detail[:300], list(ids)])


def refused_after_all(message_id: int, reason: Reason, detail: str, *, now: datetime) -> bool:
    """Asked again, the provider did not know the mail and refused it: surely not sent, and never will be."""
    with transaction.atomic():
        changed = _return_rows(
            [message_id],
            None,
            "status = 'failed', reason = %(reason)s, detail = %(detail)s",
            {"reason": reason, "detail": detail[:300]},
            state="unknown",
        )
        if changed:
            DoubtEntry.objects.create(message_id=message_id, what=What.REFUSED, at=now)
            _tell_failed(message_id)
    return bool(changed)


def reschedule(
    message: Claimed,
    *,
    due_at: datetime,
    reason: Reason | str = "",
    detail: str = "",
    account_id: int | None = None,
    refused_by: Sequence[int] = (),
    attempt_used: bool = True,
) -> None:
    """Surely not sent: try again at `due_at`, through another account if one is given. Its quota goes back."""
    if account_id is not None:
        _goes_through([message.campaign_id], [account_id])
    _return(
        [message],
        _BACK.format(status="'scheduled'", reason="%(reason)s")
        + ", due_at = %(due)s, detail = %(detail)s, refused_by = %(refused)s, "
        "account_id = COALESCE(%(account)s, m.account_id), attempts = m.attempts + %(used)s",
        {
            "due": due_at,
            "reason": reason,
            "detail": detail[:300],
            "refused": list(refused_by),
            "account": account_id,
            "used": int(attempt_used),
        },
    )


def release(messages: Sequence[Claimed]) -> None:
    """Never tried: back into the queue as they were, and their quota with them."""
    _return(messages, _BACK.format(status="'scheduled'", reason="''"), {})


def hold(message: Claimed, reason: Reason, detail: str) -> None:
    """Surely not sent, and not to be tried until a person changes something."""
    _return(
        [message],
        _BACK.format(status="'held'", reason="%(reason)s") + ", detail = %(detail)s",
        {"reason": reason, "detail": detail[:300]},
    )


def fail(message: Claimed, reason: Reason, detail: str) -> None:
    """Surely not sent, and never will be."""
    with transaction.atomic():
        failed = _return(
            [message],
            "status = 'failed', reason = %(reason)s, detail = %(detail)s, attempts = m.attempts + 1",
            {"reason": reason, "detail": detail[:300]},
        )
        if failed:
            _tell_failed(message.id)


def doubt(message: Claimed, detail: str) -> None:
    """Perhaps sent. It stays counted, and only evidence or a person may end the doubt."""
    with connection.cursor() as cursor:
        cursor.execute(_DOUBT, [Reason.IN_DOUBT, detail[:300], message.id, message.claim])


def stop(messages: Sequence[Claimed]) -> None:
    """What `begin` refused: cancelled where the contact is suppressed or hears no more, or with its campaign; held
    without the consent that its account requires; else back into the queue."""
    if not messages:
        return
    with connection.cursor() as cursor:
        ids = [message.id for message in messages]
        cursor.execute(_MUST_NOT_GO, [Reason.CAMPAIGN_CANCELLED, Reason.OPTED_OUT, Reason.SUPPRESSED, ids])
        forbidden = dict(cursor.fetchall())
        cursor.execute(_LACK_CONSENT, [ids])
        lacking = {row[0] for row in cursor.fetchall()} - set(forbidden)
    for reason in set(forbidden.values()):
        _return(
            [message for message in messages if forbidden.get(message.id) == reason],
            "status = 'cancelled', reason = %(reason)s",
            {"reason": reason},
        )
    if lacking:
        # Their basis may have changed while they were enrolled.
        with connection.cursor() as cursor:
            cursor.execute(_NOT_CONSENTED, [[one.enrollment_id for one in messages if one.id in lacking]])
    _return(
        [message for message in messages if message.id in lacking],
        _BACK.format(status="'held'", reason="%(reason)s"),
        {"reason": Reason.NEEDS_CONSENT},
    )
    release([message for message in messages if message.id not in forbidden and message.id not in lacking])


def hold_lacking(message_ids: Sequence[int]) -> None:
    """Waiting messages that a claim has locked, without the consent that their account requires, leave the queue."""
    if message_ids:
        with connection.cursor() as cursor:
            cursor.execute(_HOLD_LACKING, [Reason.NEEDS_CONSENT, list(message_ids)])


def hold_unconsented(contact_ids: Sequence[int]) -> int:
    """What waits for these contacts, at accounts that require a consent which they have not given, leaves the queue;
    return how much that is. What a worker holds is refused by `begin`."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD_UNCONSENTED, [Reason.NEEDS_CONSENT, list(contact_ids)])
        return int(cursor.rowcount)


def let_go(*, now: datetime, at_most: int) -> set[int]:
    """Up to so many mails that waited for consent, and that their account takes now, go back into the queue; return
    their campaigns."""
    with connection.cursor() as cursor:
        cursor.execute(_LET_GO, {"now": now, "reason": Reason.NEEDS_CONSENT, "most": at_most})
        return {row[0] for row in cursor.fetchall()}


def hold_sources(list_id: int | None) -> int:
    """First mails that wait for contacts of paused sources, of this list or of all, leave the queue; return how many
    those are."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD_SOURCES, {"reason": Reason.SOURCE_PAUSED, "list": list_id})
        return int(cursor.rowcount)


def let_sources_go(*, now: datetime) -> set[int]:
    """What waited for paused sources that are paused no more goes back into the queue; return its campaigns."""
    with connection.cursor() as cursor:
        cursor.execute(_LET_SOURCES_GO, {"now": now, "reason": Reason.SOURCE_PAUSED})
        return {row[0] for row in cursor.fetchall()}


def held_of_sources() -> dict[tuple[int, int | None], int]:
    """Mails that wait for each paused source, by the ids of its list and its import."""
    with connection.cursor() as cursor:
        cursor.execute(_HELD_OF_SOURCES, [Reason.SOURCE_PAUSED])
        return {(list_id, intake_id): count for list_id, intake_id, count in cursor.fetchall()}


def move_held(to_account_id: int, campaign_ids: Sequence[int], *, at_most: int, now: datetime) -> int:
    """Send up to so many mails that wait for consent through an account that takes them without; return how many."""
    _goes_through(campaign_ids, [to_account_id])
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVE_HELD,
            {
                "to": to_account_id,
                "campaigns": list(campaign_ids),
                "most": at_most,
                "now": now,
                "reason": Reason.NEEDS_CONSENT,
            },
        )
        return int(cursor.rowcount)


def try_again(campaign_id: int | None, contact_ids: Collection[int] | None, *, now: datetime) -> set[int]:
    """Queue what is held for its text, of a campaign, of these contacts or of both; return the ids of what is queued.

    Not what belongs to a cancelled campaign, a sequence that has ended or a suppressed contact.
    """
    with connection.cursor() as cursor:
        contacts = None if contact_ids is None else list(contact_ids)
        cursor.execute(_TRY_AGAIN, {"now": now, "campaign": campaign_id, "contacts": contacts, "reasons": TEXT_REASONS})
        return {row[0] for row in cursor.fetchall()}


def cancel(campaign: Campaign) -> int:
    """Everything of this campaign that is not in a worker's hands will not be sent; return how much that is."""
    with connection.cursor() as cursor:
        cursor.execute(_CANCEL, [Reason.CAMPAIGN_CANCELLED, campaign.pk])
        return int(cursor.rowcount)


def bar(message_ids: Sequence[int]) -> None:
    """Waiting messages that the caller has locked, to contacts who must not be mailed, will not be sent; those to
    contacts who want a pause wait until it is over."""
    if message_ids:
        reasons = {"paused": Reason.READER_PAUSED, "opted_out": Reason.OPTED_OUT, "suppressed": Reason.SUPPRESSED}
        with connection.cursor() as cursor:
            cursor.execute(_BAR, {**reasons, "ids": list(message_ids)})


def end_pause(contact_id: int, *, now: datetime) -> int:
    """What waited for this contact's pause is due; return how much that is."""
    with connection.cursor() as cursor:
        cursor.execute(_END_PAUSE, {"paused": Reason.READER_PAUSED, "contact": contact_id, "now": now})
        return int(cursor.rowcount)


def cancel_for(contact_id: int, reason: Reason, *, list_id: int | None = None) -> int:
    """Nothing more that waits for this contact will be sent, or nothing of this list's campaigns; return how much that
    is. What a worker holds is refused by `begin`."""
    with connection.cursor() as cursor:
        cursor.execute(_CANCEL_FOR, {"reason": reason, "contact": contact_id, "list": list_id})
        return int(cursor.rowcount)


def cancel_ended(enrollment_ids: Sequence[int], *, detail: str = "") -> int:
    """Nothing that waits for these enrollments will be sent, for what they were ended for; return how much that is.
    What a worker holds is refused by `begin`."""
    with connection.cursor() as cursor:
        cursor.execute(_CANCEL_ENDED, {"detail": detail[:300], "enrollments": list(enrollment_ids)})
        return int(cursor.rowcount)


def withdraw(message_ids: Sequence[int]) -> set[int]:
    """Waiting follow-ups that were never tried leave the queue, for their sequence was changed; return their ids."""
    with connection.cursor() as cursor:
        cursor.execute(_WITHDRAW, [Reason.SEQUENCE_CHANGED, list(message_ids)])
        return {row[0] for row in cursor.fetchall()}


def wait_for_return(contact_id: int, *, until: datetime) -> int:
    """What waits for a contact who is out of office, transactional mails aside, waits until then, and so does what
    their sequences look at before it; return how many mails that moves. Not in a transaction, for the order of locks.
    """
    values: dict[str, Any] = {
        "contact": contact_id,
        "until": until,
        "reason": Reason.AWAY,
        "at_once": TrafficClass.HIGH_PRIORITY,
    }
    with connection.cursor() as cursor:
        # First, so that whatever is queued by then is seen by the next.
        cursor.execute(_LOOK_AFTER_RETURN, values)
        cursor.execute(_WAIT_FOR_RETURN, values)
        return int(cursor.rowcount)


def postpone_steps(due: Sequence[tuple[int, datetime]]) -> None:
    """Waiting follow-ups that were never tried are due at other times: (message, time)."""
    if due:
        with connection.cursor() as cursor:
            cursor.execute(_POSTPONE_STEPS, [[one for one, _ in due], [due_at for _, due_at in due], Reason.STEP_DELAY])


def move(
    account_id: int,
    to_account_id: int,
    campaign_ids: Sequence[int],
    *,
    at_most: int,
    now: datetime,
    only_strays: bool = False,
) -> int:
    """Send up to so many due mails of these campaigns through another account; return how many were moved.

    `only_strays`: those of threads whose sender cannot leave through the account that they are at.
    """
    _goes_through(campaign_ids, [to_account_id])
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVE,
            {
                "account": account_id,
                "to": to_account_id,
                "campaigns": list(campaign_ids),
                "now": now,
                "most": at_most,
                "only_strays": only_strays,
            },
        )
        return int(cursor.rowcount)


def postpone(account_id: int, campaign_ids: Sequence[int], reason: Reason, *, until: datetime, now: datetime) -> int:
    """Try the due mails of these campaigns again at `until`; return how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(_POSTPONE, [until, reason, account_id, list(campaign_ids), now])
        return int(cursor.rowcount)


def follow_pauses(*, now: datetime, at_most: int) -> int:
    """Park up to so many mails of paused campaigns, and bring back up to so many of campaigns that run; return how many
    changed.

    What is parked waits as it was, but no claim meets it and nobody is rung for it. What comes back grew no older: it
    is due now, unless it is later. Campaigns that are being paused or resumed are left for the next time.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FOLLOW_PAUSES, {"now": now, "most": at_most})
        return int(cursor.rowcount)


def look_again(campaign: Campaign, *, now: datetime) -> int:
    """Let what was set aside for the campaign's days and hours be due now; return how much that is."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOK_AGAIN, [now, campaign.pk, WINDOW_REASONS])
        return int(cursor.rowcount)


def set_aside(
    account_id: int,
    campaign_id: int,
    reason: Reason,
    *,
    until: datetime,
    now: datetime,
    zones: list[str] | None = None,
    step: int | None = None,
    domains: list[str] | None = None,
) -> int:
    """Let due mails of a campaign wait until then: those to contacts of these zones, of this step, to these domains;
    None is all. Return how many there were.

    Those that wait for its days and hours grow older meanwhile; a cap means that it has sent its mails of the day.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _SET_ASIDE,
            {
                "until": until,
                "reason": reason,
                "ages": reason in WINDOW_REASONS,
                "account": account_id,
                "campaign": campaign_id,
                "now": now,
                "zones": zones,
                "step": step,
                "domains": domains,
            },
        )
        return int(cursor.rowcount)


def rescue(*, now: datetime) -> tuple[int, int]:
    """Take back what dead workers held; return (back in the queue, in doubt).

    In doubt is whatever was marked as tried, and everything claimed before PostgreSQL last crashed.
    A message whose preparation ended three workers is held instead of ending a fourth.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RESCUE_DOUBT, [Reason.IN_DOUBT, now])
        doubted = cursor.rowcount
        cursor.execute(_ABANDONED, [now])
        abandoned = [row[0] for row in cursor.fetchall()]
        if abandoned:
            _return_rows(
                abandoned,
                None,
                "rescues = m.rescues + 1, "
                + _BACK.format(
                    status="CASE WHEN m.rescues + 1 < %(most)s THEN 'scheduled' ELSE 'held' END",
                    reason="CASE WHEN m.rescues + 1 < %(most)s THEN '' ELSE %(reason)s END",
                ),
                {"most": RESCUES, "reason": Reason.BREAKS_WORKERS},
            )
    return len(abandoned), doubted


def _tell_failed(message_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_TELL_FAILED, [message_id])


def _return(messages: Sequence[Claimed], change: str, values: dict[str, Any]) -> int:
    by_claim: dict[UUID, list[int]] = {}
    for message in messages:
        by_claim.setdefault(message.claim, []).append(message.id)
    changed = 0
    for claim_id, ids in by_claim.items():
        with transaction.atomic():
            changed += _return_rows(ids, claim_id, change, values)
    return changed


def _return_rows(
    ids: Sequence[int], claim_id: UUID | None, change: str, values: dict[str, Any], *, state: str = "claimed"
) -> int:
    """Change rows that were surely not sent and give their quota back, in the locks' one order; return how many."""
    agency_id = context.current_agency().pk
    with connection.cursor() as cursor:
        cursor.execute(_RETURN.format(change=change), {**values, "ids": list(ids), "claim": claim_id, "state": state})
        rows = cursor.fetchall()
    by_domain: Counter[tuple[int, date]] = Counter()
    by_sender: Counter[tuple[int, date, datetime]] = Counter()
    by_account: Counter[tuple[int, date]] = Counter()
    by_campaign: Counter[tuple[int, date]] = Counter()
    by_recipient: Counter[tuple[int, str, date]] = Counter()
    for account_id, sender_id, domain_id, claimed_at, day, campaign_id, counted_first, counted_to in rows:
        by_domain[domain_id, day] += 1
        by_sender[sender_id, day, senders.hour_of(claimed_at)] += 1
        by_account[account_id, accounts.utc_day(claimed_at)] += 1
        if counted_first:
            by_campaign[campaign_id, day] += 1
        if counted_to:
            by_recipient[campaign_id, caps.domain_of(counted_to), day] += 1
    refused = values.get("reason") == Reason.RECIPIENT_REFUSED
    senders.give_back_domains(by_domain, refused=refused)
    caps.give_back(by_campaign, by_recipient)
    for (account_id, utc_day), count in sorted(by_account.items()):
        accounts.give_back(account_id, agency_id, count, day=utc_day)
    senders.give_back_senders(by_sender, refused=refused)
    return len(rows)


# Before its mails: a campaign is locked before what is its own.
_GOES_THROUGH = """
UPDATE campaigns_campaign SET accounts = ARRAY(SELECT DISTINCT unnest(accounts || %(accounts)s::bigint[]) ORDER BY 1)
WHERE id IN (
    SELECT id FROM campaigns_campaign WHERE id = ANY(%(campaigns)s) AND NOT accounts @> %(accounts)s::bigint[]
    ORDER BY id FOR UPDATE
)
"""
# A claim is durable; a mark, and that a mail was sent, may wait for the next flush: if PostgreSQL dies in between,
# the message is put in doubt, never back into the queue. Hence `unsynced` in _BEGIN and _SENT.
# IS TRUE keeps the planner from the indexes by status where ids are given: it takes them for empty, and under a held
# snapshot they are full of dead rows.
_SCHEDULE = """
INSERT INTO campaigns_message (campaign_id, step_id, enrollment_id, contact_id, planned_id, account_id, due_at,
    priority, status, reason)
SELECT %(campaign)s, %(step)s, e.id, e.contact_id, e.account_id, e.account_id, %(due)s, %(priority)s, %(status)s,
    %(reason)s
FROM (
    SELECT id, contact_id, (%(accounts)s::bigint[])[
        width_bucket(row_number() OVER (ORDER BY contact_id), %(firsts)s::bigint[])
    ] AS account_id
    FROM campaigns_enrollment WHERE campaign_id = %(campaign)s AND id > %(after)s
      AND (%(consented)s::boolean IS NULL OR consented = %(consented)s)
) e
"""
_FOLLOW_UP = f"""
INSERT INTO campaigns_message AS m (campaign_id, step_id, enrollment_id, contact_id, planned_id, account_id, due_at,
    priority, status, reason)
SELECT n.campaign_id, n.step_id, n.enrollment_id, n.contact_id, n.account_id, n.account_id, n.due_at, n.priority,
    CASE WHEN {takes("n.account_id")} THEN 'scheduled' ELSE 'held' END,
    CASE WHEN {takes("n.account_id")} THEN %s ELSE '{Reason.NEEDS_CONSENT.value}' END
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::smallint[])
  AS n (campaign_id, step_id, enrollment_id, contact_id, account_id, due_at, priority)
JOIN campaigns_enrollment e ON e.id = n.enrollment_id
ON CONFLICT (enrollment_id, step_id) DO UPDATE
SET status = EXCLUDED.status, parked = false, reason = EXCLUDED.reason, due_at = EXCLUDED.due_at,
    account_id = EXCLUDED.account_id
WHERE m.status = 'cancelled' AND m.reason = %s
RETURNING m.enrollment_id
"""  # noqa: S608 - of constants
# PostgreSQL empties this unlogged table whenever it crashes, so the time since then gets a new name.
_OPEN_EPOCH = "INSERT INTO server_epoch DEFAULT VALUES ON CONFLICT DO NOTHING"
_CLAIM = """
UPDATE campaigns_message m
SET status = 'claimed', reason = '', detail = '', claim = %s, claimed_at = %s, counted_on = %s, lease_until = %s,
    attempted_at = NULL, fingerprint = '', ask_at = NULL,
    epoch = (SELECT value FROM server_epoch), sender_id = n.sender_id
FROM unnest(%s::bigint[], %s::bigint[]) AS n (id, sender_id)
WHERE m.id = n.id AND (m.status = 'scheduled') IS TRUE
"""
_MAY_GO = f"""
FROM {{message}} unnest(
         %(ids)s::bigint[], %(claims)s::uuid[], %(fingerprints)s::text[], %(variants)s::text[]
     ) AS n (id, claim, fingerprint, variant),
     campaigns_campaign c, campaigns_contact p, campaigns_enrollment e,
     (SELECT set_config('synchronous_commit', 'off', true)) AS unsynced
WHERE m.id = n.id AND m.claim = n.claim AND (m.status = 'claimed') IS TRUE
  AND c.id = m.campaign_id AND c.status = 'running' AND p.id = m.contact_id AND e.id = m.enrollment_id AND e.ended = ''
  AND NOT EXISTS ({suppressions.matching("p.email", "c.list_id")})
  AND {MAY_LEAVE}
"""
_BEGIN = f"""
UPDATE campaigns_message m
SET attempted_at = %(now)s, together = 1, fingerprint = n.fingerprint, variant = n.variant
{_MAY_GO.format(message="")}
RETURNING m.id
"""  # noqa: S608 - of constants
# How many they were says later whether all of the request can still be found.
_BEGIN_TOGETHER = f"""
WITH going AS MATERIALIZED (
    SELECT m.id, n.fingerprint, n.variant {_MAY_GO.format(message="campaigns_message m,")} FOR UPDATE OF m
)
UPDATE campaigns_message m
SET attempted_at = %(now)s, together = (SELECT count(*) FROM going), fingerprint = going.fingerprint,
    variant = going.variant
FROM going WHERE m.id = going.id
RETURNING m.id
"""  # noqa: S608 - of constants
# The step is passed. What comes next is looked at unless there is none; a step taken out meanwhile has no position.
# Locked in the order in which facts end them.
_PASSED = """
UPDATE campaigns_enrollment e
SET sender_id = COALESCE(e.sender_id, w.sender_id), passed_id = w.step_id, passed_at = w.sent_at,
    look_at = CASE WHEN e.ended = '' AND EXISTS (
        SELECT FROM campaigns_step s JOIN campaigns_step l ON l.campaign_id = s.campaign_id
        WHERE s.id = w.step_id AND l.position > COALESCE(s.position, 1)
    ) THEN w.sent_at END
FROM (
    SELECT g.* FROM {went} g JOIN campaigns_enrollment l ON l.id = g.enrollment_id
    ORDER BY l.id FOR NO KEY UPDATE OF l
) w
WHERE e.id = w.enrollment_id AND (e.passed_at IS NULL OR e.passed_at <= w.sent_at)
"""
_SENT = f"""
WITH went AS (
    UPDATE campaigns_message m
    SET status = 'sent', sent_at = %s, provider_id = n.provider_id, reason = '', detail = '', attempts = m.attempts + 1,
        lease_until = NULL
    FROM unnest(%s::bigint[], %s::uuid[], %s::text[]) AS n (id, claim, provider_id),
         (SELECT set_config('synchronous_commit', 'off', true)) AS unsynced
    WHERE m.id = n.id AND m.claim = n.claim AND (m.status IN ('claimed', 'unknown')) IS TRUE
    RETURNING m.enrollment_id, m.step_id, m.sender_id, m.sent_at, m.key, m.campaign_id
), told AS (
    INSERT INTO campaigns_feedentry (kind, at, message, campaign)
    SELECT 'message.sent', sent_at, key, campaign_id FROM went
)
{_PASSED.format(went="went")}
"""  # noqa: S608 - of constants
# It was counted, and is told, at the time of the attempt.
_PROVED_SENT = """
WITH proved AS (
    SELECT m.id, m.status, n.provider_id
    FROM campaigns_message m
    JOIN unnest(%(ids)s::bigint[], %(provider_ids)s::text[]) AS n (id, provider_id) ON n.id = m.id
    WHERE m.status IN ({states})
    ORDER BY m.id FOR UPDATE OF m
), told AS (
    INSERT INTO campaigns_doubtentry (message_id, what, by, at)
    SELECT id, %(what)s, %(by)s, %(now)s FROM proved WHERE status = 'unknown'
)
UPDATE campaigns_message m
SET status = 'sent', sent_at = COALESCE(m.attempted_at, m.claimed_at), reason = '', detail = '', lease_until = NULL,
    provider_id = COALESCE(NULLIF(proved.provider_id, ''), m.provider_id),
    attempts = m.attempts + CASE WHEN m.status = 'claimed' THEN 1 ELSE 0 END
FROM proved WHERE m.id = proved.id
RETURNING m.id
"""
_PASS = _PASSED.format(
    went="(SELECT enrollment_id, step_id, sender_id, sent_at FROM campaigns_message WHERE id = ANY(%s))"
)
_TELL_FAILED = """
INSERT INTO campaigns_feedentry (kind, at, message, campaign, data)
SELECT 'message.failed', statement_timestamp(), key, campaign_id, jsonb_build_object('reason', reason)
FROM campaigns_message WHERE id = %s
"""
_TELL_SENT = """
INSERT INTO campaigns_feedentry (kind, at, message, campaign)
SELECT 'message.sent', sent_at, key, campaign_id FROM campaigns_message WHERE id = ANY(%s) ORDER BY id
"""
# The reader may have heard from its sender already, so it leaves from no other.
_SEND_AGAIN = f"""
WITH doubted AS (
    SELECT m.id, m.enrollment_id, m.account_id, m.sender_id, m.claimed_at, m.counted_on
    FROM campaigns_message m
    JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.status <> 'cancelled'
    JOIN campaigns_contact p ON p.id = m.contact_id
    JOIN campaigns_enrollment e ON e.id = m.enrollment_id AND e.ended = ''
    WHERE m.id = ANY(%(ids)s) AND m.status = 'unknown'
      AND NOT EXISTS ({suppressions.matching("p.email", "c.list_id")})
    ORDER BY m.id FOR UPDATE OF m
), told AS (
    INSERT INTO campaigns_doubtentry (message_id, what, by, at, account_id, sender_id, claimed_at, counted_on)
    SELECT id, %(what)s, %(by)s, %(now)s, account_id, sender_id, claimed_at, counted_on FROM doubted
), kept AS (
    UPDATE campaigns_enrollment e SET sender_id = doubted.sender_id
    FROM doubted WHERE e.id = doubted.enrollment_id AND e.sender_id IS NULL
)
UPDATE campaigns_message m
SET status = 'scheduled', reason = '', detail = '', due_at = %(now)s, sendings = m.sendings + 1, refused_by = '{{}}',
    claim = NULL, claimed_at = NULL, counted_on = NULL, lease_until = NULL, epoch = NULL, attempted_at = NULL,
    sender_id = NULL
FROM doubted WHERE m.id = doubted.id
RETURNING m.id
"""  # noqa: S608 - see suppressions
# What was counted when it was tried is counted on its own row again.
_NOT_AGAIN = """
WITH tried AS (
    SELECT DISTINCT ON (m.id) m.id, n.provider_id, d.id AS entry_id, d.account_id, d.sender_id, d.claimed_at,
        d.counted_on
    FROM campaigns_message m
    JOIN unnest(%(ids)s::bigint[], %(provider_ids)s::text[]) AS n (id, provider_id) ON n.id = m.id
    JOIN campaigns_doubtentry d ON d.message_id = m.id AND d.what = 'sent_again' AND d.claimed_at IS NOT NULL
    WHERE m.status IN ('scheduled', 'held')
    ORDER BY m.id, d.id DESC
), locked AS (
    SELECT m.id FROM campaigns_message m JOIN tried ON tried.id = m.id
    WHERE m.status IN ('scheduled', 'held') ORDER BY m.id FOR UPDATE OF m
), moved AS (
    UPDATE campaigns_doubtentry d SET account_id = NULL, sender_id = NULL, claimed_at = NULL, counted_on = NULL
    FROM tried JOIN locked ON locked.id = tried.id WHERE d.id = tried.entry_id
), told AS (
    INSERT INTO campaigns_doubtentry (message_id, what, by, at) SELECT id, %(what)s, %(by)s, %(now)s FROM locked
)
UPDATE campaigns_message m
SET status = 'sent', sent_at = tried.claimed_at, reason = '', detail = '', provider_id = tried.provider_id,
    account_id = tried.account_id, sender_id = tried.sender_id, claimed_at = tried.claimed_at,
    counted_on = tried.counted_on
FROM tried JOIN locked ON locked.id = tried.id WHERE m.id = tried.id
RETURNING m.id
"""
_ASK_AGAIN = f"""
UPDATE campaigns_message m SET ask_at = %(later)s
FROM campaigns_campaign c, campaigns_contact p, campaigns_enrollment e
WHERE e.id = m.enrollment_id AND e.ended = ''
  AND m.id = ANY(%(ids)s) AND m.status = 'unknown' AND m.fingerprint <> ''
  AND (m.ask_at IS NULL OR m.ask_at <= %(now)s) AND m.attempted_at > %(since)s
  AND c.id = m.campaign_id AND c.status IN ('running', 'finished') AND p.id = m.contact_id
  AND NOT EXISTS ({suppressions.matching("p.email", "c.list_id")})
  AND {MAY_LEAVE}
RETURNING m.id
"""  # noqa: S608 - see suppressions
_BOOK_ANEW = """
WITH told AS (
    INSERT INTO campaigns_doubtentry (message_id, what, by, at, account_id, sender_id, claimed_at, counted_on)
    SELECT id, %(what)s, '', %(now)s, account_id, sender_id, claimed_at, counted_on
    FROM campaigns_message WHERE id = ANY(%(ids)s)
)
UPDATE campaigns_message SET claimed_at = %(now)s, counted_on = %(day)s WHERE id = ANY(%(ids)s)
"""
_NEVER_ASK = """
UPDATE campaigns_message SET fingerprint = '', detail = %s WHERE id = ANY(%s) AND status = 'unknown'
"""
_DOUBT = """
UPDATE campaigns_message SET status = 'unknown', reason = %s, detail = %s, attempts = attempts + 1, lease_until = NULL
WHERE id = %s AND claim = %s AND status = 'claimed'
"""
# What comes back while its campaign is cancelled is cancelled too, or it would wait for ever.
_BACK = (
    "status = CASE WHEN c.status = 'cancelled' THEN 'cancelled' ELSE {status} END, "
    f"reason = CASE WHEN c.status = 'cancelled' THEN '{Reason.CAMPAIGN_CANCELLED.value}' ELSE {{reason}} END"
)
_RETURN = """
WITH gone AS (
    SELECT id, campaign_id, account_id, sender_id, claimed_at, counted_on FROM campaigns_message
    WHERE id = ANY(%(ids)s) AND status = %(state)s AND (%(claim)s::uuid IS NULL OR claim = %(claim)s)
    ORDER BY id FOR UPDATE
)
UPDATE campaigns_message m
SET {change}, claim = NULL, claimed_at = NULL, counted_on = NULL, lease_until = NULL, epoch = NULL, attempted_at = NULL,
    sender_id = NULL
FROM gone JOIN senders_sender s ON s.id = gone.sender_id JOIN campaigns_campaign c ON c.id = gone.campaign_id
WHERE m.id = gone.id
RETURNING gone.account_id, gone.sender_id, s.domain_id, gone.claimed_at, gone.counted_on, gone.campaign_id,
    CASE WHEN c.new_contacts_per_day IS NOT NULL
         THEN m.step_id = (SELECT id FROM campaigns_step WHERE campaign_id = c.id ORDER BY position LIMIT 1) END,
    CASE WHEN c.per_domain_per_day IS NOT NULL THEN (SELECT email FROM campaigns_contact WHERE id = m.contact_id) END
"""
_MUST_NOT_GO = f"""
SELECT m.id, CASE WHEN c.status = 'cancelled' THEN %s WHEN 'opt_out' = ANY(s.sources) THEN %s
                  WHEN s.sources <> '{{}}' THEN %s ELSE e.ended END
FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id
JOIN campaigns_enrollment e ON e.id = m.enrollment_id
JOIN campaigns_contact p ON p.id = m.contact_id
CROSS JOIN LATERAL (
    SELECT ARRAY({suppressions.matching("p.email", "c.list_id", "s.source", lasting=True)}) AS sources
) s
WHERE m.id = ANY(%s) AND (c.status = 'cancelled' OR s.sources <> '{{}}' OR e.ended <> '')
"""  # noqa: S608 - see suppressions
_TRY_AGAIN = f"""
UPDATE campaigns_message m SET status = 'scheduled', reason = '', detail = '', due_at = %(now)s
WHERE m.id IN (
    SELECT h.id FROM campaigns_campaign c
    JOIN campaigns_message h ON h.campaign_id = c.id AND h.status = 'held' AND h.reason = ANY(%(reasons)s)
    JOIN campaigns_contact p ON p.id = h.contact_id
    JOIN campaigns_enrollment e ON e.id = h.enrollment_id AND e.ended = ''
    WHERE c.status <> 'cancelled' AND (%(campaign)s::bigint IS NULL OR c.id = %(campaign)s)
      AND (%(contacts)s::bigint[] IS NULL OR h.contact_id = ANY(%(contacts)s))
      AND NOT EXISTS ({suppressions.matching("p.email", "c.list_id")})
    ORDER BY h.id FOR UPDATE OF h
)
RETURNING m.id
"""  # noqa: S608 - see suppressions
_LACK_CONSENT = f"""
SELECT m.id
FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id
JOIN campaigns_enrollment e ON e.id = m.enrollment_id
JOIN campaigns_contact p ON p.id = m.contact_id
WHERE m.id = ANY(%s) AND NOT {MAY_LEAVE}
"""  # noqa: S608 - of constants
_NOT_CONSENTED = "UPDATE campaigns_enrollment SET consented = false WHERE id = ANY(%s) AND consented"
_HOLD_LACKING = """
UPDATE campaigns_message SET status = 'held', reason = %s WHERE id = ANY(%s) AND (status = 'scheduled') IS TRUE
"""
_HOLD_UNCONSENTED = f"""
UPDATE campaigns_message SET status = 'held', parked = false, reason = %s WHERE id IN (
    SELECT m.id FROM campaigns_message m JOIN campaigns_enrollment e ON e.id = m.enrollment_id
    WHERE m.contact_id = ANY(%s) AND m.status = 'scheduled' AND NOT {takes("m.account_id")}
    ORDER BY m.id FOR UPDATE OF m
)
"""  # noqa: S608 - of constants
# Few campaigns have any, and the first of each tells.
_LET_GO = f"""
WITH late AS MATERIALIZED (
    SELECT id FROM campaigns_campaign WHERE status IN ('running', 'paused', 'finished')
), chosen AS MATERIALIZED (
    SELECT found.id FROM late CROSS JOIN LATERAL (
        SELECT m.id FROM campaigns_message m JOIN campaigns_enrollment e ON e.id = m.enrollment_id
        WHERE m.campaign_id = late.id AND m.status = 'held' AND m.reason = %(reason)s AND e.ended = ''
          AND {takes("m.account_id")}
        LIMIT %(most)s FOR UPDATE OF m SKIP LOCKED
    ) found
    LIMIT %(most)s
)
UPDATE campaigns_message m SET status = 'scheduled', reason = '', detail = '', due_at = GREATEST(m.due_at, %(now)s)
FROM chosen WHERE m.id = chosen.id
RETURNING m.campaign_id
"""  # noqa: S608 - of constants
_OF_PAUSED_SOURCE = """EXISTS (
    SELECT FROM campaigns_subscription s
    JOIN campaigns_sourcepause p ON p.list_id = s.list_id AND p.intake_id IS NOT DISTINCT FROM s.intake_id
    WHERE s.list_id = c.list_id AND s.contact_id = m.contact_id AND p.ended_at IS NULL
)"""
_HOLD_SOURCES = f"""
UPDATE campaigns_message SET status = 'held', parked = false, reason = %(reason)s WHERE id IN (
    SELECT m.id FROM campaigns_campaign c
    JOIN campaigns_message m ON m.campaign_id = c.id AND m.status = 'scheduled'
        AND m.step_id = (SELECT id FROM campaigns_step WHERE campaign_id = c.id ORDER BY position LIMIT 1)
    WHERE c.status IN ('running', 'paused') AND (%(list)s::bigint IS NULL OR c.list_id = %(list)s)
      AND c.list_id IN (SELECT list_id FROM campaigns_sourcepause WHERE ended_at IS NULL) AND {_OF_PAUSED_SOURCE}
    ORDER BY m.id FOR UPDATE OF m
)
"""  # noqa: S608 - of constants
_LET_SOURCES_GO = f"""
UPDATE campaigns_message SET status = 'scheduled', reason = '', due_at = GREATEST(due_at, %(now)s) WHERE id IN (
    SELECT m.id FROM campaigns_campaign c
    JOIN campaigns_message m ON m.campaign_id = c.id AND m.status = 'held' AND m.reason = %(reason)s
    JOIN campaigns_enrollment e ON e.id = m.enrollment_id AND e.ended = ''
    WHERE c.status IN ('running', 'paused', 'finished') AND NOT {_OF_PAUSED_SOURCE}
    ORDER BY m.id FOR UPDATE OF m
)
RETURNING campaign_id
"""  # noqa: S608 - of constants
_HELD_OF_SOURCES = """
SELECT s.list_id, s.intake_id, count(*)
FROM campaigns_campaign c
JOIN campaigns_message m ON m.campaign_id = c.id AND m.status = 'held' AND m.reason = %s
JOIN campaigns_subscription s ON s.list_id = c.list_id AND s.contact_id = m.contact_id
WHERE c.list_id IN (SELECT list_id FROM campaigns_sourcepause WHERE ended_at IS NULL)
GROUP BY 1, 2
"""
_MOVE_HELD = f"""
WITH chosen AS MATERIALIZED (
    SELECT m.id FROM campaigns_message m JOIN campaigns_enrollment e ON e.id = m.enrollment_id
    WHERE m.campaign_id = ANY(%(campaigns)s) AND m.status = 'held' AND m.reason = %(reason)s AND e.ended = ''
      AND {takes("%(to)s::bigint")}
      AND (e.sender_id IS NULL OR EXISTS (
          SELECT FROM senders_sender s JOIN senders_home h ON h.domain_id = s.domain_id
          WHERE s.id = e.sender_id AND h.account_id = %(to)s
      ))
    ORDER BY m.id LIMIT %(most)s FOR UPDATE OF m SKIP LOCKED
)
UPDATE campaigns_message m
SET account_id = %(to)s, status = 'scheduled', reason = '', detail = '', due_at = GREATEST(m.due_at, %(now)s)
FROM chosen WHERE m.id = chosen.id
"""  # noqa: S608 - of constants
_CANCEL = """
UPDATE campaigns_message SET status = 'cancelled', reason = %s WHERE id IN (
    SELECT id FROM campaigns_message WHERE campaign_id = %s AND status IN ('scheduled', 'held') ORDER BY id FOR UPDATE
)
"""
_CANCEL_ENDED = """
WITH waiting AS (
    SELECT m.id, e.ended FROM campaigns_message m JOIN campaigns_enrollment e ON e.id = m.enrollment_id
    WHERE e.id = ANY(%(enrollments)s) AND e.ended <> '' AND m.status IN ('scheduled', 'held')
    ORDER BY m.id FOR UPDATE OF m
)
UPDATE campaigns_message m SET status = 'cancelled', reason = waiting.ended, detail = %(detail)s
FROM waiting WHERE m.id = waiting.id
"""
_WITHDRAW = """
UPDATE campaigns_message SET status = 'cancelled', reason = %s WHERE id IN (
    SELECT id FROM campaigns_message
    WHERE id = ANY(%s) AND (status = 'scheduled') IS TRUE AND attempts = 0 AND sendings = 0 ORDER BY id FOR UPDATE
)
RETURNING id
"""
_LOOK_AFTER_RETURN = """
UPDATE campaigns_enrollment SET look_at = %(until)s WHERE id IN (
    SELECT id FROM campaigns_enrollment
    WHERE id IN (SELECT enrollment_id FROM campaigns_message WHERE contact_id = %(contact)s) AND look_at < %(until)s
    ORDER BY id FOR UPDATE
)
"""
_WAIT_FOR_RETURN = """
UPDATE campaigns_message SET due_at = %(until)s, reason = %(reason)s WHERE id IN (
    SELECT m.id FROM campaigns_message m
    WHERE m.contact_id = %(contact)s AND m.status = 'scheduled' AND m.due_at < %(until)s
      AND m.campaign_id IN (SELECT id FROM campaigns_campaign WHERE traffic_class <> %(at_once)s)
    ORDER BY m.id FOR UPDATE
)
"""
_POSTPONE_STEPS = """
WITH waiting AS (
    SELECT m.id, n.due_at
    FROM campaigns_message m JOIN unnest(%s::bigint[], %s::timestamptz[]) AS n (id, due_at) ON n.id = m.id
    WHERE (m.status = 'scheduled') IS TRUE AND m.attempts = 0 AND m.sendings = 0
    ORDER BY m.id FOR UPDATE OF m
)
UPDATE campaigns_message m SET due_at = waiting.due_at, reason = %s FROM waiting WHERE m.id = waiting.id
"""
_BAR = f"""
UPDATE campaigns_message m
SET status = CASE WHEN b.sources = '{{}}' THEN m.status ELSE 'cancelled' END,
    reason = CASE WHEN 'opt_out' = ANY(b.sources) THEN %(opted_out)s WHEN b.sources <> '{{}}' THEN %(suppressed)s
                  WHEN b.pause > m.due_at THEN %(paused)s ELSE m.reason END,
    due_at = CASE WHEN b.sources = '{{}}' THEN GREATEST(m.due_at, b.pause) ELSE m.due_at END
FROM (
    SELECT o.id, s.sources, (SELECT q.until FROM campaigns_pause q WHERE q.value = lower(p.email)) AS pause
    FROM campaigns_message o
    JOIN campaigns_campaign c ON c.id = o.campaign_id
    JOIN campaigns_contact p ON p.id = o.contact_id
    CROSS JOIN LATERAL (
        SELECT ARRAY({suppressions.matching("p.email", "c.list_id", "s.source", lasting=True)}) AS sources
    ) s
    WHERE o.id = ANY(%(ids)s)
) b
WHERE m.id = b.id AND (m.status = 'scheduled') IS TRUE
"""  # noqa: S608 - see suppressions
_END_PAUSE = """
UPDATE campaigns_message SET due_at = %(now)s, reason = ''
WHERE contact_id = %(contact)s AND status = 'scheduled' AND reason = %(paused)s
"""
_CANCEL_FOR = """
UPDATE campaigns_message SET status = 'cancelled', reason = %(reason)s WHERE id IN (
    SELECT m.id FROM campaigns_message m
    WHERE m.contact_id = %(contact)s AND m.status IN ('scheduled', 'held') AND (
        %(list)s::bigint IS NULL OR EXISTS (
            SELECT FROM campaigns_campaign c WHERE c.id = m.campaign_id AND c.list_id = %(list)s
        )
    )
    ORDER BY m.id FOR UPDATE
)
"""
_MOVE = f"""
WITH chosen AS MATERIALIZED (
    SELECT m.id FROM campaigns_message m JOIN campaigns_enrollment e ON e.id = m.enrollment_id
    WHERE m.account_id = %(account)s AND m.status = 'scheduled' AND NOT m.parked
      AND m.campaign_id = ANY(%(campaigns)s) AND m.due_at <= %(now)s AND %(to)s <> ALL(m.refused_by)
      AND {takes("%(to)s::bigint")}
      AND (e.sender_id IS NULL OR EXISTS (
          SELECT FROM senders_sender s JOIN senders_home h ON h.domain_id = s.domain_id
          WHERE s.id = e.sender_id AND h.account_id = %(to)s
      ))
      AND (NOT %(only_strays)s OR NOT EXISTS (
          SELECT FROM senders_sender s JOIN senders_home h ON h.domain_id = s.domain_id
          WHERE s.id = e.sender_id AND h.account_id = %(account)s
      ) AND e.sender_id IS NOT NULL)
    ORDER BY {precedence.ORDER} LIMIT %(most)s FOR UPDATE OF m SKIP LOCKED
)
UPDATE campaigns_message m SET account_id = %(to)s FROM chosen WHERE m.id = chosen.id
"""  # noqa: S608 - of constants
_POSTPONE = """
UPDATE campaigns_message SET due_at = %s, reason = %s, refused_by = '{}' WHERE id IN (
    SELECT id FROM campaigns_message
    WHERE account_id = %s AND status = 'scheduled' AND NOT parked AND campaign_id = ANY(%s) AND due_at <= %s
    FOR UPDATE SKIP LOCKED
)
"""
# The column and the address's domain are read as `paced` and `caps` read them.
_SET_ASIDE = f"""
UPDATE campaigns_message m
SET due_at = %(until)s, reason = %(reason)s, priority = CASE WHEN %(ages)s THEN {precedence.AGED} ELSE m.priority END
WHERE id IN (
    SELECT m.id FROM campaigns_message m JOIN campaigns_contact p ON p.id = m.contact_id
    WHERE m.account_id = %(account)s AND m.status = 'scheduled' AND NOT m.parked AND m.campaign_id = %(campaign)s
      AND m.due_at <= %(now)s
      AND (%(zones)s::text[] IS NULL OR COALESCE(p.attributes->>'timezone', '') = ANY(%(zones)s))
      AND (%(step)s::bigint IS NULL OR m.step_id = %(step)s)
      AND (%(domains)s::text[] IS NULL OR lower(substring(p.email FROM '[^@]*$')) = ANY(%(domains)s))
    FOR UPDATE OF m SKIP LOCKED
)
"""  # noqa: S608 - of constants
# The locks keep the campaigns' states until what follows from them is committed. The order is that of the index, and no
# wish: else the planner hopes to come upon such mails by reading the whole table.
_FOLLOW_PAUSES = """
WITH late AS MATERIALIZED (
    SELECT c.id, c.status = 'paused' AS paused
    FROM campaigns_campaign c
    CROSS JOIN LATERAL (
        SELECT true FROM campaigns_message m
        WHERE m.campaign_id = c.id AND m.status = 'scheduled' AND m.parked = (c.status <> 'paused')
        ORDER BY m.account_id LIMIT 1
    ) one
    WHERE c.status IN ('running', 'paused')
    FOR SHARE OF c SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT found.id FROM late CROSS JOIN LATERAL (
        SELECT m.id FROM campaigns_message m
        WHERE m.campaign_id = late.id AND m.status = 'scheduled' AND m.parked = NOT late.paused
        ORDER BY m.account_id LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ) found
    LIMIT %(most)s
)
UPDATE campaigns_message m
SET parked = NOT m.parked, due_at = CASE WHEN m.parked THEN GREATEST(m.due_at, %(now)s) ELSE m.due_at END
FROM chosen WHERE m.id = chosen.id
"""
_LOOK_AGAIN = """
UPDATE campaigns_message SET due_at = %s, reason = ''
WHERE campaign_id = %s AND status = 'scheduled' AND reason = ANY(%s)
"""
_RESCUE_DOUBT = """
UPDATE campaigns_message SET status = 'unknown', reason = %s, detail = '', attempts = attempts + 1, lease_until = NULL
WHERE id IN (
    SELECT id FROM campaigns_message WHERE status = 'claimed' AND lease_until < %s
      AND (attempted_at IS NOT NULL OR epoch IS DISTINCT FROM (SELECT value FROM server_epoch))
    FOR UPDATE SKIP LOCKED
)
"""
_ABANDONED = """
SELECT id FROM campaigns_message
WHERE status = 'claimed' AND lease_until < %s AND attempted_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED
"""
