"""Mails that may have been sent: asks their provider again where that is safe; elsewhere a person or an event decides.

ask ─► _read          the mails of one request, as they were tried
    ─► _envelopes     the same bytes to the same account as before, or the provider is not asked about that mail
    ─► _may_ask       the mark: the provider still knows the key, and the mails may still go, for they may go now
    ─► Lines.send     no transaction open
    ─► _settle        a yes ends the doubt, and so does a no to the mail itself

Only a provider that promises to send the same key once is ever asked. Should it send the mail now, in another hour, the
ledgers must hold that as well: it is then counted anew, and what it was counted for before stays, because nobody knows
which of the two is true.

Mails that went in one request are asked about in one request, under its key. Some of them may have to stay behind: the
provider then either says that it took the first request, and so all of it, or takes what it is given now. What has
stayed behind once is never asked about again, or its absence from that would be taken for its presence in the first.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Min, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.formats import localize
from django.utils.translation import gettext as _

from campaigns import caps, control, dispatch, lifecycle, outcomes, paced, precedence, rendering, suppressions
from campaigns.delivery import Clock, Lines, Outcome, report, suppress_address, together_key, wait_for_turn
from campaigns.due import Due
from campaigns.envelopes import Envelopes
from campaigns.lifecycle import KEY_HOLDS, Claimed
from campaigns.models import Campaign, DoubtEntry, Message
from campaigns.outcomes import Verb
from providers.accounts import adapters, health
from providers.accounts import ledger as accounts
from providers.accounts.envelope import Envelope
from providers.accounts.errors import DeliveryError, MessageRefused
from providers.accounts.models import Account, Allotment
from providers.senders import ledger as senders
from tenants import context, restored, visits
from tenants.models import Agency

AT_ONCE = 100
SOONEST, LATEST = timedelta(minutes=5), timedelta(hours=3)
LOOK_AGAIN = timedelta(minutes=3)

Status = Message.Status
IDEMPOTENT = [name for name, kind in adapters.KINDS.items() if kind.idempotent]


@dataclass(frozen=True, slots=True)
class Next:
    """What will end a doubt, in words; `asked_at` is when the provider is asked, None where it is not."""

    text: str
    asked_at: datetime | None = None

    @property
    def words(self) -> str:
        """The text, and the time where there is one."""
        if self.asked_at is None:
            return self.text
        return f"{self.text} {localize(timezone.localtime(self.asked_at, context.current_agency().zone))}"


@dataclass(frozen=True, slots=True)
class _Doubted:
    """A mail in doubt as it was tried, and where it is counted."""

    message: Claimed
    campaign: Campaign
    attempted_at: datetime
    claimed_at: datetime
    counted_on: date
    fingerprint: str


def find(*, now: datetime) -> Due:
    """The accounts of the agency entered now that can be asked about mails in doubt, and when there are some again."""
    first = dict(_askable(now).values_list("account_id").annotate(first=Min(Coalesce("ask_at", now))))
    due = sorted(account_id for account_id, ask_at in first.items() if ask_at <= now)
    # What was not asked about, because it may not go just now, is looked at again a little later.
    return Due(due, min((max(ask_at, now + LOOK_AGAIN) for ask_at in first.values()), default=None))


def ask(account_id: int, *, clock: Clock, until: datetime) -> int:
    """Ask this account about the mails in doubt of the agency entered now; return how many doubts that ended.

    Harmless when it runs twice, also at the same time: every mail is asked about by one of them, with the same key.
    """
    agency = context.current_agency()
    allotment = accounts.allotment(agency, account_id)
    if allotment is None or allotment.account.kind not in IDEMPOTENT or restored.frozen():
        return 0
    waiting = _askable(now := clock()).filter(Q(ask_at=None) | Q(ask_at__lte=now), account=account_id)
    waiting = waiting.order_by(F("ask_at").asc(nulls_first=True), "pk")
    rows = waiting.values_list("pk", "claim", "together")[:AT_ONCE]
    # By request: a mail that went alone, or the claim whose mails went together.
    requests = dict.fromkeys((0, claim) if together > 1 else (pk, claim) for pk, claim, together in rows)
    ended = 0
    with Lines(allotment.account) as lines:
        for message_id, claim in requests:
            if not wait_for_turn(allotment.account, clock, until):
                break
            ended += _ask(agency, allotment, lines, _read(account_id, message_id, claim), clock)
    return ended


def count_as_sent(messages: QuerySet[Message], *, by: str, now: datetime) -> int:
    """A person ends these doubts: the mails were sent. Return how many there were."""
    return len(lifecycle.count_as_sent(_ids(messages), by=by, now=now))


def send_again(messages: QuerySet[Message], *, by: str, now: datetime) -> int:
    """A person has these mails in doubt sent once more; return how many will be.

    Not those to contacts who must not be mailed, or of cancelled campaigns. A finished campaign goes on for them.
    """
    with transaction.atomic():
        again = lifecycle.send_again(_ids(messages), by=by, now=now)
        control.reopen(Message.objects.filter(pk__in=again).values_list("campaign_id", flat=True).distinct())
        visits.ask(now)
    return len(again)


def what_next(messages: Sequence[Message], *, now: datetime) -> list[Next]:
    """What will end the doubt about each of these mails; their campaign and account must be loaded."""
    suppressed = _suppressed([message.pk for message in messages])
    return [_next(message, message.pk in suppressed, now) for message in messages]


def later(attempted_at: datetime, *, now: datetime) -> datetime:
    """Pure: when to ask again if this time brings nothing: the older the doubt, the less often."""
    return now + min(max((now - attempted_at) / 2, SOONEST), LATEST)


def _askable(now: datetime) -> QuerySet[Message]:
    return Message.objects.filter(
        status=Status.UNKNOWN,
        attempted_at__gt=now - KEY_HOLDS,
        campaign__status__in=[Campaign.Status.RUNNING, Campaign.Status.FINISHED],
    ).exclude(fingerprint="")


def _ids(messages: QuerySet[Message]) -> list[int]:
    return list(messages.filter(status=Status.UNKNOWN).values_list("pk", flat=True))


def _next(message: Message, suppressed: bool, now: datetime) -> Next:
    if message.account.kind not in IDEMPOTENT:
        return Next(_("%(kind)s cannot be asked: a person must decide.") % {"kind": message.account.get_kind_display()})
    if message.campaign.status == Campaign.Status.CANCELLED:
        return Next(_("To ask might send it, and the campaign is cancelled: a person must decide."))
    if suppressed:
        return Next(_("To ask might send it, and the contact must not be mailed: a person must decide."))
    if not message.fingerprint or message.attempted_at is None:
        return Next(_("The same mail cannot be made any more to ask with it: a person must decide."))
    asked_at = max(message.ask_at or now, now)
    if asked_at >= message.attempted_at + KEY_HOLDS:
        return Next(_("The provider does not remember it for longer than a day: a person must decide."))
    if message.campaign.status == Campaign.Status.PAUSED:
        return Next(_("The provider is asked again once the campaign goes on."))
    return Next(_("The provider is asked again."), asked_at)


def _ask(agency: Agency, allotment: Allotment, lines: Lines, doubted: Sequence[_Doubted], clock: Clock) -> int:
    """Ask about what went in one request; return how many doubts that ended."""
    envelopes = _envelopes(doubted, agency, allotment.account)
    changed = [one.message.id for one in doubted if one.message.id not in envelopes]
    lifecycle.never_ask(changed, "The text, the contact, the sender or the account is not what it was.")
    same = [one for one in doubted if one.message.id in envelopes]
    suppressed = _suppressed([one.message.id for one in same])
    going = [
        one for one in same if one.message.id not in suppressed and one.campaign.status != Campaign.Status.CANCELLED
    ]
    if not going or not _may_ask(going, [one for one in same if one not in going], agency, allotment, clock()):
        return 0
    first = going[0].message
    key = together_key(agency, first.claim, allotment.account_id) if first.together > 1 else None
    answers = lines.send([envelopes[one.message.id] for one in going], key).result()
    answered = [(one.message, answer.outcome) for one, answer in zip(going, answers, strict=True)]
    return _settle(allotment.account_id, answered, clock())


def _envelopes(doubted: Sequence[_Doubted], agency: Agency, account: Account) -> dict[int, Envelope]:
    """The mails as they were tried, but for those that cannot be made any more."""
    envelopes = Envelopes(agency)
    envelopes.prepare([one.message for one in doubted])
    found = {}
    for one in doubted:
        with suppress(rendering.NotRenderedError, MessageRefused):
            envelope = envelopes.of(one.message)
            if adapters.fingerprint(account, envelope) == one.fingerprint:
                found[one.message.id] = envelope
    return found


def _may_ask(
    going: Sequence[_Doubted], staying: Sequence[_Doubted], agency: Agency, allotment: Allotment, now: datetime
) -> bool:
    """Mark all that go, once each is counted where it would be sent now; else nothing is changed."""
    if any(_closed(one, agency, now) for one in going):
        return False
    ids = [one.message.id for one in going]
    oldest = min(one.attempted_at for one in going)
    elsewhere = [one for one in going if not _counted_now(one, agency, now)]
    with transaction.atomic():
        counted = not elsewhere or _book_anew(elsewhere, agency, allotment, now)
        if counted and lifecycle.ask_again(ids, now=now, later=later(oldest, now=now)) == set(ids):
            stay = [one.message.id for one in staying]
            lifecycle.never_ask(stay, "The others of its request were asked about without it.")
            return True
        transaction.set_rollback(True)
    return False


def _closed(one: _Doubted, agency: Agency, now: datetime) -> bool:
    zone = str(one.message.contact.get(paced.ZONE, ""))
    paused = one.campaign.status == Campaign.Status.PAUSED
    return paused or paced.why_closed(one.campaign.schedule(agency.zone, of=zone), now) is not None


def _counted_now(one: _Doubted, agency: Agency, now: datetime) -> bool:
    """Whether every ledger has counted it where a mail that leaves now is counted."""
    same_hour = senders.hour_of(one.claimed_at) == senders.hour_of(now)
    return same_hour and one.counted_on == senders.local_day(now, agency.zone)


def _book_anew(doubted: Sequence[_Doubted], agency: Agency, allotment: Allotment, now: datetime) -> bool:
    """Reserve what a claim would, in the order of its locks; False where there is no room for all of them now."""
    day = senders.local_day(now, agency.zone)
    campaigns = {one.campaign.pk: one.campaign for one in doubted}
    messages = [one.message for one in doubted]
    pace = paced.Paced(now, day, agency.zone, campaigns, caps=caps.of(campaigns.values()))
    among = sorted({message.sender_id for message in messages})
    found = senders.take_seats(allotment.account_id, day=day, now=now, limit=len(among), among=among)
    locked = Message.objects.select_for_update(skip_locked=True).filter(
        pk__in=[message.id for message in messages], status=Status.UNKNOWN
    )
    if len(locked) < len(messages):
        return False
    admitted = pace.admit([(message, message.sender_id) for message in messages])
    placed = dispatch.place(admitted, found, now=now, kept=paced.gaps_kept(found.domains))
    if len(placed) < len(messages):
        return False
    if accounts.reserve(allotment.account, allotment, len(placed), now=now) < len(placed):
        return False
    senders.spend([seat for _message, seat in placed], day=day, now=now)
    pace.spend(messages)
    lifecycle.book_anew(messages, now=now, day=day)
    return True


def _settle(account_id: int, answered: Sequence[tuple[Claimed, Outcome]], now: datetime) -> int:
    """Return how many doubts the answers ended."""
    taken = [(message.id, outcome or "") for message, outcome in answered if not isinstance(outcome, DeliveryError)]
    if taken and health.troubled(health.of(account_id)):
        health.worked(account_id, now=now)
    ids, provider_ids = [one for one, _ in taken], [provider_id for _, provider_id in taken]
    ended = len(lifecycle.proved_sent(ids, provider_ids, now=now, how=DoubtEntry.What.ANSWERED))
    errors = [(message, outcome) for message, outcome in answered if isinstance(outcome, DeliveryError)]
    # The same error for all is about the request, and says nothing of any one mail.
    whole = len(errors) > 1 and all(error is errors[0][1] for _, error in errors)
    for message, error in errors[: 1 if whole else None]:
        decision = outcomes.decide_doubt(error)
        report(account_id, decision.trouble, error, now=now)
        if decision.verb is Verb.FAIL and not whole:
            if decision.suppress:
                suppress_address(message.contact["email"], error.detail)
            ended += lifecycle.refused_after_all(message.id, decision.reason, error.detail, now=now)
    return ended


def _read(account_id: int, message_id: int, claim: UUID | None) -> list[_Doubted]:
    """This mail, or, of 0, those of the claim that went together; in the order in which they went."""
    with connection.cursor() as cursor:
        cursor.execute(_DOUBTED, {"account": account_id, "id": message_id, "claim": claim})
        rows = cursor.fetchall()
    campaigns = Campaign.objects.in_bulk({row[2] for row in rows})
    return [_doubted(row, account_id, campaigns[row[2]]) for row in rows]


def _doubted(row: tuple[Any, ...], account_id: int, campaign: Campaign) -> _Doubted:
    message = Claimed(
        id=row[0],
        key=row[1],
        campaign_id=campaign.pk,
        step_id=row[3],
        enrollment_id=row[4],
        traffic_class=campaign.traffic_class,
        # Django leaves JSON of a raw query as text.
        contact=rendering.fields(row[14], row[15], row[16], row[17], json.loads(row[18])),
        account_id=account_id,
        refused_by=[],
        attempts=row[5],
        sendings=row[6],
        sender_id=row[7],
        sender_address=row[19],
        sender_name=row[20],
        gap=campaign.gap.of(row[1]),
        claim=row[8],
        together=row[9],
        variant=row[21],
        # Perhaps: what went before is looked for.
        in_thread=True,
    )
    return _Doubted(message, campaign, row[10], row[11], row[12], row[13])


def _suppressed(ids: Sequence[int]) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(_SUPPRESSED, [list(ids)])
        return {row[0] for row in cursor.fetchall()}


_DOUBTED = f"""
SELECT m.id, m.key, m.campaign_id, m.step_id, m.enrollment_id, m.attempts, m.sendings, m.sender_id, m.claim, m.together,
       m.attempted_at, m.claimed_at, m.counted_on, m.fingerprint,
       p.email, p.first_name, p.last_name, p.company, p.attributes, s.address, s.name, m.variant
FROM campaigns_message m
JOIN campaigns_contact p ON p.id = m.contact_id
JOIN senders_sender s ON s.id = m.sender_id
WHERE m.account_id = %(account)s AND m.status = 'unknown' AND m.fingerprint <> ''
  AND (m.id = %(id)s OR %(id)s = 0 AND m.claim = %(claim)s AND m.together > 1)
ORDER BY {precedence.ORDER}
"""  # noqa: S608 - of constants
_SUPPRESSED = f"""
SELECT m.id FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id
JOIN campaigns_contact p ON p.id = m.contact_id
WHERE m.id = ANY(%s) AND EXISTS ({suppressions.matching("p.email", "c.list_id")})
"""  # noqa: S608 - see suppressions
