"""What gunicorn loads once, before it forks: its workers share the memory of all that is imported here."""

import gc
import importlib
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "outreach.settings")
_django = get_wsgi_application()

from django.conf import settings  # noqa: E402

from campaigns import tracking  # noqa: E402
from providers.accounts import webhooks  # noqa: E402

application = tracking.Front(webhooks.Front(_django))

for urls in (settings.ROOT_URLCONF, settings.PUBLIC_SCHEMA_URLCONF):
    importlib.import_module(urls)
# The collector would write to what is shared, and so copy it for each worker.
gc.freeze()
