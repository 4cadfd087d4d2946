"""A step's mail to the agency's own people, as a contact would get it, by the way that every mail takes; by the same
way the mail that asks somebody to confirm that they have signed up, and what a person answers to a reply.

ask  ─► a row that waits for each address, once all is known to be well
send ─► _claim        an account and a sender, their quota reserved, in one transaction
     ─► _begin        the mark before the wire: not to an address that is suppressed by now
     ─► Lines.send    no transaction open
     ─► _settle       one ending for each answer

A trial is no message: it is in no campaign's numbers, its links, pixel and way out name no mail, and it goes to
people alone who have signed in to this agency, so it is no way around consent. It takes quota in every ledger, and
the audit replays it. A confirmation needs no consent, for it asks for it. Like a message it is marked before it
leaves, and is never sent again by the machine once that may have been. An answer leaves from the sender who was
answered and no other, and only where consent allows. The only writer of TrialMail beside `answers`.

Whoever asked for a trial is told that it came back or was reported as spam; nobody is suppressed for it, for the
agency's people are no audience. A confirmation or an answer that does so suppresses the address, like any mail.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from campaigns import answers, confirmation, feed, outcomes, paced, permission, preview, rendering, suppressions
from campaigns.delivery import Clock, Lines, Outcome, report, suppress_address, wait_for_turn
from campaigns.envelopes import message_id
from campaigns.models import Campaign, Contact, SignUp, Step, TrialMail
from campaigns.outcomes import Verb
from providers.accounts import health, rate, routing
from providers.accounts import ledger as accounts
from providers.accounts.envelope import Envelope
from providers.accounts.errors import DeliveryError, MessageRefused
from providers.accounts.events import BounceClass, EventType
from providers.accounts.models import Account, Allotment, TrafficClass
from providers.accounts.routing import Route
from providers.senders import ledger as senders
from providers.senders import recovering, routes
from providers.senders.ledger import Seat
from providers.senders.models import Event, Sender
from tenants import context, restored, visits
from tenants.models import Agency
from tenants.users.models import User

MARK = "[Test]"
MOST_AT_ONCE, MOST_A_DAY = 5, 100
# Who asked for it looks at it now: later it is of no use.
WAITS = timedelta(hours=1)
# So long whoever asked for one is told on the campaign's page that it came back.
TOLD = timedelta(days=7)
_OF_A_THREAD = ("In-Reply-To", "References")
Kind, Status = TrialMail.Kind, TrialMail.Status


class TrialRefusedError(ValueError):
    """Nothing is sent; `problems` says why, one line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A trial with the sender and the account that it leaves by."""

    trial: TrialMail
    account: Account
    seat: Seat


def people() -> QuerySet[User]:
    """Who may get trials: those who can and did sign in here, so that an address alone is not enough."""
    return User.objects.filter(is_active=True, last_login__isnull=False).order_by("email")


def ask(
    step: Step, contact: Contact, to: Iterable[str], *, by: str, now: datetime, variant: str = ""
) -> list[TrialMail]:
    """Let this step's mail to the contact be sent to these addresses, or to that of whoever asks.

    Without a `variant` it is the one that the contact gets. Raises TrialRefusedError with nothing changed.
    """
    wanted = list(dict.fromkeys(address.strip().lower() for address in to if address.strip())) or [by.lower()]
    if problems := [*_why_not(step, wanted, now), *_why_no_mail(step, contact, variant)]:
        raise TrialRefusedError(*problems)
    with transaction.atomic():
        made = TrialMail.objects.bulk_create(
            [
                TrialMail(step=step, contact=contact, variant=variant, recipient=address, by=by, asked_at=now)
                for address in wanted
            ]
        )
        visits.ask(now)
    return made


def ask_to_confirm(sign_up: SignUp, *, now: datetime) -> None:
    """Let the mail be sent that asks whether this sign-up is theirs; call in a transaction."""
    TrialMail.objects.create(kind=Kind.CONFIRMATION, sign_up=sign_up, recipient=sign_up.email, by="", asked_at=now)
    visits.ask(now)


def of(step: Step, limit: int) -> list[TrialMail]:
    """The latest trials of a step, the newest first."""
    return list(TrialMail.objects.filter(step=step).select_related("account", "sender").order_by("-pk")[:limit])


def pending() -> bool:
    """Whether any trial of the agency entered now waits, or is in a worker's hands."""
    return TrialMail.objects.filter(status__in=[Status.WAITING, Status.CLAIMED]).exists()


