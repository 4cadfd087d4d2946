import django.contrib.postgres.fields
import django.contrib.postgres.functions
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
import providers.accounts.models
import providers.accounts.secrets
from decimal import Decimal
from django.db import migrations, models


# All that suppresses an address: itself, its name in any domain, its domain and each above it, and their wildcards.
# In a loop because a set of rows would take twenty times as long.
FORMS = """
CREATE OR REPLACE FUNCTION public.suppressed_forms(email text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    at integer;
    domain text;
    found text[];
BEGIN
    email := lower(email);
    at := strpos(email, '@');
    domain := substr(email, at + 1);
    found := ARRAY[email, left(email, at) || '*', domain];
    LOOP
        at := strpos(domain, '.');
        EXIT WHEN at = 0;
        domain := substr(domain, at + 1);
        found := found || ARRAY[domain, '*.' || domain];
    END LOOP;
    RETURN found;
END
$$
"""


class Migration(migrations.Migration):

    replaces = [('accounts', '0001_initial'), ('accounts', '0002_checks_and_rates'), ('accounts', '0003_mail_price'), ('accounts', '0004_outcomes'), ('accounts', '0005_webhooks'), ('accounts', '0006_inbound_mail'), ('accounts', '0007_silence'), ('accounts', '0008_limits_from_one'), ('accounts', '0009_turns'), ('accounts', '0010_suppressions'), ('accounts', '0011_shares_of_rates')]

    initial = True

    dependencies = [
        ('tenants', '0001_squashed_0006_weight'),
    ]

    operations = [
        migrations.CreateModel(
            name='Account',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.SlugField(max_length=40, unique=True, verbose_name='name')),
                ('kind', models.CharField(choices=[('resend', 'Resend'), ('sendgrid', 'SendGrid'), ('smtp', 'SMTP'), ('amazon_ses', 'Amazon SES'), ('postmark', 'Postmark'), ('mailgun', 'Mailgun')], max_length=20, verbose_name='kind')),
                ('credentials', providers.accounts.secrets.SecretsField(default=dict, verbose_name='credentials')),
                ('options', models.JSONField(blank=True, default=dict, help_text='Not secret: api_url, host, port, security (none, starttls, tls), connections.', verbose_name='connection')),
                ('traffic_classes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('high_priority', 'High priority'), ('cold_outreach', 'Cold outreach'), ('newsletters', 'Newsletters'), ('follow_ups', 'Follow-ups'), ('bulk', 'Bulk'), ('testing', 'Testing')], max_length=20), blank=True, default=list, help_text='Other classes use this account only as failover.', size=None, validators=[providers.accounts.models.known_classes], verbose_name='meant for')),
                ('priority', models.PositiveSmallIntegerField(default=10, help_text='Lower is tried first.', verbose_name='priority')),
                ('sender_limit', models.PositiveIntegerField(default=400, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more; to stop the account, take it out of use instead.')], verbose_name='senders, at most')),
                ('per_day', models.PositiveIntegerField(default=1000, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more; to stop the account, take it out of use instead.')], verbose_name='mails a day')),
                ('per_month', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more; to stop the account, take it out of use instead.')], verbose_name='mails a month')),
                ('monthly_price', models.DecimalField(decimal_places=2, default=Decimal('0.00'), max_digits=9, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='price a month, $')),
                ('enabled', models.BooleanField(default=True, verbose_name='in use')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('owner', models.ForeignKey(blank=True, help_text='Empty: rented by the operator and shared by allotments.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='own_accounts', to='tenants.agency', verbose_name='brought by')),
                ('per_second', models.DecimalField(blank=True, decimal_places=2, help_text='What the provider allows; all workers together keep it. Empty: as fast as it goes.', max_digits=7, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0.01'))], verbose_name='mails a second')),
                ('included_per_month', models.PositiveIntegerField(db_default=0, default=0, verbose_name='mails a month within that price')),
                ('mail_price', models.DecimalField(db_default=Decimal('0.000000'), decimal_places=6, default=Decimal('0.000000'), max_digits=9, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='price of each further mail, $')),
                ('webhook_key', models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), editable=False, unique=True)),
                ('webhook_secrets', providers.accounts.secrets.SecretsField(default=dict, verbose_name='webhook secret')),
            ],
            options={
                'verbose_name': 'account',
                'verbose_name_plural': 'accounts',
                'ordering': ['priority', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Health',
            fields=[
                ('account', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='health', serialize=False, to='accounts.account')),
                ('refusals', models.PositiveIntegerField(default=0, verbose_name='refusals in a row')),
                ('closed_until', models.DateTimeField(blank=True, null=True, verbose_name='closed until')),
                ('blocked', models.BooleanField(default=False, verbose_name='blocked')),
                ('detail', models.CharField(blank=True, max_length=300, verbose_name='last trouble')),
                ('changed_at', models.DateTimeField(null=True, verbose_name='changed')),
                ('blocked_by_check', models.BooleanField(default=False, verbose_name='blocked by a check')),
                ('failed_checks', models.PositiveSmallIntegerField(default=0, verbose_name='failed checks in a row')),
                ('opened_at', models.DateTimeField(null=True, verbose_name='open again since')),
                ('heard_at', models.DateTimeField(null=True, verbose_name='last heard of a mail')),
                ('silent', models.BooleanField(db_default=False, default=False, verbose_name='silent')),
            ],
            options={
                'verbose_name': 'health',
                'verbose_name_plural': 'health',
            },
        ),
        migrations.CreateModel(
            name='Allotment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('senders', models.PositiveIntegerField(default=0, verbose_name='senders, at most')),
                ('per_day', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1, "Write 1 or more, or nothing for the account's own; to stop the agency here, delete the allotment instead.")], verbose_name='mails a day')),
                ('per_month', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1, "Write 1 or more, or nothing for the account's own; to stop the agency here, delete the allotment instead.")], verbose_name='mails a month')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='allotments', to='accounts.account', verbose_name='account')),
                ('agency', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='allotments', to='tenants.agency', verbose_name='agency')),
            ],
            options={
                'verbose_name': 'allotment',
                'verbose_name_plural': 'allotments',
                'constraints': [models.UniqueConstraint(fields=('account', 'agency'), name='one_allotment_per_agency')],
            },
        ),
        migrations.CreateModel(
            name='LedgerRow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('period', models.CharField(choices=[('day', 'day'), ('month', 'month')], max_length=5, verbose_name='period')),
                ('starts', models.DateField(verbose_name='begins')),
                ('allowed', models.PositiveIntegerField(verbose_name='allowed')),
                ('used', models.PositiveIntegerField(default=0, verbose_name='used')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='ledger', to='accounts.account', verbose_name='account')),
                ('agency', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to='tenants.agency', verbose_name='agency')),
                ('bounced', models.PositiveIntegerField(db_default=0, default=0, verbose_name='bounced')),
                ('complained', models.PositiveIntegerField(db_default=0, default=0, verbose_name='complained')),
                ('delivered', models.PositiveIntegerField(db_default=0, default=0, verbose_name='delivered')),
            ],
            options={
                'verbose_name': 'ledger row',
                'verbose_name_plural': 'ledger',
                'constraints': [models.CheckConstraint(condition=models.Q(('used__lte', models.F('allowed'))), name='account_used_within_allowed'), models.UniqueConstraint(condition=models.Q(('agency', None)), fields=('account', 'period', 'starts'), name='one_ledger_row_per_account'), models.UniqueConstraint(condition=models.Q(('agency', None), _negated=True), fields=('account', 'agency', 'period', 'starts'), name='one_ledger_row_per_account_and_agency')],
            },
        ),
        migrations.CreateModel(
            name='AccountRate',
            fields=[
                ('account', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='rate', serialize=False, to='accounts.account')),
                ('next_at', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'rate',
                'verbose_name_plural': 'rates',
            },
        ),
        migrations.CreateModel(
            name='HealthCheck',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(verbose_name='when')),
                ('ok', models.BooleanField(verbose_name='answered well')),
                ('milliseconds', models.PositiveIntegerField(verbose_name='took, ms')),
                ('detail', models.CharField(blank=True, max_length=300, verbose_name='detail')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='checks', to='accounts.account', verbose_name='account')),
                ('used', models.PositiveIntegerField(db_default=0, default=0, verbose_name='mails of the day')),
            ],
            options={
                'verbose_name': 'health check',
                'verbose_name_plural': 'health checks',
                'ordering': ['-at'],
                'indexes': [models.Index(fields=['account', '-at'], name='checks_of_an_account')],
            },
        ),
        migrations.CreateModel(
            name='WebhookDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(verbose_name='day')),
                ('result', models.CharField(choices=[('events', 'Events'), ('strangers', 'Events of mails that are not ours'), ('no_secret', 'Refused: no secret is entered here'), ('bad_signature', 'Refused: the signature is wrong'), ('too_old', 'Refused: too old'), ('unreadable', 'Not understood')], max_length=15, verbose_name='result')),
                ('count', models.PositiveIntegerField(verbose_name='count')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhook_days', to='accounts.account')),
            ],
            options={
                'verbose_name': 'day of webhooks',
                'verbose_name_plural': 'days of webhooks',
                'constraints': [models.UniqueConstraint(fields=('account', 'day', 'result'), name='one_webhook_day_per_result')],
            },
        ),
        migrations.CreateModel(
            name='WebhookPost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.UUIDField()),
                ('headers', models.JSONField(default=dict)),
                ('body', models.BinaryField()),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='received')),
                ('handled_at', models.DateTimeField(null=True, verbose_name='handled')),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('trouble', models.CharField(blank=True, db_default='', max_length=300, verbose_name='trouble')),
                ('account', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.account', verbose_name='account')),
            ],
            options={
                'verbose_name': 'webhook post',
                'verbose_name_plural': 'webhook posts',
                'indexes': [models.Index(condition=models.Q(('handled_at', None)), fields=['id'], name='webhook_posts_to_handle'), models.Index(fields=['received_at'], name='webhook_posts_by_age')],
                'constraints': [models.UniqueConstraint(fields=('account', 'digest'), name='a_webhook_post_is_stored_once')],
            },
        ),
        migrations.CreateModel(
            name='InboundMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.UUIDField(unique=True)),
                ('sender', models.CharField(blank=True, max_length=320, verbose_name='envelope sender')),
                ('recipients', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=320), size=None, verbose_name='recipients')),
                ('body', models.BinaryField()),
                ('size', models.PositiveIntegerField(verbose_name='size')),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='received')),
                ('handled_at', models.DateTimeField(null=True, verbose_name='handled')),
                ('kind', models.CharField(blank=True, db_default='', max_length=12, verbose_name='kind')),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('trouble', models.CharField(blank=True, db_default='', max_length=300, verbose_name='trouble')),
            ],
            options={
                'verbose_name': 'mail that came back',
                'verbose_name_plural': 'mails that came back',
                'indexes': [models.Index(condition=models.Q(('handled_at', None)), fields=['id'], name='inbound_mails_to_handle'), models.Index(fields=['received_at'], name='inbound_mails_by_age')],
            },
        ),
        migrations.CreateModel(
            name='EventDelay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('bucket', models.PositiveSmallIntegerField()),
                ('count', models.PositiveIntegerField()),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.account')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('account', 'day', 'bucket'), name='one_delay_per_day_and_bucket')],
            },
        ),
        migrations.CreateModel(
            name='Served',
            fields=[
                ('agency', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='tenants.agency')),
                ('began', models.FloatField()),
                ('until', models.FloatField()),
            ],
        ),
        migrations.CreateModel(
            name='Turn',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.account')),
                ('agency', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.agency')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('agency', 'account'), name='one_turn_per_agency_and_account')],
            },
        ),
        migrations.CreateModel(
            name='OperatorSuppression',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('value', models.CharField(max_length=254, unique=True, verbose_name='address, domain or wildcard')),
                ('evidence', models.TextField(blank=True, verbose_name='evidence')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='since')),
            ],
            options={
                'verbose_name': 'suppression for all',
                'verbose_name_plural': 'suppressions for all',
                'constraints': [models.CheckConstraint(condition=models.Q(('value', django.db.models.functions.text.Lower('value'))), name='operator_suppression_is_in_small_letters')],
            },
        ),
        migrations.CreateModel(
            name='ServedAt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('began', models.FloatField()),
                ('until', models.FloatField()),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.account')),
                ('agency', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.agency')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('account', 'agency'), name='one_share_per_account_and_agency')],
            },
        ),
        migrations.RunSQL(FORMS, "DROP FUNCTION public.suppressed_forms(text)"),
    ]
