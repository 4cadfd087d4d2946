"""What readers of the mails see: no sign-in, no cookie, nothing but what their own mail lets them do."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.utils.cache import add_never_cache_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from campaigns import feedback, jobs, optout, signups
from campaigns.models import Contact, ContactList, Message
from tenants import clock, context

# Days, as the page's buttons post them.
PAUSES = ("30", "90")
LANGUAGE_COLUMNS = ("language", "lang", "locale")


def _private(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Neither kept by a cache nor found by a search engine, and its address is told to nobody."""

    @wraps(view)
    def guarded(request: HttpRequest, token: str) -> HttpResponse:
        response = view(request, token)
        add_never_cache_headers(response)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Robots-Tag"] = "noindex"
        return response

    return guarded


# What a mail program posts has no cookie and no token of ours but the one in the address (RFC 8058 section 3.1).
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_private
def opt_out(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind a mail's link, and its one click. Only a POST that says List-Unsubscribe=One-Click acts.

    `scope` is what a button of the page asks for; a mail program's click has none and means everything.
    """
    message = optout.message_of(token)
    if message is None:
        with translation.override(_language(request, None)):
            return render(request, "campaigns/opt_out_unknown.html", status=404)
    with translation.override(_language(request, message.contact)):
        if request.method != "POST":
            return _page(request, message)
        if request.POST.get("List-Unsubscribe") != "One-Click":
            return _page(request, message, status=400)
        if not _act(request, message):
            return _page(request, message, status=400)
        return _page(request, message, done=request.POST.get("scope", ""))


def _act(request: HttpRequest, message: Message) -> bool:
    """Do what the page or a mail program asks for; False where it asks for nothing that there is."""
    remote_ip = _remote_ip(request)
    match request.POST.get("scope"):
        case None:
            feedback.opted_out(message, how=optout.ONE_CLICK, clock=clock.now, remote_ip=remote_ip)
        case "everything":
            feedback.opted_out(message, how=optout.PAGE, clock=clock.now, remote_ip=remote_ip)
        case "list":
            own = [message.campaign.list_id]
            feedback.opted_out(message, lists=own, how=optout.PAGE, clock=clock.now, remote_ip=remote_ip)
        case "lists":
            kept = set(request.POST.getlist("keep"))
            on = optout.standing(message, now=clock.now()).lists
            left = [one.pk for one in on if str(one.pk) not in kept]
            feedback.opted_out(message, lists=left, how=optout.PAGE, clock=clock.now, remote_ip=remote_ip)
        case "pause" if request.POST.get("days") in PAUSES:
            days = int(request.POST["days"])
            feedback.paused(message, days=days, clock=clock.now, remote_ip=remote_ip)
        case "resume":
            feedback.paused(message, days=0, clock=clock.now)
        case _:
            return False
    return True


def _page(request: HttpRequest, message: Message, status: int = 200, done: str = "") -> HttpResponse:
    found = {
        "done": done,
        "pauses": PAUSES,
        "agency": context.current_agency().name,
        "address": _masked(message.contact.email),
        "standing": optout.standing(message, now=clock.now()),
    }
    return render(request, "campaigns/opt_out.html", found, status=status)


def _language(request: HttpRequest, contact: Contact | None) -> str:
    """The contact's where their file named it, else their browser's, else the agency's."""
    known = dict(settings.LANGUAGES)
    attributes = contact.attributes if contact and isinstance(contact.attributes, dict) else {}
    for column in LANGUAGE_COLUMNS:
        found = str(attributes.get(column, "")).strip().lower()[:2]
        if found in known:
            return found
    if request.headers.get("accept-language"):
        return translation.get_language_from_request(request)
    return context.current_agency().language


def _masked(email: str) -> str:
    """A mail may have been passed on: its link says no more than whose it is."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def _remote_ip(request: HttpRequest) -> str | None:
    if settings.SECURE_PROXY_SSL_HEADER:
        # The last one is what our own proxy saw; those before it are what it was told.
        return request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or None
    return request.META.get("REMOTE_ADDR") or None


# A form on an agency's own site has no cookie of ours; what is posted is harmless until the owner of the address acts.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_private
def sign_up(request: HttpRequest, token: str) -> HttpResponse:
    """The public page of a list; 410 while it is closed. `website` is a field that people do not see: whoever fills it
    in is a program, and told the same as everybody."""
    into = signups.list_of(token)
    wanted = request.POST.get("lang", request.GET.get("lang", ""))
    language = wanted if wanted in dict(settings.LANGUAGES) else _language(request, None)
    with translation.override(language):
        if into is None:
            return render(request, "campaigns/sign_up_unknown.html", status=404)
        if not into.sign_up_open:
            return _sign_up_closed(request, into)
        agency = context.current_agency().name
        promise = signups.promise(into, agency)
        found: dict[str, Any] = {"agency": agency, "list": into, "promise": promise, "language": language}
        if request.method != "POST":
            return render(request, "campaigns/sign_up.html", found)
        if request.POST.get("website"):
            return render(request, "campaigns/sign_up.html", found | {"done": True})
        written = request.POST.get("email", "")[:300]
        visit = _visit(request, promise, request.headers.get("origin", ""))
        try:
            asked = signups.ask(into, written, visit, language=language, now=clock.now())
        except signups.SignUpClosedError:
            return _sign_up_closed(request, into)
        except signups.SignUpRefusedError as refused:
            found |= {"problem": str(refused), "written": written}
            return render(request, "campaigns/sign_up.html", found, status=400)
        if asked:
            jobs.ring_for_trials()
        return render(request, "campaigns/sign_up.html", found | {"done": True})


def _sign_up_closed(request: HttpRequest, into: ContactList) -> HttpResponse:
    found = {"agency": context.current_agency().name, "list": into}
    return render(request, "campaigns/sign_up_closed.html", found, status=410)


# Nobody but the owner of the address has the token.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@_private
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind the link of a confirmation mail: programs open links, so only its button acts."""
    now = clock.now()
    standing, row = signups.standing(token, now=now)
    with translation.override(row.language if row else _language(request, None)):
        agency = context.current_agency().name
        if row and request.method == "POST":
            text = signups.promise(row.list, agency)
            standing, row = signups.confirm(token, _visit(request, text), now=now)
        found: dict[str, Any] = {"agency": agency, "standing": standing.name.lower(), "sign_up": row}
        if row:
            found |= {
                "address": _masked(row.email),
                "promise": signups.promise(row.list, agency),
                "barred": standing is signups.Standing.DONE and signups.barred(row),
            }
        status = {signups.Standing.FORGED: 404, signups.Standing.EXPIRED: 410}.get(standing, 200)
        return render(request, "campaigns/confirm.html", found, status=status)


def _visit(request: HttpRequest, text: str, detail: str = "") -> signups.Visit:
    agent = request.headers.get("user-agent", "")
    # PostgreSQL keeps no NUL.
    return signups.Visit(text, detail.replace("\0", ""), _remote_ip(request), agent.replace("\0", ""))
