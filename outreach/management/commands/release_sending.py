from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Max

from analytics import operation
from campaigns.models import Message
from tenants import context, restored
from tenants.clock import database_now


class Command(BaseCommand):
    """Let a database send again that was put back from a backup; without `--yes`, say what would go."""

    help = "Let a database that was put back from a backup send again. Without --yes, only tell what would go then."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="let it send")
        parser.add_argument("--by", default="manage.py", help="who says so")

    def handle(self, **options: Any) -> None:
        now = database_now()
        with context.public():
            if not restored.frozen():
                self.stdout.write("This database may send: it was not put back from a backup since it was let send.")
                return
            for queue in operation.queues(now=now):
                with context.entered(queue.agency):
                    last = Message.objects.aggregate(last=Max("sent_at"))["last"]
                known = f"the last known to have left went at {last:%Y-%m-%d %H:%M:%S} UTC" if last else "none has left"
                self.stdout.write(
                    f"{queue.agency.slug}: {queue.due} mails are due, {queue.in_doubt} in doubt; {known}."
                )
            if not options["yes"]:
                self.stdout.write(
                    "What left after that is not known here and would be sent again. Cancel the campaigns in which "
                    "that must not be, then call this again with --yes (docs/restore.md)."
                )
                return
            restored.release(by=options["by"], now=now)
        self.stdout.write("It may send.")
