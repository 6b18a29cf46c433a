"""Applying rows that the application has its hands on: the worker yields, and what waited comes in by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections

from p2p_replication.models import Conflict, LedgerEntry, Parking
from p2p_replication.storage.held_fields import adopt_known_fields
from p2p_replication.storage.ledger import load_entries, save_entries
from p2p_replication.storage.parking import BUSY
from tests.storage.conftest import meet
from tests.testapp.models import Book, Coin, Note, Ruled, Shelf

pytestmark = pytest.mark.on("postgresql")

NOTES, COINS = ("testapp.Note",), ("testapp.Coin",)
SHELVES = ("testapp.Shelf", "testapp.Book")
LOCK_NOTE = "SELECT 1 FROM testapp_note WHERE id = %s FOR UPDATE"


@contextmanager
def transaction(replica: Any, *statements: Any) -> Iterator[Any]:
    """A transaction of the application's on a connection of its own: committed at the end, unless it was before."""
    connection = replica.site.connect()
    try:
        connection.execute("BEGIN")
        for sql, *params in statements:
            connection.execute(sql, params)
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


@contextmanager
def at_statement(alias: str, part: str, act: Callable[[], Any], *, after: bool = True) -> Iterator[list[str]]:
    """Do something once, right after (or before) the first statement of a connection that has ``part`` in it."""
    done: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if part not in sql or done:
            return execute(sql, params, many, context)
        done.append(sql)
        if not after:
            act()
        result = execute(sql, params, many, context)
        if after:
            act()
        return result

    with connections[alias].execute_wrapper(wrapper):
        yield done
    assert done, f"no statement had {part!r} in it"


def reasons(replica: Any) -> list[str]:
    return list(Parking.objects.using(replica.alias).values_list("reason", flat=True))


def pair_with_notes(replica: Any, count: int = 1) -> tuple[Any, Any, list[Note]]:
    a, b = replica("a"), replica("b")
    notes = [Note.objects.using("a").create(title=f"n{i}", body="old") for i in range(count)]
    meet(a, b, labels=NOTES)
    return a, b, notes


def test_only_the_locked_row_waits(replica):
    a, b, notes = pair_with_notes(replica, 20)
    for note in notes:
        Note.objects.using("a").filter(pk=note.pk).update(stars=5)
    with transaction(b, (LOCK_NOTE, notes[7].pk)):
        (outcome,) = b.pull(a, NOTES)
        assert outcome.taken
        assert list(outcome.parked) == [b.site.key(notes[7].pk)]
        # It was told at the first look, without waiting with the other rows locked.
        assert "the application has not committed" in outcome.parked[b.site.key(notes[7].pk)]
        assert reasons(b) == [BUSY]
        assert Note.objects.using("b").filter(stars=5).count() == 19
        assert b.retry_parked() == 0
    assert b.retry_parked() == 1
    assert Note.objects.using("b").filter(stars=5).count() == 20
    assert reasons(b) == []
    assert b.vector("testapp.Note")[a.database.start] == a.vector("testapp.Note")[a.database.start]


def test_a_lock_that_ends_soon_parks_nothing(replica):
    a, b, (note,) = pair_with_notes(replica)
    Note.objects.using("a").filter(pk=note.pk).update(stars=5)
    connection = b.site.connect()
    connection.execute("BEGIN")
    connection.execute(LOCK_NOTE, [note.pk])
    with at_statement("b", "SKIP LOCKED", lambda: connection.execute("ROLLBACK")):
        (outcome,) = b.pull(a, NOTES)
    connection.close()
    assert outcome.parked == {}
    assert Note.objects.using("b").get().stars == 5


@pytest.mark.parametrize("field", ["stars", "body"], ids=["different fields", "one field"])
@pytest.mark.parametrize("later", ["peer", "application"])
def test_what_the_application_wrote_under_its_lock_is_merged(replica, later, field):
    a, b, (note,) = pair_with_notes(replica)
    value = 7 if field == "stars" else "application"
    write = (f"UPDATE testapp_note SET {field} = %s WHERE id = %s", value, note.pk)
    if later == "application":
        Note.objects.using("a").filter(pk=note.pk).update(body="peer")
    with transaction(b, write):
        if later == "peer":
            Note.objects.using("a").filter(pk=note.pk).update(body="peer")
        b.pull(a, NOTES)
        assert reasons(b) == [BUSY]
    meet(a, b, labels=NOTES)
    assert a.rows() == b.rows()
    assert b.parked() == 0
    row = Note.objects.using("a").get()
    if field == "stars":
        assert (row.stars, row.body) == (7, "peer")
    else:
        # What is committed after a peer's edit has arrived comes after it.
        assert row.body == "application"


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "rolled back"])
def test_a_delete_that_arrives_beats_the_edit_it_waited_for(replica, committed):
    a, b, (note,) = pair_with_notes(replica)
    Note.objects.using("a").get().delete()
    with transaction(b, ("UPDATE testapp_note SET stars = 7 WHERE id = %s", note.pk)) as application:
        b.pull(a, NOTES)
        assert reasons(b) == [BUSY]
        if not committed:
            application.execute("ROLLBACK")
    meet(a, b, labels=NOTES)
    assert not Note.objects.using("a").exists()
    assert not Note.objects.using("b").exists()
    assert b.parked() == 0
    assert [conflict.lost_values for conflict in Conflict.objects.using("b")] == ([{"stars": 7}] if committed else [])


