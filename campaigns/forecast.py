"""When a campaign will have gone, day by day and account by account, what keeps it back and what it costs; and, once it
was launched, what came of that.

The queue and the ledgers as they are now are read into a `Scene`, and `simulation` does the rest.
"""

import calendar
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef
from django.db.models.functions import TruncDate
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns import advance, caps, draft, feasibility, pace, precedence
from campaigns.draft import AUDIENCE
from campaigns.models import Campaign, LaunchForecast, Message, Step, StepFile
from campaigns.planning import Plan, PlanRefusedError
from campaigns.simulation import Bound, Day, Run, Scene, Sending, Through, Waiting, simulate
from providers.accounts import health
from providers.accounts import ledger as accounts
from providers.accounts.models import Account, Health
from providers.senders.ledger import local_day, next_day
from providers.senders.standing import standing
from tenants import context
from tenants.models import Agency

logger = logging.getLogger(__name__)

LONG = timedelta(days=92)
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Planned:
    """One of the agency's days: mails in all and by the account's name, what keeps the others back, what is left."""

    day: date
    total: int
    accounts: dict[str, int]
    limit: str
    limit_label: str
    left: int


@dataclass(frozen=True, slots=True)
class Without:
    """How much of all the agency's mails of the first day on which any go still goes, in percent, if this account dies
    now."""

    account: str
    percent: int
    day: date


@dataclass(frozen=True, slots=True)
class Cost:
    """$: `rent` is the price of the accounts for the days on which the campaign sends through them, `mails` of those
    beyond what is within that price."""

    rent: Decimal
    mails: Decimal

    @property
    def total(self) -> Decimal:
        """Both together."""
        return self.rent + self.mails


@dataclass(frozen=True, slots=True)
class Consent:
    """Contacts of a draft who have given no consent: how many, how many of them would be held because no account takes
    them, and the accounts that they do not leave through."""

    without: int
    held: int
    accounts: list[str]

    @property
    def text(self) -> str:
        """The same in words."""
        names = ", ".join(self.accounts)
        said = ngettext(
            "%(count)d contact has given no consent and does not leave through %(accounts)s.",
            "%(count)d contacts have given no consent and do not leave through %(accounts)s.",
            self.without,
        ) % {"count": self.without, "accounts": names}
        if not self.held:
            return said
        return (
            said
            + " "
            + ngettext(
                "%(count)d mail waits until the consent is there: no other account takes it.",
                "%(count)d mails wait until the consent is there: no other account takes them.",
                self.held,
            )
            % {"count": self.held}
        )


@dataclass(slots=True)
class Forecast:
    """Of the mails that have not gone yet. `finishes_on` is None where they never do; `problems` say so in words.

    `cost` is for the operator, who rents the accounts; an agency is told `own_cost` alone, of the accounts that it has
    brought itself, None where it has brought none.
    """

    made_at: datetime
    mails: int
    finishes_on: date | None = None
    days: list[Planned] = field(default_factory=list)
    cost: Cost = field(default_factory=lambda: Cost(Decimal(0), Decimal(0)))
    own_cost: Cost | None = None
    without: list[Without] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    consent: Consent | None = None

    @property
    def accounts(self) -> list[str]:
        """Names of the accounts that get mails, those of most mails first."""
        found: Counter[str] = Counter()
        for day in self.days:
            found.update(day.accounts)
        return [name for name, _count in found.most_common()]


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the agency's days: mails as foreseen at launch, and sent."""

    day: date
    foreseen: int
    sent: int


@dataclass(slots=True)
class Outcome:
    """What came of the forecast that was made at launch.

    `finishes_on` is the day on which the campaign finished or, while it runs, is expected to now. `days_late` is
    below zero where it is early; `error_percent` is mails sent beside those foreseen, on all days that are over.
    """

    made_at: datetime
    foreseen_on: date | None
    finishes_on: date | None
    days_late: int | None
    error_percent: int | None
    days: list[Compared]


@dataclass(frozen=True, slots=True)
class Report:
    """The forecast of what waits, None where the campaign is over, and what came of the one made at launch."""

    forecast: Forecast | None
    outcome: Outcome | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        found = asdict(self)
        if self.forecast is not None:
            found["forecast"]["cost"]["total"] = self.forecast.cost.total
            if self.forecast.own_cost is not None:
                found["forecast"]["own_cost"]["total"] = self.forecast.own_cost.total
        return found


