"""Unsafe settings are refused at start, by the name of the setting or variable."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from outreach import checks
from outreach.environment import Environment
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
        ("042", "BOUNCE_DOMAIN", "b@bounces.example.com"),
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


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (lambda env: env.int("X", 8000), "abc", "X is 'abc'. Write a whole number above zero, such as 8000."),
        (lambda env: env.int("X", 8000), "0", "X is '0'."),
        (lambda env: env.int("X", 8000), "-1", "X is '-1'."),
        (lambda env: env.int("X", 8000), "", "X is ''."),
        (lambda env: env.bool("X", False), "perhaps", "X is 'perhaps'. Write true or false."),
        (lambda env: env.choice("X", "a", ("a", "b")), "c", "X is 'c'. Write one of a, b."),
        (lambda env: env.text("X", "a"), "", "X is empty"),
        (lambda env: env.text("X", ""), "$OTHER", "X is empty (a value that begins with $"),
        (lambda env: env.db("X", "e"), "nonsense", "X does not begin with postgres://."),
        (lambda env: env.db("X", "e"), "mysql://u:pa55@h/db", "X does not begin with postgres://."),
        (lambda env: env.db("X", "e"), "postgres://u:pa55@h:abc/db", "X cannot be read."),
        (lambda env: env.db("X", "e"), "postgres://u:pa55@h/", "X cannot be read."),
        (lambda env: env.email("X", "consolemail://"), "nonsense", "X cannot be read."),
        (lambda env: env.email("X", "consolemail://"), "smtp://u:pa55@h:abc", "X cannot be read."),
    ],
)
def test_a_wrong_value_stops_the_start_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[Environment], Any], value: str, said: str
) -> None:
    monkeypatch.setenv("X", value)
    with pytest.raises(SystemExit) as stopped:
        read(Environment())
    assert f"Settings: {said}" in str(stopped.value)
    assert "pa55" not in str(stopped.value), "a password was repeated"


def test_right_values_and_defaults_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Environment()
    assert (env.int("X", 7), env.bool("X", True), env.bool("X", False), env.text("X", "a")) == (7, True, False, "a")
    monkeypatch.setenv("X", "1")
    assert (env.int("X", 7), env.bool("X", False), env.text("X", "a")) == (1, True, "1")
    monkeypatch.setenv("X", "postgres://u:pa55@h:5433/db?sslmode=require")
    assert env.db("X", "e") == {
        "ENGINE": "e",
        "NAME": "db",
        "USER": "u",
        "PASSWORD": "pa55",
        "HOST": "h",
        "PORT": 5433,
        "OPTIONS": {"sslmode": "require"},
    }


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PORT": "abc"}, ["Settings: PORT is 'abc'"]),
        ({"DATABASE_URL": "nonsense"}, ["Settings: DATABASE_URL does not begin with postgres://"]),
        (
            {"SECRETS_KEYS": "x", "SECRET_KEY": "short", "DATABASE_URL": "postgres://u:pa55@h/db?pool=true"},
            ["SECRETS_KEYS: each entry is an id", "SECRET_KEY is short or guessable", "has a pool of connections"],
        ),
    ],
)
def test_no_command_starts_with_wrong_variables_and_none_shows_a_traceback(
    variables: dict[str, str], said: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "outreach.settings", **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert [text for text in said if text not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert "pa55" not in done.stdout + done.stderr


def test_where_others_sign_in_nothing_inside_is_posted_to(settings: Any) -> None:
    settings.HOOKS_INSIDE, settings.PUBLIC_HOST = True, "outreach.example.com"
    settings.KEYS_ARE_LOCAL = False
    assert set(found()) == {"polza.E043"}
    settings.HOOKS_INSIDE = False
    assert found() == {}
