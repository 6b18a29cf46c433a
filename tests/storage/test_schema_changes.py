"""Migrations under replication: real projects, real ``migrate``, rows written before, between and after."""

from __future__ import annotations

import pytest

from tests.storage.schema_project import ITEM

WITH_NOTE = ITEM + '    note = models.TextField(default="none")\n'
RENAMED = ITEM.replace("title", "headline")
ADD_NOTE = 'migrations.AddField("item", "note", models.TextField(default="none"))'


def test_fields_are_added_altered_and_removed_and_every_write_replicates(project):
    """Rows written before the migration, by it and after it all arrive; nothing is doubled, nothing reverts."""
    project.run("""
        Item.objects.create(title="before", qty=3)
        Item.objects.filter(title="old1").update(qty=10)
    """)
    project.models(WITH_NOTE.replace("IntegerField", "BigIntegerField"))
    project.migration(
        2,
        ADD_NOTE + ', migrations.AlterField("item", "qty", models.BigIntegerField(default=0)), '
        "migrations.RunPython(write, migrations.RunPython.noop)",
        """
        def write(apps, editor):
            Item = apps.get_model("shop", "Item")
            Item.objects.using(editor.connection.alias).filter(title="old2").update(qty=20)
            Item.objects.using(editor.connection.alias).create(title="by migration", qty=4)
            Item.objects.using(editor.connection.alias).filter(title="gone").delete()
        """,
    )
    project.run("""
        migrate()
        assert not drift(), drift()
        assert not Gap.objects.filter(closed_at=None).exists()
        Item.objects.create(title="after", qty=5, note="n")
        Item.objects.filter(title="old1").update(note="edited")
        migrate("shop", using="other")
        one, two = replica(), replica("other")
        Item.objects.using("other").filter(title="by migration").delete()
        meet(one, two, labels=LABELS)
        same("default", "other")
        rows = {i.title: (i.qty, i.note) for i in Item.objects.using("other")}
        assert rows == {"old1": (10, "edited"), "old2": (20, "none"), "before": (3, "none"),
                        "by migration": (4, "none"), "after": (5, "n")}, rows
        migrate("shop", using="third")
        three = replica("third")
        meet(one, two, three, labels=LABELS)
        same("default", "other", "third")
    """)
    project.models(ITEM.replace("    qty = models.IntegerField(default=0)\n", ""))
    project.migration(3, 'migrations.RemoveField("item", "qty"), migrations.RemoveField("item", "note")')
    project.run("""
        migrate()
        assert not drift()
        Item.objects.filter(title="after").update(title="after removal")
        one = replica()
        one.post()
        migrate(using="other")
        meet(one, replica("other"), labels=LABELS)
        same("default", "other")
        assert Item.objects.using("other").filter(title="after removal").exists()
    """)


def test_a_migration_changes_rows_that_have_unposted_edits(project):
    """What waits in the log says nothing of what the migration did to the row later, while no trigger was there."""
    project.migration(
        2,
        "migrations.RunPython(write, migrations.RunPython.noop)",
        """
        def write(apps, editor):
            if editor.connection.alias == "default":
                items = apps.get_model("shop", "Item").objects
                items.filter(title="old1").update(title="m")
                items.filter(title__in=["old2", "new and gone"]).delete()
                items.filter(title="new").update(qty=7)
                items.create(id="00000000-0000-0000-0000-000000000003", title="again", qty=8)
        """,
    )
    project.run("""
        items, three = Item.objects, "00000000-0000-0000-0000-000000000003"
        items.create(id=three, title="old3")
        one, two = replica(), replica("other")
        meet(one, two, labels=LABELS)
        same("default", "other")
        items.filter(title="old1").update(qty=10)
        items.filter(title="old2").update(qty=20)
        items.filter(id=three).delete()
        items.create(title="new"); items.create(title="new and gone")
        migrate(); migrate(using="other")
        found = install()
        assert not found, found
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        rows = set(Item.objects.using("other").values_list("title", "qty"))
        assert rows == {("m", 10), ("new", 7), ("again", 8)}, rows
    """)


def test_a_migration_that_fills_its_new_field_reaches_replicas_that_come_later(project):
    """The commonest data migration: a new field gets values while no trigger is there."""
    project.models(WITH_NOTE)
    project.migration(
        2,
        ADD_NOTE + ", migrations.RunPython(fill, migrations.RunPython.noop)",
        """
        def fill(apps, editor):
            for item in apps.get_model("shop", "Item").objects.using(editor.connection.alias):
                item.note = f"about {item.title}"
                item.save()
        """,
    )
    project.run("""
        migrate()
        migrate(using="third")
        meet(replica(), replica("third"), labels=LABELS)
        same("default", "third")
    """)


