"""What readers of the mails see: no sign-in, no cookie, nothing but what their own mail lets them do."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone, translation
from django.utils.cache import add_never_cache_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from campaigns import feedback, optout
from campaigns.models import Contact, Message
from tenants import context

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
            feedback.opted_out(message, how=optout.ONE_CLICK, clock=timezone.now, remote_ip=remote_ip)
        case "everything":
            feedback.opted_out(message, how=optout.PAGE, clock=timezone.now, remote_ip=remote_ip)
        case "list":
            own = [message.campaign.list_id]
            feedback.opted_out(message, lists=own, how=optout.PAGE, clock=timezone.now, remote_ip=remote_ip)
        case "lists":
            kept = set(request.POST.getlist("keep"))
            on = optout.standing(message, now=timezone.now()).lists
            left = [one.pk for one in on if str(one.pk) not in kept]
            feedback.opted_out(message, lists=left, how=optout.PAGE, clock=timezone.now, remote_ip=remote_ip)
        case "pause" if request.POST.get("days") in PAUSES:
            days = int(request.POST["days"])
            feedback.paused(message, days=days, clock=timezone.now, remote_ip=remote_ip)
        case "resume":
            feedback.paused(message, days=0, clock=timezone.now)
        case _:
            return False
    return True


def _page(request: HttpRequest, message: Message, status: int = 200, done: str = "") -> HttpResponse:
    found = {
        "done": done,
        "pauses": PAUSES,
        "agency": context.current_agency().name,
        "address": _masked(message.contact.email),
        "standing": optout.standing(message, now=timezone.now()),
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
