from django.db import migrations

# A mail's row changes when it is claimed, begun and sent: with room beside it the next version stays in its page, and
# the mark before the wire goes into no index.
FILLED = {"campaigns_message": 50, "campaigns_enrollment": 80}


class Migration(migrations.Migration):

    dependencies = [
        ('campaigns', '0023_sequences'),
    ]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET (fillfactor = {percent})", f"ALTER TABLE {table} RESET (fillfactor)"
        )
        for table, percent in FILLED.items()
    ]
