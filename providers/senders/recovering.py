"""Senders and domains of which too much comes back: pauses them with the evidence, and lets them return in stages. The
only writer of Recovery and of the caps of senders and domains, which claims keep.

Judged are the mails of the last week by the day that they were sent on, with addresses that were refused at once; what
came back by our own fault is no fact of a mail. Lock order: the sender or domain, then its recovery.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import F, Sum

from providers.senders import dns, recovery
from providers.senders.ledger import local_day
from providers.senders.models import DnsCheck, DomainDay, Recovery, Sender, SenderDay, SenderDomain
from providers.senders.recovery import CAPS, ONE_DAY, Cause, Stage, Tally, Verdict
from tenants import visits
from tenants.models import Agency

logger = logging.getLogger(__name__)

# How long until a DNS that was not in order is asked again.
ASK_AGAIN = timedelta(hours=1)

Whose = Sender | SenderDomain
# Before this day so many mails a day, in order.
Outlook = tuple[tuple[date, int], ...]
# Whether the DNS of a domain is in order.
Check = Callable[[SenderDomain], bool]


def look_after(agency: Agency, *, now: datetime, check: Check | None = None) -> tuple[int, int]:
    """Pause what in the agency entered now is to be paused, and move what recovers; return how many of each."""

    def ask(domain: SenderDomain) -> bool:
        return dns.check(domain, now=now).sound is True

    return pause_harmful(agency, now=now), advance(agency, now=now, check=check or ask)


def pause_harmful(agency: Agency, *, now: datetime) -> int:
    """Pause each sender and domain of which too much came back, with an error in the log; return how many those were.

    Mails of the day on which an earlier pause ended, and those before, are not counted again.
    """
    today, paused = local_day(now, agency.zone), 0
    since = today - recovery.WINDOW
    for model, statement in ((Sender, _OF_SENDERS), (SenderDomain, _OF_DOMAINS)):
        with connection.cursor() as cursor:
            cursor.execute(statement, [since])
            rows: Iterable[Any] = cursor.fetchall()
        for pk, first, *counts in rows:
            tally = Tally(*(int(count) for count in counts))
            verdict = recovery.judge(tally)
            if verdict is None:
                continue
            found: Whose = model._default_manager.get(pk=pk)
            if _pause(found, agency, now=now, **_evidence(verdict, tally, first, today)):
                logger.error(
                    "%s paused, too much comes back: %s, %s",
                    model._meta.model_name,
                    verdict.cause.value,
                    verdict.rate,
                    extra={"agency": agency.slug, "whose": str(found)},
                )
                paused += 1
    return paused


def pause(whose: Whose, agency: Agency, *, by: str, why: str, now: datetime) -> bool:
    """Let it send nothing until a person releases it; return False if it recovers already. What a worker has claimed
    still goes."""
    return _pause(whose, agency, now=now, cause=Cause.PERSON, by=by[:254], why=why[:300], for_good=True)


def release(found: Recovery, agency: Agency, *, by: str, why: str, now: datetime) -> bool:
    """Let it send as before, because a person says so; return False if it recovers no more."""
    return _move(found, None, agency, now=now, ended_by=by[:254], ended_why=why[:300])


def advance(agency: Agency, *, now: datetime, check: Check) -> int:
    """Move what recovers on, or back to its rest; return how many moved. Harmless when two do so."""
    today, moved = local_day(now, agency.zone), 0
    for found in Recovery.objects.filter(ended_at=None).select_related("sender__domain", "domain").order_by("pk"):
        stage = Stage(found.stage)
        rested = found.rest_until is not None and found.rest_until <= now
        in_order = stage == Stage.CHECKING and _check(found, check, now)
        all_mails, over = _tally(found), _tally(found, before=today)
        after = recovery.next_stage(stage, rested=rested, in_order=in_order, all_mails=all_mails, over=over)
        if after == stage:
            continue
        changes: dict[str, Any] = {}
        if after == Stage.RESTING and (verdict := recovery.judge(all_mails, floor=1)):
            falls = found.falls + 1
            changes = {
                **_evidence(verdict, all_mails, found.counted_from, today),
                "falls": falls,
                "rest_until": now + recovery.rest(settings.SENDER_REST, falls),
            }
            logger.error(
                "%s fell back: %s, %s", found, verdict.cause.value, verdict.rate, extra={"agency": agency.slug}
            )
        moved += _move(found, after, agency, now=now, **changes)
    return moved


def current(sender_id: int) -> Recovery | None:
    """What keeps this sender back now, the longest rest first: its own recovery or its domain's."""
    running = Recovery.objects.filter(models.Q(sender=sender_id) | models.Q(domain__senders=sender_id), ended_at=None)
    return running.order_by(F("rest_until").desc(nulls_first=True), "pk").first()


