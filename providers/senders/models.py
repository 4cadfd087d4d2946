from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Lower, Now
from django.utils.translation import gettext_lazy as _

from providers.accounts.events import BounceClass, EventType, Reader
from providers.accounts.models import Account
from providers.accounts.secrets import SecretsField
from providers.senders.recovery import CAPS, Cause, Stage
from tenants.rows import AgencyRow

HOST_NAME = RegexValidator(
    r"^(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
    _("Write the domain in small letters, such as mail.example.com (an international one in its xn-- form)."),
)

_CAPS = sorted(set(CAPS.values()))


class SenderDomain(AgencyRow):
    """A domain that mails leave from. `per_day` caps it over all its senders, in the agency's days.

    A domain that warms up sends by its plans, of which `warmup_step` says the line, counted from 1; beyond the last
    line, and without plans, its own limits alone hold. `warmup` moves the step. `recovering` alone writes `cap`, which
    holds for all its senders together.
    """

    name = models.CharField(_("domain"), max_length=253, unique=True, validators=[HOST_NAME])
    per_day = models.PositiveIntegerField(
        _("mails a day"),
        default=2000,
        validators=[MinValueValidator(1, _("Write 1 or more; to stop the domain, switch its senders off instead."))],
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    warmup_started_on = models.DateField(
        _("warms up since"), null=True, blank=True, help_text=_("Empty: the domain is warm.")
    )
    warmup_plan = ArrayField(
        models.PositiveIntegerField(validators=[MinValueValidator(1)]),
        verbose_name=_("warmup of a sender"),
        default=list,
        db_default=[],
        blank=True,
        help_text=_("Mails a day of one sender, step by step, with commas between. Empty: as planned by the machine."),
    )
    warmup_domain_plan = ArrayField(
        models.PositiveIntegerField(validators=[MinValueValidator(1)]),
        verbose_name=_("warmup of the domain"),
        default=list,
        db_default=[],
        blank=True,
        help_text=_("The same for all senders of the domain together."),
    )
    warmup_step = models.PositiveSmallIntegerField(_("warmup step"), default=1, db_default=1)
    # The last day of the agency that was judged.
    warmup_judged = models.DateField(null=True, editable=False)
    cap = models.PositiveSmallIntegerField(_("mails a day while it recovers"), null=True, editable=False)

    class Meta:
        verbose_name = _("domain")
        verbose_name_plural = _("domains")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(warmup_started_on__isnull=False) | Q(warmup_plan=[], warmup_domain_plan=[]),
                name="a_warm_domain_has_no_plan",
            ),
            models.CheckConstraint(condition=Q(warmup_step__gte=1), name="warmup_steps_count_from_one"),
            models.CheckConstraint(condition=Q(cap__in=_CAPS), name="domain_cap_is_of_a_stage"),
        ]

    def __str__(self) -> str:
        return self.name


