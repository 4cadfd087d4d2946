import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_weight")]

    operations = [
        migrations.CreateModel(
            name="Bell",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=30)),
                (
                    "agency",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.agency",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="bell",
            constraint=models.UniqueConstraint(fields=("agency", "name"), name="one_bell_of_a_name_per_agency"),
        ),
    ]