def missing(found: Recovery) -> list[str]:
    """What is wrong with the DNS of the domain as last asked, while it waits for that."""
    if found.ended_at or found.stage != Stage.CHECKING:
        return []
    last = DnsCheck.objects.filter(domain=found.domain_of()).first()
    return dns.wrongs(last) if last else []


@dataclass(frozen=True, slots=True)
class Told:
    """One pause in words, for every edge."""

    id: int
    kind: str
    name: str
    cause: str
    cause_label: str
    stage: str
    stage_label: str
    per_day: int
    began_at: datetime
    rest_until: datetime | None
    mails: int
    bounced: int
    complained: int
    least_percent: float
    evidence: str
    missing: list[str]
    by: str
    why: str


def told() -> list[Told]:
    """What recovers in the agency entered now, the latest first."""
    rows = Recovery.objects.filter(ended_at=None).select_related("sender__domain", "domain")
    return [
        Told(
            id=one.pk,
            kind="sender" if one.sender_id else "domain",
            name=str(one.whose),
            cause=one.cause,
            cause_label=str(one.get_cause_display()),
            stage=one.stage,
            stage_label=str(one.get_stage_display()),
            per_day=CAPS[Stage(one.stage)],
            began_at=one.began_at,
            rest_until=one.rest_until if one.stage == Stage.RESTING else None,
            mails=one.mails,
            bounced=one.bounced,
            complained=one.complained,
            least_percent=round(one.least * 100, 3),
            evidence=recovery.in_words(one.mails, one.bounced, one.complained, one.least),
            missing=missing(one),
            by=one.by,
            why=one.why,
        )
        for one in rows
    ]


def of_account(account_id: int) -> models.QuerySet[Recovery]:
    """What recovers of the senders and domains that leave through this account."""
    return Recovery.objects.filter(
        models.Q(sender__active=True, sender__domain__homes__account=account_id)
        | models.Q(domain__homes__account=account_id),
        ended_at=None,
    ).order_by("pk")


def rest_over(account_id: int, *, now: datetime) -> datetime | None:
    """When the first rest ends of those of the senders and domains that leave through this account."""
    resting = of_account(account_id).filter(stage=Stage.RESTING, rest_until__gt=now).order_by()
    first: datetime | None = resting.aggregate(first=models.Min("rest_until"))["first"]
    return first


def outlooks(agency: Agency, *, now: datetime) -> tuple[dict[int, Outlook], dict[int, Outlook]]:
    """Mails a day that are to be expected of the active senders and of the domains that recover, by their ids."""
    found: tuple[dict[int, Outlook], dict[int, Outlook]] = ({}, {})
    today = local_day(now, agency.zone)
    for one in Recovery.objects.filter(ended_at=None).exclude(sender__active=False):
        over = local_day(one.rest_until, agency.zone) if one.rest_until else None
        expected = recovery.outlook(Stage(one.stage), over, today)
        if one.sender_id is not None:
            found[0][one.sender_id] = expected
        elif one.domain_id is not None:
            found[1][one.domain_id] = expected
    return found


