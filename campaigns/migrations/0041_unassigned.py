import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# The name of the constraint is Django's, and has a hash in it.
SET_NULL = """
DO $$
DECLARE one text;
BEGIN
    SELECT conname INTO STRICT one FROM pg_constraint
    WHERE conrelid = 'campaigns_reply'::regclass AND contype = 'f' AND confrelid = 'users_user'::regclass;
    EXECUTE format('ALTER TABLE campaigns_reply DROP CONSTRAINT %I', one);
    EXECUTE format(
        'ALTER TABLE campaigns_reply ADD CONSTRAINT %I FOREIGN KEY (assigned_to_id) REFERENCES users_user (id) '
        'ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED', one
    );
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0040_step_files")]

    operations = [
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL IMMEDIATE"),
        migrations.RunSQL(SET_NULL, migrations.RunSQL.noop),
        migrations.AlterField(
            "reply",
            "assigned_to",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="assigned to",
            ),
        ),
    ]
