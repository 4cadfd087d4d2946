"""Accounts, allotments and the ledger, on the operator's site."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format, localize, number_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanWidget,
)

from providers.accounts import adapters, checkup, health, inbox, ledger, mailboxes, signatures, webhooks
from providers.accounts.errors import AccountMisconfigured
from providers.accounts.ledger import utc_day
from providers.accounts.models import (
    Account,
    Allotment,
    Health,
    InboundDay,
    InboundMail,
    LedgerRow,
    Mailbox,
    OperatorSuppression,
    Period,
    TrafficClass,
    WebhookDay,
)
from tenants import clock, sites
from tenants.context import PUBLIC
from tenants.models import Agency

HEALTH = ["condition_now", "trouble", "answered", "checked", "used_today", "created_at"]
EVENTS = ["webhook_address", "webhook_secret", "events_heard"]
_HOW = gettext_lazy(
    "Let the provider post its events to this address, signed. Without them nothing is known of bounces."
)
# The colour of what an account can do now.
TONES = {"healthy": "success", "pause": "warning", "blocked": "danger", "off": "info"}
# Every credential that some kind of account has, with the kinds that have it.
CREDENTIALS: dict[str, list[str]] = {}
for _kind in adapters.KINDS.values():
    for _credential in (*_kind.required, *_kind.optional):
        CREDENTIALS.setdefault(_credential, []).append(_kind.label)
_LABELS = {
    "access_key_id": gettext_lazy("Access key ID"),
    "api_key": gettext_lazy("API key"),
    "password": gettext_lazy("Password"),
    "secret_access_key": gettext_lazy("Secret access key"),
    "server_token": gettext_lazy("Server token"),
    "session_token": gettext_lazy("Session token"),
    "username": gettext_lazy("User name"),
}


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """An account whose credentials are written and never read: their fields are always empty, and empty keeps.

    What an adapter would refuse, it refuses with the name of the setting.
    """

    traffic_classes = forms.MultipleChoiceField(
        label=gettext_lazy("Meant for"),
        choices=TrafficClass.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=gettext_lazy("Other classes use this account only as failover."),
    )
    forget = forms.BooleanField(
        label=gettext_lazy("Forget the stored credentials"), required=False, widget=UnfoldBooleanWidget
    )

    webhook_secret = forms.CharField(
        label=gettext_lazy("Webhook secret"),
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Account
        fields = (
            "name",
            "kind",
            "owner",
            "enabled",
            "options",
            "traffic_classes",
            "consent_required",
            "priority",
            "sender_limit",
            "per_day",
            "per_month",
            "per_second",
            "monthly_price",
            "included_per_month",
            "mail_price",
        )
        widgets = {"options": UnfoldAdminTextareaWidget(attrs={"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in CREDENTIALS:
            if (field := self.fields.get(name)) is not None and self.instance.credentials.get(name):
                field.help_text = _("Stored. Empty keeps it.")
        if (field := self.fields.get("webhook_secret")) is not None:
            field.help_text = str(signatures.SECRETS.get(self.instance.kind, ""))
            if self.instance.webhook_secrets.get("secret"):
                field.help_text += " " + _("Stored. Empty keeps it.")

    def clean_webhook_secret(self) -> str:
        secret: str = self.cleaned_data["webhook_secret"]
        if secret and not signatures.usable(self.instance.kind, secret):
            raise ValidationError(_("This cannot be the secret of such a webhook."))
        return secret

    def clean_options(self) -> dict[str, Any]:
        options = self.cleaned_data["options"]
        if not isinstance(options or {}, dict):
            raise ValidationError(_('Write the options as an object, such as {"host": "mail.example.com"}.'))
        return options or {}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        kept = {} if cleaned.get("forget") else self.instance.credentials
        entered = {name: cleaned[name] for name in CREDENTIALS if cleaned.get(name)}
        if cleaned.get("webhook_secret"):
            self.instance.webhook_secrets = {"secret": cleaned["webhook_secret"]}
        kind = cleaned.get("kind") or self.instance.kind
        if kind and "options" in cleaned:
            self.instance.credentials = {**kept, **entered}
            try:
                adapters.open(kind, self.instance.credentials, cleaned["options"]).close()
            except AccountMisconfigured as error:
                self._refuse(error)
        return cleaned

    def _refuse(self, error: AccountMisconfigured) -> None:
        text = f"{error.setting} {error.detail}"
        # An account that is not in use may wait for its key.
        missing = error.setting in CREDENTIALS and not self.cleaned_data.get(error.setting)
        if missing and not self.cleaned_data.get("enabled"):
            return
        self.add_error(error.setting if error.setting in self.fields else "options", text)


for _name, _labels in CREDENTIALS.items():
    _field = forms.CharField(
        label=_LABELS[_name],
        required=False,
        strip=True,
        help_text=", ".join(_labels),
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )
    AccountForm.base_fields[_name] = AccountForm.declared_fields[_name] = _field


class AllotmentInline(TabularInline):  # type: ignore[misc]
    """Who may use the account, and how much of it."""

    model = Allotment
    extra = 0
    fields = ("agency", "senders", "per_day", "per_month")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "agency":
            kwargs["queryset"] = Agency.objects.exclude(schema_name=PUBLIC)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class AccountAdmin(ModelAdmin):  # type: ignore[misc]
    """Accounts are switched off, never deleted: every mail that went through one names it."""

    form = AccountForm
    list_display = ("name", "kind", "condition", "used_today", "sender_limit", "monthly_price", "priority", "enabled")
    list_filter = ("kind", "enabled")
    search_fields = ("name",)
    actions = ("try_again",)
    inlines = (AllotmentInline,)
    compressed_fields = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        return accounts_with_today(clock.now())

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> list[tuple[Any, dict[str, Any]]]:
        kind = adapters.KINDS.get(obj.kind) if obj else None
        names = [*kind.required, *kind.optional] if kind else list(CREDENTIALS)
        hint = _("Fill in those of the kind. They are stored encrypted and never shown again.")
        return [
            (None, {"fields": [("name", "kind"), ("owner", "enabled")]}),
            (
                _("Credentials"),
                {"fields": [*names, *(["forget"] if obj else []), "options"], "description": hint},
            ),
            (_("Routing"), {"fields": ["traffic_classes", "consent_required", "priority"]}),
            (
                _("Limits and price"),
                {
                    "fields": [
                        "sender_limit",
                        ("per_day", "per_month", "per_second"),
                        ("monthly_price", "included_per_month", "mail_price"),
                    ]
                },
            ),
            *(
                [(_("Events"), {"fields": EVENTS, "description": _HOW})]
                if obj and obj.kind in signatures.SECRETS
                else []
            ),
            *([(_("Health"), {"fields": HEALTH})] if obj else []),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> tuple[str, ...]:
        shown = (*HEALTH, "webhook_address", "events_heard")
        return ("kind", "owner", *shown) if obj else shown

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "owner":
            kwargs["queryset"] = Agency.objects.exclude(schema_name=PUBLIC)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        _warn_of_cuts(self, request, form.instance)

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("health"),
        label=TONES,
    )
    def condition(self, account: Account) -> tuple[str, str]:
        return condition(account)

    @admin.display(description=gettext_lazy("health"))
    def condition_now(self, account: Account) -> str:
        return condition(account)[1]

    @admin.display(description=gettext_lazy("last trouble"), empty_value="—")
    def trouble(self, account: Account) -> str:
        return _health(account).detail

    @admin.display(description=gettext_lazy("checks that went well"), empty_value="—")
    def answered(self, account: Account) -> str | None:
        parts = checkup.history(account, now=clock.now()).well
        lines = [
            (
                number_format(100 * part, 2),
                ngettext("in the last %(days)d day", "in the last %(days)d days", days) % {"days": days},
            )
            for days, part in parts.items()
        ]
        return format_html_join("", "<p>{} % {}</p>", lines) or None

    @admin.display(description=gettext_lazy("the latest checks"), empty_value="—")
    def checked(self, account: Account) -> str | None:
        rows = [
            (localize(timezone.localtime(one.at)), f"{one.milliseconds} ms", one.detail or _("fine"))
            for one in checkup.history(account, now=clock.now()).latest
        ]
        return format_html_join("", "<p>{} · {} · {}</p>", rows) or None

    @admin.display(description=gettext_lazy("used today (UTC)"), ordering="used")
    def used_today(self, account: Account) -> str:
        used: int = getattr(account, "used", 0)
        return f"{number_format(used, force_grouping=True)} / {number_format(account.per_day, force_grouping=True)}"

    @admin.display(description=gettext_lazy("address"))
    def webhook_address(self, account: Account) -> str:
        return webhooks.address(account)

    @admin.display(description=gettext_lazy("heard in the last days"), empty_value="—")
    def events_heard(self, account: Account) -> str | None:
        heard = webhooks.heard(account, now=clock.now())
        lines = [
            (number_format(count, force_grouping=True), str(result.label)) for result, count in heard.results.items()
        ]
        if heard.last_at:
            lines.append((localize(timezone.localtime(heard.last_at)), _("the last post")))
        if heard.trouble:
            lines.append((heard.trouble, ""))
        return format_html_join("", "<p>{} {}</p>", lines) or None

    @admin.action(description=gettext_lazy("Try the account again"), permissions=["change"])
    def try_again(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        for account in accounts:
            health.reopen(account.pk, now=clock.now())
            self.message_user(request, _("%(account)s is tried again.") % {"account": account}, messages.SUCCESS)


class AllotmentAdmin(ModelAdmin):  # type: ignore[misc]
    """What each agency may use of each account."""

    list_display = ("account", "agency", "senders", "per_day", "per_month")
    list_filter = ("account", ("agency", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("account", "agency")
    search_fields = ("account__name", "agency__name", "agency__slug")
    ordering = ("agency__name", "account__priority", "account_id")

    def get_readonly_fields(self, request: HttpRequest, obj: Allotment | None = None) -> tuple[str, ...]:
        return ("account", "agency") if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "agency":
            kwargs["queryset"] = Agency.objects.exclude(schema_name=PUBLIC)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Allotment, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _warn_of_cuts(self, request, obj.account)


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """What only our own work writes."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_delete_permission = has_change_permission


