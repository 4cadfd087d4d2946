import asyncio
import json
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from providers.accounts.receiving import Receiver, serve


class Command(BaseCommand):
    """Take mail that comes back, until SIGTERM or Ctrl-C. With --json-ready one JSON line says where, once it does."""

    help = "Run the mail server for bounces, complaints and replies; workers handle what it stores."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.INBOUND_HOST)
        parser.add_argument("--port", type=int, default=settings.INBOUND_PORT, help="0 takes a free one")
        parser.add_argument("--lmtp", action="store_true", help="speak LMTP, behind a mail server of yours")
        parser.add_argument("--json-ready", action="store_true")

    def handle(self, **options: Any) -> None:
        if not settings.INBOUND_DOMAINS:
            raise CommandError("INBOUND_DOMAINS is empty: name the domains of your bounce and reply addresses in .env.")
        if not 0 <= options["port"] < 1 << 16:
            raise CommandError("--port is a number from 0 to 65535.")
        try:
            asyncio.run(self._serve(options))
        except OSError as error:
            raise CommandError(f"{options['host']}:{options['port']}: {error.strerror or error}") from error

    async def _serve(self, options: dict[str, Any]) -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        receiver = Receiver(settings.INBOUND_DOMAINS, one_recipient=options["lmtp"])
        server = await serve(
            receiver,
            host=options["host"],
            port=options["port"],
            hostname=settings.INBOUND_DOMAINS[0],
            most_bytes=settings.INBOUND_MAX_BYTES,
            lmtp=options["lmtp"],
        )
        host, port = server.sockets[0].getsockname()[:2]
        ready = json.dumps({"host": host, "port": port}) if options["json_ready"] else f"Taking mail on {host}:{port}."
        self.stdout.write(ready)
        self.stdout.flush()
        async with server:
            await ended.wait()
        receiver.close()
