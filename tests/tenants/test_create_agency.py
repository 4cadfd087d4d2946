"""`manage.py create_agency`, in processes of its own."""

import re
import subprocess
import sys

import pytest
from django.contrib.auth import authenticate
from django.test import RequestFactory

from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests.processes import ROOT, environment


def start(*arguments: str, **more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "django", "create_agency", *arguments],
        cwd=ROOT,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.cluster
def test_two_at_once_make_one_whole_agency_and_a_third_changes_nothing(gamma: str) -> None:
    arguments = [gamma, "--name", "Gamma", "--owner", "eve@gamma.test", "--timezone", "Europe/Berlin"]
    both = [start(*arguments) for _ in range(2)]
    answers = [finished(process) for process in both]

    assert [code for code, _out, _err in answers] == [0, 0], answers
    agency = Agency.objects.get(slug=gamma)
    assert (agency.ready, agency.timezone) == (True, "Europe/Berlin")
    assert agency.domains.get().domain == "gamma.localhost"
    passwords = [match[1] for _code, out, _err in answers for match in re.finditer(r"shown only now: (\S+)", out)]
    assert len(passwords) == 1
    with context.entered(agency):
        assert User.objects.get().check_password(passwords[0])
        assert User.objects.get().is_superuser

    code, out, err = finished(start(*arguments, POLZA_OWNER_PASSWORD="another password 1"))
    assert code == 0, err
    assert out.count("was there already") == 3
    assert "another password" not in out
    with context.entered(agency):
        request = RequestFactory().get("/")
        assert authenticate(request, username="eve@gamma.test", password="another password 1") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Gamma", "--name", "Gamma"], "SLUG: Use 2 to 31 small letters"),
        (["gamma", "--name", "Gamma", "--host", "alpha.localhost"], "--host: The host name alpha.localhost leads to"),
        (["gamma", "--name", "Gamma", "--owner", "nobody"], "--owner: Enter a valid email address"),
        (["gamma", "--name", "Gamma", "--timezone", "Mars"], "--timezone: Mars is not a time zone"),
    ],
)
def test_it_says_which_argument_is_wrong(
    committed: dict[str, Agency], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    from django.core.management import CommandError, call_command

    with pytest.raises(CommandError, match=re.escape(said)):
        call_command("create_agency", *arguments)


def test_a_weak_password_is_refused_before_anything_is_made(
    committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.management import CommandError, call_command

    monkeypatch.setenv("POLZA_OWNER_PASSWORD", "short")
    with pytest.raises(CommandError, match="the owner's password: This password is too short"):
        call_command("create_agency", "gamma", "--name", "Gamma", "--owner", "eve@gamma.test")
    assert not Agency.objects.filter(slug="gamma").exists()


def test_it_says_that_a_foreign_host_is_not_allowed_yet(gamma: str, capsys: pytest.CaptureFixture[str]) -> None:
    from django.core.management import call_command

    call_command("create_agency", gamma, "--name", "Gamma", "--host", "mail.gamma.example")
    said = capsys.readouterr()
    assert "Gamma is ready at http://mail.gamma.example:8000/" in said.out
    assert "Add mail.gamma.example to ALLOWED_HOSTS" in said.err