class LedgerAdmin(ReadOnlyAdmin):
    """What was used, day by day and month by month. Only sending writes it."""

    list_display = ("starts", "period", "account", "whose", "used", "allowed")
    list_filter = ("period", "account", ("agency", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("account", "agency")
    date_hierarchy = "starts"
    ordering = ("-starts", "account_id", F("agency_id").asc(nulls_first=True), "period")

    @admin.display(description=gettext_lazy("agency"), ordering="agency__name")
    def whose(self, row: LedgerRow) -> str:
        return row.agency.name if row.agency else _("all")


def accounts_with_today(now: datetime) -> QuerySet[Account]:
    """Every account with its health, and with `used`: its mails of the UTC day."""
    today = LedgerRow.objects.filter(account=OuterRef("pk"), agency=None, period=Period.DAY, starts=utc_day(now))
    used = Coalesce(Subquery(today.values("used")[:1]), 0)
    return Account.objects.select_related("health").annotate(used=used)


def condition(account: Account) -> tuple[str, str]:
    """Whether the account can send now: a key of TONES, and the same in words."""
    if not account.enabled:
        return "off", _("Not in use")
    state = _health(account)
    if state.blocked:
        return "blocked", _("Blocked")
    return ("healthy", _("Ready")) if state.open(clock.now()) else ("pause", _("Tried again shortly"))


def _warn_of_cuts(site: ModelAdmin, request: HttpRequest, account: Account) -> None:
    """Say which limits are below what was sent already: they hold, so nothing more leaves for now."""
    for cut in ledger.overdrawn(account, now=clock.now()):
        month = cut.period == Period.MONTH
        text = _(
            "%(account)s, “%(limit)s”%(whose)s: %(allowed)s is less than the %(used)s sent already, so nothing leaves "
            "before %(until)s UTC. To go on sooner, write more than %(used)s."
        ) % {
            "account": account,
            "limit": _("mails a month") if month else _("mails a day"),
            "whose": f" ({cut.agency.name})" if cut.agency else "",
            "allowed": number_format(cut.allowed, force_grouping=True),
            "used": number_format(cut.used, force_grouping=True),
            "until": date_format(cut.until, "SHORT_DATETIME_FORMAT"),
        }
        site.message_user(request, text, messages.WARNING)


def _health(account: Account) -> Health:
    """What is known about the account; a new one is healthy."""
    try:
        return account.health
    except Health.DoesNotExist:
        return Health(account=account)


class TroubleFilter(admin.SimpleListFilter):
    """Mails that something was wrong with, or nothing."""

    title = gettext_lazy("trouble")
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, site: Any) -> list[tuple[str, Any]]:
        return [("yes", _("With trouble")), ("no", _("Without trouble"))]

    def queryset(self, request: HttpRequest, found: QuerySet[InboundMail]) -> QuerySet[InboundMail]:
        match self.value():
            case "yes":
                return found.exclude(trouble="")
            case "no":
                return found.filter(trouble="")
            case _:
                return found


class MailboxForm(forms.ModelForm):  # type: ignore[type-arg]
    """A mailbox whose password is written and never read: its field is always empty, and empty keeps."""

    password = forms.CharField(
        label=gettext_lazy("Password"),
        required=False,
        strip=False,
        validators=[RegexValidator(r"\A[^\x00-\x1f\x7f]*\Z", gettext_lazy("Leave out what cannot be printed."))],
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Mailbox
        fields = ("name", "host", "port", "security", "username", "folder", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (field := self.fields.get("password")) is not None and self.instance.secret.get("password"):
            field.help_text = _("Stored. Empty keeps it.")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("password"):
            self.instance.secret = {"password": cleaned["password"]}
        elif not self.instance.secret.get("password"):
            self.add_error("password", _("A mailbox needs its password."))
        elif {"host", "username"} & set(self.changed_data):
            # Whoever may change where it leads must not so be shown a password that they may not know.
            self.add_error("password", _("Enter the password again: it is sent to another server or user."))
        return cleaned


class MailboxAdmin(ModelAdmin):  # type: ignore[misc]
    """Mailboxes that are read by IMAP. Nothing in them is changed."""

    form = MailboxForm
    list_display = ("name", "host", "username", "condition", "stored", "read_at", "enabled")
    search_fields = ("name", "host", "username")
    actions = ("test",)
    readonly_fields = ("read_at", "stored", "skipped", "failing_since", "trouble")

    def get_fieldsets(self, request: HttpRequest, obj: Mailbox | None = None) -> list[tuple[Any, dict[str, Any]]]:
        how = _("Mails are read by IMAP as soon as the server tells of them. They stay there, unread.")
        fields = [("name", "enabled"), ("host", "port", "security"), ("username", "password"), "folder"]
        found: list[tuple[Any, dict[str, Any]]] = [(None, {"fields": fields, "description": how})]
        return [*found, (_("Reading"), {"fields": list(self.readonly_fields)})] if obj else found

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("condition"), label=TONES
    )
    def condition(self, mailbox: Mailbox) -> tuple[str, str]:
        if not mailbox.enabled:
            return "off", _("Not in use")
        if mailbox.failing_since:
            return "blocked", mailbox.trouble
        return ("healthy", _("Read")) if mailbox.read_at else ("pause", _("Not read yet"))

    @admin.action(description=gettext_lazy("Test the mailbox"), permissions=["change"])
    def test(self, request: HttpRequest, chosen: QuerySet[Mailbox]) -> None:
        for mailbox in chosen:
            try:
                count = mailboxes.check(mailbox)
            except mailboxes.UnreadableError as error:
                text = _("%(mailbox)s cannot be read: %(why)s") % {"mailbox": mailbox, "why": error}
                self.message_user(request, text, messages.ERROR)
            else:
                text = ngettext(
                    "%(mailbox)s can be read; it has %(count)d mail.",
                    "%(mailbox)s can be read; it has %(count)d mails.",
                    count,
                )
                self.message_user(request, text % {"mailbox": mailbox, "count": count}, messages.SUCCESS)


class InboundMailAdmin(ReadOnlyAdmin):
    """Mails that came back, as they came: what each was found to be, which mail it is about, what was wrong with it."""

    list_display = ("received_at", "sender", "kind", "agency", "about", "size", "trouble")
    list_filter = ("kind", ("agency", admin.RelatedOnlyFieldListFilter), TroubleFilter)
    list_select_related = ("agency",)
    search_fields = ("sender", "=message")
    ordering = ("-pk",)
    fields = (
        "received_at",
        "sender",
        "recipients",
        "size",
        "kind",
        "agency",
        "message",
        "handled_at",
        "attempts",
        "trouble",
        "headers",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[InboundMail]:
        found: QuerySet[InboundMail] = super().get_queryset(request)
        # A list would read some hundred megabytes of mails.
        return found.defer("body")

    @admin.display(description=gettext_lazy("about the mail"), empty_value="—")
    def about(self, mail: InboundMail) -> str | None:
        return f"{str(mail.message)[:8]}…" if mail.message else None

    @admin.display(description=gettext_lazy("headers"))
    def headers(self, mail: InboundMail) -> str:
        return format_html("<pre class='whitespace-pre-wrap break-all'>{}</pre>", inbox.headers(mail))


class WebhookDayAdmin(ReadOnlyAdmin):
    """What providers posted, day by day: events, and posts that were refused, by reason."""

    list_display = ("day", "account", "result", "count")
    list_filter = ("result", "account")
    list_select_related = ("account",)
    date_hierarchy = "day"
    ordering = ("-day", "account_id", "result")


class InboundDayAdmin(ReadOnlyAdmin):
    """How mails that came back ended, day by day: stored or refused, by reason, and what was found in them."""

    list_display = ("day", "result", "count")
    list_filter = ("result",)
    date_hierarchy = "day"
    ordering = ("-day", "result")


class OperatorSuppressionAdmin(ModelAdmin):  # type: ignore[misc]
    """Whom no agency may mail: it holds for what workers have in their hands already."""

    list_display = ("value", "evidence", "created_at")
    search_fields = ("value",)
    ordering = ("-pk",)

    def get_fields(self, request: HttpRequest, obj: OperatorSuppression | None = None) -> tuple[str, ...]:
        return ("value", "evidence", *(("created_at",) if obj else ()))

    def get_readonly_fields(self, request: HttpRequest, obj: OperatorSuppression | None = None) -> tuple[str, ...]:
        return ("created_at",) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: OperatorSuppression | None = None) -> bool:
        return False


sites.operator.register(Account, AccountAdmin)
sites.operator.register(OperatorSuppression, OperatorSuppressionAdmin)
sites.operator.register(Allotment, AllotmentAdmin)
sites.operator.register(LedgerRow, LedgerAdmin)
sites.operator.register(Mailbox, MailboxAdmin)
sites.operator.register(InboundMail, InboundMailAdmin)
sites.operator.register(InboundDay, InboundDayAdmin)
sites.operator.register(WebhookDay, WebhookDayAdmin)