def send(*, clock: Clock, until: datetime) -> int:
    """Send the trials of the agency entered now that can go; return how many the providers took.

    Harmless when it runs twice, also at the same time: each is claimed by one of them.
    """
    if restored.frozen():
        return 0
    agency = context.current_agency()
    _rescue(agency, clock())
    waiting = TrialMail.objects.filter(status=Status.WAITING).select_related(
        "step__campaign", "contact", "sign_up__list", "reply__message__campaign", "reply__message__sender"
    )
    return sum(_send(trial, agency, clock, until) for trial in waiting.order_by("pk"))


def heard(event_ids: Sequence[int]) -> list[int]:
    """Take in what was heard of mails that are no messages; return those of these events that are of no trial either.

    Call in the transaction that stores them. Harmless when repeated.
    """
    if not event_ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_CAME_BACK, [list(event_ids)])
        for kind, recipient, told, bounce_class, detail in cursor.fetchall():
            hard = told == EventType.COMPLAINED or bounce_class == BounceClass.HARD
            if kind != Kind.TRIAL and recipient and hard:
                suppress_address(recipient, detail, complaint=told == EventType.COMPLAINED)
        cursor.execute(_FORGET_AGAIN, [list(event_ids)])
        cursor.execute(_STRANGE, [list(event_ids)] * 2)
        return [row[0] for row in cursor.fetchall()]


def forget(found: QuerySet[TrialMail], **more: Any) -> int:
    """These mails stay, for they are counted, without whom they went to and what was heard of them; return how many."""
    Event.objects.filter(message__in=found.values("key")).update(recipient="", detail="", provider_id="")
    return found.update(recipient="", came_back_with="", **more)


def came_back(by: str, campaign: Campaign, *, now: datetime) -> QuerySet[TrialMail]:
    """What of this person's own trials of the campaign came back in the last days, the latest first."""
    found = TrialMail.objects.filter(kind=Kind.TRIAL, step__campaign=campaign, by__iexact=by)
    return found.exclude(came_back="").filter(came_back_at__gt=now - TOLD).select_related("step").order_by("-pk")


def _why_not(step: Step, wanted: Sequence[str], now: datetime) -> list[str]:
    if len(wanted) > MOST_AT_ONCE:
        return [_("A test goes to %(most)d addresses at most.") % {"most": MOST_AT_ONCE}]
    problems = []
    known = {email.lower() for email in people().values_list("email", flat=True)}
    if strangers := [address for address in wanted if address not in known]:
        problems.append(
            _("A test goes to people alone who have signed in to this agency: %(addresses)s has not.")
            % {"addresses": ", ".join(strangers)}
        )
    if barred := [address for address in wanted if address in known and _is_suppressed(address, step)]:
        problems.append(_("This address must not be mailed: %(addresses)s.") % {"addresses": ", ".join(barred)})
    lately = TrialMail.objects.filter(kind=Kind.TRIAL, asked_at__gt=now - timedelta(days=1)).count()
    if lately + len(wanted) > MOST_A_DAY:
        problems.append(_("An agency sends %(most)d tests in 24 hours at most.") % {"most": MOST_A_DAY})
    if not routes.plannable(context.current_agency(), now=now):
        problems.append(_("No account has a sender of the agency that is switched on."))
    return problems


def _why_no_mail(step: Step, contact: Contact, variant: str) -> list[str]:
    try:
        preview.of(step, contact, variant)
    except (rendering.NotRenderedError, MessageRefused) as error:
        return [_("The mail to %(email)s would be held: %(why)s") % {"email": contact.email, "why": error}]
    return []


def _is_suppressed(address: str, step: Step) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_SUPPRESSED, {"address": address, "list": step.campaign.list_id})
        return bool(cursor.fetchone()[0])


def _rescue(agency: Agency, now: datetime) -> None:
    """What a dead worker held is in doubt once it was marked; what has waited too long waits no more."""
    gone = TrialMail.objects.filter(status=Status.CLAIMED, claimed_at__lt=now - settings.LEASE)
    gone.filter(attempted_at__isnull=False).update(
        status=Status.UNKNOWN, detail=noop("The worker was stopped while it was sent.")
    )
    for trial in gone.filter(attempted_at=None):
        _give_back(trial, agency, Status.WAITING, "")
    # A confirmation waits for as long as there is something to confirm, and an answer for as long as it takes.
    for trial in TrialMail.objects.filter(kind=Kind.TRIAL, status=Status.WAITING, asked_at__lt=now - WAITS):
        _change(trial, Status.WAITING, Status.FAILED, trial.detail or noop("No worker had time for it within an hour."))