def _check(found: Recovery, check: Check, now: datetime) -> bool:
    """Whether the DNS is in order, asked at most once an hour."""
    if found.checked_at is not None and now < found.checked_at + ASK_AGAIN:
        return False
    Recovery.objects.filter(pk=found.pk, ended_at=None).update(checked_at=now)
    return check(found.domain_of())


def _tally(found: Recovery, before: date | None = None) -> Tally:
    """Mails since it sends again, or those of the days before that."""
    days: Any = (
        SenderDay.objects.filter(sender=found.sender_id)
        if found.sender_id
        else DomainDay.objects.filter(domain=found.domain_id)
    ).filter(day__gte=found.counted_from)
    if before is not None:
        days = days.filter(day__lt=before)
    counts = days.aggregate(
        mails=Sum(F("used") + F("refused")), bounced=Sum(F("bounced") + F("refused")), complained=Sum("complained")
    )
    return Tally(*(counts[name] or 0 for name in ("mails", "bounced", "complained")))


def _evidence(verdict: Verdict, tally: Tally, first: date, last: date) -> dict[str, Any]:
    return {
        "cause": verdict.cause,
        "mails": tally.mails,
        "bounced": tally.bounced,
        "complained": tally.complained,
        "least": verdict.rate.least,
        "window_from": first,
        "window_to": last,
    }


def _pause(whose: Whose, agency: Agency, *, now: datetime, for_good: bool = False, **fields: Any) -> bool:
    owner = {"sender" if isinstance(whose, Sender) else "domain": whose}
    model = type(whose)._default_manager
    with transaction.atomic():
        # Two that pause it at the same time do so one after the other.
        model.select_for_update().get(pk=whose.pk)
        if Recovery.objects.filter(**owner, ended_at=None).exists():
            return False
        Recovery.objects.create(
            **owner,
            **fields,
            began_at=now,
            stage_at=now,
            counted_from=local_day(now, agency.zone),
            rest_until=None if for_good else now + settings.SENDER_REST,
        )
        model.filter(pk=whose.pk).update(cap=CAPS[Stage.RESTING])
    return True


def _move(found: Recovery, after: Stage | None, agency: Agency, *, now: datetime, **fields: Any) -> bool:
    """To this stage, or to its end, unless it has moved meanwhile."""
    model = type(found.whose)._default_manager
    changes: dict[str, Any]
    if after is None:
        # What it sent today was seen by whoever let it go on.
        changes = {"ended_at": now, "judged_from": local_day(now, agency.zone) + ONE_DAY}
    else:
        changes = {"stage": after, "stage_at": now}
        if after == Stage.FEW:
            changes["counted_from"] = local_day(now, agency.zone)
    with transaction.atomic():
        model.select_for_update().get(pk=found.whose.pk)
        same = Recovery.objects.filter(pk=found.pk, stage=found.stage, stage_at=found.stage_at, ended_at=None)
        if not same.update(**changes, **fields):
            return False
        model.filter(pk=found.whose.pk).update(cap=None if after is None else CAPS[after])
        visits.ask(now)
    return True


_OF = """
SELECT d.{column}, min(d.day), sum(d.used + d.refused), sum(d.bounced + d.refused), sum(d.complained)
FROM {days} d
WHERE d.day >= %s AND d.day >= COALESCE((
    SELECT max(r.judged_from) FROM senders_recovery r WHERE r.{column} = d.{column}
), '-infinity')
  AND NOT EXISTS (SELECT FROM senders_recovery r WHERE r.{column} = d.{column} AND r.ended_at IS NULL)
GROUP BY 1 HAVING sum(d.bounced + d.refused + d.complained) > 0 ORDER BY 1
"""
_OF_SENDERS = _OF.format(column="sender_id", days="senders_senderday")
_OF_DOMAINS = _OF.format(column="domain_id", days="senders_domainday")
