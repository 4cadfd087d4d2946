import uuid
from datetime import time
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Func, Q
from django.db.models.functions import MD5, Coalesce, Greatest, Lower, Now
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from campaigns import gaps, pace, precedence
from campaigns.posting import Failure
from campaigns.reasons import PauseReason, Reason
from campaigns.sequence import Condition, Otherwise
from campaigns.variants import FURTHER, MOST_WEIGHT, OWN, Text
from providers.accounts.events import BounceClass, Reader
from providers.accounts.models import Account, TrafficClass
from providers.accounts.secrets import SecretsField
from providers.senders.inbound.labels import Label
from providers.senders.models import Sender
from providers.senders.recovery import Cause
from tenants import context
from tenants.models import known_timezone
from tenants.rows import AgencyRow


class StopOn(models.TextChoices):
    """What ends a sequence for a contact, where the campaign says so."""

    REPLY = "reply", _("A reply")
    BOUNCE = "bounce", _("A mail that came back")
    GOAL = "goal", _("The goal")


class StopScope(models.TextChoices):
    """For whom a sequence ends with it."""

    CAMPAIGN = "campaign", _("This campaign for the contact")
    AGENCY = "agency", _("All campaigns for the contact")
    COMPANY = "company", _("All campaigns for everyone at the same company's domain, free mail services aside")


class Metric(models.TextChoices):
    """By what the texts that are tried for a step are compared. Programs open mails too: opens are the least sure."""

    REPLIES = "replied", _("Replies")
    CLICKS = "clicked", _("Links followed by people")
    OPENS = "opened", _("Mails opened by people")


class Duplicates(models.TextChoices):
    """Whose contacts a launch leaves out."""

    CAMPAIGN = "campaign", _("This campaign alone: a contact gets each campaign once")
    ACTIVE = "active", _("Campaigns that run or are paused")
    ANY = "any", _("Any campaign, ever")


class MailDomain(Func):
    """The domain of an address in small letters, as `caps` and the queries of the queue have it."""

    template = "lower(substring(%(expressions)s FROM '[^@]*$'))"
    output_field = models.TextField()


def every_day() -> list[int]:
    """The weekdays of a campaign that may send on all of them."""
    return list(pace.EVERY_DAY)


def known_country(code: str) -> None:
    """Refuse a country whose holidays are not known."""
    if code not in pace.countries():
        raise ValidationError(
            _("The holidays of %(code)s are not known. Use a country's two letters in capitals, such as DE."),
            params={"code": code},
        )


def every_stop() -> list[str]:
    """What stops a sequence unless told otherwise."""
    return list(StopOn.values)


def no_accounts() -> list[int]:
    """Those of a campaign that has not been launched."""
    return []


class Basis(models.TextChoices):
    """On what grounds a person is written to (GDPR article 6 (1); 38-FZ article 18 and the terms of some providers
    accept consent alone)."""

    CONSENT = "consent", _("Consent")
    CONTRACT = "contract", _("A contract with them")
    CUSTOMER = "existing_customer", _("An existing customer, about similar offers")
    INTEREST = "legitimate_interest", _("Legitimate interest")
    WITHDRAWN = "withdrawn", _("Consent was withdrawn")


class Contact(AgencyRow):
    """A person who may be written to. `attributes` holds the other columns of the file they came in.

    Of a person whose data was erased at `erased_at` nothing is left but a made-up address, for what was counted.
    `basis` holds where a list's own says nothing; empty is not known. Written by `consent` alone.
    """

    email = models.EmailField(_("address"), max_length=254)
    first_name = models.CharField(_("first name"), max_length=120, blank=True, db_default="")
    last_name = models.CharField(_("last name"), max_length=120, blank=True, db_default="")
    company = models.CharField(_("company"), max_length=200, blank=True, db_default="")
    attributes = models.JSONField(_("more"), default=dict, blank=True)
    basis = models.CharField(_("lawful basis"), max_length=20, choices=Basis.choices, blank=True, db_default="")
    created_at = models.DateTimeField(_("created"), db_default=Now())
    erased_at = models.DateTimeField(_("erased"), null=True, editable=False)

    class Meta:
        verbose_name = _("contact")
        verbose_name_plural = _("contacts")
        constraints = [models.UniqueConstraint(Lower("email"), name="contact_email_is_unique_in_any_case")]
        # Who is at the same company.
        indexes = [models.Index(MailDomain("email"), name="contacts_of_a_domain")]

    def __str__(self) -> str:
        return self.email