def test_nulls_that_a_migration_fills(project):
    """An edit that a replica has made since is not undone by one that migrates late."""
    nullable = ITEM + "    note = models.TextField(null=True)\n"
    project.models(nullable)
    project.migration(2, 'migrations.AddField("item", "note", models.TextField(null=True))')
    project.run("""
        migrate(); migrate(using="other")
        Item.objects.update(note="x")
        Item.objects.update(note=None)
        Item.objects.create(title="old3", note=None)
        meet(replica(), replica("other"), labels=LABELS)
    """)
    project.models(WITH_NOTE)
    project.migration(3, 'migrations.AlterField("item", "note", models.TextField(default="none"))')
    project.run("""
        migrate()
        outside("UPDATE shop_item SET note = 'edited' WHERE title = 'old3'")
        one = replica()
        one.post()
        migrate(using="other")
        two = replica("other")
        meet(one, two, labels=LABELS)
        same("default", "other")
        notes = dict(Item.objects.values_list("title", "note"))
        assert notes == {"old1": "none", "old2": "none", "old3": "edited"}, notes
        assert two.sent_rows == 0
    """)


def test_a_renamed_field_keeps_its_values_on_replicas_that_come_later(project):
    project.models(RENAMED)
    project.migration(2, 'migrations.RenameField("item", "title", "headline")')
    project.run("""
        migrate(); migrate(using="other"); migrate(using="third")
        one, two, three = replica(), replica("other"), replica("third")
        meet(one, two, three, labels=LABELS)
        found = set(Item.objects.using("third").values_list("headline", flat=True))
        assert found == {"old1", "old2"}, found
        same("default", "other", "third")
        one, two, three = replica(), replica("other"), replica("third")
        meet(one, two, three, labels=LABELS)
        assert one.sent_rows + two.sent_rows + three.sent_rows == 0
    """)


def test_a_member_that_migrates_late_reverts_no_edit_of_a_renamed_field(project):
    """What it finds in the renamed column is as old as the row, whenever it finds it."""
    project.models(RENAMED)
    project.migration(2, 'migrations.RenameField("item", "title", "headline")')
    project.run("""
        migrate()
        one = replica()
        one.post()
        Item.objects.filter(headline="old1").update(headline="edited")
        one.post()
        migrate(using="other")
        meet(one, replica("other"), labels=LABELS)
        same("default", "other")
        found = set(Item.objects.values_list("headline", flat=True))
        assert found == {"edited", "old2"}, found
    """)


def test_adding_a_field_costs_no_rows(project):
    """A default that the migration made up is nobody's write: nothing is sent for it."""
    project.models(WITH_NOTE)
    project.migration(2, ADD_NOTE)
    project.run("""
        migrate(); migrate(using="other")
        one, two = replica(), replica("other")
        meet(one, two, labels=LABELS)
        assert one.sent_rows == two.sent_rows == 0
        Item.objects.filter(title="old1").update(note="x")
        Item.objects.using("other").filter(title="old1").update(qty=7)
        meet(one, two, labels=LABELS)
        same("default", "other")
        item = Item.objects.get(title="old1")
        assert (item.note, item.qty) == ("x", 7)
    """)


def test_a_migration_can_be_reversed(project):
    """``migrate shop 0001`` with newer code: the table lacks a column that the model has."""
    project.models(WITH_NOTE)
    project.migration(2, ADD_NOTE)
    project.run("""
        migrate()
        Item.objects.filter(title="old1").update(note="x", qty=5)
        migrate("shop", "m0001")
    """)
    project.models(ITEM)
    project.run("""
        assert not drift(), drift()
        Item.objects.create(title="after")
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert Item.objects.using("other").get(title="old1").qty == 5
    """)


def test_a_failed_migration_leaves_a_gap_that_is_found_and_healed(project):
    project.migration(2, ADD_NOTE)
    project.migration(3, "migrations.RunPython(fail)", """
        def fail(apps, editor):
            raise RuntimeError("on purpose")
    """)  # fmt: skip
    project.models(WITH_NOTE)
    project.run("""
        try:
            migrate()
        except RuntimeError:
            pass
        assert [d.label for d in drift()] == ["shop.Item"]
        assert Gap.objects.filter(closed_at=None).count() == 1
        Item.objects.create(title="in the gap")
        Item.objects.filter(title="old1").update(qty=77)
        Item.objects.filter(title="old2").delete()
        assert not ChangeLogEntry.objects.exists()
        found = install()["shop.Item"]
        assert (found.adopted, found.changed, found.gone) == (1, 1, 1), found
        assert not drift()
        assert not install()
        migrate("shop", "m0002", using="other")
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert set(Item.objects.using("other").values_list("title", "qty")) == {("in the gap", 0), ("old1", 77)}
    """)


def test_another_apps_migration_that_writes_our_rows_is_captured(project):
    project.migration(1, "migrations.RunPython(write, migrations.RunPython.noop)", """
        def write(apps, editor):
            Item = apps.get_model("shop", "Item")
            Item.objects.using(editor.connection.alias).filter(title="old1").update(qty=5)
            Item.objects.using(editor.connection.alias).filter(title="old2").delete()
    """, app="till", after="m0001")  # fmt: skip
    project.run("""
        migrate()
        assert not drift()
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
        assert list(Item.objects.using("other").values_list("title", "qty")) == [("old1", 5)]
    """)


