"""The two admin sites: who they belong to, their sidebar, and the overview that they open with."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Count, Q
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from analytics import operation
from campaigns import last_mails
from campaigns.models import Campaign, Contact, ContactList, Suppression
from campaigns.summaries import Summary, summaries
from outreach import heartbeat
from outreach.models import Replacement
from providers.accounts.admin import TONES, accounts_with_today, condition
from providers.accounts.models import TrafficClass
from providers.senders.models import Sender
from tenants import clock, context, restored
from tenants.models import Agency

ROWS = 20

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
    (
        gettext_lazy("What comes back"),
        (
            (gettext_lazy("Mails that came back"), "mark_email_unread", "accounts", "inboundmail"),
            (gettext_lazy("These mails by day"), "calendar_month", "accounts", "inboundday"),
            (gettext_lazy("Mailboxes"), "inbox", "accounts", "mailbox"),
            (gettext_lazy("Webhooks by day"), "webhook", "accounts", "webhookday"),
        ),
    ),
    (
        gettext_lazy("Never mailed"),
        (
            (gettext_lazy("Suppressions for all"), "block", "accounts", "operatorsuppression"),
            (gettext_lazy("Erasures for all"), "person_remove", "accounts", "operatorerasure"),
        ),
    ),
    (
        gettext_lazy("Workers"),
        ((gettext_lazy("Replaced workers"), "restart_alt", "outreach", "replacement"),),
    ),
    PEOPLE,
)
AGENCY: tuple[Group, ...] = (
    (
        gettext_lazy("Outreach"),
        (
            (gettext_lazy("Campaigns"), "campaign", "campaigns", "campaign"),
            (gettext_lazy("Messages"), "mail", "campaigns", "message"),
            (gettext_lazy("Replies"), "inbox", "campaigns", "reply"),
            (gettext_lazy("Test mails"), "outgoing_mail", "campaigns", "trialmail"),
        ),
    ),
    (
        gettext_lazy("Contacts"),
        (
            (gettext_lazy("Contacts"), "contacts", "campaigns", "contact"),
            (gettext_lazy("Lists"), "list", "campaigns", "contactlist"),
            (gettext_lazy("Imports"), "upload_file", "campaigns", "intake"),
            (gettext_lazy("Pauses of sources"), "pause_circle", "campaigns", "sourcepause"),
            (gettext_lazy("Rejected rows"), "rule", "campaigns", "rejectedrow"),
            (gettext_lazy("Suppressions"), "block", "campaigns", "suppression"),
            (gettext_lazy("Erasures"), "person_remove", "campaigns", "erasure"),
        ),
    ),
    (
        gettext_lazy("Sending"),
        (
            (gettext_lazy("Domains"), "dns", "senders", "senderdomain"),
            (gettext_lazy("Senders"), "alternate_email", "senders", "sender"),
            (gettext_lazy("Pauses"), "pause_circle", "senders", "recovery"),
        ),
    ),
    (
        gettext_lazy("Programs"),
        (
            (gettext_lazy("Webhooks"), "webhook", "campaigns", "endpoint"),
            (gettext_lazy("Deliveries"), "send", "campaigns", "hookdelivery"),
        ),
    ),
    PEOPLE,
)


def subheader(request: HttpRequest) -> str:
    """Whose console it is."""
    return context.current_agency().name if context.in_agency() else _("Operator")


def favicon(request: HttpRequest) -> str:
    """The portal's own."""
    return static("portal/favicon.svg")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar of the admin site that this request is on: what its visitor may look at."""
    groups: list[dict[str, Any]] = [
        {"title": title, "separator": True, "items": [_item(*entry) for entry in entries]}
        for title, entries in (AGENCY if context.in_agency() else OPERATOR)
    ]
    home: list[dict[str, Any]] = [{"title": _("Overview"), "icon": "home", "link": reverse("admin:index")}]
    if context.in_agency():
        # Every address begins with the portal's.
        home.append(
            {"title": _("Portal"), "icon": "open_in_new", "link": reverse("analytics:dashboard"), "active": False}
        )
    else:
        groups[0]["items"].append(
            {
                "title": _("Pauses"),
                "icon": "pause_circle",
                "link": reverse("pauses"),
                "permission": _may_view("tenants", "agency"),
            }
        )
    return [{"items": home}, *groups]


def overview(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """What stands on the first page: as much of it as its visitor may look at."""
    may = request.user.has_perm
    if context.in_agency():
        found = _agency_overview() if may("campaigns.view_campaign") and may("senders.view_sender") else {}
    else:
        found = _operator_overview() if may("accounts.view_account") and may("tenants.view_agency") else {}
    return {**page, **found}


def _operator_overview() -> dict[str, Any]:
    now = clock.now()
    accounts: list[Any] = list(accounts_with_today(now))
    in_use = [one for one in accounts if one.enabled]
    rates = operation.rates(now=now)
    kept = list(last_mails.everywhere())
    return {
        "cards": [
            *_put_back(),
            *_sending(in_use, rates),
            _workers(now),
            _last_mail(kept),
            *(
                {
                    "label": _("Campaigns that cannot go on"),
                    "value": intcomma(count),
                    "note": _("of %(agency)s, paused by the machine") % {"agency": agency.name},
                    "url": reverse("admin:tenants_agency_change", args=[agency.pk]),
                }
                for agency, count in _cannot_go_on()
            ),
        ],
        "chart": _volume(now),
        "tables": [_accounts(accounts, rates), _queues(now), _pauses(), _opt_outs(kept)],
    }


def _put_back() -> list[dict[str, Any]]:
    if not restored.frozen():
        return []
    return [
        {
            "label": _("Sending"),
            "value": _("Stopped"),
            "note": _("The database was put back from a backup. Let it send by “manage.py release_sending”."),
            "url": reverse("admin:index"),
            "alarm": True,
        }
    ]


def _last_mail(kept: list[last_mails.Kept]) -> dict[str, Any]:
    """From an opt-out to the last mail: zero."""
    longest = max((one.longest for one in kept), default=timedelta())
    late = sum(len(one.late) for one in kept)
    note = _("%(count)s begun afterwards") % {"count": intcomma(late)} if late else _("no mail was begun after one")
    return {
        "label": _("From an opt-out to the last mail"),
        "value": _seconds(longest),
        "note": note,
        "url": reverse("admin:tenants_agency_changelist"),
        "alarm": bool(late),
    }


def _opt_outs(kept: list[last_mails.Kept]) -> dict[str, Any]:
    return {
        "title": _("The newest opt-outs of each agency"),
        "headers": [_("Agency"), _("State"), _("Opt-outs"), _("Last mail after one"), _("Mails begun after one")],
        "rows": [
            {
                "name": one.agency.name,
                "url": reverse("admin:tenants_agency_change", args=[one.agency.pk]),
                "tone": "danger" if one.late else "success",
                "state": _("Broken") if one.late else _("Kept"),
                "cells": [
                    intcomma(one.opt_outs) + ("+" if one.opt_outs == last_mails.NEWEST else ""),
                    _seconds(one.longest) if one.late else _("never"),
                    ", ".join(str(late.key) for late in one.late[:3]) or "—",
                ],
            }
            for one in sorted(kept, key=lambda one: one.longest, reverse=True)[:ROWS]
        ],
        "empty": _("Nobody has opted out yet."),
    }


def _pauses() -> dict[str, Any]:
    """Senders, domains and sources of contacts of all agencies that are paused or recover."""
    rows = [
        {
            "name": one.name,
            "url": reverse("pauses"),
            "tone": "warning" if one.per_day else "danger",
            "state": one.stage_label,
            "cells": [agency.name, one.cause_label, one.evidence or one.why, date_format(one.began_at, "j M H:i")],
        }
        for agency, one in operation.recoveries()
    ]
    rows += [
        {
            "name": " · ".join(filter(None, (one.list, one.file_name))),
            "url": reverse("pauses"),
            "tone": "danger",
            "state": _("First mails held back"),
            "cells": [agency.name, one.cause_label, one.evidence or one.why, date_format(one.began_at, "j M H:i")],
        }
        for agency, one in operation.paused_sources()
    ]
    return {
        "title": _("Paused or recovering"),
        "headers": [_("Sender, domain or source"), _("Stage"), _("Agency"), _("Why"), _("Evidence"), _("Since")],
        "rows": rows[:ROWS],
        "empty": _("Nothing is paused."),
    }


def _seconds(length: timedelta) -> str:
    return _("%(seconds)s s") % {"seconds": number_format(length.total_seconds(), 0 if not length else 1)}


def _sending(in_use: list[Any], rates: defaultdict[int | None, operation.Rates]) -> Iterator[dict[str, Any]]:
    used, allowed = sum(one.used for one in in_use), sum(one.per_day for one in in_use)
    changelist = reverse("admin:accounts_account_changelist")
    yield {
        "label": _("Mails today (UTC)"),
        "value": intcomma(used),
        "note": _("of %(allowed)s that the accounts allow") % {"allowed": intcomma(allowed)},
        "url": reverse("admin:accounts_ledgerrow_changelist"),
    }
    days = _("in %(count)d days, where the provider tells") % {"count": operation.RATE_DAYS}
    yield {"label": _("Delivered"), "value": _percent(rates[None].delivered_percent), "note": days, "url": changelist}
    yield {
        "label": _("Bounced"),
        "value": _percent(rates[None].bounced_percent),
        "note": _("%(percent)s complained") % {"percent": _percent(rates[None].complained_percent)},
        "url": changelist,
    }


def _workers(now: datetime) -> dict[str, Any]:
    """Whether somebody works: what no list of processes tells."""
    last = heartbeat.last()
    alive = heartbeat.alive(now=now)
    note = _("last job %(ago)s ago") % {"ago": timesince(last, now)} if last else _("no job was ever run")
    if replaced := Replacement.objects.filter(at__gt=now - timedelta(days=1)).count():
        note = _("%(count)d replaced in 24 hours") % {"count": replaced}
    return {
        "label": _("Groups of workers"),
        "value": intcomma(alive),
        "note": note,
        "url": reverse("admin:outreach_replacement_changelist"),
        "alarm": not alive or replaced,
    }


def _volume(now: datetime) -> dict[str, Any]:
    days = operation.sent_per_day(now=now)
    bars = {"label": _("Mails"), "data": [count for _day, count in days], "backgroundColor": "var(--color-primary-600)"}
    labels = [date_format(day, "j M") for day, _count in days]
    title = _("Mails a day, last %(count)d days (UTC)") % {"count": operation.DAYS}
    return {"title": title, "data": json.dumps({"labels": labels, "datasets": [bars]})}


def _accounts(accounts: list[Any], rates: defaultdict[int | None, operation.Rates]) -> dict[str, Any]:
    price = sum(one.monthly_price for one in accounts if one.enabled)
    return {
        "title": _("Accounts, in all $%(price)s a month") % {"price": price},
        "headers": [
            _("Account"),
            _("Health"),
            _("Kind"),
            _("Used today"),
            _("Delivered"),
            _("Bounced"),
            _("Meant for"),
        ],
        "rows": [
            {
                "name": one.name,
                "url": reverse("admin:accounts_account_change", args=[one.pk]),
                "tone": TONES[condition(one)[0]],
                "state": condition(one)[1],
                "cells": [
                    one.get_kind_display(),
                    f"{intcomma(one.used)} / {intcomma(one.per_day)}",
                    _percent(rates[one.pk].delivered_percent),
                    _percent(rates[one.pk].bounced_percent),
                    ", ".join(str(TrafficClass(name).label) for name in one.traffic_classes) or "—",
                ],
            }
            for one in accounts
        ],
    }


def _queues(now: datetime) -> dict[str, Any]:
    queues = sorted(operation.queues(now=now), key=lambda one: one.oldest or now)[:ROWS]
    return {
        "title": _("Queue"),
        "headers": [_("Agency"), _("State"), _("Waiting"), _("Due now"), _("In doubt"), _("Oldest due")],
        "rows": [
            {
                "name": one.agency.name,
                "url": reverse("admin:tenants_agency_change", args=[one.agency.pk]),
                "tone": "warning" if one.in_doubt else "info" if one.due else "success",
                "state": _("In doubt") if one.in_doubt else _("Mails are due") if one.due else _("Nothing is due"),
                "cells": [
                    *(_counted(count) for count in (one.waiting, one.due, one.in_doubt)),
                    timesince(one.oldest, now) if one.oldest else "—",
                ],
            }
            for one in queues
        ],
        "empty": _("No mail waits in any agency."),
    }


def _percent(percent: float | None) -> str:
    return "—" if percent is None else f"{number_format(percent, 1)} %"


def _counted(count: int) -> str:
    return f"{intcomma(operation.COUNTED)}+" if count > operation.COUNTED else intcomma(count)


def _agency_overview() -> dict[str, Any]:
    under_way = Campaign.objects.filter(status__in=[Campaign.Status.RUNNING, Campaign.Status.PAUSED])
    lists = ContactList.objects.count()
    senders = Sender.objects.aggregate(all=Count("pk"), active=Count("pk", filter=Q(active=True)))
    return {
        "cards": [
            {
                "label": _("Campaigns under way"),
                "value": intcomma(under_way.count()),
                "note": _("running or paused"),
                "url": reverse("admin:campaigns_campaign_changelist"),
            },
            {
                "label": _("Contacts"),
                "value": intcomma(Contact.objects.count()),
                "note": ngettext("in %(count)d list", "in %(count)d lists", lists) % {"count": lists},
                "url": reverse("admin:campaigns_contact_changelist"),
            },
            {
                "label": _("Senders"),
                "value": intcomma(senders["active"]),
                "note": _("active, of %(count)s") % {"count": intcomma(senders["all"])},
                "url": reverse("admin:senders_sender_changelist"),
            },
            {
                "label": _("Suppressions"),
                "value": intcomma(Suppression.objects.count()),
                "note": _("addresses and domains"),
                "url": reverse("admin:campaigns_suppression_changelist"),
            },
        ],
        "tables": [
            {
                "title": _("Campaigns under way"),
                "headers": [_("Campaign"), _("State"), _("Sent"), _("Waiting"), _("Failed"), _("In doubt")],
                "rows": [
                    {
                        "name": one.name,
                        "url": reverse("admin:campaigns_campaign_change", args=[one.id]),
                        "tone": _tone(one),
                        "state": _("Cannot go on") if one.paused_because else one.status_label,
                        "cells": [
                            f"{intcomma(one.sent)} / {intcomma(one.total)}",
                            *map(intcomma, (one.waiting + one.in_progress, one.failed, one.in_doubt)),
                        ],
                    }
                    for one in summaries(under_way[:ROWS])
                ],
            }
        ],
    }


def _tone(one: Summary) -> str:
    if one.paused_because:
        return "danger"
    return "success" if one.status == Campaign.Status.RUNNING else "warning"


def _cannot_go_on() -> Iterator[tuple[Agency, int]]:
    """The agencies in which the machine has paused campaigns, and how many those are."""
    for agency in context.ready_agencies():
        with context.entered(agency):
            count = Campaign.objects.exclude(paused_reason="").count()
        if count:
            yield agency, count


def _item(title: Promise, icon: str, app: str, model: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse(f"admin:{app}_{model}_changelist"),
        "permission": _may_view(app, model),
    }


def _may_view(app: str, model: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perms([f"{app}.view_{model}"])
