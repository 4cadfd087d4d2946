import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from campaigns import intake
from campaigns.models import Basis, ContactList, Intake, Verdict
from tenants import clock
from tenants.commands import AgencyCommand
from tenants.models import Agency

_LINE_EVERY = 100_000


class Command(AgencyCommand):
    """Import a contact file; the verbs are `campaigns.intake`."""

    help = "Import the contacts of a CSV or XLSX file into a list of an agency. A missing list is made."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path, help="the contact file, CSV or XLSX")
        parser.add_argument("--list", required=True, dest="into", metavar="NAME", help="the list the contacts join")
        known = [*(basis.value for basis in Basis if basis != Basis.WITHDRAWN), Intake.BY_COLUMN]
        parser.add_argument("--basis", default="", choices=known, help="on what grounds they may be written to")
        parser.add_argument("--basis-from", default="", metavar="TEXT", help="where they gave it, kept as evidence")
        parser.add_argument("--check-mx", action="store_true", help="ask the DNS whether each domain takes mail")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        started, file = time.monotonic(), options["file"]
        if options["basis"] == Basis.CONSENT and not options["basis_from"].strip():
            raise CommandError("--basis consent needs --basis-from: say where they gave it.")
        try:
            with file.open("rb") as stream, _shown(stream, quiet=options["json"]) as progress:
                done = intake.import_file(
                    stream,
                    file_name=file.name,
                    into=_list(options["into"]),
                    now=clock.now(),
                    progress=progress,
                    grounds=intake.Grounds(options["basis"], options["basis_from"], by="import_contacts"),
                    check_mx=options["check_mx"],
                )
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}. Give the path of a CSV or XLSX file.") from error
        except intake.IntakeRefused as refused:
            raise CommandError(f"{file.name} was refused, nothing was imported. {refused}") from refused
        rejected = intake.rejected_counts(done)
        if options["json"]:
            seconds = round(time.monotonic() - started, 3)
            self.stdout.write(
                json.dumps({"rows": done.rows, "accepted": done.accepted, "rejected": rejected, "seconds": seconds})
            )
        else:
            _print(done, rejected)


def _list(name: str) -> ContactList:
    try:
        ContactList(name=name).clean_fields()
    except ValidationError as error:
        raise CommandError(f"--list: {' '.join(error.messages)}") from error
    return ContactList.objects.get_or_create(name=name)[0]


@contextmanager
def _shown(stream: BinaryIO, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    if quiet:
        yield None
    elif sys.stdout.isatty():
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        with Progress(*columns, TimeElapsedColumn()) as bar:
            task = bar.add_task("Reading rows", total=_lines(stream))
            yield lambda rows: bar.update(task, completed=rows)
    else:
        yield lambda rows: print(f"{rows} rows read", flush=True) if rows % _LINE_EVERY == 0 else None  # noqa: T201


def _lines(stream: BinaryIO) -> int | None:
    """About as many rows as the file has; None for a workbook, whose lines say nothing."""
    if stream.read(2) == b"PK":
        return None
    return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b"")) or None


def _print(done: Intake, rejected: dict[str, int]) -> None:
    table = Table(title=f"{done.file_name}: {done.rows} rows")
    table.add_column("Verdict")
    table.add_column("Rows", justify="right")
    table.add_row(str(Verdict.ACCEPTED.label), str(done.accepted))
    for verdict, count in rejected.items():
        table.add_row(str(Verdict(verdict).label), str(count))
    Console().print(table)
