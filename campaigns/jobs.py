"""Doorbells: plain values in, one verb called, at the database's time: leases are judged by it on every host."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.dispatch import receiver

from campaigns import (
    advance,
    backlash,
    choices,
    control,
    dispatch,
    doubt,
    due,
    erasure,
    failover,
    feasibility,
    feed,
    feedback,
    hooks,
    intake,
    lifecycle,
    notices,
    returned,
    signups,
    sources,
    trials,
)
from campaigns.audit import audit_quota
from campaigns.due import Due
from campaigns.mail_audit import audit_mails
from campaigns.models import Endpoint
from providers.accounts import checkup as accounts
from providers.accounts import inbox, turns, webhooks
from providers.senders import dns, recovering, warming
from providers.senders import ledger as senders
from tenants import bells, context, jobs, restored, visits
from tenants.clock import Clock
from tenants.jobs import job
from tenants.models import Agency

logger = logging.getLogger(__name__)

_HOOKS = "hooks"
# While mails go out, others are told of them so often.
_TELLS_AFTER = timedelta(seconds=1)


@job
def serve() -> None:
    """Let agencies send whose turn it is, one after another, until the time is over or nobody waits.

    Where other jobs wait for workers it goes back to the end of their queue after part of a slice: the minute's work,
    which finds what others have to send, is one of them.
    """
    clock = Clock()
    began = clock()
    until = began + timedelta(seconds=settings.DRAIN_SECONDS)
    while not jobs.leaving() and (now := clock()) < until and not (now >= began + turns.LEAST and _wanted()):
        turn = turns.take()
        if turn is None:
            return
        try:
            with context.entered(Agency.objects.get(pk=turn.agency_id)) as agency:
                _drain(agency, turn.account_id, clock, until)
        finally:
            turns.settle(turn, clock() - now)
    if turns.waiting():
        jobs.enqueue(serve)


def _wanted() -> bool:
    return jobs.crowded(serve)


def _drain(agency: Agency, account_id: int, clock: Clock, until: datetime) -> None:
    """Send what may go now, then ring for what is left elsewhere and wait for the next turn with what is left here."""
    turn, rung = turns.Slice(_wanted), clock()

    def interrupted(now: datetime) -> bool:
        nonlocal rung
        if now - rung >= _TELLS_AFTER:
            rung = now
            ring_for_hooks()
        return jobs.leaving() or turn.over(now)

    result = dispatch.drain(account_id, clock=clock, until=until, interrupted=interrupted)
    ring_for_hooks()
    _ring_for(agency, result.moved_to)
    if result.out_of_time:
        # Without a doorbell: the worker goes on, and leaves one behind.
        turns.ask(agency, [account_id])
    control.finish_done(now=clock())


@job
def tick() -> None:
    """Every minute: take back what dead workers held and ring for whatever is due, where there may be any of it."""
    clock = Clock()
    if webhooks.pending():
        # Whoever was told of it may have been cut off.
        jobs.enqueue(hear)
    if inbox.pending():
        jobs.enqueue(take_in)
    frozen = restored.frozen()
    visiting = {visit.agency: visit for visit in visits.due(now=clock())}

    def look_after(agency: Agency) -> None:
        if not frozen:
            # What was claimed in a backup may have left since; once it is let send, that is in doubt.
            lifecycle.rescue(now=clock())
        if feedback.look_again(now=clock(), interrupted=lambda: True):
            jobs.enqueue(catch_up)
        control.cancel_strays()
        erasure.finish(clock=clock)
        failover.rehome(agency, now=clock())
        next_look = advance.advance(now=clock())
        control.finish_done(now=clock())
        more = clock() if control.follow_pauses(now=clock()) else None
        more = clock() if ring_for_trials() else more
        more = clock() if ring_for_imports() else more
        found, next_asking = ring(now=clock()), ring_about_doubts(now=clock())
        following = min(filter(None, (more, found.following, next_asking, next_look)), default=None)
        visits.done(visiting[agency], following, now=clock())

    try:
        _in_each_agency("The minute's work", look_after, visiting)
    finally:
        _replace_lost_doorbells()


@jobs.long_job(500)
def take_file(intake_id: int) -> None:
    """Take a contact file that was kept."""
    intake.take(intake_id, now=Clock()())


def ring_for_imports() -> bool:
    """Let workers take the contact files of the agency entered now that wait; return whether any does."""
    found = intake.waiting()
    for one in found:
        jobs.enqueue(take_file, one)
    return bool(found)


@job
def hear() -> None:
    """Act on what providers have posted, for as long as a job may."""
    clock = Clock()
    until = clock() + timedelta(seconds=settings.DRAIN_SECONDS)
    feedback.hear(now=clock(), interrupted=lambda: clock() >= until)
    # Who finds another at it leaves the rest to that one: to ring again would go round until it is done.
    if clock() >= until and webhooks.pending():
        jobs.enqueue(hear)


@job
def catch_up() -> None:
    """Act on this agency's events that wait, of which there are more than the minute's work takes."""
    clock = Clock()
    until = clock() + timedelta(seconds=settings.DRAIN_SECONDS)
    others = turns.Slice(lambda: jobs.crowded(catch_up))
    with bells.alone(f"events of {context.current_agency().pk}") as mine:
        left = mine and feedback.look_again(
            now=clock(), interrupted=lambda: (now := clock()) >= until or others.over(now)
        )
    if left:
        jobs.enqueue(catch_up)


@job
def take_in() -> None:
    """Act on the mail that came back, for as long as a job may."""
    clock = Clock()
    until = clock() + timedelta(seconds=settings.DRAIN_SECONDS)
    returned.take_in(clock=clock, interrupted=lambda: clock() >= until)
    if clock() >= until:
        jobs.enqueue(take_in)


@receiver(inbox.arrived)
def _ring_for_mail(**_: Any) -> None:
    with context.public():
        jobs.enqueue(take_in)


@receiver(webhooks.arrived)
def _ring_for_events(**_: Any) -> None:
    with context.public():
        jobs.enqueue(hear)


@job
def checkup() -> None:
    """Every five minutes: ask each account; move what is due away from those that went down, agency by agency."""
    clock = Clock()
    if restored.frozen():
        logger.error("the database was put back from a backup: nothing is sent until `manage.py release_sending`")
    found = accounts.check_all(now=clock())

    def move(agency: Agency) -> None:
        for account_id in found.closed:
            _ring_for(agency, failover.relieve(agency, account_id, now=clock()))
        _ring_for(agency, found.opened)

    if found.closed or found.opened:
        _in_each_agency("Moving mails after the check of accounts", move)


@job
def check_possible() -> None:
    """Every five minutes: let mails go that waited for consent which is there or no longer needed, and pause campaigns
    that cannot go on until a person changes something, or of which too much comes back, agency by agency. Senders and
    domains too, which return in stages."""
    clock = Clock()

    def look_after(agency: Agency) -> None:
        failover.rehome(agency, now=clock())
        feasibility.pause_impossible(agency, now=clock())
        backlash.pause_harmful(agency, now=clock())
        sources.hold()
        recovering.look_after(agency, now=clock())

    _in_each_agency("The check of what campaigns can do", look_after)


@job
def ask(account_id: int) -> None:
    """Ask this account about this agency's mails in doubt."""
    clock = Clock()
    until = clock() + timedelta(seconds=settings.DRAIN_SECONDS)
    doubt.ask(account_id, clock=clock, until=until)
    ring_for_hooks()


