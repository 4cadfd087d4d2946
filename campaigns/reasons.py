"""The closed lists of reasons why a message is not sent, and why the machine paused a campaign."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Reason(models.TextChoices):
    """One per unsent message: kept on its row, or derived from the state of its campaign and account."""

    IN_QUEUE = "in_queue", _("In the queue, its turn is next")
    NOT_DUE = "not_due", _("Planned for later")
    STEP_DELAY = "step_delay", _("Waits until its delay after the mail before it is over")
    SENDING = "sending", _("Being sent now")
    RESTORED = "restored", _("The database was put back from a backup, and the operator has not let it send yet")
    CAMPAIGN_PAUSED = "campaign_paused", _("The campaign is paused")
    OUTSIDE_WINDOW = "outside_window", _("The campaign does not send at this time")
    HOLIDAY = "holiday", _("The campaign does not send on a holiday")
    CAMPAIGN_DAY_SPENT = "campaign_day_spent", _("The campaign has written to its new contacts of today")
    RECIPIENT_DOMAIN_SPENT = "recipient_domain_spent", _("The campaign has sent this domain its mails for today")
    ACCOUNT_DAY_SPENT = "account_day_spent", _("The account has sent its mails for today")
    ACCOUNT_MONTH_SPENT = "account_month_spent", _("The account has sent its mails for this month")
    ALLOTMENT_DAY_SPENT = "allotment_day_spent", _("Your share of the account is used up for today")
    ALLOTMENT_MONTH_SPENT = "allotment_month_spent", _("Your share of the account is used up for this month")
    SENDERS_SPENT = "senders_spent", _("Every sender of the account has sent its mails for today")
    SENDERS_RESTING = "senders_resting", _("The senders rest until the gap between two of their mails is over")
    SENDERS_HOUR_SPENT = "senders_hour_spent", _("The senders have sent their mails for this hour")
    THREAD_SPENT = "thread_spent", _("The sender that writes to this contact has sent its mails for today")
    THREAD_RESTING = "thread_resting", _("The sender that writes to this contact rests after its last mail")
    THREAD_RECOVERING = (
        "thread_recovering",
        _("The sender that writes to this contact recovers from bounces or complaints"),
    )
    THREAD_OFF = "thread_off", _("The sender that writes to this contact is off or has no way through the account")
    SENDERS_RECOVERING = (
        "senders_recovering",
        _("Senders recover from bounces or complaints, and the others have sent their mails for today"),
    )
    NO_SENDERS = "no_senders", _("The account has no active sender")
    ACCOUNT_CLOSED = "account_closed", _("The account refuses mails just now; it is tried again shortly")
    ACCOUNT_BLOCKED = "account_blocked", _("The account is blocked until the operator opens it")
    ACCOUNT_GONE = "account_gone", _("The account is no longer available to this agency")
    ACCOUNTS_REFUSED = "accounts_refused", _("Every account refused it; it is tried again")
    THROTTLED = "throttled", _("The provider asked for a pause")
    RECIPIENT_BUSY = "recipient_busy", _("The recipient's server asked to try later")
    IN_DOUBT = "in_doubt", _("It may have been sent: the answer was lost, so it is not sent again")
    RECIPIENT_REFUSED = "recipient_refused", _("The recipient's address was refused")
    MESSAGE_REFUSED = "message_refused", _("The message was refused")
    NOT_RENDERED = "not_rendered", _("The text could not be made for this contact")
    MISSING_VALUE = "missing_value", _("The contact has no value that the text needs")
    BREAKS_WORKERS = "breaks_workers", _("Three workers ended while preparing it")
    NEEDS_CONSENT = "needs_consent", _("The contact has not given the consent that the accounts require")
    SOURCE_PAUSED = "source_paused", _("Too much came back from the import or list that the contact is from")
    SUPPRESSED = "suppressed", _("The contact must not be mailed")
    AWAY = "away", _("The contact is out of office")
    READER_PAUSED = "reader_paused", _("The contact wants no mails for a while")
    OPTED_OUT = "opted_out", _("The contact opted out")
    REPLIED = "replied", _("The contact replied")
    BOUNCED = "bounced", _("A mail to the contact came back")
    COMPLAINED = "complained", _("The contact complained")
    GOAL_REACHED = "goal_reached", _("The contact followed the link that is the goal")
    CONDITION_NOT_MET = "condition_not_met", _("The contact did not do what the next step asks for")
    SEQUENCE_CHANGED = "sequence_changed", _("The sequence was changed before it was due")
    CAMPAIGN_CANCELLED = "campaign_cancelled", _("The campaign was cancelled")


class PauseReason(models.TextChoices):
    """Why a running campaign could not or should not go on until a person changes something."""

    NEVER_OPENS = "never_opens", _("Its days, hours and holidays leave no time to send")
    NO_ACCOUNTS = "no_accounts", _("There is no account that this agency may use")
    ACCOUNTS_BLOCKED = "accounts_blocked", _("Every account is blocked")
    NOTHING_ALLOWED = "nothing_allowed", _("The limits allow no mail at all")
    NO_SENDERS = "no_senders", _("The agency has no active sender at these accounts")
    SENDERS_GONE = "senders_gone", _("The senders that write to its contacts are switched off or have no account left")
    WAITS_IN_VAIN = "waits_in_vain", _("Its mails wait for accounts that will not send them")
    BOUNCES = "bounces", _("Too many of its mails come back")
    COMPLAINTS = "complaints", _("Too many recipients call its mails spam")


WAYS_OUT = {
    PauseReason.NEVER_OPENS: _("Choose other days, hours or holidays in the administration."),
    PauseReason.NO_ACCOUNTS: _("Ask the operator for an allotment of an account that is in use."),
    PauseReason.ACCOUNTS_BLOCKED: _("The operator has to put right what the provider says and to try them again."),
    PauseReason.NOTHING_ALLOWED: _("Raise the mails a day or a month of the account, your share, domain or senders."),
    PauseReason.NO_SENDERS: _("Add a sender, switch one on, or have its domain verified at one of the accounts."),
    PauseReason.SENDERS_GONE: _("Switch them on, or have their domains verified at an account that may be used."),
    PauseReason.WAITS_IN_VAIN: _("Add active senders there, or have the operator raise what it may send."),
    PauseReason.BOUNCES: _(
        "Look at where its list comes from before you resume it: it is paused above 2 %, counted for a week or since "
        "it was last resumed."
    ),
    PauseReason.COMPLAINTS: _(
        "Look at whom it writes to and what before you resume it: it is paused above 0.1 %, counted for a week or "
        "since it was last resumed."
    ),
}