def test_replication_can_be_migrated_away_and_back(project):
    """``migrate p2p_replication zero`` leaves a working application; forward again adopts each row once."""
    project.run("""
        Item.objects.create(title="not posted")
        migrate("p2p_replication", "zero")
        assert left_behind() == []
        Item.objects.create(title="meanwhile", qty=9)
        Item.objects.filter(title="old1").update(qty=100)
        Item.objects.filter(title="old2").delete()
        migrate()
        one = replica()
        assert one.post().entries == 3
        assert LedgerEntry.objects.count() == Item.objects.count() == 3
        assert not install()
        assert set(LedgerEntry.objects.values_list("inserted", "clock")) == {(0, 0)}
        two = replica("third")
        meet(one, two, labels=LABELS)
        same("default", "third")
        Item.objects.using("third").filter(title="meanwhile").update(qty=10)
        meet(one, two, labels=LABELS)
        same("default", "third")
    """)


def test_a_rebuilt_table_of_another_app_is_noticed(project):
    """Triggers go without a word when a statement rebuilds the table."""
    project.run("""
        kind = "uuid" if connection.vendor == "postgresql" else "char(32)"
        outside(
            "CREATE TABLE copy AS SELECT * FROM shop_item",
            "DROP TABLE shop_item",
            f"CREATE TABLE shop_item (id {kind} PRIMARY KEY, title varchar(50) NOT NULL, qty integer NOT NULL)",
            "INSERT INTO shop_item SELECT * FROM copy",
        )
        Item.objects.create(title="unseen")
        assert [d.label for d in drift()] == ["shop.Item"]
        assert install()["shop.Item"].adopted == 1
        meet(replica(), replica("other"), labels=LABELS)
        same("default", "other")
    """)


@pytest.mark.parametrize("edited", ["before the worker starts", "later"])
def test_a_field_that_this_schema_does_not_know_is_not_lost(project, edited):
    """An older member keeps a newer field, passes it on, edits the row, and has the value once it is migrated."""
    project.models(WITH_NOTE)
    project.migration(2, ADD_NOTE)
    project.run("""
        migrate()
        Item.objects.filter(title="old1").update(note="precious")
        Item.objects.create(title="new", note="precious too")
        replica().post()
        migrate(using="third")
    """)
    project.run("""
        from dataclasses import replace
        from p2p_replication.registry import registry
        from p2p_replication.storage.replica_database import StreamStore
        from p2p_replication.storage.table import ModelTable
        # "other" has the first schema still: its worker runs the code of that time.
        one = replica()
        two = StorageReplica.__new__(StorageReplica)
        registry._options["shop.Item"] = replace(registry.get("shop.Item"), exclude=frozenset({"note"}))
        install("other")
        two.__init__("other", known("other"))
        two.pull(one, LABELS)
        assert two.sql("SELECT COUNT(*) FROM shop_item") == [(3,)]
        two.sql("UPDATE shop_item SET qty = qty + 100")
        two.post()
        registry._options["shop.Item"] = replace(registry.get("shop.Item"), exclude=frozenset())
        three = replica("third")
        three.pull(two, LABELS)
        rows = {i.title: (i.qty, i.note) for i in Item.objects.using("third")}
        assert rows == {"old1": (101, "precious"), "old2": (102, "none"), "new": (100, "precious too")}, rows
        two.start()
    """)
    project.run(f"""
        migrate(using="other")
        if {edited!r} != "later":
            Item.objects.using("other").update(qty=5)
        one, two, three = replica(), replica("other"), replica("third")
        Item.objects.using("other").update(qty=5)
        meet(one, two, three, labels=LABELS)
        same("default", "other", "third")
        rows = {{i.title: (i.qty, i.note) for i in Item.objects.using("default")}}
        assert rows == {{"old1": (5, "precious"), "old2": (5, "none"), "new": (5, "precious too")}}, rows
    """)


def test_a_model_that_inherits_from_a_replicated_one_has_a_table_of_its_own(project):
    """Multi-table inheritance: the child's table has only its own columns."""
    project.models(
        ITEM
        + """
class Special(Item):
    extra = models.TextField(default="")
"""
    )
    project.migration(
        2,
        'migrations.CreateModel("Special", [("item_ptr", models.OneToOneField("shop.Item", models.CASCADE, '
        "primary_key=True, parent_link=True, auto_created=True, serialize=False)), "
        '("extra", models.TextField(default=""))], bases=("shop.item",))',
    )
    project.run("""
        migrate(); migrate(using="other")
        Special = apps.get_model("shop", "Special")
        special = Special.objects.create(title="s", qty=1, extra="e")
        Special.objects.filter(pk=special.pk).update(extra="more", title="both tables")
        labels = ("shop.Item", "shop.Special")
        meet(replica(), replica("other"), labels=labels)
        replica("other").retry_parked()
        got = Special.objects.using("other").get()
        assert (got.title, got.qty, got.extra) == ("both tables", 1, "more"), vars(got)
        special.delete()
        meet(replica(), replica("other"), labels=labels)
        assert not Special.objects.using("other").exists()
        assert not Item.objects.using("other").filter(pk=special.pk).exists()
    """)
