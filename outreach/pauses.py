"""The operator's page of what is paused or recovers in all agencies, with the evidence, and the button that ends it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from analytics import operation
from campaigns import sources
from campaigns.models import SourcePause
from providers.senders import recovering
from providers.senders.models import Recovery
from tenants import clock, context, sites
from tenants.models import Agency

# More are not looked at on one page; the oldest are at its end.
MOST = 300
SOURCE = "source"


class ReleaseForm(forms.Form):
    """Why it may send again."""

    why = forms.CharField(label=gettext_lazy("why"), max_length=300)


@require_GET
def listed(request: HttpRequest) -> HttpResponse:
    """Senders, domains and sources of contacts of all agencies, the latest first."""
    _refuse(request, "tenants.view_agency")
    rows = sorted(
        [*_recovering(), *({**_of(agency, one), **_source(one)} for agency, one in operation.paused_sources())],
        key=lambda row: row["began_at"],
        reverse=True,
    )
    page = {
        **sites.operator.each_context(request),
        "title": _("Pauses"),
        "rows": rows[:MOST],
        "more": max(0, len(rows) - MOST),
        "may_release": request.user.has_perm("tenants.change_agency"),
    }
    return render(request, "admin/pauses.html", page)


@require_POST
def release(request: HttpRequest, agency: int, kind: str, id: int) -> HttpResponse:
    """Let it send again at once, because the operator says so and why."""
    _refuse(request, "tenants.change_agency")
    given = ReleaseForm(request.POST)
    whose = get_object_or_404(Agency.objects.exclude(schema_name="public").filter(ready=True), pk=agency)
    if not given.is_valid():
        messages.error(request, _("Say why: whoever looks at this later has nothing else to go by."))
        return redirect("pauses")
    by, why, now = request.user.get_username(), given.cleaned_data["why"], clock.now()
    with context.entered(whose):
        if kind == SOURCE:
            source = get_object_or_404(SourcePause.objects.select_related("list"), pk=id)
            name, done = source.list.name, sources.release(source, by=by, why=why, now=now)
        elif kind in ("sender", "domain"):
            found = get_object_or_404(Recovery.objects.select_related("sender__domain", "domain"), pk=id)
            name, done = str(found.whose), recovering.release(found, whose, by=by, why=why, now=now)
        else:
            raise Http404
    if done:
        messages.success(request, _("%(name)s of %(agency)s sends again.") % {"name": name, "agency": whose.name})
    else:
        messages.warning(request, _("Somebody else was faster; look at it again."))
    return redirect("pauses")


def _recovering() -> list[dict[str, Any]]:
    return [
        {
            **_of(agency, one),
            "kind": one.kind,
            "kind_label": _("Sender") if one.kind == "sender" else _("Domain"),
            "name": one.name,
            "stage": one.stage_label,
            "tone": "warning" if one.per_day else "danger",
            "until": one.rest_until,
            "notes": one.missing,
        }
        for agency, one in operation.recoveries()
    ]


def _source(one: sources.Told) -> dict[str, Any]:
    return {
        "kind": SOURCE,
        "kind_label": _("Source of contacts"),
        "name": " · ".join(filter(None, (one.list, one.file_name))),
        "stage": _("First mails held back"),
        "tone": "danger",
        "until": None,
        "notes": [_("%(count)d mails wait for its end.") % {"count": one.held}] if one.held else [],
    }


def _of(agency: Agency, one: recovering.Told | sources.Told) -> dict[str, Any]:
    return {
        "agency": agency,
        "id": one.id,
        "cause": one.cause_label,
        "evidence": one.evidence,
        "began_at": one.began_at,
        "by": one.by,
        "why": one.why,
    }


def _refuse(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied
