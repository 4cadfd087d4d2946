"""What it costs to launch a campaign to a million people."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.ground import Ground
from tests.benchmarks.keys import Values


@contextmanager
def million(ground: Ground) -> Iterator[Callable[[], Values]]:
    """A launch in a process of its own against INSERT … SELECT into a table with the same columns and one index."""
    from tests.benchmarks import scene

    people = 20_000 if ground.quick else 1_000_000
    if ground.quick:
        ground.say(f"launch_1m_vs_insert_select: with --quick {people:,} messages.")
    alpha = scene.agencies()[0]
    for account in scene.smtp_accounts(3, port=9):
        scene.senders(alpha, account, 400)
    scene.people(alpha, people)

    def once() -> Values:
        scene.forget_runs(alpha)
        bare = _bare_insert(alpha, people)
        campaign = scene.draft(alpha).pk
        launched = _launch(alpha.schema_name, campaign)
        if launched["total"] != people:
            raise RuntimeError(f"{launched['total']} of {people} mails were queued.")
        return {
            "launch_1m_vs_insert_select": launched["seconds"] / bare,
            "launch_rss_mb": launched["rss_mb"],
            "of it before the launch, MB": launched["rss_before_mb"],
            "launch, s": launched["seconds"],
            "bare INSERT … SELECT, s": bare,
        }

    yield once
    scene.clear()


def _bare_insert(agency: Any, people: int) -> float:
    from django.db import connection

    from tenants import context

    with context.entered(agency), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (LIKE campaigns_message INCLUDING DEFAULTS, PRIMARY KEY (id))")
        cursor.execute("CHECKPOINT")
        began = time.monotonic()
        cursor.execute(_BARE)
        took = time.monotonic() - began
        if cursor.rowcount != people:
            raise RuntimeError(f"{cursor.rowcount} of {people} rows were inserted.")
        cursor.execute("DROP TABLE bare")
        cursor.execute("CHECKPOINT")
    return took


def _launch(schema: str, campaign: int) -> dict[str, Any]:
    from tests.benchmarks.children import Sender

    with Sender("launching", schema, campaign) as child:
        child.tell("go")
        return child.result()


def main() -> None:
    """The process that launches: `python -m tests.benchmarks.launching SCHEMA CAMPAIGN`."""
    import resource

    import django

    django.setup()
    from django.utils import timezone

    from campaigns import launch
    from campaigns.models import Campaign
    from tenants import context
    from tenants.models import Agency

    with context.entered(Agency.objects.get(schema_name=sys.argv[1])):
        campaign = Campaign.objects.get(pk=int(sys.argv[2]))
        print("ready", flush=True)
        sys.stdin.readline()
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        total = launch.launch(campaign, now=timezone.now()).total
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"total": total, "seconds": seconds, "rss_mb": after / 1024, "rss_before_mb": before / 1024}),
        flush=True,
    )


_BARE = """
INSERT INTO bare (id, campaign_id, step_id, enrollment_id, contact_id, planned_id, account_id, due_at)
SELECT row_number() OVER (), 1, 1, contact_id, contact_id, 1, 1, now()
FROM campaigns_subscription
"""

if __name__ == "__main__":
    main()
