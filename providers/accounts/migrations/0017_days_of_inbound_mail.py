from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0016_alter_webhookday_account")]

    operations = [
        migrations.CreateModel(
            name="InboundDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField(verbose_name="day")),
                (
                    "result",
                    models.CharField(
                        choices=[
                            ("stored", "Stored"),
                            ("repeated", "Stored already"),
                            ("foreign", "Refused: for a domain that is not ours"),
                            ("too_large", "Refused: too large"),
                            ("long_line", "Refused: a line is too long"),
                            ("too_many", "Refused for now: too many recipients"),
                            ("not_stored", "Refused for now: it could not be stored"),
                            ("protocol", "Refused: not by the protocol"),
                            ("found", "Understood"),
                            ("strangers", "Of no mail of ours: without a reference, or with a forged one"),
                            ("unreadable", "Not understood"),
                            ("failed", "Could not be handled"),
                        ],
                        max_length=15,
                        verbose_name="result",
                    ),
                ),
                ("count", models.PositiveIntegerField(verbose_name="count")),
            ],
            options={
                "verbose_name": "day of mails that came back",
                "verbose_name_plural": "days of mails that came back",
            },
        ),
        migrations.AddConstraint(
            model_name="inboundday",
            constraint=models.UniqueConstraint(fields=("day", "result"), name="one_inbound_day_per_result"),
        ),
    ]
