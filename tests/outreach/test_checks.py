"""Unsafe settings are refused at start, by the name of the setting or variable."""

import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from outreach import checks
from tenants.models import Agency
from tests.processes import ROOT


def found() -> dict[str, Any]:
    return {message.id: message for message in run_checks() if message.id.startswith("polza.")}


def test_the_settings_as_they_are_pass() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("number", "changes", "named"),
    [
        ("001", {"workers": 0}, "workers"),
        ("002", {"queue_limit": settings.WORKERS + 1}, "queue_limit"),
        ("003", {"retry": 2 * 60 * 2 - 1}, "retry"),
        ("003", {"timeout": None}, "timeout"),
        ("004", {"bulk": 10}, "bulk"),
        ("005", {"ack_failures": False}, "ack_failures"),
        ("006", {"max_attempts": 0}, "max_attempts"),
        ("007", {"save_limit": 250}, "save_limit"),
        ("008", {"catch_up": True}, "catch_up"),
        ("009", {"orm": None}, "orm"),
        ("010", {"cache": "default"}, "cache"),
        ("010", {"cache": "nowhere"}, "cache"),
    ],
)
def test_an_unsafe_queue_is_refused(settings: Any, number: str, changes: dict[str, Any], named: str) -> None:
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, **changes}
    error = found()[f"polza.E{number}"]
    assert named in error.msg
    assert error.hint


@pytest.mark.parametrize("name", ["queue_limit", "retry", "bulk", "ack_failures", "max_attempts", "save_limit", "orm"])
def test_the_defaults_of_django_q2_are_refused_too(settings: Any, name: str) -> None:
    settings.Q_CLUSTER = {key: value for key, value in settings.Q_CLUSTER.items() if key != name}
    assert any(f"'{name}'" in error.msg for error in found().values())


@pytest.mark.parametrize(
    ("number", "name", "value"),
    [
        ("020", "TENANT_APPS", [*settings.TENANT_APPS, "django_q"]),
        ("021", "TENANT_APPS", [app for app in settings.TENANT_APPS if app != "django.contrib.sessions"]),
        ("023", "SHOW_PUBLIC_IF_NO_TENANT_FOUND", True),
        ("024", "CACHES", {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}),
        ("030", "SECRET_KEY", "short"),
        ("030", "SECRET_KEY", "a" * 60),
        ("030", "SECRET_KEY", "django-insecure-" + "0123456789" * 5),
        ("031", "SECRETS_KEYS", ["x"]),
        ("031", "SECRETS_KEYS", []),
        ("040", "EMAIL_TIMEOUT", None),
        ("041", "PUBLIC_HOST", "http://mail.example.com"),
    ],
)
def test_an_unsafe_setting_is_refused(settings: Any, number: str, name: str, value: Any) -> None:
    setattr(settings, name, value)
    error = found()[f"polza.E{number}"]
    assert name.split("_")[0] in error.msg
    assert error.hint


def test_dropping_schemas_with_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agency, "auto_drop_schema", True)
    assert "polza.E022" in found()


def test_going_live_with_the_keys_of_this_checkout_is_refused(settings: Any) -> None:
    settings.PUBLIC_HOST, settings.KEYS_ARE_LOCAL = "mail.example.com", True
    assert "SECRET_KEY or SECRETS_KEYS is not" in found()["polza.E032"].msg


@pytest.mark.parametrize("role", ["web", "worker", "command"])
def test_a_pool_of_connections_is_for_the_web_alone(settings: Any, role: str) -> None:
    settings.ROLE = role
    settings.DATABASES["default"]["OPTIONS"]["pool"] = True
    try:
        assert ("polza.E011" in found()) == (role != "web")
    finally:
        del settings.DATABASES["default"]["OPTIONS"]["pool"]


