"""Doorbells: plain values in, one verb called."""

import logging
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from campaigns import control, dispatch, lifecycle
from campaigns.audit import audit_quota
from campaigns.models import Message
from tenants import context, jobs
from tenants.jobs import job

logger = logging.getLogger(__name__)


@job
def drain(account_id: int) -> None:
    """Send what this agency may send now through this account, then ring for what is left elsewhere."""
    until = timezone.now() + timedelta(seconds=settings.DRAIN_SECONDS)
    result = dispatch.drain(account_id, clock=timezone.now, until=until)
    for other in sorted(result.moved_to):
        jobs.enqueue(drain, other)
    if result.out_of_time:
        jobs.enqueue(drain, account_id)
    control.finish_done(now=timezone.now())


@job
def tick() -> None:
    """Every minute: take back what dead workers held and ring for whatever is due, agency by agency."""
    failed = []
    for agency in context.ready_agencies():
        try:
            with context.entered(agency):
                lifecycle.rescue(now=timezone.now())
                control.cancel_strays()
                control.finish_done(now=timezone.now())
                ring()
        except Exception:
            # What is wrong with one agency must not stop the others.
            logger.exception("tick failed", extra={"schema": agency.schema_name})
            failed.append(agency.slug)
    if failed:
        raise RuntimeError(f"The minute's work failed for {', '.join(failed)}; the log says why.")


@job
def audit() -> None:
    """Every night: prove the quotas; a drift is an error in the log, and so an alert."""
    for drift in audit_quota().drifts:
        logger.error("quota drift: %s", drift)


def ring() -> int:
    """Ask workers to drain every account of the agency entered now that has due mails; return how many accounts."""
    due = (
        Message.objects.filter(status=Message.Status.SCHEDULED, due_at__lte=timezone.now())
        .order_by("account_id")
        .values_list("account_id", flat=True)
        .distinct()
    )
    accounts = list(due)
    for account_id in accounts:
        jobs.enqueue(drain, account_id)
    return len(accounts)
