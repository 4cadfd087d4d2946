"""The portal: campaigns, contacts and imports of the agency that the visitor has signed in to."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import (
    access,
    actions,
    changes,
    choices,
    consent,
    contact_columns,
    doubt,
    erasure,
    files,
    forecast,
    held,
    hooks,
    inspection,
    intake,
    optout,
    preview,
    rendering,
    results,
    signups,
    summaries,
    suppressions,
    trials,
)
from campaigns.forms import (
    BasisForm,
    CampaignForm,
    ContactForm,
    EndpointForm,
    EraseForm,
    RedeliverForm,
    StepFileForm,
    UploadForm,
    VariantFields,
    initial,
    steps,
)
from campaigns.jobs import take_file
from campaigns.models import (
    Campaign,
    Contact,
    ContactList,
    Endpoint,
    Erasure,
    FeedEntry,
    HookAttempt,
    HookDelivery,
    Intake,
    Message,
    Step,
    StepFile,
    Suppression,
    TrialMail,
    Verdict,
)
from campaigns.progress import progress
from providers.accounts.errors import MessageRefused
from providers.senders import routes
from tenants import clock, context, jobs

CAMPAIGNS_PER_PAGE = 20
ROWS_PER_PAGE = 50
LATEST_IMPORTS = 50
DOUBTS_SHOWN = 20
HELD_SHOWN = 10
TRIALS_SHOWN = 10
FORESEEN_DAYS = 10
# Pictures may come from anywhere, as in a mail program; nothing else may come, run or lead away.
PREVIEW_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src https: http: data:; sandbox; frame-ancestors 'self'"
)
ACCOUNT_TONES = ("accent-bar", "info-bar", "warning-bar", "success", "doubt", "danger")


@login_required
@require_GET
def campaign_list(request: HttpRequest) -> HttpResponse:
    """All campaigns, the newest first."""
    page = Paginator(access.campaigns_for(request.user), CAMPAIGNS_PER_PAGE).get_page(request.GET.get("page"))
    page.object_list = summaries.summaries(page.object_list)  # type: ignore[assignment]
    return render(request, "campaigns/campaign_list.html", {"campaigns": page})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_new(request: HttpRequest) -> HttpResponse:
    """Write a campaign; it is saved as a draft."""
    form = CampaignForm(
        request.POST or None,
        lists=access.lists_for(request.user),
        accounts=routes.plannable(context.current_agency(), now=clock.now()),
    )
    first = VariantFields(request.POST or None, prefix="first")
    follow_ups = steps(request.POST if "steps-TOTAL_FORMS" in request.POST else None, more=_more(request))
    if form.is_valid() and first.is_valid() and (not follow_ups.is_bound or follow_ups.is_valid()):
        try:
            campaign = _draft(form, first, follow_ups)
        except changes.ChangeRefusedError as refused:
            for problem in refused.problems:
                form.add_error(None, problem)
        else:
            messages.success(request, _("“%(name)s” is saved as a draft.") % {"name": campaign.name})
            return redirect("campaigns:detail", campaign.pk)
    return render(request, "campaigns/campaign_form.html", {"form": form, "first": first, "follow_ups": follow_ups})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_sequence(request: HttpRequest, id: int) -> HttpResponse:
    """The steps of a campaign; what a change does to whom is shown before it is saved."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    now = clock.now()
    sequence = steps(
        request.POST or None, more=_more(request), initial=[initial(one) for one in changes.steps_of(campaign)]
    )
    found: dict[str, Any] = {"campaign": summaries.of(campaign), "steps": sequence}
    if sequence.is_bound and sequence.is_valid():
        try:
            effects = changes.foresee(campaign, sequence.wanted, now=now)
            seen = changes.seal(sequence.wanted, effects)
            if not effects or changes.is_seen(request.POST.get("seen", ""), sequence.wanted, effects):
                changes.change(campaign, sequence.wanted, now=now)
                messages.success(request, _("The steps of “%(name)s” are saved.") % {"name": campaign.name})
                return redirect("campaigns:detail", campaign.pk)
            found |= {"effects": effects, "seen": seen}
        except changes.ChangeRefusedError as refused:
            found["problems"] = refused.problems
    return render(request, "campaigns/campaign_sequence.html", found)


