"""Unique clashes: the older row keeps the value on every replica; the other waits everywhere, and comes back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from django.db import connections, models
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from p2p_replication.models import EntryStatus, LedgerEntry, Parking
from p2p_replication.protocol.changes import unpack_rows
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Badge, Book, Box, ByDatabase, Click, Folder, Ruled, Shelf

RULED = ("testapp.Ruled",)
SHELVES = ("testapp.Shelf", "testapp.Book")
FOLDERS = ("testapp.Folder", "testapp.Badge")


@pytest.fixture(autouse=True)
def _rows_of_different_ages() -> Iterator[None]:
    """Of two rows of one millisecond their writers' marks say which is older."""

    def pause(**kwargs: object) -> None:
        time.sleep(0.002)

    post_save.connect(pause)
    yield
    post_save.disconnect(pause)


def parked(replica: StorageReplica) -> set[tuple[str, object]]:
    """What waits, by model and wire key."""
    streams = {stream.id: stream for stream in replica.database.streams.values()}
    entries = LedgerEntry.objects.using(replica.alias).filter(status=EntryStatus.PARKED)
    return {(streams[e.stream].label, streams[e.stream].table.key_to_wire(e.key)) for e in entries}


def same(*replicas: StorageReplica, labels: tuple[str, ...]) -> None:
    """Replicas that have met hold the same tables and parked rows, and are at rest."""
    for one, other in itertools.pairwise(replicas):
        for label in labels:
            assert one.canonical(label) == other.canonical(label)
        assert parked(one) == parked(other)
    for one in replicas:
        assert one.site.broken_references() == []
        assert one.post().entries == 0
        one.sent_rows = 0
    meet(*replicas, labels=labels)
    assert [one.sent_rows for one in replicas] == [0] * len(replicas)


def reasons(replica: StorageReplica) -> set[str]:
    return set(Parking.objects.using(replica.alias).values_list("reason", flat=True))


