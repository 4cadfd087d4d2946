"""Refuse unsafe settings at start.

Most are traps of django-q2 and django-tenants that lose or repeat work, or show one agency's data to another, and
that no error would report later.
"""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection

OLDEST_POSTGRESQL = 14
# Below this a worker connects anew for nearly every poll and job.
SHORTEST_CONNECTION = 60
SECRET_KEY_LENGTH = 50
# Enough for a pooler that hands the two clients one server connection, in whatever order.
PROBES = 50

Findings = list[checks.CheckMessage]


def register_all() -> None:
    """Let every command that checks the project run these first."""
    for check in (check_queue, check_connections, check_tenancy, check_keys, check_mail, check_hosts, check_hooks):
        checks.register(check)
    checks.register(check_server, checks.Tags.database)


def refuse() -> None:
    """Run the checks where no command does it for us, as in a web server; raises ImproperlyConfigured."""
    found = [message for message in checks.run_checks() if message.is_serious()]
    if found:
        raise ImproperlyConfigured("\n".join(f"{message.id}: {message.msg} {message.hint}" for message in found))


def check_queue(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """django-q2 claims more than it works on, counts wrongly and replays by default."""
    q: dict[str, Any] = settings.Q_CLUSTER
    workers = q.get("workers") or 0
    limit = q.get("queue_limit", workers**2)
    timeout, retry = q.get("timeout") or 0, q.get("retry") or 0
    found: Findings = []
    if workers < 1:
        found.append(_error(1, "Q_CLUSTER['workers'] is below 1.", "Set WORKERS to a number of processes."))
    elif limit > workers:
        hint = "Set queue_limit to the number of workers: what waits in a worker's queue runs twice."
        found.append(_error(2, f"Q_CLUSTER['queue_limit'] is {limit}, more than the {workers} workers.", hint))
    needed = 2 * timeout * (1 + limit / max(workers, 1))
    if not timeout or retry < needed:
        hint = f"Set a timeout, and retry to {needed:.0f} or more: 2 × timeout × (1 + queue_limit / workers)."
        found.append(_error(3, f"Q_CLUSTER['retry'] is {retry} with a timeout of {timeout}.", hint))
    for number, name, wanted, why in (
        (4, "bulk", 1, "more are claimed at once than can be begun"),
        (5, "ack_failures", True, "a failed job would come back every `retry` seconds"),
        (6, "max_attempts", 1, "retrying is ours, and is counted in our rows"),
        (7, "save_limit", -1, "every finished job would lock all rows of finished jobs"),
        (8, "catch_up", False, "after a pause every missed run would be made up for"),
        (9, "orm", "default", "the queue is in the database of the public schema"),
    ):
        if q.get(name) is not wanted and q.get(name) != wanted:
            found.append(_error(number, f"Q_CLUSTER['{name}'] is {q.get(name)!r}.", f"Set {wanted!r}: else {why}."))
    cache = settings.CACHES.get(q.get("cache", "default"), {}).get("BACKEND", "")
    if not cache or cache.endswith("DatabaseCache"):
        hint = "Name a cache in memory (CACHES['local']): each cluster writes its state twice a second."
        found.append(_error(10, f"Q_CLUSTER['cache'] is {q.get('cache', 'default')!r}.", hint))
    return found


def check_connections(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """django-q2 forks, which a pool of connections does not survive, and connects for every poll."""
    found: Findings = []
    database: dict[str, Any] = settings.DATABASES["default"]
    if settings.ROLE == "web":
        return found
    if database.get("OPTIONS", {}).get("pool"):
        hint = "Take `pool` out of DATABASE_URL, or set POLZA_ROLE=web if this process serves pages."
        found.append(_error(11, f"DATABASES has a pool of connections in the role {settings.ROLE!r}.", hint))
    age = database.get("CONN_MAX_AGE", 0)
    if age is not None and age < SHORTEST_CONNECTION:
        hint = f"Set CONN_MAX_AGE to {SHORTEST_CONNECTION} or more (600 is ours; DATABASE_URL may override it)."
        found.append(_error(12, f"DATABASES['default']['CONN_MAX_AGE'] is {age!r}.", hint))
    if not database.get("CONN_HEALTH_CHECKS"):
        hint = "Set CONN_HEALTH_CHECKS, or a restart of PostgreSQL fails the next job of every worker."
        found.append(_error(13, "DATABASES['default']['CONN_HEALTH_CHECKS'] is off.", hint))
    return found


def check_tenancy(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """What keeps agencies apart."""
    from tenants.models import Agency

    found: Findings = []
    if "django_q" in settings.TENANT_APPS or "django_q" not in settings.SHARED_APPS:
        hint = "Keep it in SHARED_APPS alone: a queue in an agency's schema is read by no worker."
        found.append(_error(20, "TENANT_APPS has django_q, or SHARED_APPS has not.", hint))
    if "django.contrib.sessions" not in settings.TENANT_APPS:
        hint = "Add django.contrib.sessions: else one agency's cookie is good for all others."
        found.append(_error(21, "TENANT_APPS has no sessions.", hint))
    if Agency.auto_drop_schema:
        hint = "Keep it off: deleting a row would drop a schema, even the public one."
        found.append(_error(22, "Agency.auto_drop_schema is on.", hint))
    if getattr(settings, "SHOW_PUBLIC_IF_NO_TENANT_FOUND", False):
        hint = "Remove it: the operator's site would answer on every host name."
        found.append(_error(23, "SHOW_PUBLIC_IF_NO_TENANT_FOUND is on.", hint))
    if settings.CACHES["default"].get("KEY_FUNCTION") != "django_tenants.cache.make_key":
        hint = "Set django_tenants.cache.make_key: else agencies read each other's cached values."
        found.append(_error(24, "CACHES['default']['KEY_FUNCTION'] does not name the schema.", hint))
    return found


def check_keys(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """The key that signs and the keys that encrypt."""
    from providers.accounts.secrets import parse_keys

    found: Findings = []
    secret = settings.SECRET_KEY
    if len(secret) < SECRET_KEY_LENGTH or len(set(secret)) < 10 or secret.startswith("django-insecure"):
        hint = f"Set it to {SECRET_KEY_LENGTH} random characters or more, such as: openssl rand -base64 48"
        found.append(_error(30, "SECRET_KEY is short or guessable: it signs sessions and queue rows.", hint))
    try:
        parse_keys(tuple(settings.SECRETS_KEYS))
    except ImproperlyConfigured as error:
        hint = "Set SECRETS_KEYS to an id, a colon and the output of: openssl rand -base64 32"
        found.append(_error(31, str(error), hint))
    if settings.KEYS_ARE_LOCAL and settings.PUBLIC_HOST != "localhost":
        hint = "Set both, the same on every machine, and keep them apart from the backups of the database."
        found.append(_error(32, "PUBLIC_HOST is set, but SECRET_KEY or SECRETS_KEYS is not.", hint))
    return found


def check_mail(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """A mail server that does not answer must not hold a process for ever."""
    if settings.EMAIL_TIMEOUT:
        return []
    return [_error(40, "EMAIL_TIMEOUT is not set.", "Set a number of seconds, such as 20.")]


def check_hosts(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """The public host is a name, to which others are put in front; the bounce domain goes into every envelope."""
    from tenants.models import HOST

    found: Findings = []
    for number, name in ((41, "PUBLIC_HOST"), (42, "BOUNCE_DOMAIN")):
        value = getattr(settings, name)
        if not value and name == "BOUNCE_DOMAIN":
            continue
        try:
            HOST(value)
        except ValidationError as error:
            found.append(_error(number, f"{name} is {value!r}.", " ".join(error.messages)))
    return found


def check_hooks(app_configs: Sequence[AppConfig] | None, **_: Any) -> Findings:
    """Where others can sign in, what they write must lead to nothing inside."""
    if settings.HOOKS_INSIDE and settings.PUBLIC_HOST != "localhost":
        hint = "Take HOOKS_INSIDE out: anybody who signs in could make this host post to its own services."
        return [_error(43, f"HOOKS_INSIDE is on at {settings.PUBLIC_HOST}.", hint)]
    return []


def check_server(app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any) -> Findings:
    """The database server, for commands that use one."""
    if not databases:
        return []
    try:
        probe_sessions()
    except ImproperlyConfigured as error:
        return [_error(50, str(error), "Change DATABASE_URL.")]
    return []


def probe_sessions(connect: Callable[[], "psycopg.Connection[Any]"] | None = None) -> None:
    """Refuse a server that is too old, and a pooler that gives one session to two clients.

    Through such a pooler (PgBouncer in transaction mode) a query reads whichever agency another client entered last.
    Raises ImproperlyConfigured; a server that does not answer raises psycopg.OperationalError.
    """
    connect = connect or _connect
    with connect() as one, connect() as other:
        version = one.info.server_version // 10_000
        if version < OLDEST_POSTGRESQL:
            raise ImproperlyConfigured(
                f"DATABASE_URL leads to PostgreSQL {version}. {OLDEST_POSTGRESQL} or newer is needed."
            )
        clients = {"one": one, "other": other}
        for name, client in clients.items():
            client.execute("SELECT set_config('polza.probe', %s, false)", [name])
        for turn in range(PROBES):
            name = ("one", "other")[turn % 2]
            row = clients[name].execute("SELECT current_setting('polza.probe', true)").fetchone()
            if row is None or row[0] != name:
                raise ImproperlyConfigured(
                    "DATABASE_URL leads to a pooler in transaction mode: agencies would read each other's data. "
                    "Use its session mode, or connect to PostgreSQL itself."
                )


def _connect() -> "psycopg.Connection[Any]":
    return psycopg.connect(**connection.get_connection_params(), autocommit=True)


def _error(number: int, trouble: str, hint: str) -> checks.CheckMessage:
    return checks.Error(trouble, hint=hint, id=f"polza.E{number:03}")
