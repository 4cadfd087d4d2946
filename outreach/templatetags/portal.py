"""Components of the portal's design system, as template tags.

Numbers that become attributes are formatted here and not in the templates: there a Russian page would write
"12,5" or "1 140", which is no value for `width` or `max`. Bars are attributes of SVG and <progress>, because
the Content-Security-Policy allows no inline style.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import lucide
from django import forms, template
from django.core.paginator import Page
from django.http import HttpRequest
from django.template import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from campaigns import access, conversations
from campaigns.access import Visitor

register = template.Library()

Text = str | Promise

THEMES = {"light", "dark"}

# The words of campaigns, messages, accounts, imports and replies, each with the colour that it has everywhere.
TONES = {
    "running": "success",
    "sent": "success",
    "healthy": "success",
    "up": "success",
    "accepted": "success",
    "delivered": "success",
    "planned": "info",
    "scheduled": "info",
    "claimed": "info",
    "in_progress": "info",
    "finished": "accent",
    "paused": "warning",
    "held": "warning",
    "waiting": "warning",
    "throttled": "warning",
    "degraded": "warning",
    "unknown": "doubt",
    "in_doubt": "doubt",
    "failed": "danger",
    "rejected": "danger",
    "down": "danger",
    "blocked": "danger",
    "interested": "success",
    "question": "info",
    "not_now": "warning",
    "wrong_person": "doubt",
    "opt_out": "danger",
}


class NavItem(NamedTuple):
    """`waiting` is how much waits there for this visitor, and `counted` the word for what it is."""

    label: Text
    icon: str
    url_name: str
    waiting: Callable[[Visitor], int] | None = None
    counted: Text = ""


def _unread(visitor: Visitor) -> int:
    return conversations.unread(access.replies_for(visitor), now=timezone.now())


class NavGroup(NamedTuple):
    label: Text
    items: tuple[NavItem, ...]


NAVIGATION = (
    NavGroup(
        _("Outreach"),
        (
            NavItem(_("Dashboard"), "layout-dashboard", "analytics:dashboard"),
            NavItem(_("Campaigns"), "send", "campaigns:list"),
            NavItem(_("Contacts"), "users", "campaigns:contacts"),
            NavItem(_("Inbox"), "inbox", "campaigns:inbox", _unread, _("unread")),
            NavItem(_("Webhooks"), "webhook", "campaigns:webhooks", access.endpoints_off, _("switched off")),
        ),
    ),
)


@register.simple_tag(takes_context=True)
def theme(context: Context) -> str:
    """The visitor's theme: light, dark, or system when they chose none."""
    request = context.get("request")
    chosen = request.COOKIES.get("theme", "") if request else ""
    return chosen if chosen in THEMES else "system"


@register.inclusion_tag("portal/navigation.html", takes_context=True)
def navigation(context: Context) -> dict[str, Any]:
    request = context.get("request")
    path = request.path if request else ""
    return {
        "groups": [
            (
                group.label,
                [
                    (item, url, _is_current(url, path), _counted(item, request))
                    for item in group.items
                    for url in [reverse(item.url_name)]
                ],
            )
            for group in NAVIGATION
        ]
    }


def _counted(item: NavItem, request: HttpRequest | None) -> str:
    """The count of an item in words, empty for none."""
    count = item.waiting(request.user) if item.waiting and request else 0
    most = conversations.MOST_COUNTED
    return f"{most}+" if count > most else str(count or "")


def _is_current(url: str, path: str) -> bool:
    return path == url if url == "/" else path.startswith(url)


@register.simple_tag
def icon(name: str, size: int = 18) -> SafeString:
    """A decorative lucide icon: its meaning must also stand in words beside it or in an aria-label."""
    return _icon(str(name), size)


@lru_cache(maxsize=256)
def _icon(name: str, size: int) -> SafeString:
    attributes = {"class": "icon", "aria-hidden": "true", "stroke-width": "1.75"}
    # The package's own drawing: nothing of it comes from a user.
    return mark_safe(lucide._render_icon(name, size, **attributes))  # noqa: S308


