"""Who opened mails and followed their links: people, programs, or nobody can tell. The one rule of counting them.

A mail counts once for its opens and once for its clicks, under the likeliest person of all who did (`verdicts`). What
only a provider reports, which names nobody, is unclear. So people + programs + unclear is all that were opened or
clicked, exactly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import connection

from campaigns.models import CampaignOutcome
from providers.accounts.events import EventType, Reader

# For queries over facts of mails, called `f`: opened, of these by people and by programs; the same for clicked.
COUNTS = """
count(f.opened_at), count(*) FILTER (WHERE f.opened_by = 'human'), count(*) FILTER (WHERE f.opened_by = 'machine'),
count(f.clicked_at), count(*) FILTER (WHERE f.clicked_by = 'human'), count(*) FILTER (WHERE f.clicked_by = 'machine')
"""


@dataclass(frozen=True, slots=True)
class Readership:
    """Mails that were opened, or whose links were followed, by who did."""

    human: int = 0
    machine: int = 0
    unclear: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.human + self.machine + self.unclear


def of_counts(counts: Sequence[int]) -> dict[EventType, Readership]:
    """Opens and clicks from a row of COUNTS."""
    opened, opened_human, opened_machine, clicked, clicked_human, clicked_machine = counts
    return {
        EventType.OPENED: Readership(opened_human, opened_machine, opened - opened_human - opened_machine),
        EventType.CLICKED: Readership(clicked_human, clicked_machine, clicked - clicked_human - clicked_machine),
    }


def of(outcome: CampaignOutcome) -> dict[EventType, Readership]:
    """Opens and clicks of a campaign, or of several whose outcomes were summed."""
    return of_counts(
        (
            outcome.opened,
            outcome.opened_human,
            outcome.opened_machine,
            outcome.clicked,
            outcome.clicked_human,
            outcome.clicked_machine,
        )
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A mail is counted once more (`by` 1) or less (-1) under these readers."""

    by: int
    campaign_id: int
    opened_by: str
    clicked_by: str


def recount(changes: Iterable[Change]) -> None:
    """Count what is known better now in the campaigns' outcomes."""
    found: dict[int, list[int]] = {}
    for change in changes:
        counts = found.setdefault(change.campaign_id, [0, 0, 0, 0])
        readers = ((who, reader) for who in (change.opened_by, change.clicked_by) for reader in _NAMED)
        for place, (who, reader) in enumerate(readers):
            counts[place] += change.by * (who == reader)
    with connection.cursor() as cursor:
        for campaign_id, counts in sorted(found.items()):
            if any(counts):
                cursor.execute(_RECOUNT, [campaign_id, *(max(0, count) for count in counts), *counts])


_NAMED = (Reader.HUMAN, Reader.MACHINE)
_RECOUNT = """
INSERT INTO campaigns_campaignoutcome AS o
    (campaign_id, opened_human, opened_machine, clicked_human, clicked_machine)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (campaign_id) DO UPDATE
SET opened_human = o.opened_human + %s, opened_machine = o.opened_machine + %s,
    clicked_human = o.clicked_human + %s, clicked_machine = o.clicked_machine + %s
"""
