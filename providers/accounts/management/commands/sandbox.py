import json
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.sandbox import HOST, RESEND_KEY, SENDGRID_KEY, SMTP_PASSWORD, SMTP_USERNAME, faults, posting
from providers.sandbox.service import Sandbox


class Command(BaseCommand):
    """Serve the sandbox until SIGTERM or Ctrl-C. With --json-ready one JSON line says where, once it does."""

    help = "Serve a mail server and the interfaces of Resend and SendGrid on loopback, with scripted faults."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=HOST, help=f"only {HOST} is allowed")
        parser.add_argument("--http-port", type=int, default=0, help="0, the default, takes a free one")
        parser.add_argument("--smtp-port", type=int, default=0, help="0, the default, takes a free one")
        parser.add_argument(
            "--fault",
            action="append",
            default=[],
            metavar="PROVIDER=FAULT[:VALUE]",
            help=f"{' | '.join(faults.PROVIDERS)} = {' | '.join(faults.KINDS)}; may be given several times",
        )
        parser.add_argument("--json-ready", action="store_true", help="print one JSON line with addresses and keys")

    def handle(self, **options: Any) -> None:
        # Blocked before the thread starts, which inherits it, so that sigwait below gets the signal.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            self._serve(options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _serve(self, options: dict[str, Any]) -> None:
        try:
            sandbox = Sandbox(
                faults=[faults.parse(text) for text in options["fault"]],
                host=options["host"],
                http_port=options["http_port"],
                smtp_port=options["smtp_port"],
            ).start()
        except (ValueError, OSError, OverflowError) as error:
            raise CommandError(str(error)) from error
        try:
            self._announce(sandbox, as_json=options["json_ready"])
            signal.sigwait({signal.SIGTERM, signal.SIGINT})
        finally:
            sandbox.stop()

    def _announce(self, sandbox: Sandbox, *, as_json: bool) -> None:
        credentials = {
            "resend": {"api_key": RESEND_KEY},
            "sendgrid": {"api_key": SENDGRID_KEY},
            "smtp": {"username": SMTP_USERNAME, "password": SMTP_PASSWORD},
        }
        if as_json:
            self.stdout.write(
                json.dumps(
                    {
                        "ports": sandbox.ports,
                        "urls": sandbox.urls,
                        "credentials": credentials,
                        "webhook_secrets": posting.SECRETS,
                    }
                ),
                ending="\n",
            )
            self.stdout.flush()
            return
        for name, url in sandbox.urls.items():
            keys = ", ".join(f"{key} {value}" for key, value in credentials.get(name, {}).items())
            self.stdout.write(f"{name:9} {url}  {keys}")
        for name, secret in posting.SECRETS.items():
            self.stdout.write(f"{name:9} webhook secret {secret}")
        self.stdout.flush()
