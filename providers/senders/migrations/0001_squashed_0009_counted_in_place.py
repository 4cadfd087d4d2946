import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.db import migrations, models


# Each batch of mails changes these rows again: with room beside each its next version goes there, and into no index.
TABLES = ("senders_sender", "senders_senderday", "senders_senderhour", "senders_domainday")


class Migration(migrations.Migration):

    replaces = [('senders', '0001_initial'), ('senders', '0002_sender_hours_and_warmup'), ('senders', '0003_no_index_on_the_rotation'), ('senders', '0004_sender_per_hour'), ('senders', '0005_events'), ('senders', '0006_readers'), ('senders', '0007_limits_from_one'), ('senders', '0008_signature'), ('senders', '0009_counted_in_place')]

    initial = True

    dependencies = [
        ('accounts', '0001_squashed_0011_shares_of_rates'),
    ]

    operations = [
        migrations.CreateModel(
            name='SenderDomain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=253, unique=True, validators=[django.core.validators.RegexValidator('^(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$', 'Write the domain in small letters, such as mail.example.com (an international one in its xn-- form).')], verbose_name='domain')),
                ('per_day', models.PositiveIntegerField(default=2000, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more; to stop the domain, switch its senders off instead.')], verbose_name='mails a day')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('warmup_domain_plan', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)]), blank=True, db_default=[], default=list, help_text='The same for all senders of the domain together.', size=None, verbose_name='warmup of the domain')),
                ('warmup_judged', models.DateField(editable=False, null=True)),
                ('warmup_plan', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)]), blank=True, db_default=[], default=list, help_text='Mails a day of one sender, step by step, with commas between. Empty: as planned by the machine.', size=None, verbose_name='warmup of a sender')),
                ('warmup_started_on', models.DateField(blank=True, help_text='Empty: the domain is warm.', null=True, verbose_name='warms up since')),
                ('warmup_step', models.PositiveSmallIntegerField(db_default=1, default=1, verbose_name='warmup step')),
            ],
            options={
                'verbose_name': 'domain',
                'verbose_name_plural': 'domains',
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('warmup_started_on__isnull', False), models.Q(('warmup_domain_plan', []), ('warmup_plan', [])), _connector='OR'), name='a_warm_domain_has_no_plan'), models.CheckConstraint(condition=models.Q(('warmup_step__gte', 1)), name='warmup_steps_count_from_one')],
            },
        ),
        migrations.CreateModel(
            name='Sender',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.EmailField(max_length=254, verbose_name='address')),
                ('name', models.CharField(blank=True, max_length=120, verbose_name='display name')),
                ('per_day', models.PositiveSmallIntegerField(default=50, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more; to stop the sender, switch it off instead.')], verbose_name='mails a day')),
                ('active', models.BooleanField(default=True, verbose_name='active')),
                ('used_at', models.DateTimeField(editable=False, null=True, verbose_name='last used')),
                ('account', models.ForeignKey(help_text='Through which it counts against the allotment of senders.', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.account', verbose_name='account')),
                ('domain', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='senders', to='senders.senderdomain', verbose_name='domain')),
                ('free_at', models.DateTimeField(editable=False, null=True, verbose_name='rests until')),
                ('per_hour', models.PositiveSmallIntegerField(blank=True, help_text="Empty: a fifth of the mails a day, at least 5; more where a running campaign's window is shorter than 5 hours.", null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='mails an hour')),
                ('signature', models.TextField(blank=True, db_default='', default='', help_text='Plain text; shown where a mail has {{ signature }}.', max_length=2000, verbose_name='signature')),
            ],
            options={
                'verbose_name': 'sender',
                'verbose_name_plural': 'senders',
                'ordering': ['address'],
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('address'), name='sender_address_is_unique_in_any_case')],
            },
        ),
        migrations.CreateModel(
            name='Home',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.account', verbose_name='account')),
                ('domain', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='homes', to='senders.senderdomain', verbose_name='domain')),
            ],
            options={
                'verbose_name': 'verified at',
                'verbose_name_plural': 'verified at',
                'constraints': [models.UniqueConstraint(fields=('domain', 'account'), name='one_home_per_domain_and_account')],
            },
        ),
        migrations.CreateModel(
            name='DomainDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('allowed', models.PositiveIntegerField()),
                ('used', models.PositiveIntegerField(default=0)),
                ('domain', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='days', to='senders.senderdomain')),
                ('bounced', models.PositiveIntegerField(db_default=0, default=0)),
                ('complained', models.PositiveIntegerField(db_default=0, default=0)),
                ('delivered', models.PositiveIntegerField(db_default=0, default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('domain', 'day'), name='one_row_per_domain_and_day'), models.CheckConstraint(condition=models.Q(('used__lte', models.F('allowed'))), name='domain_used_within_allowed')],
            },
        ),
        migrations.CreateModel(
            name='SenderDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('allowed', models.PositiveIntegerField()),
                ('used', models.PositiveIntegerField(default=0)),
                ('sender', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='days', to='senders.sender')),
                ('bounced', models.PositiveIntegerField(db_default=0, default=0)),
                ('complained', models.PositiveIntegerField(db_default=0, default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('sender', 'day'), name='one_row_per_sender_and_day'), models.CheckConstraint(condition=models.Q(('used__lte', models.F('allowed'))), name='sender_used_within_allowed')],
            },
        ),
        migrations.CreateModel(
            name='SenderHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('allowed', models.PositiveIntegerField()),
                ('used', models.PositiveIntegerField(default=0)),
                ('sender', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='hours', to='senders.sender')),
            ],
            options={
                'indexes': [models.Index(fields=['hour'], name='sender_hours_by_age')],
                'constraints': [models.UniqueConstraint(fields=('sender', 'hour'), name='one_row_per_sender_and_hour'), models.CheckConstraint(condition=models.Q(('used__lte', models.F('allowed'))), name='sender_hour_within_allowed')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('message', models.UUIDField(null=True, verbose_name='mail')),
                ('source', models.CharField(max_length=20, verbose_name='reported by')),
                ('type', models.CharField(choices=[('sent', 'Taken by the provider'), ('delivered', 'Delivered'), ('deferred', 'Put off'), ('bounced', 'Bounced'), ('complained', 'Complained'), ('unsubscribed', 'Unsubscribed'), ('opened', 'Opened'), ('clicked', 'Clicked'), ('replied', 'Replied'), ('other', 'Something else')], max_length=12, verbose_name='what')),
                ('at', models.DateTimeField(verbose_name='when')),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='heard')),
                ('recipient', models.CharField(blank=True, max_length=320, verbose_name='address')),
                ('detail', models.CharField(blank=True, max_length=300, verbose_name='detail')),
                ('bounce_class', models.CharField(blank=True, choices=[('hard', 'The address does not exist'), ('mailbox_full', 'The mailbox is full'), ('soft', 'Not taken for now'), ('blocked', 'Refused for what it is or where it comes from'), ('ours', 'A fault on our side')], max_length=12, verbose_name='kind of bounce')),
                ('provider_id', models.CharField(blank=True, max_length=255, verbose_name="provider's id of the mail")),
                ('raw_id', models.CharField(max_length=255, verbose_name="source's id of the event")),
                ('waits', models.BooleanField(db_default=False, default=False)),
                ('account', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.account', verbose_name='account')),
                ('reader', models.CharField(blank=True, choices=[('human', 'A person'), ('unclear', 'Unclear'), ('machine', 'A program')], db_default='', max_length=7, verbose_name='who')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'indexes': [models.Index(fields=['message'], name='events_of_a_mail'), models.Index(condition=models.Q(('waits', True)), fields=['id'], name='events_that_wait')],
                'constraints': [models.UniqueConstraint(django.db.models.functions.comparison.Coalesce('account', 0), models.F('source'), models.F('raw_id'), name='an_event_is_stored_once')],
            },
        ),
        migrations.RunSQL(
            [f"ALTER TABLE {table} SET (fillfactor = 50)" for table in TABLES],
            [f"ALTER TABLE {table} RESET (fillfactor)" for table in TABLES],
        ),
    ]
