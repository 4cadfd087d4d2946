from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0007_bell")]

    operations = [
        migrations.CreateModel(
            name="Incarnation",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("place", models.CharField(max_length=100)),
                ("since", models.DateTimeField()),
                ("by", models.CharField(max_length=254)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="a_database_is_in_one_place")
                ],
            },
        ),
    ]
