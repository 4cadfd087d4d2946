"""What providers, mail servers and readers report of a mail, in one language whoever says it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class EventType(TextChoices):
    """What happened to a mail after it was handed over."""

    SENT = "sent", _("Taken by the provider")
    DELIVERED = "delivered", _("Delivered")
    DEFERRED = "deferred", _("Put off")
    BOUNCED = "bounced", _("Bounced")
    COMPLAINED = "complained", _("Complained")
    UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
    OPENED = "opened", _("Opened")
    CLICKED = "clicked", _("Clicked")
    REPLIED = "replied", _("Replied")
    OTHER = "other", _("Something else")


class BounceClass(TextChoices):
    """Why a mail came back, the gravest for the address first."""

    HARD = "hard", _("The address does not exist")
    MAILBOX_FULL = "mailbox_full", _("The mailbox is full")
    SOFT = "soft", _("Not taken for now")
    BLOCKED = "blocked", _("Refused for what it is or where it comes from")
    OURS = "ours", _("A fault on our side")


class Reader(TextChoices):
    """Who opened a mail or followed its link, the best for its sender first."""

    HUMAN = "human", _("A person")
    UNCLEAR = "unclear", _("Unclear")
    MACHINE = "machine", _("A program")


# What a mail keeps the time of, in the order of its life, the good before the bad.
FACTS = (
    EventType.DELIVERED,
    EventType.OPENED,
    EventType.CLICKED,
    EventType.REPLIED,
    EventType.BOUNCED,
    EventType.COMPLAINED,
    EventType.UNSUBSCRIBED,
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One event. `message` is the key of the mail, and `account_id` whose provider reports it, None for our own eyes.

    `source` says who reports it: a kind of account, or a part of ours such as `inbound` or `tracking`. The same
    `raw_id` from the same source and account is the same event, however often it comes. `received_at` is when we heard
    of it. `provider_id` is what the provider calls the mail, "" where it does not say. `reader`: of an open or a click.
    """

    source: str
    raw_id: str
    type: EventType
    at: datetime
    received_at: datetime
    message: UUID | None
    account_id: int | None = None
    recipient: str = ""
    detail: str = ""
    bounce_class: BounceClass | None = None
    provider_id: str = ""
    reader: Reader | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many mails of those that a ledger counted were delivered, came back, and were complained about."""

    delivered: int = 0
    bounced: int = 0
    complained: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.delivered + other.delivered, self.bounced + other.bounced, self.complained + other.complained
        )


NOTHING = Outcome()
