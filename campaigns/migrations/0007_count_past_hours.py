from django.db import migrations

# Until now only days were limited, and 24 hours may touch two of them.
COUNT = """
INSERT INTO senders_senderhour (sender_id, hour, allowed, used)
SELECT m.sender_id, date_trunc('hour', m.claimed_at, 'UTC'), GREATEST(count(*), 2 * s.per_day), count(*)
FROM campaigns_message m JOIN senders_sender s ON s.id = m.sender_id
WHERE m.status IN ('claimed', 'sent', 'unknown') AND m.claimed_at >= date_trunc('hour', now(), 'UTC') - interval '3 days'
GROUP BY 1, 2, s.per_day
ON CONFLICT (sender_id, hour) DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0006_reasons"),
        ("senders", "0002_sender_hours_and_warmup"),
    ]

    operations = [
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
