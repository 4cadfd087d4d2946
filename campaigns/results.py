"""What came of each step of a campaign, and of each text that was tried for it. Opens and clicks are those by people.

Texts are compared by mails that went out side by side: with a letter, since they are what they are, and until one of
them was chosen. All of them count from the moment they are sent, for none has had longer to be answered than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor
from typing import Any

from django.db import connection
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from campaigns import experiments
from campaigns.experiments import Finding, Tried, Verdict
from campaigns.models import Campaign, Metric, Step, VariantChoice


@dataclass(frozen=True, slots=True)
class Counts:
    """Mails by what became of them; None is not measured."""

    due: int = 0
    sent: int = 0
    opened: int | None = 0
    clicked: int | None = 0
    replied: int = 0
    bounced: int = 0
    unsubscribed: int = 0


@dataclass(frozen=True, slots=True)
class TextResult:
    """One text of a step. `letter` is empty for mails from before it had variants. `compared` of its mails are compared
    by what `did` of them; `best` is the probability that it is the best, None where it is not compared."""

    letter: str
    subject: str
    weight: int
    counts: Counts
    compared: int = 0
    did: int = 0
    best: float | None = None
    loss: float | None = None

    @property
    def percent(self) -> int | None:
        """`best` in percent, 100 only where there is no doubt left."""
        return None if self.best is None else floor(100 * self.best + 1e-9)


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step. `place` is None for one that was taken out; `more` is as in a Finding."""

    id: int
    place: int | None
    subject: str
    counts: Counts
    texts: list[TextResult] = field(default_factory=list)
    compare_by: str = Metric.REPLIES
    auto_choice: bool = False
    sure_at: int = 95
    chosen: str = ""
    chosen_at: datetime | None = None
    verdict: str = ""
    leader: str = ""
    more: int | None = None
    told: str = ""

    @property
    def metric(self) -> str:
        """By what its texts are compared, in words."""
        return str(Metric(self.compare_by).label)

    @property
    def evidence(self) -> dict[str, Any]:
        """Plain values, to be kept with a choice."""
        return {
            "compare_by": self.compare_by,
            "sure_at": self.sure_at,
            "verdict": self.verdict,
            "leader": self.leader,
            "texts": {one.letter: [one.compared, one.did, one.best, one.loss] for one in self.texts if one.letter},
        }


def results(campaign: Campaign) -> list[StepResult]:
    """Each step of the campaign, those that were taken out last."""
    found = campaign.steps.order_by("position", "pk").prefetch_related("variants")
    rows = _rows(campaign)
    last = {one.step_id: one for one in VariantChoice.objects.filter(step__campaign=campaign).order_by("at", "id")}
    return [
        _result(campaign, step, rows.get(step.pk, []), last.get(step.pk))
        for step in found
        if step.position is not None or step.pk in rows
    ]


def of(step: Step) -> StepResult:
    """One step of its campaign."""
    return next(one for one in results(step.campaign) if one.id == step.pk)


@dataclass(frozen=True, slots=True)
class _Row:
    variant: str
    compared: bool
    counts: Sequence[int]


def _rows(campaign: Campaign) -> dict[int, list[_Row]]:
    found: dict[int, list[_Row]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, [campaign.pk])
        for step_id, variant, compared, *counts in cursor.fetchall():
            found.setdefault(step_id, []).append(_Row(variant, bool(compared), counts))
    return found


def _counts(campaign: Campaign, rows: Sequence[_Row]) -> Counts:
    due, sent, opened, clicked, replied, bounced, left = (sum(one.counts[i] for one in rows) for i in range(7))
    return Counts(
        due,
        sent,
        opened if opened or campaign.track_opens else None,
        clicked if clicked or campaign.track_clicks else None,
        replied,
        bounced,
        left,
    )