def _send(trial: TrialMail, agency: Agency, clock: Clock, until: datetime) -> bool:
    """Try the accounts one after another until one has taken it, or may have."""
    refused: set[int] = set()
    while True:
        claimed = _claim(trial, agency, refused, clock, until)
        if claimed is None:
            return False
        answer = _hand_over(claimed, agency, clock)
        if answer is None or _settle(claimed, agency, answer, clock()):
            return trial.status == Status.SENT
        refused.add(claimed.account.pk)


def _claim(
    trial: TrialMail, agency: Agency, refused: Collection[int], clock: Clock, until: datetime
) -> _Claimed | None:
    preferred, traffic_class = None, TrafficClass.HIGH_PRIORITY.value
    if trial.kind == Kind.CONFIRMATION and trial.sign_up is None:
        _change(trial, Status.WAITING, Status.FAILED, noop("The sign-up is not there any more."))
        return None
    if trial.kind == Kind.TRIAL:
        if trial.step is None or trial.contact is None:
            _change(trial, Status.WAITING, Status.FAILED, noop("Its step or its contact is not there any more."))
            return None
        preferred = preview.sender_of(trial.step, trial.contact)
        traffic_class = trial.step.campaign.traffic_class
    if trial.kind == Kind.ANSWER:
        if trial.reply is None:
            _change(trial, Status.WAITING, Status.FAILED, noop("The reply is not there any more."))
            return None
        preferred = trial.reply.message.sender
        usable = answers.routes_of(trial.reply, now=clock())
    else:
        usable = routes.plannable(agency, now=clock())
    found = routing.in_order(usable, traffic_class)
    for route in found:
        if route.account_id in refused or not route.open or route.free <= 0:
            continue
        if claimed := _claim_at(trial, agency, route, preferred, clock, until):
            return claimed
    if refused and {route.account_id for route in found if route.open} <= set(refused):
        _change(trial, Status.WAITING, Status.FAILED, trial.detail)
    elif not refused:
        words = noop("No account is open with quota left, or its senders rest between two mails.")
        if trial.kind == Kind.ANSWER and preferred and recovering.current(preferred.pk):
            words = noop("Its sender, or the sender's domain, is paused or sends a few mails a day until it recovers.")
        _change(trial, Status.WAITING, Status.WAITING, words)
    return None


def _claim_at(
    trial: TrialMail, agency: Agency, route: Route, preferred: Sender | None, clock: Clock, until: datetime
) -> _Claimed | None:
    allotment = accounts.allotment(agency, route.account_id)
    if allotment is None or not wait_for_turn(allotment.account, clock, until):
        return None
    own = [preferred.pk] if preferred else []
    for among in (own,) if trial.kind == Kind.ANSWER else (own, None):
        if seat := _reserved(trial, agency, allotment, among, clock()):
            return _Claimed(trial, allotment.account, seat)
    rate.give_back(allotment.account, 1)
    return None


def _reserved(
    trial: TrialMail, agency: Agency, allotment: Allotment, among: Sequence[int] | None, now: datetime
) -> Seat | None:
    """The seat that the trial has now, counted in every ledger in the order of a claim's locks."""
    day = senders.local_day(now, agency.zone)
    hours = paced.running(agency, now=now).hours
    with transaction.atomic():
        found = senders.take_seats(allotment.account_id, day=day, now=now, limit=1, among=among, hours=hours)
        seat = next((one for one in found.seats if found.domains[one.domain_id] > 0), None)
        locked = TrialMail.objects.select_for_update(skip_locked=True).filter(pk=trial.pk, status=Status.WAITING)
        if seat is None or not locked or not accounts.reserve(allotment.account, allotment, 1, now=now):
            return None
        senders.spend([seat], day=day, now=now)
        where = {"account_id": allotment.account_id, "sender_id": seat.sender_id, "claimed_at": now, "counted_on": day}
        _change(trial, Status.WAITING, Status.CLAIMED, "", **where)
    return seat


def _hand_over(claimed: _Claimed, agency: Agency, clock: Clock) -> Outcome:
    """What the provider has answered; None where the trial has ended before the wire."""
    trial = claimed.trial
    try:
        envelope = _envelope(claimed, agency)
    except (rendering.NotRenderedError, MessageRefused) as error:
        _give_back(trial, agency, Status.FAILED, str(error))
        return None
    if not _begin(trial, clock()):
        _give_back(trial, agency, Status.FAILED, noop("The address must not be mailed any more."))
        return None
    with Lines(claimed.account) as lines:
        outcome = lines.send([envelope], None).result()[0].outcome
    return "" if outcome is None else outcome


