"""What a page may load: nothing but our own files."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

PORTAL = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Unfold's admin runs on Alpine, which evaluates expressions and sets styles.
ADMIN = PORTAL + "; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"


def content_security_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Send a strict policy with every page; the admin alone may evaluate scripts."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        policy = ADMIN if request.path.startswith("/admin/") else PORTAL
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware
