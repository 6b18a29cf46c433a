from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('p2p_replication', '0004_conflicts_and_merges'),
    ]

    operations = [
        migrations.AddField(
            model_name='parking',
            name='local_values',
            field=models.BinaryField(null=True),
        ),
    ]
