"""What a person may do with a campaign now. The portal and the admin offer these and no other way to its state."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from campaigns import answers, control, conversations, doubt, feasibility, held, hooks, jobs, trials
from campaigns import launch as launching
from campaigns.models import Campaign, Contact, Endpoint, HookDelivery, Message, Reply, Step, TrialMail
from tenants import context

Status = Campaign.Status


class ActionRefusedError(ValueError):
    """The campaign is as it was; `problems` says why and what to do, one line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


@dataclass(frozen=True, slots=True)
class Action:
    """One step: in which states it is offered, the question to ask before it, if any, and whether it is one of the
    buttons of every campaign."""

    name: str
    label: Promise
    style: str
    states: tuple[Status, ...]
    take: Callable[[Campaign, datetime], str]
    confirm: Promise | None = None
    always: bool = True


def offered(campaign: Campaign) -> list[Action]:
    """The steps that may be taken from the state that the campaign is in."""
    return [action for action in ACTIONS.values() if action.always and campaign.status in action.states]


def take(name: str, campaign: Campaign, *, now: datetime) -> str:
    """Take a step of ACTIONS; return in words what it did. Raises ActionRefusedError with nothing changed."""
    return ACTIONS[name].take(campaign, now)


@dataclass(frozen=True, slots=True)
class DoubtAction:
    """How a person ends doubts, and the question to ask before it, if any."""

    name: str
    label: Promise
    style: str
    take: Callable[[QuerySet[Message], str, datetime], str]
    confirm: Promise | None = None


def end_doubts(name: str, messages: QuerySet[Message], *, by: str, now: datetime) -> str:
    """End the doubt about these mails by a step of DOUBTS; return in words what it did. `by` is the person's address.

    Raises ActionRefusedError where none of them is in doubt, or none may be sent.
    """
    return DOUBTS[name].take(messages, by, now)


def send_trial(step: Step, contact: Contact, to: Iterable[str], *, by: str, now: datetime, variant: str = "") -> str:
    """Send a step's mail, as the contact would get it, to people of the agency; return in words what is done. `by` is
    the person's address, which it goes to unless others are given.

    Raises ActionRefusedError with nothing changed.
    """
    try:
        asked = trials.ask(step, contact, to, by=by, now=now, variant=variant)
    except trials.TrialRefusedError as refused:
        raise ActionRefusedError(*refused.problems) from None
    jobs.ring_for_trials()
    return ngettext("%(count)d test mail is on its way.", "%(count)d test mails are on their way.", len(asked)) % {
        "count": len(asked)
    }


def answer(reply: Reply, text: str, *, by: str, once: UUID, now: datetime) -> TrialMail:
    """Answer a reply from the sender who was answered. `by` is the person's address; the same `once` is one answer.

    Raises ActionRefusedError with nothing changed.
    """
    try:
        asked = answers.ask(reply, text, by=by, once=once, now=now)
    except answers.AnswerRefusedError as refused:
        raise ActionRefusedError(*refused.problems) from None
    conversations.read(reply, now=now)
    jobs.ring_for_trials()
    return asked


def take_back(reply: Reply, number: int) -> TrialMail:
    """Let an answer that waits in a reply's conversation not be sent.

    Raises ActionRefusedError with nothing changed, and TrialMail.DoesNotExist where there is none of this number.
    """
    try:
        return answers.take_back(reply, number)
    except answers.AnswerRefusedError as refused:
        raise ActionRefusedError(*refused.problems) from None


def test_hook(endpoint: Endpoint, *, now: datetime) -> HookDelivery:
    """Let a worker post a test event there now. Raises ActionRefusedError where the webhook is off."""
    try:
        made = hooks.test(endpoint, now=now)
    except hooks.HookRefusedError as refused:
        raise ActionRefusedError(str(refused)) from None
    jobs.ring_for_hooks()
    return made


def redeliver(
    endpoint: Endpoint,
    *,
    now: datetime,
    deliveries: Iterable[int] | None = None,
    failed_since: datetime | None = None,
) -> int:
    """Let a worker post again what has ended: these, by id, or what has failed since then; return how many."""
    if failed_since is not None:
        count = hooks.redeliver_failed(endpoint, failed_since, now=now)
    else:
        count = hooks.redeliver(endpoint.deliveries.filter(pk__in=deliveries or []), now=now)
    jobs.ring_for_hooks()
    return count


def switch_on_hook(endpoint: Endpoint) -> None:
    """Let a worker go on where the webhook stopped."""
    hooks.switch_on(endpoint)
    jobs.ring_for_hooks()


def _count_as_sent(messages: QuerySet[Message], by: str, now: datetime) -> str:
    count = doubt.count_as_sent(messages, by=by, now=now)
    if not count:
        raise ActionRefusedError(_("There is no mail in doubt here any more."))
    return ngettext("%(count)d mail is counted as sent.", "%(count)d mails are counted as sent.", count) % {
        "count": count
    }


