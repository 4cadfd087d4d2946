from datetime import datetime
from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, validate_email
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Lower, Now
from django.utils.translation import gettext_lazy as _

from providers.accounts.secrets import SecretsField
from tenants.models import Agency


class TrafficClass(models.TextChoices):
    """What kind of mail it is: decides which accounts are meant for it and which mail goes first."""

    HIGH_PRIORITY = "high_priority", _("High priority")
    COLD_OUTREACH = "cold_outreach", _("Cold outreach")
    NEWSLETTERS = "newsletters", _("Newsletters")
    FOLLOW_UPS = "follow_ups", _("Follow-ups")
    BULK = "bulk", _("Bulk")
    TESTING = "testing", _("Testing")


class Kind(models.TextChoices):
    """Which adapter speaks to the account."""

    RESEND = "resend", "Resend"
    SENDGRID = "sendgrid", "SendGrid"
    SMTP = "smtp", "SMTP"
    AMAZON_SES = "amazon_ses", "Amazon SES"
    POSTMARK = "postmark", "Postmark"
    MAILGUN = "mailgun", "Mailgun"


def known_classes(values: list[str]) -> None:
    """Refuse a traffic class that does not exist."""
    if unknown := [value for value in values if value not in TrafficClass.values]:
        raise ValidationError(
            _("Unknown traffic class: %(unknown)s. Known ones: %(known)s."),
            params={"unknown": ", ".join(unknown), "known": ", ".join(TrafficClass.values)},
        )


_OF_ACCOUNT = MinValueValidator(1, _("Write 1 or more; to stop the account, take it out of use instead."))
_OF_SHARE = MinValueValidator(
    1, _("Write 1 or more, or nothing for the account's own; to stop the agency here, delete the allotment instead.")
)


_ONE_WORD = RegexValidator(r"\A[^\s/@]+\Z", _("Write a host name such as imap.example.com."))
_PRINTED = RegexValidator(r"\A[^\x00-\x1f\x7f]+\Z", _("Leave out what cannot be printed, such as line ends."))


# Providers whose terms let through only mail that its recipient has asked for, but for transactional mail.
# https://www.twilio.com/en-us/legal/aup and https://resend.com/legal/acceptable-use, as of 2026-11.
CONSENT_BY_TERMS = (Kind.RESEND, Kind.SENDGRID)


