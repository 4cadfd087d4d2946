"""Pure: what comes next for a contact in a campaign, and when.

the last mail was sent ─► the next step has no condition    its mail is queued, due after its delay
                       ─► it has one, the delay runs        look again when it is over
                       ─► the delay is over, it is met      its mail is queued, due at once
                       ─► it is not met                     the step is passed over, or that was all
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from campaigns import pace
from campaigns.reasons import Reason


class Condition(models.TextChoices):
    """What a contact must have done with the mail before, until the step's delay is over. Programs do nothing."""

    NONE = "", _("Nothing: everybody gets it")
    OPENED = "opened", _("Opened the mail before")
    CLICKED = "clicked", _("Followed a link of the mail before")
    NOT_OPENED = "not_opened", _("Did not open the mail before")


class Otherwise(models.TextChoices):
    """What becomes of a contact who does not meet a step's condition."""

    NEXT = "next", _("Pass over to the next step")
    END = "end", _("Write to them no more")


@dataclass(frozen=True, slots=True)
class Step:
    """A step that comes after the one that a contact has passed; its delay counts from there."""

    id: int
    delay: int
    unit: str
    condition: str = Condition.NONE
    otherwise: str = Otherwise.NEXT


@dataclass(frozen=True, slots=True)
class Standing:
    """Since when a contact waits for what comes next, and when a person first opened and clicked the last mail."""

    since: datetime
    opened_at: datetime | None = None
    clicked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A mail of this step is due then."""

    step_id: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again then. `passed` is the last step that was passed over, `since` when; None where none was."""

    until: datetime
    passed: int | None
    since: datetime


@dataclass(frozen=True, slots=True)
class End:
    """Nothing comes after; `reason` is empty where the contact has had all that there was for them."""

    reason: Reason | str = ""


def follow(steps: Sequence[Step], standing: Standing, schedule: pace.Schedule, *, now: datetime) -> Queue | Wait | End:
    """What comes next, `steps` being those that the contact has not passed, in their order.

    The delay of what follows a step that is passed over counts from when that was.
    """
    since, passed = standing.since, None
    for step in steps:
        due_at = pace.later(schedule, since, step.delay, step.unit)
        if step.condition == Condition.NONE:
            return Queue(step.id, due_at)
        if now < due_at:
            return Wait(due_at, passed, since)
        if MET[Condition(step.condition)](standing, due_at):
            return Queue(step.id, due_at)
        if step.otherwise == Otherwise.END:
            return End(Reason.CONDITION_NOT_MET)
        since, passed = due_at, step.id
    return End()


def _opened(standing: Standing, until: datetime) -> bool:
    """Who followed a link has had the mail open, whatever the pixel says."""
    return any(at is not None and at <= until for at in (standing.opened_at, standing.clicked_at))


def _clicked(standing: Standing, until: datetime) -> bool:
    return standing.clicked_at is not None and standing.clicked_at <= until


MET: Mapping[Condition, Callable[[Standing, datetime], bool]] = {
    Condition.OPENED: _opened,
    Condition.CLICKED: _clicked,
    Condition.NOT_OPENED: lambda standing, until: not _opened(standing, until),
}
