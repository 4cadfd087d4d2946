import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django_tenants.postgresql_backend.base
import tenants.models
from django.db import migrations, models


class Migration(migrations.Migration):
    """django-q2's broker asks by key and lock without an index, the cache needs its table, and a table that PostgreSQL
    empties whenever it crashes tells one stretch of uninterrupted time from the next."""

    replaces = [('tenants', '0001_initial'), ('tenants', '0002_queue_and_cache'), ('tenants', '0003_slug'), ('tenants', '0004_visit'), ('tenants', '0005_optout'), ('tenants', '0006_weight')]

    initial = True

    dependencies = [
        ('django_q', '0019_alter_task_options_alter_ormq_key_alter_ormq_lock_and_more'),
    ]

    operations = [
        migrations.CreateModel(
            name='Agency',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('schema_name', models.CharField(db_index=True, max_length=63, unique=True, validators=[django_tenants.postgresql_backend.base._check_schema_name])),
                ('slug', models.CharField(max_length=31, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z][a-z0-9-]{0,29}[a-z0-9]\\Z', 'Use 2 to 31 small letters, digits and hyphens, with a letter first and no hyphen last: the name becomes part of a host name.')], verbose_name='short name')),
                ('name', models.CharField(max_length=120, verbose_name='name')),
                ('timezone', models.CharField(default='UTC', max_length=64, validators=[tenants.models.known_timezone], verbose_name='time zone')),
                ('language', models.CharField(choices=[('en', 'English'), ('ru', 'Русский')], default='en', max_length=2, verbose_name='language')),
                ('active', models.BooleanField(default=True, help_text='Off stops all sending and signing in.', verbose_name='active')),
                ('ready', models.BooleanField(default=False, editable=False, verbose_name='ready')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('weight', models.PositiveSmallIntegerField(db_default=1, default=1, help_text='Where agencies wait for the same workers, one with 2 gets twice the time of one with 1.', validators=[django.core.validators.MinValueValidator(1)], verbose_name='share of the workers')),
            ],
            options={
                'verbose_name': 'agency',
                'verbose_name_plural': 'agencies',
                'constraints': [models.CheckConstraint(condition=models.Q(('schema_name', 'public'), ('schema_name__regex', '^a_[a-z][a-z0-9_]{1,30}$'), _connector='OR'), name='agency_schema_name_is_ours'), models.CheckConstraint(condition=models.Q(('weight__gt', 0)), name='agency_has_a_share_of_the_workers')],
            },
        ),
        migrations.CreateModel(
            name='Domain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('domain', models.CharField(db_index=True, max_length=253, unique=True, verbose_name='host name')),
                ('is_primary', models.BooleanField(db_index=True, default=True, verbose_name='main')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='domains', to='tenants.agency')),
                ('tracks', models.BooleanField(default=False, help_text="Pixels and links in the agency's mails lead here, and nothing else answers here.", verbose_name='for links in mails')),
            ],
            options={
                'verbose_name': 'host name',
                'verbose_name_plural': 'host names',
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('domain'), name='domain_is_unique_in_any_case')],
            },
        ),
        migrations.CreateModel(
            name='Visit',
            fields=[
                ('agency', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='visit', serialize=False, to='tenants.agency')),
                ('due_at', models.DateTimeField()),
                ('asked', models.PositiveBigIntegerField(default=0)),
            ],
        ),
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