@login_required
@require_GET
def campaign_detail(request: HttpRequest, id: int) -> HttpResponse:
    """One campaign, live."""
    found = _live(request, id)
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    found |= {
        "doubts": _doubts(request, id),
        "missing": held.by_field(campaign, shown=HELD_SHOWN),
        "came_back": trials.came_back(request.user.get_username(), campaign, now=clock.now())[:TRIALS_SHOWN],
    }
    return render(request, "campaigns/campaign_detail.html", found)


@login_required
@require_GET
def campaign_progress(request: HttpRequest, id: int) -> HttpResponse:
    """The part of a campaign's page that is polled."""
    return render(request, "campaigns/_progress.html", _live(request, id))


@login_required
@require_GET
def campaign_forecast(request: HttpRequest, id: int) -> HttpResponse:
    """The part of a campaign's page that takes a moment to reckon: when it will have gone."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    report = forecast.report(campaign, now=clock.now())
    found: dict[str, Any] = {"forecast": report.forecast, "outcome": report.outcome, "charts": {}}
    if made := report.forecast:
        found["days"], found["more"] = made.days[:FORESEEN_DAYS], max(0, len(made.days) - FORESEEN_DAYS)
        found["busy_days"] = sum(1 for day in made.days if day.total)
        found["charts"]["planned"] = _planned_chart(made)
    if came := report.outcome:
        found["charts"]["compared"] = _compared_chart(came)
        found["lateness"] = _lateness(came.days_late or 0)
        found["error"] = f"{came.error_percent or 0:+} %"
    return render(request, "campaigns/_forecast.html", found)


@login_required
@require_GET
def campaign_results(request: HttpRequest, id: int) -> HttpResponse:
    """The part of a campaign's page that takes a moment to count: each step and each text that is tried for it."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    found = {"campaign": summaries.of(campaign), "steps": results.results(campaign)}
    return render(request, "campaigns/_results.html", found)


@login_required
@require_POST
def campaign_choice(request: HttpRequest, id: int, step: int) -> HttpResponse:
    """Choose a text of a step for the contacts to come, or, with none, take the choice back."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    found = get_object_or_404(campaign.steps.select_related("campaign"), pk=step)
    letter, by = request.POST.get("variant", ""), request.user.get_username()
    try:
        if letter:
            choices.choose(found, letter, by=by, now=clock.now())
            messages.success(request, _("New contacts get variant %(letter)s from now on.") % {"letter": letter})
        else:
            choices.take_back(found, by=by, now=clock.now())
            messages.success(request, _("All variants are tried again, and the comparison begins anew."))
    except choices.ChoiceRefusedError as refused:
        messages.error(request, str(refused))
    return redirect("campaigns:detail", campaign.pk)


@login_required
@require_GET
def campaign_inspection(request: HttpRequest, id: int) -> HttpResponse:
    """The part of a draft's page that takes a moment to find: what is to be said of its texts."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    found = {"campaign": campaign, "findings": inspection.inspect(campaign, now=clock.now())}
    return render(request, "campaigns/_inspection.html", found)