def report(campaign: Campaign, *, now: datetime) -> Report:
    """All that is foreseen and was foreseen of a campaign of the agency entered now. Changes nothing."""
    over = campaign.status in (Campaign.Status.FINISHED, Campaign.Status.CANCELLED)
    present = None if over else forecast(campaign, now=now)
    return Report(present, outcome(campaign, now=now, present=present))


def forecast(campaign: Campaign, *, now: datetime) -> Forecast:
    """Foresee what waits of a campaign of the agency entered now: of a draft as if it were launched now."""
    agency = context.current_agency()
    if why := feasibility.obstacle(campaign, agency, now=now):
        return Forecast(now, draft.size(campaign), problems=[why.text])
    plan = None
    if campaign.status == Campaign.Status.DRAFT:
        consented, others = draft.sizes(campaign)
        try:
            plan = draft.plan(campaign, consented, others, now=now)
        except PlanRefusedError as refused:
            return Forecast(now, consented + others, problems=[str(refused)])
        if plan.held and plan.held == others and not consented:
            return Forecast(now, others, problems=[draft.nobody_consented(others)], consent=_consent(plan, agency))
    scene = _scene(agency, campaign, now, plan)
    total = sum(one.count for one in scene.waiting if one.campaign_id == campaign.pk)
    if not total:
        text = _("The list “%(list)s” has nobody to write to: import contacts first.") % {"list": campaign.list}
        return Forecast(now, 0, problems=[text] if campaign.status == Campaign.Status.DRAFT else [])
    run = simulate(scene, campaign.pk, now=now)
    names = {one.account.pk: one.account.name for one in scene.accounts}
    brought = [one.account for one in scene.accounts if one.account.owner_id == agency.pk]
    return Forecast(
        made_at=now,
        mails=run.total,
        finishes_on=run.days[-1].day if not run.left else None,
        days=[_planned(day, names) for day in run.days],
        cost=_cost(run.days, [one.account for one in scene.accounts], now),
        own_cost=_cost(run.days, brought, now) if brought else None,
        without=list(_without(scene, run, now)),
        problems=list(_problems(run, agency, now)),
        consent=_consent(plan, agency) if plan else None,
    )


def _consent(plan: Plan, agency: Agency) -> Consent | None:
    strict = [one.account.name for one in accounts.allotments(agency) if one.account.requires_consent]
    return Consent(plan.without, plan.held, strict) if plan.without and strict else None


def remember(campaign: Campaign, *, now: datetime) -> None:
    """Keep the forecast of a campaign that is launched now, to be compared with what comes of it."""
    try:
        with transaction.atomic():
            made = forecast(campaign, now=now)
            LaunchForecast.objects.create(
                campaign=campaign,
                made_at=now,
                mails=made.mails,
                finishes_on=made.finishes_on,
                cost=made.cost.total,
                days=[{"day": one.day.isoformat(), "accounts": one.accounts, "limit": one.limit} for one in made.days],
            )
    except Exception:
        # A launch does not fail for what is only told about it.
        logger.exception("no forecast was made", extra={"campaign": campaign.pk})


def outcome(campaign: Campaign, *, now: datetime, present: Forecast | None = None) -> Outcome | None:
    """What came of the forecast made at launch, `present` being the one of now; None where there is none."""
    made = LaunchForecast.objects.filter(campaign=campaign).first()
    if made is None:
        return None
    agency = context.current_agency()
    foreseen = {date.fromisoformat(one["day"]): sum(one["accounts"].values()) for one in made.days}
    sent = dict(
        Message.objects.filter(campaign=campaign, status=Message.Status.SENT)
        .annotate(day=TruncDate("sent_at", tzinfo=agency.zone))
        .values_list("day")
        .annotate(count=Count("pk"))
    )
    if campaign.finished_at is not None:
        finished = campaign.status == Campaign.Status.FINISHED
        finishes_on = local_day(campaign.finished_at, agency.zone) if finished else None
        over = {*foreseen, *sent}
    else:
        finishes_on = present.finishes_on if present else None
        over = {day for day in (*foreseen, *sent) if day < local_day(now, agency.zone)}
    expected, went = (sum(count for day, count in one.items() if day in over) for one in (foreseen, sent))
    return Outcome(
        made_at=made.made_at,
        foreseen_on=made.finishes_on,
        finishes_on=finishes_on,
        days_late=(finishes_on - made.finishes_on).days if finishes_on and made.finishes_on else None,
        error_percent=round(100 * (went - expected) / expected) if expected else None,
        days=[Compared(day, foreseen.get(day, 0), sent.get(day, 0)) for day in sorted({*foreseen, *sent})],
    )


