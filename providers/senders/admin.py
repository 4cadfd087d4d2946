"""Sender domains and senders, on an agency's site. Only the accounts that the agency may use are ever named."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin, TabularInline

from providers.accounts.models import Account, Allotment
from providers.senders import pool
from providers.senders.ledger import local_day
from providers.senders.models import Home, Sender, SenderDay, SenderDomain
from tenants import context, sites


def allotted() -> QuerySet[Account]:
    """The accounts that the agency entered now may use."""
    agency = context.current_agency()
    return Account.objects.filter(Q(owner=None) | Q(owner=agency), allotments__agency=agency)


class AccountFilter(admin.SimpleListFilter):
    """Narrows a list to one account, among those that the agency may use."""

    title = gettext_lazy("account")
    parameter_name = "account"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(str(pk), name) for pk, name in allotted().values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(account=chosen) if chosen and chosen.isdecimal() else queryset


class OwnAccounts:
    """Offers no account of which the agency has no allotment."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.related_model is Account:
            kwargs["queryset"] = allotted()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]


class HomeInline(OwnAccounts, TabularInline):  # type: ignore[misc]
    """Where the domain is verified."""

    model = Home
    extra = 0
    verbose_name = gettext_lazy("account")
    verbose_name_plural = gettext_lazy("verified at")


class DomainAdmin(ModelAdmin):  # type: ignore[misc]
    """Domains that mails leave from. They are kept: the counts of their days hang on them."""

    list_display = ("name", "senders_count", "verified_at", "per_day", "created_at")
    search_fields = ("name",)
    fields = ("name", "per_day")
    inlines = (HomeInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[SenderDomain]:
        found: QuerySet[SenderDomain] = super().get_queryset(request)
        return found.annotate(count=Count("senders")).prefetch_related("homes__account")

    def get_readonly_fields(self, request: HttpRequest, obj: SenderDomain | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: SenderDomain | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("senders"), ordering="count")
    def senders_count(self, domain: SenderDomain) -> int:
        count: int = getattr(domain, "count", 0)
        return count

    @admin.display(description=gettext_lazy("verified at"), empty_value="—")
    def verified_at(self, domain: SenderDomain) -> str:
        return ", ".join(sorted(home.account.name for home in domain.homes.all()))


class SenderForm(forms.ModelForm):  # type: ignore[type-arg]
    """A sender within the agency's allotment, of a domain that is verified at its account."""

    class Meta:
        model = Sender
        fields = ("address", "name", "domain", "account", "per_day", "active")

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"]
        return address.lower()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        address = cleaned.get("address") or self.instance.address
        domain = cleaned.get("domain") or (self.instance.domain if self.instance.pk else None)
        if address and domain and address.rpartition("@")[2] != domain.name:
            self.add_error("domain", _("The address is not of this domain."))
        account = cleaned.get("account")
        if account is not None and domain is not None and not domain.homes.filter(account=account).exists():
            self.add_error(
                "account",
                _("%(domain)s is not verified at %(account)s: add it to the domain first.")
                % {"domain": domain, "account": account},
            )
        if account is not None and account.pk != self.instance.account_id:
            try:
                pool.check_room(Allotment.objects.get(account=account, agency=context.current_agency()), adding=1)
            except ValidationError as error:
                self.add_error("account", error)
        return cleaned


class SenderAdmin(OwnAccounts, ModelAdmin):  # type: ignore[misc]
    """Addresses that mails leave from. They are switched off, never deleted: every mail names its sender."""

    form = SenderForm
    list_display = ("address", "name", "domain", "account", "sent_today", "per_day", "active", "used_at")
    list_filter = ("active", AccountFilter, "domain")
    list_select_related = ("domain", "account")
    search_fields = ("address", "name")
    actions = ("switch_on", "switch_off")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sender]:
        today = SenderDay.objects.filter(
            sender=OuterRef("pk"), day=local_day(timezone.now(), context.current_agency().zone)
        )
        found: QuerySet[Sender] = super().get_queryset(request)
        return found.annotate(used=Subquery(today.values("used")[:1]))

    def get_readonly_fields(self, request: HttpRequest, obj: Sender | None = None) -> tuple[str, ...]:
        return ("address", "domain", "used_at") if obj else ()

    def get_fields(self, request: HttpRequest, obj: Sender | None = None) -> tuple[str, ...]:
        return ("address", "name", "domain", "account", "per_day", "active", *(("used_at",) if obj else ()))

    def has_delete_permission(self, request: HttpRequest, obj: Sender | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("today"), ordering="used")
    def sent_today(self, sender: Sender) -> int:
        return getattr(sender, "used", None) or 0

    @admin.action(description=gettext_lazy("Switch on"), permissions=["change"])
    def switch_on(self, request: HttpRequest, senders: QuerySet[Sender]) -> None:
        senders.update(active=True)

    @admin.action(description=gettext_lazy("Switch off"), permissions=["change"])
    def switch_off(self, request: HttpRequest, senders: QuerySet[Sender]) -> None:
        senders.update(active=False)


sites.agency.register(SenderDomain, DomainAdmin)
sites.agency.register(Sender, SenderAdmin)
