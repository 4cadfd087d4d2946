"""The steps of a campaign are changed: what happens to whom is said before it is saved, and by the same reckoning.

Contacts who wait for what comes next are looked at anew by `advance`; what was sent stays sent, and whoever has had all
mails gets those that come after them now.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns import advance, files, launch, lifecycle, pace, sequence, variants
from campaigns.models import Campaign, FormerSubject, Message, Step, Variant, VariantChoice
from tenants import context, visits

MOST_STEPS = 12


class ChangeRefusedError(ValueError):
    """The steps are as they were; `problems` says what is wrong and what to do, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True, slots=True)
class WantedVariant:
    """A further text of a step as it is to be; an empty `letter` is a new one, which gets the next that is free."""

    letter: str = ""
    subject: str = ""
    html: str = ""
    text: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A step as it is to be; `id` None is a new one. What is not said is as a new step has it.

    Of what concerns variants, None is as it was. One that is not named any more is taken out of a draft; else mails
    have it, and nobody new gets it.
    """

    id: int | None = None
    subject: str = ""
    html: str = ""
    text: str = ""
    delay: int = 3
    unit: str = pace.Unit.DAYS
    condition: str = sequence.Condition.NONE
    otherwise: str = sequence.Otherwise.NEXT
    variants: tuple[WantedVariant, ...] | None = None
    weight: int | None = None
    compare_by: str | None = None
    auto_choice: bool | None = None
    least_sends: int | None = None
    sure_at: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to so many contacts. `step` is what they wait for, None where they have had all;
    `to` the one that they get, None for none, by their new places. `before` and `after` are the first and the last time
    at which the mail is due; None where it is not known yet, for a condition decides.

    With `shares` it is about the variants of the step instead: in percent, what those get who have not had it. With
    `words` it is about texts with other words, by their names. A `step` of 1 is waited for by those who have had none.
    """

    count: int
    step: int | None
    to: int | None
    before: tuple[datetime, datetime] | None = None
    after: tuple[datetime, datetime] | None = None
    shares: dict[str, int] | None = None
    words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The same in words."""
        if self.words:
            return ngettext(
                "%(count)d contact has not had step %(step)d and gets the new words of %(names)s. Whoever has had it "
                "keeps what they got.",
                "%(count)d contacts have not had step %(step)d and get the new words of %(names)s. Whoever has had it "
                "keeps what they got.",
                self.count,
            ) % {"count": self.count, "step": self.step, "names": ", ".join(self.words)}
        if self.shares is not None:
            return ngettext(
                "%(count)d contact has not had step %(step)d and gets one of its variants by these shares: %(shares)s. "
                "Whoever was assigned one keeps it.",
                "%(count)d contacts have not had step %(step)d and get one of its variants by these shares: "
                "%(shares)s. Whoever was assigned one keeps it.",
                self.count,
            ) % {"count": self.count, "step": self.to, "shares": _listed(self.shares)}
        if self.step == 1:
            return ngettext(
                "%(count)d contact has not had the first mail: all steps that follow it are the new ones for them.",
                "%(count)d contacts have not had the first mail: all steps that follow it are the new ones for them.",
                self.count,
            ) % {"count": self.count}
        if self.step is None:
            who = ngettext(
                "%(count)d contact has had all mails so far",
                "%(count)d contacts have had all mails so far",
                self.count,
            ) % {"count": self.count}
        else:
            who = ngettext(
                "%(count)d contact waits for step %(step)d",
                "%(count)d contacts wait for step %(step)d",
                self.count,
            ) % {"count": self.count, "step": self.step}
        return f"{who}: {self._what()}"

    def _what(self) -> str:
        if self.to is None:
            return _("no further mail follows.")
        if self.after is None:
            return _("whether step %(step)d follows is decided by its condition.") % {"step": self.to}
        after = _span(self.after)
        if self.before is None or self.step is None:
            return _("step %(step)d follows, due %(after)s.") % {"step": self.to, "after": after}
        return _("step %(step)d follows, due %(after)s instead of %(before)s.") % {
            "step": self.to,
            "after": after,
            "before": _span(self.before),
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True, slots=True)
class _Group:
    """Contacts who passed the step of this place, before the change, within an hour; `due` is of their mails."""

    position: int
    count: int
    since: tuple[datetime, datetime]
    due: tuple[datetime, datetime] | None


@dataclass(frozen=True, slots=True)
class _Next:
    """What may come next for those who have passed the step of a place: its steps up to the first one for everybody,
    and the place of the first."""

    place: int | None
    steps: tuple[sequence.Step, ...]


def steps_of(campaign: Campaign) -> list[Wanted]:
    """The steps as they are, to be changed."""
    return [wanted_of(step) for step in _live(campaign)]


def foresee(campaign: Campaign, wanted: Sequence[Wanted], *, now: datetime) -> list[Effect]:
    """What the change does to contacts who have had a mail. Raises ChangeRefusedError where it is none that can be."""
    _check(campaign, wanted)
    return _effects(campaign, wanted, now)


def seal(wanted: Sequence[Wanted], effects: Sequence[Effect]) -> str:
    """What a person has seen, in short: the steps, what they do and to how many contacts."""
    seen = [repr(wanted), *(repr((one.step, one.to, one.shares, one.words)) for one in effects)]
    return "-".join([sha256("\n".join(seen).encode()).hexdigest()[:32], *(str(one.count) for one in effects)])


def is_seen(sealed: str, wanted: Sequence[Wanted], effects: Sequence[Effect]) -> bool:
    """Whether it is much the same that a person has seen: while a campaign runs, a few contacts more or less are
    concerned each minute, and to tell that again would never end."""
    what, *counts = seal(wanted, effects).split("-")
    then, *counted = sealed.split("-")
    if then != what or len(counts) != len(counted) or not all(one.isdecimal() for one in counted):
        return False
    return all(abs(int(now) - int(before)) <= int(before) // 10 for now, before in zip(counts, counted, strict=True))


def change(campaign: Campaign, wanted: Sequence[Wanted], *, now: datetime) -> list[Effect]:
    """Let the campaign have these steps; return what that does. Raises ChangeRefusedError with nothing changed."""
    with transaction.atomic():
        campaign = Campaign.objects.select_for_update().get(pk=campaign.pk)
        _check(campaign, wanted)
        effects = _effects(campaign, wanted, now)
        # By the places that they have so far.
        with connection.cursor() as cursor:
            places = list(_changed(campaign, wanted))
            cursor.execute(_LOOK_ANEW, {"campaign": campaign.pk, "now": now, "places": places})
        kept = {one.id for one in wanted}
        gone = [step.pk for step in _live(campaign) if step.pk not in kept]
        # By position: places are unique, and are given anew.
        campaign.steps.update(position=None)
        for position, one in enumerate(wanted, start=1):
            _save(campaign, one, position, now)
        if campaign.status == Campaign.Status.DRAFT:
            campaign.steps.filter(pk__in=gone).delete()
            return effects
        waiting = Message.objects.filter(step__in=gone, campaign=campaign, status=Message.Status.SCHEDULED)
        lifecycle.withdraw(list(waiting.order_by("pk").values_list("pk", flat=True)))
        visits.ask(now)
    return effects


def _check(campaign: Campaign, wanted: Sequence[Wanted]) -> None:
    live = {step.pk: step for step in _live(campaign)}
    old = [*live]
    known = [one.id for one in wanted if one.id is not None]
    problems = []
    if campaign.status == Campaign.Status.CANCELLED:
        problems.append(_("The campaign is cancelled: nothing more leaves, whatever its steps say."))
    if not 1 <= len(wanted) <= MOST_STEPS:
        problems.append(_("A campaign has 1 to %(most)d steps.") % {"most": MOST_STEPS})
    if not set(known) <= set(old) or len(known) != len(set(known)):
        problems.append(_("A step is named that this campaign does not have (any more): load its steps again."))
    elif known != [pk for pk in old if pk in known]:
        problems.append(_("Steps keep their order: take one out and write it anew elsewhere."))
    elif campaign.status != Campaign.Status.DRAFT and old and (not wanted or wanted[0].id != old[0]):
        problems.append(_("The first step stays the first: its mails are queued or gone already."))
    if wanted and not wanted[0].subject.strip():
        problems.append(_("The first step needs a subject."))
    for position, one in enumerate(wanted, start=1):
        if not (one.html.strip() or one.text.strip()):
            problems.append(_("Step %(step)d: write the mail, as HTML or as plain text.") % {"step": position})
        if not 1 <= one.delay <= 999:
            problems.append(_("Step %(step)d: its delay is 1 to 999.") % {"step": position})
        if len(one.subject.splitlines()) > 1:
            problems.append(_("Step %(step)d: write the subject on one line.") % {"step": position})
        problems += _check_variants(one, position, known=live.get(one.id or 0))
    if not problems and campaign.list_id:
        named = [_texts(one, position, live.get(one.id or 0)) for position, one in enumerate(wanted, start=1)]
        texts = [text for found in named for text in found]
        problems = launch.check_texts(campaign, texts)
        # Files are uploaded to a step that is there; a draft is looked through at its launch.
        if campaign.status != Campaign.Status.DRAFT:
            problems += _check_pictures(wanted, named, live)
    if problems:
        raise ChangeRefusedError(problems)


def _check_pictures(
    wanted: Sequence[Wanted], named: Sequence[Sequence[variants.Text]], live: dict[int, Step]
) -> list[str]:
    return [
        _("Step %(step)s: %(why)s") % {"step": text.name, "why": why}
        for one, texts in zip(wanted, named, strict=True)
        for text in texts
        if files.shown(text.html)
        and (why := files.unknown(text.html, files.pictures(step) if (step := live.get(one.id or 0)) else ()))
    ]


def _check_variants(one: Wanted, position: int, known: Step | None) -> list[str]:
    found = _variants(one, known)
    if not found:
        return []
    problems = []
    draft = known is None or known.campaign.status == Campaign.Status.DRAFT
    kept = {text.letter for text in known.texts[1:]} if known and not draft else set()
    named = [text.letter for text in found if text.letter]
    if len(named) != len(set(named)) or (not set(named) <= kept and not draft):
        problems.append(
            _("Step %(step)d names a variant that it does not have: load its steps again.") % {"step": position}
        )
    if len(kept | set(named)) + sum(1 for text in found if not text.letter) > len(variants.FURTHER):
        problems.append(
            _("Step %(step)d has more than %(most)d variants; what mails went out with stays one.")
            % {"step": position, "most": variants.MOST}
        )
    for text in found:
        where = {"step": f"{position}{text.letter}"}
        if not (text.html.strip() or text.text.strip()):
            problems.append(_("Step %(step)s: write the variant, as HTML or as plain text.") % where)
        if position == 1 and not text.subject.strip():
            problems.append(_("Step %(step)s: a variant of the first step needs a subject.") % where)
        if len(text.subject) > 250 or len(text.subject.splitlines()) > 1:
            problems.append(_("Step %(step)s: write the subject on one line of 250 characters at most.") % where)
    weights = [_weight(one, known), *(text.weight for text in found)]
    if not all(0 <= weight <= variants.MOST_WEIGHT for weight in weights):
        problems.append(
            _("Step %(step)d: a variant's weight is 0 to %(most)d.") % {"step": position, "most": variants.MOST_WEIGHT}
        )
    if not any(weights):
        problems.append(_("Step %(step)d: leave at least one variant on.") % {"step": position})
    if one.least_sends is not None and not 30 <= one.least_sends <= 1_000_000:
        problems.append(_("Step %(step)d: choose by 30 mails of each variant or more.") % {"step": position})
    if one.sure_at is not None and not 80 <= one.sure_at <= 99:
        problems.append(_("Step %(step)d: the certainty is 80 to 99 %%.") % {"step": position})
    return problems


def _effects(campaign: Campaign, wanted: Sequence[Wanted], now: datetime) -> list[Effect]:
    if campaign.status == Campaign.Status.DRAFT:
        return []
    return [
        *_effects_on_beginners(campaign, wanted),
        *_effects_on_places(campaign, wanted, now),
        *_effects_on_variants(campaign, wanted),
        *_effects_on_words(campaign, wanted),
    ]


def _effects_on_beginners(campaign: Campaign, wanted: Sequence[Wanted]) -> list[Effect]:
    old, new = [advance.of(step) for step in _live(campaign)], _sequence(wanted)
    if old[1:] == new[1:]:
        return []
    count = _count(_NOT_BEGUN, campaign=campaign.pk)
    return [Effect(count, 1, 1)] if count else []


def _effects_on_words(campaign: Campaign, wanted: Sequence[Wanted]) -> list[Effect]:
    found = []
    live = {step.pk: step for step in _live(campaign)}
    for place, one in enumerate(wanted, start=1):
        step = live.get(one.id or 0)
        if step is None:
            continue
        before = {variants.further(text.letter): text for text in step.texts}
        names = tuple(
            text.name
            for text in _texts(one, place, step)
            if (was := before.get(variants.further(text.letter)))
            and any(getattr(text, name) != getattr(was, name) for name in _TEXTS)
        )
        if names and (count := _count(_WAIT_FOR, campaign=campaign.pk, step=step.pk, position=step.position)):
            found.append(Effect(count, step.position, place, words=names))
    return found


def _effects_on_variants(campaign: Campaign, wanted: Sequence[Wanted]) -> list[Effect]:
    found = []
    live = {step.pk: step for step in _live(campaign)}
    for place, one in enumerate(wanted, start=1):
        step = live.get(one.id) if one.id else None
        if step is None:
            continue
        weights = _weights(one, place, step)
        if weights == step.weights or step.position is None:
            continue
        count = _count(_NOT_HAD, campaign=campaign.pk, step=step.pk, position=step.position)
        found.append(Effect(count, step.position, place, shares=variants.shares(weights or {variants.OWN: 1})))
    return found


def _effects_on_places(campaign: Campaign, wanted: Sequence[Wanted], now: datetime) -> list[Effect]:
    changed = _changed(campaign, wanted)
    if not changed:
        return []
    schedule = campaign.schedule(context.current_agency().zone)
    found: dict[tuple[int | None, int | None], Effect] = {}
    for group in _groups(campaign):
        if group.position not in changed:
            continue
        before, after = changed[group.position]
        due = None
        if after.steps and after.steps[0].condition == sequence.Condition.NONE:
            first, last = (
                max(now, pace.later(schedule, since, after.steps[0].delay, after.steps[0].unit))
                for since in group.since
            )
            due = first, last
        effect = Effect(group.count, before.place, after.place, group.due, due)
        key = (effect.step, effect.to)
        found[key] = _together(found[key], effect) if key in found else effect
    return sorted(found.values(), key=lambda one: (one.step is None, one.step or 0))


def _changed(campaign: Campaign, wanted: Sequence[Wanted]) -> dict[int, tuple[_Next, _Next]]:
    """By the place of a step, before the change: what comes after it now and then, where that is not the same."""
    if campaign.status == Campaign.Status.DRAFT:
        return {}
    live = _live(campaign)
    old = [advance.of(step) for step in live]
    kept = {one.id: place for place, one in enumerate(wanted, start=1) if one.id is not None}
    new = _sequence(wanted)
    found, last = {}, 1
    for passed, step in enumerate(live, start=1):
        last = kept.get(step.pk, last)
        before, after = _next(old, passed), _next(new, last)
        if before.steps != after.steps and step.position is not None:
            found[step.position] = before, after
    return found


def _sequence(wanted: Sequence[Wanted]) -> list[sequence.Step]:
    """The steps as far as they matter for what follows. A new one has no id yet."""
    return [
        sequence.Step(one.id or -place, one.delay, one.unit, one.condition, one.otherwise)
        for place, one in enumerate(wanted, start=1)
    ]


def _count(statement: str, **values: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        (found,) = cursor.fetchone()
    return int(found)


def _next(steps: Sequence[sequence.Step], passed: int) -> _Next:
    left = steps[passed:]
    everybodys = next((i for i, one in enumerate(left) if one.condition == sequence.Condition.NONE), len(left))
    return _Next(passed + 1 if left else None, tuple(left[: everybodys + 1]))


def _together(one: Effect, other: Effect) -> Effect:
    return Effect(
        one.count + other.count, one.step, one.to, _hull(one.before, other.before), _hull(one.after, other.after)
    )


def _hull(
    one: tuple[datetime, datetime] | None, other: tuple[datetime, datetime] | None
) -> tuple[datetime, datetime] | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def _span(times: tuple[datetime, datetime]) -> str:
    zone = context.current_agency().zone
    first, last = (date_format(timezone.localtime(one, zone), "j M Y, H:i") for one in times)
    return first if first == last else f"{first} – {last}"


def _groups(campaign: Campaign) -> list[_Group]:
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS, {"campaign": campaign.pk})
        return [
            _Group(position, count, (first, last), (due, until) if due else None)
            for position, count, first, last, due, until in cursor.fetchall()
        ]


def _live(campaign: Campaign) -> list[Step]:
    found = campaign.steps.filter(position__isnull=False).order_by("position")
    return list(found.select_related("campaign").prefetch_related("variants"))


def wanted_of(step: Step) -> Wanted:
    """The step as it is, to be changed."""
    return Wanted(
        step.pk,
        step.subject,
        step.html,
        step.text,
        step.delay,
        step.unit,
        step.condition,
        step.otherwise,
        tuple(WantedVariant(one.letter, one.subject, one.html, one.text, one.weight) for one in step.variants.all()),
        step.weight,
        step.compare_by,
        step.auto_choice,
        step.least_sends,
        step.sure_at,
    )


def _listed(shares: dict[str, int]) -> str:
    return ", ".join(f"{letter} {share} %" for letter, share in shares.items())


def _weight(one: Wanted, step: Step | None) -> int:
    return one.weight if one.weight is not None else step.weight if step else 1


def _variants(one: Wanted, step: Step | None) -> tuple[WantedVariant, ...]:
    """Its further texts as they are to be; those that are not named any more, but mails have, are there too."""
    old = wanted_of(step).variants or () if step else ()
    if one.variants is None:
        return old
    if step is None or step.campaign.status == Campaign.Status.DRAFT:
        return tuple(replace(text, letter="") for text in one.variants)
    named = {text.letter for text in one.variants}
    return (*one.variants, *(replace(text, weight=0) for text in old if text.letter not in named))


def _texts(one: Wanted, place: int, step: Step | None) -> list[variants.Text]:
    """Its texts as they are to be, each with its letter."""
    further = _variants(one, step)
    taken = {text.letter for text in further}
    free = iter([letter for letter in variants.FURTHER if letter not in taken])
    html, text = _bodies(one)
    own = variants.Text(place, variants.OWN if further else "", one.subject.strip(), html, text, _weight(one, step))
    named = [
        variants.Text(place, each.letter or next(free), each.subject.strip(), *_bodies(each), each.weight)
        for each in further
    ]
    return [own, *sorted(named, key=lambda each: each.letter)]


def _weights(one: Wanted, place: int, step: Step) -> dict[str, int]:
    """By letter, what new contacts get: what was chosen stays so until another text is tried beside it."""
    texts = _texts(one, place, step)
    if len(texts) < 2:
        return {}
    weights = {text.letter: text.weight for text in texts if text.weight}
    return step.weights if step.chosen and weights.keys() <= _tried(step).keys() else weights


def _tried(step: Step) -> dict[str, int]:
    return {text.letter: text.weight for text in step.texts if text.weight}


def _bodies(one: Wanted | WantedVariant) -> tuple[str, str]:
    html, text = (part if part.strip() else "" for part in (one.html, one.text))
    return html, text


def _step(one: Wanted, position: int) -> Step:
    html, text = _bodies(one)
    return Step(
        pk=one.id,
        position=position,
        subject=one.subject.strip(),
        html=html,
        text=text,
        delay=one.delay,
        unit=one.unit,
        condition=one.condition,
        otherwise=one.otherwise,
    )


def _save(campaign: Campaign, one: Wanted, position: int, now: datetime) -> None:
    step = _step(one, position)
    step.campaign = campaign
    as_it_was = Step.objects.select_related("campaign").prefetch_related("variants").get(pk=one.id) if one.id else None
    settings = {name: getattr(one, name) for name in _SETTINGS if getattr(one, name) is not None}
    for name, value in settings.items():
        setattr(step, name, value)
    texts = _texts(one, position, as_it_was)
    if as_it_was is None:
        step.save()
    else:
        # The time of its change tells mails of the one text from those of the other.
        changed = any(getattr(step, name) != getattr(as_it_was, name) for name in _TEXTS)
        fields = ["position", "delay", "unit", "condition", "otherwise", *settings]
        step.save(update_fields=[*fields, *_TEXTS, "changed_at"] if changed else fields)
        if campaign.status != Campaign.Status.DRAFT:
            _keep_subjects(as_it_was, texts, now)
            _compare_anew(as_it_was, texts, now)
    _save_variants(step, texts[1:])


def _save_variants(step: Step, texts: Sequence[variants.Text]) -> None:
    if step.campaign.status == Campaign.Status.DRAFT:
        step.variants.exclude(letter__in=[text.letter for text in texts]).delete()
    old = {one.letter: one for one in step.variants.all()}
    for text in texts:
        one = old.get(text.letter) or Variant(step=step, letter=text.letter)
        if one.pk and all(getattr(one, name) == getattr(text, name) for name in (*_TEXTS, "weight")):
            continue
        for name in (*_TEXTS, "weight"):
            setattr(one, name, getattr(text, name))
        one.save()


def _keep_subjects(step: Step, texts: Sequence[variants.Text], now: datetime) -> None:
    """Mails that were sent go on under the subject that they had."""
    after = {variants.further(text.letter): text.subject for text in texts}
    FormerSubject.objects.bulk_create(
        FormerSubject(step=step, letter=letter, subject=text.subject, until=now)
        for text in step.texts
        if after.get(letter := variants.further(text.letter), text.subject) != text.subject
    )


def _compare_anew(step: Step, texts: Sequence[variants.Text], now: datetime) -> None:
    """Only mails that went out side by side, with the same texts, are compared: another text, one more, or other shares
    begin a new comparison. To take one out does not."""
    before = {text.letter or variants.OWN: text for text in step.texts}
    after = {text.letter or variants.OWN: text for text in texts if text.weight or len(texts) < 2}
    same = all(
        letter in before
        and bool(before[letter].weight)
        and all(getattr(text, name) == getattr(before[letter], name) for name in (*_TEXTS, "weight"))
        for letter, text in after.items()
    )
    if same or len(texts) < 2:
        return
    changes: dict[str, Any] = {"compared_since": now}
    if step.chosen and not after.keys() <= _tried(step).keys():
        changes |= {"chosen": "", "chosen_at": None}
        VariantChoice.objects.create(step=step, at=now, evidence={"because": "changed"})
    Step.objects.filter(pk=step.pk).update(**changes)


_TEXTS = ("subject", "html", "text")
_SETTINGS = ("weight", "compare_by", "auto_choice", "least_sends", "sure_at")
# Who may still get a step.
_WAIT_FOR = """
SELECT count(*) FROM campaigns_enrollment e
LEFT JOIN campaigns_step s ON s.id = e.passed_id
LEFT JOIN campaigns_message m ON m.enrollment_id = e.id AND m.step_id = %(step)s
WHERE e.campaign_id = %(campaign)s AND e.ended = '' AND COALESCE(s.position, 0) < %(position)s
  AND (m.id IS NULL OR m.status IN ('scheduled', 'held'))
