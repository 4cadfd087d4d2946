import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_checks_and_rates'),
        ('campaigns', '0014_paused_reason'),
        ('senders', '0002_sender_hours_and_warmup'),
    ]

    operations = [
        migrations.CreateModel(
            name='DoubtEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('shown', 'An event showed that it was sent'), ('answered', 'The provider was asked again: it has it'), ('refused', 'The provider was asked again: it never had it and refuses it'), ('booked_anew', 'The provider is asked again in another hour: counted as one more mail'), ('counted_as_sent', 'Counted as sent'), ('sent_again', 'Sent again')], max_length=20, verbose_name='what was done')),
                ('by', models.CharField(blank=True, help_text='Empty: the machine.', max_length=254, verbose_name='by')),
                ('at', models.DateTimeField(verbose_name='when')),
                ('claimed_at', models.DateTimeField(null=True)),
                ('counted_on', models.DateField(null=True)),
            ],
            options={
                'verbose_name': 'entry of a doubt',
                'verbose_name_plural': 'entries of doubts',
                'ordering': ['at', 'id'],
            },
        ),
        migrations.AddField(
            model_name='message',
            name='ask_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='message',
            name='fingerprint',
            field=models.CharField(blank=True, db_default='', default='', max_length=32),
        ),
        migrations.AddField(
            model_name='message',
            name='sendings',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(models.F('account'), condition=models.Q(('status', 'unknown')), name='message_doubts'),
        ),
        migrations.AddField(
            model_name='doubtentry',
            name='account',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.account'),
        ),
        migrations.AddField(
            model_name='doubtentry',
            name='message',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='doubts', to='campaigns.message', verbose_name='message'),
        ),
        migrations.AddField(
            model_name='doubtentry',
            name='sender',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='senders.sender'),
        ),
        migrations.AddConstraint(
            model_name='doubtentry',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('account', None), ('claimed_at', None), ('counted_on', None), ('sender', None)), models.Q(('account__isnull', False), ('claimed_at__isnull', False), ('counted_on__isnull', False), ('sender__isnull', False)), _connector='OR'), name='doubt_counts_whole_or_not'),
        ),
    ]
