from django.db import migrations, models

# What `precedence.head_start` says, of what was queued before there were head starts: 50 was a follow-up.
SET = """
UPDATE campaigns_message m SET priority = CASE
    WHEN c.traffic_class = 'high_priority' THEN 30
    WHEN m.priority = 50 OR c.traffic_class = 'follow_ups' THEN 14
    WHEN c.traffic_class = 'cold_outreach' THEN 7
    ELSE 0
END
FROM campaigns_campaign c WHERE c.id = m.campaign_id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('campaigns', '0019_threads'),
    ]

    operations = [
        migrations.AlterField(
            model_name='message',
            name='priority',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.RunSQL(SET, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.CheckConstraint(condition=models.Q(('priority__lte', 30)), name='priority_is_a_head_start'),
        ),
    ]