def test_a_delete_under_the_lock_beats_the_edit_that_arrives(replica):
    a, b, (note,) = pair_with_notes(replica)
    Note.objects.using("a").update(stars=5)
    with transaction(b, ("DELETE FROM testapp_note WHERE id = %s", note.pk)):
        b.pull(a, NOTES)
        assert reasons(b) == [BUSY]
    meet(a, b, labels=NOTES)
    assert not Note.objects.using("a").exists()
    assert not Note.objects.using("b").exists()
    assert b.parked() == 0


def test_a_new_life_under_the_lock_outlives_the_delete_that_arrives(replica):
    a, b, (note,) = pair_with_notes(replica)
    Note.objects.using("a").get().delete()
    again = "INSERT INTO testapp_note (id, title, body, stars, updated_at) VALUES (%s, 'again', '', 1, now())"
    with transaction(b, ("DELETE FROM testapp_note WHERE id = %s", note.pk), (again, note.pk)):
        b.pull(a, NOTES)
    meet(a, b, labels=NOTES)
    assert [n.title for n in Note.objects.using("a").all()] == ["again"]
    assert a.rows() == b.rows()
    assert b.parked() == 0


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_one_key_inserted_by_the_application_and_a_peer(replica, end):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").bulk_create(Coin(code=f"c{i:02}", name="peer", rate=1) for i in range(20))
    insert = ("INSERT INTO testapp_coin (code, name, rate) VALUES (%s, 'application', 2)", "c07")
    with transaction(b, insert) as application:
        b.pull(a, COINS)
        assert reasons(b) == [BUSY]
        assert Coin.objects.using("b").count() == 19
        application.execute(end)
    meet(a, b, labels=COINS)
    assert a.rows() == b.rows()
    assert b.parked() == 0
    assert Coin.objects.using("a").count() == 20
    assert Coin.objects.using("a").get(code="c07").name == ("application" if end == "COMMIT" else "peer")


@pytest.mark.parametrize("at", ["SKIP LOCKED", "SELECT DISTINCT key", "born_counter", "INSERT INTO testapp"])
@pytest.mark.parametrize("known", [True, False], ids=["deleted before", "never seen"])
@pytest.mark.parametrize("arriving", ["insert", "delete"])
def test_an_insert_that_is_committed_while_a_batch_is_applied(replica, at, known, arriving):
    """Between any two statements of the applier, which has locked the rows that were there at its first look."""
    a, b = replica("a"), replica("b")
    if known:
        Coin.objects.using("b").create(code="c", name="first", rate=0)
        meet(a, b, labels=COINS)
        Coin.objects.using("b").get().delete()
        meet(a, b, labels=COINS)
    coin = Coin.objects.using("a").create(code="c", name="peer", rate=1)
    if arriving == "delete":
        a.post()
        coin.delete()
        if at.startswith("INSERT"):
            return  # A delete inserts nothing.
    insert = ("INSERT INTO testapp_coin (code, name, rate) VALUES ('c', 'application', 2)", ())
    marked = at if not at.startswith("INSERT") else 'INSERT INTO "testapp_coin"'
    with at_statement("b", marked, lambda: b.outside(insert), after=not at.startswith("INSERT")):
        b.pull(a, COINS)
    meet(a, b, labels=COINS)
    assert a.rows() == b.rows()
    assert [c.name for c in Coin.objects.using("b").all()] == ["application"]


def test_an_insert_and_an_edit_committed_while_a_batch_is_applied(replica):
    """The applier has not locked the row, as it was not there yet: it must not write over the edit."""
    a, b = replica("a"), replica("b")
    Coin.objects.using("b").create(code="c", name="first", rate=0)
    meet(a, b, labels=COINS)
    Coin.objects.using("b").get().delete()
    meet(a, b, labels=COINS)
    Coin.objects.using("a").create(code="c", name="peer", rate=1)
    insert = ("INSERT INTO testapp_coin (code, name, rate) VALUES ('c', 'application', 2)", ())
    edit = ("UPDATE testapp_coin SET name = 'edited'", ())
    with at_statement("b", "SELECT DISTINCT key", lambda: b.outside(insert)):  # noqa: SIM117
        with at_statement("b", 'FROM "testapp_coin" t WHERE', lambda: b.outside(edit)):
            b.pull(a, COINS)
    meet(a, b, labels=COINS)
    assert a.rows() == b.rows()
    assert Coin.objects.using("a").get().name == "edited"


