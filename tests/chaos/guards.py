"""Every guard that keeps a promise while something breaks: how it is taken out, and the fault that then does harm.

`test_guards` plays each fault twice, with the guard and without it. Whoever writes a new guard adds it here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from anymail.backends import resend

from campaigns import caps, dispatch, lifecycle, outcomes
from providers.accounts import ledger as accounts
from providers.accounts import rate
from providers.accounts.adapters import anymail, classification
from providers.accounts.errors import DeliveryError, NotAccepted, Unsure
from providers.senders import ledger as senders
from tests.chaos import acts
from tests.chaos.scene import Scene

Removal = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Guard:
    """`races`: its fault needs two workers that see each other's locks."""

    name: str
    promise: str
    fault: Callable[[Scene], list[str]]
    remove: Removal
    races: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def without(module: ModuleType, statement: str, *guards: str, instead: str = "") -> Removal:
    """Take these words out of a statement of SQL. They must be in it, or the list above is out of date."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        text = getattr(module, statement)
        for guard in guards:
            assert guard in text, f"{module.__name__}.{statement} does not say {guard!r} any more: find its guard anew"
            text = text.replace(guard, instead)
        patch.setattr(module, statement, text)

    return remove


def all_of(*removals: Removal) -> Removal:
    """Take out several that stand in for each other."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        for one in removals:
            one(patch)

    return remove


def instead(module: Any, name: str, value: Any) -> Removal:
    """Put something else in the place of a guard."""
    return lambda patch: patch.setattr(module, name, value)


def _send_without_key(backend: Any, payload: Any, message: Any) -> Any:
    payload.headers.pop("Idempotency-Key", None)
    return resend.EmailBackend.post_to_esp(backend, payload, message)


def _whatever_the_phase(phase: str, code: int | None, text: str, cause: Exception | None) -> DeliveryError:
    return _classified_smtp("sending the body", code, text, cause)


def _every_error_is_the_first(error: DeliveryError, **known: Any) -> outcomes.Decision:
    return _decided(error, **{**known, "confirmations": 0})


def _doubt_is_refusal(error: DeliveryError, **known: Any) -> outcomes.Decision:
    return _decided(NotAccepted(error.detail) if isinstance(error, Unsure) else error, **known)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _unlocked(account_id: int, agency_id: int, day: Any) -> dict[Any, Any]:
    return {(row.agency_id, row.period): row for row in accounts._rows(account_id, agency_id, day)}


_classified_smtp, _decided = classification._smtp, outcomes.decide
_OURS = "AND m.claim = n.claim"
_NOT_SUPPRESSED = lifecycle._MAY_GO[lifecycle._MAY_GO.index("AND NOT EXISTS") :]
_RATE = rate._TAKE[rate._TAKE.index("  AND next_at +") :]

NO_MARK = without(lifecycle, "_BEGIN", "attempted_at = %(now)s", instead="attempted_at = NULL")
NO_DOUBT = all_of(
    without(lifecycle, "_RESCUE_DOUBT", "attempted_at IS NOT NULL", instead="false"),
    without(lifecycle, "_ABANDONED", "AND attempted_at IS NULL"),
)
NO_EPOCH = without(lifecycle, "_RESCUE_DOUBT", "OR epoch IS DISTINCT FROM (SELECT value FROM server_epoch)")
NO_RESCUE = without(lifecycle, "_ABANDONED", "WHERE", instead="WHERE false AND")
NO_LIMIT = instead(lifecycle, "RESCUES", 1000)
NO_CLAIM_IN_RETURN = without(lifecycle, "_RETURN", "AND (%(claim)s::uuid IS NULL OR claim = %(claim)s)")
NO_LOCK = without(dispatch, "_DUE", "FOR UPDATE OF m SKIP LOCKED")
NO_LOCK_NO_STATE = all_of(NO_LOCK, without(lifecycle, "_CLAIM", "AND (m.status = 'scheduled') IS TRUE"))
NO_SENDER_LOCK = without(senders, "_LOCK_SENDERS", "FOR UPDATE OF s SKIP LOCKED")
NO_DOMAIN_LOCK = without(senders, "_LOCK_DOMAIN_DAYS", "FOR UPDATE OF d")
NO_ACCOUNT_LOCK = instead(accounts, "_lock", _unlocked)
NO_CAMPAIGN_LOCK = without(caps, "_LOCK_CAMPAIGNS", "FOR UPDATE")
NO_24_HOURS = all_of(
    without(senders, "_LOCK_SENDERS", "COALESCE(w.used, 0) < c.per_day AND"),
    without(senders, "_SENDERS_USED", "GREATEST(d.used, w.used, 0)", instead="COALESCE(d.used, 0)"),
)
NO_HOUR = all_of(
    without(senders, "_LOCK_SENDERS", "AND COALESCE(w.this_hour, 0) < c.per_hour"),
    without(senders, "_SENDERS_USED", "COALESCE(w.this_hour, 0)", instead="0"),
)
NO_KEY = instead(anymail.ResendBackend, "post_to_esp", _send_without_key)
NO_MEMORY = instead(outcomes, "decide", _every_error_is_the_first)
NO_UNSURE = instead(outcomes, "decide", _doubt_is_refusal)
NO_PHASE = instead(classification, "_smtp", _whatever_the_phase)
NO_SUPPRESSION = without(lifecycle, "_BEGIN", _NOT_SUPPRESSED)
NO_PAUSE = without(lifecycle, "_BEGIN", "AND c.status = 'running'")
NO_CANCELLING = instead(lifecycle, "_BACK", "status = {status}, reason = {reason}")

