"""Contact files that are too large to be taken while somebody waits: judged at once, kept, and taken by a worker."""

import io
import time
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from campaigns import intake
from campaigns.jobs import ring_for_imports, take_file
from campaigns.models import Contact, ContactList, Intake, IntakePart
from outreach import heartbeat
from outreach.models import Heartbeat
from tenants import context, jobs
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests.stage import NOON
from tests.visitor import at, body

FILE = b"email,company\n" + b"".join(b"p%d@people.example,Works\n" % number for number in range(40)) + b"nobody,Works\n"


@pytest.fixture(autouse=True)
def no_file_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "AT_ONCE_BYTES", 100)
    monkeypatch.setattr(intake, "_PART_BYTES", 300)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The jobs that were asked for."""
    found: list[Any] = []
    monkeypatch.setattr(jobs, "enqueue", lambda *asked: found.append(asked))
    return found


def upload(content: bytes = FILE) -> SimpleUploadedFile:
    return SimpleUploadedFile("people.csv", content)


def test_a_large_file_is_taken_by_a_worker_and_its_page_tells_how_far_it_is(
    alpha: Agency, beta: Agency, carol: User, rung: list[Any]
) -> None:
    carols = at(alpha, carol)
    answer = carols.post("/contacts/", {"file": upload(), "new_list": "Spring"})
    with context.entered(alpha):
        one = Intake.objects.get()
        assert (one.status, one.parts.count(), Contact.objects.count()) == ("waiting", -(-len(FILE) // 300), 0)
        assert rung == [(take_file, one.pk)]
        Intake.objects.update(status="running", looked_at=12_000)
    assert answer.url == f"/contacts/imports/{one.pk}/"
    page = body(carols.get(answer.url))
    assert "12,000" in page
    assert 'hx-trigger="every 2s"' in page
    assert "HX-Refresh" not in carols.get(answer.url, headers={"hx-request": "true"})

    # Whoever began with it is dead: the minute's work rings again.
    with context.entered(alpha):
        assert ring_for_imports()
        assert rung[1:] == [(take_file, one.pk)]
        for _twice in range(2):
            intake.take(one.pk, now=NOON)
        one.refresh_from_db()
        assert (one.status, one.rows, one.accepted, one.rejected, one.tries) == ("done", 41, 40, 1, 1)
        assert Contact.objects.count() == 40
        assert not IntakePart.objects.exists()
        assert not ring_for_imports()
    assert carols.get(answer.url, headers={"hx-request": "true"})["HX-Refresh"] == "true"
    assert "40 of 41 rows accepted" in body(carols.get(answer.url))


def test_the_api_answers_202_and_tells_how_far_it_is(
    alpha: Agency, beta: Agency, carol: User, oscar: User, rung: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with context.entered(alpha):
        key = {"authorization": f"Bearer {keys.issue(carol, 'program')}"}
        people = ContactList.objects.create(name="Spring")
    with context.entered(beta):
        others = {"authorization": f"Bearer {keys.issue(oscar, 'program')}"}
    programs = at(alpha)
    given = programs.post("/api/v1/imports/", {"file": upload(), "list": people.pk}, headers=key)
    assert (given.status_code, given.json()["status"]) == (202, "waiting")
    pk = given.json()["id"]
    assert rung == [(take_file, pk)]
    with context.entered(alpha):
        intake.take(pk, now=NOON)
    told = programs.get(f"/api/v1/imports/{pk}/", headers=key).json()
    assert (told["status"], told["rows"], told["accepted"], told["rejected"]) == ("done", 41, 40, 1)
    assert programs.get("/api/v1/imports/", headers=key).json()["results"] == [told]
    assert at(beta).get(f"/api/v1/imports/{pk}/", headers=others).status_code == 404
    assert at(beta).post("/api/v1/imports/", {"file": upload(), "list": 10**12}, headers=others).status_code == 400

    monkeypatch.setattr(intake, "AT_ONCE_BYTES", len(FILE))
    given = programs.post("/api/v1/imports/", {"file": upload(), "list": people.pk}, headers=key)
    assert (given.status_code, given.json()["status"]) == (201, "done")
    refused = programs.post("/api/v1/imports/", {"file": upload(b"name\nAnn\n"), "new_list": "x"}, headers=key)
    assert (refused.status_code, "file" in str(refused.json())) == (400, True)


def test_a_file_without_contacts_is_refused_before_it_is_kept(alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        into = ContactList.objects.create(name="Spring")
        with pytest.raises(intake.IntakeRefused, match="None of the first 100 rows is a contact"):
            intake.receive(io.BytesIO(b"email\n" + b"nobody\n" * 300), file_name="a.csv", into=into, now=NOON)
        assert Intake.objects.get().status == "failed"
        assert not IntakePart.objects.exists()


def test_a_file_that_ends_its_workers_is_given_up(alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        into = ContactList.objects.create(name="Spring")
        one = intake.receive(io.BytesIO(FILE), file_name="a.csv", into=into, now=NOON)
        Intake.objects.update(status="running", tries=3)
        intake.take(one.pk, now=NOON)
        one.refresh_from_db()
        assert (one.status, Contact.objects.count(), one.parts.count()) == ("failed", 0, 0)
        assert "Three workers ended" in one.problem


def test_two_workers_do_not_take_one_file(alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        into = ContactList.objects.create(name="Spring")
        one = intake.receive(io.BytesIO(FILE), file_name="a.csv", into=into, now=NOON)
        # The other worker is another connection.
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                key = f"intake {alpha.schema_name} {one.pk}"
                cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
                intake.take(one.pk, now=NOON)
        finally:
            other.close()
        one.refresh_from_db()
        assert (one.status, one.tries) == ("waiting", 0)


def test_a_long_job_gives_signs_of_life_and_has_its_own_time(
    alpha: Agency, beta: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []

    def hear(running: bool, **_: Any) -> None:
        said.append(running)

    asked: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "async_task", lambda *_args, **options: asked.update(options))
    with context.entered(alpha):
        jobs.enqueue(take_file, 1)
    assert asked["timeout"] == 500

    monkeypatch.setattr(jobs, "_STILL_RUNNING_SECONDS", 0.01)
    monkeypatch.setitem(jobs._known, "campaigns.jobs.take_file", lambda _pk: _until(lambda: len(said) > 3))
    jobs.ran.disconnect(dispatch_uid="outreach.heartbeat")
    jobs.ran.connect(hear)
    try:
        jobs.run("campaigns.jobs.take_file", alpha.schema_name, 1)
    finally:
        jobs.ran.disconnect(hear)
        heartbeat.listen()
    assert said[-1] is False
    assert said.count(True) > 3
    assert not Heartbeat.objects.exists()


def _until(true: Any) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