class Account(models.Model):
    """One account at a mail provider. `per_day` and `per_month` are mails in UTC days and months.

    `requires_consent` is what holds: what the operator says or, where that is nothing, the provider's terms.
    """

    name = models.SlugField(_("name"), max_length=40, unique=True)
    kind = models.CharField(_("kind"), max_length=20, choices=Kind.choices)
    owner = models.ForeignKey(
        Agency,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="own_accounts",
        verbose_name=_("brought by"),
        help_text=_("Empty: rented by the operator and shared by allotments."),
    )
    credentials = SecretsField(_("credentials"))
    options = models.JSONField(
        _("connection"),
        default=dict,
        blank=True,
        help_text=_("Not secret: api_url, host, port, security (none, starttls, tls), connections."),
    )
    traffic_classes = ArrayField(
        models.CharField(max_length=20, choices=TrafficClass.choices),
        verbose_name=_("meant for"),
        default=list,
        blank=True,
        validators=[known_classes],
        help_text=_("Other classes use this account only as failover."),
    )
    priority = models.PositiveSmallIntegerField(_("priority"), default=10, help_text=_("Lower is tried first."))
    sender_limit = models.PositiveIntegerField(_("senders, at most"), default=400, validators=[_OF_ACCOUNT])
    per_day = models.PositiveIntegerField(_("mails a day"), default=1000, validators=[_OF_ACCOUNT])
    per_month = models.PositiveIntegerField(_("mails a month"), null=True, blank=True, validators=[_OF_ACCOUNT])
    per_second = models.DecimalField(
        _("mails a second"),
        max_digits=7,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text=_("What the provider allows; all workers together keep it. Empty: as fast as it goes."),
    )
    monthly_price = models.DecimalField(
        _("price a month, $"),
        max_digits=9,
        decimal_places=2,
        default=Decimal("0.00"),
        validators=[MinValueValidator(Decimal("0"))],
    )
    included_per_month = models.PositiveIntegerField(_("mails a month within that price"), default=0, db_default=0)
    mail_price = models.DecimalField(
        _("price of each further mail, $"),
        max_digits=9,
        decimal_places=6,
        default=Decimal("0.000000"),
        db_default=Decimal("0.000000"),
        validators=[MinValueValidator(Decimal("0"))],
    )
    enabled = models.BooleanField(_("in use"), default=True)
    consent_required = models.BooleanField(
        _("only to contacts who have given consent"),
        null=True,
        blank=True,
        choices=[(None, _("As the provider's terms say")), (True, _("Yes")), (False, _("No"))],
        help_text=_(
            "Resend and SendGrid demand it in their terms and close accounts for less. Mails to other contacts leave "
            "through accounts that do not require it, or wait."
        ),
    )
    requires_consent = models.GeneratedField(
        expression=Coalesce("consent_required", Q(kind__in=[kind.value for kind in CONSENT_BY_TERMS])),
        output_field=models.BooleanField(),
        db_persist=True,
    )
    # Where its provider posts events: part of an address that nobody can guess.
    webhook_key = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False)
    webhook_secrets = SecretsField(_("webhook secret"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ["priority", "id"]

    def __str__(self) -> str:
        return self.name


class Allotment(models.Model):
    """How much of an account one agency may use. Empty limits are the account's own."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="allotments", verbose_name=_("account"))
    agency = models.ForeignKey(Agency, on_delete=models.CASCADE, related_name="allotments", verbose_name=_("agency"))
    senders = models.PositiveIntegerField(_("senders, at most"), default=0)
    per_day = models.PositiveIntegerField(_("mails a day"), null=True, blank=True, validators=[_OF_SHARE])
    per_month = models.PositiveIntegerField(_("mails a month"), null=True, blank=True, validators=[_OF_SHARE])

    class Meta:
        verbose_name = _("allotment")
        verbose_name_plural = _("allotments")
        constraints = [models.UniqueConstraint(fields=["account", "agency"], name="one_allotment_per_agency")]

    def __str__(self) -> str:
        return f"{self.account} → {self.agency}"

    def clean(self) -> None:
        if self.account_id and self.account.owner_id and self.account.owner_id != self.agency_id:
            raise ValidationError({"agency": _("This account was brought by another agency and is not shared.")})
        if self.account_id:
            others = Allotment.objects.filter(account=self.account).exclude(pk=self.pk)
            left = self.account.sender_limit - (others.aggregate(sum=models.Sum("senders"))["sum"] or 0)
            if self.senders > left:
                raise ValidationError(
                    {
                        "senders": _("%(account)s has %(left)d senders left to allot of its %(limit)d.")
                        % {"account": self.account, "left": max(0, left), "limit": self.account.sender_limit}
                    }
                )


class Period(models.TextChoices):
    """How long a ledger row counts."""

    DAY = "day", _("day")
    MONTH = "month", _("month")


class LedgerRow(models.Model):
    """Mails of one account in one UTC day or month: in all (`agency` empty) or of one agency.

    Written by `ledger` alone. `used` counts every mail that is claimed, sent or in doubt.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="ledger", verbose_name=_("account"))
    agency = models.ForeignKey(Agency, on_delete=models.CASCADE, null=True, verbose_name=_("agency"))
    period = models.CharField(_("period"), max_length=5, choices=Period.choices)
    starts = models.DateField(_("begins"))
    allowed = models.PositiveIntegerField(_("allowed"))
    used = models.PositiveIntegerField(_("used"), default=0)
    # What became of the mails of a day; of a month, the sum of its days.
    delivered = models.PositiveIntegerField(_("delivered"), default=0, db_default=0)
    bounced = models.PositiveIntegerField(_("bounced"), default=0, db_default=0)
    complained = models.PositiveIntegerField(_("complained"), default=0, db_default=0)

    class Meta:
        verbose_name = _("ledger row")
        verbose_name_plural = _("ledger")
        constraints = [
            models.CheckConstraint(condition=Q(used__lte=F("allowed")), name="account_used_within_allowed"),
            models.UniqueConstraint(
                fields=["account", "period", "starts"], condition=Q(agency=None), name="one_ledger_row_per_account"
            ),
            models.UniqueConstraint(
                fields=["account", "agency", "period", "starts"],
                condition=~Q(agency=None),
                name="one_ledger_row_per_account_and_agency",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.agency_id or '-'} {self.period} {self.starts}: {self.used}/{self.allowed}"


class Health(models.Model):
    """What is known about an account's ability to send. Written by `health` alone.

    `closed_until` in the future: nothing is sent. `blocked`: nothing is sent until a person opens it again or, where
    a check blocked it (`blocked_by_check`), until a check succeeds; where it had gone silent (`silent`), until a mail
    server's answer is heard, as was last so at `heard_at`. Since `opened_at` it is filled gradually.
    """

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="health", primary_key=True)
    refusals = models.PositiveIntegerField(_("refusals in a row"), default=0)
    closed_until = models.DateTimeField(_("closed until"), null=True, blank=True)
    failed_checks = models.PositiveSmallIntegerField(_("failed checks in a row"), default=0)
    blocked = models.BooleanField(_("blocked"), default=False)
    blocked_by_check = models.BooleanField(_("blocked by a check"), default=False)
    silent = models.BooleanField(_("silent"), default=False, db_default=False)
    heard_at = models.DateTimeField(_("last heard of a mail"), null=True)
    opened_at = models.DateTimeField(_("open again since"), null=True)
    detail = models.CharField(_("last trouble"), max_length=300, blank=True)
    changed_at = models.DateTimeField(_("changed"), null=True)

    class Meta:
        verbose_name = _("health")
        verbose_name_plural = _("health")

    def __str__(self) -> str:
        return f"{self.account_id}: {self.detail or 'ok'}"

    def open(self, now: datetime) -> bool:
        """Whether the account may be tried now."""
        return not self.blocked and (self.closed_until is None or self.closed_until <= now)


class HealthCheck(models.Model):
    """One asking of an account whether it can be signed in to. Written by `checkup` alone, kept for 30 days."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="checks", verbose_name=_("account"))
    at = models.DateTimeField(_("when"))
    ok = models.BooleanField(_("answered well"))
    milliseconds = models.PositiveIntegerField(_("took, ms"))
    # Mails of the UTC day at that time: what it takes between two checks tells whether it should be heard of.
    used = models.PositiveIntegerField(_("mails of the day"), default=0, db_default=0)
    detail = models.CharField(_("detail"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("health check")
        verbose_name_plural = _("health checks")
        ordering = ["-at"]
        indexes = [models.Index(fields=["account", "-at"], name="checks_of_an_account")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.at}: {self.detail or 'ok'}"


class AccountRate(models.Model):
    """How fast mails go through an account, over all worker hosts. Written by `rate` alone.

    `next_at` is when the next mail is due at an even pace, by the database's clock.
    """

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="rate", primary_key=True)
    next_at = models.DateTimeField()

    class Meta:
        verbose_name = _("rate")
        verbose_name_plural = _("rates")

    def __str__(self) -> str:
        return f"{self.account_id}: {self.next_at}"


class WebhookPost(models.Model):
    """What a provider posted, as it came, its signature checked. Written by `webhooks` alone, kept for two weeks.

    `headers` are those that its events need. `digest` is of what makes it one of a kind, so that it is stored once.
    """

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="+", db_index=False, verbose_name=_("account")
    )
    digest = models.UUIDField()
    headers = models.JSONField(default=dict)
    body = models.BinaryField()
    received_at = models.DateTimeField(_("received"), db_default=Now())
    handled_at = models.DateTimeField(_("handled"), null=True)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    trouble = models.CharField(_("trouble"), max_length=300, blank=True, db_default="")

    class Meta:
        verbose_name = _("webhook post")
        verbose_name_plural = _("webhook posts")
        constraints = [models.UniqueConstraint(fields=["account", "digest"], name="a_webhook_post_is_stored_once")]
        indexes = [
            models.Index(fields=["id"], condition=Q(handled_at=None), name="webhook_posts_to_handle"),
            models.Index(fields=["received_at"], name="webhook_posts_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.received_at}"


class InboundMail(models.Model):
    """A mail that came back to us: a bounce, a complaint, a reply. Written by `inbox` alone, kept for two weeks.

    `body` is as much of it as is ever read, `size` its whole length in bytes. `digest` is of envelope and mail, so that
    it is stored once. `kind` is what it was found to be, `message` the key of the mail that it is about and `agency`
    whose that is.
    """

    digest = models.UUIDField(unique=True)
    sender = models.CharField(_("envelope sender"), max_length=320, blank=True)
    recipients = ArrayField(models.CharField(max_length=320), verbose_name=_("recipients"))
    body = models.BinaryField()
    size = models.PositiveIntegerField(_("size"))
    received_at = models.DateTimeField(_("received"), db_default=Now())
    handled_at = models.DateTimeField(_("handled"), null=True)
    kind = models.CharField(_("kind"), max_length=12, blank=True, db_default="")
    agency = models.ForeignKey(
        Agency, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, verbose_name=_("agency")
    )
    message = models.UUIDField(_("about the mail"), null=True)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    trouble = models.CharField(_("trouble"), max_length=300, blank=True, db_default="")

    class Meta:
        verbose_name = _("mail that came back")
        verbose_name_plural = _("mails that came back")
        indexes = [
            models.Index(fields=["id"], condition=Q(handled_at=None), name="inbound_mails_to_handle"),
            models.Index(fields=["received_at"], name="inbound_mails_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.sender} {self.received_at}"


class InboundDay(models.Model):
    """How mails that were brought to our mail server ended on a UTC day, stored or refused for a reason; and what was
    found in stored ones, wherever they came from. Written by `inbox` alone."""

    class Result(models.TextChoices):
        STORED = "stored", _("Stored")
        REPEATED = "repeated", _("Stored already")
        FOREIGN = "foreign", _("Refused: for a domain that is not ours")
        TOO_LARGE = "too_large", _("Refused: too large")
        LONG_LINE = "long_line", _("Refused: a line is too long")
        TOO_MANY = "too_many", _("Refused for now: too many recipients")
        NOT_STORED = "not_stored", _("Refused for now: it could not be stored")
        PROTOCOL = "protocol", _("Refused: not by the protocol")
        FOUND = "found", _("Understood")
        STRANGERS = "strangers", _("Of no mail of ours: without a reference, or with a forged one")
        UNREADABLE = "unreadable", _("Not understood")
        FAILED = "failed", _("Could not be handled")

    day = models.DateField(_("day"))
    result = models.CharField(_("result"), max_length=15, choices=Result.choices)
    count = models.PositiveIntegerField(_("count"))

    class Meta:
        verbose_name = _("day of mails that came back")
        verbose_name_plural = _("days of mails that came back")
        constraints = [models.UniqueConstraint(fields=["day", "result"], name="one_inbound_day_per_result")]

    def __str__(self) -> str:
        return f"{self.day} {self.result}: {self.count}"


class Mailbox(models.Model):
    """A mailbox for mail that comes back, read by IMAP. What was read is written by `mailboxes` alone.

    `last_uid` is the last mail that was read of those that `uid_validity` numbers (RFC 3501), in the place that
    `cursor_of` names; `stored` counts new mails, `skipped` those that the server did not give. It could not be read
    since `failing_since`.
    """

    class Security(models.TextChoices):
        TLS = "tls", "TLS"
        STARTTLS = "starttls", "STARTTLS"
        NONE = "none", _("None: within this machine only")

    name = models.SlugField(_("name"), max_length=40, unique=True)
    host = models.CharField(_("server"), max_length=253, validators=[_ONE_WORD])
    port = models.PositiveIntegerField(
        _("port"), default=993, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    security = models.CharField(_("security"), max_length=8, choices=Security.choices, default=Security.TLS)
    username = models.CharField(_("user name"), max_length=320, validators=[_PRINTED])
    secret = SecretsField(_("password"))
    folder = models.CharField(_("folder"), max_length=255, default="INBOX", validators=[_PRINTED])
    enabled = models.BooleanField(_("in use"), default=True)
    cursor_of = models.CharField(max_length=900, blank=True, default="", editable=False)
    uid_validity = models.BigIntegerField(null=True, editable=False)
    last_uid = models.BigIntegerField(default=0, editable=False)
    stored = models.PositiveBigIntegerField(_("mails stored"), default=0, editable=False)
    skipped = models.PositiveBigIntegerField(_("mails not given by the server"), default=0, editable=False)
    read_at = models.DateTimeField(_("last read"), null=True, editable=False)
    failing_since = models.DateTimeField(_("cannot be read since"), null=True, editable=False)
    trouble = models.CharField(_("last trouble"), max_length=300, blank=True, default="", editable=False)

    class Meta:
        verbose_name = _("mailbox")
        verbose_name_plural = _("mailboxes")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def place(self) -> str:
        """What the numbers of mails belong to."""
        return f"{self.username}@{self.host}/{self.folder}"


class WebhookDay(models.Model):
    """What came by webhook for an account on a UTC day: events, and posts that were refused or not understood."""

    class Result(models.TextChoices):
        EVENTS = "events", _("Events")
        STRANGERS = "strangers", _("Events of mails that are not ours")
        NO_SECRET = "no_secret", _("Refused: no secret is entered here")
        BAD_SIGNATURE = "bad_signature", _("Refused: the signature is wrong")
        TOO_OLD = "too_old", _("Refused: too old")
        TOO_LARGE = "too_large", _("Refused: too large")
        UNREADABLE = "unreadable", _("Not understood")

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="webhook_days", verbose_name=_("account")
    )
    day = models.DateField(_("day"))
    result = models.CharField(_("result"), max_length=15, choices=Result.choices)
    count = models.PositiveIntegerField(_("count"))

    class Meta:
        verbose_name = _("day of webhooks")
        verbose_name_plural = _("days of webhooks")
        constraints = [models.UniqueConstraint(fields=["account", "day", "result"], name="one_webhook_day_per_result")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.day} {self.result}: {self.count}"


class EventDelay(models.Model):
    """How many events of a UTC day came less than 2 to the power of `bucket` seconds after their mail was sent."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    day = models.DateField()
    bucket = models.PositiveSmallIntegerField()
    count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "day", "bucket"], name="one_delay_per_day_and_bucket")
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.day} < {2**self.bucket} s: {self.count}"


