"""What may be done with a campaign that was launched. The only writer of its state after launch."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef

from campaigns import lifecycle
from campaigns.models import Campaign, Enrollment, Message
from campaigns.reasons import PauseReason
from tenants import visits

Status = Campaign.Status
# Each batch of mails is short enough to keep nobody waiting, and so many of them keep no other agency waiting.
PARKED_AT_ONCE, BATCHES = 10_000, 20
_NO_REASON = {"paused_reason": "", "paused_detail": ""}


def pause(campaign: Campaign, *, reason: PauseReason | None = None, detail: str = "") -> bool:
    """Nothing more leaves, not even what a worker holds already; return False if it was not running.

    `reason` is why the machine does so, and `detail` which accounts that is about, or the evidence. The next minute's
    work parks its mails; until then claims read past them.
    """
    return _move(
        campaign,
        [Status.RUNNING],
        Status.PAUSED,
        paused_reason=reason or "",
        paused_detail=detail[:300] if reason else "",
    )


def resume(campaign: Campaign, *, now: datetime) -> bool:
    """Go on where it was paused; return False if it was not paused.

    Its days and hours may be others now, so what was set aside for them is looked at again. Of a large campaign's mails
    some come back at once, and the rest with the next minute's work.
    """
    with transaction.atomic():
        done = _move(campaign, [Status.PAUSED], Status.RUNNING, resumed_at=now, **_NO_REASON)
        if done:
            lifecycle.look_again(campaign, now=now)
            lifecycle.follow_pauses(now=now, at_most=PARKED_AT_ONCE)
            visits.ask(now)
    return done


def follow_pauses(*, now: datetime) -> bool:
    """Park mails of paused campaigns, also what workers gave back since, and bring back the rest of those of resumed
    ones; return whether some may be left."""
    return all(lifecycle.follow_pauses(now=now, at_most=PARKED_AT_ONCE) == PARKED_AT_ONCE for _ in range(BATCHES))


def cancel(campaign: Campaign, *, now: datetime) -> bool:
    """Nothing more leaves, for good; return False if it was not launched or is over."""
    with transaction.atomic():
        done = _move(campaign, [Status.RUNNING, Status.PAUSED], Status.CANCELLED, finished_at=now, **_NO_REASON)
        if done:
            lifecycle.cancel(campaign)
    return done


def finish_done(*, now: datetime) -> int:
    """Mark running campaigns with nothing left to send, now or later, as finished; return how many."""
    open_messages = Message.objects.filter(
        campaign=OuterRef("pk"), status__in=[Message.Status.SCHEDULED, Message.Status.CLAIMED]
    )
    to_follow = Enrollment.objects.filter(campaign=OuterRef("pk"), look_at__isnull=False)
    return Campaign.objects.filter(~Exists(open_messages), ~Exists(to_follow), status=Status.RUNNING).update(
        status=Status.FINISHED, finished_at=now
    )


def reopen(campaign_ids: Iterable[int]) -> int:
    """Go on with those of these campaigns that are finished, because more is to be sent; return how many."""
    return Campaign.objects.filter(pk__in=list(campaign_ids), status=Status.FINISHED).update(
        status=Status.RUNNING, finished_at=None
    )


def cancel_strays() -> int:
    """Cancel what a worker gave back in the moment when its campaign was cancelled; return how much that was."""
    waiting = Message.objects.filter(campaign=OuterRef("pk"), status=Message.Status.SCHEDULED)
    strays = Campaign.objects.filter(Exists(waiting), status=Status.CANCELLED)
    return sum(lifecycle.cancel(campaign) for campaign in strays)


def _move(campaign: Campaign, before: list[Status], after: Status, **fields: Any) -> bool:
    changed = Campaign.objects.filter(pk=campaign.pk, status__in=before).update(status=after, **fields)
    if changed:
        campaign.refresh_from_db()
    return bool(changed)
