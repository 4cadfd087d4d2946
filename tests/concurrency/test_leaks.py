"""No thread ever reads another agency's rows, with TENANT_LIMIT_SET_CALLS, with a pool of connections and without.

The same rig finds each leak that is planted in it, or this test would prove nothing.
"""

import json
import subprocess
import sys

import pytest
from django.conf import settings

from campaigns.models import ContactList
from tenants import context
from tenants.models import Agency
from tests.processes import ROOT, environment

# In each of the rig's twelve threads.
OPERATIONS = 150
PROGRAM = f"import django; django.setup(); from tests.concurrency import leak_rig; leak_rig.main({OPERATIONS})"


@pytest.mark.parametrize("role", ["web", "worker"])
def test_no_thread_reads_another_agency_and_every_planted_leak_is_found(
    committed: dict[str, Agency], role: str
) -> None:
    assert settings.TENANT_LIMIT_SET_CALLS, "the setting this test allows"
    for slug, agency in committed.items():
        with context.entered(agency):
            ContactList.objects.create(name=slug)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment(POLZA_ROLE=role),
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    sound, planted = rounds[:2], rounds[2:]
    for tried in sound:
        assert tried["found"] == [], tried
    assert {tried["pool"] for tried in rounds} == {role == "web"}
    assert sound[0]["operations"] == 12 * OPERATIONS
    assert len(planted) >= 7
    assert [tried["round"] for tried in planted if not tried["found"]] == []
