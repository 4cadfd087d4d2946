"""What a person may do with a campaign that was launched. The only writer of its state after launch."""

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from campaigns import lifecycle
from campaigns.models import Campaign, Message

Status = Campaign.Status


def pause(campaign: Campaign) -> bool:
    """Nothing more leaves, not even what a worker holds already; return False if it was not running."""
    return _move(campaign, [Status.RUNNING], Status.PAUSED)


def resume(campaign: Campaign) -> bool:
    """Go on where it was paused; return False if it was not paused."""
    return _move(campaign, [Status.PAUSED], Status.RUNNING)


def cancel(campaign: Campaign, *, now: datetime) -> bool:
    """Nothing more leaves, for good; return False if it was not launched or is over."""
    with transaction.atomic():
        done = _move(campaign, [Status.RUNNING, Status.PAUSED], Status.CANCELLED, finished_at=now)
        if done:
            lifecycle.cancel(campaign)
    return done


def finish_done(*, now: datetime) -> int:
    """Mark running campaigns with nothing left to send as finished; return how many."""
    open_messages = Message.objects.filter(
        campaign=OuterRef("pk"), status__in=[Message.Status.SCHEDULED, Message.Status.CLAIMED]
    )
    return Campaign.objects.filter(~Exists(open_messages), status=Status.RUNNING).update(
        status=Status.FINISHED, finished_at=now
    )


def cancel_strays() -> int:
    """Cancel what a worker gave back in the moment when its campaign was cancelled; return how much that was."""
    waiting = Message.objects.filter(campaign=OuterRef("pk"), status=Message.Status.SCHEDULED)
    strays = Campaign.objects.filter(Exists(waiting), status=Status.CANCELLED)
    return sum(lifecycle.cancel(campaign) for campaign in strays)


def _move(campaign: Campaign, before: list[Status], after: Status, **fields: datetime) -> bool:
    changed = Campaign.objects.filter(pk=campaign.pk, status__in=before).update(status=after, **fields)
    if changed:
        campaign.refresh_from_db()
    return bool(changed)
