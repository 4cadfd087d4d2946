from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class OutreachConfig(AppConfig):
    name = "outreach"

    def ready(self) -> None:
        from outreach import checks, heartbeat, marks

        checks.register_all()
        heartbeat.listen()
        marks.listen()
        # Django's own admin app would do this for its one site; we have two.
        autodiscover_modules("admin")