class DkimKey(AgencyRow):
    """A key that mails of a domain are signed with. Written by `dkim` alone.

    `public` is what its DNS record has as p=. Since `signs_since` it signs; until `retired_at` its record is needed.
    """

    domain = models.ForeignKey(
        SenderDomain, on_delete=models.CASCADE, related_name="dkim_keys", verbose_name=_("domain")
    )
    selector = models.CharField(_("selector"), max_length=63)
    private = SecretsField(_("private key"))
    public = models.TextField(_("public key"))
    created_at = models.DateTimeField(_("created"))
    signs_since = models.DateTimeField(_("signs since"), null=True)
    retired_at = models.DateTimeField(_("retired"), null=True)

    class Meta:
        verbose_name = _("DKIM key")
        verbose_name_plural = _("DKIM keys")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["domain", "selector"], name="a_dkim_selector_is_used_once"),
            models.UniqueConstraint(
                fields=["domain"],
                condition=Q(signs_since__isnull=False, retired_at=None),
                name="one_dkim_key_of_a_domain_signs",
            ),
            models.UniqueConstraint(
                fields=["domain"],
                condition=Q(signs_since=None, retired_at=None),
                name="one_dkim_key_of_a_domain_is_next",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def current(self) -> bool:
        """Whether it signs."""
        return self.signs_since is not None and self.retired_at is None


class DnsCheck(AgencyRow):
    """What the last check of a domain's DNS found. Written by `dns` alone.

    `sound`: nothing is wrong; None: the DNS did not answer. `findings` are those of `published`, as `dns.told` reads
    them: part, level, code, about, record.
    """

    domain = models.OneToOneField(
        SenderDomain, on_delete=models.CASCADE, related_name="dns_check", verbose_name=_("domain")
    )
    at = models.DateTimeField(_("checked"))
    sound = models.BooleanField(_("DNS is sound"), null=True)
    findings = models.JSONField(default=list)

    class Meta:
        verbose_name = _("DNS check")
        verbose_name_plural = _("DNS checks")

    def __str__(self) -> str:
        return f"{self.domain_id} {self.at}: {self.sound}"


class Home(AgencyRow):
    """An account at which a domain is verified, so that its senders may leave through it."""

    domain = models.ForeignKey(SenderDomain, on_delete=models.CASCADE, related_name="homes", verbose_name=_("domain"))
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", verbose_name=_("account"))

    class Meta:
        verbose_name = _("verified at")
        verbose_name_plural = _("verified at")
        constraints = [models.UniqueConstraint(fields=["domain", "account"], name="one_home_per_domain_and_account")]

    def __str__(self) -> str:
        return f"{self.domain} @ {self.account}"


class Sender(AgencyRow):
    """One address that mails leave from. `per_day` is mails in the agency's day, and in any 24 hours; `per_hour` those
    in an hour of the clock, in UTC.

    `used_at` turns the rotation; until `free_at` it rests after a mail. `recovering` alone writes `cap`.
    """

    domain = models.ForeignKey(SenderDomain, on_delete=models.PROTECT, related_name="senders", verbose_name=_("domain"))
    account = models.ForeignKey(
        Account,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("account"),
        help_text=_("Through which it counts against the allotment of senders."),
    )
    address = models.EmailField(_("address"), max_length=254)
    name = models.CharField(_("display name"), max_length=120, blank=True)
    signature = models.TextField(
        _("signature"),
        max_length=2000,
        blank=True,
        default="",
        db_default="",
        help_text=_("Plain text; shown where a mail has {{ signature }}."),
    )
    per_day = models.PositiveSmallIntegerField(
        _("mails a day"),
        default=50,
        validators=[MinValueValidator(1, _("Write 1 or more; to stop the sender, switch it off instead."))],
    )
    per_hour = models.PositiveSmallIntegerField(
        _("mails an hour"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_(
            "Empty: a fifth of the mails a day, at least 5; more where a running campaign's window is shorter than "
            "5 hours."
        ),
    )
    active = models.BooleanField(_("active"), default=True)
    used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    free_at = models.DateTimeField(_("rests until"), null=True, editable=False)
    cap = models.PositiveSmallIntegerField(_("mails a day while it recovers"), null=True, editable=False)

    class Meta:
        verbose_name = _("sender")
        verbose_name_plural = _("senders")
        ordering = ["address"]
        constraints = [
            models.UniqueConstraint(Lower("address"), name="sender_address_is_unique_in_any_case"),
            models.CheckConstraint(condition=Q(cap__in=_CAPS), name="sender_cap_is_of_a_stage"),
        ]

    def __str__(self) -> str:
        return self.address


class SenderDay(AgencyRow):
    """Mails of one sender on one day of the agency, and what became of them. Written by `ledger` alone.

    `refused` are mails whose address was refused at once: they were not sent, so `used` is without them.
    """

    sender = models.ForeignKey(Sender, on_delete=models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    allowed = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)
    bounced = models.PositiveIntegerField(default=0, db_default=0)
    complained = models.PositiveIntegerField(default=0, db_default=0)
    refused = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sender", "day"], name="one_row_per_sender_and_day"),
            models.CheckConstraint(condition=Q(used__lte=F("allowed")), name="sender_used_within_allowed"),
        ]

    def __str__(self) -> str:
        return f"{self.sender_id} {self.day}: {self.used}/{self.allowed}"


class SenderHour(AgencyRow):
    """Mails of one sender in one hour, named by its start in UTC; three days are kept. Written by `ledger` alone.

    `allowed` is the most that the sender's limit for 24 hours was in this hour.
    """

    sender = models.ForeignKey(Sender, on_delete=models.CASCADE, related_name="hours", db_index=False)
    hour = models.DateTimeField()
    allowed = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sender", "hour"], name="one_row_per_sender_and_hour"),
            models.CheckConstraint(condition=Q(used__lte=F("allowed")), name="sender_hour_within_allowed"),
        ]
        indexes = [models.Index(fields=["hour"], name="sender_hours_by_age")]

    def __str__(self) -> str:
        return f"{self.sender_id} {self.hour}: {self.used}/{self.allowed}"


class DomainDay(AgencyRow):
    """Mails of one domain on one day of the agency, and what became of them. Written by `ledger` alone.

    `refused` as of a sender.
    """

    domain = models.ForeignKey(SenderDomain, on_delete=models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    allowed = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)
    delivered = models.PositiveIntegerField(default=0, db_default=0)
    bounced = models.PositiveIntegerField(default=0, db_default=0)
    complained = models.PositiveIntegerField(default=0, db_default=0)
    refused = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["domain", "day"], name="one_row_per_domain_and_day"),
            models.CheckConstraint(condition=Q(used__lte=F("allowed")), name="domain_used_within_allowed"),
        ]

    def __str__(self) -> str:
        return f"{self.domain_id} {self.day}: {self.used}/{self.allowed}"


