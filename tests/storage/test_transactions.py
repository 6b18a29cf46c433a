"""Batches of several models: read from one snapshot, applied in one transaction, or each alone where that can't be."""

from __future__ import annotations

import msgspec
import pytest
from django.db import IntegrityError, connections, transaction

from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import Changes
from p2p_replication.signals import rows_replicated
from p2p_replication.storage import changes as reading
from p2p_replication.storage.bundles import Delivery, apply_together
from p2p_replication.storage.changes import PullWish, PushWish, read_pulls, read_pushes
from p2p_replication.storage.posting import post_keys
from p2p_replication.storage.subsets import EVERYTHING
from tests.storage.conftest import meet
from tests.testapp.models import Book, Coin, Note, Shelf, Tag

NOTE, SHELF, BOOK = "testapp.Note", "testapp.Shelf", "testapp.Book"


def bundle(sender, receiver, labels=(SHELF, BOOK, NOTE)):
    """Read what the sender has of some models, and return it as the receiver's deliveries."""
    wishes = [
        PullWish(sender.stream(label), sender.declarations[label], receiver.vector(label), None) for label in labels
    ]
    batches = read_pulls(sender.database, wishes)
    return [
        Delivery(
            receiver.stream(label), receiver.declarations[label],
            Changes(label, 1, 1, batch.start, batch.from_seq, batch.to_seq, batch.continues, 0, batch.vector, 0,
                    batch.rows, batch.snapshot),
            EVERYTHING,
        )
        for label, batch in zip(labels, batches, strict=False)
    ]  # fmt: skip


def deliver(sender, receiver, labels=(SHELF, BOOK, NOTE)):
    return apply_together(receiver.database, sender.database.replica_id, bundle(sender, receiver, labels))


def test_a_push_has_the_rest_of_a_transaction_of_which_a_row_was_posted_early(replica):
    a = replica("a")
    note = Note.objects.using("a").create(title="n")
    a.post()
    before = {label: a.vector(label).get(a.database.start, 0) for label in (NOTE, SHELF)}
    with transaction.atomic(using="a"):
        Note.objects.using("a").filter(pk=note.pk).update(title="new")
        Shelf.objects.using("a").create(name="s")
    with a.database.writing():  # as when a peer's edit of the note arrives
        post_keys(a.database, a.stream(NOTE), [a.entry(note).key])
    pushes = read_pushes(a.database, [PushWish(a.stream(label), before[label]) for label in (NOTE, SHELF)])
    assert [push.count for push in pushes] == [1, 1]


def test_too_many_rows_together_are_not_pushed(replica, monkeypatch):
    monkeypatch.setattr(reading, "TOGETHER_ROWS", 10)
    a = replica("a")
    for i in range(6):
        Note.objects.using("a").create(title=f"n{i}")
        Shelf.objects.using("a").create(name=f"s{i}")
    a.post()
    wishes = [PushWish(a.stream(label), 0, limit=8) for label in (NOTE, SHELF)]
    assert [push.rows for push in read_pushes(a.database, wishes)] == [None, None]
    assert [push.count for push in read_pushes(a.database, wishes[:1])] == [6]


def test_a_pull_of_several_models_ends_with_the_first_that_is_too_long(replica, monkeypatch):
    monkeypatch.setattr(reading, "TOGETHER_ROWS", 10)
    a = replica("a")
    for i in range(6):
        Note.objects.using("a").create(title=f"n{i}")
        Shelf.objects.using("a").create(name=f"s{i}")
    wishes = [PullWish(a.stream(label), a.declarations[label], {}, None) for label in (SHELF, NOTE, BOOK)]
    shelves, notes = read_pulls(a.database, wishes)
    assert (shelves.count, shelves.vector is None) == (6, False)
    assert (notes.count, notes.vector is None) == (4, True)