@login_required
@require_GET
def campaign_preview(request: HttpRequest, id: int) -> HttpResponse:
    """A step's mail as a contact would get it."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    step, contact, variant = _previewed(request, campaign)
    found: dict[str, Any] = {"variant": variant, "variants": step.texts[1:] and step.texts if step else []}
    found |= {"campaign": campaign, "steps": campaign.steps.filter(position__isnull=False), "step": step}
    found |= {"contact": contact, "narrow": request.GET.get("width") == "narrow", "asked": request.GET.get("contact")}
    if step and contact:
        try:
            found["mail"] = mail = preview.of(step, contact, variant)
            found["attached"] = [file for file in mail.files if not file.content_id]
            found |= {"people": _people(request), **_trials(step)}
        except (rendering.NotRenderedError, MessageRefused) as error:
            found["problem"] = str(error)
    return render(request, "campaigns/preview.html", found)


@login_required
@require_GET
@xframe_options_sameorigin
def campaign_preview_html(request: HttpRequest, id: int) -> HttpResponse:
    """The HTML of a preview for its frame: it runs nothing and leads nowhere."""
    step, contact, variant = _previewed(request, get_object_or_404(access.campaigns_for(request.user), pk=id))
    if not step or not contact:
        raise Http404
    try:
        mail = preview.of(step, contact, variant)
    except (rendering.NotRenderedError, MessageRefused):
        raise Http404 from None
    response = HttpResponse(preview.framed(mail))
    response.headers["Content-Security-Policy"] = PREVIEW_POLICY
    return response


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_files(request: HttpRequest, id: int) -> HttpResponse:
    """The files of each step; a POST adds one to `step`, or takes `remove` away."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    of_campaign = access.files_for(request.user, campaign)
    if request.method == "POST":
        try:
            if "remove" in request.POST:
                file = get_object_or_404(of_campaign, pk=_number(request.POST["remove"]))
                files.remove(file)
                messages.success(request, _("“%(name)s” is removed.") % {"name": file.name})
            else:
                _add_file(request, get_object_or_404(campaign.steps, pk=_number(request.POST.get("step", ""))))
        except files.FileRefusedError as refused:
            messages.error(request, str(refused))
        return redirect("campaigns:files", campaign.pk)
    by_step: dict[int, list[StepFile]] = {}
    for file in of_campaign:
        by_step.setdefault(file.step_id, []).append(file)
    shown = [
        {
            "step": step,
            "files": by_step.get(step.pk, []),
            "settled": files.settled(step),
            "total": sum(files.encoded(file.size) for file in by_step.get(step.pk, [])),
            "form": StepFileForm(auto_id=f"step{step.pk}_%s"),
        }
        for step in campaign.steps.filter(position__isnull=False)
    ]
    limits = {"most": files.MOST_BYTES, "most_all": files.MOST_ENCODED, "kinds": ", ".join(files.KINDS)}
    return render(request, "campaigns/campaign_files.html", {"campaign": campaign, "steps": shown, **limits})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_trials(request: HttpRequest, id: int) -> HttpResponse:
    """Send a step's mail to people of the agency; the part of the preview that tells what became of such mails."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    step, contact, variant = _previewed(request, campaign)
    if request.method != "POST":
        return render(request, "campaigns/_trials.html", {"campaign": campaign, **_trials(step)})
    if not step or not contact:
        raise Http404
    try:
        to, by = request.POST.getlist("to"), request.user.get_username()
        done = actions.send_trial(step, contact, to, by=by, now=clock.now(), variant=variant)
        messages.success(request, done)
    except actions.ActionRefusedError as refused:
        for problem in refused.problems:
            messages.error(request, problem)
    query = urlencode({"step": step.position, "contact": contact.email, "variant": variant})
    return redirect(f"{reverse('campaigns:preview', args=[campaign.pk])}?{query}#trials")


@login_required
@require_POST
def campaign_act(request: HttpRequest, id: int, action: str) -> HttpResponse:
    """Launch, pause, resume or cancel a campaign."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    if action not in actions.ACTIONS:
        raise Http404
    try:
        messages.success(request, actions.take(action, campaign, now=clock.now()))
    except actions.ActionRefusedError as refused:
        for problem in refused.problems:
            messages.error(request, problem)
    return redirect("campaigns:detail", campaign.pk)


