"""Whether the database came out of a backup: then nothing is sent until a person says so.

A backup does not know of the mails that left after it was made, and would have them sent again. So the database keeps
the name of the place where it was let send, and that differs wherever it is put back: another server, another database
or table of one (pg_restore), another timeline of its log (recovery to a point in time, the promotion of a standby).
Not seen is a copy of the server's files that is put back in their place without a recovery.
"""

import logging
from datetime import datetime

from django.db import connection, transaction

from tenants import context

logger = logging.getLogger(__name__)


def frozen() -> bool:
    """Whether nothing may be sent, because the database has been put back since it was let send."""
    with connection.cursor() as cursor:
        cursor.execute(_ELSEWHERE)
        found: bool = cursor.fetchone()[0]
    return found


def adopt() -> None:
    """Let a database send that has never been asked about: a new one. Call after its tables are made."""
    with connection.cursor() as cursor:
        cursor.execute(_ADOPT)


def release(*, by: str, now: datetime) -> bool:
    """A person has looked and lets the database send from here; return whether it had been put back."""
    with context.public(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RELEASE, [by, now])
        released = bool(cursor.rowcount)
        if released:
            # Whatever was claimed in the backup is of another epoch, and so in doubt.
            cursor.execute("DELETE FROM server_epoch")
    if released:
        logger.warning("a database that was put back may send again", extra={"by": by})
    return released


# The table's own number too: pg_restore makes it anew, also in the database where it was.
_HERE = """(
    SELECT concat_ws('/', s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), d.oid,
                     'public.tenants_incarnation'::regclass::oid)
    FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
)"""
_ELSEWHERE = f"SELECT EXISTS (SELECT FROM public.tenants_incarnation WHERE place <> {_HERE})"  # noqa: S608 - a constant
_ADOPT = f"""
INSERT INTO public.tenants_incarnation (id, place, since, by) VALUES (1, {_HERE}, now(), '') ON CONFLICT DO NOTHING
"""  # noqa: S608 - a constant
_RELEASE = f"""
UPDATE public.tenants_incarnation SET place = {_HERE}, by = %s, since = %s WHERE place <> {_HERE}
"""  # noqa: S608 - a constant
