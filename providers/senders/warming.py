"""Domains that warm up: begin, judge each day, show what was planned against what was sent."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Max

from providers.senders import warmup
from providers.senders.ledger import local_day
from providers.senders.models import DomainDay, Sender, SenderDomain

ONE_DAY = timedelta(days=1)
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Day:
    """Mails of a domain on one day of its warmup; what was allowed and sent is None for days without mails."""

    day: date
    planned: int
    allowed: int | None
    sent: int | None


def fill_in(domain: SenderDomain) -> None:
    """Make the plans that a domain which warms up lacks, or forget those of a warm one. Does not save."""
    if domain.warmup_started_on is None:
        domain.warmup_plan, domain.warmup_domain_plan, domain.warmup_step = [], [], 1
        domain.warmup_judged = None
        return
    most = domain.senders.aggregate(most=Max("per_day"))["most"] if domain.pk else None
    per_sender = most or Sender._meta.get_field("per_day").default
    domain.warmup_plan = domain.warmup_plan or warmup.plan(per_sender, first=warmup.FIRST_OF_SENDER)
    domain.warmup_domain_plan = domain.warmup_domain_plan or warmup.plan(
        domain.per_day, first=warmup.FIRST_OF_DOMAIN, steps=len(domain.warmup_plan)
    )


def advance(zone: ZoneInfo, *, now: datetime) -> int:
    """Judge yesterday of each domain of the agency entered now that warms up; return how many changed their step.

    What came back or was complained about counts for the day its mail was sent on. Harmless when it runs twice: a day
    is judged once.
    """
    yesterday = local_day(now, zone) - ONE_DAY
    changed = 0
    for domain in SenderDomain.objects.filter(warmup_started_on__lte=yesterday):
        last = _last(domain)
        if domain.warmup_step > last or (domain.warmup_judged and domain.warmup_judged >= yesterday):
            continue
        day = DomainDay.objects.filter(domain=domain, day=yesterday).first()
        told = (day.used, day.bounced, day.complained) if day else (0, 0, 0)
        evidence = warmup.Evidence(told[0], _allowed(domain), *told[1:])
        step = warmup.next_step(domain.warmup_step, evidence, last=last)
        # Unless another worker has judged it meanwhile.
        same = SenderDomain.objects.filter(
            pk=domain.pk, warmup_step=domain.warmup_step, warmup_judged=domain.warmup_judged
        )
        if same.update(warmup_step=step, warmup_judged=yesterday):
            changed += step != domain.warmup_step
    return changed


def days(domain: SenderDomain, *, today: date) -> list[Day]:
    """What was planned for the domain, had each day brought a step, and what it sent: to today or to the plan's end."""
    first = domain.warmup_started_on
    if first is None:
        return []
    rows = {row.day: row for row in DomainDay.objects.filter(domain=domain, day__gte=first)}
    limits = list(domain.senders.filter(active=True).values_list("per_day", flat=True))
    found = []
    for number in range(min(SHOWN, max((today - first).days + 1, _last(domain)))):
        day = first + number * ONE_DAY
        planned, row = _planned(domain, limits, number + 1), rows.get(day)
        found.append(Day(day, planned, row.allowed if row else None, row.used if row else None))
    return found


def _last(domain: SenderDomain) -> int:
    return max(len(domain.warmup_plan), len(domain.warmup_domain_plan))


def _planned(domain: SenderDomain, limits: list[int], step: int) -> int:
    return warmup.together(limits, domain.warmup_plan, domain.per_day, domain.warmup_domain_plan, step)


def _allowed(domain: SenderDomain) -> int:
    limits = list(domain.senders.filter(active=True).values_list("per_day", flat=True))
    return _planned(domain, limits, domain.warmup_step)