class ContactList(AgencyRow):
    """A group of contacts. With `double_opt_in` whoever signs up for it is asked by mail whether it was they; without
    `sign_up_open` nobody can."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    double_opt_in = models.BooleanField(
        _("confirmation by mail"),
        default=True,
        db_default=True,
        help_text=_("Whoever signs up gets nothing but one mail with a link until they confirm by it."),
    )
    sign_up_open = models.BooleanField(
        _("sign-up open"),
        default=True,
        db_default=True,
        help_text=_("Whether its public page and forms take new sign-ups. Mails sent before can be confirmed anyway."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("list")
        verbose_name_plural = _("lists")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Subscription(AgencyRow):
    """A contact's membership of a list. `intake` is the import that brought it.

    `basis` is why that list's mails may be sent to them; empty is as the contact's. Written by `consent` alone.
    """

    list = models.ForeignKey(
        ContactList, on_delete=models.CASCADE, related_name="subscriptions", verbose_name=_("list")
    )
    contact = models.ForeignKey(
        Contact, on_delete=models.CASCADE, related_name="subscriptions", verbose_name=_("contact")
    )
    intake = models.ForeignKey("Intake", on_delete=models.SET_NULL, null=True, related_name="+")
    active = models.BooleanField(_("active"), default=True, db_default=True)
    basis = models.CharField(_("lawful basis"), max_length=20, choices=Basis.choices, blank=True, db_default="")
    created_at = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        constraints = [
            models.UniqueConstraint(fields=["list", "contact"], name="one_subscription_per_list_and_contact")
        ]

    def __str__(self) -> str:
        return f"{self.contact_id} in {self.list_id}"


class ConsentEntry(AgencyRow):
    """Evidence: a contact's basis changed, for one list or, with none, as a whole. Written by `consent` alone.

    `at` is when it was given, `recorded_at` when we heard of it; `text` is what the person was shown, of an import its
    `intake` has that. A trigger keeps entries from being changed, and from being deleted but for the erasure of a
    person.
    """

    class Source(models.TextChoices):
        IMPORT = "import", _("A file")
        PERSON = "person", _("Entered by a person")
        API = "api", _("The API")
        SIGN_UP = "sign_up", _("The sign-up form")
        CONFIRMATION = "confirmation", _("The link in the confirmation mail")
        OPT_OUT = "opt_out", _("The contact opted out")

    contact = models.ForeignKey(
        Contact, on_delete=models.PROTECT, related_name="consent_entries", verbose_name=_("contact")
    )
    list = models.ForeignKey(
        ContactList, on_delete=models.PROTECT, null=True, related_name="+", db_index=False, verbose_name=_("list")
    )
    basis = models.CharField(_("lawful basis"), max_length=20, choices=Basis.choices, blank=True)
    source = models.CharField(_("source"), max_length=12, choices=Source.choices)
    at = models.DateTimeField(_("when"))
    recorded_at = models.DateTimeField(_("recorded"), db_default=Now())
    email = models.CharField(_("address"), max_length=254)
    remote_ip = models.GenericIPAddressField(_("from the IP address"), null=True)
    user_agent = models.CharField(_("with the browser"), max_length=300, db_default="", default="")
    text = models.TextField(_("text shown"), db_default="", default="")
    detail = models.CharField(_("where"), max_length=300, db_default="", default="")
    by = models.CharField(_("recorded by"), max_length=254, db_default="", default="")
    intake = models.ForeignKey(
        "Intake", on_delete=models.PROTECT, null=True, related_name="+", db_index=False, verbose_name=_("import")
    )

    class Meta:
        verbose_name = _("evidence of consent")
        verbose_name_plural = _("evidence of consent")
        ordering = ["-id"]

    @property
    def shown(self) -> str:
        """What the person was shown."""
        return self.text or (self.intake.consent_text if self.intake else "")

    def __str__(self) -> str:
        return f"{self.email}: {self.basis}"


class SignUp(AgencyRow):
    """Somebody has asked for a list's mails under this address, and is not known to be who they say. Written by
    `signups` alone.

    No contact is made of it before it is confirmed. It is deleted a while after it was asked for, whatever came of it:
    what is kept of one that was confirmed is its evidence. `text` is what the page showed.
    """

    key = models.UUIDField(_("key"), default=uuid.uuid4, unique=True, editable=False)
    list = models.ForeignKey(ContactList, on_delete=models.CASCADE, related_name="sign_ups", verbose_name=_("list"))
    email = models.EmailField(_("address"), max_length=254)
    language = models.CharField(_("language"), max_length=2)
    text = models.TextField(_("text shown"))
    detail = models.CharField(_("where"), max_length=300, blank=True)
    remote_ip = models.GenericIPAddressField(_("from the IP address"), null=True)
    user_agent = models.CharField(_("with the browser"), max_length=300, blank=True)
    asked_at = models.DateTimeField(_("asked for"), db_index=True)
    confirmed_at = models.DateTimeField(_("confirmed"), null=True)

    class Meta:
        verbose_name = _("sign-up")
        verbose_name_plural = _("sign-ups")

    def __str__(self) -> str:
        return self.email


class Verdict(models.TextChoices):
    """What became of a row of a contact file, and why."""

    ACCEPTED = "accepted", _("Accepted")
    NO_ADDRESS = "no_address", _("No address")
    BAD_SYNTAX = "bad_syntax", _("Not an email address")
    BAD_DOMAIN = "bad_domain", _("The address's domain cannot exist")
    NO_MX = "no_mx", _("The domain takes no mail")
    DISPOSABLE = "disposable", _("A throw-away address")
    ROLE = "role", _("A role address, not a person")
    DUPLICATE = "duplicate", _("The address is in this file already")
    SUPPRESSED = "suppressed", _("The address must not be mailed")
    BAD_TEXT = "bad_text", _("A field has a line break or a forbidden character")
    TOO_LONG = "too_long", _("A field is too long")
    BAD_COLUMNS = "bad_columns", _("The row has more or fewer columns than the header")
    HEADER_AGAIN = "header_again", _("The header line again")
    FORMULA = "formula", _("A field is a spreadsheet formula")


class Intake(AgencyRow):
    """One import of a contact file. `rows` is what followed the header, `accepted + rejected = rows`.

    `basis` is the lawful basis of all its contacts, or "column" where each row names its own; the `consent_` fields
    are the evidence that whoever imported gave for it. `looked_at` is how many rows were read so far while it runs;
    `tries` how often a worker began.
    """

    BY_COLUMN = "column"

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    list = models.ForeignKey(ContactList, on_delete=models.CASCADE, related_name="intakes", verbose_name=_("list"))
    file_name = models.CharField(_("file"), max_length=255)
    status = models.CharField(_("state"), max_length=10, choices=Status.choices, default=Status.RUNNING)
    rows = models.PositiveIntegerField(_("rows"), default=0)
    accepted = models.PositiveIntegerField(_("accepted"), default=0)
    rejected = models.PositiveIntegerField(_("rejected"), default=0)
    looked_at = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    problem = models.TextField(_("problem"), blank=True)
    basis = models.CharField(
        _("lawful basis"),
        max_length=20,
        choices=[*Basis.choices, (BY_COLUMN, _("As the column “basis” says"))],
        blank=True,
        db_default="",
        default="",
    )
    consent_source = models.CharField(_("where it comes from"), max_length=300, db_default="", default="")
    consent_at = models.DateTimeField(_("given"), null=True)
    consent_text = models.TextField(_("text shown"), db_default="", default="")
    imported_by = models.CharField(_("imported by"), max_length=254, db_default="", default="")
    created_at = models.DateTimeField(_("started"), auto_now_add=True)

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="done") | Q(rows=models.F("accepted") + models.F("rejected")),
                name="intake_rows_add_up",
            )
        ]

    def __str__(self) -> str:
        return self.file_name

    @property
    def going(self) -> bool:
        """Whether it is not over."""
        return self.status in (self.Status.WAITING, self.Status.RUNNING)


class IntakePart(AgencyRow):
    """A piece of a contact file that waits for a worker of whatever host; gone once it was taken or refused."""

    intake = models.ForeignKey(Intake, on_delete=models.CASCADE, related_name="parts", db_index=False)
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        verbose_name = _("piece of a contact file")
        verbose_name_plural = _("pieces of contact files")
        constraints = [models.UniqueConstraint(fields=["intake", "number"], name="one_part_per_intake_and_number")]

    def __str__(self) -> str:
        return f"{self.intake_id}: {self.number}"


class SourcePause(AgencyRow):
    """A pause of where contacts come from: an import into a list, or, without one, whoever else is on it. Written by
    `sources` alone.

    The evidence is of the mails of a week: `least` is the rate that was surely exceeded, 0 where a person paused it.
    """

    list = models.ForeignKey(ContactList, on_delete=models.CASCADE, related_name="+", verbose_name=_("list"))
    intake = models.ForeignKey(
        Intake,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("import"),
        help_text=_("Empty: who came into the list without one."),
    )
    cause = models.CharField(_("paused because"), max_length=12, choices=Cause.choices)
    began_at = models.DateTimeField(_("paused"))
    mails = models.PositiveIntegerField(_("mails"), default=0)
    bounced = models.PositiveIntegerField(_("bounced"), default=0)
    complained = models.PositiveIntegerField(_("complained"), default=0)
    least = models.FloatField(_("the rate is at least"), default=0)
    by = models.CharField(_("paused by"), max_length=254, blank=True, default="", help_text=_("Empty: the machine."))
    why = models.CharField(_("why"), max_length=300, blank=True, default="")
    ended_at = models.DateTimeField(_("ended"), null=True)
    ended_by = models.CharField(_("released by"), max_length=254, blank=True, default="")
    ended_why = models.CharField(_("released because"), max_length=300, blank=True, default="")

    class Meta:
        verbose_name = _("pause of a list source")
        verbose_name_plural = _("pauses of list sources")
        ordering = ["-began_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["list", "intake"],
                condition=Q(ended_at__isnull=True),
                nulls_distinct=False,
                name="a_source_is_paused_once_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(cause=Cause.PERSON) | (~Q(by="") & ~Q(why="")), name="who_pauses_a_source_says_why"
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | (~Q(ended_by="") & ~Q(ended_why="")),
                name="who_releases_a_source_says_why",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.list}: {self.intake.file_name}" if self.intake else str(self.list)


class RejectedRow(AgencyRow):
    """A row of a contact file that was not taken. `number` is its line in the file, counted from 1 with the header.

    `detail` and `params` are those of its Refusal: words to be translated, and what stands in them.
    """

    intake = models.ForeignKey(Intake, on_delete=models.CASCADE, related_name="rejected_rows", verbose_name=_("import"))
    number = models.PositiveIntegerField(_("row"))
    email = models.TextField(_("address"))
    verdict = models.CharField(_("reason"), max_length=20, choices=Verdict.choices)
    detail = models.TextField(_("detail"), blank=True)
    params = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("rejected row")
        verbose_name_plural = _("rejected rows")
        ordering = ["number"]
        indexes = [models.Index(fields=["intake", "number"])]

    def __str__(self) -> str:
        return f"{self.number}: {self.verdict}"

    @property
    def said(self) -> str:
        """What is wrong with the row, in the language of the moment."""
        return gettext(self.detail) % self.params if self.params else gettext(self.detail)


class Suppression(AgencyRow):
    """An address, a domain or a wildcard that must not be mailed, with the evidence. Stored in small letters.

    With a `list`, only that list's campaigns must not. `in_force_at` is taken once it is committed: what was begun
    before may have been on its way.
    """

    class Source(models.TextChoices):
        BOUNCE = "bounce", _("Bounced")
        COMPLAINT = "complaint", _("Complained")
        OPT_OUT = "opt_out", _("Opted out")
        MANUAL = "manual", _("Added by a person")

    value = models.CharField(_("address, domain or wildcard"), max_length=254)
    list = models.ForeignKey(
        ContactList,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        verbose_name=_("only for the list"),
    )
    source = models.CharField(_("why"), max_length=20, choices=Source.choices)
    evidence = models.TextField(_("evidence"), blank=True)
    message = models.ForeignKey(
        "Message", on_delete=models.SET_NULL, null=True, related_name="+", editable=False, verbose_name=_("message")
    )
    remote_ip = models.GenericIPAddressField(_("asked from"), null=True, editable=False)
    created_at = models.DateTimeField(_("since"), db_default=Now())
    in_force_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("suppression")
        verbose_name_plural = _("suppressions")
        constraints = [
            models.CheckConstraint(condition=Q(value=Lower("value")), name="suppression_value_is_in_small_letters"),
            # A list's id counts from 1: none is 0. Led by the value, for it is what is looked up.
            models.UniqueConstraint("value", Coalesce("list", 0), name="one_suppression_per_value_and_list"),
        ]
        indexes = [
            models.Index(fields=["-created_at"], condition=Q(source="opt_out"), name="suppression_newest_opt_outs"),
            # For deleting a list alone. With an index that has those of no list as well, the planner would, while it
            # believes that there are few, read all of them for each mail that it looks up.
            models.Index(fields=["list"], condition=Q(list__isnull=False), name="suppressions_of_lists"),
        ]

    def __str__(self) -> str:
        return self.value


class ErasureKey(AgencyRow):
    """A key of the hashes of erased people's addresses, sealed like every secret. The newest makes new hashes.

    It is made once and stays for as long as hashes of it do: nobody can make them anew without the addresses.
    """

    secret = SecretsField(_("key"))
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)


class Erasure(AgencyRow):
    """The receipt of a person's erasure. All that is left of the address is `digest`, its hash with the key.

    `contact` is who it is about, with a made-up address once it is done; null where no contact had the address.
    `done_at` null: a mail to them is on its way, and what is kept is erased after it. `counts`: rows by what they were.
    """

    digest = models.BinaryField(_("hash of the address"))
    key = models.ForeignKey(ErasureKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    contact = models.ForeignKey(Contact, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    by = models.CharField(_("by"), max_length=254)
    asked_at = models.DateTimeField(_("asked for"))
    done_at = models.DateTimeField(_("erased"), null=True)
    counts = models.JSONField(_("what was erased"), default=dict)

    class Meta:
        verbose_name = _("erasure")
        verbose_name_plural = _("erasures")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["digest"], name="erased_by_hash"),
            models.Index(fields=["id"], condition=Q(done_at=None), name="erasures_to_be_done"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}"


class Pause(AgencyRow):
    """A reader wants no mails until then. Their mails wait; nothing is cancelled. `value` is in small letters."""

    value = models.CharField(_("address"), max_length=254, unique=True)
    until = models.DateTimeField(_("until"))
    message = models.ForeignKey(
        "Message", on_delete=models.SET_NULL, null=True, related_name="+", editable=False, verbose_name=_("message")
    )
    remote_ip = models.GenericIPAddressField(_("asked from"), null=True, editable=False)
    created_at = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("reader's pause")
        verbose_name_plural = _("readers' pauses")
        constraints = [
            models.CheckConstraint(condition=Q(value=Lower("value")), name="pause_value_is_in_small_letters"),
        ]

    def __str__(self) -> str:
        return self.value


class Campaign(AgencyRow):
    """A sequence of mails to the contacts of a list.

    `paused_reason` and `paused_detail` are set where the machine paused it, and empty where a person did. `accounts`
    are those that its mails have been given to, written by `lifecycle`: while it runs, their senders keep its gap.
    """

    class Status(models.TextChoices):
        DRAFT = "draft", _("Draft")
        RUNNING = "running", _("Running")
        PAUSED = "paused", _("Paused")
        FINISHED = "finished", _("Finished")
        CANCELLED = "cancelled", _("Cancelled")

    class Distribution(models.TextChoices):
        BY_CLASS = "by_class", _("By class: the accounts meant for it, the others as failover")
        EVEN = "even", _("Evenly over all accounts")
        SHARES = "shares", _("By given shares")

    class Overflow(models.TextChoices):
        REROUTE = "reroute", _("Move to another account")
        WAIT = "wait", _("Wait for the planned account")

    class WindowZone(models.TextChoices):
        CAMPAIGN = "campaign", _("Of the campaign")
        RECIPIENT = "recipient", _("Of the recipient, where their “timezone” column names it")

    name = models.CharField(_("name"), max_length=120)
    list = models.ForeignKey(ContactList, on_delete=models.PROTECT, related_name="campaigns", verbose_name=_("list"))
    traffic_class = models.CharField(
        _("class"), max_length=20, choices=TrafficClass.choices, default=TrafficClass.COLD_OUTREACH
    )
    distribution = models.CharField(
        _("distribution"), max_length=10, choices=Distribution.choices, default=Distribution.BY_CLASS
    )
    shares = models.JSONField(
        _("shares"), default=dict, blank=True, help_text=_('Only for given shares: {"account name": percent, …}')
    )
    overflow = models.CharField(
        _("when an account is full"), max_length=10, choices=Overflow.choices, default=Overflow.REROUTE
    )
    gap_seconds = models.PositiveIntegerField(
        _("least gap between two mails of a sender, seconds"),
        null=True,
        blank=True,
        help_text=_("Empty: 540 for cold outreach, none for the other classes."),
    )
    gap_jitter_seconds = models.PositiveIntegerField(
        _("random part of the gap, seconds"),
        null=True,
        blank=True,
        help_text=_("Up to so much is added to the gap. Empty: 300 for cold outreach, none for the other classes."),
    )
    weekdays = ArrayField(
        models.PositiveSmallIntegerField(validators=[MaxValueValidator(6)]), verbose_name=_("days"), default=every_day
    )
    window_from = models.TimeField(_("from"), null=True, blank=True, help_text=_("Empty: from midnight."))
    window_until = models.TimeField(_("until"), null=True, blank=True, help_text=_("Empty: until midnight."))
    timezone = models.CharField(
        _("time zone"),
        max_length=64,
        blank=True,
        validators=[known_timezone],
        help_text=_("Such as Europe/Berlin. Empty: the agency's."),
    )
    window_zone = models.CharField(
        _("whose time"), max_length=10, choices=WindowZone.choices, default=WindowZone.CAMPAIGN
    )
    holidays = models.CharField(
        _("not on the holidays of"),
        max_length=2,
        blank=True,
        validators=[known_country],
        help_text=_("A country's two letters, such as DE. Empty: on every day."),
    )
    new_contacts_per_day = models.PositiveIntegerField(
        _("new contacts a day"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1, _("Write 1 or more, or nothing for no limit."))],
        help_text=_("At most so many first mails a day. Empty: no limit of the campaign's own."),
    )
    per_domain_per_day = models.PositiveIntegerField(
        _("mails a day to one domain"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1, _("Write 1 or more, or nothing for no limit."))],
        help_text=_("At most so many to the addresses of each domain, gmail.com too. Empty: no limit."),
    )
    duplicates = models.CharField(
        _("not to contacts of"),
        max_length=10,
        choices=Duplicates.choices,
        default=Duplicates.CAMPAIGN,
        db_default=Duplicates.CAMPAIGN,
    )
    stop_on = ArrayField(
        models.CharField(max_length=12, choices=StopOn.choices),
        verbose_name=_("stop on"),
        default=every_stop,
        db_default=[*StopOn.values],
        blank=True,
        help_text=_("Complaints and opt-outs stop it always."),
    )
    stop_scope = models.CharField(
        _("stops"),
        max_length=10,
        choices=StopScope.choices,
        default=StopScope.CAMPAIGN,
        db_default=StopScope.CAMPAIGN,
    )
    goal_url = models.CharField(
        _("goal"),
        max_length=500,
        blank=True,
        db_default="",
        help_text=_("The campaign's goal is reached with a click on a link that begins with this address."),
    )
    track_opens = models.BooleanField(
        _("count opens"), default=True, help_text=_("With an invisible picture in the HTML.")
    )
    track_clicks = models.BooleanField(
        _("count clicks"), default=True, help_text=_("Links of the HTML lead through your own host.")
    )
    status = models.CharField(_("state"), max_length=10, choices=Status.choices, default=Status.DRAFT, editable=False)
    paused_reason = models.CharField(
        _("paused because"), max_length=30, choices=PauseReason.choices, blank=True, db_default="", editable=False
    )
    paused_detail = models.CharField(_("about"), max_length=300, blank=True, db_default="", editable=False)
    resumed_at = models.DateTimeField(_("went on"), null=True, editable=False)
    accounts = ArrayField(models.BigIntegerField(), default=no_accounts, db_default=[], editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    launched_at = models.DateTimeField(_("launched"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, editable=False)

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(paused_reason="") | Q(status="paused"), name="only_a_paused_campaign_says_why"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not self.weekdays:
            raise ValidationError({"weekdays": _("Choose at least one day, or the campaign never sends.")})
        if self.window_from and self.window_until and self.window_from >= self.window_until:
            raise ValidationError({"window_until": _("The end must be later than the beginning, on the same day.")})
        if self.window_until == time():
            raise ValidationError({"window_until": _("Leave the end empty where mails may leave until midnight.")})
        if self.holidays not in pace.countries() or (self.timezone and self.timezone not in pace.zones()):
            return
        if pace.next_open(self.schedule(context.current_agency().zone), timezone.now()) is None:
            raise ValidationError(
                {"holidays": _("All these days are holidays there, so the campaign never sends: choose other days.")}
            )

    @property
    def gap(self) -> gaps.Gap:
        """How far apart mails of one sender are at least for its sake."""
        return gaps.of_campaign(self.traffic_class, self.gap_seconds, self.gap_jitter_seconds)

    def schedule(self, own: ZoneInfo, *, of: object = None) -> pace.Schedule:
        """When it may send, `own` being the agency's zone; to a contact whose zone is called `of`, where it is."""
        zone = ZoneInfo(self.timezone) if self.timezone else own
        if self.window_zone == self.WindowZone.RECIPIENT:
            zone = pace.zone_named(of, zone)
        return pace.Schedule(zone, frozenset(self.weekdays), self.window_from, self.window_until, self.holidays)


