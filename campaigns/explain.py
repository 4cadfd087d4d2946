"""Why a mail is not sent: one answer for every page, program and command."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Sum
from django.utils.translation import gettext as _

from campaigns import caps, doubt, paced
from campaigns.models import Campaign, CampaignDay, Message, RecipientDay
from campaigns.reasons import Reason
from providers.accounts import health, ledger
from providers.accounts.models import Account, LedgerRow, Period
from providers.accounts.routing import Route
from providers.senders import ledger as senders
from providers.senders import recovering, routes
from providers.senders.models import Event, Sender, SenderDay
from tenants import context, restored
from tenants.models import Agency

Status = Message.Status
EVENTS_SHOWN = 50
RECOVERIES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Number:
    """What has been used of one limit that binds a mail."""

    label: str
    used: int
    allowed: int


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of a mail: what, when, and who reports it."""

    code: str
    label: str
    at: datetime
    source: str
    detail: str


@dataclass(slots=True)
class Explanation:
    """Where a mail is and why; `code` and `label` are empty once it is sent. `next` is what ends a doubt, in words."""

    key: str
    campaign: str
    to: str
    step: int | None
    variant: str
    status: str
    status_label: str
    code: str
    label: str
    detail: str
    due_at: datetime
    clears_at: datetime | None
    sent_at: datetime | None
    account: str
    sender: str
    attempts: int
    attempted_at: datetime | None
    next: str = ""
    refused_by: list[str] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return asdict(self)


def explain(message: Message, *, now: datetime) -> Explanation:
    """Why this mail of the agency entered now has not gone, with the numbers behind it and the earliest time it may.

    Of an account only what the agency itself has used is told: the rest is other agencies'.
    """
    agency = context.current_agency()
    campaign, contact = message.campaign, message.contact
    code, clears_at, following = "", None, ""
    if message.status == Status.UNKNOWN:
        (told,) = doubt.what_next([message], now=now)
        following = told.words
    if message.status != Status.SENT:
        why = Why(campaign, agency, now)
        later = message.due_at if message.status == Status.SCHEDULED and message.due_at > now else None
        attributes = contact.attributes if isinstance(contact.attributes, dict) else {}
        code, clears_at = why(
            message.status,
            message.account_id,
            message.reason,
            later,
            zone=str(attributes.get(paced.ZONE, "")),
            first=message.step_id == why.first_step,
            to_spent=caps.domain_of(contact.email) in why.spent_domains,
            sender_id=message.enrollment.sender_id,
        )
    refused = Account.objects.filter(pk__in=message.refused_by).order_by("pk").values_list("name", flat=True)
    return Explanation(
        key=str(message.key),
        campaign=campaign.name,
        to=contact.email,
        step=message.step.position,
        variant=message.variant,
        status=message.status,
        status_label=str(message.get_status_display()),
        code=str(code),
        label=str(Reason(code).label) if code else "",
        detail=message.detail,
        due_at=message.due_at,
        clears_at=clears_at,
        sent_at=message.sent_at,
        account=message.account.name,
        sender=message.sender.address if message.sender else "",
        attempts=message.attempts,
        attempted_at=message.attempted_at,
        next=following,
        refused_by=list(refused),
        numbers=list(_numbers_of(message, agency, now)),
        events=list(_events(message)),
    )


def _events(message: Message) -> Iterator[Happened]:
    """What was heard of the mail, the latest last."""
    for event in Event.objects.filter(message=message.key).order_by("-at", "-pk")[:EVENTS_SHOWN][::-1]:
        kind = event.get_bounce_class_display()
        detail = ": ".join(str(part) for part in (kind, event.detail) if part)
        yield Happened(event.type, str(event.get_type_display()), event.at, event.source, detail)


def _numbers_of(message: Message, agency: Agency, now: datetime) -> Iterator[Number]:
    if message.status == Status.SCHEDULED:
        yield from _numbers(message, agency, now)
    elif message.status == Status.HELD and message.reason == Reason.NEEDS_CONSENT:
        enrolled = message.campaign.enrollments
        yield Number(
            _("Contacts of the campaign who have given consent"),
            enrolled.filter(consented=True).count(),
            enrolled.count(),
        )
        mine = list(ledger.allotments(agency))
        lenient = sum(not one.account.requires_consent for one in mine)
        yield Number(_("Your accounts that take mails without consent"), lenient, len(mine))


