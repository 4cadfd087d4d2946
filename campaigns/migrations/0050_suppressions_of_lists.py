import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0049_imports_by_workers")]

    operations = [
        migrations.AlterField(
            model_name="suppression",
            name="list",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="campaigns.contactlist",
                verbose_name="only for the list",
            ),
        ),
        migrations.AddIndex(
            model_name="suppression",
            index=models.Index(
                condition=models.Q(("list__isnull", False)), fields=["list"], name="suppressions_of_lists"
            ),
        ),
    ]
