"""Ways in which migrations run: failed, faked, squashed, reversed, with other processes writing meanwhile."""

from __future__ import annotations

import pytest

from tests.storage.schema_project import INITIAL, ITEM, SchemaProject

WITH_NOTE = ITEM + '    note = models.TextField(default="none")\n'
ADD_NOTE = 'migrations.AddField("item", "note", models.TextField(default="none"))'
#: ``write(n)``: changes a row, inserts one, and deletes the one that was inserted before.
DATA = """
def write(number):
    def code(apps, editor):
        if editor.connection.alias == "default":
            items = apps.get_model("shop", "Item").objects
            items.filter(title="old1").update(qty=number)
            items.filter(title=f"number {number - 1}").delete()
            items.create(title=f"number {number}", qty=number)
    return migrations.RunPython(code, migrations.RunPython.noop)
"""
#: What others do while no trigger is there.
UNSEEN = (
    """outside("UPDATE shop_item SET qty = 77 WHERE title = 'old1'", "DELETE FROM shop_item WHERE title = 'old2'", """
    """f"INSERT INTO shop_item (id, title, qty) VALUES ('{uuid7().hex}', 'unseen', 4)")"""
)
FOUND = '{("old1", 77), ("unseen", 4)}'


@pytest.mark.parametrize("atomic", [True, False])
def test_data_migrations_before_between_and_after_changes_of_the_schema(project: SchemaProject, atomic: bool) -> None:
    project.models(WITH_NOTE.replace("IntegerField", "BigIntegerField"))
    project.migration(
        2,
        f'write(1), {ADD_NOTE}, write(2), migrations.AlterField("item", "qty", models.BigIntegerField(default=0)), '
        "write(3)",
        DATA, atomic=atomic,
    )  # fmt: skip
    project.run("""
        outside("UPDATE shop_item SET title = 'unposted' WHERE title = 'old2'")
        migrate(); migrate(using="other"); migrate(using="third")
        outside("UPDATE shop_item SET note = 'after' WHERE title = 'number 3'")
        meet(replica(), replica("other"), replica("third"), labels=LABELS)
        same("default", "other", "third")
        rows = set(Item.objects.using("third").values_list("title", "qty", "note"))
        assert rows == {("old1", 3, "none"), ("unposted", 2, "none"), ("number 3", 3, "after")}, rows
    """)


def test_other_processes_write_while_a_migration_runs(project: SchemaProject) -> None:
    """Web processes go on, between the operations of a migration that is not atomic and without our triggers."""
    project.models(WITH_NOTE)
    project.migration(
        2,
        f"{ADD_NOTE}, migrations.RunPython(others)",
        """
        def others(apps, editor):
            if editor.connection.alias == "default":
                from p2p_replication.models import uuid7
                from tests.databases import known
                known("default").outside(
                    "UPDATE shop_item SET qty = 77, note = 'edited' WHERE title = 'old1'",
                    "DELETE FROM shop_item WHERE title = 'old2'",
                    f"INSERT INTO shop_item (id, title, qty, note) VALUES ('{uuid7().hex}', 'unseen', 4, 'none')",
                )
        """,
        atomic=False,
    )
    project.run(f"""
        migrate(); migrate(using="other")
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert set(Item.objects.using("other").values_list("title", "qty")) == {FOUND}
        assert Item.objects.using("other").get(title="old1").note == "edited"
    """)


@pytest.mark.parametrize("atomic", [True, False])
def test_a_migration_fails_in_the_middle(project: SchemaProject, atomic: bool) -> None:
    """Whether its first half stays or not: what was written until somebody mended it is found."""
    failing = f"{ADD_NOTE}, migrations.RunPython(fail)"
    helper = "def fail(apps, editor):\n    raise RuntimeError"
    project.models(WITH_NOTE)
    project.migration(2, failing, helper, atomic=atomic)
    unseen = UNSEEN if atomic else UNSEEN.replace("title, qty)", "title, qty, note)").replace("4)", "4, 'none')")
    project.run(f"""
        try:
            migrate()
        except RuntimeError:
            pass
        else:
            raise AssertionError
        assert [d.label for d in drift()] == ["shop.Item"]
        {unseen}
        assert not ChangeLogEntry.objects.exists()
    """)
    project.migration(2, ADD_NOTE, atomic=atomic)
    mended = "migrate()" if atomic else 'call_command("migrate", "shop", fake=True, verbosity=0)'
    project.run(f"""
        {mended}
        assert not drift() and not Gap.objects.filter(closed_at=None).exists()
        migrate(using="other")
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert set(Item.objects.using("other").values_list("title", "qty")) == {FOUND}
    """)


