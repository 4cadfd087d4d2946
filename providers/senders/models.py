from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from providers.accounts.models import Account
from tenants.rows import AgencyRow

HOST_NAME = RegexValidator(
    r"^(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
    _("Write the domain in small letters, such as mail.example.com (an international one in its xn-- form)."),
)


class SenderDomain(AgencyRow):
    """A domain that mails leave from. `per_day` caps it over all its senders, in the agency's days."""

    name = models.CharField(_("domain"), max_length=253, unique=True, validators=[HOST_NAME])
    per_day = models.PositiveIntegerField(_("mails a day"), default=2000)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("domain")
        verbose_name_plural = _("domains")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


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
    """One address that mails leave from. `per_day` is mails in the agency's day; `used_at` turns the rotation."""

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
    per_day = models.PositiveSmallIntegerField(_("mails a day"), default=50)
    active = models.BooleanField(_("active"), default=True)
    used_at = models.DateTimeField(_("last used"), null=True, editable=False)

    class Meta:
        verbose_name = _("sender")
        verbose_name_plural = _("senders")
        ordering = ["address"]
        constraints = [models.UniqueConstraint(Lower("address"), name="sender_address_is_unique_in_any_case")]
        indexes = [
            # The rotation: the least recently used sender of a domain first.
            models.Index(F("used_at").asc(nulls_first=True), "id", condition=Q(active=True), name="sender_rotation"),
        ]

    def __str__(self) -> str:
        return self.address


class SenderDay(AgencyRow):
    """Mails of one sender on one day of the agency. Written by `ledger` alone."""

    sender = models.ForeignKey(Sender, on_delete=models.CASCADE, related_name="days")
    day = models.DateField()
    allowed = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sender", "day"], name="one_row_per_sender_and_day"),
            models.CheckConstraint(condition=Q(used__lte=F("allowed")), name="sender_used_within_allowed"),
        ]

    def __str__(self) -> str:
        return f"{self.sender_id} {self.day}: {self.used}/{self.allowed}"


class DomainDay(AgencyRow):
    """Mails of one domain on one day of the agency. Written by `ledger` alone."""

    domain = models.ForeignKey(SenderDomain, on_delete=models.CASCADE, related_name="days")
    day = models.DateField()
    allowed = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["domain", "day"], name="one_row_per_domain_and_day"),
            models.CheckConstraint(condition=Q(used__lte=F("allowed")), name="domain_used_within_allowed"),
        ]

    def __str__(self) -> str:
        return f"{self.domain_id} {self.day}: {self.used}/{self.allowed}"