def _scene(agency: Agency, campaign: Campaign, now: datetime, plan: Plan | None = None) -> Scene:
    """What decides when mails go: the agency's queue, that of the campaign included, and what is used of every limit.

    `plan` is that of a draft.
    """
    allotments = list(accounts.allotments(agency))
    used = accounts.used(agency, allotments, now=now)
    through = []
    for one in allotments:
        state = getattr(one.account, "health", None)
        is_open = not isinstance(state, Health) or state.open(now) or not health.broken(state)
        limits = {limit: count for (account_id, limit), count in used.items() if account_id == one.account_id}
        through.append(Through(one.account, one, limits, is_open, one.account.requires_consent))
    known = {one.account_id for one in allotments}
    running = {one.pk: one for one in Campaign.objects.filter(status=Campaign.Status.RUNNING)}
    if campaign.status == Campaign.Status.PAUSED:
        running[campaign.pk] = campaign
    strict = any(one.account.requires_consent for one in allotments)
    waiting = [one for one in _queue(running, agency, strict=strict) if one.account_id in known]
    if campaign.status == Campaign.Status.DRAFT:
        running[campaign.pk] = campaign
        waiting += _draft(campaign, plan, agency, now) if plan else []
    return Scene(agency.zone, through, standing(agency, now=now), _sendings(running.values(), agency, now), waiting)


def _queue(running: Mapping[int, Campaign], agency: Agency, *, strict: bool) -> list[Waiting]:
    """`strict` is whether any account requires consent: only then is it asked who has given it."""
    firsts = {pk: cap.first_step for pk, cap in caps.of(running.values()).items()}
    places = {step.pk: max(0, (step.position or 1) - 1) for step in Step.objects.filter(campaign__in=list(running))}
    with connection.cursor() as cursor:
        cursor.execute(_QUEUE, [strict, list(running)])
        return [
            Waiting(
                campaign_id,
                account_id,
                priority,
                due_at,
                running[campaign_id].schedule(agency.zone, of=zone),
                count,
                step_id == firsts.get(campaign_id),
                places.get(step_id, 0),
                consented,
            )
            for campaign_id, account_id, priority, due_at, step_id, zone, consented, count in cursor.fetchall()
        ]


def _draft(campaign: Campaign, plan: Plan, agency: Agency, now: datetime) -> list[Waiting]:
    """The queue that a launch would make."""
    level = precedence.head_start(campaign.traffic_class, follow_up=False)
    found: Counter[tuple[int, pace.Schedule, bool]] = Counter()
    for pool in plan.pools:
        consented = pool.consented is not False
        if campaign.window_zone != Campaign.WindowZone.RECIPIENT:
            for one in pool.shares:
                found[one.account_id, campaign.schedule(agency.zone), consented] += one.count
            continue
        lasts: list[int] = []
        for one in pool.shares:
            lasts.append(one.count + (lasts[-1] if lasts else 0))
        with connection.cursor() as cursor:
            cursor.execute(_ZONES, {**draft.audience(campaign), "lasts": lasts, "consented": pool.consented})
            for number, zone, count in cursor.fetchall():
                found[pool.shares[number].account_id, campaign.schedule(agency.zone, of=zone), consented] += count
    return [
        Waiting(campaign.pk, account_id, level, now, schedule, count, True, consented=consented)
        for (account_id, schedule, consented), count in found.items()
    ]


def _sendings(campaigns: Iterable[Campaign], agency: Agency, now: datetime) -> list[Sending]:
    day, found = local_day(now, agency.zone), []
    for one in campaigns:
        live = one.steps.filter(position__isnull=False).order_by("position")
        steps = list(live.annotate(has_files=Exists(StepFile.objects.filter(step=OuterRef("pk")))))
        follow_ups = [advance.of(step) for step in steps[1:]]
        new_today = one.days.filter(day=day).first() if one.new_contacts_per_day is not None else None
        found.append(
            Sending(
                one.pk,
                one.traffic_class,
                one.overflow,
                one.gap,
                frozenset(one.accounts),
                one.new_contacts_per_day,
                new_today.used if new_today else 0,
                one.per_domain_per_day,
                _to_domains(one, day, 1 + len(follow_ups)) if one.per_domain_per_day is not None else {},
                follow_ups,
                frozenset(before for before, step in enumerate(steps) if step.has_files),
            )
        )
    return found


