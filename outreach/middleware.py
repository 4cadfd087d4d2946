"""What every page has: a policy that lets it load nothing but our own files, and the times of its agency."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from tenants import context

PORTAL = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Unfold's admin runs on Alpine, which evaluates expressions and sets styles.
ADMIN = PORTAL + "; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send a strict policy with every page; the admin alone may evaluate scripts."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        policy = ADMIN if request.path.startswith("/admin/") else PORTAL
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware


def agency_time(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Show times in the zone of the agency that the request has entered; on the operator's site they stay UTC."""

    def middleware(request: HttpRequest) -> HttpResponse:
        zone = context.current_agency().zone if context.in_agency() else None
        with timezone.override(zone):
            return get_response(request)

    return middleware
