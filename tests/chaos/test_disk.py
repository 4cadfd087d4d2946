"""P1, P3: the disk under the queue fills up in mid-send; sending stops, and goes on by itself when there is room."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connection

from tests import database
from tests.chaos import scene, server
from tests.chaos.scene import Fleet, Scene, finish, scaled, sent_at_least, wait_for
from tests.chaos.test_faults import ON_THE_WIRE, WORKERS

pytestmark = pytest.mark.timeout(2 * scene.PATIENCE)


@pytest.fixture
def small_disk(two_agencies: Scene) -> Iterator[Path]:
    """A disk of eight megabytes that holds the messages of Alpha."""
    place = server.place()
    disk = database.VAR / "small"
    disk.mkdir()
    options = f"size=8m,mode=700,uid={place.uid},gid={place.gid}"
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        disk.rmdir()
        pytest.skip("a disk of its own needs root, who may mount one")
    table = f"{two_agencies.agencies['alpha'].schema_name}.campaigns_message"
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            cursor.execute(f"ALTER TABLE {table} SET TABLESPACE small")
        yield disk
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            cursor.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_the_disk_fills_up_in_mid_send(two_agencies: Scene, fleet: Fleet, small_disk: Path) -> None:
    mails = scaled(900, 3_000)
    two_agencies.launch(mails)
    filler = small_disk / "filler"
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
