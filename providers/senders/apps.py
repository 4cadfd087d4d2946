from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SendersConfig(AppConfig):
    name = "providers.senders"
    label = "senders"
    verbose_name = _("Senders")
    default_auto_field = "django.db.models.BigAutoField"