class LaunchForecast(AgencyRow):
    """What was foreseen for a campaign when it was launched. `finishes_on` null is never; `cost` in $.

    `days`: [{"day": ISO date, "accounts": {name: mails}, "limit": code}], the agency's days one after the other.
    """

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="launch_forecast")
    made_at = models.DateTimeField(_("made"))
    mails = models.PositiveIntegerField(_("mails"))
    finishes_on = models.DateField(_("finishes on"), null=True)
    cost = models.DecimalField(_("cost, $"), max_digits=12, decimal_places=2)
    days = models.JSONField(_("days"), default=list)

    class Meta:
        verbose_name = _("forecast at launch")
        verbose_name_plural = _("forecasts at launch")

    def __str__(self) -> str:
        return f"{self.campaign_id}: {self.finishes_on}"


class CampaignDay(AgencyRow):
    """First mails of a campaign on one of the agency's days, where the campaign has a cap on them."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="days")
    day = models.DateField(_("day"))
    allowed = models.PositiveIntegerField(_("allowed"))
    used = models.PositiveIntegerField(_("used"), default=0)

    class Meta:
        verbose_name = _("campaign's day")
        verbose_name_plural = _("campaigns' days")
        constraints = [
            models.UniqueConstraint(fields=["campaign", "day"], name="one_row_per_campaign_and_day"),
            models.CheckConstraint(condition=Q(used__lte=models.F("allowed")), name="campaign_used_within_allowed"),
        ]

    def __str__(self) -> str:
        return f"{self.campaign_id} on {self.day}: {self.used} of {self.allowed}"


class RecipientDay(AgencyRow):
    """Mails of a campaign to one domain on one of the agency's days, where the campaign has a cap on them."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="recipient_days")
    domain = models.CharField(_("domain"), max_length=254)
    day = models.DateField(_("day"))
    allowed = models.PositiveIntegerField(_("allowed"))
    used = models.PositiveIntegerField(_("used"), default=0)

    class Meta:
        verbose_name = _("recipient domain's day")
        verbose_name_plural = _("recipient domains' days")
        constraints = [
            models.UniqueConstraint(fields=["campaign", "day", "domain"], name="one_row_per_campaign_day_and_domain"),
            models.CheckConstraint(condition=Q(used__lte=models.F("allowed")), name="recipient_used_within_allowed"),
        ]

    def __str__(self) -> str:
        return f"{self.domain} on {self.day}: {self.used} of {self.allowed}"