def _result(campaign: Campaign, step: Step, rows: Sequence[_Row], last: VariantChoice | None) -> StepResult:
    whole = _counts(campaign, rows)
    base = StepResult(step.pk, step.position, step.subject, whole)
    if len(step.texts) < 2:
        return base
    which = _WHICH[step.compare_by]
    tried: dict[str, Tried] = {}
    for text in step.texts:
        compared = [one.counts for one in rows if one.variant == text.letter and one.compared]
        if text.weight:
            tried[text.letter] = Tried(sum(one[1] for one in compared), sum(one[which] for one in compared))
    finding = None
    if len(tried) > 1:
        finding = experiments.judge(tried, least=step.least_sends, sure_at=step.sure_at / 100)
    texts = []
    for text in step.texts:
        counts = _counts(campaign, [one for one in rows if one.variant == text.letter])
        one = TextResult(text.letter, text.subject, text.weight, counts)
        if finding and text.letter in tried:
            sent, did = int(tried[text.letter].sent), int(tried[text.letter].did)
            best, loss = finding.posterior.best[text.letter], finding.posterior.loss[text.letter]
            one = TextResult(text.letter, text.subject, text.weight, counts, sent, did, best, loss)
        texts.append(one)
    before = _counts(campaign, [one for one in rows if not one.variant])
    if before.sent:
        texts.append(TextResult("", step.subject, 0, before))
    return StepResult(
        step.pk,
        step.position,
        step.subject,
        whole,
        texts,
        step.compare_by,
        step.auto_choice,
        step.sure_at,
        step.chosen,
        step.chosen_at,
        str(finding.verdict) if finding else "",
        finding.leader if finding else "",
        finding.more if finding else None,
        " ".join(filter(None, (_chosen(step, last), _said(finding, step) if finding else ""))),
    )


def _chosen(step: Step, last: VariantChoice | None) -> str:
    if not step.chosen or not step.chosen_at:
        return ""
    words = {"letter": step.chosen, "day": date_format(step.chosen_at, "DATE_FORMAT"), "who": last.by if last else ""}
    if words["who"]:
        return _("New contacts get %(letter)s since %(day)s, chosen by %(who)s.") % words
    return _("New contacts get %(letter)s since %(day)s, chosen automatically.") % words


def _said(finding: Finding, step: Step) -> str:
    leader, best = finding.leader, floor(100 * finding.posterior.best[finding.leader] + 1e-9)
    more = number_format(finding.more, use_l10n=True, force_grouping=True) if finding.more else ""
    match finding.verdict:
        case Verdict.EARLY:
            said = _("Too early to tell: each variant needs %(least)d mails first.") % {"least": step.least_sends}
        case Verdict.WINNER:
            said = _("%(letter)s is the best: %(best)d %% probable, and sure enough however often you looked.") % {
                "letter": leader,
                "best": best,
            }
        case Verdict.SAME:
            said = _("No difference that matters: whichever you choose is as good as the best.")
        case _:
            said = _(
                "Not decided: %(letter)s leads and is the best with a probability of %(best)d %%. "
                "To name a winner, %(bar)s %% are needed, for whoever looks often sees chance lead often."
            ) % {
                "letter": leader,
                "best": best,
                "bar": number_format(round(100 * experiments.bar(step.sure_at / 100), 1), 1),
            }
    if finding.verdict in (Verdict.EARLY, Verdict.OPEN):
        said += " " + (
            _("If it goes on like this, about %(more)s more mails are needed for an answer.") % {"more": more}
            if more
            else _("If it goes on like this, more than %(most)s more mails are needed for an answer.")
            % {"most": number_format(experiments.MOST_MORE, use_l10n=True, force_grouping=True)}
        )
    if step.compare_by == Metric.OPENS:
        said += " " + _("Opens are the least sure: programs open mails too, and people read without being seen.")
    return said


# Where in a row of _COUNTS is what is compared. To ask for no more mails is a reply, but none to choose a text by.
_WHICH: dict[str, int] = {Metric.OPENS: 2, Metric.CLICKS: 3, Metric.REPLIES: 7}
_COUNTS = """
SELECT m.step_id, m.variant,
       m.variant <> '' AND m.sent_at >= COALESCE(s.compared_since, '-infinity') AND
           m.sent_at <= COALESCE(s.chosen_at, 'infinity'),
       count(*), count(*) FILTER (WHERE m.status = 'sent'), count(*) FILTER (WHERE f.opened_by = 'human'),
       count(*) FILTER (WHERE f.clicked_by = 'human'), count(f.replied_at), count(f.bounced_at),
       count(f.unsubscribed_at), count(f.replied_at) FILTER (WHERE f.unsubscribed_at IS NULL)
FROM campaigns_message m
JOIN campaigns_step s ON s.id = m.step_id
LEFT JOIN campaigns_messagefacts f ON f.message_id = m.id
WHERE m.campaign_id = %s
GROUP BY 1, 2, 3
"""