def test_a_parent_that_the_application_deletes(replica):
    """The child's foreign key waits for the application's delete, and the child for a parent afterwards."""
    a, b = replica("a"), replica("b")
    shelves = [Shelf.objects.using("a").create(name=f"s{i}") for i in range(3)]
    meet(a, b, labels=SHELVES)
    Book.objects.using("a").bulk_create(Book(shelf=shelf, title="new") for shelf in shelves)
    with transaction(b, ("DELETE FROM testapp_shelf WHERE id = %s", shelves[1].pk)):
        b.pull(a, SHELVES)
        assert reasons(b) == [BUSY]
        assert Book.objects.using("b").count() == 2
    b.retry_parked()
    assert b.parked() == 1
    assert Book.objects.using("b").count() == 2


def test_a_child_that_the_application_adds_to_a_parent_that_a_peer_deletes(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    meet(a, b, labels=SHELVES)
    Shelf.objects.using("a").get().delete()
    book = Book(shelf_id=shelf.pk, title="new")
    insert = ("INSERT INTO testapp_book (id, shelf_id, title) VALUES (%s, %s, 'new')", book.pk, shelf.pk)
    # Checked at once, as by a foreign key that is not deferrable: the parent is locked against deletes.
    with transaction(b, ("SET CONSTRAINTS ALL IMMEDIATE",), insert):
        b.pull(a, SHELVES)
        assert reasons(b) == [BUSY]
    b.retry_parked()
    assert b.parked() == 1  # "still referenced"
    assert Shelf.objects.using("b").exists()
    Book.objects.using("b").get().delete()
    meet(a, b, labels=SHELVES)
    assert b.parked() == 0
    assert not Shelf.objects.using("b").exists()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_unique_value_that_an_open_transaction_has_taken(replica, end):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("a").bulk_create(Ruled(code=f"c{i}") for i in range(10))
    mine = Ruled(code="c3")
    insert = (
        "INSERT INTO testapp_ruled (id, code, amount, label, must) VALUES (%s, 'c3', 0, '', '')",
        mine.pk,
    )
    with transaction(b, insert) as application:
        b.pull(a, ("testapp.Ruled",))
        assert reasons(b) == [BUSY]
        assert Ruled.objects.using("b").count() == 9
        application.execute(end)
    b.post()
    assert b.retry_parked() == 1
    assert Ruled.objects.using("b").count() == 10
    if end == "COMMIT":
        # The peer's row is older, so the application's own waits until the value is free.
        assert reasons(b) == ["unique value taken"]
        Ruled.objects.using("b").get(code="c3").delete()
        b.post()
        b.retry_parked()
        assert Ruled.objects.using("b").get(code="c3").pk == mine.pk
    assert b.parked() == 0


def test_a_locked_row_costs_a_batch_few_attempts(replica):
    """An insert that nobody can foresee is found by halving the batch, with no new patience for each half."""
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").bulk_create(Coin(code=f"c{i:03}", name="peer") for i in range(128))
    attempts = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        attempts.extend([sql] if 'INSERT INTO "testapp_coin"' in sql else [])
        return execute(sql, params, many, context)

    insert = ("INSERT INTO testapp_coin (code, name, rate) VALUES ('c077', 'application', 2)",)
    with transaction(b, insert), connections["b"].execute_wrapper(count):
        b.pull(a, COINS)
    assert reasons(b) == [BUSY]
    assert len(attempts) < 30


def test_held_fields_of_a_locked_row_hold_up_nobody(replica):
    """A row whose held value the table could take by now is locked: it is parked, and the worker opens."""
    _, b, notes = pair_with_notes(replica, 3)
    stream = b.stream("testapp.Note")
    entries = load_entries(connections["b"], stream.id, [b.site.key(note.pk) for note in notes])
    for entry in entries.values():
        # As if "stars" had been unknown to this schema when the row came.
        entry.layout = stream.layout_id(tuple(name for name in stream.table.names if name != "stars"))
        entry.held = {"stars": 4}
    save_entries(connections["b"], stream.id, entries.values())
    with transaction(b, (LOCK_NOTE, notes[1].pk)):
        adopt_known_fields(b.database)
        assert Note.objects.using("b").filter(stars=4).count() == 2
        assert reasons(b) == [BUSY]
    b.retry_parked()
    assert Note.objects.using("b").filter(stars=4).count() == 3
    assert not LedgerEntry.objects.using("b").exclude(held=None).exists()


def test_a_reference_that_only_the_commit_would_refuse_is_found_before(replica):
    """Django's foreign keys are checked at the commit: the row at fault must be found while it can be told."""
    a, b = replica("a"), replica("b")
    shelves = [Shelf.objects.using("a").create(name=f"s{i}") for i in range(3)]
    meet(a, b, labels=SHELVES)
    Book.objects.using("a").bulk_create(Book(shelf=shelf, title="new") for shelf in shelves)
    gone = ("DELETE FROM testapp_shelf WHERE id = %s", [shelves[1].pk])
    # Committed after the applier has looked for the parents.
    with at_statement("b", 'INSERT INTO "testapp_book"', lambda: b.outside(gone), after=False):
        b.pull(a, SHELVES)
    assert b.parked() == 1
    assert Book.objects.using("b").count() == 2
