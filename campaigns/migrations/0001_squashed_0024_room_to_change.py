import campaigns.models
import django.contrib.postgres.fields
import django.contrib.postgres.functions
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.comparison
import django.db.models.functions.datetime
import django.db.models.functions.text
import tenants.models
import uuid
from django.db import migrations, models


# A launch that is under way is waited for, and its campaign is seen as it leaves it.
KEEP = """
CREATE FUNCTION keep_what_was_launched() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of bigint := to_jsonb(OLD) ->> TG_ARGV[0];
    state text;
BEGIN
    SELECT status INTO state FROM campaigns_campaign WHERE id = of FOR SHARE;
    IF state <> 'draft' THEN
        RAISE foreign_key_violation USING MESSAGE = format('Campaign %s was launched: it and its steps are kept.', of);
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER keep_what_was_launched BEFORE DELETE ON campaigns_campaign
    FOR EACH ROW EXECUTE FUNCTION keep_what_was_launched('id');
CREATE TRIGGER keep_what_was_launched BEFORE DELETE ON campaigns_step
    FOR EACH ROW EXECUTE FUNCTION keep_what_was_launched('campaign_id');
"""
LET_GO = """
DROP TRIGGER keep_what_was_launched ON campaigns_step;
DROP TRIGGER keep_what_was_launched ON campaigns_campaign;
DROP FUNCTION keep_what_was_launched();
"""

# A mail's row changes when it is claimed, begun and sent: with room beside it the next version stays in its page, and
# the mark before the wire goes into no index.
FILLED = {"campaigns_message": 50, "campaigns_enrollment": 80}


