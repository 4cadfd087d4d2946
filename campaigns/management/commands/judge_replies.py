import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from campaigns import replies
from tenants import clock
from tenants.commands import AgencyCommand
from tenants.models import Agency


class Command(AgencyCommand):
    """Show how often people found the labels of replies right and wrong; first read them again by the rules of now."""

    help = "Read replies again that older rules have labelled, and show how often people found labels right and wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true")

    def within(self, agency: Agency, options: dict[str, Any]) -> None:
        changed = replies.classify_again(clock=clock.now)
        found = replies.judged()
        if options["json"]:
            self.stdout.write(json.dumps({"changed": changed, "judged": [asdict(one) for one in found]}))
            return
        self.stdout.write(f"{changed} labels changed.")
        for one in found:
            instead = f", rather {', '.join(one.instead)}" if one.instead else ""
            self.stdout.write(f"{one.found} by “{one.span}”: {one.right} right, {one.wrong} wrong{instead}")
