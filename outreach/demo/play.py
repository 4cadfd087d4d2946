"""Import, launch, watch, report."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db.models import Count
from django.utils import timezone

from campaigns import intake, jobs, launch, progress
from campaigns.models import Basis, Campaign, ContactList, Intake, Step
from campaigns.progress import Progress
from outreach.demo.far_end import FarEnd
from providers.accounts import webhooks
from tenants import context
from tenants.models import Agency

LONGEST_SECONDS = 300
LISTEN_SECONDS = 60
SUBJECT = "{{ first_name | default: 'Hello' }}, a question about {{ company | default: 'your team' }}"
TEXT = "Yes, send me offers by mail. I can stop them at any time."
HTML = """\
<p>Hello {{ first_name | default: "there" }},</p>
<p>I saw that <b>{{ company | default: "your company" }}</b> is growing in {{ city | default: "your region" }}.
We help teams like yours to answer their customers within a day.</p>
<p>Would <a href="https://polza.example/meet">fifteen minutes next week</a> suit you?</p>
<p>Best regards</p>
"""


@dataclass(slots=True)
class Result:
    """What the demo ends with, as its JSON line says it."""

    rows: int = 0
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    distinct_recipients: int = 0
    duplicates: int = 0
    max_per_sender: int = 0
    # Mails by what became of them, as we have heard it and as the sandbox knows it.
    heard: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def take_in(agency: Agency, contacts: Path, *, now: datetime) -> Intake:
    """Import the contact file into Alpha; raises IntakeRefused or OSError."""
    with context.entered(agency):
        # Made-up people have given consent: two of the three accounts require it.
        grounds = intake.Grounds(Basis.CONSENT, source="The sign-up form of a made-up trade fair", at=now, text=TEXT)
        people, _created = ContactList.objects.get_or_create(name=contacts.stem)
        with contacts.open("rb") as file:
            return intake.import_file(file, file_name=contacts.name, into=people, now=now, grounds=grounds)


def begin(agency: Agency, people: ContactList, overflow: str) -> Campaign:
    """Launch the campaign, evenly over the three accounts, and ring for the workers; raises LaunchRefusedError."""
    with context.entered(agency):
        campaign = Campaign.objects.create(
            name=f"Spring offer to {people.name}",
            list=people,
            distribution=Campaign.Distribution.EVEN,
            overflow=overflow,
            # The demo shows in a minute what takes senders that rest between two mails a day.
            gap_seconds=0,
            gap_jitter_seconds=0,
        )
        Step.objects.create(campaign=campaign, subject=SUBJECT, html=HTML)
        launch.launch(campaign, now=timezone.now())
        jobs.ring()
    return campaign


def watch(agency: Agency, campaign: Campaign, look: Callable[[Progress], None]) -> Progress:
    """Follow the campaign until nothing moves any more (or five minutes are over), showing each look at it."""
    deadline = time.monotonic() + LONGEST_SECONDS
    still = 0
    while True:
        with context.entered(agency):
            campaign.refresh_from_db()
            report = progress.progress(campaign, now=timezone.now())
        look(report)
        # Twice: between two looks a mail may be on its way from a full account to the next.
        still = 0 if report.live else still + 1
        if still >= 2 or time.monotonic() > deadline:
            return report
        time.sleep(0.5)


def listen(agency: Agency, campaign: Campaign, far_end: FarEnd) -> Progress:
    """Wait until all that the sandbox tells of the mails was heard (or a minute is over); return the last look."""
    deadline = time.monotonic() + LISTEN_SECONDS
    far_end.replay()
    while time.monotonic() < deadline:
        # In this order: what was told meanwhile is pending by then.
        if not far_end.events()["left"]:
            with context.public():
                if not webhooks.pending():
                    break
        time.sleep(0.2)
    # What the last post rang for may still be at work.
    jobs.hear()
    with context.entered(agency):
        return progress.progress(campaign, now=timezone.now())


def result(agency: Agency, taken: Intake, report: Progress, far_end: FarEnd, seconds: float) -> Result:
    """The demo in numbers: ours, and the sandbox's as the independent witness."""
    seen: dict[str, Any] = far_end.snapshot()
    with context.entered(agency):
        rejected = taken.rejected_rows.order_by("verdict").values_list("verdict").annotate(Count("id"))
        reasons = dict(rejected)
    return Result(
        rows=taken.rows,
        accepted=taken.accepted,
        rejected=reasons,
        planned={one.name: one.planned for one in report.accounts},
        sent={one.name: one.sent for one in report.accounts},
        waiting={one.code: one.count for one in report.reasons},
        distinct_recipients=seen["distinct_recipients"],
        duplicates=seen["duplicates"],
        max_per_sender=seen["max_per_sender"],
        heard={one.code: one.count for one in report.told if one.count},
        happened=_happened(far_end.events()["outcomes"]),
        seconds=round(seconds, 1),
    )


def _happened(outcomes: dict[str, dict[str, int]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for by_provider in outcomes.values():
        counts.update(by_provider)
    # A full mailbox sends the mail back too.
    counts["bounced"] += counts.pop("soft", 0)
    # It is told again how that ended.
    counts.pop("delayed", None)
    return dict(+counts)
