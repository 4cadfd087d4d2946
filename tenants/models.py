import zoneinfo
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _
from django_tenants.models import DomainMixin, TenantMixin

SLUG = RegexValidator(
    r"\A[a-z][a-z0-9-]{0,29}[a-z0-9]\Z",
    _(
        "Use 2 to 31 small letters, digits and hyphens, with a letter first and no hyphen last: "
        "the name becomes part of a host name."
    ),
)
# RFC 1123 section 2.1: labels of up to 63 letters, digits and inner hyphens.
HOST = RegexValidator(
    r"\A(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z",
    _(
        "Write the host name alone, such as mail.example.com: no scheme, port or path, "
        "and an international name in its xn-- form."
    ),
)
KEPT = _("An agency is not deleted here: switch it off with “active”.")


def known_timezone(name: str) -> None:
    """Refuse a time zone that the tz database does not have."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError(
            _("%(name)s is not a time zone. Use a name such as Europe/Berlin."), params={"name": name}
        )


def host_name(text: str) -> str:
    """A host name as it is stored and looked up: in small letters, without `www.` and a last dot."""
    return text.strip().lower().rstrip(".").removeprefix("www.")


class AgencyQuerySet(models.QuerySet["Agency"]):
    """Agencies, which no bulk delete may remove either."""

    def delete(self) -> tuple[int, dict[str, int]]:
        raise ValidationError(KEPT)


class Agency(TenantMixin):  # type: ignore[misc]
    """A tenant: a client agency with its own schema, host names and users.

    The schema's name is made here from the slug, never typed. `ready` is set last, by provisioning alone,
    so nothing ever works with a half-made agency.
    """

    auto_create_schema = False
    auto_drop_schema = False
    clone_mode = "NODATA"

    slug = models.CharField(_("short name"), max_length=31, unique=True, validators=[SLUG])
    name = models.CharField(_("name"), max_length=120)
    timezone = models.CharField(_("time zone"), max_length=64, default="UTC", validators=[known_timezone])
    language = models.CharField(
        _("language"), max_length=2, default="en", choices=[("en", "English"), ("ru", "Русский")]
    )
    weight = models.PositiveSmallIntegerField(
        _("share of the workers"),
        default=1,
        db_default=1,
        validators=[MinValueValidator(1)],
        help_text=_("Where agencies wait for the same workers, one with 2 gets twice the time of one with 1."),
    )
    active = models.BooleanField(_("active"), default=True, help_text=_("Off stops all sending and signing in."))
    ready = models.BooleanField(_("ready"), default=False, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = AgencyQuerySet.as_manager()

    class Meta:
        verbose_name = _("agency")
        verbose_name_plural = _("agencies")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(schema_name="public") | models.Q(schema_name__regex=r"^a_[a-z][a-z0-9_]{1,30}$"),
                name="agency_schema_name_is_ours",
            ),
            models.CheckConstraint(condition=models.Q(weight__gt=0), name="agency_has_a_share_of_the_workers"),
        ]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def schema_for(slug: str) -> str:
        """The schema of the agency with this slug, which SLUG has accepted."""
        return "a_" + slug.replace("-", "_")

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone in which this agency's sender days begin and end."""
        return zoneinfo.ZoneInfo(self.timezone)

    def addresses(self) -> tuple[str, str]:
        """Where a browser opens its site, and where pixels and links in its mails lead: there too, unless it has a
        host for them."""
        hosts = list(Domain.objects.filter(tenant=self).order_by("-is_primary", "pk"))
        if not hosts:
            raise ImproperlyConfigured(f"The agency {self.slug} has no host name.")
        tracking = next((host for host in hosts if host.tracks), hosts[0])
        return hosts[0].address, tracking.address

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Never drops a schema: an agency is switched off, dumped, and removed by hand after a grace time."""
        raise ValidationError(KEPT)


class Domain(DomainMixin):  # type: ignore[misc]
    """A host name that leads to an agency's site (or, for the public schema, to the operator's)."""

    domain = models.CharField(_("host name"), max_length=253, unique=True, db_index=True)
    is_primary = models.BooleanField(_("main"), default=True, db_index=True)
    tracks = models.BooleanField(
        _("for links in mails"),
        default=False,
        help_text=_("Pixels and links in the agency's mails lead here, and nothing else answers here."),
    )

    class Meta:
        verbose_name = _("host name")
        verbose_name_plural = _("host names")
        constraints = [models.UniqueConstraint(Lower("domain"), name="domain_is_unique_in_any_case")]

    @property
    def address(self) -> str:
        """Where a browser opens the site of this host."""
        port = f":{settings.PORT}" if settings.PUBLIC_SCHEME == "http" else ""
        return f"{settings.PUBLIC_SCHEME}://{self.domain}{port}/"

    def clean(self) -> None:
        self.domain = host_name(self.domain)
        try:
            HOST(self.domain)
        except ValidationError as error:
            raise ValidationError({"domain": error}) from None

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.domain = host_name(self.domain)
        super().save(*args, **kwargs)


class Visit(models.Model):
    """When the minute's work must look into an agency again; without a row, at once. Written by `visits` alone.

    It may say too early, never too late. `asked` counts who asked, so that nobody's asking is overwritten.
    """

    agency = models.OneToOneField(Agency, on_delete=models.CASCADE, primary_key=True, related_name="visit")
    due_at = models.DateTimeField()
    asked = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.agency_id}: {self.due_at}"


class Bell(models.Model):
    """Somebody rang for an agency, and nobody has looked yet. Written by `bells` alone."""

    agency = models.ForeignKey(Agency, on_delete=models.CASCADE, related_name="+", db_index=False)
    name = models.CharField(max_length=30)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["agency", "name"], name="one_bell_of_a_name_per_agency")]

    def __str__(self) -> str:
        return f"{self.agency_id}: {self.name}"


class Incarnation(models.Model):
    """Where the database was let send, and by whom; empty is its first start. Written by `restored` alone."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    place = models.CharField(max_length=100)
    since = models.DateTimeField()
    by = models.CharField(max_length=254)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="a_database_is_in_one_place")]

    def __str__(self) -> str:
        return self.place
