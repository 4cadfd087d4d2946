"""Signs of life of worker clusters. A process list does not tell: a frozen cluster looks healthy from outside."""

import os
import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now

from outreach.models import Heartbeat
from tenants import context, jobs
from tenants.jobs import job

WRITE_EVERY_SECONDS = 5
# Whoever has run nothing for so long has ended: every start of a machine names its clusters anew.
ENDED_FOR = timedelta(days=1)
_written_at = 0.0


def listen() -> None:
    """Let every job that a worker runs count as a sign of life of its cluster."""
    jobs.ran.connect(_beat, dispatch_uid="outreach.heartbeat")


@job
def canary() -> None:
    """Does nothing: that it runs is the news."""


def silent_for(clusters: list[str]) -> dict[str, float]:
    """How many seconds ago each of these clusters last ran a job, by the database's clock, which no host can set."""
    with context.public():
        silence = ExpressionWrapper(Now() - F("seen_at"), DurationField())
        rows = Heartbeat.objects.filter(cluster__in=clusters).annotate(silence=silence)
        return {row.cluster: row.silence.total_seconds() for row in rows}


def last() -> datetime | None:
    """When any cluster last ran a job; None: never."""
    with context.public():
        return Heartbeat.objects.order_by("-seen_at").values_list("seen_at", flat=True).first()


def alive(*, now: datetime) -> int:
    """How many clusters have run a job within the time after which a silent one is replaced."""
    since = now - timedelta(seconds=settings.FROZEN_AFTER_SECONDS)
    with context.public():
        return Heartbeat.objects.filter(seen_at__gte=since).count()


def forget(cluster: str) -> None:
    """A cluster of this name starts anew. Those that have long ended go with it, but for the one that ran last."""
    with context.public():
        Heartbeat.objects.filter(cluster=cluster).delete()
        newest = Heartbeat.objects.order_by("-seen_at").values("cluster")[:1]
        Heartbeat.objects.filter(seen_at__lt=Now() - ENDED_FOR).exclude(cluster__in=newest).delete()


def _beat(**_: Any) -> None:
    global _written_at
    cluster = os.environ.get("POLZA_CLUSTER")
    if not cluster or time.monotonic() - _written_at < WRITE_EVERY_SECONDS:
        return
    with context.public():
        Heartbeat.objects.update_or_create(cluster=cluster, defaults={"seen_at": Now()})
    _written_at = time.monotonic()