@job
def choose_variants() -> None:
    """Every day: choose the best of a step's texts where that is wanted and known, agency by agency."""
    clock = Clock()

    def look_after(agency: Agency) -> None:
        choices.decide(now=clock())

    _in_each_agency("The choice of variants", look_after)


@job
def expire_sign_ups() -> None:
    """Every day: forget sign-ups that nobody confirmed in time, agency by agency."""
    clock = Clock()

    def look_after(agency: Agency) -> None:
        signups.expire(now=clock())

    _in_each_agency("The expiry of sign-ups", look_after)


@job
def send_trials() -> None:
    """Send this agency's test mails and confirmations."""
    clock = Clock()
    trials.send(clock=clock, until=clock() + timedelta(seconds=settings.DRAIN_SECONDS))


@job
def post_events() -> None:
    """Every minute: post what happened to the webhooks of all agencies, and what is to be tried again."""
    clock = Clock()
    until = clock() + timedelta(seconds=settings.DRAIN_SECONDS)
    others = turns.Slice(lambda: jobs.crowded(post_events))
    if hooks.post(list(context.ready_agencies()), clock=clock, until=until, interrupted=others.over):
        jobs.enqueue(post_events)


@job
def post_told() -> None:
    """Post what happened to the webhooks of agencies for which somebody rang, also of those who ring meanwhile."""
    clock = Clock()
    until = clock() + timedelta(seconds=settings.DRAIN_SECONDS)
    others = turns.Slice(lambda: jobs.crowded(post_told))
    while bells.rung(_HOOKS):
        with bells.alone(_HOOKS) as mine:
            if not mine:
                # Whoever does it looks once more when it is done.
                return
            left = hooks.post([], clock=clock, until=until, interrupted=others.over, more=lambda: bells.answer(_HOOKS))
        if left:
            for agency in left:
                with context.entered(agency):
                    bells.ring(_HOOKS)
            jobs.enqueue(post_told)
            return


