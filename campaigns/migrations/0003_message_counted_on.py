from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("campaigns", "0002_rejectedrow_params"),
    ]

    operations = [
        migrations.AddField(
            model_name="message",
            name="counted_on",
            field=models.DateField(null=True),
        ),
    ]
