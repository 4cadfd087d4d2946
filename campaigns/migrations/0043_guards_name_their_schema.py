from django.db import migrations

# A trigger's function looks tables up by the search path of whoever deletes, who may have named another schema.
NAMED = """
CREATE OR REPLACE FUNCTION keep_what_was_launched() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of bigint := to_jsonb(OLD) ->> TG_ARGV[0];
    state text;
BEGIN
    EXECUTE format('SELECT status FROM %I.campaigns_campaign WHERE id = $1 FOR SHARE', TG_TABLE_SCHEMA)
        INTO state USING of;
    IF state <> 'draft' THEN
        RAISE foreign_key_violation USING MESSAGE = format('Campaign %s was launched: it and its steps are kept.', of);
    END IF;
    RETURN OLD;
END $$;
CREATE OR REPLACE FUNCTION keep_variants_of_launched() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    state text;
BEGIN
    EXECUTE format(
        'SELECT c.status FROM %1$I.campaigns_campaign c
         WHERE c.id = (SELECT campaign_id FROM %1$I.campaigns_step WHERE id = $1) FOR SHARE', TG_TABLE_SCHEMA
    ) INTO state USING OLD.step_id;
    IF state <> 'draft' THEN
        RAISE foreign_key_violation USING MESSAGE = 'The campaign was launched: the variants of its steps are kept.';
    END IF;
    RETURN OLD;
END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('campaigns', '0042_hooks'),
    ]

    operations = [migrations.RunSQL(NAMED, migrations.RunSQL.noop)]