def _numbers(message: Message, agency: Agency, now: datetime) -> Iterator[Number]:
    """The agency's own use of every limit that binds a mail which waits."""
    day, campaign = senders.local_day(now, agency.zone), message.campaign
    if (most := campaign.new_contacts_per_day) is not None:
        row = CampaignDay.objects.filter(campaign=campaign, day=day).first()
        yield Number(_("New contacts of the campaign today"), row.used if row else 0, most)
    if (most := campaign.per_domain_per_day) is not None:
        domain = caps.domain_of(message.contact.email)
        to = RecipientDay.objects.filter(campaign=campaign, day=day, domain=domain).first()
        yield Number(_("Mails of the campaign to %(domain)s today") % {"domain": domain}, to.used if to else 0, most)
    allotment = ledger.allotment(agency, message.account_id)
    if allotment is None:
        return
    labels = {Period.DAY: _("Your share of the account today"), Period.MONTH: _("Your share of the account this month")}
    for bound in ledger.limits(allotment.account, allotment, day=ledger.utc_day(now)):
        if bound.agency_id is not None:
            used = LedgerRow.objects.filter(
                account=message.account_id, agency=agency, period=bound.period, starts=bound.starts
            ).first()
            yield Number(labels[Period(bound.period)], used.used if used else 0, bound.allowed)
    able = Sender.objects.filter(active=True, domain__homes__account=message.account_id).distinct()
    spent = SenderDay.objects.filter(sender__in=able, day=day).aggregate(sum=Sum("used"))["sum"] or 0
    # Not the sum of their limits: warmup, their domains and the last 24 hours bind them too.
    left = senders.room_today([message.account_id], day=day, now=now).get(message.account_id, 0)
    yield Number(_("Mails of the account's senders today"), spent, spent + left)
    for found in recovering.of_account(message.account_id)[:RECOVERIES_SHOWN]:
        text = _("%(whose)s recovers: mails that came back or were complained about, of those looked at")
        yield Number(text % {"whose": found}, found.bounced + found.complained, found.mails)


