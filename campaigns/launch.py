"""A draft becomes a running campaign: plan purely, then write set by set."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from campaigns import draft, erased, erasure, feasibility, files, forecast, lifecycle, rendering, sources
from campaigns.models import Campaign
from campaigns.planning import Plan, PlanRefusedError, Share
from campaigns.variants import Text
from tenants import context, visits


class LaunchRefusedError(ValueError):
    """The campaign is not fit to be launched; `problems` says what is wrong and what to do, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Launched:
    """What a launch queued: mails per account, and how many are held because no account takes them without consent."""

    total: int
    shares: list[Share]
    held: int = 0


def launch(campaign: Campaign, *, now: datetime) -> Launched:
    """Enroll the list, distribute it over the accounts and queue the first step, in one transaction.

    Raises LaunchRefusedError with nothing changed. Two launches at once: the second is refused.
    """
    with transaction.atomic():
        started = Campaign.objects.filter(pk=campaign.pk, status=Campaign.Status.DRAFT).update(
            status=Campaign.Status.RUNNING, launched_at=now
        )
        if not started:
            raise LaunchRefusedError([_("Only a draft can be launched; this campaign is not one (any more).")])
        steps = list(campaign.steps.filter(position__isnull=False).prefetch_related("variants"))
        texts = [text for step in steps for text in step.texts]
        if problems := [*check_texts(campaign, texts), *files.problems(steps), *_check_means(campaign, now=now)]:
            raise LaunchRefusedError(problems)
        total, consented = _enroll(campaign, now)
        if not total:
            raise LaunchRefusedError(
                [_("The list “%(list)s” has nobody to write to: import contacts first.") % {"list": campaign.list}]
            )
        plan = _plan(campaign, consented, total - consented, now=now)
        if plan.held == total:
            raise LaunchRefusedError([draft.nobody_consented(total)])
        queued = lifecycle.schedule(campaign, steps[0].pk, plan, due_at=now)
        if queued != total:
            raise RuntimeError(f"{total} were enrolled but {queued} queued.")
        sources.hold(list_id=campaign.list_id)
        # A fresh load has no statistics, and the queue would be sorted instead of read in order.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE campaigns_message")
        visits.ask(now)
        campaign.refresh_from_db()
        forecast.remember(campaign, now=now)
    return Launched(total, plan.shares, plan.held)


def join(campaign: Campaign, *, now: datetime) -> Launched:
    """Enroll who has come into the list since, and queue the first step for them, in one transaction.

    Raises LaunchRefusedError with nothing changed.
    """
    with transaction.atomic():
        found = Campaign.objects.select_for_update().get(pk=campaign.pk)
        if found.status not in (Campaign.Status.RUNNING, Campaign.Status.PAUSED):
            raise LaunchRefusedError([_("Contacts join a campaign while it runs or is paused.")])
        last = found.enrollments.aggregate(last=Max("pk"))["last"] or 0
        total, consented = _enroll(found, now)
        if not total:
            raise LaunchRefusedError([_("The list has nobody whom this campaign does not have already.")])
        plan = _plan(found, consented, total - consented, now=now)
        first = found.steps.filter(position__isnull=False)[0]
        lifecycle.schedule(found, first.pk, plan, due_at=now, after=last)
        sources.hold(list_id=found.list_id)
        visits.ask(now)
    return Launched(total, plan.shares, plan.held)


def check_texts(campaign: Campaign, texts: Sequence[Text]) -> list[str]:
    """What is wrong with these texts of a campaign, one line each: parse errors, unknown variables, a bad sample."""
    if not texts:
        return [_("The campaign has no text: write its first mail.")]
    known = {*rendering.FIELDS, *rendering.OF_SENDER, rendering.UNSUBSCRIBE, *_attributes(campaign)}
    problems = []
    for one in texts:
        try:
            parsed = rendering.parse(one.subject, one.html, one.text)
            if unknown := sorted(rendering.variables(parsed) - known):
                problems.append(
                    _("Step %(step)s names %(unknown)s, which no contact of the list has. Known: %(known)s.")
                    % {"step": one.name, "unknown": ", ".join(unknown), "known": ", ".join(sorted(known))}
                )
                continue
            follows = one.place != 1 and not one.subject
            rendering.render(parsed, dict.fromkeys(known, "x"), "x" if follows else "")
        except rendering.NotRenderedError as error:
            problems.append(_("Step %(step)s: %(why)s") % {"step": one.name, "why": error})
    return problems


def _check_means(campaign: Campaign, *, now: datetime) -> list[str]:
    why = feasibility.obstacle(campaign, context.current_agency(), now=now)
    return [why.text] if why else []


def _attributes(campaign: Campaign) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(_ATTRIBUTES, [campaign.list_id])
        return {row[0] for row in cursor.fetchall()}


def _enroll(campaign: Campaign, now: datetime) -> tuple[int, int]:
    """How many there are, and how many of them have given consent."""
    for contact in list(erased.back(campaign.list_id)):
        erasure.erase(contact.email, by="", clock=lambda: now)
    with connection.cursor() as cursor:
        cursor.execute(_ENROLL, draft.audience(campaign))
        total, consented = cursor.fetchone()
        return total, consented


def _plan(campaign: Campaign, consented: int, others: int, *, now: datetime) -> Plan:
    try:
        return draft.plan(campaign, consented, others, now=now)
    except PlanRefusedError as error:
        raise LaunchRefusedError([str(error)]) from None


_ENROLL = f"""
WITH enrolled AS (
    INSERT INTO campaigns_enrollment (campaign_id, contact_id, consented)
    SELECT %(campaign)s, a.id, a.consented FROM ({draft.AUDIENCE}) a
    ON CONFLICT (campaign_id, contact_id) DO NOTHING
    RETURNING consented
)
SELECT count(*), count(*) FILTER (WHERE consented) FROM enrolled
"""  # noqa: S608 - of constants
_ATTRIBUTES = """
SELECT DISTINCT jsonb_object_keys(p.attributes)
FROM campaigns_subscription s JOIN campaigns_contact p ON p.id = s.contact_id
WHERE s.list_id = %s AND s.active AND jsonb_typeof(p.attributes) = 'object'
"""
