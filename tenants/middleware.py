"""Host name to agency, and agency to language."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django_tenants.middleware.main import TenantMainMiddleware

from tenants import context
from tenants.models import Agency, host_name


class AgencyMiddleware(TenantMainMiddleware):  # type: ignore[misc]
    """Enters the agency of the request's host.

    An unknown host is a 404, and so is an agency that is not ready or is switched off.
    """

    @staticmethod
    def hostname_from_request(request: HttpRequest) -> str:
        return host_name(request.get_host().partition(":")[0])

    def get_tenant(self, domain_model: Any, hostname: str) -> Agency:
        domain = domain_model.objects.select_related("tenant").get(domain=hostname)
        if domain.tracks:
            raise Http404("Nothing but pixels and links in mails answers here.")
        agency: Agency = domain.tenant
        if agency.schema_name != "public" and not (agency.ready and agency.active):
            raise Http404("This agency is not ready.")
        return agency

    def no_tenant_found(self, request: HttpRequest, hostname: str) -> Any:
        # Urls of the public site do not exist here either: a stranger's host learns nothing.
        request.urlconf = "outreach.urls_nowhere"
        raise Http404("No agency has this host name.")


class LanguageMiddleware(LocaleMiddleware):
    """Speaks the language that the visitor chose, else their agency's, else the one that their browser asks for."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        chosen = request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME)
        if context.in_agency() and chosen not in dict(settings.LANGUAGES):
            translation.activate(context.current_agency().language)
            request.LANGUAGE_CODE = translation.get_language()
