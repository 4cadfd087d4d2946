from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class OutreachConfig(AppConfig):
    name = "outreach"
    verbose_name = _("Workers")

    def ready(self) -> None:
        from outreach import checks, heartbeat, marks

        checks.register_all()
        heartbeat.listen()
        marks.listen()
        # Django's own admin app would do this for its one site; we have two.
        autodiscover_modules("admin")
