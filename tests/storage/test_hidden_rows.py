"""Rows that have left a pool's filter: when they can go, and what brings them back."""

from __future__ import annotations

import pytest

from p2p_replication.models import EntryStatus, Parking
from p2p_replication.storage.capture.installation import install
from p2p_replication.storage.parking import LEAVING, MISSING_PARENT, UNIQUE
from p2p_replication.storage.unlogged import unlogged
from tests.replicas import TestReplica
from tests.storage.filtered_replica import FilteredReplica, create, exchange, notes, status
from tests.testapp.models import Book, Note, Place, Ruled, Shelf, Tag

NOTE = "testapp.Note"

pytestmark = pytest.mark.on("sqlite", "postgresql")


@pytest.fixture
def replica_class() -> type[TestReplica]:
    return FilteredReplica


def test_a_row_that_others_refer_to_leaves_when_they_are_gone(replica):
    a, b = replica("a"), replica("b")
    for one in (a, b):
        one.declare("north", "testapp.Shelf", {"name__startswith": "north"})
    shelf = Shelf.objects.using(a.alias).create(name="north 1")
    exchange("north", "testapp.Shelf", a, b)
    book = Book.objects.using(b.alias).create(shelf_id=shelf.pk, title="b's own")
    Shelf.objects.using(a.alias).update(name="south 1")
    exchange("north", "testapp.Shelf", a, b)
    assert status(b, shelf) == EntryStatus.PARKED
    assert Parking.objects.using(b.alias).get().reason == LEAVING
    assert Shelf.objects.using(b.alias).get().name == "north 1"
    assert b.retry_parked() == 0
    book.delete()
    assert b.retry_parked() == 1
    assert status(b, shelf) == EntryStatus.HIDDEN
    assert not Shelf.objects.using(b.alias).exists() and not Parking.objects.using(b.alias).exists()


def test_a_row_that_is_about_to_leave_stays_if_an_edit_here_lets_it_match(replica):
    a, b = replica("a"), replica("b")
    for one in (a, b):
        one.declare("north", "testapp.Shelf", {"name__startswith": "north"})
    shelf = Shelf.objects.using(a.alias).create(name="north 1")
    exchange("north", "testapp.Shelf", a, b)
    Book.objects.using(b.alias).create(shelf_id=shelf.pk, title="b's own")
    Shelf.objects.using(a.alias).update(name="south 1")
    exchange("north", "testapp.Shelf", a, b)
    Shelf.objects.using(b.alias).update(name="north 2")
    exchange("north", "testapp.Shelf", a, b)
    assert (status(a, shelf), status(b, shelf)) == (EntryStatus.PRESENT, EntryStatus.PRESENT)
    assert Shelf.objects.using(a.alias).get().name == Shelf.objects.using(b.alias).get().name == "north 2"


def test_it_does_not_come_in_when_a_clash_is_settled(replica):
    a, b = replica("a"), replica("b")
    for one in (a, b):
        one.declare("north", "testapp.Shelf", {"name__startswith": "north"})
        one.declare("north", "testapp.Ruled")
    Ruled.objects.using(a.alias).create(code="x")
    Ruled.objects.using(b.alias).create(code="x")
    exchange("north", "testapp.Ruled", a, b)
    shelf = Shelf.objects.using(a.alias).create(name="north 1")
    exchange("north", "testapp.Shelf", a, b)
    book = Book.objects.using(b.alias).create(shelf_id=shelf.pk, title="b's own")
    Shelf.objects.using(a.alias).update(name="south 1")
    exchange("north", "testapp.Shelf", a, b)
    assert set(Parking.objects.using(b.alias).values_list("reason", flat=True)) == {LEAVING, UNIQUE}
    assert Shelf.objects.using(b.alias).get().name == "north 1"
    book.delete()
    b.retry_parked()
    assert status(b, shelf) == EntryStatus.HIDDEN
    assert not Shelf.objects.using(b.alias).exists()


def test_a_row_with_links_stays_until_they_are_gone(replica):
    a, b = replica("a"), replica("b")
    labels = ("testapp.Tag", "testapp.Place", "testapp.Place_tags")
    for one in (a, b):
        for label in labels:
            one.declare("berlin", label, {"town": "Berlin"} if label == "testapp.Place" else None)
    place = Place.objects.using(a.alias).create(town="Berlin")
    place.tags.add(Tag.objects.using(a.alias).create(name="t"))
    for label in labels:
        exchange("berlin", label, a, b)
    assert Place.objects.using(b.alias).get().tags.count() == 1
    Place.objects.using(a.alias).update(town="Paris")
    exchange("berlin", "testapp.Place", a, b)
    parking = Parking.objects.using(b.alias).get()
    assert (parking.reason, parking.detail) == (LEAVING, "testapp.Place_tags refers to it")
    assert Place.objects.using(b.alias).get().town == "Berlin"
    place.tags.clear()
    exchange("berlin", "testapp.Place_tags", a, b)
    assert status(b, place) == EntryStatus.HIDDEN
    assert not Place.objects.using(b.alias).exists()


def test_a_row_inserted_again_over_a_hidden_one_is_there(members):
    a, b = members("ab")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=1)
    exchange("starred", NOTE, a, b)
    Note(pk=row.pk, title="again", stars=5).save(using=a.alias, force_insert=True)
    exchange("starred", NOTE, a, b)
    assert notes(a) == notes(b) == {"again": 5}
    assert status(a, row) == EntryStatus.PRESENT


def test_reconciliation_finds_nothing_amiss_in_hidden_rows(members):
    a, b = members("ab")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b)
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=1)
    exchange("starred", NOTE, a, b)
    assert install(a.alias, because="test")[NOTE].total == 0
    with a.database.writing(), unlogged(a.database):
        Note(pk=row.pk, title="past the triggers", stars=5).save(using=a.alias, force_insert=True)
    assert install(a.alias, because="test")[NOTE].adopted == 1
    a.start()
    exchange("starred", NOTE, a, b)
    assert notes(a) == notes(b) == {"past the triggers": 5}


def test_a_child_whose_parent_is_outside_of_the_filter_waits(replica):
    a, b = replica("a"), replica("b")
    for one in (a, b):
        one.declare("north", "testapp.Shelf", {"name__startswith": "north"})
        one.declare("north", "testapp.Book")
    shelf = Shelf.objects.using(a.alias).create(name="south 1")
    Book.objects.using(a.alias).create(shelf=shelf, title="on it")
    for label in ("testapp.Shelf", "testapp.Book"):
        exchange("north", label, a, b)
    assert Parking.objects.using(b.alias).get().reason == MISSING_PARENT
    Shelf.objects.using(a.alias).update(name="north 1")
    exchange("north", "testapp.Shelf", a, b)
    assert b.parked() == 0
    assert Book.objects.using(b.alias).get().shelf.name == "north 1"


def test_of_two_that_move_a_row_out_the_later_one_keeps_it(members):
    a, b, c = members("abc")
    row = create(a, "moves", 4)
    exchange("starred", NOTE, a, b, c)
    Note.objects.using(a.alias).filter(pk=row.pk).update(stars=1)
    a.post()
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=2)
    exchange("starred", NOTE, a, b, c)
    assert (notes(a), notes(b), notes(c)) == ({}, {"moves": 2}, {})
    Note.objects.using(b.alias).filter(pk=row.pk).update(stars=3)
    exchange("starred", NOTE, a, b, c)
    assert notes(a) == notes(b) == notes(c) == {"moves": 3}
