from django.db import migrations


class Migration(migrations.Migration):
    """django-q2's broker asks by key and lock without an index, and the cache needs its table."""

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
    ]
