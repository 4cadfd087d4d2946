import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from providers.senders.inbound.reports import LARGEST_REPORT
from providers.senders.inbound.verdict import Kind, Verdict, classify


class Command(BaseCommand):
    """Say what kind of mail each file is, without a database; exit 1 if one cannot be read."""

    help = "Say of each mail file what it is: bounce, complaint, auto_reply, delivered, report or human, and why."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "files", nargs="+", metavar="FILE", help="a mail (.eml), or a DMARC report (.xml, .gz, .zip)"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object a line for each file")

    def handle(self, **options: Any) -> None:
        today = timezone.localdate()
        table = Table("file", "kind", "about", "why")
        unread = []
        for name in options["files"]:
            try:
                with Path(name).open("rb") as file:
                    raw = file.read(LARGEST_REPORT + 1)
            except OSError as error:
                unread.append(f"{name}: {error.strerror or error}")
                continue
            verdict = classify(raw, today=today)
            if options["json"]:
                self.stdout.write(json.dumps(_as_json(name, verdict), ensure_ascii=False))
            else:
                table.add_row(*(Text(cell) for cell in _as_row(name, verdict)))
        if table.row_count:
            console = Console(highlight=False)
            with console.capture() as shown:
                console.print(table)
            self.stdout.write(shown.get())
        if unread:
            raise CommandError("\n".join(unread))


def _as_json(name: str, verdict: Verdict) -> dict[str, Any]:
    line: dict[str, Any] = {
        "file": name,
        "kind": verdict.kind,
        "recipients": [
            {
                "address": one.address,
                "status": one.status,
                "reason": one.reason,
                "hard": one.hard,
                "code": one.code,
                "action": one.action,
                "fault": one.fault,
                "rule": one.rule,
                "span": one.span,
            }
            for one in verdict.recipients
        ],
        "rule": verdict.rule,
        "span": verdict.span,
        "message_ids": verdict.message_ids,
    }
    if verdict.kind in (Kind.HUMAN, Kind.AUTO_REPLY) or verdict.label:
        line |= {"text": verdict.text, "label": verdict.label, "label_span": verdict.label_span}
    if verdict.returns:
        line["returns"] = verdict.returns.isoformat()
    if verdict.report:
        line["report"] = {
            "kind": verdict.report.kind,
            "source": verdict.report.source,
            "domain": verdict.report.domain,
            "id": verdict.report.number,
            "begin": verdict.report.begin,
            "end": verdict.report.end,
            "mails": verdict.report.mails,
            "failed": verdict.report.failed,
            "problem": verdict.report.problem,
        }
    return line | {key: value for key, value in (("cut", verdict.cut), ("refused", verdict.refused)) if value}


def _as_row(name: str, verdict: Verdict) -> tuple[str, str, str, str]:
    if verdict.kind is None:
        return name, "-", "", verdict.refused
    if verdict.report:
        report = verdict.report
        return name, verdict.kind, f"{report.domain} by {report.source}: {report.mails} mails", report.problem
    if verdict.label and verdict.kind is not Kind.COMPLAINT:
        shown = " ".join(verdict.text.split())[:80]
        back = f", back {verdict.returns.isoformat()}" if verdict.returns else ""
        return name, verdict.kind, f"{verdict.label}{back}: {shown}", verdict.label_span or verdict.span
    about = "\n".join(
        " ".join(filter(None, (one.address or "?", one.status, one.reason, "hard" if one.hard else "soft")))
        for one in verdict.recipients
    )
    return name, verdict.kind, about, "\n".join(one.span for one in verdict.recipients)
