"""One of a step's texts is chosen for the contacts to come, by the machine or by a person, or the choice is taken back.

Who was assigned another keeps it. The machine looks once a day; what it did not choose it leaves to chance and weight.
"""

import logging
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from campaigns import results
from campaigns.experiments import Verdict
from campaigns.models import Campaign, Step, VariantChoice

logger = logging.getLogger(__name__)
LIVE = (Campaign.Status.RUNNING, Campaign.Status.PAUSED)


class ChoiceRefusedError(ValueError):
    """Nothing was chosen; says why and what to do."""


def decide(*, now: datetime) -> list[VariantChoice]:
    """Choose where a step of the agency entered now is to have its best text chosen, and which that is is known."""
    steps = Step.objects.filter(auto_choice=True, chosen="", position__isnull=False, campaign__status__in=LIVE)
    made = []
    for step in steps.filter(variants__weight__gt=0).distinct().select_related("campaign"):
        found = results.of(step)
        if found.verdict == Verdict.WINNER and (one := _choose(step, found, found.leader, by="", now=now)):
            logger.info("a variant was chosen", extra={"step": step.pk, "variant": one.letter, **found.evidence})
            made.append(one)
    return made


def choose(step: Step, letter: str, *, by: str, now: datetime) -> VariantChoice:
    """A person chooses a text for the contacts to come. Raises ChoiceRefusedError."""
    found = results.of(step)
    if step.campaign.status not in LIVE or letter not in {one.letter for one in found.texts if one.letter}:
        raise ChoiceRefusedError(_("Choose a variant of a step of a campaign that runs or is paused."))
    made = _choose(step, found, letter, by=by, now=now)
    if made is None:
        raise ChoiceRefusedError(_("A variant is chosen already: take that back first."))
    return made


def take_back(step: Step, *, by: str, now: datetime) -> VariantChoice:
    """A person has all texts tried again; the machine does not choose any more unless it is told to.

    Mails of the meantime had no other beside them, so the comparison begins anew. Raises ChoiceRefusedError.
    """
    with transaction.atomic():
        changed = Step.objects.filter(pk=step.pk).exclude(chosen="")
        if not changed.update(chosen="", chosen_at=None, auto_choice=False, compared_since=now):
            raise ChoiceRefusedError(_("There is no choice to be taken back."))
        return VariantChoice.objects.create(step=step, by=by, at=now)


def _choose(step: Step, found: results.StepResult, letter: str, *, by: str, now: datetime) -> VariantChoice | None:
    with transaction.atomic():
        free = Step.objects.filter(pk=step.pk, chosen="")
        if not by:
            free = free.filter(auto_choice=True)
        if not free.update(chosen=letter, chosen_at=now):
            return None
        return VariantChoice.objects.create(step=step, letter=letter, by=by, at=now, evidence=found.evidence)
