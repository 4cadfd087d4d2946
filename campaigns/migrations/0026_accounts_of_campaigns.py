import django.contrib.postgres.fields
from django.db import migrations, models

import campaigns.models

_FILL = """
UPDATE campaigns_campaign c
SET accounts = ARRAY(SELECT DISTINCT account_id FROM campaigns_message m WHERE m.campaign_id = c.id ORDER BY 1)
WHERE c.launched_at IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0025_erasure")]
    operations = [
        migrations.AddField(
            "campaign",
            "accounts",
            django.contrib.postgres.fields.ArrayField(models.BigIntegerField(), db_default=[], default=campaigns.models.no_accounts, editable=False),
        ),
        migrations.RunSQL(_FILL, migrations.RunSQL.noop),
    ]