@register.simple_tag
def action_icon(name: object) -> SafeString:
    """The icon of a step that a campaign's page offers; none for a step it does not know."""
    icons = {"launch": "play", "resume": "play", "pause": "pause", "cancel": "ban", "join": "user-plus"}
    known = icons.get(str(name))
    return _icon(known, 16) if known else SafeString("")


@register.filter
def initials(name: object) -> str:
    """The first letters of up to two words: "Alpha Growth" is AG."""
    return "".join(word[0] for word in str(name).split()[:2]).upper()


@register.filter
def moment(value: datetime) -> str:
    """A time as short as a list has room for: of today the hour, else the day."""
    local, today = timezone.localtime(value), timezone.localdate()
    if local.date() == today:
        return date_format(local, "H:i")
    return date_format(local, "j M" if local.year == today.year else "j M Y")


@register.filter
def tone(status: object) -> str:
    """The colour of a status word; neutral for one that has none."""
    return TONES.get(str(status), "neutral")


@register.simple_tag
def badge(label: object, tone: str = "neutral") -> SafeString:
    return format_html('<span class="badge {}">{}</span>', tone, label)


@register.simple_tag
def status_pill(status: object, label: object) -> SafeString:
    """A status as a word with a coloured dot, which beats while a campaign is running."""
    live = " live" if str(status) == "running" else ""
    return format_html('<span class="badge pill {}{}">{}</span>', tone(status), live, label)


@register.simple_tag
def progress(value: float | None, label: object, tone: str = "accent", id: object = "", max: float = 100) -> SafeString:
    """A bar; `id` keeps it the same bar when htmx swaps it, so that it moves and does not jump."""
    return format_html(
        '<progress class="bar {}" value="{}" max="{}" aria-label="{}"{}></progress>',
        tone,
        _number(value or 0),
        _number(max),
        label,
        format_html(' id="bar-{}"', str(id)) if id else "",
    )


@register.inclusion_tag("portal/components/delivery.html")
def delivery_bar(report: object, id: str = "delivery") -> dict[str, Any]:
    """Where all messages of a campaign are, as one segmented bar with its legend."""
    segments, start = [], 0.0
    total = _read(report, "total") or 0
    for key, label, colour in (
        ("sent", pgettext_lazy("messages", "Sent"), "accent"),
        ("in_progress", pgettext_lazy("messages", "In progress"), "info"),
        ("waiting", pgettext_lazy("messages", "Waiting"), "warning"),
        ("in_doubt", pgettext_lazy("messages", "In doubt"), "doubt"),
        ("failed", pgettext_lazy("messages", "Failed"), "danger"),
        ("cancelled", pgettext_lazy("messages", "Cancelled"), "neutral"),
    ):
        count = _read(report, key) or 0
        width = 100 * count / total if total else 0.0
        segments.append(
            {
                "key": key,
                "label": label,
                "tone": colour,
                "count": count,
                "x": _number(start),
                "width": _number(width),
            }
        )
        start += width
    return {"id": id, "segments": segments}


@register.inclusion_tag("portal/components/sparkline.html")
def sparkline(points: Sequence[float] | None, tone: str = "accent") -> dict[str, Any]:
    """A small line without axes; nothing for fewer than two points."""
    if not points or len(points) < 2:
        return {}
    low, spread = min(points), (max(points) - min(points)) or 1
    step = 100 / (len(points) - 1)
    line = " ".join(
        f"{_number(i * step)},{_number(28 - 24 * (float(point) - float(low)) / float(spread))}"
        for i, point in enumerate(points)
    )
    return {"line": line, "area": f"0,32 {line} 100,32", "tone": tone}


@register.inclusion_tag("portal/components/kpi.html")
def kpi(item: object) -> dict[str, Any]:
    return {"kpi": item}