def _send_again(messages: QuerySet[Message], by: str, now: datetime) -> str:
    count = doubt.send_again(messages, by=by, now=now)
    if not count:
        raise ActionRefusedError(
            _("Nothing is sent again: no mail here is in doubt whose campaign goes on and whose contact may be mailed.")
        )
    jobs.ring()
    return ngettext("%(count)d mail is sent again.", "%(count)d mails are sent again.", count) % {"count": count}


def _launch(campaign: Campaign, now: datetime) -> str:
    try:
        launched = launching.launch(campaign, now=now)
    except launching.LaunchRefusedError as refused:
        raise ActionRefusedError(*refused.problems) from None
    jobs.ring()
    text = ngettext(
        "“%(name)s” is running: %(count)d mail is queued.",
        "“%(name)s” is running: %(count)d mails are queued.",
        launched.total,
    )
    return text % {"name": campaign.name, "count": launched.total}


def _join(campaign: Campaign, now: datetime) -> str:
    try:
        joined = launching.join(campaign, now=now)
    except launching.LaunchRefusedError as refused:
        raise ActionRefusedError(*refused.problems) from None
    jobs.ring()
    text = ngettext("%(count)d contact joins “%(name)s”.", "%(count)d contacts join “%(name)s”.", joined.total)
    return text % {"name": campaign.name, "count": joined.total}


def change_contact(contact: Contact, values: Mapping[str, str], *, now: datetime) -> str:
    """Write a contact's fields, by name, and try their held mails again; return in words what is done.

    Raises ActionRefusedError with nothing changed.
    """
    try:
        count = held.change(contact, values, now=now)
    except held.ContactRefusedError as refused:
        raise ActionRefusedError(str(refused)) from None
    return f"{_('The contact is saved.')} {_tried(count)}" if count else _("The contact is saved.")


def release(contact: Contact, *, now: datetime) -> None:
    """Try the held mails of a contact again, whose values a person has changed."""
    if held.release(contact.pk, now=now):
        jobs.ring()


def _try_again(campaign: Campaign, now: datetime) -> str:
    count = held.try_again(campaign, now=now)
    if not count:
        raise ActionRefusedError(_("No mail is held here for its text whose contact may be mailed."))
    return _tried(count)


def _tried(count: int) -> str:
    jobs.ring()
    words = ngettext(
        "%(count)d mail that was held is tried again.", "%(count)d mails that were held are tried again.", count
    )
    return words % {"count": count}


def _pause(campaign: Campaign, now: datetime) -> str:
    if not control.pause(campaign):
        raise ActionRefusedError(_("“%(name)s” is not running, so it cannot be paused.") % {"name": campaign.name})
    return _("“%(name)s” is paused: nothing more leaves until you resume it.") % {"name": campaign.name}


def _resume(campaign: Campaign, now: datetime) -> str:
    why = (
        feasibility.obstacle(campaign, context.current_agency(), now=now) if campaign.status == Status.PAUSED else None
    )
    if why is not None:
        raise ActionRefusedError(why.text)
    if not control.resume(campaign, now=now):
        raise ActionRefusedError(_("“%(name)s” is not paused, so it cannot be resumed.") % {"name": campaign.name})
    jobs.ring()
    return _("“%(name)s” goes on.") % {"name": campaign.name}


def _cancel(campaign: Campaign, now: datetime) -> str:
    if not control.cancel(campaign, now=now):
        raise ActionRefusedError(
            _("“%(name)s” was not launched or is over, so there is nothing to cancel.") % {"name": campaign.name}
        )
    return _("“%(name)s” is cancelled: nothing more leaves.") % {"name": campaign.name}


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "launch",
            gettext_lazy("Launch"),
            "primary",
            (Status.DRAFT,),
            _launch,
            gettext_lazy("A mail to every contact of the list is queued and begins to leave at once."),
        ),
        Action("pause", gettext_lazy("Pause"), "secondary", (Status.RUNNING,), _pause),
        Action("resume", gettext_lazy("Resume"), "primary", (Status.PAUSED,), _resume),
        Action(
            "try-again",
            gettext_lazy("Try again"),
            "secondary",
            (Status.RUNNING, Status.PAUSED, Status.FINISHED),
            _try_again,
            always=False,
        ),
        Action("join", gettext_lazy("Add new contacts of the list"), "ghost", (Status.RUNNING, Status.PAUSED), _join),
        Action(
            "cancel",
            gettext_lazy("Cancel campaign"),
            "danger",
            (Status.RUNNING, Status.PAUSED),
            _cancel,
            gettext_lazy("Mails that have not left yet will never be sent. This cannot be undone."),
        ),
    )
}
DOUBTS = {
    action.name: action
    for action in (
        DoubtAction("count-as-sent", gettext_lazy("Count as sent"), "secondary", _count_as_sent),
        DoubtAction(
            "send-again",
            gettext_lazy("Send again"),
            "secondary",
            _send_again,
            gettext_lazy("Whoever has got it already gets it twice."),
        ),
    )
}