@login_required
@require_POST
def campaign_doubts(request: HttpRequest, id: int, action: str) -> HttpResponse:
    """End the doubt about one mail of a campaign, by its key, or about all."""
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    if action not in actions.DOUBTS:
        raise Http404
    found = access.messages_for(request.user).filter(campaign=campaign)
    if key := request.POST.get("message"):
        try:
            found = found.filter(key=UUID(key))
        except ValueError:
            raise Http404 from None
    try:
        done = actions.end_doubts(action, found, by=request.user.get_username(), now=clock.now())
        messages.success(request, done)
    except actions.ActionRefusedError as refused:
        messages.error(request, str(refused))
    return redirect("campaigns:detail", campaign.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def contacts(request: HttpRequest) -> HttpResponse:
    """The lists, the latest imports, and the way in for a file; `?find=` leads to the contact of that address."""
    asked = request.GET.get("find", "").replace("\0", "").strip()
    if asked:
        if contact := access.everybody_for(request.user).filter(email__iexact=asked).first():
            return redirect("campaigns:contact", contact.pk)
        messages.error(request, _("No contact has the address “%(asked)s”.") % {"asked": asked[:254]})
    lists = access.lists_for(request.user)
    form = UploadForm(request.POST or None, request.FILES or None, lists=lists)
    if form.is_valid():
        try:
            done = form.receive(by=request.user.get_username(), now=clock.now())
        except intake.IntakeRefused as refused:
            form.add_error("file", str(refused))
        else:
            if done.going:
                jobs.enqueue(take_file, done.pk)
            else:
                messages.success(request, _taken(done))
            return redirect("campaigns:import", done.pk)
    own = context.current_agency().addresses()[0]
    found = {
        "form": form,
        "lists": [
            {"list": one, "name": one.name, "contacts": one.contacts, **_sign_up(one, own)}
            for one in lists.annotate(contacts=Count("subscriptions", filter=Q(subscriptions__active=True))).order_by(
                "name"
            )
        ],
        "imports": [import_summary(one) for one in access.intakes_for(request.user)[:LATEST_IMPORTS]],
    }
    return render(request, "campaigns/contact_lists.html", found)


@login_required
@require_POST
def list_sign_up(request: HttpRequest, id: int) -> HttpResponse:
    """Open or close a list to sign-ups: `open` is 1 or 0."""
    into = get_object_or_404(access.lists_for(request.user), pk=id)
    wanted = request.POST.get("open")
    if wanted not in {"0", "1"}:
        raise Http404
    signups.change(into, sign_up_open=wanted == "1")
    words = _("“%(list)s” takes sign-ups again.") if wanted == "1" else _("“%(list)s” takes no sign-ups any more.")
    messages.success(request, words % {"list": into.name})
    return redirect("campaigns:contacts")


def _sign_up(into: ContactList, own: str) -> dict[str, str]:
    """The address of a list's public page, and the same as a form for the agency's own site, in its language."""
    agency = context.current_agency()
    url = signups.url_of(into, own)
    with translation.override(agency.language):
        promise = signups.promise(into, agency.name)
        found = {"url": url, "language": agency.language, "promise": promise}
        return {"url": url, "form": render_to_string("campaigns/_sign_up_form.html", found)}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def erasures(request: HttpRequest) -> HttpResponse:
    """Erase a person; the receipts of those who were erased."""
    may = access.may_erase(request.user)
    if request.method == "POST" and not may:
        raise PermissionDenied
    form = EraseForm(request.POST or None)
    if form.is_valid():
        by = request.user.get_username()
        try:
            receipt = erasure.erase(form.cleaned_data["address"], by=by, clock=clock.now)
        except erasure.ErasureRefusedError as refused:
            form.add_error("address", str(refused))
        else:
            messages.success(request, _erased(receipt))
            return redirect("campaigns:erasures")
    page = Paginator(access.erasures_for(request.user), ROWS_PER_PAGE).get_page(request.GET.get("page"))
    receipts = [{"receipt": one, "lines": erasure.lines(one)} for one in page.object_list]
    found = {"form": form, "may": may, "page": page, "receipts": receipts}
    return render(request, "campaigns/erasures.html", found)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def webhooks(request: HttpRequest) -> HttpResponse:
    """The webhooks, and the way to a new one, whose secret is shown in the answer alone."""
    may = access.may_change_endpoints(request.user)
    if request.method == "POST" and not may:
        raise PermissionDenied
    form = EndpointForm(request.POST or None)
    if form.is_valid():
        try:
            made, secret = hooks.create(**form.cleaned_data, now=clock.now())
        except hooks.HookRefusedError as refused:
            form.add_error("url", str(refused))
        else:
            return _webhook(request, made, secret=secret)
    found = {"endpoints": access.endpoints_for(request.user), "form": form, "may": may}
    return render(request, "campaigns/webhooks.html", found)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def webhook(request: HttpRequest, id: int) -> HttpResponse:
    """One webhook: its log, what is posted there, and what may be done with it."""
    endpoint = get_object_or_404(access.endpoints_for(request.user), pk=id)
    if request.method != "POST":
        return _webhook(request, endpoint)
    if not access.may_change_endpoints(request.user):
        raise PermissionDenied
    form = EndpointForm(request.POST)
    if form.is_valid():
        try:
            hooks.change(endpoint, **form.cleaned_data)
        except hooks.HookRefusedError as refused:
            form.add_error("url", str(refused))
        else:
            messages.success(request, _("Saved."))
            return redirect("campaigns:webhook", endpoint.pk)
    return _webhook(request, endpoint, form=form)


@login_required
@require_POST
def webhook_act(request: HttpRequest, id: int, action: str) -> HttpResponse:
    """Test it, give it a new secret, switch it off or on, delete it, or post again what has ended."""
    endpoint = get_object_or_404(access.endpoints_for(request.user), pk=id)
    if action not in {"rotate", *WEBHOOK_ACTIONS}:
        raise Http404
    if not access.may_change_endpoints(request.user):
        raise PermissionDenied
    if action == "rotate":
        return _webhook(request, endpoint, secret=hooks.rotate(endpoint, now=clock.now()))
    try:
        messages.success(request, WEBHOOK_ACTIONS[action](endpoint, request))
    except actions.ActionRefusedError as refused:
        messages.error(request, str(refused))
    return redirect("campaigns:webhooks") if action == "delete" else redirect("campaigns:webhook", endpoint.pk)


@login_required
@require_GET
def webhook_delivery(request: HttpRequest, id: int, delivery: int) -> HttpResponse:
    """One event that goes to a webhook: its attempts, the answers, and what would be posted now."""
    one = get_object_or_404(access.deliveries_for(request.user), endpoint=id, pk=delivery)
    found = {
        "delivery": one,
        "label": hooks.label(one.kind),
        "tries": one.tries.order_by("-pk")[:ROWS_PER_PAGE],
        "body": json.dumps(json.loads(hooks.body_of(one)), indent=2, ensure_ascii=False),
        "id_header": hooks.id_of(one),
        "may": access.may_change_endpoints(request.user),
    }
    return render(request, "campaigns/webhook_delivery.html", found)


def _webhook(
    request: HttpRequest, endpoint: Endpoint, *, secret: str = "", form: EndpointForm | None = None
) -> HttpResponse:
    """Its page; with its new secret it is not kept by any cache."""
    rows = access.deliveries_for(request.user).filter(endpoint=endpoint)
    state, kind = request.GET.get("state", ""), request.GET.get("event", "")
    rows = rows.filter(state=state) if state in HookDelivery.State.values else rows
    rows = rows.filter(kind=kind) if kind else rows
    page = Paginator(rows, ROWS_PER_PAGE).get_page(request.GET.get("page"))
    last = HookAttempt.objects.filter(delivery__in=[one.pk for one in page]).order_by("delivery", "-pk")
    latest = {one.delivery_id: one for one in last.distinct("delivery")}
    given = {"url": endpoint.url, "name": endpoint.name, "kinds": endpoint.kinds}
    found = {
        "endpoint": endpoint,
        "secret": secret,
        "form": form or EndpointForm(initial=given),
        "again": RedeliverForm(initial={"failed_since": timezone.localtime() - timedelta(days=1)}),
        "page": page,
        "rows": [{"delivery": one, "label": hooks.label(one.kind), "last": latest.get(one.pk)} for one in page],
        "states": HookDelivery.State.choices,
        "kinds": [*FeedEntry.Kind.choices, (hooks.TEST, hooks.label(hooks.TEST))],
        "wanted": {"state": state, "event": kind},
        "may": access.may_change_endpoints(request.user),
    }
    response = render(request, "campaigns/webhook.html", found)
    if secret:
        response.headers["Cache-Control"] = "no-store"
    return response


def _switch_off_hook(endpoint: Endpoint, _request: HttpRequest) -> str:
    hooks.switch_off(endpoint, now=clock.now())
    return _("Switched off. What happens meanwhile is kept for it.")


def _switch_on_hook(endpoint: Endpoint, _request: HttpRequest) -> str:
    actions.switch_on_hook(endpoint)
    return _("Switched on. It goes on where it stopped.")


def _test_hook(endpoint: Endpoint, _request: HttpRequest) -> str:
    actions.test_hook(endpoint, now=clock.now())
    return _("A test event is on its way.")


def _delete_hook(endpoint: Endpoint, _request: HttpRequest) -> str:
    hooks.delete(endpoint)
    return _("The webhook is deleted.")


def _redeliver(endpoint: Endpoint, request: HttpRequest) -> str:
    one = request.POST.get("delivery", "")
    if one.isascii() and one.isdigit() and len(one) < 19:
        count = actions.redeliver(endpoint, deliveries=[int(one)], now=clock.now())
    else:
        form = RedeliverForm(request.POST)
        if not form.is_valid():
            raise actions.ActionRefusedError(_("Say since when."))
        count = actions.redeliver(endpoint, **form.cleaned_data, now=clock.now())
    return ngettext("%(count)d event is posted again.", "%(count)d events are posted again.", count) % {"count": count}


WEBHOOK_ACTIONS: dict[str, Callable[[Endpoint, HttpRequest], str]] = {
    "off": _switch_off_hook,
    "on": _switch_on_hook,
    "test": _test_hook,
    "delete": _delete_hook,
    "redeliver": _redeliver,
}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def contact_edit(request: HttpRequest, id: int) -> HttpResponse:
    """A contact's fields; `?field=` asks for one that it has not yet, `?campaign=` leads back there."""
    contact = get_object_or_404(access.everybody_for(request.user), pk=id)
    asked = [name for name in request.GET.getlist("field") if name and contact_columns.key_of(name) == name]
    form = ContactForm(contact, asked[:1], request.POST or None)
    back = request.GET.get("campaign", "")
    known = access.campaigns_for(request.user)
    campaign = known.filter(pk=int(back)).first() if re.fullmatch(r"[0-9]{1,9}", back) else None
    if form.is_valid():
        try:
            messages.success(request, actions.change_contact(contact, form.changed, now=clock.now()))
            return redirect("campaigns:detail", campaign.pk) if campaign else redirect("campaigns:contact", contact.pk)
        except actions.ActionRefusedError as refused:
            form.add_error(None, str(refused))
    found = {"form": form, "campaign": campaign, "basis": BasisForm(lists=_lists_of(request, contact))}
    return render(request, "campaigns/contact_form.html", found | _grounds(request, contact))


@login_required
@require_POST
def contact_consent(request: HttpRequest, id: int) -> HttpResponse:
    """Say on what grounds a contact is written to, with the evidence of it."""
    contact = get_object_or_404(access.everybody_for(request.user), pk=id)
    basis, now = BasisForm(request.POST, lists=_lists_of(request, contact)), clock.now()
    if basis.is_valid():
        said = basis.cleaned_data
        evidence = basis.evidence(by=request.user.get_username(), now=now)
        try:
            consent.enter(contact, said["basis"], evidence, now=now, into=said["list"])
        except consent.ConsentRefusedError as refused:
            basis.add_error(None, str(refused))
        else:
            messages.success(request, _("Recorded, with its evidence."))
            return redirect("campaigns:contact", contact.pk)
    found = {"form": ContactForm(contact, []), "campaign": None, "basis": basis}
    return render(request, "campaigns/contact_form.html", found | _grounds(request, contact))


@login_required
@require_POST
def contact_bar(request: HttpRequest, id: int) -> HttpResponse:
    """Never write to a contact again."""
    contact = get_object_or_404(access.everybody_for(request.user), pk=id)
    count = optout.bar(contact, by=request.user.get_username(), now=clock.now())
    words = ngettext("%(count)d waiting mail is cancelled.", "%(count)d waiting mails are cancelled.", count)
    messages.success(request, f"{_('They are not written to any more.')} {words % {'count': count}}")
    return redirect("campaigns:contact", contact.pk)


def _lists_of(request: HttpRequest, contact: Contact) -> QuerySet[ContactList]:
    return access.lists_for(request.user).filter(subscriptions__contact=contact).order_by("name")


def _grounds(request: HttpRequest, contact: Contact) -> dict[str, Any]:
    """On what grounds a contact is written to, and what keeps mails from them."""
    names = dict(access.lists_for(request.user).values_list("pk", "name"))
    why = {suppressions.PAUSE: _("They asked for a pause"), **dict(Suppression.Source.choices)}
    found = suppressions.of(contact.email)
    return {
        "contact": contact,
        "subscriptions": contact.subscriptions.select_related("list").order_by("list__name"),
        "evidence": access.evidence_for(request.user, contact)[:ROWS_PER_PAGE],
        "barred": [
            {"value": one.value, "why": why[one.source], "list": names.get(one.list_id, "") if one.list_id else ""}
            for one in found
        ],
        "writable": all(one.list_id or one.source == suppressions.PAUSE for one in found),
    }


@login_required
@require_GET
def import_detail(request: HttpRequest, id: int) -> HttpResponse:
    """What becomes of a file, and each row that was not taken. While a worker takes it, the page asks again."""
    found = get_object_or_404(access.intakes_for(request.user), pk=id)
    if request.headers.get("HX-Request") and not found.going:
        return HttpResponse(headers={"HX-Refresh": "true"})
    rejected = Paginator(access.rejected_rows_for(request.user, found), ROWS_PER_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "campaigns/import_detail.html",
        {
            "intake": found,
            "reasons": [
                {"code": code, "label": Verdict(code).label, "count": count}
                for code, count in intake.rejected_counts(found).items()
            ],
            "rejected": rejected,
            "download_url": reverse("campaigns:rejected", args=[found.pk]),
        },
    )


@login_required
@require_GET
def import_rejected(request: HttpRequest, id: int) -> HttpResponseBase:
    """The rejected rows of a file as CSV."""
    found = get_object_or_404(access.intakes_for(request.user), pk=id)
    name = f"{Path(found.file_name).stem}-rejected.csv"
    return StreamingHttpResponse(
        intake.rejected_csv(found),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": str(content_disposition_header(True, name))},
    )


def _previewed(request: HttpRequest, campaign: Campaign) -> tuple[Step | None, Contact | None, str]:
    """The step and the contact that the address names, or the first of each; and the variant, or none."""
    steps = campaign.steps.filter(position__isnull=False).select_related("campaign").prefetch_related("variants")
    position, address = request.GET.get("step", ""), request.GET.get("contact", "").replace("\0", "").strip()
    step = (steps.filter(position=int(position)) if re.fullmatch(r"[0-9]{1,4}", position) else steps).first()
    people = access.contacts_of(request.user, campaign).order_by("pk")
    variant = request.GET.get("variant", "")
    known = {text.letter for text in step.texts} if step else set()
    contact = (people.filter(email__iexact=address) if address else people).first()
    return step, contact, variant if variant in known else ""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Http404
    return int(text)


def _add_file(request: HttpRequest, step: Step) -> None:
    form = StepFileForm(request.POST, request.FILES)
    if not form.is_valid():
        messages.error(request, " ".join(str(error) for found in form.errors.values() for error in found))
        return
    upload, inline = form.cleaned_data["file"], form.cleaned_data["inline"]
    by, now = request.user.get_username(), clock.now()
    added = files.add(step, upload.name, files.read(upload), inline=inline, by=by, now=now)
    if inline:
        words = _("“%(name)s” is uploaded. Show it in the HTML with %(tag)s.")
        messages.success(request, words % {"name": added.name, "tag": f'<img src="cid:{added.name}" alt="">'})
    else:
        messages.success(request, _("“%(name)s” goes with each mail of the step.") % {"name": added.name})


def _people(request: HttpRequest) -> list[str]:
    """The addresses that a trial may go to, that of the visitor first."""
    own = request.user.get_username()
    return sorted(trials.people().values_list("email", flat=True), key=lambda email: (email != own, email))


def _trials(step: Step | None) -> dict[str, Any]:
    found = trials.of(step, TRIALS_SHOWN) if step else []
    moving = any(one.status in (TrialMail.Status.WAITING, TrialMail.Status.CLAIMED) for one in found)
    return {"step": step, "trials": found, "moving": moving}


def import_summary(found: Intake) -> dict[str, Any]:
    """An import as one line of a page; its list must be loaded with it."""
    return {
        "file_name": found.file_name,
        "list_name": found.list.name,
        "rows": found.rows,
        "accepted": found.accepted,
        "rejected": found.rejected,
        "failed": found.status == Intake.Status.FAILED,
        "going": found.going,
        "created_at": found.created_at,
        "url": reverse("campaigns:import", args=[found.pk]),
    }


def _planned_chart(made: forecast.Forecast) -> dict[str, str]:
    names = made.accounts
    counts = {f"account{number}": [day.accounts.get(name, 0) for day in made.days] for number, name in enumerate(names)}
    series = [
        {"key": f"account{number}", "label": name, "tone": ACCOUNT_TONES[number % len(ACCOUNT_TONES)]}
        for number, name in enumerate(names)
    ]
    return _chart({"labels": [day.day.isoformat() for day in made.days], **counts}, series)


def _compared_chart(came: forecast.Outcome) -> dict[str, str]:
    series = [
        {"key": "foreseen", "label": _("Foreseen"), "tone": "info-bar"},
        {"key": "sent", "label": pgettext("messages", "Sent"), "tone": "accent-bar"},
    ]
    data = {
        "labels": [day.day.isoformat() for day in came.days],
        "foreseen": [day.foreseen for day in came.days],
        "sent": [day.sent for day in came.days],
    }
    return _chart(data, series)


def _chart(data: dict[str, Any], series: list[dict[str, str]]) -> dict[str, str]:
    return {"data": json.dumps(data), "series": json.dumps(series)}


def _lateness(days: int) -> str:
    if not days:
        return _("as foreseen")
    if days > 0:
        return ngettext("%(days)d day later", "%(days)d days later", days) % {"days": days}
    return ngettext("%(days)d day earlier", "%(days)d days earlier", -days) % {"days": -days}


def _live(request: HttpRequest, id: int) -> dict[str, Any]:
    campaign = get_object_or_404(access.campaigns_for(request.user), pk=id)
    return {
        "campaign": summaries.of(campaign),
        "report": progress(campaign, now=clock.now()),
        "actions": list(_buttons(campaign)),
    }


def _doubts(request: HttpRequest, id: int) -> dict[str, Any]:
    """The mails in doubt of a campaign, the first of them by name."""
    found = access.messages_for(request.user).filter(campaign=id, status=Message.Status.UNKNOWN).order_by("pk")
    shown = list(found[:DOUBTS_SHOWN])
    following = doubt.what_next(shown, now=clock.now()) if shown else []
    return {
        "count": found.count() if len(shown) == DOUBTS_SHOWN else len(shown),
        "mails": [{"message": message, "next": one.words} for message, one in zip(shown, following, strict=True)],
        "actions": [
            {"action": one, "url": reverse("campaigns:doubts", args=[id, one.name])} for one in actions.DOUBTS.values()
        ],
    }


def _buttons(campaign: Campaign) -> Iterable[dict[str, Any]]:
    for action in actions.offered(campaign):
        yield {
            "name": action.name,
            "label": action.label,
            "style": action.style,
            "confirm": action.confirm,
            "url": reverse("campaigns:act", args=[campaign.pk, action.name]),
        }


def _more(request: HttpRequest) -> int:
    """How many empty steps a page without scripts asks for."""
    wanted = request.GET.get("more", "")
    return min(changes.MOST_STEPS, int(wanted)) if wanted.isascii() and wanted.isdigit() else 0


def _draft(form: CampaignForm, first: VariantFields, follow_ups: Any) -> Campaign:
    """The draft with all its steps, or nothing."""
    with transaction.atomic():
        campaign = form.save()
        further = follow_ups.wanted if follow_ups.is_bound else []
        tried = first.wanted_variants(())
        if further or tried["variants"]:
            (one,) = changes.steps_of(campaign)
            changes.change(campaign, [replace(one, **tried), *further], now=clock.now())
    return campaign


def _erased(receipt: Erasure) -> str:
    if receipt.done_at is None:
        return _("Nothing more is sent to this person. A mail to them is on its way: the rest is erased after it.")
    if not receipt.counts:
        return _("Nothing was known of this person. From now on they are refused.")
    return _("The person is erased. The receipt is below.")


def _taken(done: Intake) -> str:
    if done.rejected:
        text = _(
            "%(accepted)d of %(rows)d rows were taken into “%(list)s”; the others are below, each with its reason."
        )
    else:
        text = _("All %(rows)d rows were taken into “%(list)s”.")
    return text % {"accepted": done.accepted, "rows": done.rows, "list": done.list}
