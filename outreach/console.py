"""The navigation of the two admin sites."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants import context

Entry = tuple[Promise, str, str, str]
Group = tuple[Promise, tuple[Entry, ...]]

PEOPLE: Group = (
    gettext_lazy("Access"),
    (
        (gettext_lazy("People"), "person", "users", "user"),
        (gettext_lazy("Groups"), "group", "auth", "group"),
        (gettext_lazy("API keys"), "key", "users", "apikey"),
    ),
)
# Label, icon, app and model of each list.
OPERATOR: tuple[Group, ...] = (
    (
        gettext_lazy("Agencies"),
        ((gettext_lazy("Agencies"), "apartment", "tenants", "agency"),),
    ),
    (
        gettext_lazy("Providers"),
        (
            (gettext_lazy("Accounts"), "outgoing_mail", "accounts", "account"),
            (gettext_lazy("Allotments"), "pie_chart", "accounts", "allotment"),
            (gettext_lazy("Ledger"), "menu_book", "accounts", "ledgerrow"),
        ),
    ),
    PEOPLE,
)
AGENCY: tuple[Group, ...] = (
    (
        gettext_lazy("Outreach"),
        (
            (gettext_lazy("Campaigns"), "campaign", "campaigns", "campaign"),
            (gettext_lazy("Messages"), "mail", "campaigns", "message"),
        ),
    ),
    (
        gettext_lazy("Contacts"),
        (
            (gettext_lazy("Contacts"), "contacts", "campaigns", "contact"),
            (gettext_lazy("Lists"), "list", "campaigns", "contactlist"),
            (gettext_lazy("Imports"), "upload_file", "campaigns", "intake"),
            (gettext_lazy("Rejected rows"), "rule", "campaigns", "rejectedrow"),
            (gettext_lazy("Suppressions"), "block", "campaigns", "suppression"),
        ),
    ),
    (
        gettext_lazy("Sending"),
        (
            (gettext_lazy("Domains"), "dns", "senders", "senderdomain"),
            (gettext_lazy("Senders"), "alternate_email", "senders", "sender"),
        ),
    ),
    PEOPLE,
)


def subheader(request: HttpRequest) -> str:
    """Whose console it is."""
    return context.current_agency().name if context.in_agency() else _("Operator")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar of the admin site that this request is on: what its visitor may look at."""
    groups = [
        {"title": title, "separator": True, "items": [_item(*entry) for entry in entries]}
        for title, entries in (AGENCY if context.in_agency() else OPERATOR)
    ]
    home = [{"title": _("Overview"), "icon": "home", "link": reverse("admin:index")}]
    if context.in_agency():
        home.append({"title": _("Portal"), "icon": "open_in_new", "link": reverse("analytics:dashboard")})
    return [{"items": home}, *groups]


def _item(title: Promise, icon: str, app: str, model: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse(f"admin:{app}_{model}_changelist"),
        "permission": _may_view(app, model),
    }


def _may_view(app: str, model: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perms([f"{app}.view_{model}"])
