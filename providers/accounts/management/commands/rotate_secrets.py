from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from providers.accounts.resealing import reseal
from providers.accounts.secrets import key_ids


class Command(BaseCommand):
    """Seal every secret with the first of SECRETS_KEYS; what is sealed with it already stays as it is."""

    help = "Save all secrets again with the first key of SECRETS_KEYS, so that the keys behind it may be taken out."

    def handle(self, **options: Any) -> None:
        rows = anew = 0
        try:
            for one in reseal():
                rows, anew = rows + one.rows, anew + one.anew
                if one.anew:
                    self.stdout.write(f"{one.schema}: {one.column}: {one.anew:,} of {one.rows:,} sealed anew")
        except ImproperlyConfigured as error:
            raise CommandError(f"{error} What was sealed anew until then stays so.") from error
        current, *others = key_ids()
        self.stdout.write(f"{anew:,} of {rows:,} secrets sealed anew; all are sealed with the key {current} now.")
        if others:
            self.stdout.write(
                f"Take {', '.join(others)} out of SECRETS_KEYS once every web and worker was started with {current} in "
                "front; backups made before need them still."
            )