class Recovery(AgencyRow):
    """A pause of a sender or of a domain, from its evidence to its end. Written by `recovering` alone.

    The evidence is of mails from `window_from` to `window_to`, in the agency's days: `least` is the rate that was
    surely exceeded, 0 where a person paused it. `falls` counts how often it fell back to a rest. From `counted_from` on
    mails count for the way back; those of the days before `judged_from` are not held against it again.
    """

    sender = models.ForeignKey(
        Sender, on_delete=models.CASCADE, null=True, related_name="recoveries", verbose_name=_("sender")
    )
    domain = models.ForeignKey(
        SenderDomain, on_delete=models.CASCADE, null=True, related_name="recoveries", verbose_name=_("domain")
    )
    cause = models.CharField(_("paused because"), max_length=12, choices=Cause.choices)
    stage = models.CharField(_("stage"), max_length=10, choices=Stage.choices, default=Stage.RESTING)
    began_at = models.DateTimeField(_("paused"))
    stage_at = models.DateTimeField(_("in this stage since"))
    counted_from = models.DateField()
    rest_until = models.DateTimeField(_("rests until"), null=True)
    window_from = models.DateField(null=True)
    window_to = models.DateField(null=True)
    mails = models.PositiveIntegerField(_("mails"), default=0)
    bounced = models.PositiveIntegerField(_("bounced"), default=0)
    complained = models.PositiveIntegerField(_("complained"), default=0)
    least = models.FloatField(_("the rate is at least"), default=0)
    falls = models.PositiveSmallIntegerField(_("fell back"), default=0)
    checked_at = models.DateTimeField(_("DNS checked"), null=True)
    by = models.CharField(_("paused by"), max_length=254, blank=True, default="", help_text=_("Empty: the machine."))
    why = models.CharField(_("why"), max_length=300, blank=True, default="")
    ended_at = models.DateTimeField(_("ended"), null=True)
    ended_by = models.CharField(_("released by"), max_length=254, blank=True, default="")
    ended_why = models.CharField(_("released because"), max_length=300, blank=True, default="")
    judged_from = models.DateField(null=True)

    class Meta:
        verbose_name = _("pause of a sender or domain")
        verbose_name_plural = _("pauses of senders and domains")
        ordering = ["-began_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(sender__isnull=True) ^ Q(domain__isnull=True), name="a_sender_or_a_domain_recovers"
            ),
            models.UniqueConstraint(
                fields=["sender"], condition=Q(ended_at__isnull=True), name="a_sender_recovers_once_at_a_time"
            ),
            models.UniqueConstraint(
                fields=["domain"], condition=Q(ended_at__isnull=True), name="a_domain_recovers_once_at_a_time"
            ),
            models.CheckConstraint(condition=Q(stage__in=Stage.values), name="recovery_has_a_stage"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) ^ Q(judged_from__isnull=False), name="what_ended_is_judged_anew"
            ),
            models.CheckConstraint(
                condition=~Q(cause=Cause.PERSON) | (~Q(by="") & ~Q(why="")), name="who_pauses_says_why"
            ),
            models.CheckConstraint(condition=Q(ended_by="") | ~Q(ended_why=""), name="who_releases_says_why"),
        ]

    def __str__(self) -> str:
        return str(self.whose)

    @property
    def whose(self) -> "Sender | SenderDomain":
        """The sender or the domain that recovers."""
        found = self.sender or self.domain
        assert found is not None  # the database says so
        return found

    def domain_of(self) -> SenderDomain:
        """The domain itself, or that of the sender."""
        whose = self.whose
        return whose.domain if isinstance(whose, Sender) else whose


class Event(AgencyRow):
    """Something that a provider, a mail server or a reader reported of a mail. Written by `events` alone, once.

    `message` is the mail's key, and `raw_id` what the source calls the event. `waits`: nothing has followed from it
    yet, because the mail is not known or others come first.
    """

    message = models.UUIDField(_("mail"), null=True)
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, null=True, related_name="+", db_index=False, verbose_name=_("account")
    )
    source = models.CharField(_("reported by"), max_length=20)
    type = models.CharField(_("what"), max_length=12, choices=EventType.choices)
    at = models.DateTimeField(_("when"))
    received_at = models.DateTimeField(_("heard"), db_default=Now())
    recipient = models.CharField(_("address"), max_length=320, blank=True)
    detail = models.CharField(_("detail"), max_length=300, blank=True)
    bounce_class = models.CharField(_("kind of bounce"), max_length=12, choices=BounceClass.choices, blank=True)
    provider_id = models.CharField(_("provider's id of the mail"), max_length=255, blank=True)
    reader = models.CharField(_("who"), max_length=7, choices=Reader.choices, blank=True, db_default="")
    raw_id = models.CharField(_("source's id of the event"), max_length=255)
    waits = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            # An account's id counts from 1: nobody's is 0.
            models.UniqueConstraint(Coalesce("account", 0), "source", "raw_id", name="an_event_is_stored_once"),
        ]
        indexes = [
            models.Index(fields=["message"], name="events_of_a_mail"),
            models.Index(fields=["id"], condition=Q(waits=True), name="events_that_wait"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.message}"