def _envelope(claimed: _Claimed, agency: Agency) -> Envelope:
    """The mail as the contact would get it, but for whom it goes to and what it is called."""
    trial, sender = claimed.trial, Sender.objects.get(pk=claimed.seat.sender_id)
    key = f"{agency.schema_name}/{trial.key}/{claimed.account.pk}"
    if trial.sign_up is not None:
        made = confirmation.envelope(trial.sign_up, agency, sender, key, message_id(trial.key, sender.address))
        return replace(made, metadata={"agency": agency.schema_name, "trial": str(trial.key)})
    if trial.reply is not None:
        made = answers.envelope(trial, agency, sender, key, message_id(trial.key, sender.address))
        return replace(made, metadata={"agency": agency.schema_name, "trial": str(trial.key)})
    assert trial.step is not None
    assert trial.contact is not None
    made = preview.of(trial.step, trial.contact, trial.variant, sender)
    return replace(
        made,
        key=key,
        recipient=trial.recipient,
        recipient_name="",
        subject=f"{MARK} {made.subject}",
        message_id=message_id(trial.key, made.sender),
        headers={name: value for name, value in made.headers.items() if name not in _OF_A_THREAD},
        metadata={"agency": agency.schema_name, "trial": str(trial.key)},
    )


def _begin(trial: TrialMail, now: datetime) -> bool:
    """Mark the attempt before the wire is touched; one statement also sees that the address may be mailed."""
    with connection.cursor() as cursor:
        cursor.execute(_BEGINS[Kind(trial.kind)], {"id": trial.pk, "now": now, "claimed_at": trial.claimed_at})
        return bool(cursor.rowcount)


def _settle(claimed: _Claimed, agency: Agency, answer: Outcome, now: datetime) -> bool:
    """What the answer means for it; whether that is the last word."""
    trial, account_id = claimed.trial, claimed.account.pk
    if not isinstance(answer, DeliveryError):
        # Also one that a rescuer has put in doubt meanwhile.
        for state in (Status.CLAIMED, Status.UNKNOWN):
            _change(trial, state, Status.SENT, "", sent_at=now, provider_id=answer or "")
        if health.troubled(health.of(account_id)):
            health.worked(account_id, now=now)
        return True
    # Asked once: whoever waits for it would rather have another than one that took minutes.
    decision = outcomes.decide(answer, confirmations=0, snoozes=0, idempotent=False)
    report(account_id, decision.trouble, answer, now=now)
    match decision.verb:
        case Verb.FAIL_OVER:
            _give_back(trial, agency, Status.WAITING, answer.detail)
            return False
        case Verb.FAIL | Verb.SNOOZE:
            _give_back(trial, agency, Status.FAILED, answer.detail)
            if decision.suppress:
                suppress_address(trial.recipient, answer.detail)
        case _:
            _change(trial, Status.CLAIMED, Status.UNKNOWN, answer.detail)
    return True


def _give_back(trial: TrialMail, agency: Agency, status: TrialMail.Status, detail: str) -> None:
    """Surely not sent: its quota goes back, in the locks' one order."""
    with transaction.atomic():
        found = TrialMail.objects.select_for_update(of=("self",)).select_related("sender")
        row = found.filter(pk=trial.pk, status=Status.CLAIMED, claimed_at=trial.claimed_at).first()
        if row is None or row.sender is None or row.counted_on is None or row.claimed_at is None:
            return
        day, hour = row.counted_on, senders.hour_of(row.claimed_at)
        senders.give_back_domains({(row.sender.domain_id, day): 1})
        assert row.account_id is not None
        accounts.give_back(row.account_id, agency.pk, 1, day=accounts.utc_day(row.claimed_at))
        senders.give_back_senders({(row.sender.pk, day, hour): 1})
        # A new key: a provider must not answer the next attempt with what it said to this one.
        nowhere = dict.fromkeys(("account_id", "sender_id", "claimed_at", "counted_on", "attempted_at"))
        _change(trial, Status.CLAIMED, status, detail, **nowhere, key=uuid4())


def _change(trial: TrialMail, state: TrialMail.Status, status: TrialMail.Status, detail: str, **fields: Any) -> None:
    """Only from the state that is expected, and of the claim that is known."""
    fields |= {"status": status, "detail": detail[:300]}
    if TrialMail.objects.filter(pk=trial.pk, status=state, claimed_at=trial.claimed_at).update(**fields):
        for name, value in fields.items():
            setattr(trial, name, value)
        if trial.kind == Kind.ANSWER:
            feed.ring()


