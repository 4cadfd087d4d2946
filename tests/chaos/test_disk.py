"""P1, P3: a disk fills up in mid-send, under the queue or under PostgreSQL's log: sending stops, and goes on by itself
when there is room."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from campaigns import dispatch
from outreach.cluster import Machine
from tests import database
from tests.chaos import scene, server
from tests.chaos.scene import Fleet, Scene, finish, scaled, sent_at_least, wait_for
from tests.chaos.test_faults import ON_THE_WIRE, WORKERS

pytestmark = pytest.mark.timeout(2 * scene.PATIENCE)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of its own, which PostgreSQL may write to and `resize` makes smaller or larger."""
    where = server.place()
    disk = database.VAR / "small"
    disk.mkdir()
    options = f"mode=700,uid={where.uid},gid={where.gid}"
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        disk.rmdir()
        pytest.skip("a disk of its own needs root, who may mount one")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
    disk.rmdir()


def resize(disk: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", disk], check=True)


@pytest.fixture
def disk_of_messages(two_agencies: Scene, disk: Path) -> Iterator[Path]:
    """A disk of eight megabytes that holds the messages of Alpha."""
    resize(disk, 8)
    table = f"{two_agencies.agencies['alpha'].schema_name}.campaigns_message"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        cursor.execute(f"ALTER TABLE {table} SET TABLESPACE small")
    yield disk
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
        cursor.execute("DROP TABLESPACE small")


@pytest.fixture
def disk_of_the_log(two_agencies: Scene, disk: Path) -> Iterator[Path]:
    """A disk of 64 megabytes that holds PostgreSQL's log, none of which may be removed."""
    resize(disk, 64)
    data = server.place().data
    log, before = data / "pg_wal", data / "pg_wal.before"
    server.stop()
    log.rename(before)
    # After a stop in good order it needs no more of its log than this.
    copy(before, disk / "pg_wal", server.needed_of_the_log())
    log.symlink_to(disk / "pg_wal")
    server.start()
    with connection.cursor() as cursor:
        # As for a standby that is down.
        cursor.execute("SELECT pg_create_physical_replication_slot('held', true)")
    yield disk
    server.start()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_drop_replication_slot('held')")
    server.stop()
    log.unlink()
    copy(disk / "pg_wal", log, server.needed_of_the_log())
    shutil.rmtree(before)
    server.start()


def copy(log: Path, to: Path, needed: str) -> None:
    """Copy the folders of PostgreSQL's log, and this one file of it, which keep their owner."""
    to.mkdir(mode=0o700)
    for entry in log.iterdir():
        if entry.is_dir():
            (to / entry.name).mkdir(mode=0o700)
    shutil.copy2(log / needed, to)
    where = server.place()
    for path in (to, *to.iterdir()):
        os.chown(path, where.uid, where.gid)


def test_the_disk_fills_up_in_mid_send(two_agencies: Scene, fleet: Fleet, disk_of_messages: Path) -> None:
    mails = scaled(900, 3_000)
    two_agencies.launch(mails)
    filler = disk_of_messages / "filler"
    with fleet.working(WORKERS):
        sent_at_least(two_agencies, fleet, mails // 5)
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        wait_for(lambda: fleet.failures["DiskFull"] > 0, lambda: f"the disk was full: {fleet.failures}")
        filler.unlink()
        finish(two_agencies, fleet)
        most = fleet.failures.total() * ON_THE_WIRE
        assert two_agencies.findings(now=fleet.now(), doubted_most=most) == []


def test_the_disk_of_the_log_fills_up_in_mid_send(
    two_agencies: Scene, fleet: Fleet, disk_of_the_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = scaled(900, 3_000)
    two_agencies.launch(mails)
    # What watches a machine, here without anything to watch but the database.
    monkeypatch.delenv("DATABASE_URL", raising=False)
    machine = Machine(None, clusters=0, workers=0)
    crashes = server.crashes()
    with fleet.working(WORKERS):
        sent_at_least(two_agencies, fleet, mails // 5)
        with suppress(OperationalError), connection.cursor() as cursor:
            # In small pieces, so that a restart finds no room for what it writes itself.
            cursor.execute(
                "SELECT count(pg_logical_emit_message(false, 'filler', repeat('x', 50))) "
                "FROM generate_series(1, 10000000)"
            )
        wait_for(lambda: not server.runs(), lambda: "PostgreSQL had ended for want of room")
        # In vain.
        machine.look_after()
        assert not server.runs()
        resize(disk_of_the_log, 512)
        wait_for(lambda: bool(machine.look_after() or server.runs()), lambda: "PostgreSQL ran again")
        finish(two_agencies, fleet)
        # A crash loses marks, so what each worker had claimed is in doubt whole.
        most = (server.crashes() - crashes) * WORKERS * 2 * dispatch.BATCH
        assert two_agencies.findings(now=fleet.now(), doubted_most=most) == []
