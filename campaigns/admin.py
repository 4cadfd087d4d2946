"""Contacts, lists, imports, suppressions, campaigns and messages, on an agency's site.

What is history is shown and not edited; a campaign's state changes through `actions` alone.
"""

import json
import re
from dataclasses import replace
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Count, JSONField, QuerySet
from django.forms import BaseInlineFormSet, CharField, ChoiceField, ModelForm
from django.forms import JSONField as JSONFormField
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin, StackedInline
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from campaigns import (
    access,
    actions,
    changes,
    consent,
    contact_columns,
    erasure,
    feasibility,
    inspection,
    replies,
    results,
    sources,
    variants,
)
from campaigns.changes import WantedVariant
from campaigns.explain import explain
from campaigns.forms import SCHEDULE, SEQUENCE, TRACKING, WHEN, CountryField, StopOnField, WeekdaysField
from campaigns.models import (
    Basis,
    Campaign,
    Contact,
    ContactList,
    Endpoint,
    Erasure,
    HookDelivery,
    Intake,
    Message,
    RejectedRow,
    Reply,
    ReplyLabel,
    SourcePause,
    Step,
    StepFile,
    Suppression,
    TrialMail,
    Variant,
)
from campaigns.progress import progress
from providers.accounts.models import OperatorErasure, suppressed_value
from providers.senders import recovery
from providers.senders.admin import AccountFilter
from tenants import clock, sites

Status = Message.Status
JUDGED_SHOWN = 10