@pytest.mark.on("sqlite", "postgresql")
def test_the_older_insert_keeps_the_value(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    older = Ruled.objects.using("a").create(code="x")
    younger = Ruled.objects.using("b").create(code="x")
    meet(a, b, c, labels=RULED)
    for one in (a, b, c):
        assert Ruled.objects.using(one.alias).get().pk == older.pk
        assert parked(one) == {("testapp.Ruled", younger.pk.bytes)}
        assert reasons(one) == {"unique value taken"}
    assert f"code: testapp.Ruled {a.site.key(older.pk)} has it, and is older" in Parking.objects.using("a").get().detail
    same(a, b, c, labels=RULED)


@pytest.mark.on("sqlite", "postgresql")
def test_the_default_database_is_not_asked_how_to_say_it(replica, monkeypatch):
    """It may be of another kind than the replica's."""
    a, b = replica("a"), replica("b")
    older = Ruled.objects.using("a").create(code="x")
    Ruled.objects.using("b").create(code="x")

    def refuse(name: str) -> None:
        raise AssertionError("SQL for the default database")

    monkeypatch.setattr(connections["default"].ops, "compiler", refuse)
    meet(a, b, labels=RULED)
    assert Ruled.objects.using("b").get().pk == older.pk


@pytest.mark.parametrize("how", ["changed", "deleted"])
@pytest.mark.on("sqlite", "postgresql")
def test_the_younger_row_comes_back_when_the_value_is_free(replica, how):
    a, b, c = replica("a"), replica("b"), replica("c")
    older = Ruled.objects.using("a").create(code="x")
    younger = Ruled.objects.using("b").create(code="x", amount=7)
    meet(a, b, c, labels=RULED)
    if how == "changed":
        Ruled.objects.using("c").filter(pk=older.pk).update(code="y")
    else:
        Ruled.objects.using("c").filter(pk=older.pk).delete()
    meet(a, b, c, labels=RULED)
    for one in (a, b, c):
        assert Ruled.objects.using(one.alias).get(code="x").pk == younger.pk
        assert Ruled.objects.using(one.alias).get(code="x").amount == 7
        assert one.parked() == 0
    same(a, b, c, labels=RULED)


@pytest.mark.on("sqlite", "postgresql")
def test_dependants_leave_and_come_back_with_their_row(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    older = Shelf.objects.using("a").create(name="x")
    younger = Shelf.objects.using("b").create(name="x")
    Book.objects.using("b").bulk_create(Book(shelf=younger, title=str(i)) for i in range(3))
    meet(a, b, c, labels=SHELVES)
    for one in (a, b, c):
        assert Shelf.objects.using(one.alias).get().pk == older.pk
        assert not Book.objects.using(one.alias).exists()
        assert one.parked() == 4
        assert reasons(one) == {"unique value taken", "missing parent"}
    same(a, b, c, labels=SHELVES)
    Shelf.objects.using("a").update(name="y")
    meet(a, b, c, labels=SHELVES)
    for one in (a, b, c):
        assert Shelf.objects.using(one.alias).count() == 2
        assert Book.objects.using(one.alias).filter(shelf_id=younger.pk).count() == 3
        assert one.parked() == 0
    same(a, b, c, labels=SHELVES)


@pytest.mark.on("sqlite", "postgresql")
def test_an_older_row_that_takes_a_value_later_wins(replica):
    """Age is that of the row, not of the edit."""
    a, b = replica("a"), replica("b")
    older = Ruled.objects.using("a").create(code="1")
    younger = Ruled.objects.using("b").create(code="2")
    meet(a, b, labels=RULED)
    Ruled.objects.using("a").filter(pk=older.pk).update(code="3")
    Ruled.objects.using("b").filter(pk=younger.pk).update(code="3")
    meet(a, b, labels=RULED)
    for one in (a, b):
        assert Ruled.objects.using(one.alias).get().pk == older.pk
        assert parked(one) == {("testapp.Ruled", younger.pk.bytes)}
    same(a, b, labels=RULED)


@pytest.mark.on("sqlite", "mixed")
def test_of_three_the_next_one_follows(replica):
    replicas = [replica(name) for name in "abc"]
    rows = [Ruled.objects.using(one.alias).create(code="x") for one in replicas]
    meet(*replicas, labels=RULED)
    for row in rows:
        for one in replicas:
            assert Ruled.objects.using(one.alias).get().pk == row.pk
        same(*replicas, labels=RULED)
        Ruled.objects.using("b").filter(pk=row.pk).delete()
        meet(*replicas, labels=RULED)
    assert [one.parked() for one in replicas] == [0, 0, 0]


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        ({"number": 1, "series": "s"}, {"number": 1, "series": "s"}, True),
        ({"number": 1, "series": "s"}, {"number": 1, "series": "t"}, False),
        ({"colour": "red"}, {"colour": "red"}, True),
        ({"colour": "red"}, {"colour": "red", "is_valid": False}, False),
        ({"name": "Ana"}, {"name": "ANA"}, True),
        ({"name": ""}, {"name": ""}, False),
        ({"number": 101, "shape": "o"}, {"number": 102, "shape": "o"}, True),
        ({"number": None, "shape": "o"}, {"number": 102, "shape": "o"}, False),
        ({"folder": "1"}, {"folder": "1"}, True),
        ({"folder": "1"}, {"folder": "2"}, False),
    ],
)
@pytest.mark.on("sqlite", "postgresql")
def test_every_kind_of_constraint(replica, one, other, clashes):
    a, b = replica("a"), replica("b")
    folders = {name: Folder.objects.using("a").create(name=name).pk for name in "12"}
    meet(a, b, labels=FOLDERS)

    def create(alias: str, values: dict) -> Badge:
        values = {name: folders.get(value, value) for name, value in values.items()}
        return Badge.objects.using(alias).create(**{f"{n}_id" if n == "folder" else n: v for n, v in values.items()})

    older = create("a", one)
    younger = create("b", other)
    meet(a, b, labels=FOLDERS)
    for replica_ in (a, b):
        keys = set(Badge.objects.using(replica_.alias).values_list("pk", flat=True))
        assert keys == ({older.pk} if clashes else {older.pk, younger.pk})
    same(a, b, labels=FOLDERS)


