"""Models whose key on the wire is another field than their primary key, which is a local number."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connections, transaction

from p2p_replication.models import Parking
from p2p_replication.pool.part import Part
from p2p_replication.protocol.verification import Outcome, compare
from p2p_replication.storage.capture.installation import install, remove
from p2p_replication.storage.unlogged import unlogged
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Crate, Depot, Stamp

LABELS = ("testapp.Depot", "testapp.Crate", "testapp.Stamp")
ALL = pytest.mark.on("sqlite", "postgresql")


def burn(replica: StorageReplica, numbers: int) -> None:
    """Let this replica's primary keys be others than its peers'."""
    alias = replica.alias
    with connections[alias].cursor() as cursor:
        for model in (Depot, Crate):
            table = model._meta.db_table
            if replica.site.vendor == "sqlite":
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, numbers])
            else:
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, numbers])


@pytest.fixture
def two(replica: Any) -> tuple[StorageReplica, StorageReplica]:
    a, b = replica("a"), replica("b")
    burn(a, 1000)
    burn(b, 2000)
    return a, b


def assert_equal(*replicas: StorageReplica) -> None:
    first = replicas[0]
    for other in replicas[1:]:
        for label in LABELS:
            assert first.canonical(label) == other.canonical(label)
            assert compare(first.digest(label), other.digest(label)).outcome is Outcome.EQUAL
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []


@ALL
def test_rows_have_primary_keys_of_their_own_on_each_replica(two):
    a, b = two
    depot = Depot.objects.using("a").create(slug="north", name="North")
    crate = Crate.objects.using("a").create(depot=depot, label="c")
    stamp = Stamp.objects.using("a").create(crate=crate, text="s")
    Depot.objects.using("b").create(slug="south", name="South")
    meet(a, b, labels=LABELS)
    assert b.parked() == 0
    there = Stamp.objects.using("b").get(pk=stamp.pk).crate
    assert (there.uid, there.depot.slug, there.depot.name) == (crate.uid, "north", "North")
    assert depot.pk < 2000 <= there.depot.pk
    assert crate.pk < 2000 <= there.pk
    assert_equal(a, b)
    # And on from there: edits on both sides, a new row behind those that peers have sent.
    Depot.objects.using("b").filter(slug="north").update(name="N")
    Crate.objects.using("a").filter(uid=crate.uid).update(label="C")
    Depot.objects.using("b").create(slug="east")
    Crate.objects.using("b").filter(uid=crate.uid).update(depot=Depot.objects.using("b").get(slug="south"))
    meet(a, b, labels=LABELS)
    there = Crate.objects.using("a").get(uid=crate.uid)
    assert (there.label, there.depot.slug) == ("C", "south")
    assert Depot.objects.using("a").get(slug="north").name == "N"
    assert_equal(a, b)
    for one in two:
        one.sent_rows = 0
    meet(a, b, labels=LABELS)
    assert [one.sent_rows for one in two] == [0, 0]


@ALL
@pytest.mark.parametrize("batch_size", [0, 1])
def test_children_before_parents_wait_and_come_in_together(two, batch_size):
    """A chain and a cycle in one table, and rows of another model, before anything that they refer to."""
    a, b = two
    depot = Depot.objects.using("a").create(slug="d")
    crates = [Crate.objects.using("a").create(depot=depot, label=str(i)) for i in range(5)]
    for child, parent in zip(crates, [*crates[1:], crates[0]], strict=True):
        Crate.objects.using("a").filter(pk=child.pk).update(inside=parent)
    Stamp.objects.using("a").bulk_create(Stamp(crate=crate) for crate in crates)
    b.pull(a, LABELS[::-1], batch_size=batch_size)
    assert b.parked() == 10
    assert set(Parking.objects.using("b").values_list("reason", flat=True)) == {"missing parent"}
    while b.retry_parked():
        pass
    assert b.parked() == 0
    assert_equal(a, b)


@ALL
def test_deletes_of_rows_that_others_refer_to(two):
    a, b = two
    for slug in ("kept", "gone"):
        depot = Depot.objects.using("a").create(slug=slug)
        outer = Crate.objects.using("a").create(depot=depot, label="outer")
        Crate.objects.using("a").create(depot=depot, label="inner", inside=outer)
    meet(a, b, labels=LABELS)
    new = Crate.objects.using("b").create(depot=Depot.objects.using("b").get(slug="kept"), label="new")
    for depot in Depot.objects.using("a"):
        depot.delete()
    b.pull(a, LABELS)
    b.retry_parked()
    assert [depot.slug for depot in Depot.objects.using("b")] == ["kept"]
    assert list(Crate.objects.using("b").values_list("label", flat=True)) == ["new"]
    assert Parking.objects.using("b").get().reason == "still referenced"
    new.delete(using="b")
    meet(a, b, labels=LABELS)
    assert not Depot.objects.using("b").exists()
    assert b.parked() == 0
    assert_equal(a, b)


@pytest.mark.on("sqlite")
def test_what_a_peer_is_told_names_the_key(two):
    """Two replicas that name different fields of one kind must not take one for the other."""
    offers = {}
    for label in LABELS:
        offers[label] = Part(two[0].database, two[0].stream(label), 1).offer().fields
    assert [offers[label][""] for label in LABELS] == ["slug: text", "uid: uuid", "uuid"]
    assert offers["testapp.Crate"]["depot"] == "key of testapp.Depot: text"
    assert offers["testapp.Stamp"]["crate"] == "key of testapp.Crate: uuid"
    assert "id" not in offers["testapp.Depot"] and "slug" not in offers["testapp.Depot"]


@ALL
def test_the_same_key_made_on_two_replicas_is_one_row(two):
    a, b = two
    for one, name in ((a, "from a"), (b, "from b")):
        depot = Depot.objects.using(one.alias).create(slug="same", name=name)
        Crate.objects.using(one.alias).create(depot=depot, label=name)
    meet(a, b, labels=LABELS)
    assert_equal(a, b)
    assert Crate.objects.using("a").filter(depot__slug="same").count() == 2
    assert a.parked() == b.parked() == 0


@ALL
def test_a_deleted_row_comes_again_with_another_primary_key(two):
    a, b = two
    Depot.objects.using("a").create(slug="d", name="first")
    meet(a, b, labels=LABELS)
    Depot.objects.using("a").get().delete()
    depot = Depot.objects.using("a").create(slug="d", name="second")
    Crate.objects.using("a").create(depot=depot)
    meet(a, b, labels=LABELS)
    assert Depot.objects.using("b").get().name == "second"
    assert_equal(a, b)


@ALL
def test_another_key_is_a_delete_and_an_insert_and_what_refers_to_the_row_follows(two):
    a, b = two
    depot = Depot.objects.using("a").create(slug="old", name="n")
    crate = Crate.objects.using("a").create(depot=depot, label="c")
    Stamp.objects.using("a").create(crate=crate)
    meet(a, b, labels=LABELS)
    Depot.objects.using("a").update(slug="new")
    other = uuid.uuid4()
    Crate.objects.using("a").update(uid=other)
    for _ in range(3):
        meet(a, b, labels=LABELS)
    assert [(d.slug, d.name) for d in Depot.objects.using("b")] == [("new", "n")]
    assert Stamp.objects.using("b").get().crate.uid == other
    assert Crate.objects.using("b").get().depot.slug == "new"
    assert a.parked() == b.parked() == 0
    assert_equal(a, b)
    # The primary key of a row means nothing to anybody.
    for one in two:
        one.sent_rows = 0
    Stamp.objects.using("a").update(crate=None)
    meet(a, b, labels=LABELS)
    Crate.objects.using("a").update(id=99)
    Stamp.objects.using("b").update(crate=Crate.objects.using("b").get())
    meet(a, b, labels=LABELS)
    assert Stamp.objects.using("a").get().crate_id == 99
    assert_equal(a, b)


@ALL
def test_two_rows_that_swap_their_keys(two):
    a, b = two
    for slug in "xy":
        depot = Depot.objects.using("a").create(slug=slug, name=f"was {slug}")
        Crate.objects.using("a").create(depot=depot, label=f"in what was {slug}")
    meet(a, b, labels=LABELS)
    with transaction.atomic(using="a"):
        for old, new in (("x", "t"), ("y", "x"), ("t", "y")):
            Depot.objects.using("a").filter(slug=old).update(slug=new)
    for _ in range(2):
        meet(a, b, labels=LABELS)
    assert set(Depot.objects.using("b").values_list("slug", "name")) == {("x", "was y"), ("y", "was x")}
    crates = set(Crate.objects.using("b").values_list("label", "depot__slug"))
    assert crates == {("in what was x", "y"), ("in what was y", "x")}
    assert_equal(a, b)


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("posted", [True, False])
def test_a_row_that_replaces_another_with_its_primary_key(two, posted):
    """What referred to the one refers to the other now, though nothing was written there."""
    a, b = two
    depot = Depot.objects.using("a").create(slug="x")
    Crate.objects.using("a").create(depot=depot, label="c")
    meet(a, b, labels=LABELS)
    a.outside(("INSERT OR REPLACE INTO testapp_depot (id, slug, name) VALUES (%s, 'y', '')", [depot.pk]))
    if posted:
        a.post()
    for _ in range(2):
        meet(a, b, labels=LABELS)
    assert [d.slug for d in Depot.objects.using("b")] == ["y"]
    assert Crate.objects.using("b").get().depot.slug == "y"
    assert_equal(a, b)
    # Not replaced: nothing is said of it.
    a.outside(("INSERT OR IGNORE INTO testapp_depot (id, slug, name) VALUES (%s, 'z', '')", [depot.pk]))
    a.outside(("INSERT OR REPLACE INTO testapp_depot (id, slug, name) VALUES (%s, 'y', 'n')", [depot.pk]))
    meet(a, b, labels=LABELS)
    assert [(d.slug, d.name) for d in Depot.objects.using("b")] == [("y", "n")]
    assert_equal(a, b)


@ALL
def test_a_renamed_row_does_not_undo_what_a_parked_row_says(two):
    """A peer has moved a crate to a depot that is not here yet; then the depot where it still lies gets another key."""
    a, b = two
    first = Depot.objects.using("a").create(slug="first")
    Crate.objects.using("a").create(depot=first)
    meet(a, b, labels=LABELS)
    Crate.objects.using("a").update(depot=Depot.objects.using("a").create(slug="second"))
    b.pull(a, ("testapp.Crate",))
    assert b.parked() == 1
    Depot.objects.using("b").update(slug="renamed")
    b.post()
    for _ in range(2):
        meet(b, a, labels=LABELS)
    for alias in "ab":
        assert Crate.objects.using(alias).get().depot.slug == "second"
        assert set(Depot.objects.using(alias).values_list("slug", flat=True)) == {"renamed", "second"}
    assert_equal(a, b)


@ALL
def test_rows_that_were_there_before_meet_by_their_keys(two):
    a, b = two
    for one, slugs in ((a, ("m", "only a")), (b, ("only b", "m"))):
        remove(one.alias)
        for slug in slugs:
            depot = Depot.objects.using(one.alias).create(slug=slug)
            Crate.objects.using(one.alias).create(uid=uuid.uuid5(uuid.NAMESPACE_DNS, slug), depot=depot)
        install(one.alias)
        one.start()
    meet(a, b, labels=LABELS)
    assert Depot.objects.using("a").count() == Depot.objects.using("b").count() == 3
    assert Crate.objects.using("a").get(depot__slug="only b")
    assert_equal(a, b)
    for one in two:
        found = install(one.alias, because="test")
        assert all(not r.total for r in found.values()), found


@ALL
def test_forged_references_lose_nothing(two):
    a, b = two
    depot = Depot.objects.using("a").create(slug="d")
    Crate.objects.using("a").create(depot=depot, label="bad")
    Crate.objects.using("a").create(depot=depot, label="good")
    b.pull(a, ("testapp.Depot",))
    for value in (depot.pk, b"d", 1.5, True, "nowhere"):
        forged = edited(
            batch_of(a, "testapp.Crate"),
            lambda row, value=value: with_values(row, depot=value) if row.state.values["label"] == "bad" else row,
        )
        b.apply(a, forged)
        assert list(Crate.objects.using("b").values_list("label", flat=True)) == ["good"]
        assert b.retry_parked() == 0
    assert b.parked() == 1


@ALL
def test_unique_values_can_be_swapped_and_primary_keys_stay(two):
    """Two parked rows that swap a unique value are taken out and put back as they were."""
    a, b = two
    for slug in "xy":
        Depot.objects.using("a").create(slug=slug)
    meet(a, b, labels=LABELS)
    before = dict(Depot.objects.using("b").values_list("slug", "pk"))
    stream = b.stream("testapp.Depot")
    with b.database.writing(), unlogged(b.database):
        stream.table.rewrite({"x": {"name": "1"}, "y": {"name": "2"}})
    assert dict(Depot.objects.using("b").values_list("slug", "pk")) == before
    assert set(Depot.objects.using("b").values_list("slug", "name")) == {("x", "1"), ("y", "2")}
