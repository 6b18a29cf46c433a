"""``local_writes()`` inside RunPython: the triggers are away, and reconciliation must not take the rows for edits."""

from __future__ import annotations

import textwrap

from tests.storage.schema_project import ITEM, SchemaProject

MODELS = f"{ITEM}    price = models.IntegerField(default=0)\n"
ADD = 'migrations.AddField("item", "price", models.IntegerField(default=0))'
RUN = "migrations.RunPython(fill)"
LOCAL = """
from p2p_replication import local_writes

def fill(apps, editor):
    alias = editor.connection.alias
    items = apps.get_model("shop", "Item").objects.using(alias)
    with local_writes(alias):
        for item in items.exclude(title__startswith="!"):
            items.filter(pk=item.pk).update(title="!" + item.title, price=item.qty * 100)
"""
FAILS = LOCAL + "    1 / 0\n"
MIXED = LOCAL + '    items.filter(title="!old2").update(qty=77)\n'
PAIR = """
def crossed(*replicas):
    before = sum(r.sent_rows for r in replicas)
    meet(*replicas, labels=LABELS)
    return sum(r.sent_rows for r in replicas) - before

def titles(alias):
    return sorted(Item.objects.using(alias).values_list("title", "qty", "price"))
"""


def run(project: SchemaProject, script: str) -> None:
    project.run(PAIR + textwrap.dedent(script))


def test_a_data_migration_that_every_replica_runs_sends_nothing(project: SchemaProject) -> None:
    project.models(MODELS)
    project.migration(2, f"{ADD}, {RUN}", LOCAL)
    run(
        project,
        """
        for alias in ("default", "other"):
            migrate(using=alias)
            assert titles(alias) == [("!old1", 1, 100), ("!old2", 2, 200)], titles(alias)
            assert drift(alias) == []
            assert ChangeLogEntry.objects.using(alias).count() == 0
        a, b = replica(), replica("other")
        assert crossed(a, b) == 0
        same("default", "other")
        migrate(using="third")
        c = replica("third")
        meet(a, b, c, labels=LABELS)
        same("default", "other", "third")
        Item.objects.filter(title="!old1").update(price=5)
        assert crossed(a, b) == 1
        assert sorted(p for _, _, p in titles("other")) == [5, 200]
        """,
    )


def test_a_replica_that_migrates_late_loses_and_reverts_nothing(project: SchemaProject) -> None:
    project.models(MODELS)
    project.migration(2, f"{ADD}, {RUN}", LOCAL)
    run(
        project,
        """
        migrate()
        Item.objects.create(title="new", qty=3, price=7)
        a = replica()
        outside("UPDATE shop_item SET qty = 9 WHERE title = 'old1'", alias="other")
        migrate(using="other")
        b = replica("other")
        meet(a, b, labels=LABELS)
        same("default", "other")
        assert titles("other") == [("!old1", 9, 900), ("!old2", 2, 200), ("new", 3, 7)] or titles("other") == [
            ("!old1", 9, 100), ("!old2", 2, 200), ("new", 3, 7)], titles("other")
        """,
    )


def test_what_the_migration_writes_outside_of_the_block_is_an_edit(project: SchemaProject) -> None:
    project.models(MODELS)
    project.migration(2, f"{ADD}, {RUN}", MIXED)
    run(
        project,
        """
        migrate()
        assert ChangeLogEntry.objects.count() == 1
        a = replica()
        migrate(using="other")
        b = replica("other")
        assert crossed(a, b) > 0
        same("default", "other")
        assert titles("other") == [("!old1", 1, 100), ("!old2", 77, 200)]
        """,
    )


def test_a_migration_that_fails_leaves_no_record(project: SchemaProject) -> None:
    project.models(MODELS)
    project.migration(2, RUN, FAILS.replace(", price=item.qty * 100", ""))
    run(
        project,
        """
        from p2p_replication.models import LocalWrite
        try:
            migrate()
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError("the migration did not fail")
        assert LocalWrite.objects.count() == 0
        install()
        assert ChangeLogEntry.objects.count() == 0
        """,
    )


def test_before_replications_own_tables_are_there_it_is_a_transaction(project: SchemaProject) -> None:
    project.migration(2, RUN, LOCAL.replace(", price=item.qty * 100", ""))
    run(
        project,
        """
        migrate("p2p_replication", "zero")
        migrate()
        assert sorted(Item.objects.values_list("title", flat=True)) == ["!old1", "!old2"]
        assert drift() == []
        """,
    )