class Step(AgencyRow):
    """One mail of a campaign. Texts are Liquid; an empty plain text is made from the HTML.

    `position` null is a step that was taken out of a campaign which had been launched. The first step has no use for
    what stands under `delay` and below. A later one with no subject, or with that of the mail before, goes on with its
    thread.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="steps", verbose_name=_("campaign"))
    position = models.PositiveSmallIntegerField(_("position"), default=1, null=True)
    delay = models.PositiveSmallIntegerField(
        _("delay after the mail before"),
        default=3,
        db_default=3,
        validators=[MinValueValidator(1), MaxValueValidator(999)],
    )
    unit = models.CharField(
        _("counted in"), max_length=12, choices=pace.Unit.choices, default=pace.Unit.DAYS, db_default=pace.Unit.DAYS
    )
    condition = models.CharField(
        _("only who"), max_length=12, choices=Condition.choices, blank=True, default="", db_default=""
    )
    otherwise = models.CharField(
        _("the others"), max_length=4, choices=Otherwise.choices, default=Otherwise.NEXT, db_default=Otherwise.NEXT
    )
    subject = models.CharField(
        _("subject"),
        max_length=250,
        blank=True,
        help_text=_("Of a follow-up, empty: in the thread of the mail before."),
    )
    html = models.TextField(_("HTML"), blank=True)
    text = models.TextField(_("plain text"), blank=True, help_text=_("Empty: made from the HTML."))
    changed_at = models.DateTimeField(_("changed"), auto_now=True)
    weight = models.PositiveSmallIntegerField(
        _("weight of the step's own text"),
        default=1,
        db_default=1,
        help_text=_("Beside those of its variants; of 0, nobody new gets it."),
    )
    compare_by = models.CharField(
        _("variants are compared by"),
        max_length=10,
        choices=Metric.choices,
        default=Metric.REPLIES,
        db_default=Metric.REPLIES,
    )
    auto_choice = models.BooleanField(_("choose the best variant automatically"), default=False, db_default=False)
    least_sends = models.PositiveIntegerField(
        _("mails of each variant before one is chosen"), default=100, db_default=100
    )
    sure_at = models.PositiveSmallIntegerField(_("certainty, %"), default=95, db_default=95)
    compared_since = models.DateTimeField(_("compared since"), null=True, editable=False)
    chosen = models.CharField(_("chosen variant"), max_length=1, blank=True, default="", db_default="", editable=False)
    chosen_at = models.DateTimeField(_("chosen at"), null=True, editable=False)

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["campaign", "position"], name="one_step_per_position"),
            models.CheckConstraint(condition=~Q(html="") | ~Q(text=""), name="step_has_a_body"),
            models.CheckConstraint(condition=~Q(position=1) | ~Q(subject=""), name="first_step_has_a_subject"),
            models.CheckConstraint(condition=Q(delay__gte=1), name="step_has_a_delay"),
            models.CheckConstraint(condition=Q(weight__lte=MOST_WEIGHT), name="step_weight_is_in_bounds"),
            models.CheckConstraint(
                condition=Q(chosen="", chosen_at=None) | ~Q(chosen="") & Q(chosen_at__isnull=False),
                name="chosen_variant_has_its_time",
            ),
            models.CheckConstraint(condition=Q(sure_at__range=(80, 99)), name="certainty_is_80_to_99_percent"),
            models.CheckConstraint(condition=Q(least_sends__gte=30), name="variants_have_30_mails_before_a_choice"),
        ]

    def __str__(self) -> str:
        return self.subject

    @property
    def texts(self) -> list[Text]:
        """All texts that are tried for it, its own first."""
        others = list(self.variants.all())
        own = OWN if others else ""
        return [
            Text(self.position, own, self.subject, self.html, self.text, self.weight, self.changed_at),
            *(
                Text(self.position, one.letter, one.subject, one.html, one.text, one.weight, one.changed_at)
                for one in others
            ),
        ]

    @property
    def weights(self) -> dict[str, int]:
        """By letter, what new contacts get: the chosen text, or those that are tried; empty where it has but one."""
        texts = self.texts
        if len(texts) < 2:
            return {}
        if self.chosen:
            return {self.chosen: 1}
        return {one.letter: one.weight for one in texts if one.weight} or {OWN: 1}


class Variant(AgencyRow):
    """A further text that is tried for a step, whose own is A: a step has six at most.

    Of a campaign that was launched none is taken away, for mails name it: its weight becomes 0. As with a follow-up,
    no subject is that of the thread.
    """

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="variants", verbose_name=_("step"))
    letter = models.CharField(_("letter"), max_length=1)
    weight = models.PositiveSmallIntegerField(_("weight"), default=1, db_default=1)
    subject = models.CharField(_("subject"), max_length=250, blank=True)
    html = models.TextField(_("HTML"), blank=True)
    text = models.TextField(_("plain text"), blank=True)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("variant")
        verbose_name_plural = _("variants")
        ordering = ["letter"]
        constraints = [
            models.UniqueConstraint(fields=["step", "letter"], name="one_variant_per_step_and_letter"),
            models.CheckConstraint(condition=Q(letter__in=list(FURTHER)), name="a_step_has_six_variants_at_most"),
            models.CheckConstraint(condition=~Q(html="") | ~Q(text=""), name="variant_has_a_body"),
            models.CheckConstraint(condition=Q(weight__lte=MOST_WEIGHT), name="variant_weight_is_in_bounds"),
        ]

    def __str__(self) -> str:
        return f"{self.letter}: {self.subject}"


class StepFile(AgencyRow):
    """A file that goes with a step's mails; `inline` is a picture that their HTML shows by its name.

    Of a step that has mails none is added, changed or taken away. `size` is of its content, in bytes, and `digest` its
    SHA-256. Written by `files` alone.
    """

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="files", verbose_name=_("step"))
    name = models.CharField(_("name"), max_length=100)
    content_type = models.CharField(_("type"), max_length=100)
    inline = models.BooleanField(_("shown in the mail"), default=False, db_default=False)
    content = models.BinaryField(_("content"))
    size = models.PositiveIntegerField(_("size"))
    digest = models.CharField(max_length=64)
    by = models.CharField(_("by"), max_length=254, blank=True)
    added_at = models.DateTimeField(_("added"))

    class Meta:
        verbose_name = _("file of a step")
        verbose_name_plural = _("files of steps")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint("step", Lower("name"), name="one_file_of_a_name_per_step"),
            models.CheckConstraint(condition=Q(size__range=(1, 5 * 1024 * 1024)), name="a_file_has_at_most_5_mb"),
        ]

    def __str__(self) -> str:
        return self.name


class FormerSubject(AgencyRow):
    """The subject that a step of a launched campaign had until then, as it was written, of the further text of that
    letter or of its own: what was sent so goes on as it began. Written by `changes` alone."""

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="former_subjects", verbose_name=_("step"))
    letter = models.CharField(_("letter"), max_length=1, blank=True)
    subject = models.CharField(_("subject"), max_length=250, blank=True)
    until = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("former subject")
        verbose_name_plural = _("former subjects")

    def __str__(self) -> str:
        return self.subject


class VariantChoice(AgencyRow):
    """What was decided about the variants of a step, by whom and on what evidence. `letter` is empty where a choice was
    taken back. `evidence` is what `results` told of the step then."""

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="choices", verbose_name=_("step"))
    letter = models.CharField(_("chosen variant"), max_length=1, blank=True)
    by = models.CharField(_("by"), max_length=254, blank=True, help_text=_("Empty: the machine."))
    at = models.DateTimeField(_("when"))
    evidence = models.JSONField(_("evidence"), default=dict)

    class Meta:
        verbose_name = _("choice of a variant")
        verbose_name_plural = _("choices of variants")
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.step_id}: {self.letter}"


class Link(AgencyRow):
    """A link in a step's HTML that is followed through us. Never changed: mails that were sent name it by its id.

    What is Liquid in `url` is filled in for the contact who follows it.
    """

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="links", verbose_name=_("step"))
    url = models.TextField(_("address"))
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("link")
        verbose_name_plural = _("links")
        constraints = [models.UniqueConstraint("step", MD5("url"), name="one_link_per_step_and_address")]

    def __str__(self) -> str:
        return self.url


class Enrollment(AgencyRow):
    """A contact in a campaign, once. From the first mail on `sender` is who writes to them.

    `passed` is the last step that was sent to them or passed over, at `passed_at`. `advance` looks at `look_at` what
    comes next; null is nothing, or it is in the queue already. `ended` is why nothing more comes, empty where the steps
    themselves say so. `consented` is whether the contact has given consent to the campaign's mails, as `consent` keeps
    it, so that a claim need not look. Without foreign keys in the database, like Message.
    """

    campaign = models.ForeignKey(
        Campaign, on_delete=models.CASCADE, related_name="enrollments", db_index=False, db_constraint=False
    )
    contact = models.ForeignKey(
        Contact, on_delete=models.PROTECT, related_name="enrollments", db_index=False, db_constraint=False
    )
    sender = models.ForeignKey(
        Sender, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, db_constraint=False
    )
    passed = models.ForeignKey(
        Step, on_delete=models.PROTECT, null=True, related_name="+", db_index=False, db_constraint=False
    )
    passed_at = models.DateTimeField(null=True)
    look_at = models.DateTimeField(null=True)
    ended = models.CharField(_("ended"), max_length=30, choices=Reason.choices, blank=True, db_default="", default="")
    ended_at = models.DateTimeField(null=True)
    consented = models.BooleanField(_("consent given"), db_default=False, default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("enrollment")
        verbose_name_plural = _("enrollments")
        constraints = [
            models.UniqueConstraint(fields=["campaign", "contact"], name="a_contact_enters_a_campaign_once"),
            models.CheckConstraint(condition=Q(ended="") | Q(look_at=None), name="what_has_ended_is_not_looked_at"),
        ]
        indexes = [
            models.Index("look_at", condition=Q(look_at__isnull=False), name="enrollments_to_be_looked_at"),
        ]

    def __str__(self) -> str:
        return f"{self.contact_id} in {self.campaign_id}"


class Message(AgencyRow):
    """One mail to one contact for one step. The row is the queue and the truth; `lifecycle` alone writes `status`.

    `planned` is the account of the launch plan, `account` the one it goes through now. `key` names the mail to
    the outside world: Message-ID, idempotency key, metadata. `claim` fences a worker out whose lease is over.
    `fingerprint` is of the bytes of the last attempt and of where they went, where that provider may be asked again
    with the same; `ask_at` is when, empty for at once. `sendings` counts how often a person had it sent again.

    Without foreign keys in the database, whose checks took longer than a launch of a million itself: a launch makes
    rows from rows it has read, what a launch has read is not deleted (a trigger keeps the campaign and its steps;
    contacts, senders and accounts are kept anyway), and `mail_audit` looks for what leads nowhere.
    """

    class Status(models.TextChoices):
        SCHEDULED = "scheduled", _("Scheduled")
        CLAIMED = "claimed", _("Claimed")
        SENT = "sent", _("Sent")
        HELD = "held", _("Held")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        UNKNOWN = "unknown", _("In doubt")

    key = models.UUIDField(_("key"), default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    campaign = models.ForeignKey(
        Campaign,
        on_delete=models.PROTECT,
        related_name="messages",
        db_index=False,
        db_constraint=False,
        verbose_name=_("campaign"),
    )
    step = models.ForeignKey(
        Step,
        on_delete=models.PROTECT,
        related_name="messages",
        db_index=False,
        db_constraint=False,
        verbose_name=_("step"),
    )
    enrollment = models.ForeignKey(
        Enrollment, on_delete=models.PROTECT, related_name="messages", db_index=False, db_constraint=False
    )
    contact = models.ForeignKey(
        Contact, on_delete=models.PROTECT, related_name="messages", db_constraint=False, verbose_name=_("contact")
    )
    planned = models.ForeignKey(
        Account,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
        verbose_name=_("planned account"),
    )
    account = models.ForeignKey(
        Account,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
        verbose_name=_("account"),
    )
    sender = models.ForeignKey(
        Sender,
        on_delete=models.PROTECT,
        null=True,
        related_name="messages",
        db_index=False,
        db_constraint=False,
        verbose_name=_("sender"),
    )
    status = models.CharField(
        _("state"), max_length=10, choices=Status.choices, default=Status.SCHEDULED, db_default=Status.SCHEDULED
    )
    reason = models.CharField(_("reason"), max_length=30, choices=Reason.choices, blank=True, db_default="")
    detail = models.CharField(_("detail"), max_length=300, blank=True, db_default="")
    # A head start in days, see `precedence`.
    priority = models.PositiveSmallIntegerField(db_default=0, default=0)
    due_at = models.DateTimeField(_("due"))
    # Out of the queue, and otherwise as it was, until its campaign is resumed.
    parked = models.BooleanField(db_default=False, default=False)
    created_at = models.DateTimeField(db_default=Now())

    claim = models.UUIDField(null=True)
    claimed_at = models.DateTimeField(null=True)
    # The agency's day on which its sender and its domain counted it: the agency's time zone may change.
    counted_on = models.DateField(null=True)
    lease_until = models.DateTimeField(null=True)
    # The time between two crashes of PostgreSQL in which it was claimed: an unsynced mark does not survive a crash.
    epoch = models.UUIDField(null=True)
    attempted_at = models.DateTimeField(_("last attempt"), null=True)
    # How many mails of the same claim went in the request of that attempt.
    together = models.PositiveSmallIntegerField(default=1, db_default=1)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, db_default=0)
    rescues = models.PositiveSmallIntegerField(default=0, db_default=0)
    refused_by = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    fingerprint = models.CharField(max_length=32, blank=True, default="", db_default="")
    ask_at = models.DateTimeField(null=True)
    sendings = models.PositiveSmallIntegerField(default=0, db_default=0)
    # Set when it is first tried, and never again; empty for a step that had one text then.
    variant = models.CharField(_("variant"), max_length=1, blank=True, default="", db_default="")

    sent_at = models.DateTimeField(_("sent"), null=True)
    provider_id = models.CharField(_("provider's id"), max_length=255, blank=True, db_default="")

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["enrollment", "step"], name="one_message_per_enrollment_and_step"),
            models.CheckConstraint(
                condition=~Q(status="claimed")
                | Q(claim__isnull=False, lease_until__isnull=False, epoch__isnull=False, sender__isnull=False),
                name="claimed_has_claim_and_lease",
            ),
            models.CheckConstraint(
                condition=~Q(status="sent") | Q(sent_at__isnull=False, sender__isnull=False),
                name="sent_has_time_and_sender",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["held", "failed", "cancelled", "unknown"]) | ~Q(reason=""),
                name="unsent_has_reason",
            ),
            models.CheckConstraint(condition=Q(priority__lte=precedence.HIGH), name="priority_is_a_head_start"),
            # What is parked is taken by no worker, so nobody can bring it back while its campaign is resumed.
            models.CheckConstraint(
                condition=Q(parked=False) | Q(status__in=["scheduled", "sent", "cancelled"]),
                name="parked_is_in_no_hands",
            ),
        ]
        # Each costs every launch and every mail, so each has its readers: the key, evidence and events; the enrollment
        # and step above, that one mail is not queued twice; the contact, its bounces in a row and the search for it.
        indexes = [
            # Claims, and what is due.
            models.Index(
                "account",
                "priority",
                "due_at",
                "id",
                condition=Q(status="scheduled", parked=False),
                name="message_queue",
            ),
            # What dead workers held.
            models.Index("lease_until", condition=Q(status="claimed"), name="message_leases"),
            # A campaign in numbers, whether it is finished, and what its pause is to put aside or to bring back.
            models.Index("campaign", "status", "parked", "account", name="message_campaign_status"),
            # Which providers are to be asked.
            models.Index("account", condition=Q(status="unknown"), name="message_doubts"),
        ]

    def __str__(self) -> str:
        return str(self.key)


class MessageFacts(AgencyRow):
    """What came after a mail was sent: each time is set once, in whatever order the events come.

    Written by `feedback` alone, in a row of its own so that events never touch the queue. A mail of which nothing was
    heard has none. `opened_by` and `clicked_by` are the likeliest person of all who did.
    """

    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="facts", primary_key=True)
    delivered_at = models.DateTimeField(_("delivered"), null=True)
    opened_at = models.DateTimeField(_("opened"), null=True)
    clicked_at = models.DateTimeField(_("clicked"), null=True)
    replied_at = models.DateTimeField(_("replied"), null=True)
    bounced_at = models.DateTimeField(_("bounced"), null=True)
    complained_at = models.DateTimeField(_("complained"), null=True)
    unsubscribed_at = models.DateTimeField(_("unsubscribed"), null=True)
    bounce_class = models.CharField(
        _("kind of bounce"), max_length=12, choices=BounceClass.choices, blank=True, db_default=""
    )
    opened_by = models.CharField(_("opened by"), max_length=7, choices=Reader.choices, blank=True, db_default="")
    clicked_by = models.CharField(
        _("links followed by"), max_length=7, choices=Reader.choices, blank=True, db_default=""
    )

    class Meta:
        verbose_name = _("facts of a message")
        verbose_name_plural = _("facts of messages")

    def __str__(self) -> str:
        return str(self.message_id)


class CampaignOutcome(AgencyRow):
    """How many of a campaign's mails have each fact. Written by `feedback` alone, with the facts.

    Of those opened and clicked, so many by people and by programs; the rest is unclear, see `readership`.
    """

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="outcome", primary_key=True)
    delivered = models.PositiveIntegerField(_("delivered"), db_default=0, default=0)
    opened = models.PositiveIntegerField(_("opened"), db_default=0, default=0)
    clicked = models.PositiveIntegerField(_("clicked"), db_default=0, default=0)
    replied = models.PositiveIntegerField(_("replied"), db_default=0, default=0)
    bounced = models.PositiveIntegerField(_("bounced"), db_default=0, default=0)
    complained = models.PositiveIntegerField(_("complained"), db_default=0, default=0)
    unsubscribed = models.PositiveIntegerField(_("unsubscribed"), db_default=0, default=0)
    opened_human = models.PositiveIntegerField(db_default=0, default=0)
    opened_machine = models.PositiveIntegerField(db_default=0, default=0)
    clicked_human = models.PositiveIntegerField(db_default=0, default=0)
    clicked_machine = models.PositiveIntegerField(db_default=0, default=0)

    class Meta:
        verbose_name = _("campaign's outcome")
        verbose_name_plural = _("campaigns' outcomes")

    def __str__(self) -> str:
        return f"{self.campaign_id}: {self.delivered} delivered, {self.bounced} bounced"


class ReplyLabel(models.TextChoices):
    """What an answer means, in the words of the rules that read it."""

    INTERESTED = Label.INTERESTED, _("Interested")
    QUESTION = Label.QUESTION, _("Question")
    NOT_NOW = Label.NOT_NOW, _("Not now")
    NOT_INTERESTED = Label.NOT_INTERESTED, _("Not interested")
    WRONG_PERSON = Label.WRONG_PERSON, _("Wrong person")
    OPT_OUT = Label.OPT_OUT, _("Opt-out")
    OUT_OF_OFFICE = Label.OUT_OF_OFFICE, _("Out of office")
    AUTO_REPLY = Label.AUTO_REPLY, _("Automatic reply")
    OTHER = Label.OTHER, _("Something else")


# What stands between the parts of addresses and names: each part is a word to be found.
WORDS_END = "@./<>_-:+="


class ReplyWords(Func):
    """What a reply is found by, in SQL: the words of its text, subject and sender. Of a long text only the start, for
    PostgreSQL keeps no more than a megabyte of words."""

    arity = 0
    output_field = SearchVectorField()
    template = (
        "to_tsvector('simple'::regconfig, translate(left(text, 100000) || ' ' || subject || ' ' || sender, "
        f"'{WORDS_END}', '{' ' * len(WORDS_END)}'))"
    )


class Reply(AgencyRow):
    """An answer to a mail, of a person or of his machine (`automatic`). Written by `replies` alone, once per `digest`,
    but for what people do with it: `conversations`.

    `text` is without quotes and signature, `signed` with signature. `found` is the label by the rules of version
    `rules` and `span` the words that decided it; `label` is the one that holds: a person's (`decided_by`), what
    corrections have taught, or else the same. `own_id` is the answer's own Message-ID with angle brackets.
    """

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="replies", verbose_name=_("mail"))
    digest = models.UUIDField(unique=True, editable=False)
    own_id = models.CharField(max_length=500, blank=True, db_default="", default="")
    sender = models.CharField(_("from"), max_length=320, blank=True, db_default="", default="")
    subject = models.CharField(_("subject"), max_length=500, blank=True, db_default="", default="")
    text = models.TextField(_("text"), blank=True, db_default="", default="")
    signed = models.TextField(_("text with signature"), blank=True, db_default="", default="")
    automatic = models.BooleanField(_("written by a machine"), db_default=False, default=False)
    label = models.CharField(_("label"), max_length=20, choices=ReplyLabel.choices)
    found = models.CharField(_("label by the rules"), max_length=20, choices=ReplyLabel.choices)
    span = models.CharField(_("decided by"), max_length=200, blank=True, db_default="", default="")
    rules = models.CharField(_("version of the rules"), max_length=20)
    returns_on = models.DateField(_("back on"), null=True)
    received_at = models.DateTimeField(_("received"))
    decided_by = models.CharField(
        _("label set by"), max_length=254, blank=True, db_default="", default="", help_text=_("Empty: the machine.")
    )
    decided_at = models.DateTimeField(_("label set at"), null=True)
    # Emptied by the database: an operator is deleted where no agency's tables are.
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        null=True,
        related_name="+",
        verbose_name=_("assigned to"),
    )
    read_at = models.DateTimeField(_("read"), null=True)
    snoozed_until = models.DateTimeField(_("snoozed until"), null=True)
    done_at = models.DateTimeField(_("done"), null=True)
    # Its place in the inbox: what was snoozed comes back as if it had come then.
    stands_at = models.GeneratedField(
        expression=Greatest("received_at", "snoozed_until"), output_field=models.DateTimeField(), db_persist=True
    )
    words = models.GeneratedField(expression=ReplyWords(), output_field=SearchVectorField(), db_persist=True)

    class Meta:
        verbose_name = _("reply")
        verbose_name_plural = _("replies")
        ordering = ["-received_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(decided_by="", decided_at=None) | ~Q(decided_by="") & Q(decided_at__isnull=False),
                name="who_labels_a_reply_does_so_at_a_time",
            )
        ]
        indexes = [
            models.Index(fields=["stands_at", "id"], name="replies_in_their_order"),
            models.Index(
                fields=["stands_at"], condition=Q(read_at=None, done_at=None, automatic=False), name="replies_unread"
            ),
            GinIndex(fields=["words"], name="replies_by_words"),
            models.Index(fields=["received_at"], name="replies_by_time"),
            models.Index(fields=["found", "span"], condition=~Q(decided_by=""), name="replies_that_were_judged"),
        ]

    def __str__(self) -> str:
        return f"{self.sender}: {self.subject}"


class DoubtEntry(AgencyRow):
    """What was done about a mail in doubt, by whom and when. Written by `lifecycle` alone.

    Where the mail stays counted beside what its own row says, the entry says where: an attempt that may have been
    taken is not given back when the mail goes again.
    """

    class What(models.TextChoices):
        SHOWN = "shown", _("An event showed that it was sent")
        ANSWERED = "answered", _("The provider was asked again: it has it")
        REFUSED = "refused", _("The provider was asked again: it never had it and refuses it")
        BOOKED_ANEW = "booked_anew", _("The provider is asked again in another hour: counted as one more mail")
        COUNTED_AS_SENT = "counted_as_sent", _("Counted as sent")
        SENT_AGAIN = "sent_again", _("Sent again")

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="doubts", verbose_name=_("message"))
    what = models.CharField(_("what was done"), max_length=20, choices=What.choices)
    by = models.CharField(_("by"), max_length=254, blank=True, help_text=_("Empty: the machine."))
    at = models.DateTimeField(_("when"))
    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    sender = models.ForeignKey(Sender, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    claimed_at = models.DateTimeField(null=True)
    counted_on = models.DateField(null=True)

    class Meta:
        verbose_name = _("entry of a doubt")
        verbose_name_plural = _("entries of doubts")
        ordering = ["at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(account=None, sender=None, claimed_at=None, counted_on=None)
                | Q(account__isnull=False, sender__isnull=False, claimed_at__isnull=False, counted_on__isnull=False),
                name="doubt_counts_whole_or_not",
            )
        ]

    def __str__(self) -> str:
        return f"{self.message_id}: {self.what}"


class TrialMail(AgencyRow):
    """A mail that is of no campaign: a step's to somebody of the agency, as the contact would get it; the one that asks
    whoever signed up to confirm it; a person's answer to a reply. Written by `trials` and `answers` alone.

    It is in no campaign's numbers. Where it is counted, by `account`, `sender`, `claimed_at` and `counted_on`, it is so
    in every ledger, whatever becomes of its step.
    """

    class Status(models.TextChoices):
        WAITING = "waiting", pgettext_lazy("test mail", "Waiting")
        CLAIMED = "claimed", _("Being sent")
        SENT = "sent", pgettext_lazy("messages", "Sent")
        FAILED = "failed", _("Failed")
        UNKNOWN = "unknown", _("In doubt")
        WITHDRAWN = "withdrawn", _("Taken back")

    class Came(models.TextChoices):
        BOUNCED = "bounced", _("Bounced")
        COMPLAINED = "complained", _("Reported as spam")

    class Kind(models.TextChoices):
        TRIAL = "trial", _("Test")
        CONFIRMATION = "confirmation", _("Confirmation of a sign-up")
        ANSWER = "answer", _("Answer to a reply")

    key = models.UUIDField(_("key"), default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(_("kind"), max_length=12, choices=Kind.choices, default=Kind.TRIAL, db_default=Kind.TRIAL)
    sign_up = models.ForeignKey(
        SignUp, on_delete=models.SET_NULL, null=True, related_name="mails", verbose_name=_("sign-up")
    )
    step = models.ForeignKey(Step, on_delete=models.SET_NULL, null=True, related_name="trials", verbose_name=_("step"))
    contact = models.ForeignKey(
        Contact, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("contact")
    )
    variant = models.CharField(_("variant"), max_length=1, blank=True, default="")
    reply = models.ForeignKey(
        Reply, on_delete=models.SET_NULL, null=True, related_name="answers", verbose_name=_("reply")
    )
    # Of an answer: what a person wrote, and what tells a second press of the button from a second answer.
    subject = models.CharField(_("subject"), max_length=500, blank=True, db_default="", default="")
    text = models.TextField(_("text"), blank=True, db_default="", default="")
    once = models.UUIDField(null=True, unique=True, editable=False)
    recipient = models.EmailField(_("sent to"), max_length=254)
    by = models.CharField(_("by"), max_length=254)
    status = models.CharField(_("state"), max_length=10, choices=Status.choices, default=Status.WAITING)
    detail = models.CharField(_("detail"), max_length=300, blank=True, default="")
    asked_at = models.DateTimeField(_("asked for"), db_index=True)
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, null=True, related_name="+", db_index=False, verbose_name=_("account")
    )
    sender = models.ForeignKey(
        Sender, on_delete=models.PROTECT, null=True, related_name="+", db_index=False, verbose_name=_("sender")
    )
    claimed_at = models.DateTimeField(null=True)
    counted_on = models.DateField(null=True)
    attempted_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(_("sent"), null=True)
    provider_id = models.CharField(_("provider's id"), max_length=255, blank=True, default="")
    came_back = models.CharField(
        _("came back"), max_length=10, choices=Came.choices, blank=True, db_default="", default=""
    )
    came_back_at = models.DateTimeField(_("came back at"), null=True)
    came_back_with = models.CharField(_("came back with"), max_length=300, blank=True, db_default="", default="")

    class Meta:
        verbose_name = _("test mail")
        verbose_name_plural = _("test mails")
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    status__in=["claimed", "sent", "unknown"],
                    account__isnull=False,
                    sender__isnull=False,
                    claimed_at__isnull=False,
                    counted_on__isnull=False,
                )
                | Q(
                    status__in=["waiting", "failed", "withdrawn"],
                    account=None,
                    sender=None,
                    claimed_at=None,
                    counted_on=None,
                ),
                name="trial_is_counted_while_it_may_be_sent",
            )
        ]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.status}"

    @property
    def said(self) -> str:
        """The detail, in the language of the moment where it is in words of ours."""
        return gettext(self.detail) if self.detail else ""


class FeedEntry(AgencyRow):
    """One thing that is told to others, by the API's feed of events. Never changed but to number it.

    Written in the transaction of the fact itself: of mails by `lifecycle` and `feedback`, of campaigns, suppressions,
    replies and answers by triggers of their tables. `position` counts from 1 without a gap; `feed` alone gives it, once
    the fact is committed. `message` is a mail's key, `campaign` an id: what they name is read when it is told.
    """

    class Kind(models.TextChoices):
        SENT = "message.sent", _("Mail sent")
        FAILED = "message.failed", _("Mail failed")
        DELIVERED = "message.delivered", _("Mail delivered")
        OPENED = "message.opened", _("Mail opened by a person")
        CLICKED = "message.clicked", _("Link followed by a person")
        REPLIED = "message.replied", _("Mail answered")
        BOUNCED = "message.bounced", _("Mail bounced")
        COMPLAINED = "message.complained", _("Complaint about a mail")
        UNSUBSCRIBED = "message.unsubscribed", _("Reader unsubscribed")
        RECEIVED = "reply.received", _("Reply received")
        LABELLED = "reply.labelled", _("Label of a reply set")
        ASSIGNED = "reply.assigned", _("Conversation assigned")
        SNOOZED = "reply.snoozed", _("Conversation snoozed")
        DONE = "reply.done", _("Conversation done")
        REOPENED = "reply.reopened", _("Conversation open again")
        ASKED = "answer.asked", _("Answer written")
        ANSWERED = "answer.sent", _("Answer sent")
        ANSWER_FAILED = "answer.failed", _("Answer failed")
        ANSWER_DOUBTED = "answer.in_doubt", _("Answer in doubt")
        WITHDRAWN = "answer.withdrawn", _("Answer taken back")
        ANSWER_BOUNCED = "answer.bounced", _("Answer bounced")
        ANSWER_COMPLAINED = "answer.complained", _("Complaint about an answer")
        SUPPRESSED = "suppression.added", _("Suppression added")
        UNSUPPRESSED = "suppression.removed", _("Suppression removed")
        LAUNCHED = "campaign.launched", _("Campaign launched")
        PAUSED = "campaign.paused", _("Campaign paused")
        RESUMED = "campaign.resumed", _("Campaign goes on")
        FINISHED = "campaign.finished", _("Campaign finished")
        CANCELLED = "campaign.cancelled", _("Campaign cancelled")

    position = models.BigIntegerField(_("position"), null=True)
    kind = models.CharField(_("what"), max_length=30, choices=Kind.choices)
    at = models.DateTimeField(_("when"))
    message = models.UUIDField(_("mail"), null=True)
    campaign = models.BigIntegerField(_("campaign"), null=True)
    data = models.JSONField(default=dict, db_default={})

    class Meta:
        verbose_name = _("entry of the feed")
        verbose_name_plural = _("entries of the feed")
        constraints = [
            # Of those with one alone: a new entry goes into one index less.
            models.UniqueConstraint(
                fields=["position"], condition=Q(position__isnull=False), name="a_position_is_given_once"
            )
        ]
        indexes = [models.Index(fields=["id"], condition=Q(position=None), name="feed_without_position")]

    def __str__(self) -> str:
        return f"{self.position}: {self.kind}"


class Endpoint(AgencyRow):
    """An address of somebody else's to which events are posted as they are told. Written by `hooks` alone.

    `kinds`: what is posted there, everything where empty. `position`: up to where the feed was looked through for it.
    `secrets` has the `current` signing secret and, until `previous_until`, the `previous` one. `failing_since`: no post
    has been taken since.
    """

    class Off(models.TextChoices):
        """Why nothing is posted to it any more."""

        PERSON = "person", _("switched off by a person")
        FAILING = "failing", _("nothing was taken for five days")
        GONE = "gone", _("it answered that it is gone for good (410)")

    key = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    url = models.CharField(_("address"), max_length=1000)
    name = models.CharField(_("name"), max_length=120, blank=True, default="")
    kinds = ArrayField(
        models.CharField(max_length=30, choices=FeedEntry.Kind.choices),
        verbose_name=_("events"),
        default=list,
        blank=True,
    )
    secrets = SecretsField(_("secret"))
    previous_until = models.DateTimeField(null=True)
    position = models.BigIntegerField(_("position"), default=0)
    created_at = models.DateTimeField(_("created"))
    failing_since = models.DateTimeField(_("nothing taken since"), null=True)
    off = models.CharField(_("off"), max_length=7, choices=Off.choices, blank=True, default="")
    off_at = models.DateTimeField(_("off since"), null=True)

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        constraints = [
            models.CheckConstraint(
                condition=Q(off="", off_at=None) | (~Q(off="") & Q(off_at__isnull=False)),
                name="an_endpoint_is_off_since_a_time",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.url


class HookDelivery(AgencyRow):
    """One event on its way to one endpoint. What is posted is described at each attempt and kept nowhere.

    `position` is that in the feed; a test event has none. `attempts` counts since it was last asked for;
    `claimed_until`: a worker posts it.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", pgettext_lazy("webhook", "Delivered")
        FAILED = "failed", pgettext_lazy("webhook", "Failed")

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries", db_index=False)
    position = models.BigIntegerField(_("position"), null=True)
    kind = models.CharField(_("event"), max_length=30)
    at = models.DateTimeField(_("when"))
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_at = models.DateTimeField(_("next attempt"), null=True)
    claimed_until = models.DateTimeField(null=True)
    done_at = models.DateTimeField(_("ended"), null=True)

    class Meta:
        verbose_name = _("delivery of an event")
        verbose_name_plural = _("deliveries of events")
        constraints = [
            # The log of an endpoint, in order, is read by it as well.
            models.UniqueConstraint(fields=["endpoint", "position"], name="an_event_goes_to_an_endpoint_once"),
            models.CheckConstraint(
                condition=Q(state="waiting", done_at=None, next_at__isnull=False)
                | (~Q(state="waiting") & Q(done_at__isnull=False, next_at=None, claimed_until=None)),
                name="a_delivery_waits_or_has_ended",
            ),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "next_at", "id"], condition=Q(state="waiting"), name="hook_deliveries_due"
            ),
            models.Index(fields=["endpoint", "-id"], name="hook_deliveries_log"),
            models.Index(fields=["done_at"], condition=Q(done_at__isnull=False), name="hook_deliveries_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.position}"


class HookAttempt(AgencyRow):
    """One post of an event: the status that came back, or why there is none, and the beginning of the answer."""

    delivery = models.ForeignKey(HookDelivery, models.CASCADE, related_name="tries")
    at = models.DateTimeField(_("when"))
    status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    failure = models.CharField(_("no answer because"), max_length=10, choices=Failure.choices, blank=True, default="")
    milliseconds = models.PositiveIntegerField(_("milliseconds"))
    answer = models.TextField(_("answer"), blank=True, default="")

    class Meta:
        verbose_name = _("attempt to post an event")
        verbose_name_plural = _("attempts to post events")

    def __str__(self) -> str:
        return f"{self.at}: {self.status or self.failure}"
