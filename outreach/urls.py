"""An agency's site, on the agency's host."""

from django.urls import include, path

from tenants import sites

urlpatterns = [
    path("", include("analytics.urls")),
    path("", include("campaigns.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("api/v1/", include("outreach.urls_api")),
    path("admin/", sites.agency.urls),
]