# An account speaks of its own mails alone.
_OF_TRIAL = """
senders_event e JOIN campaigns_trialmail t
  ON t.key = e.message AND t.status IN ('claimed', 'sent', 'unknown')
  AND (e.account_id IS NULL OR e.account_id = t.account_id)
"""
# What our own set-up was refused for says nothing of the address, and is told all the same.
_CAME_BACK = f"""
WITH back AS (
    SELECT t.id, h.type, h.at, h.detail, h.bounce_class
    FROM campaigns_trialmail t JOIN (
        SELECT DISTINCT ON (t.id) t.id, e.type, e.at, e.detail, e.bounce_class FROM {_OF_TRIAL}
        WHERE e.id = ANY(%s) AND e.type IN ('bounced', 'complained')
        ORDER BY t.id, e.type = 'complained' DESC, e.bounce_class = 'hard' DESC, e.id
    ) h ON h.id = t.id
    WHERE t.came_back = '' OR (t.came_back = 'bounced' AND h.type = 'complained')
    ORDER BY t.id FOR UPDATE OF t
)
UPDATE campaigns_trialmail t SET came_back = back.type, came_back_at = back.at,
    came_back_with = CASE WHEN t.recipient = '' THEN '' ELSE back.detail END
FROM back WHERE t.id = back.id
RETURNING t.kind, t.recipient, back.type, back.bounce_class, back.detail
"""  # noqa: S608 - of constants
_FORGET_AGAIN = f"""
UPDATE senders_event SET recipient = '', detail = '', provider_id = ''
WHERE id IN (SELECT e.id FROM {_OF_TRIAL} WHERE e.id = ANY(%s) AND t.recipient = '')
"""  # noqa: S608 - of constants
_STRANGE = f"SELECT unnest(%s::bigint[]) EXCEPT SELECT e.id FROM {_OF_TRIAL} WHERE e.id = ANY(%s)"  # noqa: S608 - of constants
_SUPPRESSED = f"SELECT EXISTS ({suppressions.matching('%(address)s', '%(list)s::bigint')})"
_BEGIN = f"""
UPDATE campaigns_trialmail t SET attempted_at = %(now)s
FROM campaigns_step s JOIN campaigns_campaign c ON c.id = s.campaign_id
WHERE t.id = %(id)s AND t.status = 'claimed' AND t.claimed_at = %(claimed_at)s AND s.id = t.step_id
  AND NOT EXISTS ({suppressions.matching("t.recipient", "c.list_id")})
"""  # noqa: S608 - see suppressions
# Who has left this list alone may come back to it, and nobody else can confirm it for them.
_BEGIN_CONFIRMATION = f"""
UPDATE campaigns_trialmail t SET attempted_at = %(now)s
FROM campaigns_signup u
WHERE t.id = %(id)s AND t.status = 'claimed' AND t.claimed_at = %(claimed_at)s AND u.id = t.sign_up_id
  AND u.confirmed_at IS NULL
  AND NOT EXISTS ({suppressions.matching("t.recipient", "u.list_id")} AND NOT {suppressions.LEFT_THE_LIST})
"""  # noqa: S608 - see suppressions
# It goes to who wrote, who may be another than the contact; and the basis may have changed since the claim.
_BEGIN_ANSWER = f"""
UPDATE campaigns_trialmail t SET attempted_at = %(now)s
FROM campaigns_reply r
JOIN campaigns_message m ON m.id = r.message_id
JOIN campaigns_campaign c ON c.id = m.campaign_id
JOIN campaigns_contact p ON p.id = m.contact_id
LEFT JOIN campaigns_subscription u ON u.list_id = c.list_id AND u.contact_id = p.id
WHERE t.id = %(id)s AND t.status = 'claimed' AND t.claimed_at = %(claimed_at)s AND r.id = t.reply_id
  AND NOT r.automatic
  AND NOT EXISTS ({suppressions.matching("t.recipient", "c.list_id")})
  AND NOT EXISTS ({suppressions.matching("p.email", "c.list_id")})
  AND {permission.takes("t.account_id", permission.GIVEN)}
"""  # noqa: S608 - see suppressions
_BEGINS = {Kind.TRIAL: _BEGIN, Kind.CONFIRMATION: _BEGIN_CONFIRMATION, Kind.ANSWER: _BEGIN_ANSWER}
