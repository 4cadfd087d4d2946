"""Which agencies the minute's work must enter: those that asked for it, and each once an hour anyway.

What makes work asks for a visit in the same transaction. A visit answers when the next is due, and that counts only
if nobody has asked since the visit began: so a visit may come too early, never too late. The only writer of Visit.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q

from tenants import context
from tenants.models import Agency

# Should a row ever say too late all the same, it does so for an hour at most. Agencies take turns in its second half.
_LONGEST = timedelta(hours=1)
_TURNS = 30


@dataclass(frozen=True, slots=True)
class Visit:
    """An agency to be looked into. `asked` is how often that was asked for before; None, never."""

    agency: Agency
    asked: int | None


def ask(at: datetime) -> None:
    """Let the agency entered now be looked into at that time, or earlier if it is to be already.

    Call it last in the transaction that makes the work: the row stays locked until that ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ASK, [context.current_agency().pk, at])


def due(*, now: datetime) -> list[Visit]:
    """The agencies, whole and switched on, that are to be looked into now, in a stable order."""
    found = context.ready_agencies().filter(Q(visit=None) | Q(visit__due_at__lte=now)).select_related("visit")
    return [Visit(agency, agency.visit.asked if hasattr(agency, "visit") else None) for agency in found]


def done(visit: Visit, following: datetime | None, *, now: datetime) -> None:
    """It was looked into, and there is nothing to do before `following`; None is nothing known of."""
    latest = now + _LONGEST - timedelta(minutes=visit.agency.pk % _TURNS)
    with connection.cursor() as cursor:
        cursor.execute(_DONE, [visit.agency.pk, min(following or latest, latest), visit.asked])


_ASK = """
INSERT INTO tenants_visit AS v (agency_id, due_at, asked) VALUES (%s, %s, 1)
ON CONFLICT (agency_id) DO UPDATE SET due_at = least(v.due_at, excluded.due_at), asked = v.asked + 1
"""
_DONE = """
INSERT INTO tenants_visit AS v (agency_id, due_at, asked) VALUES (%s, %s, 0)
ON CONFLICT (agency_id) DO UPDATE SET due_at = excluded.due_at WHERE v.asked = %s
"""
