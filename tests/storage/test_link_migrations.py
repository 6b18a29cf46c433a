"""Migrations of many-to-many fields: a table that gets another name keeps its versions, its deletes among them."""

from __future__ import annotations

import pytest

from tests.storage.schema_project import ITEM, SchemaProject

TAGGED = """
from django.db import models
from p2p_replication.models import ReplicatedModel

class Tag(ReplicatedModel):
    name = models.CharField(max_length=50)

class Item(ReplicatedModel):
    title = models.CharField(max_length=50)
    qty = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag)
"""
ADD = """migrations.CreateModel("Tag", [
        ("id", models.UUIDField(primary_key=True, default=p2p_replication.models.uuid7, editable=False)),
        ("name", models.CharField(max_length=50)),
    ]), migrations.AddField("item", "tags", models.ManyToManyField("shop.Tag"))"""
USE = """
Tag = apps.get_model("shop", "Tag")
ITEM = apps.get_model("shop", "%(model)s")
LABELS = ("shop.Tag", "shop.%(model)s", "shop.%(model)s_%(field)s")
def names(using):
    return sorted(ITEM.objects.using(using).get(title="old1").%(field)s.values_list("name", flat=True))
"""


def use(model: str = "Item", field: str = "tags") -> str:
    return USE % {"model": model, "field": field}


@pytest.fixture
def tagged(project: SchemaProject) -> SchemaProject:
    """The item ``old1`` has the tags x, y and z on two replicas; x was removed on the first, which nobody knows."""
    project.models(TAGGED)
    project.migration(2, ADD)
    project.run(
        use()
        + """
for alias in connections:
    migrate(using=alias)
ITEM.objects.get(title="old1").tags.set([Tag.objects.create(name=name) for name in "xyz"])
one, other = replica(), replica("other")
meet(one, other, labels=LABELS)
assert names("other") == ["x", "y", "z"]
ITEM.objects.get(title="old1").tags.remove(Tag.objects.get(name="x"))
one.post()
ITEM.objects.get(title="old1").tags.remove(Tag.objects.get(name="y"))
"""
    )
    return project


@pytest.mark.parametrize(
    ("operation", "model", "field"),
    [
        ('migrations.RenameField("item", "tags", "labels")', "Item", "labels"),
        ('migrations.RenameModel("Item", "Thing")', "Thing", "tags"),
        (
            'migrations.RenameModel("Item", "Thing"), migrations.RenameField("thing", "tags", "labels")',
            "Thing",
            "labels",
        ),
    ],
)
def test_a_renamed_table_remembers_what_was_removed(
    tagged: SchemaProject, operation: str, model: str, field: str
) -> None:
    tagged.models(TAGGED.replace("class Item", f"class {model}").replace("tags =", f"{field} ="))
    tagged.migration(3, operation)
    tagged.run(
        use(model, field)
        + """
migrate(); migrate(using="other")
one, other = replica(), replica("other")
assert not drift() and not drift("other")
assert one.post().entries == 1, "the removal that waited in the log"
meet(one, other, labels=LABELS)
assert names("default") == names("other") == ["z"], (names("default"), names("other"))
"""
    )


def test_a_renamed_target_changes_nothing(tagged: SchemaProject) -> None:
    tagged.models(TAGGED.replace("class Tag", "class Label").replace("(Tag)", "(Label)"))
    tagged.migration(3, 'migrations.RenameModel("Tag", "Label")')
    tagged.run(
        use().replace('"Tag"', '"Label"').replace("shop.Tag", "shop.Label")
        + """
migrate(); migrate(using="other")
one, other = replica(), replica("other")
assert one.post().entries == 1
meet(one, other, labels=LABELS)
assert names("default") == names("other") == ["z"]
"""
    )


def test_a_removed_field_leaves_no_trigger_and_a_new_one_begins_anew(tagged: SchemaProject) -> None:
    tagged.models(ITEM)
    tagged.migration(3, 'migrations.RemoveField("item", "tags"), migrations.DeleteModel("Tag")')
    tagged.run("""
        before = left_behind()
        migrate()
        install()
        assert left_behind() and len(left_behind()) < len(before)
        connection.cursor().execute("SELECT 1")
        assert not drift()
    """)