GUARDS = [
    # A worker dies.
    Guard("mark before the wire", "P1", acts.killed_on_the_wire, NO_MARK),
    Guard("a marked mail is in doubt", "P1", acts.killed_on_the_wire, NO_DOUBT),
    Guard("epoch of PostgreSQL", "P1", acts.crash_of_postgresql, NO_EPOCH),
    Guard("an untried mail goes back into the queue", "P3", acts.killed_before_the_wire, NO_RESCUE),
    Guard("three workers and no more", "P3", acts.poison, NO_LIMIT),
    # A worker outlives its lease.
    Guard("claim in begin", "P1", acts.slow_before_the_wire, without(lifecycle, "_BEGIN", _OURS)),
    Guard("claim in sent", "P3", acts.slow_to_say_sent, without(lifecycle, "_SENT", _OURS)),
    Guard("claim in what gives back", "P1", acts.slow_to_give_back, NO_CLAIM_IN_RETURN),
    # Two workers at once. Where a lock is gone, the state that is expected or a CHECK may still stop the second one.
    Guard("lock of the mails", "P1", acts.two_claim_at_once, NO_LOCK, races=True),
    Guard("lock and state of the mails", "P1", acts.two_claim_at_once, NO_LOCK_NO_STATE, races=True),
    Guard("lock of the senders", "P2", acts.last_of_a_sender, NO_SENDER_LOCK, races=True),
    Guard("lock of the day of a domain", "P2", acts.last_of_a_domain, NO_DOMAIN_LOCK, races=True),
    Guard("lock of the day of an account", "P2", acts.last_of_the_account, NO_ACCOUNT_LOCK, races=True),
    Guard("lock of the day of a campaign", "P2", acts.last_of_a_campaign, NO_CAMPAIGN_LOCK, races=True),
    Guard("reservation of the rate", "P2", acts.one_second, without(rate, "_TAKE", _RATE)),
    # Quotas, and what is given back to them.
    Guard("any 24 hours", "P2", acts.midnight, NO_24_HOURS),
    Guard("the hour", "P2", acts.one_hour, NO_HOUR),
    Guard("the account gets back", "P2", acts.all_refuse, instead(accounts, "give_back", _nothing)),
    Guard("the sender gets back", "P2", acts.all_refuse, instead(senders, "give_back_senders", _nothing)),
    Guard("the domain gets back", "P2", acts.all_refuse, instead(senders, "give_back_domains", _nothing)),
    # A provider's answer is lost.
    Guard("idempotency key", "P1", acts.lost_answer_of_resend, NO_KEY),
    Guard("only a yes ends a doubt", "P1", acts.refused_after_a_lost_answer, NO_MEMORY),
    Guard("doubt never goes elsewhere", "P1", acts.lost_answer_of_sendgrid, NO_UNSURE),
    Guard("phase after DATA", "P1", acts.cut_after_data, NO_PHASE),
    # Somebody decides otherwise while a worker holds a mail.
    Guard("suppression at the mark", "P5", acts.opted_out_after_the_claim, NO_SUPPRESSION),
    Guard("pause at the mark", "P5", acts.paused_after_the_claim, NO_PAUSE),
    Guard("cancelling what comes back", "P3", acts.cancelled_while_claimed, NO_CANCELLING),
]