def suppressed_value(text: str) -> str:
    """An address, a domain or a wildcard as it is looked up. Raises ValidationError."""
    value = text.strip().lower().removeprefix("*@").removeprefix("@")
    local, at, domain = value.rpartition("@")
    try:
        if at:
            validate_email(f"{local.replace('*', ' ')}@{'example.com' if domain == '*' else domain}")
        else:
            validate_email(f"any@{value.removeprefix('*.')}")
    except ValidationError:
        raise ValidationError(
            _("Write an address, a domain such as example.com, or a wildcard such as *.example.com or info@*.")
        ) from None
    return value


class OperatorSuppression(models.Model):
    """An address, a domain or a wildcard that no agency may mail. Stored in small letters."""

    value = models.CharField(_("address, domain or wildcard"), max_length=254, unique=True)
    evidence = models.TextField(_("evidence"), blank=True)
    created_at = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("suppression for all")
        verbose_name_plural = _("suppressions for all")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(value=Lower("value")), name="operator_suppression_is_in_small_letters"
            )
        ]

    def __str__(self) -> str:
        return self.value

    def clean(self) -> None:
        self.value = suppressed_value(self.value)


class OperatorErasureKey(models.Model):
    """A key of the hashes of people erased everywhere, sealed like every secret. The newest makes new hashes."""

    secret = SecretsField(_("key"))
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)