@register.inclusion_tag("portal/components/funnel.html")
def funnel(*parts: object) -> dict[str, Any]:
    """Label and count in turn; each count is shown as a share of the first."""
    rows = list(zip(parts[::2], parts[1::2], strict=True))
    whole = float(str(rows[0][1] or 0)) if rows else 0.0
    return {
        "rows": [
            {
                "label": label,
                "count": count,
                "percent": 100 * float(str(count or 0)) / whole if whole else 0.0,
            }
            for label, count in rows
        ]
    }


@register.inclusion_tag("portal/components/stepper.html")
def stepper(current: int, *labels: object) -> dict[str, Any]:
    """The stages of a task; `current` counts from 1."""
    return {"steps": [(n, label, n < current, n == current) for n, label in enumerate(labels, start=1)]}


@register.simple_tag
def breadcrumbs(*parts: object) -> SafeString:
    """URL and label in turn, and last the label of the page itself."""
    links = format_html_join("", '<li><a href="{}">{}</a></li>', zip(parts[:-1:2], parts[1:-1:2], strict=True))
    return format_html(
        '<nav class="breadcrumbs" aria-label="{}"><ol>{}<li aria-current="page">{}</li></ol></nav>',
        _("Breadcrumbs"),
        links,
        parts[-1],
    )


@register.inclusion_tag("portal/components/pagination.html", takes_context=True)
def pagination(context: Context, page: Page[Any]) -> dict[str, Any]:
    numbers = page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)
    return {"page": page, "numbers": numbers, "request": context.get("request")}


@register.simple_block_tag
def card(
    content: str, title: object = "", note: object = "", more: str = "", icon: str = "", body: str = "padded"
) -> str:
    """A panel; `more` is the URL of the whole list, `body` is "flush" for a table that reaches the edges."""
    return render_to_string(
        "portal/components/card.html",
        {"content": content, "title": title, "note": note, "more": more, "icon": icon, "body": body},
    )


@register.simple_block_tag
def empty_state(content: str, title: object, icon: str = "inbox", tone: str = "neutral") -> str:
    """What stands where a list would be; the tag's content is the next step to take."""
    return render_to_string(
        "portal/components/empty.html", {"content": content, "title": title, "icon": icon, "tone": tone}
    )


@register.simple_block_tag
def callout(content: str, title: object = "", tone: str = "info") -> str:
    """A note inside a page; tones danger and warning are announced to screen readers."""
    return render_to_string("portal/components/callout.html", {"content": content, "title": title, "tone": tone})


@register.inclusion_tag("portal/components/skeleton.html")
def skeleton(rows: int = 3) -> dict[str, Any]:
    return {"rows": range(rows)}


@register.inclusion_tag("portal/components/field.html")
def field(bound: forms.BoundField) -> dict[str, Any]:
    """One form field with its label, help and errors, tied together for screen readers."""
    kinds = {
        "checkbox": "check",
        "radioselect": "options",
        "checkboxselectmultiple": "options many",
        "number": "short",
        "time": "short",
    }
    return {"field": bound, "kind": kinds.get(bound.widget_type, "line")}


@register.inclusion_tag("portal/components/fields.html")
def fields(form: forms.BaseForm) -> dict[str, Any]:
    """All fields of a form, in the groups of `form.groups` if it has any: (title, hint, names of fields)."""
    groups: Iterable[tuple[Text, Text, Sequence[str]]] = getattr(form, "groups", [])
    grouped = [
        {"title": title, "hint": hint, "fields": [form[name] for name in names if name in form.fields]}
        for title, hint, names in groups
    ]
    named = {name for _title, _hint, names in groups for name in names}
    rest = [bound for bound in form.visible_fields() if bound.name not in named]
    return {"form": form, "groups": grouped, "rest": rest}


def _read(source: object, key: str) -> Any:
    return source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)


def _number(value: float) -> str:
    return f"{float(value):.2f}".rstrip("0").rstrip(".")