def _to_domains(campaign: Campaign, day: date, mails: int) -> Counter[tuple[int, int]]:
    """Domains by mails to them, `mails` for each that waits, and by those of today."""
    used = dict(campaign.recipient_days.filter(day=day).values_list("domain", "used"))
    with connection.cursor() as cursor:
        if campaign.status == Campaign.Status.DRAFT:
            cursor.execute(_DRAFT_DOMAINS, draft.audience(campaign))
        else:
            cursor.execute(_QUEUED_DOMAINS, {"campaign": campaign.pk})
        return Counter((count * mails, used.get(domain, 0)) for domain, count in cursor.fetchall())


def _planned(day: Day, names: Mapping[int, str]) -> Planned:
    by_name = {names[account_id]: count for account_id, count in sorted(day.accounts.items())}
    return Planned(day.day, day.total, by_name, day.bound.value, str(day.bound.label), day.left)


def _cost(days: Sequence[Day], which: Iterable[Account], now: datetime) -> Cost:
    rent, mails = Decimal(0), Decimal(0)
    for account in which:
        months: Counter[date] = Counter()
        for day in days:
            if count := day.accounts.get(account.pk):
                months[day.day.replace(day=1)] += count
                rent += account.monthly_price / calendar.monthrange(day.day.year, day.day.month)[1]
        if not account.mail_price:
            continue
        for month, count in months.items():
            this_month = month == accounts.utc_day(now).replace(day=1)
            before = accounts.used_this_month(account.pk, now=now) if this_month else 0
            further = max(0, before + count - max(before, account.included_per_month))
            mails += account.mail_price * further
    return Cost(rent.quantize(CENT), mails.quantize(CENT))


def _without(scene: Scene, run: Run, now: datetime) -> Iterable[Without]:
    goes = next((day.day for day in run.days if day.total), None)
    if goes is None:
        return
    until = next_day(now + (goes - local_day(now, scene.zone)), scene.zone)
    first = next(day for day in simulate(scene, None, now=now, until=until).days if day.total)
    for dead in scene.accounts:
        others = [replace(one, open=one.open and one is not dead) for one in scene.accounts]
        left = simulate(replace(scene, accounts=others), None, now=now, until=until)
        went = sum(day.total for day in left.days if day.day == first.day)
        yield Without(dead.account.name, min(100, 100 * went // first.total), first.day)


def _problems(run: Run, agency: Agency, now: datetime) -> Iterable[str]:
    if run.left:
        last = run.days[-1].bound if run.days else Bound.WINDOW
        text = ngettext(
            "It never finishes: %(count)d mail is not foreseen to go within a year. What keeps it back: %(limit)s.",
            "It never finishes: %(count)d mails are not foreseen to go within a year. What keeps them back: %(limit)s.",
            run.left,
        )
        yield text % {"count": run.left, "limit": last.label}
    elif run.days[-1].day - local_day(now, agency.zone) > LONG:
        text = _("It takes until %(day)s, which is more than three months.")
        yield text % {"day": date_format(run.days[-1].day, "DATE_FORMAT")}


_QUEUE = """
SELECT m.campaign_id, m.account_id, m.priority, date_trunc('minute', m.due_at), m.step_id,
       COALESCE(p.attributes->>'timezone', ''), COALESCE(e.consented, true), count(*)
FROM campaigns_message m
JOIN campaigns_campaign c ON c.id = m.campaign_id
LEFT JOIN campaigns_contact p ON p.id = m.contact_id AND c.window_zone = 'recipient'
LEFT JOIN campaigns_enrollment e ON e.id = m.enrollment_id AND %s
WHERE m.status = 'scheduled' AND m.campaign_id = ANY(%s)
GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7
"""
# Shares are planned in the order of the contacts: which of them has the contact of this number.
_ZONES = f"""
SELECT width_bucket(a.number, %(lasts)s::bigint[]), a.zone, count(*)
FROM (SELECT COALESCE(b.attributes->>'timezone', '') AS zone, row_number() OVER (ORDER BY b.id) - 1 AS number
      FROM ({AUDIENCE}) b WHERE %(consented)s::boolean IS NULL OR b.consented = %(consented)s) a
GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608 - of constants
_DRAFT_DOMAINS = f"""
SELECT lower(substring(a.email FROM '[^@]*$')), count(*) FROM ({AUDIENCE}) a GROUP BY 1
"""  # noqa: S608 - of constants
_QUEUED_DOMAINS = """
SELECT lower(substring(p.email FROM '[^@]*$')), count(*)
FROM campaigns_message m JOIN campaigns_contact p ON p.id = m.contact_id
WHERE m.status = 'scheduled' AND m.campaign_id = %(campaign)s GROUP BY 1
"""
