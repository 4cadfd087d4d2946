"""Real django-q2 clusters under the machine's watch."""

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone

from campaigns import control, jobs, launch, progress
from campaigns.models import Campaign, Message
from outreach import heartbeat, marks, schedules
from outreach.cluster import Child, Machine
from outreach.models import Replacement
from providers.accounts import turns
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.jobs import enqueue
from tenants.models import Agency
from tests import processes, stage
from tests.chaos import scene, server
from tests.chaos.scene import Scene, scaled, shares, wait_for
from tests.chaos.test_faults import ON_THE_WIRE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(max(180, 2 * scene.PATIENCE))]
CLUSTERS = 2


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def machine(committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Two clusters of one worker on the test database, watched closely."""
    for name, value in processes.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "CANARY_EVERY_SECONDS", 1)
    monkeypatch.setattr(settings, "FROZEN_AFTER_SECONDS", 12)
    with Machine(None, clusters=CLUSTERS, workers=1, stop_seconds=20) as running:
        yield running


def watched(machine: Machine, done: Callable[[], bool], seconds: float = 60) -> bool:
    """Let the machine look after itself until something is so; return whether it became so in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        machine.look_after()
        if done():
            return True
        time.sleep(0.3)
    return False


def beating(machine: Machine) -> bool:
    """Whether every cluster has run a job lately."""
    return len(heartbeat.silent_for([child.name for child in machine.children])) == len(machine.children)


def campaign_for(agency: Agency, count: int) -> Campaign:
    with context.entered(agency):
        campaign = stage.campaign(stage.contact_list(agency.slug, count), distribution="even")
        launch.launch(campaign, now=timezone.now())
    return campaign


def finished(agency: Agency, campaign: Campaign) -> bool:
    with context.entered(agency):
        control.finish_done(now=timezone.now())
        campaign.refresh_from_db()
        return campaign.status == Campaign.Status.FINISHED


def test_workers_send_for_both_agencies_and_a_lost_queue_costs_only_time(
    machine: Machine, committed: dict[str, Agency], sandbox: Sandbox
) -> None:
    accounts = stage.accounts(sandbox)
    campaigns = {}
    for slug, agency in committed.items():
        stage.allot(agency, *accounts.values(), senders=20)
        campaigns[slug] = campaign_for(agency, 90 if slug == "alpha" else 30)
        with context.entered(agency):
            jobs.ring()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_q_ormq, django_q_schedule, django_q_task")
    machine._planned_at = 0.0
    machine.look_after()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_q_schedule")
        assert cursor.fetchone()[0] == len(schedules.SCHEDULES)
    # The schedule rings within a minute; the test does not wait for it.
    enqueue(jobs.tick)
    assert watched(machine, lambda: all(finished(committed[slug], one) for slug, one in campaigns.items()))
    for slug, campaign in campaigns.items():
        with context.entered(committed[slug]):
            report = progress.progress(campaign, now=timezone.now())
            assert report.sent == report.total
    seen = sandbox.snapshot()
    assert (seen["distinct_recipients"], seen["duplicates"]) == (120, 0)


def test_a_frozen_cluster_is_replaced(machine: Machine) -> None:
    assert watched(machine, lambda: beating(machine))
    victim = machine.children[0]
    assert victim.process is not None
    old = victim.process.pid
    # Frozen, not dead: every process of the group is still there.
    os.killpg(old, signal.SIGSTOP)
    assert watched(machine, lambda: victim.process is not None and victim.process.pid != old)
    assert not psutil.pid_exists(old)
    assert watched(machine, lambda: beating(machine))


def test_no_worker_outlives_its_machine(machine: Machine) -> None:
    assert watched(machine, lambda: beating(machine))
    child = machine.children[0]
    assert child.process is not None
    family = [psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children(recursive=True)]
    assert len(family) >= 4
    child.process.kill()
    child.process.wait()
    _gone, alive = psutil.wait_procs(family[1:], timeout=10)
    assert alive == []


def test_the_server_for_mail_that_comes_back_runs_with_the_rest_and_is_started_again(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    ours = {"BOUNCE_DOMAIN": "bounces.example.com", "INBOUND_DOMAINS": "", "INBOUND_PORT": str(port)}
    for name, value in {**processes.environment(), **ours}.items():
        monkeypatch.setenv(name, value)
    with Machine(None, clusters=0, workers=1, stop_seconds=20, inbound=True) as machine:
        assert watched(machine, lambda: greeting(port).startswith(b"220 bounces.example.com"))
        child = machine.children[0]
        assert child.process is not None
        child.process.kill()
        child.process.wait()
        assert greeting(port) == b""
        assert watched(machine, lambda: greeting(port).startswith(b"220 "))


def greeting(port: int) -> bytes:
    """What a mail server on this port says first; nothing where there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            return line.recv(200)
    except OSError:
        return b""


def test_a_mail_waits_for_a_slice_or_two_of_a_neighbour_with_more_than_the_workers_can_send(
    machine: Machine, committed: dict[str, Agency], sandbox: Sandbox
) -> None:
    """Counted in the neighbour's mails, which the wire paces and not the machine: five a second and worker."""
    sandbox.script("smtp=slow:0.1")
    near = stage.accounts(sandbox)["smtp"]
    near.options["connections"] = 1
    near.save(update_fields=["options"])
    far = Account.objects.create(
        name="far", kind="smtp", credentials=near.credentials, options=near.options, traffic_classes=["bulk"]
    )
    alpha, beta = committed["alpha"], committed["beta"]
    stage.allot(alpha, near, far, senders=20, per_day=1000)
    stage.allot(beta, near, senders=20, per_day=1000)

    def sent(agency: Agency) -> int:
        with context.entered(agency):
            return Message.objects.filter(status="sent").count()

    campaign_for(alpha, 1000)
    with context.entered(alpha):
        jobs.ring()
    # One cluster may have fetched all that was rung for, so once more; both workers are busy when no turn waits.
    for _ in range(4):
        enqueue(jobs.serve)
    assert watched(machine, lambda: sent(alpha) >= 20 and turns.waiting() == 0)
    campaign_for(beta, 1)
    before = sent(alpha)
    enqueue(jobs.tick)
    assert watched(machine, lambda: sent(beta) == 1)
    assert sent(alpha) - before <= 45


def test_a_database_that_has_gone_is_started_again(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop("immediate")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    Machine(None, clusters=0, workers=0).look_after()
    assert server.runs()
    # It replays its log for as long as that takes, and is left to it.
    wait_for(answers, lambda: "the database answered again")


def answers() -> bool:
    """Whether the database takes connections."""
    connection.close()
    with suppress(OperationalError):
        connection.ensure_connection()
        return True
    return False


def test_both_clusters_are_killed_whole_in_mid_send(machine: Machine, two_agencies: Scene) -> None:
    mails, kills = scaled(300, 5_000), scaled(1, 10)
    two_agencies.launch(mails)
    ring(two_agencies)

    def sent(count: int) -> None:
        wait_for(lambda: two_agencies.statuses()["sent"] >= count, lambda: f"{count} of {mails} were sent")

    for count in shares(mails, kills):
        sent(count)
        for child in machine.children:
            assert child.process is not None
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        machine.look_after()
        # As if the leases of the dead had ended, and the minute's work had come.
        two_agencies.rescue(now=timezone.now() + settings.LEASE)
        ring(two_agencies)
    wait_for(
        lambda: not {"scheduled", "claimed"} & set(two_agencies.statuses()),
        lambda: f"everything was sent, and is {two_agencies.statuses()}",
    )
    assert two_agencies.findings(now=timezone.now(), doubted_most=kills * CLUSTERS * ON_THE_WIRE) == []


def ring(found: Scene) -> None:
    """Let the workers know of the mails of all."""
    for agency in found.agencies.values():
        with context.entered(agency):
            jobs.ring()


@pytest.fixture
def pair(committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """One cluster of two workers, so that the one who works keeps the cluster's heart beating."""
    for name, value in processes.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "CANARY_EVERY_SECONDS", 1)
    monkeypatch.setattr(settings, "FROZEN_AFTER_SECONDS", 12)
    with Machine(None, clusters=1, workers=2, stop_seconds=20) as running:
        assert watched(running, lambda: set(parts(running)) == {"worker", "guard", "monitor"})
        yield running


def parts(machine: Machine) -> dict[str, list[int]]:
    """The processes of the one cluster that leave marks, by what they are."""
    child = machine.children[0]
    assert child.marks is not None
    found: dict[str, list[int]] = {}
    for mark in marks.read(child.marks):
        found.setdefault(mark.part, []).append(mark.pid)
    return found


def replaced() -> list[tuple[str, int]]:
    return list(Replacement.objects.order_by("at").values_list("part", "process"))


def test_live_workers_finish_what_they_have_before_their_cluster_is_replaced(
    pair: Machine, committed: dict[str, Agency], sandbox: Sandbox
) -> None:
    """A silent scheduler puts no mail in doubt: none is left with a worker who is gone, so all of them are sent."""
    sandbox.script("smtp=slow:0.3")
    smtp = stage.accounts(sandbox)["smtp"]
    smtp.options["connections"] = 1
    smtp.save(update_fields=["options"])
    # One mail after another, three a second and agency: there are some on the wire for longer than a silent one lives.
    mails = 5 * settings.FROZEN_AFTER_SECONDS
    for agency in committed.values():
        stage.allot(agency, smtp, senders=20, per_day=1000)
        campaign_for(agency, mails)

    def states() -> set[str]:
        return {state for agency in committed.values() for state in statuses(agency)}

    def statuses(agency: Agency) -> dict[str, int]:
        with context.entered(agency):
            return stage.statuses(Campaign.objects.get())

    def rung() -> None:
        for agency in committed.values():
            with context.entered(agency):
                jobs.ring()

    rung()
    assert watched(pair, lambda: all(statuses(agency).get("sent", 0) >= 3 for agency in committed.values()))
    os.kill(parts(pair)["guard"][0], signal.SIGSTOP)
    assert watched(pair, lambda: bool(replaced()))
    assert "scheduled" in states()
    rung()
    assert watched(pair, lambda: states() == {"sent"}, scene.PATIENCE * 2)
    seen = sandbox.snapshot()
    assert (seen["distinct_recipients"], seen["duplicates"]) == (len(committed) * mails, 0)


@pytest.mark.parametrize("part", ["worker", "guard", "monitor"])
def test_a_stopped_process_beside_live_ones_is_replaced_and_reported(
    part: str, pair: Machine, two_agencies: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    two_agencies.script("smtp=slow:0.3", "resend=slow:0.3", "sendgrid=slow:0.3")
    two_agencies.launch(scaled(200, 400))
    ring(two_agencies)
    assert watched(pair, lambda: two_agencies.statuses()["sent"] >= 50)
    victim = parts(pair)[part][0]
    others = [psutil.Process(pid) for pids in parts(pair).values() for pid in pids if pid != victim]
    os.kill(victim, signal.SIGSTOP)
    assert watched(pair, lambda: bool(replaced()))
    assert replaced() == [(part, victim)]
    assert f"the {part} (process {victim}) gave no sign of life" in caplog.text
    # Only a worker can be taken out of a cluster; the others finish what they have in their hands before it ends.
    gone, alive = psutil.wait_procs(others, timeout=0 if part == "worker" else 10)
    assert len(alive if part == "worker" else gone) == len(others)
    assert watched(pair, lambda: len(set(parts(pair).get("worker", [])) - {victim}) == 2)
    # As if the leases of the dead had ended, and the minute's work had come.
    two_agencies.rescue(now=timezone.now() + settings.LEASE)
    ring(two_agencies)
    assert watched(pair, lambda: not {"scheduled", "claimed"} & set(two_agencies.statuses()), scene.PATIENCE * 2)
    doubted = ON_THE_WIRE if part == "worker" else 0
    assert two_agencies.findings(now=timezone.now(), doubted_most=doubted) == []
    assert replaced() == [(part, victim)]


def test_a_worker_whose_mail_takes_long_is_left_alone(
    pair: Machine, committed: dict[str, Agency], sandbox: Sandbox
) -> None:
    # Longer than a silent one may live here, shorter than a wire waits for an answer.
    sandbox.script(f"smtp=slow:{settings.FROZEN_AFTER_SECONDS + 6}")
    smtp = stage.accounts(sandbox)["smtp"]
    stage.allot(committed["alpha"], smtp)
    campaign = campaign_for(committed["alpha"], 1)
    before = parts(pair)
    with context.entered(committed["alpha"]):
        jobs.ring()
    assert watched(pair, lambda: finished(committed["alpha"], campaign))
    assert (replaced(), parts(pair)) == ([], before)
    assert (sandbox.snapshot()["distinct_recipients"], sandbox.snapshot()["duplicates"]) == (1, 0)


def test_a_watcher_who_was_away_gives_everybody_the_whole_time_again(
    committed: dict[str, Agency], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "FROZEN_AFTER_SECONDS", 12)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        mark = tmp_path / f"worker.{process.pid}"
        mark.write_bytes(struct.pack("d", time.monotonic() - 60))
        machine = Machine(None, clusters=0, workers=0)
        machine.children.append(Child("one", [], {}, watched=False, process=process, marks=tmp_path))
        machine.look_after()
        assert process.poll() is None
        machine._awake_since -= 30
        machine.look_after()
        assert process.wait(10) == -signal.SIGKILL
    assert (replaced(), mark.exists()) == ([("worker", process.pid)], False)


def test_a_job_that_outlives_its_time_out_is_no_sign_of_life() -> None:
    longest = settings.Q_CLUSTER["timeout"] + marks.GRACE_SECONDS
    assert [marks.stuck(began, 1000.0) for began in (None, 1000.0 - longest, 999.0 - longest)] == [False, False, True]
