"""Asks every account through its real interface whether it would take mail, and tells health what it said.

HTTP kinds: a read that needs the key. SMTP: connect, EHLO, STARTTLS, AUTH, NOOP. Nothing is sent.
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet

from providers.accounts import adapters, health, rate, silence
from providers.accounts.errors import AccountBlocked, AccountMisconfigured, DeliveryError, Throttled
from providers.accounts.ledger import utc_day
from providers.accounts.models import Account, HealthCheck, LedgerRow, Period

logger = logging.getLogger(__name__)

KEPT = timedelta(days=30)
# A job that is delivered twice must not count as two failures in a row.
NOT_AGAIN_WITHIN = timedelta(minutes=1)
AT_ONCE = 16
# Well below the time after which a worker is ended.
ALL_WITHIN_SECONDS = 40.0
_PATIENCE = {"connect_timeout": 5, "read_timeout": 10, "command_timeout": 10}


@dataclass(slots=True)
class Checkup:
    """The accounts, by id, that the answers closed and those that they opened."""

    closed: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one account said. `clear`: no second try would change it before a person does something."""

    ok: bool
    milliseconds: int = 0
    detail: str = ""
    clear: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What an account has answered: the part of its checks that went well in the last so many days, and the latest."""

    well: dict[int, float]
    latest: list[HealthCheck]


def history(account: Account, *, now: datetime, latest: int = 12) -> History:
    """The checks of one account, as far as they are kept; no part is told for days without any."""
    found = account.checks.filter(at__lte=now)
    well = {}
    for days in (1, 7, 30):
        counted = found.filter(at__gt=now - timedelta(days=days)).aggregate(
            all=Count("pk"), well=Count("pk", filter=Q(ok=True))
        )
        if counted["all"]:
            well[days] = counted["well"] / counted["all"]
    return History(well, list(found[:latest]))


def check_all(*, now: datetime) -> Checkup:
    """Ask every account in use, several at once; keep the answers; close and open accounts by them."""
    recent = HealthCheck.objects.filter(at__gt=now - NOT_AGAIN_WITHIN).values("account")
    found = Checkup()
    answers = _ask_all(Account.objects.filter(enabled=True).exclude(pk__in=recent))
    used = dict(
        LedgerRow.objects.filter(agency=None, period=Period.DAY, starts=utc_day(now)).values_list("account", "used")
    )
    for account, answer in answers:
        HealthCheck.objects.create(
            account=account,
            at=now,
            ok=answer.ok,
            milliseconds=answer.milliseconds,
            used=used.get(account.pk, 0),
            detail=answer.detail[:300],
        )
        rate.spend(account, 1)
        if answer.ok and health.answered(account.pk, now=now):
            found.opened.append(account.pk)
        elif not answer.ok and health.unanswered(account.pk, answer.detail, clear=answer.clear, now=now):
            logger.error("account closed by its check: %s", answer.detail, extra={"account": account.name})
            found.closed.append(account.pk)
    found.closed += silence.close_silent(now=now)
    HealthCheck.objects.filter(at__lt=now - KEPT).delete()
    silence.forget(now=now)
    return found


def ask(kind: str, credentials: Mapping[str, str], options: Mapping[str, Any]) -> Answer:
    """Ask one account now. Touches no database, so that threads may call it."""
    started = time.perf_counter()
    try:
        known = adapters.KINDS[kind].options if kind in adapters.KINDS else ()
        patience = {name: seconds for name, seconds in _PATIENCE.items() if name in known}
        with adapters.open(kind, credentials, {**options, **patience}) as wire:
            wire.verify()
    except Throttled as error:
        # It knows us and is there.
        return Answer(True, _since(started), error.detail)
    except AccountBlocked as error:
        return Answer(False, _since(started), error.detail, clear=True)
    except DeliveryError as error:
        return Answer(False, _since(started), error.detail)
    except AccountMisconfigured as error:
        return Answer(False, _since(started), f"{error.setting} {error.detail}", clear=True)
    except Exception as error:
        logger.exception("check failed")
        return Answer(False, _since(started), f"The check failed with {type(error).__name__}; the log says why.")
    return Answer(True, _since(started))


def _ask_all(accounts: QuerySet[Account]) -> list[tuple[Account, Answer]]:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="checkup")
    asked: dict[Future[Answer], Account] = {
        pool.submit(ask, account.kind, account.credentials, account.options): account for account in accounts
    }
    wait(asked, timeout=ALL_WITHIN_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    late = Answer(False, int(ALL_WITHIN_SECONDS * 1000), f"no answer within {ALL_WITHIN_SECONDS:g} seconds")
    return [
        (account, future.result() if future.done() else late)
        for future, account in asked.items()
        # Those whose turn did not come are asked the next time.
        if not future.cancelled()
    ]


def _since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
