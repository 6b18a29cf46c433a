"""Every operation of a migration: rows written before it, unposted and unsent, and after it arrive everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.storage.schema_project import ITEM, SchemaProject

NO_QTY = ITEM.replace("    qty = models.IntegerField(default=0)\n", "")


@dataclass(frozen=True)
class Case:
    """One migration, and what is special about it."""

    operations: str
    #: The models after it.
    models: str
    #: What title, qty, the table and the model are called afterwards (no qty: the field is gone).
    title: str = "title"
    qty: str = "qty"
    table: str = "shop_item"
    model: str = "Item"
    #: Looks at the outcome, with ``rows``: ``{title: row}`` of the replica that came last.
    then: str = ""
    #: The outcome costs a round of sending.
    quiet: bool = True


def field(name: str, definition: str, then: str = "", **kwargs) -> Case:
    return Case(
        f'migrations.AddField("item", "{name}", {definition})',
        f"{ITEM}    {name} = {definition}\n",
        then=then,
        **kwargs,
    )


def altered(name: str, definition: str, then: str = "") -> Case:
    old = next(line for line in ITEM.splitlines() if line.startswith(f"    {name} ="))
    return Case(
        f'migrations.AlterField("item", "{name}", {definition})',
        ITEM.replace(old, f"    {name} = {definition}"),
        then=then,
    )


def meta(operation: str, text: str, **kwargs) -> Case:
    return Case(operation, f"{ITEM}    class Meta:\n        {text}\n", **kwargs)


IMPORTS = "import datetime, uuid\nfrom django.utils import timezone\nfrom django.db.models import functions\n"
CASES = {
    "add a field that may be null": field("note", "models.TextField(null=True)", "assert rows['old1'].note is None"),
    "add a field with a default": field("note", "models.TextField(default='d')", "assert rows['old1'].note == 'd'"),
    "add a field with a default of the database": field(
        "note", "models.IntegerField(db_default=5)", "assert rows['old1'].note == 5"
    ),
    "add a field with the time as its default": field("at", "models.DateTimeField(default=timezone.now)"),
    "add a field with the database's time as its default": field(
        "at", "models.DateTimeField(db_default=functions.Now())"
    ),
    "add a field with an empty list as its default": field("tags", "models.JSONField(default=list)"),
    "add a field with a default for this once": Case(
        'migrations.AddField("item", "at", models.DateTimeField(auto_now_add=True, default=timezone.now), '
        "preserve_default=False)",
        ITEM + "    at = models.DateTimeField(auto_now_add=True)\n",
    ),
    "add a foreign key": field("of", "models.ForeignKey('self', models.CASCADE, null=True)"),
    "remove a field": Case('migrations.RemoveField("item", "qty")', NO_QTY, qty=""),
    "rename a field": Case(
        'migrations.RenameField("item", "title", "headline")', ITEM.replace("title", "headline"), title="headline"
    ),
    "rename a field twice": Case(
        'migrations.RenameField("item", "qty", "count"), migrations.RenameField("item", "count", "amount")',
        ITEM.replace("qty", "amount"), qty="amount",
    ),
    "a wider type": altered("qty", "models.BigIntegerField(default=0)"),
    "text without a limit": altered("title", "models.TextField()"),
    "another type": altered("qty", "models.CharField(max_length=20, default='0')"),
    "a number with places": altered("qty", "models.DecimalField(max_digits=9, decimal_places=2, default=0)"),
    "null allowed": altered("qty", "models.IntegerField(null=True)"),
    "another default": altered("qty", "models.IntegerField(default=7)"),
    "another column": altered("qty", "models.IntegerField(default=0, db_column='pieces')"),
    "unique": altered("title", "models.CharField(max_length=50, unique=True)"),
    "add an index": meta(
        'migrations.AddIndex("item", models.Index(fields=["qty"], name="item_qty"))',
        'indexes = [models.Index(fields=["qty"], name="item_qty")]',
    ),
    "add a constraint": meta(
        'migrations.AddConstraint("item", models.UniqueConstraint(fields=["title", "qty"], name="both")), '
        'migrations.AddConstraint("item", models.CheckConstraint(condition=models.Q(qty__gte=0), name="positive"))',
        'constraints = [models.UniqueConstraint(fields=["title", "qty"], name="both"), '
        'models.CheckConstraint(condition=models.Q(qty__gte=0), name="positive")]',
    ),
    "rename the table": meta('migrations.AlterModelTable("item", "things")', 'db_table = "things"', table="things"),
    "rename the model": Case(
        'migrations.RenameModel("Item", "Thing")', ITEM.replace("class Item", "class Thing"), table="shop_thing",
        model="Thing",
    ),
    "rename the model, then change it": Case(
        'migrations.RenameModel("Item", "Thing"), migrations.RemoveField("thing", "qty"), '
        'migrations.AlterField("thing", "title", models.TextField())',
        NO_QTY.replace("class Item", "class Thing").replace("CharField(max_length=50)", "TextField()"), qty="",
        table="shop_thing", model="Thing",
    ),
    "SQL by hand": Case(
        'migrations.RunSQL("ALTER TABLE shop_item ADD COLUMN note integer DEFAULT 3", state_operations=['
        'migrations.AddField("item", "note", models.IntegerField(null=True))]), '
        "migrations.RunSQL(\"UPDATE shop_item SET note = 4 WHERE title = 'old1'\")",
        ITEM + "    note = models.IntegerField(null=True)\n", then="assert rows['old1'].note == 4",
    ),
}  # fmt: skip

SCRIPT = """
def insert(title, qty, alias):
    outside(f"INSERT INTO shop_item (id, title, qty) VALUES ('{{uuid7().hex}}', '{{title}}', {{qty}})", alias=alias)

label = "shop.{case.model}"
Model = apps.get_model(label)
insert("before", 3, "default")
outside("UPDATE shop_item SET qty = 0 WHERE title = 'old1'")
outside("UPDATE shop_item SET title = 'ed' WHERE title = 'old2'", alias="other")
insert("theirs", 4, "other")
insert("dead", 5, "other")
outside("DELETE FROM shop_item WHERE title = 'dead'", alias="other")

migrate(); migrate(using="third")
assert not drift() and not Gap.objects.filter(closed_at=None).exists()
outside("UPDATE {case.table} SET {case.title} = 'after' WHERE {case.title} = 'before'")
one, three = replica(), replica("third")
one.post()
migrate(using="other")
assert not drift("other") and not drift("third")
Model.objects.using("other").create({case.title}="new")
two = replica("other")
meet(one, two, three, labels=(label,))
same("default", "other", "third", label=label)
assert not (one.parked() or two.parked() or three.parked())
rows = {{row.{case.title}: row for row in Model.objects.using("third")}}
assert set(rows) == {{"old1", "ed", "after", "theirs", "new"}}, rows
if "{case.qty}":
    found = {{title: int(row.{qty}) for title, row in rows.items() if title != "new"}}
    assert found == {{"old1": 0, "ed": 2, "after": 3, "theirs": 4}}, found
{case.then}
before = one.sent_rows + two.sent_rows + three.sent_rows
meet(one, two, three, labels=(label,))
assert before == one.sent_rows + two.sent_rows + three.sent_rows
assert Stream.objects.filter(label__startswith="shop.").count() == 1
"""


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_operation(project: SchemaProject, case: Case) -> None:
    project.models(IMPORTS + case.models)
    project.migration(2, case.operations, IMPORTS)
    project.run(SCRIPT.format(case=case, qty=case.qty or "title"))
