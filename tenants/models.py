import zoneinfo
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _
from django_tenants.models import DomainMixin, TenantMixin

SLUG = RegexValidator(
    r"^[a-z][a-z0-9-]{1,30}$",
    _("Use 2 to 31 small letters, digits and hyphens, starting with a letter: the name becomes part of a host name."),
)


def known_timezone(name: str) -> None:
    """Refuse a time zone that the tz database does not have."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError(_("%(name)s is not a time zone. Use a name such as Europe/Berlin."), params={"name": name})


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
    language = models.CharField(_("language"), max_length=2, default="en", choices=[("en", "English"), ("ru", "Русский")])
    active = models.BooleanField(_("active"), default=True, help_text=_("Off stops all sending and signing in."))
    ready = models.BooleanField(_("ready"), default=False, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("agency")
        verbose_name_plural = _("agencies")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(schema_name="public") | models.Q(schema_name__regex=r"^a_[a-z][a-z0-9_]{1,30}$"),
                name="agency_schema_name_is_ours",
            ),
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

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Never drops a schema: an agency is switched off, dumped, and removed by hand after a grace time."""
        raise ValidationError(_("An agency is not deleted here: switch it off with “active”."))


class Domain(DomainMixin):  # type: ignore[misc]
    """A host name that leads to an agency's site (or, for the public schema, to the operator's)."""

    class Meta:
        verbose_name = _("host name")
        verbose_name_plural = _("host names")
        constraints = [models.UniqueConstraint(Lower("domain"), name="domain_is_unique_in_any_case")]
