"""Sender domains and senders, on an agency's site. Only the accounts that the agency may use are ever named."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action

from providers.accounts.models import Account, Allotment
from providers.senders import dkim, dns, pool, recovering, recovery, warming
from providers.senders.ledger import local_day
from providers.senders.models import DkimKey, DnsCheck, DomainDay, Home, Recovery, Sender, SenderDay, SenderDomain
from providers.senders.published import Level
from tenants import clock, context, sites


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


class DomainForm(forms.ModelForm):  # type: ignore[type-arg]
    """A domain whose plans, where it warms up, begin with what the machine plans."""

    class Meta:
        model = SenderDomain
        fields = ("name", "per_day", "warmup_started_on", "warmup_plan", "warmup_domain_plan", "warmup_step")

    def clean_warmup_step(self) -> int:
        step: int = self.cleaned_data["warmup_step"]
        if step < 1:
            raise ValidationError(_("Steps count from 1."))
        return step

    def _post_clean(self) -> None:
        # Between what was typed and the rules of the database: a warm domain has no plans.
        cleaned = self.cleaned_data
        if cleaned.get("warmup_started_on") is None and "warmup_started_on" in cleaned:
            cleaned.update(warmup_plan=[], warmup_domain_plan=[], warmup_step=1)
        super()._post_clean()  # type: ignore[misc]
        if not self.errors:
            warming.fill_in(self.instance)


class DomainAdmin(ModelAdmin):  # type: ignore[misc]
    """Domains that mails leave from. They are kept: the counts of their days hang on them."""

    form = DomainForm
    list_display = ("name", "senders_count", "verified_at", "per_day", "warmth", "dns_is_sound", "created_at")
    list_select_related = ("dns_check",)
    search_fields = ("name",)
    inlines = (HomeInline,)
    shown = ("planned_and_sent", "checked", "found", "keys")
    actions = ("check_dns", "make_keys")
    actions_submit_line = ("save_and_check_dns", "save_and_make_key")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SenderDomain]:
        found: QuerySet[SenderDomain] = super().get_queryset(request)
        return found.annotate(count=Count("senders")).prefetch_related("homes__account")

    def get_fields(self, request: HttpRequest, obj: SenderDomain | None = None) -> tuple[str, ...]:
        plans = ("warmup_started_on", "warmup_plan", "warmup_domain_plan", "warmup_step")
        return ("name", "per_day", *plans, *(self.shown if obj else ()))

    def get_readonly_fields(self, request: HttpRequest, obj: SenderDomain | None = None) -> tuple[str, ...]:
        return ("name", *self.shown) if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        # What is new has to warm up, unless a person says that it is warm.
        found: dict[str, Any] = super().get_changeform_initial_data(request)
        return {"warmup_started_on": local_day(clock.now(), context.current_agency().zone), **found}

    def has_delete_permission(self, request: HttpRequest, obj: SenderDomain | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: SenderDomain, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        today = DomainDay.objects.filter(domain=obj, day=local_day(clock.now(), context.current_agency().zone))
        _warn_of_cut(self, request, obj, obj.per_day, today.values_list("used", flat=True).first())

    @admin.display(description=gettext_lazy("senders"), ordering="count")
    def senders_count(self, domain: SenderDomain) -> int:
        count: int = getattr(domain, "count", 0)
        return count

    @admin.display(description=gettext_lazy("verified at"), empty_value="—")
    def verified_at(self, domain: SenderDomain) -> str:
        return ", ".join(sorted(home.account.name for home in domain.homes.all()))

    @admin.display(description=gettext_lazy("warmup"), empty_value="—")
    def warmth(self, domain: SenderDomain) -> str | None:
        if domain.warmup_started_on is None or domain.warmup_step > len(domain.warmup_plan):
            return None
        return _("step %(step)d of %(steps)d") % {"step": domain.warmup_step, "steps": len(domain.warmup_plan)}

    @admin.display(description=gettext_lazy("planned and sent"), empty_value="—")
    def planned_and_sent(self, domain: SenderDomain) -> str | None:
        days = warming.days(domain, today=local_day(clock.now(), context.current_agency().zone))
        if not days:
            return None
        head = [_("Day"), _("Planned"), _("Allowed"), _("Sent")]
        rows = [
            [
                date_format(one.day, "SHORT_DATE_FORMAT"),
                *(_or_dash(count) for count in (one.planned, one.allowed, one.sent)),
            ]
            for one in days
        ]
        return format_html(
            "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>",
            format_html_join("", '<th class="pr-6 text-left">{}</th>', ((one,) for one in head)),
            format_html_join(
                "",
                "<tr>{}</tr>",
                ((format_html_join("", '<td class="pr-6">{}</td>', ((one,) for one in row)),) for row in rows),
            ),
        )

    @admin.display(description=gettext_lazy("DNS"), boolean=True)
    def dns_is_sound(self, domain: SenderDomain) -> bool | None:
        last = getattr(domain, "dns_check", None)
        return None if last is None else last.sound

    @admin.display(description=gettext_lazy("DNS checked"), empty_value="—")
    def checked(self, domain: SenderDomain) -> str | None:
        last = getattr(domain, "dns_check", None)
        return None if last is None else date_format(timezone.localtime(last.at), "DATETIME_FORMAT")

    @admin.display(description=gettext_lazy("found in the DNS"), empty_value="—")
    def found(self, domain: SenderDomain) -> str | None:
        last = getattr(domain, "dns_check", None)
        if last is None:
            return None
        return format_html_join("", '<div class="mb-3">{} {}{}</div>', (_told(one) for one in last.findings))

    @admin.display(description=gettext_lazy("DKIM keys"), empty_value="—")
    def keys(self, domain: SenderDomain) -> str | None:
        return format_html_join("", '<div class="mb-3">{} {}{}</div>', map(_key, dkim.in_use(domain))) or None

    @admin.action(description=gettext_lazy("Check the DNS"), permissions=["change"])
    def check_dns(self, request: HttpRequest, domains: QuerySet[SenderDomain]) -> None:
        for found in dns.check_all(now=clock.now(), domains=domains):
            self._say(request, found)

    @admin.action(description=gettext_lazy("Make a DKIM key"), permissions=["change"])
    def make_keys(self, request: HttpRequest, domains: QuerySet[SenderDomain]) -> None:
        for domain in domains:
            self._make_key(request, domain)

    @action(description=gettext_lazy("Save and check the DNS"), permissions=["change"])  # type: ignore[untyped-decorator]
    def save_and_check_dns(self, request: HttpRequest, domain: SenderDomain) -> None:
        # The page's own transaction has to be over: the DNS may be slow.
        agency = context.current_agency()

        def ask() -> None:
            with context.entered(agency):
                self._say(request, dns.check(domain, now=clock.now()))

        transaction.on_commit(ask)

    @action(description=gettext_lazy("Save and make a DKIM key"), permissions=["change"])  # type: ignore[untyped-decorator]
    def save_and_make_key(self, request: HttpRequest, domain: SenderDomain) -> None:
        self._make_key(request, domain)

    def _make_key(self, request: HttpRequest, domain: SenderDomain) -> None:
        record = dkim.record(dkim.make(domain, now=clock.now()))
        text = _(
            "Publish this TXT record at %(name)s, then check the DNS: once it is seen, mails are signed. %(value)s"
        )
        self.message_user(request, text % {"name": record.name, "value": record.value}, messages.SUCCESS)

    def _say(self, request: HttpRequest, found: DnsCheck) -> None:
        told = {
            True: (messages.SUCCESS, _("%(domain)s: the DNS is sound.")),
            False: (messages.WARNING, _("%(domain)s: the DNS is not sound; the domain's page says what to publish.")),
            None: (messages.WARNING, _("%(domain)s: the DNS did not answer; check again later.")),
        }
        level, text = told[found.sound]
        self.message_user(request, text % {"domain": found.domain}, level)


# Names of the icons that these pages bring along.
_MARKS = {Level.GOOD: "check_circle", Level.ADVICE: "lightbulb", Level.WRONG: "error", Level.UNKNOWN: "help"}


def _mark(level: Level) -> str:
    return format_html('<span class="material-symbols-outlined align-middle">{}</span>', _MARKS[level])


def _published(name: str, kind: str, value: str) -> str:
    return format_html('<div class="mt-1 font-mono text-xs break-all">{} {}<br>{}</div>', name, kind, value)


def _told(finding: dict[str, Any]) -> tuple[str, str, str]:
    """A mark, a sentence, and the record to publish."""
    record = finding["record"]
    shown = _published(record["name"], record["type"], record["value"]) if record else ""
    return _mark(Level(finding["level"])), dns.told(finding), shown


def _key(key: DkimKey) -> tuple[str, str, str]:
    """The same of a key."""
    record = dkim.record(key)
    if key.signs_since is None:
        mark, text = Level.ADVICE, _("Waits for this record to be seen in the DNS.")
    else:
        since = date_format(timezone.localtime(key.signs_since), "DATETIME_FORMAT")
        mark, text = Level.GOOD, _("Signs since %(since)s.") % {"since": since}
    return _mark(mark), text, _published(record.name, record.type, record.value)


def _or_dash(count: int | None) -> str:
    return "—" if count is None else str(count)


def _warn_of_cut(
    site: ModelAdmin, request: HttpRequest, whose: Sender | SenderDomain, per_day: int, used: int | None
) -> None:
    """Say that a limit is below what was sent today: it holds, so nothing more leaves for now."""
    if used is not None and used > per_day:
        text = _(
            "%(whose)s, “mails a day”: %(allowed)d is less than the %(used)d sent today, so nothing leaves before "
            "midnight. To go on sooner, write more than %(used)d."
        )
        site.message_user(request, text % {"whose": whose, "allowed": per_day, "used": used}, messages.WARNING)


class SenderForm(forms.ModelForm):  # type: ignore[type-arg]
    """A sender within the agency's allotment, of a domain that is verified at its account."""

    class Meta:
        model = Sender
        fields = ("address", "name", "domain", "account", "per_day", "per_hour", "active")

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
            sender=OuterRef("pk"), day=local_day(clock.now(), context.current_agency().zone)
        )
        found: QuerySet[Sender] = super().get_queryset(request)
        return found.annotate(used=Subquery(today.values("used")[:1]))

    def get_readonly_fields(self, request: HttpRequest, obj: Sender | None = None) -> tuple[str, ...]:
        return ("address", "domain", "used_at") if obj else ()

    def get_fields(self, request: HttpRequest, obj: Sender | None = None) -> tuple[str, ...]:
        own = ("address", "name", "signature", "domain", "account", "per_day", "per_hour", "active")
        return (*own, *(("used_at",) if obj else ()))

    def has_delete_permission(self, request: HttpRequest, obj: Sender | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Sender, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        today = SenderDay.objects.filter(sender=obj, day=local_day(clock.now(), context.current_agency().zone))
        _warn_of_cut(self, request, obj, obj.per_day, today.values_list("used", flat=True).first())

    @admin.display(description=gettext_lazy("today"), ordering="used")
    def sent_today(self, sender: Sender) -> int:
        return getattr(sender, "used", None) or 0

    @admin.action(description=gettext_lazy("Switch on"), permissions=["change"])
    def switch_on(self, request: HttpRequest, senders: QuerySet[Sender]) -> None:
        senders.update(active=True)

    @admin.action(description=gettext_lazy("Switch off"), permissions=["change"])
    def switch_off(self, request: HttpRequest, senders: QuerySet[Sender]) -> None:
        senders.update(active=False)


class RecoveryForm(forms.ModelForm):  # type: ignore[type-arg]
    """A pause to begin, of a sender or of a domain, or one to end: each with a word why."""

    class Meta:
        model = Recovery
        fields = ("sender", "domain", "why", "ended_why")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in {"sender", "domain"} & set(self.fields):
            # One of the two.
            self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("why", "ended_why"):
            if name in self.fields and not cleaned.get(name):
                self.add_error(name, _("Say why: whoever looks at this later has nothing else to go by."))
        if "sender" not in self.fields:
            return cleaned
        sender, domain = cleaned.get("sender"), cleaned.get("domain")
        if (sender is None) == (domain is None):
            raise ValidationError(_("Choose a sender or a domain."))
        if Recovery.objects.filter(sender=sender, domain=domain, ended_at=None).exists():
            raise ValidationError(_("It is paused already."))
        return cleaned


class RecoveryAdmin(ModelAdmin):  # type: ignore[misc]
    """Pauses of senders and domains with their evidence. To add one pauses, to save one releases; both are kept."""

    form = RecoveryForm
    list_display = ("__str__", "cause", "standing", "evidence", "began_at", "rest_until", "by", "ended_at", "ended_by")
    list_filter = ("cause", "stage")
    list_select_related = ("sender", "domain")
    shown = ("cause", "standing", "evidence", "missing", "falls", "began_at", "rest_until", "by", "why")

    def get_fields(self, request: HttpRequest, obj: Recovery | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("sender", "domain", "why")
        whose = "sender" if obj.sender_id else "domain"
        return (whose, *self.shown, *(("ended_at", "ended_by") if obj.ended_at else ()), "ended_why")

    def get_readonly_fields(self, request: HttpRequest, obj: Recovery | None = None) -> tuple[str, ...]:
        return () if obj is None else tuple(name for name in self.get_fields(request, obj) if name != "ended_why")

    def has_change_permission(self, request: HttpRequest, obj: Recovery | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or obj.ended_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: Recovery | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Recovery, form: Any, change: bool) -> None:
        agency, by, now = context.current_agency(), request.user.get_username(), clock.now()
        if change:
            done = recovering.release(obj, agency, by=by, why=obj.ended_why, now=now)
        else:
            done = recovering.pause(obj.whose, agency, by=by, why=obj.why, now=now)
            obj.pk = Recovery.objects.filter(sender=obj.sender, domain=obj.domain).latest("pk").pk
        if not done:
            self.message_user(request, _("Somebody else was faster; look at it again."), messages.WARNING)

    @admin.display(description=gettext_lazy("stage"), ordering="stage")
    def standing(self, found: Recovery) -> str:
        return _("Works normally") if found.ended_at else str(found.get_stage_display())

    @admin.display(description=gettext_lazy("evidence"), empty_value="—")
    def evidence(self, found: Recovery) -> str | None:
        return recovery.in_words(found.mails, found.bounced, found.complained, found.least) or None

    @admin.display(description=gettext_lazy("what is wrong in its DNS"), empty_value="—")
    def missing(self, found: Recovery) -> str | None:
        return " ".join(recovering.missing(found)) or None


sites.agency.register(SenderDomain, DomainAdmin)
sites.agency.register(Sender, SenderAdmin)
sites.agency.register(Recovery, RecoveryAdmin)