class ReadOnly(ModelAdmin):  # type: ignore[misc]
    """History: looked at, never changed."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_delete_permission = has_change_permission


class AsWrittenField(JSONFormField):
    """JSON that is shown again as it was written: a page cannot hold all that JSON may escape."""

    def bound_data(self, data: Any, initial: Any) -> Any:
        return InvalidJSONInput(data or "")

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        # Brackets too deep in each other, a number of too many digits.
        except (RecursionError, ValueError):
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value}) from None


class ContactAdminForm(ModelForm):  # type: ignore[type-arg]
    """A contact, and where they gave consent if that is said now."""

    consent_source = CharField(
        label=gettext_lazy("where they gave consent"),
        max_length=300,
        required=False,
        help_text=gettext_lazy("Kept as evidence beside your name and the time. A consent needs it."),
        widget=UnfoldAdminTextInputWidget,
    )

    def clean_attributes(self) -> dict[str, Any]:
        found = self.cleaned_data["attributes"] or {}
        if "attributes" not in self.changed_data:
            return found
        flat = isinstance(found, dict) and not any(isinstance(value, dict | list) for value in found.values())
        written = json.dumps(found, ensure_ascii=False) if flat else ""
        # What JSON may escape or say, and PostgreSQL cannot keep.
        if not flat or "\\u0000" in written or re.search(r"[\ud800-\udfff]|: -?(?:Infinity|NaN)\b", written):
            raise ValidationError(_('Write names and values, such as {"city": "Riga"}.'))
        if too_much := contact_columns.excess(found):
            raise ValidationError(too_much)
        return found

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        given = "basis" in self.changed_data and found.get("basis") == Basis.CONSENT
        if given and not found.get("consent_source", "").strip():
            self.add_error("consent_source", _("Say where they gave consent: without evidence it is none."))
        return found


class ContactAdmin(ModelAdmin):  # type: ignore[misc]
    """People who may be written to. They come in by imports; their address stays what it was."""

    form = ContactAdminForm
    list_display = ("email", "first_name", "last_name", "company", "basis", "created_at")
    search_fields = ("email", "first_name", "last_name", "company")
    fields = (
        "email",
        "first_name",
        "last_name",
        "company",
        "attributes",
        "basis",
        "consent_source",
        "evidence",
        "created_at",
    )
    formfield_overrides = {
        JSONField: {"form_class": AsWrittenField, "widget": UnfoldAdminTextareaWidget(attrs={"rows": 6})}
    }
    readonly_fields = ("email", "evidence", "created_at")
    ordering = ("-pk",)
    paginator = InfinitePaginator
    show_full_result_count = False

    def save_model(self, request: HttpRequest, obj: Contact, form: "ModelForm[Contact]", change: bool) -> None:
        now = clock.now()
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if "basis" in form.changed_data:
                where, by = form.cleaned_data["consent_source"], request.user.get_username()
                consent.enter(
                    obj, obj.basis, consent.Evidence(consent.Source.PERSON, now, detail=where, by=by), now=now
                )
        actions.release(obj, now=now)

    @admin.display(description=gettext_lazy("evidence of consent"), empty_value="—")
    def evidence(self, obj: Contact) -> str | None:
        entries = obj.consent_entries.select_related("list", "intake")[:20]
        lines = (
            (
                localize(timezone.localtime(one.at)),
                one.get_basis_display() or _("Not known"),
                one.list or _("all lists"),
                " · ".join(
                    str(part)
                    for part in (
                        one.get_source_display(),
                        one.detail,
                        one.shown,
                        one.remote_ip,
                        one.by,
                    )
                    if part
                ),
            )
            for one in entries
        )
        return format_html_join("", "<p>{} {} ({}): {}</p>", lines) or None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Contact]:
        found: QuerySet[Contact] = super().get_queryset(request)
        return found.filter(erased_at=None)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Contact | None = None) -> bool:
        return False


class ListAdmin(ModelAdmin):  # type: ignore[misc]
    """Groups of contacts. They are kept: campaigns and imports name them."""

    list_display = ("name", "contacts", "sign_up_open", "double_opt_in", "created_at")
    search_fields = ("name",)
    fields = ("name", "sign_up_open", "double_opt_in")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ContactList]:
        found: QuerySet[ContactList] = super().get_queryset(request)
        return found.annotate(count=Count("subscriptions"))

    def has_delete_permission(self, request: HttpRequest, obj: ContactList | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("contacts"), ordering="count")
    def contacts(self, row: ContactList) -> int:
        count: int = getattr(row, "count", 0)
        return count


class IntakeAdmin(ReadOnly):
    """Imports of contact files."""

    list_display = ("file_name", "list", "state", "rows", "accepted", "rejected", "created_at")
    list_filter = ("status", "list")
    list_select_related = ("list",)
    search_fields = ("file_name",)
    fields = ("file_name", "list", "status", "rows", "accepted", "rejected", "rejected_link", "problem", "created_at")

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"),
        ordering="status",
        label={"waiting": "info", "running": "info", "done": "success", "failed": "danger"},
    )
    def state(self, found: Intake) -> tuple[str, str]:
        return found.status, found.get_status_display()

    @admin.display(description=gettext_lazy("rejected rows"))
    def rejected_link(self, found: Intake) -> str:
        rows = f"{reverse('admin:campaigns_rejectedrow_changelist')}?intake__id__exact={found.pk}"
        return _links((rows, _("Show them")), (reverse("campaigns:rejected", args=[found.pk]), _("Download as CSV")))


class SourcePauseForm(ModelForm):  # type: ignore[type-arg]
    """A pause to begin, or one to end: each with a word why."""

    class Meta:
        model = SourcePause
        fields = ("list", "intake", "why", "ended_why")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "intake" in self.fields:
            # Without one, what came into the list in other ways is paused.
            self.fields["intake"].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("why", "ended_why"):
            if name in self.fields and not cleaned.get(name):
                self.add_error(name, _("Say why: whoever looks at this later has nothing else to go by."))
        people, intake = cleaned.get("list"), cleaned.get("intake")
        if "list" in self.fields and people:
            if intake and intake.list_id != people.pk:
                self.add_error("intake", _("This import went into another list."))
            elif SourcePause.objects.filter(list=people, intake=intake, ended_at=None).exists():
                raise ValidationError(_("It is paused already."))
        return cleaned


class SourcePauseAdmin(ModelAdmin):  # type: ignore[misc]
    """Imports and lists whose first mails are held back. To add one pauses, to save one releases; both are kept."""

    form = SourcePauseForm
    list_display = ("__str__", "cause", "evidence", "began_at", "by", "ended_at", "ended_by")
    list_filter = ("cause",)
    list_select_related = ("list", "intake")

    def get_fields(self, request: HttpRequest, obj: SourcePause | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("list", "intake", "why")
        shown = ("list", "intake", "cause", "evidence", "began_at", "by", "why")
        return (*shown, *(("ended_at", "ended_by") if obj.ended_at else ()), "ended_why")

    def get_readonly_fields(self, request: HttpRequest, obj: SourcePause | None = None) -> tuple[str, ...]:
        return () if obj is None else tuple(name for name in self.get_fields(request, obj) if name != "ended_why")

    def has_change_permission(self, request: HttpRequest, obj: SourcePause | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or obj.ended_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: SourcePause | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: SourcePause, form: Any, change: bool) -> None:
        by, now = request.user.get_username(), clock.now()
        if change:
            done = sources.release(obj, by=by, why=obj.ended_why, now=now)
        else:
            done = sources.pause(obj.list, obj.intake, by=by, why=obj.why, now=now)
            obj.pk = SourcePause.objects.filter(list=obj.list, intake=obj.intake).latest("pk").pk
        if not done:
            self.message_user(request, _("Somebody else was faster; look at it again."), messages.WARNING)

    @admin.display(description=gettext_lazy("evidence"), empty_value="—")
    def evidence(self, found: SourcePause) -> str | None:
        return recovery.in_words(found.mails, found.bounced, found.complained, found.least) or None


class RejectedRowAdmin(ReadOnly):
    """Rows that were not taken, and why."""

    list_display = ("number", "email", "verdict", "said", "intake")
    list_filter = ("verdict", ("intake", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("intake",)
    search_fields = ("email",)
    fields = ("intake", "number", "email", "verdict", "said")
    ordering = ("-intake_id", "number")
    paginator = InfinitePaginator

    @admin.display(description=gettext_lazy("detail"))
    def said(self, row: RejectedRow) -> str:
        return row.said


class SuppressionForm(ModelForm):  # type: ignore[type-arg]
    """An address or a domain, in small letters as it is looked up."""

    class Meta:
        model = Suppression
        fields = ("value", "list", "evidence")

    def clean_value(self) -> str:
        return suppressed_value(self.cleaned_data["value"])


class SuppressionAdmin(ModelAdmin):  # type: ignore[misc]
    """Who must not be mailed. Only what a person added may be taken away again."""

    form = SuppressionForm
    list_display = ("value", "list", "source", "evidence", "created_at")
    list_filter = ("source", "list")
    list_select_related = ("list",)
    search_fields = ("value",)
    ordering = ("-pk",)
    show_full_result_count = False
    found = ("source", "message", "remote_ip", "created_at")

    def get_fields(self, request: HttpRequest, obj: Suppression | None = None) -> tuple[str, ...]:
        return ("value", "list", "evidence", *(self.found if obj else ()))

    def get_readonly_fields(self, request: HttpRequest, obj: Suppression | None = None) -> tuple[str, ...]:
        return self.found if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Suppression | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Suppression | None = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or obj.source == Suppression.Source.MANUAL)

    def save_model(self, request: HttpRequest, obj: Suppression, form: "ModelForm[Suppression]", change: bool) -> None:
        obj.source = Suppression.Source.MANUAL
        super().save_model(request, obj, form, change)


class ErasureForm(ModelForm):  # type: ignore[type-arg]
    """The address of a person to be erased, which is not kept."""

    address = CharField(
        label=gettext_lazy("address of the person"),
        max_length=254,
        help_text=gettext_lazy("All that names them is erased for good, and they are never mailed again."),
        widget=UnfoldAdminTextInputWidget,
    )

    class Meta:
        model = Erasure
        fields = ()

    def clean_address(self) -> str:
        try:
            validate_email(self.cleaned_data["address"].strip())
        except ValidationError:
            raise ValidationError(_("Write the address in full.")) from None
        return str(self.cleaned_data["address"])


class OperatorErasureForm(ErasureForm):
    """The same, for all agencies."""

    class Meta:
        model = OperatorErasure
        fields = ()


class ErasureAdmin(ModelAdmin):  # type: ignore[misc]
    """People who were erased: receipts that do not name them. To add one is to erase somebody."""

    form = ErasureForm
    list_display = ("id", "asked_at", "by", "done_at", "what")
    ordering = ("-pk",)
    show_full_result_count = False
    shown = ("by", "asked_at", "done_at", "what")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.shown if obj else ("address",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.shown if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        # The address is the form's own, not the row's.
        return super().get_form(request, obj, **kwargs) if obj else self.form

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("what was erased"), empty_value="—")
    def what(self, receipt: Erasure | OperatorErasure) -> str | None:
        if receipt.done_at is None:
            return _("A mail to them is on its way: the rest is erased after it.")
        return " · ".join(f"{line.label}: {line.count}" for line in erasure.lines(receipt)) or None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.pk = self._erase(form.cleaned_data["address"], by=request.user.get_username(), clock=clock.now).pk

    def _erase(self, address: str, **how: Any) -> Erasure | OperatorErasure:
        return erasure.erase(address, **how)


class OperatorErasureAdmin(ErasureAdmin):
    """People who were erased in every agency."""

    form = OperatorErasureForm

    def _erase(self, address: str, **how: Any) -> Erasure | OperatorErasure:
        return erasure.erase_everywhere(address, **how)


class WrittenInDraft(StackedInline):  # type: ignore[misc]
    """Texts of a campaign: written while it is a draft. Of a running one they change on its page of steps, which says
    what that does to whom."""

    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_add_permission(request, obj)) and _is_draft(_campaign_of(obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and _is_draft(_campaign_of(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and _is_draft(_campaign_of(obj))


class StepInline(WrittenInDraft):
    """The mails of a campaign. Each has a page of its own for its variants."""

    model = Step
    min_num = 1
    show_change_link = True
    fields = ("position", ("delay", "unit"), ("condition", "otherwise"), "subject", "html", "text")


class VariantForms(BaseInlineFormSet):  # type: ignore[type-arg]
    """Further texts of a step, refused for what the campaign's page refuses them for."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        step = self.instance
        further = tuple(
            WantedVariant("", *(form.cleaned_data[name] for name in ("subject", "html", "text", "weight")))
            for form in self.forms
            if form.cleaned_data and not form.cleaned_data.get("DELETE")
        )
        own = replace(changes.wanted_of(step), variants=further)
        wanted = [own if one.id == step.pk else one for one in changes.steps_of(step.campaign)]
        try:
            changes.foresee(step.campaign, wanted, now=clock.now())
        except changes.ChangeRefusedError as refused:
            raise ValidationError(refused.problems) from None


