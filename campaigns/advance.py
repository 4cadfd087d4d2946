"""What follows for contacts who have had a step: its mail is queued, it is looked at again later, or that was all.

Whoever makes it worth a look sets `look_at` of the enrollment, in the transaction that does so: what was sent, and what
a person changed in a running sequence. So nothing is forgotten, and looking twice is harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Min

from campaigns import control, lifecycle, precedence, sequence
from campaigns.lifecycle import FollowUp
from campaigns.models import Campaign, Enrollment, Step
from campaigns.reasons import Reason
from providers.accounts.events import Reader
from tenants import context

AT_ONCE = 1_000
# A visit looks at so many enrollments; the next one goes on.
MOST = 50_000
_BUSY_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an enrollment stands. `position` is of the last live step that it has passed, `waiting` a follow-up that
    was queued and never tried; `busy` is whether a worker has one of its mails, or one is in doubt."""

    id: int
    campaign_id: int
    contact_id: int
    position: int
    since: datetime
    account_id: int
    opened_at: datetime | None
    clicked_at: datetime | None
    waiting: int | None
    waiting_step: int | None
    busy: bool


@dataclass(slots=True)
class _Outlook:
    """A campaign as far as it matters for what follows."""

    campaign: Campaign
    steps: list[tuple[int, sequence.Step]]


def advance(*, now: datetime) -> datetime | None:
    """Queue what follows in the agency entered now; return when to look again, None for never."""
    looked = 0
    while looked < MOST:
        # Before any enrollment is locked, as everybody does who is at a campaign's state.
        waiting = Enrollment.objects.filter(look_at__lte=now).order_by("look_at")
        control.reopen(set(waiting.values_list("campaign", flat=True)[:AT_ONCE]))
        with transaction.atomic():
            places = _take(now)
            if places:
                _go_on(places, now)
        looked += len(places)
        if len(places) < AT_ONCE:
            break
    first: datetime | None = Enrollment.objects.filter(look_at__isnull=False).aggregate(first=Min("look_at"))["first"]
    return first


def _take(now: datetime) -> list[_Place]:
    """Lock enrollments whose time has come, and read all that decides about them."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [now, AT_ONCE])
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return []
        # In a statement of its own, which sees what was committed before the locks were had.
        cursor.execute(_PLACES, {"ids": ids, "human": Reader.HUMAN})
        return [_Place(*row) for row in cursor.fetchall()]


def _go_on(places: Sequence[_Place], now: datetime) -> None:
    outlooks = _outlooks({place.campaign_id for place in places})
    zone = context.current_agency().zone
    mails: list[FollowUp] = []
    withdrawn: list[int] = []
    replanned: list[tuple[int, datetime]] = []
    rows: list[tuple[int, datetime | None, str, int | None, datetime | None]] = []
    for place in places:
        outlook = outlooks[place.campaign_id]
        if outlook.campaign.status == Campaign.Status.CANCELLED:
            rows.append((place.id, None, Reason.CAMPAIGN_CANCELLED, None, None))
            continue
        if place.busy:
            rows.append((place.id, now + _BUSY_FOR, "", None, None))
            continue
        following = sequence.follow(
            [step for position, step in outlook.steps if position > place.position],
            sequence.Standing(place.since, place.opened_at, place.clicked_at),
            outlook.campaign.schedule(zone),
            now=now,
        )
        match following:
            case sequence.Queue(step_id, due_at):
                rows.append((place.id, None, "", None, None))
                if place.waiting is not None and place.waiting_step == step_id:
                    replanned.append((place.waiting, due_at))
                    continue
                head_start = precedence.head_start(outlook.campaign.traffic_class, follow_up=True)
                mails.append(
                    FollowUp(
                        place.id, place.campaign_id, place.contact_id, step_id, place.account_id, due_at, head_start
                    )
                )
            case sequence.Wait(until, passed, since):
                rows.append((place.id, until, "", passed, since if passed else None))
            case sequence.End(reason):
                rows.append((place.id, None, reason, None, None))
        if place.waiting is not None:
            withdrawn.append(place.waiting)
    lifecycle.withdraw(withdrawn)
    lifecycle.postpone_steps(replanned)
    lifecycle.follow_up(mails)
    with connection.cursor() as cursor:
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        cursor.execute(_LOOKED, [now, *columns])


def _outlooks(campaign_ids: set[int]) -> dict[int, _Outlook]:
    found = {one.pk: _Outlook(one, []) for one in Campaign.objects.filter(pk__in=campaign_ids)}
    for step in Step.objects.filter(campaign__in=campaign_ids, position__isnull=False).order_by("position"):
        found[step.campaign_id].steps.append((step.position or 0, of(step)))
    return found


def of(step: Step) -> sequence.Step:
    """The step as far as it matters for what follows."""
    return sequence.Step(step.pk, step.delay, step.unit, step.condition, step.otherwise)


_LOCK = """
SELECT id FROM campaigns_enrollment WHERE look_at <= %s ORDER BY look_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
# The last mail tells through which account the thread goes, and what a person did with it. What was queued and never
# tried may be taken back; a step that was taken out has no position, and the last one before it counts.
_PLACES = """
SELECT e.id, e.campaign_id, e.contact_id, COALESCE(passed.position, last.position, 1), e.passed_at, last.account_id,
       told.opened_at, told.clicked_at, waiting.id, waiting.step_id,
       EXISTS (SELECT FROM campaigns_message b WHERE b.enrollment_id = e.id AND b.status IN ('claimed', 'unknown'))
FROM campaigns_enrollment e
LEFT JOIN campaigns_step passed ON passed.id = e.passed_id
CROSS JOIN LATERAL (
    SELECT m.key, m.account_id, max(s.position) OVER () AS position
    FROM campaigns_message m JOIN campaigns_step s ON s.id = m.step_id
    WHERE m.enrollment_id = e.id AND m.status = 'sent' ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
) last
LEFT JOIN LATERAL (
    SELECT min(v.at) FILTER (WHERE v.type = 'opened') AS opened_at,
           min(v.at) FILTER (WHERE v.type = 'clicked') AS clicked_at
    FROM senders_event v
    WHERE v.message = last.key AND v.type IN ('opened', 'clicked') AND v.reader = %(human)s
      AND EXISTS (SELECT FROM campaigns_step c WHERE c.campaign_id = e.campaign_id AND c.condition <> '')
) told ON true
LEFT JOIN LATERAL (
    SELECT w.id, w.step_id FROM campaigns_message w
    WHERE w.enrollment_id = e.id AND w.status = 'scheduled' AND w.attempts = 0 AND w.sendings = 0
    ORDER BY w.id DESC LIMIT 1
) waiting ON true
WHERE e.id = ANY(%(ids)s)
"""
_LOOKED = """
UPDATE campaigns_enrollment e
SET look_at = n.look_at, ended = n.ended, ended_at = CASE WHEN n.ended <> '' THEN %s END,
    passed_id = COALESCE(n.passed_id, e.passed_id), passed_at = COALESCE(n.passed_at, e.passed_at)
FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::bigint[], %s::timestamptz[])
  AS n (id, look_at, ended, passed_id, passed_at)
WHERE e.id = n.id
"""
