import json
import signal
import socket
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from campaigns import intake, launch, tables
from campaigns.models import Campaign
from campaigns.progress import Progress
from outreach import checks
from outreach.cluster import Machine
from outreach.demo import afterwards, far_end, play, scene
from outreach.demo.contacts import write_contacts
from tenants import context
from tenants.models import Agency

SAY_EVERY_SECONDS = 2.0


class Command(BaseCommand):
    """The whole way of a campaign into the sandbox; then the sites, to look around."""

    help = "Send a real campaign through real workers and real adapters into the sandbox, then serve the sites."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="end after the campaign instead of serving the sites")
        parser.add_argument("--json", action="store_true", help="end the output with one JSON line")
        parser.add_argument(
            "--fault",
            action="append",
            default=[],
            metavar="ACCOUNT=FAULT",
            help="resend|sendgrid|smtp = down|slow|throttle|lost_answers; may be given several times",
        )
        parser.add_argument("--contacts", type=Path, metavar="FILE", help="another contact file, CSV or XLSX")
        parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes")
        parser.add_argument("--overflow", choices=Campaign.Overflow.values, default="reroute")
        parser.add_argument("--port", type=int, default=settings.PORT)

    def handle(self, **options: Any) -> None:
        if options["workers"] < 1:
            raise CommandError("--workers: at least one.")
        if not options["once"]:
            _refuse_taken(options["port"])
        checks.refuse()
        self.console = Console(stderr=options["json"] and not sys.stdout.isatty())
        try:
            with far_end.running(options["fault"]) as sandbox:
                self._play(sandbox, options)
        except (far_end.NoSandboxError, scene.NotADemoError) as error:
            raise CommandError(str(error)) from error

    def _play(self, sandbox: far_end.FarEnd, options: dict[str, Any]) -> None:
        started = time.monotonic()
        self.console.print("Setting the scene: agencies Alpha and Beta, three accounts, 1,200 senders.")
        people = scene.set_up(sandbox)
        with context.public():
            alpha = Agency.objects.get(slug="alpha")
        contacts = options["contacts"] or _contact_file()
        try:
            taken = play.take_in(alpha, contacts, now=timezone.now())
        except OSError as error:
            raise CommandError(f"--contacts {contacts}: {error.strerror}.") from error
        except intake.IntakeRefused as refused:
            raise CommandError(f"{contacts.name} was refused, nothing was imported. {refused}") from refused
        self.console.print(
            f"{contacts.name}: {taken.rows:,} rows, {taken.accepted:,} accepted, {taken.rejected:,} rejected."
        )
        clusters = min(2, options["workers"])
        # Where nobody looks, only the sandbox's events need the web server.
        port = _free_port() if options["once"] else options["port"]
        machine = Machine(
            port,
            clusters,
            -(-options["workers"] // clusters),
            say=self.console.print,
            stop_seconds=20,
        )
        with machine:
            scene.listen(sandbox, port)
            try:
                campaign = play.begin(alpha, taken.list, options["overflow"])
            except launch.LaunchRefusedError as refused:
                raise CommandError("Not launched. " + " ".join(refused.problems)) from refused
            with _shown(self.console, taken.accepted) as show:

                def look(report: Progress) -> None:
                    show(report)
                    machine.look_after()

                play.watch(alpha, campaign, look)
            report = play.listen(alpha, campaign, sandbox)
            done = play.result(alpha, taken, report, sandbox, time.monotonic() - started)
            self._report(done, report)
            if options["json"]:
                self.stdout.write(json.dumps(asdict(done)))
                self.stdout.flush()
            if not options["once"]:
                self.console.print("People answer, some mails bounce, and Beta writes to an old list.")
                with context.public():
                    beta = Agency.objects.get(slug="beta")
                afterwards.play(alpha, beta, campaign)
                self._serve(machine, people, campaign, options["port"])

    def _report(self, done: play.Result, report: Progress) -> None:
        for table in tables.of(report):
            self.console.print(table)
        rejected = Table("rejected because", "rows")
        for verdict, count in done.rejected.items():
            rejected.add_row(verdict, f"{count:,}")
        self.console.print(rejected)
        self.console.print(
            f"The sandbox saw {done.distinct_recipients:,} recipients, {done.duplicates} duplicates, "
            f"at most {done.max_per_sender} mails from one sender. {done.seconds} s."
        )

    def _serve(self, machine: Machine, people: list[scene.Person], campaign: Campaign, port: int) -> None:
        ended: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, _frame: ended.append(signum))
        for person in people:
            host = f"{person.site}." if person.site else ""
            path = "/admin/" if not person.site else "/"
            url = f"http://{host}{settings.PUBLIC_HOST}:{port}{path}"
            self._say(f"{person.site.title() or 'Operator'}: {url}  sign in as {person.email}  {person.password}")
        self._say(f"The inbox: http://alpha.{settings.PUBLIC_HOST}:{port}/inbox/")
        self._say(f"The campaign: http://alpha.{settings.PUBLIC_HOST}:{port}/campaigns/{campaign.pk}/")
        self._say("Ctrl-C ends everything.")
        machine.watch(done=lambda: bool(ended))
        self._say("Stopping.")

    def _say(self, line: str) -> None:
        # Never wrapped or cut: addresses and passwords are for copying.
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


def _contact_file() -> Path:
    path = Path(settings.VAR) / "demo" / "contacts.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_contacts(path)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(f"Port {port} is taken ({error.strerror}): give another one with --port.") from error


@contextmanager
def _shown(console: Console, total: int) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line every two seconds elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("Sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=console) as bar:
            task = bar.add_task("", total=total)
            yield lambda report: bar.update(task, completed=report.sent)
        return
    said = 0.0

    def line(report: Progress) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_EVERY_SECONDS or not report.live:
            said = time.monotonic()
            console.print(f"{report.sent:,} of {report.total:,} sent, {report.waiting + report.in_progress:,} to go")

    yield line
