from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("p2p_replication", "0008_local_writes_and_directions"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(
                fields=["stream", "id"],
                condition=models.Q(("held__isnull", False), ("status", 0)),
                name="p2p_ledger_held",
            ),
        ),
    ]
