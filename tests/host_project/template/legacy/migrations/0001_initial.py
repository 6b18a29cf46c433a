from django.db import migrations, models

import p2p_replication.models


def make_table(apps, editor):
    key = "uuid" if editor.connection.vendor == "postgresql" else "char(32)"
    editor.execute(f"CREATE TABLE old_invoices (id {key} PRIMARY KEY, total integer NOT NULL)")
    editor.execute("CREATE VIEW big_invoices AS SELECT id, total FROM old_invoices WHERE total > 1000")


def drop_table(apps, editor):
    editor.execute("DROP VIEW big_invoices")
    editor.execute("DROP TABLE old_invoices")


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Invoice",
            [
                ("id", models.UUIDField(primary_key=True, default=p2p_replication.models.uuid7, editable=False)),
                ("total", models.IntegerField()),
            ],
            options={"managed": False, "db_table": "old_invoices"},
        ),
        migrations.CreateModel(
            "BigInvoice",
            [
                ("id", models.UUIDField(primary_key=True)),
                ("total", models.IntegerField()),
            ],
            options={"managed": False, "db_table": "big_invoices"},
        ),
        migrations.RunPython(make_table, drop_table),
    ]
