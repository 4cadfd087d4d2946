"""One door to each object: what a user may see. Views and the API never ask the models themselves, so whatever is
behind another door is a 404.

Whoever may sign in to an agency sees all that the agency has.
"""

from typing import TypeVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, QuerySet, Value

from campaigns import sources
from campaigns.models import (
    Campaign,
    ConsentEntry,
    Contact,
    ContactList,
    Endpoint,
    Erasure,
    FeedEntry,
    HookDelivery,
    Intake,
    Message,
    RejectedRow,
    Reply,
    SourcePause,
    StepFile,
    TrialMail,
)
from providers.senders import recovering
from providers.senders.models import Recovery
from tenants import context
from tenants.users.models import User

Row = TypeVar("Row", bound=Model)
Visitor = AbstractBaseUser | AnonymousUser


def campaigns_for(user: Visitor) -> QuerySet[Campaign]:
    """The campaigns that this user may see and act on."""
    return _seen_by(user, Campaign.objects.all())


def messages_for(user: Visitor) -> QuerySet[Message]:
    """The mails that this user may see, with what is told of them."""
    return _seen_by(user, Message.objects.select_related("campaign", "step", "contact", "account", "sender"))


def lists_for(user: Visitor) -> QuerySet[ContactList]:
    """The lists that this user may import into and write to."""
    return _seen_by(user, ContactList.objects.all())


def may_change_lists(user: Visitor) -> bool:
    """Whether this user may say whether a list's sign-ups are confirmed by mail."""
    return isinstance(user, User) and user.has_perm("campaigns.change_contactlist")


def contacts_of(user: Visitor, campaign: Campaign) -> QuerySet[Contact]:
    """The contacts of the campaign's list whom this user may see."""
    return _seen_by(user, Contact.objects.filter(subscriptions__list=campaign.list_id, subscriptions__active=True))


def everybody_for(user: Visitor) -> QuerySet[Contact]:
    """The contacts that this user may see and change."""
    return _seen_by(user, Contact.objects.filter(erased_at=None))


def evidence_for(user: Visitor, contact: Contact) -> QuerySet[ConsentEntry]:
    """The evidence of the contact's basis that this user may see, the latest first."""
    return _seen_by(user, ConsentEntry.objects.filter(contact=contact).select_related("list", "intake"))


def erasures_for(user: Visitor) -> QuerySet[Erasure]:
    """The receipts of erasures that this user may see."""
    return _seen_by(user, Erasure.objects.all())


def may_erase(user: Visitor) -> bool:
    """Whether this user may have a person erased."""
    return isinstance(user, User) and user.has_perm("campaigns.add_erasure")


def files_for(user: Visitor, campaign: Campaign) -> QuerySet[StepFile]:
    """The files of the campaign's steps that this user may see, without their content."""
    found = StepFile.objects.filter(step__campaign=campaign).select_related("step").defer("content")
    return _seen_by(user, found.order_by("pk"))


def trials_for(user: Visitor, campaign: Campaign) -> QuerySet[TrialMail]:
    """The test mails of the campaign that this user may see, the newest first."""
    found = TrialMail.objects.filter(step__campaign=campaign).select_related("step", "account", "sender")
    return _seen_by(user, found.order_by("-pk"))


def replies_for(user: Visitor) -> QuerySet[Reply]:
    """The replies that this user may see, label, assign, snooze and answer, with what is told of them."""
    return _seen_by(user, Reply.objects.select_related("message__contact", "message__campaign", "assigned_to"))


def feed_for(user: Visitor) -> QuerySet[FeedEntry]:
    """What this user may be told of what has happened, in its order."""
    return _seen_by(user, FeedEntry.objects.filter(position__isnull=False).order_by("position"))


def endpoints_for(user: Visitor) -> QuerySet[Endpoint]:
    """The webhooks that this user may see."""
    return _seen_by(user, Endpoint.objects.order_by("pk"))


def endpoints_off(user: Visitor) -> int:
    """How many webhooks that this user may see were switched off by no person."""
    return endpoints_for(user).exclude(off__in=["", Endpoint.Off.PERSON]).count()


def may_change_endpoints(user: Visitor) -> bool:
    """Whether this user may say where events are posted, and so take all that they tell out of the agency."""
    return isinstance(user, User) and user.has_perm("campaigns.change_endpoint")


def deliveries_for(user: Visitor) -> QuerySet[HookDelivery]:
    """The deliveries of events that this user may see, the latest first."""
    return _seen_by(user, HookDelivery.objects.select_related("endpoint").order_by("-pk"))


def recoveries_for(user: Visitor) -> list[recovering.Told]:
    """What recovers of the senders and domains, as far as this user may see it."""
    return recovering.told() if _seen_by(user, Recovery.objects.filter(ended_at=None)).exists() else []


def paused_sources_for(user: Visitor) -> list[sources.Told]:
    """The paused imports and lists, as far as this user may see them."""
    return sources.told() if _seen_by(user, SourcePause.objects.filter(ended_at=None)).exists() else []


def pauses_for(user: Visitor) -> tuple[list[recovering.Told], list[sources.Told]]:
    """Both of these, asked for at once: mostly there are none."""
    which = [
        _seen_by(user, rows.filter(ended_at=None)).annotate(what=Value(what)).values_list("what").order_by()
        for what, rows in (("senders", Recovery.objects.all()), ("sources", SourcePause.objects.all()))
    ]
    found = {what for (what,) in which[0].union(which[1])}
    return recovering.told() if "senders" in found else [], sources.told() if "sources" in found else []


def intakes_for(user: Visitor) -> QuerySet[Intake]:
    """The imports that this user may see."""
    return _seen_by(user, Intake.objects.select_related("list"))


def rejected_rows_for(user: Visitor, intake: Intake) -> QuerySet[RejectedRow]:
    """The rows of this import that were not taken."""
    return _seen_by(user, RejectedRow.objects.filter(intake=intake))


def _seen_by(user: Visitor, rows: QuerySet[Row]) -> QuerySet[Row]:
    at_home = isinstance(user, User) and user.is_active and user._schema == context.current_schema()
    return rows if at_home else rows.none()
