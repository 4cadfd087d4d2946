"""The ground to measure on: a throw-away PostgreSQL with real durability, migrated, with the agencies Alpha and Beta."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
def laid(*, quick: bool, preload: str = "") -> Iterator[Ground]:
    """Make the ground and remove it again. `preload` names a library that PostgreSQL loads at its start."""
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
        if preload:
            _preload(where, preload)
            server.release()
            server.start()
        _set_up()
        yield Ground(var, quick)
    finally:
        _disconnect()
        server.release()
        shutil.rmtree(var, ignore_errors=True)


def _preload(where: dict[str, str], library: str) -> None:
    import psycopg

    with psycopg.connect(
        host=where["HOST"], port=where["PORT"], dbname=where["NAME"], user=where["USER"], autocommit=True
    ) as connection:
        connection.execute(f"ALTER SYSTEM SET shared_preload_libraries = '{library}'".encode())


def _set_up() -> None:
    import django

    django.setup()
    from tenants import provisioning

    provisioning.prepare()
    for slug in AGENCIES:
        provisioning.create_agency(slug, slug.title())


def _disconnect() -> None:
    from django.apps import apps

    if apps.ready:
        from django.db import connections

        connections.close_all()
