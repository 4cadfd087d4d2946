"""For which agencies somebody rang, by what for: whoever looks, looks for all of them. The only writer of Bell.

ring    ─► a row, once until somebody looks      ← after what it is rung for is committed
alone   ─► one at a time looks
answer  ─► takes the rows, and only then looks: who rings later is seen later
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tenants import context
from tenants.models import Agency, Bell

# With the bell's name, the two numbers of a lock: any constant of our own.
_LOOKING = 7_302_199_1


def ring(name: str) -> bool:
    """Ring for the agency entered now; return whether nobody had. Call it after the commit."""
    with connection.cursor() as cursor:
        cursor.execute(_RING, [context.current_agency().pk, name])
        return bool(cursor.rowcount)


def answer(name: str) -> list[Agency]:
    """The agencies that it was rung for, which count as looked at from now on."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tenants_bell WHERE name = %s RETURNING agency_id", [name])
        ids = [row[0] for row in cursor.fetchall()]
    return list(context.ready_agencies().filter(pk__in=ids)) if ids else []


def rung(name: str) -> bool:
    """Whether it was rung for any agency, and nobody has looked."""
    return Bell.objects.filter(name=name).exists()


@contextmanager
def alone(name: str) -> Iterator[bool]:
    """Whether nobody else looks; nobody does until this ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_LOOKING, name])
        (mine,) = cursor.fetchone()
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [_LOOKING, name])


_RING = "INSERT INTO tenants_bell (agency_id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
