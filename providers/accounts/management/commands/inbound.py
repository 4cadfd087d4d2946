import asyncio
import json
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from providers.accounts import mailboxes
from providers.accounts.polling import Watch
from providers.accounts.receiving import Receiver, serve
from tenants.clock import database_now

IDLE = (
    "INBOUND_DOMAINS is empty, and no mailbox is in use: waiting for a mailbox to be added on the operator's site. "
    "To take mail by SMTP, name the domains of your bounce and reply addresses in .env and start this again."
)


class Command(BaseCommand):
    """Take mail that comes back, by SMTP and out of mailboxes, until SIGTERM or Ctrl-C.

    With nothing to take it waits for a mailbox to be added. With --json-ready one JSON line says where it listens, once
    it does.
    """

    help = "Run the mail server for bounces, complaints and replies, and read mailboxes; workers handle what it stores."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.INBOUND_HOST)
        parser.add_argument("--port", type=int, default=settings.INBOUND_PORT, help="0 takes a free one")
        parser.add_argument("--lmtp", action="store_true", help="speak LMTP, behind a mail server of yours")
        parser.add_argument("--json-ready", action="store_true")

    def handle(self, **options: Any) -> None:
        if not 0 <= options["port"] < 1 << 16:
            raise CommandError("--port is a number from 0 to 65535.")
        try:
            asyncio.run(self._serve(options, in_use=mailboxes.any_in_use()))
        except OSError as error:
            raise CommandError(f"{options['host']}:{options['port']}: {error.strerror or error}") from error

    async def _serve(self, options: dict[str, Any], *, in_use: bool) -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        watch = Watch(database_now)
        watch.start()
        try:
            if settings.INBOUND_DOMAINS:
                await self._receive(options, ended)
            else:
                # Who keeps this running would start it again and again if it ended where its last mailbox is gone.
                self._say("Reading mailboxes." if in_use else IDLE, {}, options)
                await ended.wait()
        finally:
            watch.stop()

    async def _receive(self, options: dict[str, Any], ended: asyncio.Event) -> None:
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
        self._say(f"Taking mail on {host}:{port}.", {"host": host, "port": port}, options)
        async with server:
            await ended.wait()
        receiver.close()

    def _say(self, text: str, ready: dict[str, Any], options: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(ready) if options["json_ready"] else text)
        self.stdout.flush()