def test_models_share_the_bytes_of_a_batch(replica, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_BYTES", 1_500)
    a = replica("a")
    Shelf.objects.using("a").create(name="x" * 40)
    Tag.objects.using("a").create(name="x" * 40)
    for _ in range(2):
        Note.objects.using("a").create(title="n", body="y" * 650)
    labels = (SHELF, "testapp.Tag", NOTE, BOOK)
    wishes = [PullWish(a.stream(label), a.declarations[label], {}, None) for label in labels]
    batches = read_pulls(a.database, wishes)
    assert [(batch.count, batch.vector is None) for batch in batches] == [(1, False), (1, False), (1, True)]
    a.post()
    pushes = read_pushes(a.database, [PushWish(a.stream(label), 0) for label in labels])
    assert [push.rows for push in pushes] == [None] * 4
    (alone,) = read_pulls(a.database, wishes[2:3])
    assert alone.count == 2


def test_one_long_row_is_read_alone(replica, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_BYTES", 1_500)
    a = replica("a")
    Shelf.objects.using("a").create(name="s")
    Note.objects.using("a").create(title="n", body="y" * 9_000)
    wishes = [PullWish(a.stream(label), a.declarations[label], {}, None) for label in (SHELF, NOTE)]
    (shelves,) = read_pulls(a.database, wishes)
    assert shelves.vector is not None
    (notes,) = read_pulls(a.database, wishes[1:])
    assert notes.count == 1


@pytest.mark.on("sqlite")
def test_a_key_that_not_every_database_takes_stays_here_and_holds_up_nobody(replica, caplog):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="a\0b")
    Coin.objects.using("a").create(code="fine")
    a.post()
    assert "without NUL" in caplog.text
    b.pull(a, ("testapp.Coin",))
    assert set(Coin.objects.using("b").values_list("code", flat=True)) == {"fine"}


def test_a_key_with_a_nul_is_an_offence(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="fine")
    changes = a.push(b, "testapp.Coin", 0) if a.post() else None
    forged = msgspec.structs.replace(changes, rows=msgspec.structs.replace(changes.rows, keys=["a\0b"]))
    with pytest.raises(RemoteProtocolError, match="with a NUL"):
        b.apply(a, forged)


def test_a_bundle_is_applied_in_one_transaction(replica):
    a, b = replica("a"), replica("b")
    with transaction.atomic(using="a"):
        shelf = Shelf.objects.using("a").create(name="s")
        Book.objects.using("a").create(title="b", shelf=shelf)
        Note.objects.using("a").create(title="n")
    commits = []
    with connections["b"].execute_wrapper(lambda execute, sql, *args: commits.append(sql) or execute(sql, *args)):
        applied = deliver(a, b)
    assert [outcome.taken for outcome in applied] == [True] * 3
    assert b.rows() == a.rows()
    assert sum(sql.startswith("UPDATE p2p_replication_replica SET sequence") for sql in commits) == 3
    assert [b.vector(label) for label in (SHELF, BOOK, NOTE)] == [a.vector(label) for label in (SHELF, BOOK, NOTE)]


def test_rows_whose_parents_come_later_in_the_bundle_are_let_in_by_it(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    Book.objects.using("a").create(title="b", shelf=shelf)
    applied = deliver(a, b, (BOOK, SHELF))
    assert [outcome.parked for outcome in applied] == [{}, {}]
    assert b.parked() == 0
    assert b.rows() == a.rows()


def test_deletes_of_parents_and_children_are_one_whatever_else_is_parked(replica):
    a, b = replica("a"), replica("b")
    shelves = [Shelf(name=str(i)) for i in range(20)]
    Shelf.objects.using("a").bulk_create(shelves)
    Book.objects.using("a").bulk_create([Book(title="b", shelf=shelf) for shelf in shelves])
    Note.objects.using("a").bulk_create([Note(title="stays out") for _ in range(30)])
    b.sql("CREATE UNIQUE INDEX one_title ON testapp_note ((1))")
    meet(a, b)
    assert b.parked() == 29
    with transaction.atomic(using="a"):
        Book.objects.using("a").all().delete()
        Shelf.objects.using("a").all().delete()
    applied = deliver(a, b)
    assert [outcome.parked for outcome in applied] == [{}, {}, {}]
    assert Shelf.objects.using("b").count() == Book.objects.using("b").count() == 0
    assert b.parked() == 29


def test_a_bundle_with_a_row_that_the_database_refuses_leaves_nothing(replica):
    a, b = replica("a"), replica("b")
    heard = []
    rows_replicated.connect(receiver := lambda keys, **_: heard.append(keys), sender=Shelf)
    try:
        Shelf.objects.using("a").create(name="s")
        Note.objects.using("a").create(title="forbidden")
        b.sql("CREATE UNIQUE INDEX one_title ON testapp_note ((1))")
        Note.objects.using("b").create(title="the one")
        b.post()
        before = b.rows(), b.vector(SHELF)
        deliveries = bundle(a, b, (SHELF, NOTE))
        assert apply_together(b.database, a.database.replica_id, deliveries) is None
        b.database.arrivals.tell()
        assert (b.rows(), b.vector(SHELF)) == before
        assert heard == []
        for delivery in deliveries:
            b.apply(a, delivery.changes)
        b.database.arrivals.tell()
    finally:
        rows_replicated.disconnect(receiver, sender=Shelf)
    assert Shelf.objects.using("b").count() == 1
    assert b.parked() == 1
    assert len(heard) == 1


def test_a_bundle_that_is_too_long_is_left_to_its_parts(replica, monkeypatch):
    a, b = replica("a"), replica("b")
    Shelf.objects.using("a").create(name="s")
    Note.objects.using("a").bulk_create([Note(title="n") for _ in range(1_000)])
    note = PullWish(a.stream(NOTE), a.declarations[NOTE], {}, None, batch_size=1_000)
    (batch,) = read_pulls(a.database, [note])
    changes = Changes(NOTE, 1, 1, batch.start, 0, batch.to_seq, None, 0, batch.vector, 0, batch.rows, batch.snapshot)
    long = Delivery(b.stream(NOTE), b.declarations[NOTE], changes, EVERYTHING)
    assert len(list(unpack_rows(batch.rows))) == 1_000
    assert apply_together(b.database, a.database.replica_id, [*bundle(a, b, (SHELF,)), long]) is None
    assert Shelf.objects.using("b").count() == 0


def test_a_part_of_a_transaction_may_fail_alone(replica):
    a = replica("a")
    with a.database.writing():
        Shelf.objects.using("a").create(name="kept")
        with pytest.raises(IntegrityError), a.database.writing():
            Note.objects.using("a").create(title="undone")
            Shelf.objects.using("a").create(name="kept")
        Shelf.objects.using("a").create(name="kept as well")
    assert set(Shelf.objects.using("a").values_list("name", flat=True)) == {"kept", "kept as well"}
    assert not Note.objects.using("a").exists()
