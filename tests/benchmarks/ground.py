"""A throw-away PostgreSQL with real durability, migrated, with the agencies Alpha and Beta."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

AGENCIES = ("alpha", "beta")


@dataclass
class Ground:
    """Where the database is, and whose CPU seconds are ours."""

    var: Path
    quick: bool
    agencies: tuple[str, ...] = AGENCIES
    notes: list[str] = field(default_factory=list)

    @property
    def postmaster(self) -> int:
        """The process id of PostgreSQL."""
        return int((self.var / "postgres" / "postmaster.pid").read_text().split()[0])

    @property
    def ours(self) -> list[int]:
        """This run's processes: all others are its descendants."""
        return [os.getpid(), self.postmaster]

    def say(self, text: str) -> None:
        """Keep a line for below the table."""
        if text not in self.notes:
            self.notes.append(text)


@contextmanager
def laid(*, quick: bool) -> Iterator[Ground]:
    """Make the ground and remove it again. PostgreSQL can count statements, but does so only when `counted` says so."""
    var = Path(tempfile.mkdtemp(prefix="polza-bench-"))
    # The server may run as another user, who must get in.
    var.chmod(0o755)
    os.environ |= {"POLZA_VAR": str(var), "POLZA_ROLE": "command", "DJANGO_SETTINGS_MODULE": "outreach.settings"}
    os.environ.setdefault("SYSTEM_EMAIL_URL", "memorymail://")
    from outreach import embedded

    server = embedded.start(var)
    try:
        where = embedded.connection_settings(var)
        # Named although it is the default: it outweighs a `.env`, whose database is somebody's real one.
        os.environ["DATABASE_URL"] = (
            f"postgres://{where['USER']}@/{where['NAME']}?host={where['HOST']}&port={where['PORT']}"
        )
        _order(where, "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        server.release()
        server.start()
        _order(where, "ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        _order(where, "ALTER SYSTEM SET pg_stat_statements.track_planning = on")
        _order(where, "SELECT pg_reload_conf()")
        _order(where, "CREATE EXTENSION pg_stat_statements")
        _set_up(var, where)
        yield Ground(var, quick)
    finally:
        _disconnect()
        _throw_away(var)
        server.release()
        shutil.rmtree(var, ignore_errors=True)


def _throw_away(var: Path) -> None:
    """Let the server end without writing down what nobody will read."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((var / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


def _order(where: dict[str, str], statement: str) -> None:
    import psycopg

    with psycopg.connect(
        host=where["HOST"], port=where["PORT"], dbname=where["NAME"], user=where["USER"], autocommit=True
    ) as connection:
        connection.execute(statement.encode())


def _set_up(var: Path, where: dict[str, str]) -> None:
    import django

    django.setup()
    from tenants import provisioning
    from tenants.models import Agency

    provisioning.prepare()
    first, *others = AGENCIES
    provisioning.create_agency(first, first.title())
    # What comes out is the same, and migrating takes seconds.
    dump = _dumped(var, Agency.schema_for(first))
    for slug in others:
        Agency.objects.create(slug=slug, schema_name=Agency.schema_for(slug), name=slug.title())
        _order(where, dump.replace(Agency.schema_for(first), Agency.schema_for(slug)))
        provisioning.create_agency(slug, slug.title())


def _dumped(var: Path, schema: str) -> str:
    """Statements that make this schema with all that is in it."""
    from outreach.embedded import connection_settings, programs
    from outreach.embedded.place import place_of

    place, where = place_of(var), connection_settings(var)
    reach = ["--host", where["HOST"], "--port", where["PORT"], "--username", where["USER"], where["NAME"]]
    found = programs.run(place, [programs.reachable(place) / "pg_dump", "--schema", schema, "--inserts", *reach])
    # What is for psql alone begins so.
    return "\n".join(line for line in found.stdout.splitlines() if not line.startswith("\\"))


@contextmanager
def counted() -> Iterator[None]:
    """Let PostgreSQL count every statement, from zero, in pg_stat_statements."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET pg_stat_statements.track = 'top'")
        cursor.execute("SELECT pg_reload_conf()")
        cursor.execute("SELECT pg_stat_statements_reset()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
            cursor.execute("SELECT pg_reload_conf()")


def _disconnect() -> None:
    from django.apps import apps

    if apps.ready:
        from django.db import connections

        connections.close_all()