def test_a_faked_migration(project: SchemaProject) -> None:
    """Capture goes by the columns that are there; once somebody has added the missing one, it is noticed."""
    project.models(WITH_NOTE)
    project.migration(2, ADD_NOTE)
    project.run(f"""
        call_command("migrate", "shop", fake=True, verbosity=0)
        assert not drift(), drift()
        {UNSEEN}
        assert ChangeLogEntry.objects.count() == 3
        replica().post()
        outside("ALTER TABLE shop_item ADD COLUMN note text NOT NULL DEFAULT 'none'")
        outside("UPDATE shop_item SET note = 'by hand' WHERE title = 'old1'")
        assert [d.reason for d in drift()] == ["its fields have changed"]
        migrate(using="other")
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert set(Item.objects.using("other").values_list("title", "qty")) == {FOUND}
        assert Item.objects.using("other").get(title="old1").note == "by hand"
    """)


def test_squashed_migrations(project: SchemaProject) -> None:
    """A replica that ran the originals, one that was in their middle, and one that runs the squashed one."""
    project.models(WITH_NOTE.replace("title", "headline"))
    rename = 'migrations.RenameField("item", "title", "headline")'
    project.migration(2, ADD_NOTE)
    project.migration(3, rename)
    project.run('migrate(); migrate("shop", "m0002", using="other"); migrate("shop", "zero", using="third")')
    first = INITIAL.split("operations = [")[1].strip().removesuffix("]")
    project.migration(4, f"{first}, {ADD_NOTE}, {rename}", replaces=(1, 2, 3))
    project.run("""
        outside("UPDATE shop_item SET headline = 'before', note = 'n' WHERE headline = 'old1'")
        for alias in connections:
            migrate(using=alias)
            assert not drift(alias), alias
        outside("DELETE FROM shop_item WHERE headline = 'old2'", alias="other")
        meet(replica(), replica("other"), replica("third"), labels=LABELS)
        same("default", "other", "third")
        rows = set(Item.objects.using("third").values_list("headline", "qty", "note"))
        assert rows == {("before", 1, "n")}, rows
    """)


def test_reversed_renames(project: SchemaProject) -> None:
    """Edits that nobody has seen yet, made under the new names, are there under the old ones."""
    project.models(ITEM.replace("title", "headline").replace("class Item", "class Thing"))
    project.migration(
        2, 'migrations.RenameModel("Item", "Thing"), migrations.RenameField("thing", "title", "headline")'
    )
    project.run("""
        migrate()
        outside("UPDATE shop_thing SET headline = 'a' WHERE headline = 'old1'")
        replica().post()
        outside("UPDATE shop_thing SET qty = 0 WHERE headline = 'a'", "DELETE FROM shop_thing WHERE headline = 'old2'")
    """)
    project.models(ITEM)
    project.run("""
        migrate("shop", "m0001")
        assert not drift(), drift()
        assert list(Stream.objects.values_list("label", flat=True)) == ["shop.Item"]
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert list(Item.objects.using("other").values_list("title", "qty")) == [("a", 0)]
    """)


def test_a_deleted_model_leaves_nothing_that_is_in_the_way(project: SchemaProject) -> None:
    """What waits in the log for it is dropped; made anew, its table is one from which all rows were deleted."""
    project.models("")
    project.migration(2, 'migrations.DeleteModel("Item")')
    project.run("""
        outside("UPDATE shop_item SET qty = 77")
        migrate()
        assert left_behind() == []
        assert ChangeLogEntry.objects.count() == 2
        StorageReplica("default", known("default")).post()
        assert not ChangeLogEntry.objects.exists()
    """)
    project.models(ITEM)
    project.migration(3, INITIAL.split("operations = [")[1].strip().removesuffix("]"))
    project.run("""
        migrate()
        assert not drift()
        Item.objects.create(title="new")
        migrate(using="third")
        meet(replica(), replica("third"), labels=LABELS)
        same("default", "third")
        assert [item.title for item in Item.objects.using("third")] == ["new"]
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
    """)