@receiver(hooks.switched_off)
def _ring_about_webhook(endpoint: int, **_: Any) -> None:
    jobs.enqueue(tell_of_webhook, endpoint)


@job
def tell_of_webhook(endpoint_id: int) -> None:
    """Mail this agency's people that a webhook was switched off, unless a person has switched it since."""
    endpoint = Endpoint.objects.filter(pk=endpoint_id).exclude(off__in=["", Endpoint.Off.PERSON]).first()
    if endpoint is not None:
        notices.webhook_is_off(endpoint)


@job
def audit() -> None:
    """Every night: prove the quotas; a drift is an error in the log, and so an alert."""
    for drift in audit_quota().drifts:
        logger.error("quota drift: %s", drift)


@job
def warm() -> None:
    """Every hour: judge the day before of domains that warm up, where it is over, and where contacts come from; forget
    what binds no more."""
    clock = Clock()

    def look_after(agency: Agency) -> None:
        warming.advance(agency.zone, now=clock())
        sources.pause_harmful(agency, now=clock())
        senders.purge(now=clock())
        hooks.purge(now=clock())

    webhooks.prune(now=clock())
    inbox.prune(now=clock())
    erasure.settle(now=clock())
    _in_each_agency("The warmup of domains", look_after)


@job
def check_dns() -> None:
    """Every day: what each agency's domains publish; a DKIM key whose record is seen signs from then on."""

    def look(_agency: Agency) -> None:
        dns.check_all(now=Clock()())

    _in_each_agency("The DNS check of domains", look)


def _in_each_agency(what: str, work: Callable[[Agency], None], agencies: Iterable[Agency] | None = None) -> None:
    failed = []
    for agency in context.ready_agencies() if agencies is None else agencies:
        try:
            with context.entered(agency):
                work(agency)
        except Exception:
            # What is wrong with one agency must not stop the others.
            logger.exception("periodic work failed", extra={"work": what, "schema": agency.schema_name})
            failed.append(agency.slug)
    if failed:
        raise RuntimeError(f"{what} failed for {', '.join(failed)}; the log says why.")


@job
def audit_ledger() -> None:
    """Every night: prove that no mail is lost or stuck; a finding is an error in the log, and so an alert."""
    for finding in audit_mails(now=Clock()()):
        logger.error("mails lost or stuck: %s", finding)


def ring(*, now: datetime | None = None) -> Due:
    """Ask for a turn at every account where the agency entered now has due mails; return what was found due."""
    found = due.find(now=now or Clock()())
    _ring_for(context.current_agency(), found.accounts)
    return found


def ring_about_doubts(*, now: datetime) -> datetime | None:
    """Let workers ask every account that can tell about mails in doubt of the agency entered now; return when to look
    again, None for never."""
    found = doubt.find(now=now)
    for account_id in found.accounts:
        jobs.enqueue(ask, account_id)
    return found.following


@receiver(feed.told)
def ring_for_hooks(**_: Any) -> None:
    """Let a worker post to webhooks of the agency entered now what there is, if it has any and nobody was asked yet."""
    if hooks.wanted() and bells.ring(_HOOKS):
        with context.public():
            jobs.enqueue(post_told)


def ring_for_trials() -> bool:
    """Let a worker send the test mails of the agency entered now; return whether there are any."""
    if found := trials.pending():
        jobs.enqueue(send_trials)
    return found


def _ring_for(agency: Agency, account_ids: Iterable[int]) -> None:
    """Ask for turns, and for a worker for each that nobody has been asked for yet."""
    asked = turns.ask(agency, account_ids)
    with context.public():
        for _ in range(asked):
            jobs.enqueue(serve)


def _replace_lost_doorbells() -> None:
    """Jobs may be lost, and are not told apart here: one too many finds nothing to do."""
    if waiting := turns.waiting():
        for _ in range(max(1, waiting - jobs.waiting())):
            jobs.enqueue(serve)
