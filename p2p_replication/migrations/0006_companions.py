from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("p2p_replication", "0005_rows_taken_out")]

    operations = [
        migrations.AddField(
            model_name="declaration",
            name="comes_with",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
    ]