"""
# Of those, who was not assigned a text of it.
_NOT_HAD = f"""
{_WAIT_FOR} AND (m.id IS NULL OR m.variant = '' AND m.attempts = 0 AND m.sendings = 0)
"""
_NOT_BEGUN = """
SELECT count(*) FROM campaigns_enrollment e
WHERE e.campaign_id = %(campaign)s AND e.ended = '' AND e.passed_at IS NULL AND EXISTS (
    SELECT FROM campaigns_message m WHERE m.enrollment_id = e.id AND m.status IN ('scheduled', 'held', 'claimed')
)
"""
# Who goes on with the sequence, or would if there was more of it: nobody whose next mail is on its way, held or lost.
_ON_THEIR_WAY = """
SELECT e.id, e.passed_at, w.due_at, COALESCE(
    (SELECT s.position FROM campaigns_step s WHERE s.id = e.passed_id),
    (SELECT max(s.position) FROM campaigns_message m JOIN campaigns_step s ON s.id = m.step_id
     WHERE m.enrollment_id = e.id AND m.status = 'sent'), 1) AS position
FROM campaigns_enrollment e
LEFT JOIN LATERAL (
    SELECT m.id, m.step_id, m.due_at FROM campaigns_message m
    WHERE m.enrollment_id = e.id AND m.status = 'scheduled' AND m.attempts = 0 AND m.sendings = 0
    ORDER BY m.id DESC LIMIT 1
) w ON true
WHERE e.campaign_id = %(campaign)s AND e.ended = '' AND e.passed_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM campaigns_message b
    WHERE b.enrollment_id = e.id AND b.status <> 'sent' AND b.reason <> 'sequence_changed'
      AND b.id IS DISTINCT FROM w.id
)
"""
_GROUPS = f"""
SELECT o.position, count(*), min(o.passed_at), max(o.passed_at), min(o.due_at), max(o.due_at)
FROM ({_ON_THEIR_WAY}) o
GROUP BY o.position, o.due_at IS NULL, date_trunc('hour', o.passed_at) ORDER BY 3
"""  # noqa: S608 - of constants
# Locked in the order in which facts end them.
_LOOK_ANEW = f"""
WITH locked AS (
    SELECT e.id FROM ({_ON_THEIR_WAY}) o JOIN campaigns_enrollment e ON e.id = o.id
    WHERE e.ended = '' AND o.position = ANY(%(places)s) ORDER BY e.id FOR UPDATE OF e
)
UPDATE campaigns_enrollment e SET look_at = %(now)s FROM locked WHERE e.id = locked.id
"""  # noqa: S608 - of constants
