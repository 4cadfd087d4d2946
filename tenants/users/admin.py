"""People, their groups and their keys, on both admin sites: each shows those of its own schema."""

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import ForeignKey, ManyToManyField, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants import sites
from tenants.users import keys
from tenants.users.models import ApiKey, User

# What only a superuser may give.
POWERS = ("is_staff", "is_superuser", "groups", "user_permissions")
_MAY = {"add": _("may add"), "change": _("may change"), "delete": _("may delete"), "view": _("may look")}


class NamesPermissions:
    """Shows permissions for what the site has, in the language of the page: Django stores their names in English."""

    admin_site: AdminSite

    def formfield_for_manytomany(
        self, db_field: "ManyToManyField[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> "forms.ModelMultipleChoiceField[Any]":
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]
        if db_field.related_model is Permission:
            of_the_site = ContentType.objects.get_for_models(*self.admin_site._registry)
            field.queryset = field.queryset.filter(content_type__in=list(of_the_site.values()))
            field.label_from_instance = _permission
        return cast("forms.ModelMultipleChoiceField[Any]", field)


class PersonCreationForm(UserCreationForm):  # type: ignore[misc]
    """A new person; without a password they set one by the reset mail."""

    class Meta:
        model = User
        fields = ("email", "name")


class PersonChangeForm(UserChangeForm):  # type: ignore[misc]
    """Everything about a person but the password, which has a form of its own."""

    class Meta:
        model = User
        fields = "__all__"


class PersonAdmin(NamesPermissions, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """People who sign in. Only a superuser makes another one, or touches one."""

    form = PersonChangeForm
    add_form = PersonCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "name", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff", "groups")
    search_fields = ("email", "name")
    ordering = ("email",)
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("email", "name", "password", "is_active")}),
        (_("Permissions"), {"fields": POWERS}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        kept = tuple(super().get_readonly_fields(request, obj))
        return kept if _rules(request) else (*kept, *POWERS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        people = super().get_queryset(request)
        return people if _rules(request) else people.filter(is_superuser=False)


class GroupAdmin(NamesPermissions, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Named sets of permissions, for superusers only: whoever edits a group may give themselves all of it."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _rules(request)

    def has_view_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _rules(request)

    has_add_permission = has_module_permission
    has_change_permission = has_view_permission
    has_delete_permission = has_view_permission


class KeyAdmin(ModelAdmin):  # type: ignore[misc]
    """API keys. A key acts as its user, so people see and make their own; superusers everyone's."""

    list_display = ("name", "user", "prefix", "created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__email")
    fields = ("name", "user", "expires_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("user", "prefix", "created_at", "last_used_at") if obj else ()

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return (*self.fields, "prefix", "created_at", "last_used_at") if obj else self.fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        found: QuerySet[ApiKey] = super().get_queryset(request)
        return found if _rules(request) else found.filter(user__in=_self(request))

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> "forms.ModelChoiceField[Any]":
        if db_field.name == "user" and not _rules(request):
            kwargs["queryset"] = _self(request)
        field: forms.ModelChoiceField[Any] = super().formfield_for_foreignkey(db_field, request, **kwargs)
        return field

    def save_model(self, request: HttpRequest, obj: ApiKey, form: "forms.ModelForm[ApiKey]", change: bool) -> None:
        secret = "" if change else keys.renew(obj)
        super().save_model(request, obj, form, change)
        if secret:
            text = _("Copy the key now, it is not shown again:")
            self.message_user(request, format_html("{} <code>{}</code>", text, secret), messages.WARNING)


def _permission(permission: Permission) -> str:
    verb = permission.codename.partition("_")[0]
    return f"{permission.content_type}: {_MAY.get(verb, permission.name)}"


def _rules(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


def _self(request: HttpRequest) -> QuerySet[User]:
    return User.objects.filter(pk=request.user.pk or 0)


def _may_touch(request: HttpRequest, person: User | None) -> bool:
    return person is None or not person.is_superuser or _rules(request)


for _site in (sites.operator, sites.agency):
    _site.register(User, PersonAdmin)
    _site.register(Group, GroupAdmin)
    _site.register(ApiKey, KeyAdmin)
