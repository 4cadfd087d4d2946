"""The portal's inbox: replies to the agency's campaigns, read, sorted and answered by its people."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import access, actions, answers, conversations, originals, replies
from campaigns.conversations import NOBODY_YET, State, Wanted
from campaigns.models import Reply, ReplyLabel, TrialMail
from providers.accounts import inbox as mails
from tenants import clock

PER_PAGE = 30
MORNING = 9
# Nothing runs, nothing is sent, and pictures come only where they were asked for; links open elsewhere, at a click.
ORIGINAL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:{pictures}; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)
# Of no use to a page that would show it.
ATTACHMENT_POLICY = "default-src 'none'; sandbox"


@login_required
@require_GET
def inbox(request: HttpRequest) -> HttpResponse:
    """The conversations that are asked for, the newest first."""
    return render(request, "campaigns/inbox.html", _list(request))


@login_required
@require_GET
def thread(request: HttpRequest, id: int) -> HttpResponse:
    """One conversation beside the list; whoever opens it has read it."""
    reply = _reply(request, id)
    conversations.read(reply, now=clock.now())
    return render(request, "campaigns/inbox.html", {**_list(request), **_thread(request, reply)})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request: HttpRequest, id: int) -> HttpResponse:
    """Answer a reply; where that is refused what was written stays in the form."""
    reply = _reply(request, id)
    if request.method != "POST":
        return redirect(_url(request, reply))
    text = request.POST.get("text", "")
    try:
        once = UUID(request.POST.get("once", ""))
    except ValueError:
        raise Http404 from None
    try:
        actions.answer(reply, text, by=request.user.get_username(), once=once, now=clock.now())
    except actions.ActionRefusedError as refused:
        found = {**_list(request), **_thread(request, reply), "draft": text, "once": once, "problems": refused.problems}
        return render(request, "campaigns/inbox.html", found)
    if request.POST.get("then") == "done":
        conversations.finish(reply, now=clock.now())
        messages.success(request, _("Your answer is on its way, and the conversation is done."))
        return redirect(_back(request))
    messages.success(request, _("Your answer is on its way."))
    return redirect(_url(request, reply))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def take_back(request: HttpRequest, id: int, number: int) -> HttpResponse:
    """An answer that waits is not sent; what was written is in the form again."""
    reply = _reply(request, id)
    if request.method != "POST":
        return redirect(_url(request, reply))
    try:
        withdrawn = actions.take_back(reply, number)
    except TrialMail.DoesNotExist:
        raise Http404 from None
    except actions.ActionRefusedError as refused:
        messages.error(request, str(refused))
        return redirect(_url(request, reply))
    messages.success(request, _("Taken back: it is not sent."))
    return render(
        request, "campaigns/inbox.html", {**_list(request), **_thread(request, reply), "draft": withdrawn.text}
    )


@login_required
@require_POST
def act(request: HttpRequest, id: int, action: str) -> HttpResponse:
    """Label, assign, snooze, finish or reopen."""
    if action not in ACTS:
        raise Http404
    reply = _reply(request, id)
    stays, said = ACTS[action](request, reply)
    if said:
        messages.success(request, said)
    return redirect(_url(request, reply) if stays else _back(request))


@login_required
@require_GET
def original(request: HttpRequest, id: int) -> HttpResponse:
    """The part of a conversation that shows a reply as it came."""
    reply = _reply(request, id)
    pictures = request.GET.get("pictures") == "1"
    found = {"reply": reply, "original": originals.of(reply), "pictures": pictures}
    return render(request, "campaigns/_original.html", found)


@login_required
@require_GET
@xframe_options_sameorigin
def original_html(request: HttpRequest, id: int) -> HttpResponse:
    """The HTML of a reply for its frame, made harmless; with pictures from elsewhere for `?pictures=1` alone."""
    pictures = request.GET.get("pictures") == "1"
    found = originals.of(_reply(request, id), pictures=pictures)
    if found is None or not found.html:
        raise Http404
    response = HttpResponse(found.html)
    response.headers["Content-Security-Policy"] = ORIGINAL_POLICY.format(pictures=" https: http:" if pictures else "")
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@login_required
@require_GET
def attachment(request: HttpRequest, id: int, number: int) -> HttpResponse:
    """An attachment of a reply, as a download and nothing else."""
    found = originals.attachment(_reply(request, id), number)
    if found is None:
        raise Http404
    one, data = found
    return HttpResponse(
        data,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": str(content_disposition_header(True, one.name)),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": ATTACHMENT_POLICY,
        },
    )


def _reply(request: HttpRequest, id: int) -> Reply:
    return get_object_or_404(access.replies_for(request.user), pk=id)


# --- what people do


def _label(request: HttpRequest, reply: Reply) -> tuple[bool, str]:
    label = request.POST.get("label", "")
    if label not in ReplyLabel:
        raise Http404
    replies.decide(reply, label, by=request.user.get_username(), clock=clock.now)
    if label == ReplyLabel.OPT_OUT:
        return True, _("Nothing is sent to this person any more.")
    return True, _("The label is “%(label)s”.") % {"label": ReplyLabel(label).label}


def _assign(request: HttpRequest, reply: Reply) -> tuple[bool, str]:
    wanted = request.POST.get("to", "")
    to = get_object_or_404(conversations.people(), pk=int(wanted)) if wanted.isascii() and wanted.isdigit() else None
    conversations.assign(reply, to)
    return True, _("%(who)s sees to it.") % {"who": to} if to else _("Nobody in particular sees to it.")


def _snooze(request: HttpRequest, reply: Reply) -> tuple[bool, str]:
    until = _time(request.POST.get("until", ""))
    try:
        if until is None:
            raise conversations.NotSnoozedError(_("Choose a time to come."))
        conversations.snooze(reply, until, now=clock.now())
    except conversations.NotSnoozedError as refused:
        messages.error(request, str(refused))
        return True, ""
    return False, _("It comes back by itself.")


def _done(request: HttpRequest, reply: Reply) -> tuple[bool, str]:
    conversations.finish(reply, now=clock.now())
    return False, _("Done, until they write again.")


def _reopen(request: HttpRequest, reply: Reply) -> tuple[bool, str]:
    conversations.reopen(reply)
    return True, _("It is in the inbox again.")


# Each does its step and says whether to stay with the conversation, and what was done.
ACTS: dict[str, Callable[[HttpRequest, Reply], tuple[bool, str]]] = {
    "label": _label,
    "assign": _assign,
    "snooze": _snooze,
    "done": _done,
    "reopen": _reopen,
}


def _time(text: str) -> datetime | None:
    """A time of a form, in the agency's zone unless it names one."""
    try:
        found = parse_datetime(text)
        return timezone.make_aware(found) if found and timezone.is_naive(found) else found
    except (ValueError, OverflowError):
        return None


