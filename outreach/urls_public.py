"""The operator's site, on the public host."""

from django.urls import include, path
from django.views.generic import RedirectView

from outreach import pauses
from providers.accounts import webhooks
from tenants import sites

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("webhooks/<uuid:key>/", webhooks.receive, name="webhook"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/pauses/", sites.operator.admin_view(pauses.listed), name="pauses"),
    path(
        "admin/pauses/<int:agency>/<slug:kind>/<int:id>/release/",
        sites.operator.admin_view(pauses.release),
        name="release",
    ),
    path("admin/", sites.operator.urls),
]