class VariantInline(WrittenInDraft):
    """Up to five texts that are tried beside the step's own."""

    model = Variant
    formset = VariantForms
    max_num = len(variants.FURTHER)
    fields = (("letter", "weight"), "subject", "html", "text")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "letter":
            choices = [(letter, letter) for letter in variants.FURTHER]
            return ChoiceField(label=db_field.verbose_name, choices=choices, widget=UnfoldAdminSelectWidget)
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class StepAdmin(ModelAdmin):  # type: ignore[misc]
    """The mails of campaigns with their variants; one is added and taken out on the campaign's page."""

    list_display = ("__str__", "campaign", "position", "letters", "chosen")
    list_select_related = ("campaign",)
    search_fields = ("subject", "campaign__name")
    inlines = (VariantInline,)
    ordering = ("-campaign", "position")
    settled = (
        *("subject", "html", "text", "weight", "compare_by", "auto_choice", "least_sends", "sure_at"),
        *("delay", "unit", "condition", "otherwise"),
    )
    shown = ("campaign", "position", "goes_with", "chosen", "chosen_at", "changed_at")
    fieldsets = (
        (None, {"fields": (("campaign", "position"), "goes_with", "subject", "html", "text")}),
        (gettext_lazy("When"), {"fields": (("delay", "unit"), ("condition", "otherwise"))}),
        (
            gettext_lazy("Variants"),
            {
                "fields": (
                    *(("weight", "compare_by"), "auto_choice", ("least_sends", "sure_at")),
                    *(("chosen", "chosen_at"), "changed_at"),
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Step]:
        found: QuerySet[Step] = super().get_queryset(request)
        return found.prefetch_related("variants")

    def get_readonly_fields(self, request: HttpRequest, obj: Step | None = None) -> tuple[str, ...]:
        return self.shown if _is_draft(_campaign_of(obj)) else (*self.settled, *self.shown)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Step | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("variants"), empty_value="—")
    def letters(self, step: Step) -> str | None:
        return ", ".join(text.letter for text in step.texts if text.letter) or None

    @admin.display(description=gettext_lazy("see also"))
    def goes_with(self, step: Step) -> str:
        pages = (("sequence", _("Steps")), ("files", _("Files")), ("preview", _("Preview")))
        return _links(*((reverse(f"campaigns:{page}", args=[step.campaign_id]), label) for page, label in pages))


class CampaignAdmin(ModelAdmin):  # type: ignore[misc]
    """Campaigns: drafts are edited and may be deleted; what was launched is steered by the actions."""

    list_display = ("name", "state", "list", "traffic_class", "distribution", "overflow", "created_at", "launched_at")
    list_filter = ("status", "traffic_class")
    list_select_related = ("list",)
    search_fields = ("name",)
    inlines = (StepInline,)
    actions = ("launch", "pause", "resume", "cancel", "try_again", "send_trial")
    formfield_overrides = {JSONField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3})}}
    settled = ("list", "traffic_class", "distribution", "shares", "overflow", *SEQUENCE, *WHEN, *TRACKING)
    shown = (
        "status",
        "paused_because",
        "mails",
        "read",
        "findings",
        "variants",
        "created_at",
        "launched_at",
        "finished_at",
    )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "weekdays":
            return WeekdaysField(label=db_field.verbose_name)
        if db_field.name == "stop_on":
            return StopOnField(label=db_field.verbose_name)
        if db_field.name == "holidays":
            return CountryField(label=db_field.verbose_name)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Campaign | None = None) -> tuple[str, ...]:
        return ("name", *self.settled, *(self.shown if obj else ()))

    def get_readonly_fields(self, request: HttpRequest, obj: Campaign | None = None) -> tuple[str, ...]:
        if _is_draft(obj):
            return self.shown
        # A schedule that never opens is put right while the campaign is paused; caps stay, for mails are given back.
        changed = SCHEDULE if obj is not None and obj.status == Campaign.Status.PAUSED else ()
        return (*(name for name in self.settled if name not in changed), *self.shown)

    def has_delete_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and _is_draft(obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], list[Any]]:
        found, counts, refused, protected = super().get_deleted_objects(objs, request)
        # What is not deleted by itself goes with its draft.
        parts = {str(model._meta.verbose_name) for model in (Step, StepFile)}
        return found, counts, refused - parts, protected

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"),
        ordering="status",
        label={
            "draft": "info",
            "running": "success",
            "paused": "warning",
            "finished": "primary",
            "cancelled": "danger",
        },
    )
    def state(self, campaign: Campaign) -> tuple[str, str]:
        return campaign.status, campaign.get_status_display()

    @admin.display(description=gettext_lazy("paused because"), empty_value="—")
    def paused_because(self, campaign: Campaign) -> str | None:
        if not campaign.paused_reason:
            return None
        return feasibility.told(campaign.paused_reason, campaign.paused_detail)

    @admin.display(description=gettext_lazy("mails"))
    def mails(self, campaign: Campaign) -> str:
        messages_url = f"{reverse('admin:campaigns_message_changelist')}?campaign__id__exact={campaign.pk}"
        links = (
            (reverse("campaigns:detail", args=[campaign.pk]), _("Progress and forecast")),
            (reverse("campaigns:sequence", args=[campaign.pk]), _("Steps")),
            (reverse("campaigns:preview", args=[campaign.pk]), _("Preview")),
            (messages_url, _("Each of them")),
        )
        return _links(*links)

    @admin.display(description=gettext_lazy("opens and clicks"), empty_value="—")
    def read(self, campaign: Campaign) -> str | None:
        if not campaign.launched_at:
            return None
        lines = []
        for one in progress(campaign, now=clock.now()).told:
            if one.readers and one.measured:
                counts = {"human": one.readers.human, "machine": one.readers.machine, "unclear": one.readers.unclear}
                words = _("by people %(human)d, by programs %(machine)d, unclear %(unclear)d") % counts
                lines.append((f"{one.label}: {one.count} ({words})",))
            elif one.readers:
                lines.append((f"{one.label}: {_('not measured')}",))
        return format_html_join("", "<p>{}</p>", lines)

    @admin.display(description=gettext_lazy("variants"), empty_value="—")
    def variants(self, campaign: Campaign) -> str | None:
        told = ((f"{one.place}: ", one.told) for one in results.results(campaign) if one.told)
        return format_html_join("", "<p>{}{}</p>", told) or None

    @admin.display(description=gettext_lazy("check before launch"), empty_value="—")
    def findings(self, campaign: Campaign) -> str | None:
        if not _is_draft(campaign):
            return None
        found = inspection.inspect(campaign, now=clock.now())
        lines = ((one.severity.label, f"{one.where}{one.variant}: " if one.where else "", one.text) for one in found)
        return format_html_join("", "<p><b>{}</b> {}{}</p>", lines) or _("There is nothing to be said of its texts.")

    @admin.action(description=gettext_lazy("Launch"), permissions=["change"])
    def launch(self, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        self._take("launch", request, campaigns)

    @admin.action(description=gettext_lazy("Pause"), permissions=["change"])
    def pause(self, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        self._take("pause", request, campaigns)

    @admin.action(description=gettext_lazy("Resume"), permissions=["change"])
    def resume(self, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        self._take("resume", request, campaigns)

    @admin.action(description=gettext_lazy("Cancel for good"), permissions=["change"])
    def cancel(self, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        self._take("cancel", request, campaigns)

    @admin.action(description=gettext_lazy("Try again what is held for its text"), permissions=["change"])
    def try_again(self, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        self._take("try-again", request, campaigns)

    @admin.action(description=gettext_lazy("Send me a test of the first mail"), permissions=["change"])
    def send_trial(self, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        for campaign in campaigns:
            step = campaign.steps.filter(position=1).select_related("campaign").first()
            contact = access.contacts_of(request.user, campaign).order_by("pk").first()
            if step is None or contact is None:
                self.message_user(
                    request, f"{campaign}: {_('It has no mail, or its list no contacts.')}", messages.ERROR
                )
                continue
            try:
                done = actions.send_trial(step, contact, [], by=request.user.get_username(), now=clock.now())
                self.message_user(request, done, messages.SUCCESS)
            except actions.ActionRefusedError as refused:
                for problem in refused.problems:
                    self.message_user(request, f"{campaign}: {problem}", messages.ERROR)

    def _take(self, name: str, request: HttpRequest, campaigns: QuerySet[Campaign]) -> None:
        for campaign in campaigns:
            try:
                self.message_user(request, actions.take(name, campaign, now=clock.now()), messages.SUCCESS)
            except actions.ActionRefusedError as refused:
                for problem in refused.problems:
                    self.message_user(request, f"{campaign}: {problem}", messages.ERROR)


class TrialMailAdmin(ReadOnly):
    """Test mails to the agency's own people, mails that ask to confirm a sign-up, and answers to replies."""

    list_display = (
        "recipient",
        "kind",
        "state",
        "came_back",
        "said",
        "step",
        "account",
        "sender",
        "asked_at",
        "sent_at",
    )
    list_filter = ("status", "kind")
    list_select_related = ("step", "account", "sender")
    search_fields = ("recipient", "by")
    fields = (
        ("step", "contact"),
        ("recipient", "by"),
        ("status", "said"),
        ("account", "sender"),
        ("asked_at", "sent_at"),
        ("came_back", "came_back_at", "came_back_with"),
        ("key", "provider_id"),
    )
    ordering = ("-pk",)

    @admin.display(description=gettext_lazy("detail"))
    def said(self, trial: TrialMail) -> str:
        return trial.said

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"),
        ordering="status",
        label={
            "waiting": "info",
            "claimed": "info",
            "sent": "success",
            "failed": "danger",
            "unknown": "warning",
            "withdrawn": "default",
        },
    )
    def state(self, trial: TrialMail) -> tuple[str, str]:
        return trial.status, trial.get_status_display()


class ReplyAdmin(ReadOnly):
    """What people and their machines have answered, what it was taken for and by which words."""

    list_display = ("sender", "meaning", "found", "span", "decided_by", "campaign", "received_at")
    list_filter = ("label", "found", "automatic", ("message__campaign", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("message__campaign", "message__contact")
    search_fields = ("sender", "subject")
    fields = (
        ("sender", "subject"),
        ("campaign", "contact"),
        "text",
        ("label", "found"),
        ("span", "rules"),
        ("decided_by", "decided_at"),
        ("automatic", "returns_on"),
        ("received_at", "read_at"),
        ("assigned_to", "snoozed_until", "done_at"),
    )
    ordering = ("-received_at", "-pk")
    paginator = InfinitePaginator
    list_before_template = "campaigns/judged.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With the table of right and wrong, what was wrong most often first."""
        names = dict(ReplyLabel.choices)
        rows = [
            [names[one.found], one.span or "—", one.right, one.wrong, ", ".join(str(names[to]) for to in one.instead)]
            for one in replies.judged()[:JUDGED_SHOWN]
        ]
        headers = [_("Label by the rules"), _("Decided by"), _("Right"), _("Wrong"), _("Rather")]
        answer: HttpResponse = super().changelist_view(
            request, {**(extra_context or {}), "judged": {"headers": headers, "rows": rows} if rows else None}
        )
        return answer

    @admin.display(description=gettext_lazy("campaign"), ordering="message__campaign__name")
    def campaign(self, reply: Reply) -> str:
        return str(reply.message.campaign)

    @admin.display(description=gettext_lazy("contact"))
    def contact(self, reply: Reply) -> str:
        return str(reply.message.contact)

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("label"),
        ordering="label",
        label={"interested": "success", "question": "info", "not_now": "warning", "opt_out": "danger"},
    )
    def meaning(self, reply: Reply) -> tuple[str, str]:
        return reply.label, reply.get_label_display()


class StepFileAdmin(ReadOnly):
    """What goes with the mails of steps; it is added and taken away on the campaign's page."""

    list_display = ("name", "campaign", "step", "inline", "size", "by", "added_at")
    list_filter = ("inline",)
    list_select_related = ("step__campaign",)
    search_fields = ("name", "step__campaign__name")
    fields = (("name", "content_type"), ("step", "inline"), ("size", "digest"), ("by", "added_at"))
    ordering = ("-pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[StepFile]:
        found: QuerySet[StepFile] = super().get_queryset(request)
        return found.defer("content")

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, file: StepFile) -> str:
        return str(file.step.campaign)


class EndpointAdmin(ReadOnly):
    """Webhooks to which events are posted. The portal and the API change them; their secrets are shown nowhere."""

    list_display = ("__str__", "url", "state", "failing_since", "created_at")
    search_fields = ("name", "url")
    fields = ("name", "url", "kinds", "created_at", "failing_since", ("off", "off_at"))
    ordering = ("pk",)

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"), label={"on": "success", "off": "danger"}
    )
    def state(self, endpoint: Endpoint) -> tuple[str, str]:
        return ("off", endpoint.get_off_display()) if endpoint.off else ("on", _("on"))


class HookDeliveryAdmin(ReadOnly):
    """Events on their way to webhooks."""

    list_display = ("kind", "position", "endpoint", "state", "attempts", "at", "next_at", "done_at")
    list_filter = ("state", "kind", ("endpoint", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("endpoint",)
    fields = ("endpoint", ("kind", "position", "at"), ("state", "attempts"), ("next_at", "done_at"))
    ordering = ("-pk",)


class MessageAdmin(ReadOnly):
    """Each mail: where it is, and why it has not gone."""

    list_display = ("contact", "state", "reason", "campaign", "account", "sender", "due_at", "sent_at")
    list_filter = ("status", "reason", AccountFilter, ("campaign", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("contact", "campaign", "account", "sender")
    search_fields = ("contact__email", "provider_id")
    fields = (
        ("campaign", "step", "variant"),
        ("contact", "sender"),
        ("planned", "account"),
        ("status", "reason"),
        "why",
        "detail",
        "history",
        ("due_at", "sent_at"),
        ("attempts", "attempted_at"),
        "heard",
        ("key", "provider_id"),
    )
    ordering = ("-pk",)
    paginator = InfinitePaginator
    actions = ("count_as_sent", "send_again")

    def has_end_doubts_permission(self, request: HttpRequest) -> bool:
        """Who may act on campaigns may end doubts; the rows themselves are history for everybody."""
        return request.user.has_perm("campaigns.change_campaign")

    @admin.action(description=gettext_lazy("Count as sent, where in doubt"), permissions=["end_doubts"])
    def count_as_sent(self, request: HttpRequest, found: QuerySet[Message]) -> None:
        self._end("count-as-sent", request, found)

    @admin.action(description=gettext_lazy("Send again, where in doubt"), permissions=["end_doubts"])
    def send_again(self, request: HttpRequest, found: QuerySet[Message]) -> None:
        self._end("send-again", request, found)

    def _end(self, name: str, request: HttpRequest, found: QuerySet[Message]) -> None:
        try:
            done = actions.end_doubts(name, found, by=request.user.get_username(), now=clock.now())
            self.message_user(request, done, messages.SUCCESS)
        except actions.ActionRefusedError as refused:
            self.message_user(request, str(refused), messages.ERROR)

    @admin.display(description=gettext_lazy("what was done about the doubt"), empty_value="—")
    def history(self, message: Message) -> str:
        told = [
            " · ".join(filter(None, (localize(timezone.localtime(one.at)), one.get_what_display(), one.by)))
            for one in message.doubts.all()
        ]
        return format_html_join(mark_safe("<br>"), "{}", ((line,) for line in told))

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"),
        ordering="status",
        label={
            Status.SCHEDULED: "info",
            Status.CLAIMED: "info",
            Status.SENT: "success",
            Status.HELD: "warning",
            Status.FAILED: "danger",
            Status.CANCELLED: "primary",
            Status.UNKNOWN: "warning",
        },
    )
    def state(self, message: Message) -> tuple[str, str]:
        return message.status, message.get_status_display()

    @admin.display(description=gettext_lazy("why it has not gone"))
    def why(self, message: Message) -> str:
        told = explain(message, now=clock.now())
        parts = [part for part in (told.label, told.next) if part]
        if told.clears_at:
            parts.append(_("not before %(when)s") % {"when": localize(timezone.localtime(told.clears_at))})
        parts += [f"{number.label}: {number.used} / {number.allowed}" for number in told.numbers]
        if told.refused_by:
            parts.append(_("refused by %(accounts)s") % {"accounts": ", ".join(told.refused_by)})
        return " · ".join(parts) or "-"

    @admin.display(description=gettext_lazy("what was heard of it"), empty_value="—")
    def heard(self, message: Message) -> str | None:
        events = explain(message, now=clock.now()).events
        lines = ((localize(timezone.localtime(one.at)), one.label, one.source, one.detail) for one in events)
        return format_html_join("", "<p>{} · {} ({}) {}</p>", lines) or None


def _campaign_of(obj: Campaign | Step | None) -> Campaign | None:
    return obj.campaign if isinstance(obj, Step) else obj


def _is_draft(campaign: Campaign | None) -> bool:
    return campaign is None or campaign.status == Campaign.Status.DRAFT


def _links(*links: tuple[str, str]) -> str:
    return format_html_join(" · ", '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', links)


for _model, _admin in (
    (Campaign, CampaignAdmin),
    (Step, StepAdmin),
    (Message, MessageAdmin),
    (Contact, ContactAdmin),
    (ContactList, ListAdmin),
    (Intake, IntakeAdmin),
    (RejectedRow, RejectedRowAdmin),
    (SourcePause, SourcePauseAdmin),
    (Suppression, SuppressionAdmin),
    (Erasure, ErasureAdmin),
    (Reply, ReplyAdmin),
    (TrialMail, TrialMailAdmin),
    (StepFile, StepFileAdmin),
    (Endpoint, EndpointAdmin),
    (HookDelivery, HookDeliveryAdmin),
):
    sites.agency.register(_model, _admin)
sites.operator.register(OperatorErasure, OperatorErasureAdmin)
