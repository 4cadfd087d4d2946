"""Where the senders stand: what they may send and have sent, in groups that a forecast can reckon with."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection

from providers.senders import recovering
from providers.senders.ledger import WINDOW, hour_of, local_day
from providers.senders.models import Home, SenderDomain
from tenants.models import Agency


@dataclass(frozen=True, slots=True)
class Group:
    """Active senders of one domain with the same limits: mails of all of them together.

    `hours` are those of the last 24, the one that 24 hours ago lies in too; `rested` is how many need not rest now.
    `caps`: before which day so many mails a day, while they recover.
    """

    senders: int
    per_day: int
    used_today: int = 0
    hours: tuple[tuple[datetime, int], ...] = ()
    rested: int = 0
    per_hour: int | None = None
    caps: tuple[tuple[date, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """One sender domain: the accounts it is verified at, its limit, and where it is in its warmup, if it warms up.

    `caps` as of a group.
    """

    domain_id: int
    homes: frozenset[int]
    per_day: int
    groups: tuple[Group, ...]
    used_today: int = 0
    warms_since: date | None = None
    plan: tuple[int, ...] = ()
    domain_plan: tuple[int, ...] = ()
    step: int = 1
    judged: date | None = None
    caps: tuple[tuple[date, int], ...] = ()


def standing(agency: Agency, *, now: datetime) -> list[Standing]:
    """Every domain of the agency entered now that has active senders, in five queries."""
    day, since = local_day(now, agency.zone), hour_of(now - WINDOW)
    homes: dict[int, set[int]] = {}
    for domain_id, account_id in Home.objects.values_list("domain_id", "account_id"):
        homes.setdefault(domain_id, set()).add(account_id)
    of_senders, of_domains = recovering.outlooks(agency, now=now)
    capped = list(of_senders)
    hours: dict[tuple[Any, ...], list[tuple[datetime, int]]] = {}
    groups: dict[int, list[Group]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_HOURS, {"since": since, "capped": capped})
        for *key, hour, used in cursor.fetchall():
            hours.setdefault(tuple(key), []).append((hour, int(used)))
        cursor.execute(_GROUPS, {"day": day, "now": now, "capped": capped})
        for domain_id, per_day, per_hour, recovers, senders, rested, used in cursor.fetchall():
            lately = tuple(hours.get((domain_id, per_day, per_hour, recovers), ()))
            caps = of_senders[recovers] if recovers else ()
            groups.setdefault(domain_id, []).append(Group(senders, per_day, int(used), lately, rested, per_hour, caps))
        cursor.execute("SELECT domain_id, used FROM senders_domainday WHERE day = %s", [day])
        used_today = dict(cursor.fetchall())
    return [
        Standing(
            domain.pk,
            frozenset(homes.get(domain.pk, ())),
            domain.per_day,
            tuple(groups[domain.pk]),
            used_today.get(domain.pk, 0),
            domain.warmup_started_on,
            tuple(domain.warmup_plan),
            tuple(domain.warmup_domain_plan),
            domain.warmup_step,
            domain.warmup_judged,
            of_domains.get(domain.pk, ()),
        )
        for domain in SenderDomain.objects.filter(pk__in=groups).order_by("pk")
    ]


# Who recovers is a group of its own.
_OWN = "CASE WHEN s.id = ANY(%(capped)s::bigint[]) THEN s.id END"
_GROUPS = f"""
SELECT s.domain_id, s.per_day, s.per_hour, {_OWN}, count(*),
       count(*) FILTER (WHERE s.free_at IS NULL OR s.free_at <= %(now)s), COALESCE(sum(d.used), 0)
FROM senders_sender s LEFT JOIN senders_senderday d ON d.sender_id = s.id AND d.day = %(day)s
WHERE s.active GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 - of constants
_HOURS = f"""
SELECT s.domain_id, s.per_day, s.per_hour, {_OWN}, h.hour, sum(h.used)
FROM senders_senderhour h JOIN senders_sender s ON s.id = h.sender_id
WHERE s.active AND h.hour >= %(since)s AND h.used > 0 GROUP BY 1, 2, 3, 4, 5 ORDER BY 5
"""  # noqa: S608 - of constants