@pytest.mark.parametrize(
    ("number", "name", "value", "refused"),
    [
        ("012", "CONN_MAX_AGE", 0, True),
        ("012", "CONN_MAX_AGE", 600, False),
        ("012", "CONN_MAX_AGE", None, False),
        ("013", "CONN_HEALTH_CHECKS", False, True),
    ],
)
def test_workers_keep_their_connections(
    monkeypatch: pytest.MonkeyPatch, number: str, name: str, value: Any, refused: bool
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], name, value)
    assert (f"polza.E{number}" in found()) == refused


def test_the_web_server_refuses_what_commands_refuse(settings: Any) -> None:
    settings.EMAIL_TIMEOUT = None
    with pytest.raises(ImproperlyConfigured, match=r"polza\.E040: EMAIL_TIMEOUT is not set\. Set a number"):
        checks.refuse()


def test_a_direct_connection_passes_the_probe(alpha: Agency) -> None:
    checks.probe_sessions()
    assert run_checks(databases=["default"], tags=["database"]) == []


def test_one_session_for_two_clients_is_refused(alpha: Agency) -> None:
    class Pooler:
        """What a pooler in transaction mode does: every client speaks to whichever server session is free."""

        def __init__(self, session: "psycopg.Connection[Any]") -> None:
            self.session, self.info, self.execute = session, session.info, session.execute

        def __enter__(self) -> "Pooler":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    session = psycopg.connect(**connection.get_connection_params(), autocommit=True)
    with session, pytest.raises(ImproperlyConfigured, match="pooler in transaction mode"):
        checks.probe_sessions(lambda: Pooler(session))  # type: ignore[arg-type,return-value]


def test_an_old_server_is_refused(alpha: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST_POSTGRESQL", 99)
    with pytest.raises(ImproperlyConfigured, match=r"DATABASE_URL leads to PostgreSQL \d+\. 99 or newer is needed"):
        checks.probe_sessions()


BAD = [
    ({"PORT": "abc"}, "PORT is 'abc'. Write a whole number above zero, such as 8000."),
    ({"PORT": "0"}, "PORT is '0'"),
    ({"WORKERS": "-1"}, "WORKERS is '-1'"),
    ({"DEBUG": "perhaps"}, "DEBUG is 'perhaps'. Write true or false."),
    ({"POLZA_ROLE": "boss"}, "POLZA_ROLE is 'boss'. Write one of web, worker, command."),
    ({"DATABASE_URL": "nonsense"}, "DATABASE_URL does not begin with postgres://."),
    ({"DATABASE_URL": "mysql://u:pa55@h/db"}, "DATABASE_URL does not begin with postgres://."),
    ({"DATABASE_URL": "postgres://u:pa55@h:abc/db"}, "DATABASE_URL cannot be read."),
    ({"DATABASE_URL": "postgres://u:pa55@h/"}, "DATABASE_URL cannot be read."),
    ({"SYSTEM_EMAIL_URL": "nonsense"}, "SYSTEM_EMAIL_URL cannot be read."),
    ({"SECRET_KEY": "", "SECRETS_KEYS": "x"}, "SECRET_KEY is empty"),
    ({"SECRET_KEY": "short"}, "SECRET_KEY is short or guessable"),
    ({"SECRETS_KEYS": "x"}, "SECRETS_KEYS: each entry is an id, a colon and 32 bytes in base64"),
    ({"PUBLIC_SCHEME": "ftp"}, "PUBLIC_SCHEME is 'ftp'. Write one of http, https."),
    ({"PUBLIC_HOST": "mail.example.com"}, "PUBLIC_HOST is set, but SECRET_KEY or SECRETS_KEYS is not."),
    ({"DATABASE_URL": "postgres://u:pa55@h/db?pool=true"}, "DATABASES has a pool of connections"),
]


def test_a_wrong_variable_stops_the_start_with_its_name_and_no_traceback() -> None:
    slow = [start(variables) for variables, _said in BAD]
    for process, (variables, said) in zip(slow, BAD, strict=True):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1, (variables, out, err)
        assert said in err, (variables, err)
        assert "Traceback" not in err, (variables, err)
        assert "pa55" not in out + err, "a password was repeated"


def start(variables: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "django", "check"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "outreach.settings", **variables}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