@pytest.mark.on("sqlite", "postgresql")
def test_nulls_are_distinct_unless_the_constraint_says_otherwise(replica):
    a, b = replica("a"), replica("b")
    if a.site.vendor == "postgresql":
        # SQLite has no such constraints.
        constraint = models.UniqueConstraint(fields=["series"], nulls_distinct=False, name="badge_series")
        for one in (a, b):
            one.sql("CREATE UNIQUE INDEX badge_series ON testapp_badge (series) NULLS NOT DISTINCT")
    older = Badge.objects.using("a").create(number=5)
    Badge.objects.using("b").create(number=5)
    if a.site.vendor == "sqlite":
        meet(a, b, labels=FOLDERS)
        assert Badge.objects.using("a").count() == Badge.objects.using("b").count() == 2
        return
    Badge._meta.constraints.append(constraint)
    try:
        meet(a, b, labels=FOLDERS)
        for one in (a, b):
            assert Badge.objects.using(one.alias).get().pk == older.pk
        same(a, b, labels=FOLDERS)
    finally:
        Badge._meta.constraints.remove(constraint)


@pytest.mark.on("sqlite", "postgresql")
def test_a_row_does_not_take_a_value_from_what_it_depends_on(replica):
    """The child is older, but without its parent it can't be in the table."""
    a, b = replica("a"), replica("b")
    child = Folder.objects.using("a").create(name="child")
    parent = Folder.objects.using("a").create(name="parent")
    meet(a, b, labels=FOLDERS)
    Folder.objects.using("a").filter(pk=child.pk).update(parent=parent)
    Folder.objects.using("a").filter(pk=child.pk).update(name="x")
    Folder.objects.using("b").filter(pk=parent.pk).update(name="x")
    meet(a, b, labels=FOLDERS)
    for one in (a, b):
        assert Folder.objects.using(one.alias).get().pk == parent.pk
        assert parked(one) == {("testapp.Folder", child.pk.bytes)}
    same(a, b, labels=FOLDERS)


@pytest.mark.on("sqlite", "postgresql")
def test_local_fields_of_a_row_that_left_come_back(replica):
    a, b = replica("a"), replica("b")
    older = Folder.objects.using("a").create(name="x")
    younger = Folder.objects.using("b").create(name="x", opened=7)
    child = Folder.objects.using("b").create(name="y", parent=younger, opened=8)
    meet(a, b, labels=FOLDERS)
    assert Folder.objects.using("b").get().pk == older.pk
    Folder.objects.using("a").filter(pk=older.pk).update(name="z")
    meet(a, b, labels=FOLDERS)
    assert Folder.objects.using("b").get(pk=younger.pk).opened == 7
    assert Folder.objects.using("b").get(pk=child.pk).opened == 8
    assert Folder.objects.using("a").get(pk=younger.pk).opened == 0
    same(a, b, labels=FOLDERS)


@pytest.mark.on("sqlite", "postgresql")
def test_a_row_that_a_local_table_refers_to_stays(replica):
    a, b = replica("a"), replica("b")
    older = Shelf.objects.using("a").create(name="x")
    younger = Shelf.objects.using("b").create(name="x")
    click = Click.objects.using("b").create(shelf=younger)
    meet(a, b, labels=SHELVES)
    assert Shelf.objects.using("a").get().pk == older.pk
    assert Shelf.objects.using("b").get().pk == younger.pk
    assert parked(b) == {("testapp.Shelf", older.pk.bytes)}
    parking = Parking.objects.using("b").get()
    assert parking.reason == "unique value taken"
    assert "rows of testapp.Click, which does not replicate, refer to testapp.Shelf" in parking.detail
    click.delete(using="b")
    meet(a, b, labels=SHELVES)
    assert Shelf.objects.using("b").get().pk == older.pk
    same(a, b, labels=SHELVES)


def test_a_local_row_that_an_older_one_pushes_out_is_not_lost(replica):
    """The application has just written it, and nobody has posted it yet."""
    a, b, c = replica("a"), replica("b"), replica("c")
    Ruled.objects.using("a").create(code="x")
    b.pull(a, RULED)
    older = Ruled.objects.using("a").create(code="y")
    mine = Ruled.objects.using("b").create(code="y", amount=9)
    assert len(b.log()) == 1
    b.pull(a, RULED)
    b.retry_parked()
    assert not Ruled.objects.using("b").filter(pk=mine.pk).exists()
    Ruled.objects.using("a").filter(pk=older.pk).delete()
    c.pull(b, RULED)
    c.pull(a, RULED)
    c.retry_parked()
    assert Ruled.objects.using("c").get(code="y").amount == 9


