"""Tables of the models that refer to Django's own apps."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import p2p_replication.models

KEY = models.UUIDField(default=p2p_replication.models.uuid7, editable=False, primary_key=True, serialize=False)
TITLE = models.CharField(default="", max_length=50)
CASCADE, SET_NULL = django.db.models.deletion.CASCADE, django.db.models.deletion.SET_NULL


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            "Duty",
            fields=[
                ("id", KEY),
                ("title", TITLE),
                ("user", models.ForeignKey(on_delete=CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
            options={"abstract": False},
        ),
        migrations.CreateModel(
            "Errand",
            fields=[
                ("id", KEY.clone()),
                ("object_id", models.CharField(default="", max_length=36)),
                ("title", TITLE.clone()),
                ("content_type", models.ForeignKey(null=True, on_delete=CASCADE, to="contenttypes.contenttype")),
                ("group", models.ForeignKey(null=True, on_delete=CASCADE, to="auth.group")),
                ("owner", models.ForeignKey(null=True, on_delete=SET_NULL, to=settings.AUTH_USER_MODEL)),
            ],
            options={"abstract": False},
        ),
    ]
