from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0003_message_counted_on"),
    ]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="gap_seconds",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Empty: 540 for cold outreach, none for the other classes.",
                null=True,
                verbose_name="least gap between two mails of a sender, seconds",
            ),
        ),
        migrations.AddField(
            model_name="campaign",
            name="gap_jitter_seconds",
            field=models.PositiveIntegerField(
                blank=True,
                help_text=(
                    "Up to so much is added to the gap. Empty: 300 for cold outreach, none for the other classes."
                ),
                null=True,
                verbose_name="random part of the gap, seconds",
            ),
        ),
    ]
