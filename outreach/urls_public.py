"""The operator's site, on the public host."""

from django.urls import include, path
from django.views.generic import RedirectView

from providers.accounts import webhooks
from tenants import sites

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("webhooks/<uuid:key>/", webhooks.receive, name="webhook"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", sites.operator.urls),
]