def _mornings(now: datetime) -> list[tuple[str, datetime]]:
    """Times to snooze until, in words."""
    today = timezone.localtime(now).replace(hour=MORNING, minute=0, second=0, microsecond=0, tzinfo=None)
    days = [
        (_("Tomorrow morning"), 1),
        (_("In three days"), 3),
        (_("Next Monday"), 7 - today.weekday()),
        (_("In two weeks"), 14),
        (_("In a month"), 30),
    ]
    return [(words, timezone.make_aware(today + timedelta(days=count))) for words, count in days]


# --- what is shown


def _wanted(request: HttpRequest) -> dict[str, str]:
    """What the address asks for, as far as it is known."""
    given = {name: request.GET.get(name, "").strip()[:200] for name in ("state", "label", "campaign", "assigned", "q")}
    known: Mapping[str, bool] = {
        "state": given["state"] in State and given["state"] != State.OPEN,
        "label": given["label"] in ReplyLabel,
        "campaign": given["campaign"].isascii() and given["campaign"].isdigit() and len(given["campaign"]) < 19,
        "assigned": given["assigned"] in ("me", NOBODY_YET),
        "q": "\0" not in given["q"],
    }
    return {name: value for name, value in given.items() if value and known[name]}


def _url(request: HttpRequest, reply: Reply) -> str:
    return _with(reverse("campaigns:thread", args=[reply.pk]), _wanted(request))


def _back(request: HttpRequest) -> str:
    return _with(reverse("campaigns:inbox"), _wanted(request))


def _with(url: str, asked: Mapping[str, str]) -> str:
    return f"{url}?{urlencode(asked)}" if asked else url


def _list(request: HttpRequest) -> dict[str, Any]:
    asked, now = _wanted(request), clock.now()
    wanted = Wanted(
        state=asked.get("state", State.OPEN),
        label=asked.get("label", ""),
        campaign=int(asked["campaign"]) if "campaign" in asked else None,
        assigned=request.user.get_username() if asked.get("assigned") == "me" else asked.get("assigned", ""),
        search=asked.get("q", ""),
    )
    below = request.GET.get("before", "")
    before = int(below) if below.isascii() and below.isdigit() and len(below) < 19 else None
    rows = conversations.found(access.replies_for(request.user), wanted, now=now)
    shown, following = conversations.page(rows, before=before, limit=PER_PAGE)
    here = reverse("campaigns:inbox")
    return {
        "rows": shown,
        "asked": asked,
        "query": urlencode(asked),
        "more": _with(here, {**asked, "before": str(following)}) if following else "",
        "first": _with(here, asked) if before is not None else "",
        "states": [(state, state.label, _with(here, _asked_with(asked, "state", state))) for state in State],
        "state": wanted.state,
        "labels": ReplyLabel.choices,
        "campaigns": access.campaigns_for(request.user).exclude(launched_at=None).order_by("-pk")[:100],
        "filtered": any(name in asked for name in ("label", "campaign", "assigned", "q")),
    }


def _asked_with(asked: Mapping[str, str], name: str, value: str) -> dict[str, str]:
    return {**{key: one for key, one in asked.items() if key != name}, **({name: value} if value != State.OPEN else {})}


def _thread(request: HttpRequest, reply: Reply) -> dict[str, Any]:
    may_lift = request.user.is_staff and request.user.has_perm("campaigns.delete_suppression")
    now = clock.now()
    found = conversations.of(reply)
    standing = found.standing
    signature = standing.message.sender.signature if standing.message.sender else ""
    return {
        "reply": reply,
        "standing": standing,
        "entries": found.entries,
        "kept": mails.kept_of(one.reply.digest for one in found.entries if one.reply),
        "moving": (TrialMail.Status.WAITING, TrialMail.Status.CLAIMED),
        "people": conversations.people(),
        "mornings": _mornings(now),
        "snoozed": standing.snoozed_until and standing.snoozed_until > now,
        "why_not": answers.why_not(standing, now=now),
        "lifted": [one.id for one in answers.bars(standing) if one.id] if may_lift else [],
        "once": uuid4(),
        "draft": f"\n\n{signature}" if signature else "",
    }