class Why:
    """Why a mail of this campaign is not sent: from its row where that says it, else from what its campaign may do now,
    else from the state of its account.

    `first_step` is the step of its first mails, and `spent_domains` those that have got their mails of today, where the
    campaign has such caps.
    """

    def __init__(self, campaign: Campaign, agency: Agency, now: datetime) -> None:
        self._campaign = campaign
        self._agency = agency
        self._now = now
        self._known: dict[tuple[int, int | None], tuple[str, datetime | None]] = {}
        self._rests: dict[int, dict[int, senders.Rest]] = {}
        self._returns: dict[int, dict[int, datetime | None]] = {}
        self._routes: list[Route] | None = None
        self._closed: dict[str, tuple[Reason, datetime | None] | None] = {}
        self._day = senders.local_day(now, agency.zone)
        cap = caps.of([campaign]).get(campaign.pk)
        self.first_step = cap.first_step if cap and cap.new_contacts is not None else None
        self.spent_domains = set(caps.spent_domains(cap, day=self._day)) if cap else set()
        self._spent = bool(cap and caps.spent_campaigns({campaign.pk: cap}, day=self._day))

    @property
    def looks_at_contacts(self) -> bool:
        """Whether a mail's reason depends on whom it is to."""
        return bool(self.spent_domains) or self._campaign.window_zone == Campaign.WindowZone.RECIPIENT

    def __call__(
        self,
        status: str,
        account_id: int,
        reason: str,
        later: datetime | None,
        *,
        zone: str = "",
        first: bool = False,
        to_spent: bool = False,
        sender_id: int | None = None,
    ) -> tuple[str, datetime | None]:
        if status == Status.CLAIMED:
            return Reason.SENDING, None
        if status != Status.SCHEDULED:
            return reason, None
        if self._campaign.status == Campaign.Status.CANCELLED:
            return Reason.CAMPAIGN_CANCELLED, None
        if self._campaign.status == Campaign.Status.PAUSED:
            return Reason.CAMPAIGN_PAUSED, None
        if later is not None:
            return reason or Reason.NOT_DUE, later
        if self._frozen:
            return Reason.RESTORED, None
        if zone not in self._closed:
            schedule = self._campaign.schedule(self._agency.zone, of=zone)
            self._closed[zone] = paced.why_closed(schedule, self._now)
        if closed := self._closed[zone]:
            return closed
        if first and self._spent:
            return Reason.CAMPAIGN_DAY_SPENT, senders.next_day(self._now, self._agency.zone)
        if to_spent:
            return Reason.RECIPIENT_DOMAIN_SPENT, senders.next_day(self._now, self._agency.zone)
        key = (account_id, sender_id)
        if key not in self._known:
            self._known[key] = self._account(account_id, sender_id)
        return self._known[key]

    def _account(self, account_id: int, sender_id: int | None) -> tuple[str, datetime | None]:
        allotment = ledger.allotment(self._agency, account_id)
        if allotment is None:
            return Reason.ACCOUNT_GONE, None
        state = health.of(account_id)
        if not state.open(self._now):
            if health.broken(state) and self._others_have_room(account_id):
                return Reason.IN_QUEUE, None
            return (Reason.ACCOUNT_BLOCKED, None) if state.blocked else (Reason.ACCOUNT_CLOSED, state.closed_until)
        spent = ledger.spent(allotment.account, allotment, now=self._now)
        if spent is None and sender_id is not None:
            return self._thread(account_id, sender_id)
        if spent is None and senders.room_today([account_id], day=self._day, now=self._now).get(account_id):
            rest = senders.rested_from(
                account_id, self._gap, day=self._day, now=self._now, hours=self._hours, kept=self._kept
            )
            if rest.until <= self._now:
                return Reason.IN_QUEUE, None
            return Reason.SENDERS_HOUR_SPENT if rest.hour_spent else Reason.SENDERS_RESTING, rest.until
        if self._campaign.overflow == Campaign.Overflow.REROUTE and self._others_have_room(account_id):
            return Reason.IN_QUEUE, None
        if spent is not None:
            return Reason(spent.reason), spent.until
        if account_id not in senders.accounts_with_senders():
            return Reason.NO_SENDERS, None
        again = senders.room_from(account_id, zone=self._agency.zone, now=self._now)
        if senders.held_back(account_id, day=self._day, now=self._now):
            return Reason.SENDERS_RECOVERING, again or recovering.rest_over(account_id, now=self._now)
        return Reason.SENDERS_SPENT, again

    def _thread(self, account_id: int, sender_id: int) -> tuple[str, datetime | None]:
        """A contact who has heard from a sender hears from no other."""
        if account_id not in self._rests:
            self._rests[account_id] = senders.rests(
                account_id, self._gap, day=self._day, now=self._now, hours=self._hours, kept=self._kept
            )
        if rest := self._rests[account_id].get(sender_id):
            return (Reason.THREAD_RESTING, rest.until) if rest.until > self._now else (Reason.IN_QUEUE, None)
        if account_id not in self._returns:
            self._returns[account_id] = senders.returns(account_id, zone=self._agency.zone, now=self._now)
        if sender_id not in self._returns[account_id]:
            return Reason.THREAD_OFF, None
        again = self._returns[account_id][sender_id]
        if found := recovering.current(sender_id):
            resting = found.rest_until if found.rest_until and found.rest_until > self._now else None
            return Reason.THREAD_RECOVERING, again or resting
        return Reason.THREAD_SPENT, again

    @cached_property
    def _frozen(self) -> bool:
        return restored.frozen()

    @cached_property
    def _hours(self) -> float:
        return paced.running(self._agency, now=self._now).hours

    @property
    def has_threads(self) -> bool:
        """Whether there may be mails to contacts who have heard from one of the senders: it has follow-ups."""
        return self._campaign.steps.count() > 1

    @property
    def _gap(self) -> timedelta:
        return self._campaign.gap.least

    @cached_property
    def _kept(self) -> dict[int, timedelta]:
        return {domain_id: gap.least for domain_id, gap in paced.gaps_kept().items()}

    def _others_have_room(self, account_id: int) -> bool:
        """Whether what this account cannot send is about to move."""
        if self._routes is None:
            self._routes = routes.usable(self._agency, now=self._now)
        return any(route.open and route.free > 0 for route in self._routes if route.account_id != account_id)
