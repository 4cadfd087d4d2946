"""Agencies and their host names, on the operator's site."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline

from tenants import provisioning, sites
from tenants.context import PUBLIC
from tenants.models import Agency, Domain

# The form's field for each of provisioning's.
_FIELDS = {"email": "owner", "password": "owner"}


class NewAgencyForm(forms.ModelForm):  # type: ignore[type-arg]
    """What `create_agency` needs; refuses exactly what it refuses."""

    host = forms.CharField(
        label=_("Host name"),
        required=False,
        max_length=253,
        help_text=_("Empty: the short name below the operator's host name."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    owner = forms.EmailField(
        label=_("Owner's email address"),
        help_text=_("Administers the agency; sets a password on the agency's site by its reset mail."),
        widget=forms.EmailInput(attrs={"class": "vTextField"}),
    )

    class Meta:
        model = Agency
        fields = ("slug", "name", "timezone", "language")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.errors or Agency.objects.filter(slug=cleaned["slug"]).exists():
            return cleaned
        try:
            owner = provisioning.Owner(cleaned["owner"])
            provisioning.check(cleaned["slug"], cleaned["name"], host=cleaned["host"], owner=owner)
        except ValidationError as error:
            for field, errors in error.error_dict.items():
                name = _FIELDS.get(field, field)
                self.add_error(name if name in self.fields else None, errors)
        return cleaned


class DomainInline(TabularInline):  # type: ignore[misc]
    """The host names of an agency."""

    model = Domain
    fields = ("domain", "is_primary", "tracks")
    extra = 0
    verbose_name_plural = _("host names")


class AgencyAdmin(ModelAdmin):  # type: ignore[misc]
    """Agencies are made whole here, changed and switched off, never deleted."""

    list_display = ("name", "slug", "host", "timezone", "active", "ready", "created_at")
    list_filter = ("active", "ready")
    search_fields = ("name", "slug", "domains__domain")
    ordering = ("name",)
    actions = ("finish",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agency]:
        found: QuerySet[Agency] = super().get_queryset(request)
        return found.exclude(schema_name=PUBLIC).prefetch_related("domains")

    def get_form(
        self, request: HttpRequest, obj: Agency | None = None, change: bool = False, **kwargs: Any
    ) -> "type[forms.ModelForm[Agency]]":
        if obj is None:
            kwargs["form"] = NewAgencyForm
        form: type[forms.ModelForm[Agency]] = super().get_form(request, obj, change, **kwargs)
        return form

    def get_fields(self, request: HttpRequest, obj: Agency | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("slug", "name", "host", "owner", "timezone", "language")
        return ("slug", "name", "timezone", "language", "weight", "active", "ready", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Agency | None = None) -> tuple[str, ...]:
        return ("slug", "ready", "created_at") if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Agency | None) -> list[type[TabularInline]]:
        return [DomainInline] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Agency | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Agency, form: "forms.ModelForm[Agency]", change: bool) -> None:
        if not change:
            obj.schema_name = Agency.schema_for(obj.slug)
        super().save_model(request, obj, form, change)
        if not change:
            host, owner = form.cleaned_data["host"], provisioning.Owner(form.cleaned_data["owner"])
            # Migrations commit on their own, so they cannot run in the admin's transaction.
            transaction.on_commit(partial(self._make_whole, request, obj, host=host, owner=owner))

    @admin.display(description=_("host name"))
    def host(self, agency: Agency) -> str:
        return ", ".join(sorted(domain.domain for domain in agency.domains.all()))

    @admin.action(description=_("Finish setting up"), permissions=["change"])
    def finish(self, request: HttpRequest, agencies: QuerySet[Agency]) -> None:
        for agency in agencies:
            self._make_whole(request, agency)

    def _make_whole(self, request: HttpRequest, agency: Agency, **details: Any) -> None:
        try:
            made = provisioning.create_agency(agency.slug, agency.name, **details)
        except ValidationError as error:
            self.message_user(request, f"{agency}: {' '.join(error.messages)}", messages.ERROR)
        except Exception:
            provisioning.logger.exception("provisioning failed", extra={"schema": agency.schema_name})
            text = _("%(agency)s is not ready yet; the log says why. Then choose “Finish setting up”.")
            self.message_user(request, text % {"agency": agency}, messages.ERROR)
        else:
            text = _("%(agency)s is ready at %(address)s")
            address = made.domains.get(is_primary=True).address
            self.message_user(request, text % {"agency": agency, "address": address}, messages.SUCCESS)


sites.operator.register(Agency, AgencyAdmin)
