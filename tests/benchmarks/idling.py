"""What agencies cost that have nothing to send."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection
from django_tenants.utils import schema_exists

from campaigns import jobs as campaigns
from tenants import context, jobs
from tenants.models import Agency
from tests.benchmarks import scene
from tests.benchmarks.ground import Ground, counted
from tests.benchmarks.keys import Values


def calls_per_second(ground: Ground) -> float:
    """Statements a second, once all jobs that wait are done; nothing may be due."""
    seconds, beginning = (3, 0.5) if ground.quick else (65, 10)
    if ground.quick:
        ground.say(
            f"idle_queries_per_s: with --quick over {seconds} s, which the rounds of each minute may miss, and with "
            f"{agencies(ground)} agencies."
        )
    while jobs.waiting():
        time.sleep(0.2)
    time.sleep(beginning)
    with counted(), connection.cursor() as cursor:
        began = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        cursor.execute("SELECT sum(calls) FROM pg_stat_statements")
        calls = cursor.fetchone()[0]
        cursor.execute(_MOST)
        most = "; ".join(f"{count / took:.1f}/s {query}" for query, count in cursor.fetchall())
        ground.say(f"idle_queries_per_s, the most frequent: {most}")
    return float(calls) / took


def agencies(ground: Ground) -> int:
    """How many have nothing due while statements are counted."""
    return 25 if ground.quick else 50


@contextmanager
def tick(ground: Ground) -> Iterator[Callable[[], Values]]:
    """One round of the scheduler's tick over agencies with nothing due."""
    count = agencies(ground) if ground.quick else 500
    if ground.quick:
        ground.say(f"tick_500_agencies_ms: with --quick {500 // count} times a round over {count} agencies.")
    with cloned(count):
        with context.public():
            campaigns.tick()

        def once() -> Values:
            with context.public():
                began = time.monotonic()
                for _ in range(500 // count):
                    campaigns.tick()
                took = time.monotonic() - began
            with counted(), context.public(), connection.cursor() as cursor:
                campaigns.tick()
                cursor.execute("SELECT sum(calls) FROM pg_stat_statements")
                calls = float(cursor.fetchone()[0])
            return {"tick_500_agencies_ms": took * 1000, "statements an agency and tick": calls / count}

        yield once
    scene.clear()


@contextmanager
def cloned(count: int) -> Iterator[None]:
    """So many agencies, Alpha and Beta included: Alpha's tables copied by SQL, empty but for what was migrated.

    Their schemas stay, for whoever asks again, but nobody comes upon them any more.
    """
    alpha = scene.agencies()[0]
    slugs = [f"clone{number}" for number in range(count - 2)]
    with connection.cursor() as cursor:
        for slug in slugs:
            if not schema_exists(Agency.schema_for(slug)):
                cursor.execute(_CLONE.format(source=alpha.schema_name, target=Agency.schema_for(slug)))
    Agency.objects.bulk_create(
        [Agency(slug=slug, schema_name=Agency.schema_for(slug), name=slug, ready=True) for slug in slugs]
    )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            # By SQL, for the model keeps its agencies.
            cursor.execute(
                "DELETE FROM tenants_visit USING tenants_agency a WHERE agency_id = a.id AND slug = ANY(%s)", [slugs]
            )
            cursor.execute("DELETE FROM tenants_agency WHERE slug = ANY(%s)", [slugs])


_CLONE = """
DO $$
DECLARE one text;
BEGIN
    CREATE SCHEMA "{target}";
    FOR one IN
        SELECT tablename FROM pg_tables WHERE schemaname = '{source}'
    LOOP
        EXECUTE format('CREATE TABLE "{target}".%I (LIKE "{source}".%I INCLUDING ALL)', one, one);
    END LOOP;
    INSERT INTO "{target}".django_migrations (app, name, applied)
    SELECT app, name, applied FROM "{source}".django_migrations ORDER BY id;
END $$
"""
_MOST = """
SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 60), calls FROM pg_stat_statements ORDER BY calls DESC LIMIT 6
"""
