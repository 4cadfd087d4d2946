from django.db import migrations


class Migration(migrations.Migration):
    """django-q2's broker asks by key and lock without an index, the cache needs its table, and a table that PostgreSQL
    empties whenever it crashes tells one stretch of uninterrupted time from the next."""

    dependencies = [
        ("tenants", "0001_initial"),
        ("django_q", "0019_alter_task_options_alter_ormq_key_alter_ormq_lock_and_more"),
    ]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX IF NOT EXISTS queue_key_lock ON django_q_ormq (key, lock)",
            "DROP INDEX IF EXISTS queue_key_lock",
        ),
        migrations.RunSQL(
            """
            CREATE TABLE IF NOT EXISTS django_cache (
                cache_key varchar(255) PRIMARY KEY, value text NOT NULL, expires timestamp with time zone NOT NULL
            );
            CREATE INDEX IF NOT EXISTS django_cache_expires ON django_cache (expires);
            """,
            "DROP TABLE IF EXISTS django_cache",
        ),
        migrations.RunSQL(
            """
            CREATE UNLOGGED TABLE IF NOT EXISTS server_epoch (
                only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), value uuid NOT NULL DEFAULT gen_random_uuid()
            )
            """,
            "DROP TABLE IF EXISTS server_epoch",
        ),
    ]
