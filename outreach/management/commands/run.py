import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from outreach import checks
from outreach.cluster import Machine
from providers.accounts import mailboxes
from tenants import provisioning, restored


class Command(BaseCommand):
    """Web, workers and, where mail comes back to us, its server, for one machine, until SIGTERM or Ctrl-C."""

    help = "Bring the database up to date, then run the web server and the workers of this machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--bind", default="127.0.0.1", help="behind a reverse proxy leave it as it is")
        parser.add_argument("--clusters", type=int, default=2, help="of workers; two, so that one may freeze")
        parser.add_argument("--workers", type=int, default=1, help="processes of each cluster")
        parser.add_argument("--no-web", action="store_true", help="for a host with workers alone; takes no mail either")

    def handle(self, **options: Any) -> None:
        checks.refuse()
        try:
            checks.probe_sessions()
            provisioning.migrate_all()
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        if restored.frozen():
            self._say("The database was put back from a backup: nothing is sent until `manage.py release_sending`.")
        ended: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, _frame: ended.append(signum))
        port = None if options["no_web"] else options["port"]
        inbound = port is not None and (bool(settings.INBOUND_DOMAINS) or mailboxes.any_in_use())
        machine = Machine(port, options["clusters"], options["workers"], options["bind"], self._say, inbound=inbound)
        with machine:
            if port is not None:
                self._say(f"Serving {settings.PUBLIC_SCHEME}://{settings.PUBLIC_HOST} on {options['bind']}:{port}.")
            machine.watch(done=lambda: bool(ended))
            self._say("Stopping; running jobs may take up to a minute to finish.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