@pytest.mark.parametrize("fault", [{"amount": 2**63}, {"left": "x" * 50}, {"code": 7.5}, {"right": b"\xff"}])
@pytest.mark.on("sqlite", "postgresql")
def test_a_value_that_no_row_can_have_is_no_clash_and_stops_nothing(replica, fault):
    a, b = replica("a"), replica("b")
    for i in range(3):
        Ruled.objects.using("a").create(code=str(i), left=i, right=1)
    changes = batch_of(a, "testapp.Ruled")
    guilty = list(unpack_rows(changes.rows))[1].key
    b.apply(a, edited(changes, lambda row: with_values(row, **fault) if row.key == guilty else row))
    older = Ruled.objects.using("a").create(code="x")
    Ruled.objects.using("b").create(code="x")
    b.pull(a, RULED)
    b.retry_parked()
    assert Ruled.objects.using("b").get(code="x").pk == older.pk


def test_nothing_is_written_while_nothing_changes(replica):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").create(code="x")
    Ruled.objects.using("b").create(code="x")
    meet(a, b, labels=RULED)
    with CaptureQueriesContext(connections["b"]) as queries:
        assert b.retry_parked() == 0
    assert not [q["sql"] for q in queries if q["sql"].split()[0] in ("BEGIN", "UPDATE", "INSERT", "DELETE")]


@pytest.mark.on("postgresql")
def test_a_swap_costs_no_rows_where_the_database_cascades(replica, monkeypatch):
    """To take a row out for a moment would delete what refers to it, past everybody."""
    monkeypatch.setattr(Badge._meta.get_field("folder").remote_field, "on_delete", ByDatabase("CASCADE"))
    a, b = replica("a"), replica("b")
    for one in (a, b):
        ((name,),) = one.sql(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'testapp_badge'::regclass AND contype = 'f'"
        )
        one.sql(f"ALTER TABLE testapp_badge DROP CONSTRAINT {name}")
        one.sql(
            "ALTER TABLE testapp_badge ADD FOREIGN KEY (folder_id) REFERENCES testapp_folder ON DELETE CASCADE "
            "DEFERRABLE INITIALLY DEFERRED"
        )
    folders = [Folder.objects.using("a").create(name=name) for name in "12"]
    for folder in folders:
        Badge.objects.using("a").create(folder=folder)
    meet(a, b, labels=FOLDERS)
    for folder, name in zip([folders[0], folders[1], folders[0]], ["spare", "1", "2"], strict=True):
        Folder.objects.using("a").filter(pk=folder.pk).update(name=name)
    b.pull(a, FOLDERS)
    b.retry_parked()
    assert list(Parking.objects.using("b").values_list("entry__key", "reason", "detail")) == []
    assert Badge.objects.using("b").count() == 2
    assert Folder.objects.using("b").get(pk=folders[0].pk).name == "2"
    same(a, b, labels=FOLDERS)


@pytest.mark.on("sqlite", "postgresql")
def test_rows_that_are_refused_here_keep_what_is_in_them(replica):
    labels = ("testapp.Box",)
    a, b = replica("a"), replica("b")
    outer = Box.objects.using("a").create()
    middle = Box.objects.using("a").create(inside=outer)
    Box.objects.using("a").create(inside=middle)
    meet(a, b, labels=labels)
    both = [outer.pk, middle.pk]
    Box.objects.using("a").filter(pk__in=both).update(width=8)
    Box.objects.using("b").filter(pk__in=both).update(height=8)
    meet(a, b, labels=labels)
    for one, sides in ((a, (8, 1)), (b, (1, 8))):
        boxes = Box.objects.using(one.alias)
        assert boxes.count() == 3
        assert set(boxes.filter(pk__in=both).values_list("width", "height")) == {sides}
        assert (
            list(Parking.objects.using(one.alias).values_list("reason", flat=True)) == ["refused by the database"] * 2
        )
    Box.objects.using("a").filter(pk__in=both).update(width=2)
    meet(a, b, labels=labels)
    assert (a.parked(), b.parked()) == (0, 0)
    same(a, b, labels=labels)