class Migration(migrations.Migration):

    replaces = [('campaigns', '0001_initial'), ('campaigns', '0002_rejectedrow_params'), ('campaigns', '0003_message_counted_on'), ('campaigns', '0004_campaign_gap'), ('campaigns', '0005_windows_and_caps'), ('campaigns', '0006_reasons'), ('campaigns', '0007_count_past_hours'), ('campaigns', '0008_hour_spent'), ('campaigns', '0009_facts'), ('campaigns', '0010_optout'), ('campaigns', '0011_together'), ('campaigns', '0012_without_foreign_keys'), ('campaigns', '0013_readers'), ('campaigns', '0014_paused_reason'), ('campaigns', '0015_doubts'), ('campaigns', '0016_launch_forecast'), ('campaigns', '0017_limits_from_one'), ('campaigns', '0018_suppressions'), ('campaigns', '0019_threads'), ('campaigns', '0020_head_starts'), ('campaigns', '0021_parked'), ('campaigns', '0022_missing_value'), ('campaigns', '0023_sequences'), ('campaigns', '0024_room_to_change')]

    initial = True

    dependencies = [
        ('accounts', '0001_squashed_0011_shares_of_rates'),
        ('senders', '0001_squashed_0009_counted_in_place'),
    ]

    operations = [
        migrations.CreateModel(
            name='ContactList',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=120, unique=True, verbose_name='name')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
            ],
            options={
                'verbose_name': 'list',
                'verbose_name_plural': 'lists',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Contact',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.EmailField(max_length=254, verbose_name='address')),
                ('first_name', models.CharField(blank=True, db_default='', max_length=120, verbose_name='first name')),
                ('last_name', models.CharField(blank=True, db_default='', max_length=120, verbose_name='last name')),
                ('company', models.CharField(blank=True, db_default='', max_length=200, verbose_name='company')),
                ('attributes', models.JSONField(blank=True, default=dict, verbose_name='more')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='created')),
            ],
            options={
                'verbose_name': 'contact',
                'verbose_name_plural': 'contacts',
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('email'), name='contact_email_is_unique_in_any_case')],
                'indexes': [models.Index(campaigns.models.MailDomain('email'), name='contacts_of_a_domain')],
            },
        ),
        migrations.CreateModel(
            name='Campaign',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=120, verbose_name='name')),
                ('traffic_class', models.CharField(choices=[('high_priority', 'High priority'), ('cold_outreach', 'Cold outreach'), ('newsletters', 'Newsletters'), ('follow_ups', 'Follow-ups'), ('bulk', 'Bulk'), ('testing', 'Testing')], default='cold_outreach', max_length=20, verbose_name='class')),
                ('distribution', models.CharField(choices=[('by_class', 'By class: the accounts meant for it, the others as failover'), ('even', 'Evenly over all accounts'), ('shares', 'By given shares')], default='by_class', max_length=10, verbose_name='distribution')),
                ('shares', models.JSONField(blank=True, default=dict, help_text='Only for given shares: {"account name": percent, …}', verbose_name='shares')),
                ('overflow', models.CharField(choices=[('reroute', 'Move to another account'), ('wait', 'Wait for the planned account')], default='reroute', max_length=10, verbose_name='when an account is full')),
                ('status', models.CharField(choices=[('draft', 'Draft'), ('running', 'Running'), ('paused', 'Paused'), ('finished', 'Finished'), ('cancelled', 'Cancelled')], default='draft', editable=False, max_length=10, verbose_name='state')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('launched_at', models.DateTimeField(editable=False, null=True, verbose_name='launched')),
                ('finished_at', models.DateTimeField(editable=False, null=True, verbose_name='finished')),
                ('list', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='campaigns', to='campaigns.contactlist', verbose_name='list')),
                ('gap_seconds', models.PositiveIntegerField(blank=True, help_text='Empty: 540 for cold outreach, none for the other classes.', null=True, verbose_name='least gap between two mails of a sender, seconds')),
                ('gap_jitter_seconds', models.PositiveIntegerField(blank=True, help_text='Up to so much is added to the gap. Empty: 300 for cold outreach, none for the other classes.', null=True, verbose_name='random part of the gap, seconds')),
                ('holidays', models.CharField(blank=True, help_text="A country's two letters, such as DE. Empty: on every day.", max_length=2, validators=[campaigns.models.known_country], verbose_name='not on the holidays of')),
                ('new_contacts_per_day', models.PositiveIntegerField(blank=True, help_text="At most so many first mails a day. Empty: no limit of the campaign's own.", null=True, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more, or nothing for no limit.')], verbose_name='new contacts a day')),
                ('per_domain_per_day', models.PositiveIntegerField(blank=True, help_text='At most so many to the addresses of each domain, gmail.com too. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1, 'Write 1 or more, or nothing for no limit.')], verbose_name='mails a day to one domain')),
                ('timezone', models.CharField(blank=True, help_text="Such as Europe/Berlin. Empty: the agency's.", max_length=64, validators=[tenants.models.known_timezone], verbose_name='time zone')),
                ('weekdays', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveSmallIntegerField(validators=[django.core.validators.MaxValueValidator(6)]), default=campaigns.models.every_day, size=None, verbose_name='days')),
                ('window_from', models.TimeField(blank=True, help_text='Empty: from midnight.', null=True, verbose_name='from')),
                ('window_until', models.TimeField(blank=True, help_text='Empty: until midnight.', null=True, verbose_name='until')),
                ('window_zone', models.CharField(choices=[('campaign', 'Of the campaign'), ('recipient', 'Of the recipient, where their “timezone” column names it')], default='campaign', max_length=10, verbose_name='whose time')),
                ('track_clicks', models.BooleanField(default=True, help_text='Links of the HTML lead through your own host.', verbose_name='count clicks')),
                ('track_opens', models.BooleanField(default=True, help_text='With an invisible picture in the HTML.', verbose_name='count opens')),
                ('paused_detail', models.CharField(blank=True, db_default='', editable=False, max_length=300, verbose_name='about')),
                ('paused_reason', models.CharField(blank=True, choices=[('never_opens', 'Its days, hours and holidays leave no time to send'), ('no_accounts', 'There is no account that this agency may use'), ('accounts_blocked', 'Every account is blocked'), ('nothing_allowed', 'The limits allow no mail at all'), ('no_senders', 'The agency has no active sender at these accounts'), ('senders_gone', 'The senders that write to its contacts are switched off or have no account left'), ('waits_in_vain', 'Its mails wait for accounts that will not send them')], db_default='', editable=False, max_length=30, verbose_name='paused because')),
                ('duplicates', models.CharField(choices=[('campaign', 'This campaign alone: a contact gets each campaign once'), ('active', 'Campaigns that run or are paused'), ('any', 'Any campaign, ever')], db_default='campaign', default='campaign', max_length=10, verbose_name='not to contacts of')),
                ('goal_url', models.CharField(blank=True, db_default='', help_text="The campaign's goal is reached with a click on a link that begins with this address.", max_length=500, verbose_name='goal')),
                ('stop_on', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('reply', 'A reply'), ('bounce', 'A mail that came back'), ('goal', 'The goal')], max_length=12), blank=True, db_default=['reply', 'bounce', 'goal'], default=campaigns.models.every_stop, help_text='Complaints and opt-outs stop it always.', size=None, verbose_name='stop on')),
                ('stop_scope', models.CharField(choices=[('campaign', 'This campaign for the contact'), ('agency', 'All campaigns for the contact'), ('company', "All campaigns for everyone at the same company's domain, free mail services aside")], db_default='campaign', default='campaign', max_length=10, verbose_name='stops')),
            ],
            options={
                'verbose_name': 'campaign',
                'verbose_name_plural': 'campaigns',
                'ordering': ['-created_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(('paused_reason', ''), ('status', 'paused'), _connector='OR'), name='only_a_paused_campaign_says_why')],
            },
        ),
        migrations.CreateModel(
            name='Intake',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('file_name', models.CharField(max_length=255, verbose_name='file')),
                ('status', models.CharField(choices=[('running', 'Running'), ('done', 'Done'), ('failed', 'Failed')], default='running', max_length=10, verbose_name='state')),
                ('rows', models.PositiveIntegerField(default=0, verbose_name='rows')),
                ('accepted', models.PositiveIntegerField(default=0, verbose_name='accepted')),
                ('rejected', models.PositiveIntegerField(default=0, verbose_name='rejected')),
                ('problem', models.TextField(blank=True, verbose_name='problem')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='started')),
                ('list', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='intakes', to='campaigns.contactlist', verbose_name='list')),
            ],
            options={
                'verbose_name': 'import',
                'verbose_name_plural': 'imports',
                'ordering': ['-created_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('status', 'done'), _negated=True), ('rows', django.db.models.expressions.CombinedExpression(models.F('accepted'), '+', models.F('rejected'))), _connector='OR'), name='intake_rows_add_up')],
            },
        ),
        migrations.CreateModel(
            name='RejectedRow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(verbose_name='row')),
                ('email', models.TextField(verbose_name='address')),
                ('verdict', models.CharField(choices=[('accepted', 'Accepted'), ('no_address', 'No address'), ('bad_syntax', 'Not an email address'), ('bad_domain', "The address's domain cannot exist"), ('no_mx', 'The domain takes no mail'), ('disposable', 'A throw-away address'), ('role', 'A role address, not a person'), ('duplicate', 'The address is in this file already'), ('suppressed', 'The address must not be mailed'), ('bad_text', 'A field has a line break or a forbidden character'), ('too_long', 'A field is too long'), ('bad_columns', 'The row has more or fewer columns than the header'), ('header_again', 'The header line again'), ('formula', 'A field is a spreadsheet formula')], max_length=20, verbose_name='reason')),
                ('detail', models.TextField(blank=True, verbose_name='detail')),
                ('intake', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rejected_rows', to='campaigns.intake', verbose_name='import')),
                ('params', models.JSONField(default=dict)),
            ],
            options={
                'verbose_name': 'rejected row',
                'verbose_name_plural': 'rejected rows',
                'ordering': ['number'],
                'indexes': [models.Index(fields=['intake', 'number'], name='campaigns_r_intake__7a1955_idx')],
            },
        ),
        migrations.CreateModel(
            name='Step',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(default=1, null=True, verbose_name='position')),
                ('subject', models.CharField(blank=True, help_text='Of a follow-up, empty: in the thread of the mail before.', max_length=250, verbose_name='subject')),
                ('html', models.TextField(blank=True, verbose_name='HTML')),
                ('text', models.TextField(blank=True, help_text='Empty: made from the HTML.', verbose_name='plain text')),
                ('changed_at', models.DateTimeField(auto_now=True, verbose_name='changed')),
                ('campaign', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='steps', to='campaigns.campaign', verbose_name='campaign')),
                ('condition', models.CharField(blank=True, choices=[('', 'Nothing: everybody gets it'), ('opened', 'Opened the mail before'), ('clicked', 'Followed a link of the mail before'), ('not_opened', 'Did not open the mail before')], db_default='', default='', max_length=12, verbose_name='only who')),
                ('delay', models.PositiveSmallIntegerField(db_default=3, default=3, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(999)], verbose_name='delay after the mail before')),
                ('otherwise', models.CharField(choices=[('next', 'Pass over to the next step'), ('end', 'Write to them no more')], db_default='next', default='next', max_length=4, verbose_name='the others')),
                ('unit', models.CharField(choices=[('hours', 'hours'), ('days', 'days'), ('working_days', 'working days')], db_default='days', default='days', max_length=12, verbose_name='counted in')),
            ],
            options={
                'verbose_name': 'step',
                'verbose_name_plural': 'steps',
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('campaign', 'position'), name='one_step_per_position'), models.CheckConstraint(condition=models.Q(models.Q(('html', ''), _negated=True), models.Q(('text', ''), _negated=True), _connector='OR'), name='step_has_a_body'), models.CheckConstraint(condition=models.Q(models.Q(('position', 1), _negated=True), models.Q(('subject', ''), _negated=True), _connector='OR'), name='first_step_has_a_subject'), models.CheckConstraint(condition=models.Q(('delay__gte', 1)), name='step_has_a_delay')],
            },
        ),
        migrations.CreateModel(
            name='Enrollment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('campaign', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='enrollments', to='campaigns.campaign')),
                ('contact', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='enrollments', to='campaigns.contact')),
                ('sender', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='senders.sender')),
                ('ended', models.CharField(blank=True, choices=[('in_queue', 'In the queue, its turn is next'), ('not_due', 'Planned for later'), ('step_delay', 'Waits until its delay after the mail before it is over'), ('sending', 'Being sent now'), ('campaign_paused', 'The campaign is paused'), ('outside_window', 'The campaign does not send at this time'), ('holiday', 'The campaign does not send on a holiday'), ('campaign_day_spent', 'The campaign has written to its new contacts of today'), ('recipient_domain_spent', 'The campaign has sent this domain its mails for today'), ('account_day_spent', 'The account has sent its mails for today'), ('account_month_spent', 'The account has sent its mails for this month'), ('allotment_day_spent', 'Your share of the account is used up for today'), ('allotment_month_spent', 'Your share of the account is used up for this month'), ('senders_spent', 'Every sender of the account has sent its mails for today'), ('senders_resting', 'The senders rest until the gap between two of their mails is over'), ('senders_hour_spent', 'The senders have sent their mails for this hour'), ('thread_spent', 'The sender that writes to this contact has sent its mails for today'), ('thread_resting', 'The sender that writes to this contact rests after its last mail'), ('thread_off', 'The sender that writes to this contact is off or has no way through the account'), ('no_senders', 'The account has no active sender'), ('account_closed', 'The account refuses mails just now; it is tried again shortly'), ('account_blocked', 'The account is blocked until the operator opens it'), ('account_gone', 'The account is no longer available to this agency'), ('accounts_refused', 'Every account refused it; it is tried again'), ('throttled', 'The provider asked for a pause'), ('recipient_busy', "The recipient's server asked to try later"), ('in_doubt', 'It may have been sent: the answer was lost, so it is not sent again'), ('recipient_refused', "The recipient's address was refused"), ('message_refused', 'The message was refused'), ('not_rendered', 'The text could not be made for this contact'), ('missing_value', 'The contact has no value that the text needs'), ('breaks_workers', 'Three workers ended while preparing it'), ('suppressed', 'The contact must not be mailed'), ('opted_out', 'The contact opted out'), ('replied', 'The contact replied'), ('bounced', 'A mail to the contact came back'), ('complained', 'The contact complained'), ('goal_reached', 'The contact followed the link that is the goal'), ('condition_not_met', 'The contact did not do what the next step asks for'), ('sequence_changed', 'The sequence was changed before it was due'), ('campaign_cancelled', 'The campaign was cancelled')], db_default='', default='', max_length=30, verbose_name='ended')),
                ('ended_at', models.DateTimeField(null=True)),
                ('look_at', models.DateTimeField(null=True)),
                ('passed', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='campaigns.step')),
                ('passed_at', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'enrollment',
                'verbose_name_plural': 'enrollments',
                'indexes': [models.Index(models.F('look_at'), condition=models.Q(('look_at__isnull', False)), name='enrollments_to_be_looked_at')],
                'constraints': [models.UniqueConstraint(fields=('campaign', 'contact'), name='a_contact_enters_a_campaign_once'), models.CheckConstraint(condition=models.Q(('ended', ''), ('look_at', None), _connector='OR'), name='what_has_ended_is_not_looked_at')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), default=uuid.uuid4, editable=False, unique=True, verbose_name='key')),
                ('status', models.CharField(choices=[('scheduled', 'Scheduled'), ('claimed', 'Claimed'), ('sent', 'Sent'), ('held', 'Held'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('unknown', 'In doubt')], db_default='scheduled', default='scheduled', max_length=10, verbose_name='state')),
                ('reason', models.CharField(blank=True, choices=[('in_queue', 'In the queue, its turn is next'), ('not_due', 'Planned for later'), ('step_delay', 'Waits until its delay after the mail before it is over'), ('sending', 'Being sent now'), ('campaign_paused', 'The campaign is paused'), ('outside_window', 'The campaign does not send at this time'), ('holiday', 'The campaign does not send on a holiday'), ('campaign_day_spent', 'The campaign has written to its new contacts of today'), ('recipient_domain_spent', 'The campaign has sent this domain its mails for today'), ('account_day_spent', 'The account has sent its mails for today'), ('account_month_spent', 'The account has sent its mails for this month'), ('allotment_day_spent', 'Your share of the account is used up for today'), ('allotment_month_spent', 'Your share of the account is used up for this month'), ('senders_spent', 'Every sender of the account has sent its mails for today'), ('senders_resting', 'The senders rest until the gap between two of their mails is over'), ('senders_hour_spent', 'The senders have sent their mails for this hour'), ('thread_spent', 'The sender that writes to this contact has sent its mails for today'), ('thread_resting', 'The sender that writes to this contact rests after its last mail'), ('thread_off', 'The sender that writes to this contact is off or has no way through the account'), ('no_senders', 'The account has no active sender'), ('account_closed', 'The account refuses mails just now; it is tried again shortly'), ('account_blocked', 'The account is blocked until the operator opens it'), ('account_gone', 'The account is no longer available to this agency'), ('accounts_refused', 'Every account refused it; it is tried again'), ('throttled', 'The provider asked for a pause'), ('recipient_busy', "The recipient's server asked to try later"), ('in_doubt', 'It may have been sent: the answer was lost, so it is not sent again'), ('recipient_refused', "The recipient's address was refused"), ('message_refused', 'The message was refused'), ('not_rendered', 'The text could not be made for this contact'), ('missing_value', 'The contact has no value that the text needs'), ('breaks_workers', 'Three workers ended while preparing it'), ('suppressed', 'The contact must not be mailed'), ('opted_out', 'The contact opted out'), ('replied', 'The contact replied'), ('bounced', 'A mail to the contact came back'), ('complained', 'The contact complained'), ('goal_reached', 'The contact followed the link that is the goal'), ('condition_not_met', 'The contact did not do what the next step asks for'), ('sequence_changed', 'The sequence was changed before it was due'), ('campaign_cancelled', 'The campaign was cancelled')], db_default='', max_length=30, verbose_name='reason')),
                ('detail', models.CharField(blank=True, db_default='', max_length=300, verbose_name='detail')),
                ('priority', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('due_at', models.DateTimeField(verbose_name='due')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('claim', models.UUIDField(null=True)),
                ('claimed_at', models.DateTimeField(null=True)),
                ('lease_until', models.DateTimeField(null=True)),
                ('epoch', models.UUIDField(null=True)),
                ('attempted_at', models.DateTimeField(null=True, verbose_name='last attempt')),
                ('attempts', models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name='attempts')),
                ('rescues', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('refused_by', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], default=list, size=None)),
                ('sent_at', models.DateTimeField(null=True, verbose_name='sent')),
                ('provider_id', models.CharField(blank=True, db_default='', max_length=255, verbose_name="provider's id")),
                ('account', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.account', verbose_name='account')),
                ('campaign', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='campaigns.campaign', verbose_name='campaign')),
                ('contact', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='campaigns.contact', verbose_name='contact')),
                ('enrollment', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='campaigns.enrollment')),
                ('planned', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.account', verbose_name='planned account')),
                ('sender', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='senders.sender', verbose_name='sender')),
                ('step', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='campaigns.step', verbose_name='step')),
                ('counted_on', models.DateField(null=True)),
                ('together', models.PositiveSmallIntegerField(db_default=1, default=1)),
                ('ask_at', models.DateTimeField(null=True)),
                ('fingerprint', models.CharField(blank=True, db_default='', default='', max_length=32)),
                ('sendings', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('parked', models.BooleanField(db_default=False, default=False)),
            ],
            options={
                'verbose_name': 'message',
                'verbose_name_plural': 'messages',
                'indexes': [models.Index(models.F('lease_until'), condition=models.Q(('status', 'claimed')), name='message_leases'), models.Index(models.F('account'), condition=models.Q(('status', 'unknown')), name='message_doubts'), models.Index(models.F('account'), models.F('priority'), models.F('due_at'), models.F('id'), condition=models.Q(('parked', False), ('status', 'scheduled')), name='message_queue'), models.Index(models.F('campaign'), models.F('status'), models.F('parked'), models.F('account'), name='message_campaign_status')],
                'constraints': [models.UniqueConstraint(fields=('enrollment', 'step'), name='one_message_per_enrollment_and_step'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'claimed'), _negated=True), models.Q(('claim__isnull', False), ('epoch__isnull', False), ('lease_until__isnull', False), ('sender__isnull', False)), _connector='OR'), name='claimed_has_claim_and_lease'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'sent'), _negated=True), models.Q(('sender__isnull', False), ('sent_at__isnull', False)), _connector='OR'), name='sent_has_time_and_sender'), models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['held', 'failed', 'cancelled', 'unknown']), _negated=True), models.Q(('reason', ''), _negated=True), _connector='OR'), name='unsent_has_reason'), models.CheckConstraint(condition=models.Q(('priority__lte', 30)), name='priority_is_a_head_start'), models.CheckConstraint(condition=models.Q(('parked', False), ('status__in', ['scheduled', 'sent', 'cancelled']), _connector='OR'), name='parked_is_in_no_hands')],
            },
        ),
        migrations.CreateModel(
            name='Subscription',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('active', models.BooleanField(db_default=True, default=True, verbose_name='active')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='since')),
                ('contact', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subscriptions', to='campaigns.contact', verbose_name='contact')),
                ('intake', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='campaigns.intake')),
                ('list', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subscriptions', to='campaigns.contactlist', verbose_name='list')),
            ],
            options={
                'verbose_name': 'subscription',
                'verbose_name_plural': 'subscriptions',
                'constraints': [models.UniqueConstraint(fields=('list', 'contact'), name='one_subscription_per_list_and_contact')],
            },
        ),
        migrations.CreateModel(
            name='Suppression',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('value', models.CharField(max_length=254, verbose_name='address, domain or wildcard')),
                ('source', models.CharField(choices=[('bounce', 'Bounced'), ('complaint', 'Complained'), ('opt_out', 'Opted out'), ('manual', 'Added by a person')], max_length=20, verbose_name='why')),
                ('evidence', models.TextField(blank=True, verbose_name='evidence')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='since')),
                ('in_force_at', models.DateTimeField(editable=False, null=True)),
                ('list', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='campaigns.contactlist', verbose_name='only for the list')),
                ('message', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='campaigns.message', verbose_name='message')),
                ('remote_ip', models.GenericIPAddressField(editable=False, null=True, verbose_name='asked from')),
            ],
            options={
                'verbose_name': 'suppression',
                'verbose_name_plural': 'suppressions',
                'constraints': [models.CheckConstraint(condition=models.Q(('value', django.db.models.functions.text.Lower('value'))), name='suppression_value_is_in_small_letters'), models.UniqueConstraint(models.F('value'), django.db.models.functions.comparison.Coalesce('list', 0), name='one_suppression_per_value_and_list')],
            },
        ),
        migrations.CreateModel(
            name='CampaignDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(verbose_name='day')),
                ('allowed', models.PositiveIntegerField(verbose_name='allowed')),
                ('used', models.PositiveIntegerField(default=0, verbose_name='used')),
                ('campaign', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='days', to='campaigns.campaign')),
            ],
            options={
                'verbose_name': "campaign's day",
                'verbose_name_plural': "campaigns' days",
                'constraints': [models.UniqueConstraint(fields=('campaign', 'day'), name='one_row_per_campaign_and_day'), models.CheckConstraint(condition=models.Q(('used__lte', models.F('allowed'))), name='campaign_used_within_allowed')],
            },
        ),
        migrations.CreateModel(
            name='RecipientDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('domain', models.CharField(max_length=254, verbose_name='domain')),
                ('day', models.DateField(verbose_name='day')),
                ('allowed', models.PositiveIntegerField(verbose_name='allowed')),
                ('used', models.PositiveIntegerField(default=0, verbose_name='used')),
                ('campaign', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='recipient_days', to='campaigns.campaign')),
            ],
            options={
                'verbose_name': "recipient domain's day",
                'verbose_name_plural': "recipient domains' days",
                'constraints': [models.UniqueConstraint(fields=('campaign', 'day', 'domain'), name='one_row_per_campaign_day_and_domain'), models.CheckConstraint(condition=models.Q(('used__lte', models.F('allowed'))), name='recipient_used_within_allowed')],
            },
        ),
        migrations.CreateModel(
            name='CampaignOutcome',
            fields=[
                ('campaign', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='outcome', serialize=False, to='campaigns.campaign')),
                ('delivered', models.PositiveIntegerField(db_default=0, default=0, verbose_name='delivered')),
                ('opened', models.PositiveIntegerField(db_default=0, default=0, verbose_name='opened')),
                ('clicked', models.PositiveIntegerField(db_default=0, default=0, verbose_name='clicked')),
                ('replied', models.PositiveIntegerField(db_default=0, default=0, verbose_name='replied')),
                ('bounced', models.PositiveIntegerField(db_default=0, default=0, verbose_name='bounced')),
                ('complained', models.PositiveIntegerField(db_default=0, default=0, verbose_name='complained')),
                ('unsubscribed', models.PositiveIntegerField(db_default=0, default=0, verbose_name='unsubscribed')),
            ],
            options={
                'verbose_name': "campaign's outcome",
                'verbose_name_plural': "campaigns' outcomes",
            },
        ),
        migrations.CreateModel(
            name='MessageFacts',
            fields=[
                ('message', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='facts', serialize=False, to='campaigns.message')),
                ('delivered_at', models.DateTimeField(null=True, verbose_name='delivered')),
                ('opened_at', models.DateTimeField(null=True, verbose_name='opened')),
                ('clicked_at', models.DateTimeField(null=True, verbose_name='clicked')),
                ('replied_at', models.DateTimeField(null=True, verbose_name='replied')),
                ('bounced_at', models.DateTimeField(null=True, verbose_name='bounced')),
                ('complained_at', models.DateTimeField(null=True, verbose_name='complained')),
                ('unsubscribed_at', models.DateTimeField(null=True, verbose_name='unsubscribed')),
                ('bounce_class', models.CharField(blank=True, choices=[('hard', 'The address does not exist'), ('mailbox_full', 'The mailbox is full'), ('soft', 'Not taken for now'), ('blocked', 'Refused for what it is or where it comes from'), ('ours', 'A fault on our side')], db_default='', max_length=12, verbose_name='kind of bounce')),
                ('clicked_by', models.CharField(blank=True, choices=[('human', 'A person'), ('unclear', 'Unclear'), ('machine', 'A program')], db_default='', max_length=7, verbose_name='links followed by')),
                ('opened_by', models.CharField(blank=True, choices=[('human', 'A person'), ('unclear', 'Unclear'), ('machine', 'A program')], db_default='', max_length=7, verbose_name='opened by')),
            ],
            options={
                'verbose_name': 'facts of a message',
                'verbose_name_plural': 'facts of messages',
            },
        ),
        migrations.CreateModel(
            name='Link',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('url', models.TextField(verbose_name='address')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('step', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='links', to='campaigns.step', verbose_name='step')),
            ],
            options={
                'verbose_name': 'link',
                'verbose_name_plural': 'links',
                'constraints': [models.UniqueConstraint(models.F('step'), django.db.models.functions.text.MD5('url'), name='one_link_per_step_and_address')],
            },
        ),
        migrations.CreateModel(
            name='DoubtEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('shown', 'An event showed that it was sent'), ('answered', 'The provider was asked again: it has it'), ('refused', 'The provider was asked again: it never had it and refuses it'), ('booked_anew', 'The provider is asked again in another hour: counted as one more mail'), ('counted_as_sent', 'Counted as sent'), ('sent_again', 'Sent again')], max_length=20, verbose_name='what was done')),
                ('by', models.CharField(blank=True, help_text='Empty: the machine.', max_length=254, verbose_name='by')),
                ('at', models.DateTimeField(verbose_name='when')),
                ('claimed_at', models.DateTimeField(null=True)),
                ('counted_on', models.DateField(null=True)),
                ('account', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.account')),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='doubts', to='campaigns.message', verbose_name='message')),
                ('sender', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='senders.sender')),
            ],
            options={
                'verbose_name': 'entry of a doubt',
                'verbose_name_plural': 'entries of doubts',
                'ordering': ['at', 'id'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('account', None), ('claimed_at', None), ('counted_on', None), ('sender', None)), models.Q(('account__isnull', False), ('claimed_at__isnull', False), ('counted_on__isnull', False), ('sender__isnull', False)), _connector='OR'), name='doubt_counts_whole_or_not')],
            },
        ),
        migrations.CreateModel(
            name='LaunchForecast',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('made_at', models.DateTimeField(verbose_name='made')),
                ('mails', models.PositiveIntegerField(verbose_name='mails')),
                ('finishes_on', models.DateField(null=True, verbose_name='finishes on')),
                ('cost', models.DecimalField(decimal_places=2, max_digits=12, verbose_name='cost, $')),
                ('days', models.JSONField(default=list, verbose_name='days')),
                ('campaign', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='launch_forecast', to='campaigns.campaign')),
            ],
            options={
                'verbose_name': 'forecast at launch',
                'verbose_name_plural': 'forecasts at launch',
            },
        ),
        migrations.RunSQL(KEEP, LET_GO),
        migrations.RunSQL(
            [f"ALTER TABLE {table} SET (fillfactor = {percent})" for table, percent in FILLED.items()],
            [f"ALTER TABLE {table} RESET (fillfactor)" for table in FILLED],
        ),
    ]