class OperatorErasure(models.Model):
    """The receipt of a person's erasure in every agency. All that is left of the address is its hash with the key.

    `counts`: rows by what they were, of all agencies. `done_at` null: some agency is still at it.
    """

    digest = models.BinaryField(_("hash of the address"))
    key = models.ForeignKey(OperatorErasureKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    by = models.CharField(_("by"), max_length=254)
    asked_at = models.DateTimeField(_("asked for"))
    done_at = models.DateTimeField(_("erased"), null=True)
    counts = models.JSONField(_("what was erased"), default=dict)

    class Meta:
        verbose_name = _("erasure for all")
        verbose_name_plural = _("erasures for all")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["digest"], name="erased_everywhere_by_hash")]

    def __str__(self) -> str:
        return f"{self.pk}"


class Turn(models.Model):
    """An agency that waits for a worker to send what it may through an account. Written by `turns` alone."""

    agency = models.ForeignKey(Agency, on_delete=models.CASCADE, related_name="+")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["agency", "account"], name="one_turn_per_agency_and_account")]

    def __str__(self) -> str:
        return f"{self.agency_id} {self.account_id}"


class Served(models.Model):
    """How much of the workers' time an agency has had, in seconds by its weight. Written by `turns` alone.

    `began` is where its latest turn began on that scale, `until` where its next one does.
    """

    agency = models.OneToOneField(Agency, on_delete=models.CASCADE, related_name="+", primary_key=True)
    began = models.FloatField()
    until = models.FloatField()

    def __str__(self) -> str:
        return f"{self.agency_id}: {self.until}"


class ServedAt(models.Model):
    """The same at one account whose rate a single worker uses up. Written by `turns` alone."""

    agency = models.ForeignKey(Agency, on_delete=models.CASCADE, related_name="+")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    began = models.FloatField()
    until = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "agency"], name="one_share_per_account_and_agency")]

    def __str__(self) -> str:
        return f"{self.agency_id} {self.account_id}: {self.until}"
