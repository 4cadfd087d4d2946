"""Pure: how a sender or a domain of which too much came back returns to its normal work, stage by stage.

It sends nothing for a rest, in which what has left already comes back and the lists of receivers, which mostly keep an
address for a day, forget it. Then its DNS must be in order. Then it sends a few mails a day, and more, until enough of
them stayed away. In these stages few mails are judged without a floor: two bounces of five are surely above 2 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.db import models
from django.utils.formats import number_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from providers.senders.rates import LEAST_MAILS, Rate, too_high
from providers.senders.warmup import BOUNCE_RATE, COMPLAINT_RATE

ONE_DAY = timedelta(days=1)
# The days whose mails are judged, while it works normally.
WINDOW = timedelta(days=7)
# Who fell back rests three times as long as before, up to this.
LONGEST_REST, AGAIN = timedelta(hours=72), 3


class Stage(models.TextChoices):
    """Where it stands on the way back."""

    RESTING = "resting", _("Sends nothing")
    CHECKING = "checking", _("Waits until its DNS is in order")
    FEW = "few", _("5 mails a day")
    MORE = "more", _("25 mails a day")


class Cause(models.TextChoices):
    """Why it was paused."""

    BOUNCES = "bounces", _("Too many mails come back")
    COMPLAINTS = "complaints", _("Too many recipients call its mails spam")
    PERSON = "person", _("A person paused it")


CAPS = {Stage.RESTING: 0, Stage.CHECKING: 0, Stage.FEW: 5, Stage.MORE: 25}
# So many mails, since it sends again, of days that are over and that nobody sent back or complained about, end a stage.
CLEAN = {Stage.FEW: 10, Stage.MORE: 60}
_NEXT = {Stage.RESTING: Stage.CHECKING, Stage.CHECKING: Stage.FEW, Stage.FEW: Stage.MORE, Stage.MORE: None}


@dataclass(frozen=True, slots=True)
class Tally:
    """Mails that were sent or refused at once, and how many of them came back or were complained about."""

    mails: int = 0
    bounced: int = 0
    complained: int = 0

    @property
    def clean(self) -> int:
        """Mails of which nothing bad was heard."""
        return max(0, self.mails - self.bounced - self.complained)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is too high, and the evidence."""

    cause: Cause
    rate: Rate


def judge(tally: Tally, *, floor: int = LEAST_MAILS) -> Verdict | None:
    """What is surely too high of so many mails; None where nothing is, or where they are fewer than the floor."""
    for cause, count, limit in (
        (Cause.COMPLAINTS, tally.complained, COMPLAINT_RATE),
        (Cause.BOUNCES, tally.bounced, BOUNCE_RATE),
    ):
        if rate := too_high(min(count, tally.mails), tally.mails, limit, floor=floor):
            return Verdict(cause, rate)
    return None


def in_words(mails: int, bounced: int, complained: int, least: float) -> str:
    """The evidence of a pause, with the rate that it surely exceeds; empty where there is none."""
    if not mails:
        return ""
    text = gettext(
        "%(bounced)d came back and %(complained)d were complained about, of %(mails)d mails: surely above %(least)s %%"
    )
    above = number_format(least * 100, 2)
    return text % {"bounced": bounced, "complained": complained, "mails": mails, "least": above}


def next_stage(stage: Stage, *, rested: bool, in_order: bool, all_mails: Tally, over: Tally) -> Stage | None:
    """The stage after this one, or the same, or None: it works normally again.

    `all_mails` are those since it sends again, `over` those of them of days that are over; `rested` is whether its rest
    is over and `in_order` whether its DNS is.
    """
    if stage == Stage.RESTING:
        return Stage.CHECKING if rested else stage
    if stage == Stage.CHECKING:
        return Stage.FEW if in_order else stage
    if judge(all_mails, floor=1):
        return Stage.RESTING
    return _NEXT[stage] if over.clean >= CLEAN[stage] else stage


def rest(first: timedelta, falls: int) -> timedelta:
    """How long it rests when it has fallen back so many times."""
    longer: timedelta = first * AGAIN**falls
    return max(first, min(LONGEST_REST, longer))


def outlook(stage: Stage, rest_over: date | None, today: date) -> tuple[tuple[date, int], ...]:
    """Mails a day that are to be expected: (before this day, so many), in order, if all goes well and it has enough to
    send. `rest_over` is the day on which its rest ends, if it does by itself."""
    caps: list[tuple[date, int]] = []
    day = today
    if stage == Stage.RESTING:
        if rest_over is None:
            return ((date.max, 0),)
        day = max(today, rest_over)
        caps.append((day, 0))
    if stage == Stage.CHECKING:
        day = today + ONE_DAY
        caps.append((day, 0))
    before = 0
    for after, clean in CLEAN.items():
        if stage != Stage.MORE or after == Stage.MORE:
            day += -(-(clean - before) // CAPS[after]) * ONE_DAY
            caps.append((day, CAPS[after]))
        before = clean
    return tuple(caps)


def cap_on(caps: Sequence[tuple[date, int]], day: date) -> int | None:
    """Mails on this day by an outlook; None is as many as its own limits allow."""
    return next((cap for before, cap in caps if day < before), None)
