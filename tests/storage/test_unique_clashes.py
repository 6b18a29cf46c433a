"""Unique clashes: the older row keeps the value on every replica; the other waits everywhere, and comes back."""

from __future__ import annotations

import itertools

import pytest

from p2p_replication.models import EntryStatus, LedgerEntry, Parking
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Book, Ruled, Shelf

RULED = ("testapp.Ruled",)
SHELVES = ("testapp.Shelf", "testapp.Book")


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


@pytest.mark.on("sqlite", "postgresql", "mixed")
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


@pytest.mark.parametrize("how", ["changed", "deleted"])
@pytest.mark.on("sqlite", "postgresql", "mixed")
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


@pytest.mark.on("sqlite", "postgresql", "mixed")
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
