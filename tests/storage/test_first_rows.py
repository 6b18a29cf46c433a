"""The way of a row from one table to another, without a network."""

from __future__ import annotations

from tests.replicas import exchange
from tests.testapp.models import Book, Note, Shelf


def test_every_kind_of_write_reaches_the_other_replica(replica):
    a, b = replica("a"), replica("b")
    note = Note(title="one")
    note.save(using="a")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(700))
    Note.objects.using("a").filter(title="n5").update(stars=5)
    a.sql("UPDATE testapp_note SET stars = 7 WHERE title = 'n7'")
    Note.objects.using("a").filter(title="n9").delete()
    b.pull(a)
    assert Note.objects.using("b").count() == 700
    assert a.rows() == b.rows()
    assert a.post().entries == 0
    assert b.post().entries == 0  # no echo
    b.pull(a)
    a.pull(b)
    assert b.sent_rows == 0
    assert a.sent_rows == 700


def test_edits_of_different_fields_both_survive(replica):
    a, b = replica("a"), replica("b")
    note = Note(title="t", body="b")
    note.save(using="a")
    exchange(a, b)
    Note.objects.using("a").update(title="from a")
    Note.objects.using("b").update(body="from b")
    exchange(a, b)
    assert a.rows() == b.rows()
    row = Note.objects.using("a").get()
    assert (row.title, row.body) == ("from a", "from b")


def test_a_child_waits_for_its_parent(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf(name="s")
    shelf.save(using="a")
    Book(shelf=shelf, title="t").save(using="a")
    b.pull(a, ("testapp.Book",))
    assert b.parked() == 1
    assert Book.objects.using("b").count() == 0
    b.pull(a, ("testapp.Shelf",))
    assert b.retry_parked() == 1
    assert a.rows() == b.rows()
    assert b.parked() == 0
