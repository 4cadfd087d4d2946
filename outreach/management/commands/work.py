import gc
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from outreach import checks, cluster


class Command(BaseCommand):
    """One cluster of workers, until SIGTERM. `manage.py run` starts and watches these."""

    help = "Run one cluster of django-q2 workers. Started by `run`, which also watches it."

    def handle(self, **options: Any) -> None:
        if settings.ROLE != "worker":
            raise CommandError("Start workers with POLZA_ROLE=worker, or let `manage.py run` do it.")
        checks.refuse()
        cluster.die_with_parent()
        # What is loaded by now is shared by the processes that the cluster forks, as long as nobody writes to it; the
        # collector would.
        gc.freeze()
        call_command("qcluster")
