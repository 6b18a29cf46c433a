"""Rows that the database or the rules refuse: only they are parked, nothing is lost, and they heal."""

from __future__ import annotations

import sqlite3
import time
import uuid
from contextlib import closing

import pytest
from django.db import OperationalError, connections

from p2p_replication.models import FieldLayout, LedgerEntry, Parking
from p2p_replication.protocol.changes import check_rows, pack_rows, unpack_rows
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import meet
from tests.testapp.models import Book, Note, Ruled, Sample, Shelf

RULED = ("testapp.Ruled",)
SHELVES = ("testapp.Shelf", "testapp.Book")


@pytest.mark.parametrize(
    "fault",
    [{"amount": -1}, {"must": None}, {"code": "taken"}, {"amount": 2**63}, {"amount": 2**64 - 1}],
    ids=["check", "not null", "unique", "too large", "far too large"],
)
def test_only_the_row_at_fault_is_parked(replica, fault):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("b").create(code="taken")
    Ruled.objects.using("a").bulk_create(Ruled(code=f"c{i}", left=i) for i in range(40))
    changes = batch_of(a, "testapp.Ruled")
    guilty = list(unpack_rows(changes.rows))[17].key
    outcome = b.apply(a, edited(changes, lambda row: with_values(row, **fault) if row.key == guilty else row))
    assert list(outcome.parked) == [b.site.key(uuid.UUID(bytes=guilty))]
    assert outcome.taken
    assert Ruled.objects.using("b").count() == 40  # 39 and its own
    assert b.vector("testapp.Ruled")[a.database.start] == a.vector("testapp.Ruled")[a.database.start]
    assert Parking.objects.using("b").get().reason == "refused by the database"


def test_layouts_of_a_refused_slice_are_not_remembered(replica):
    """A rolled-back transaction takes its field layouts with it: no ledger entry may name one that is not there."""
    a, b = replica("a"), replica("b")
    Ruled.objects.using("b").create(code="taken")
    Ruled.objects.using("a").bulk_create(Ruled(code=f"c{i}") for i in range(8))
    changes = batch_of(a, "testapp.Ruled")
    keys = [row.key for row in unpack_rows(changes.rows)]

    def edit(row):
        if row.key == keys[-1]:
            return with_values(row, code="taken")
        state = row.state
        values = {name: value for name, value in state.values.items() if name != "label"}
        return row._replace(state=RowState(state.inserted, state.deleted, state.clock, values))

    b.apply(a, edited(changes, edit))
    layouts = set(FieldLayout.objects.using("b").values_list("pk", flat=True))
    assert {entry.layout for entry in b.entries("testapp.Ruled").values()} <= layouts
    b.start()
    Ruled.objects.using("b").exclude(code="taken").update(amount=3)
    b.post()
    a.pull(b, RULED)
    assert Ruled.objects.using("a").filter(amount=3).count() == 7


@pytest.mark.on("sqlite")
def test_a_locked_database_is_no_fault_of_the_row(replica):
    """Another process holds the write lock for too long: the batch fails as a whole, and no row is parked for it."""
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="one")
    changes = batch_of(a, "testapp.Note")
    b.sql("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(b.path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        begins = 0

        def let_go_later(execute, sql, params, many, context):
            nonlocal begins
            begins += sql.startswith("BEGIN")
            if begins == 2 and blocker.in_transaction:
                blocker.execute("ROLLBACK")
            return execute(sql, params, many, context)

        with connections["b"].execute_wrapper(let_go_later):
            try:
                b.apply(a, changes)
            except OperationalError:
                b.apply(a, changes)
    assert b.parked() == 0
    assert Note.objects.using("b").count() == 1


def test_a_unique_value_that_comes_free_lets_the_row_in(replica):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("b").create(code="x")
    time.sleep(0.003)  # Which one is older is told by the millisecond.
    Ruled.objects.using("a").create(code="x", amount=5)
    b.pull(a, RULED)
    assert b.parked() == 1
    assert b.retry_parked() == 0
    Ruled.objects.using("b").filter(amount=0).update(code="y")
    assert b.retry_parked() == 1
    assert set(Ruled.objects.using("b").values_list("code", "amount")) == {("x", 5), ("y", 0)}
    assert not Parking.objects.using("b").exists()


def test_two_rows_that_swapped_a_unique_value_arrive(replica):
    a, b = replica("a"), replica("b")
    one = Ruled.objects.using("a").create(code="1", left=1)
    two = Ruled.objects.using("a").create(code="2", left=2)
    meet(a, b, labels=RULED)
    Ruled.objects.using("a").filter(pk=one.pk).update(code=None)
    Ruled.objects.using("a").filter(pk=two.pk).update(code="1")
    Ruled.objects.using("a").filter(pk=one.pk).update(code="2")
    meet(a, b, labels=RULED)
    assert b.parked() == 0
    assert a.raw("testapp.Ruled") == b.raw("testapp.Ruled")


@pytest.mark.parametrize("batch_size", [0, 1])
def test_two_rows_that_swapped_a_unique_value_which_is_never_null_arrive(replica, batch_size):
    a, b = replica("a"), replica("b")
    one, two, three = (Shelf.objects.using("a").create(name=str(i)) for i in range(3))
    meet(a, b)
    for row, name in ((one, "spare"), (two, "0"), (three, "1"), (one, "2")):
        Shelf.objects.using("a").filter(pk=row.pk).update(name=name)
    b.pull(a, batch_size=batch_size)
    b.retry_parked()
    assert b.parked() == 0
    assert a.rows() == b.rows()


def test_two_rows_that_swapped_a_pair_of_values_arrive(replica):
    a, b = replica("a"), replica("b")
    one = Ruled.objects.using("a").create(left=1, right=1)
    two = Ruled.objects.using("a").create(left=1, right=2)
    meet(a, b, labels=RULED)
    for row, right in ((one, 9), (two, 1), (one, 2)):
        Ruled.objects.using("a").filter(pk=row.pk).update(right=right)
    b.pull(a, RULED)
    b.retry_parked()
    assert b.parked() == 0
    assert a.raw("testapp.Ruled") == b.raw("testapp.Ruled")


def test_a_chain_of_unique_values_arrives_in_any_order(replica):
    a, b = replica("a"), replica("b")
    rows = [Ruled.objects.using("a").create(code=str(i), left=i) for i in range(30)]
    meet(a, b, labels=RULED)
    for i in reversed(range(30)):  # each takes the value its successor has just left
        Ruled.objects.using("a").filter(pk=rows[i].pk).update(code=str(i + 1))
    for i in range(30):  # now the first has the first seq again
        Ruled.objects.using("a").filter(pk=rows[i].pk).update(amount=i)
    meet(a, b, labels=RULED)
    assert b.parked() == 0
    assert a.raw("testapp.Ruled") == b.raw("testapp.Ruled")


def test_parked_rows_are_relayed_and_joined(replica):
    """M3: what B can't apply it still passes on, with later versions joined in."""
    a, b, c = replica("a"), replica("b"), replica("c")
    shelf = Shelf.objects.using("a").create(name="s")
    book = Book.objects.using("a").create(shelf=shelf, title="one")
    b.pull(a, ("testapp.Book",))
    Book.objects.using("a").update(title="two")
    b.pull(a, ("testapp.Book",))
    assert b.parked() == 1
    assert Parking.objects.using("b").get().tries == 2
    c.pull(b, ("testapp.Book",))
    assert c.parked() == 1
    c.pull(a, ("testapp.Shelf",))
    assert c.retry_parked() == 1
    assert Book.objects.using("c").get(pk=book.pk).title == "two"
    b.pull(c, SHELVES)
    assert b.retry_parked() == 1
    assert a.rows() == b.rows() == c.rows()


def test_a_parked_row_deleted_by_its_sender_ends(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    book = Book.objects.using("a").create(shelf=shelf, title="one")
    b.pull(a, ("testapp.Book",))
    book.delete(using="a")
    b.pull(a, ("testapp.Book",))
    assert b.parked() == 0
    assert not Parking.objects.using("b").exists()


def test_a_local_delete_of_a_parked_row_ends_the_parking(replica):
    a, b = replica("a"), replica("b")
    row = Ruled.objects.using("a").create(code="mine")
    meet(a, b, labels=RULED)
    Ruled.objects.using("b").create(code="taken")
    Ruled.objects.using("a").filter(pk=row.pk).update(code="taken")
    b.pull(a, RULED)
    assert b.parked() == 1
    Ruled.objects.using("b").filter(pk=row.pk).delete()
    b.post()
    assert b.parked() == 0
    assert not Parking.objects.using("b").exists()
    a.pull(b, RULED)
    assert not Ruled.objects.using("a").filter(pk=row.pk).exists()


def test_a_local_edit_of_the_older_row_counts_in_the_parked_one(replica):
    """The edit is passed on and is there when the parked state comes in."""
    a, b = replica("a"), replica("b")
    row = Ruled.objects.using("a").create(code="mine")
    meet(a, b, labels=RULED)
    Ruled.objects.using("b").create(code="taken")
    Ruled.objects.using("a").filter(pk=row.pk).update(code="taken", left=7)
    b.pull(a, RULED)
    Ruled.objects.using("b").filter(pk=row.pk).update(amount=9)
    b.post()
    a.pull(b, RULED)
    assert Ruled.objects.using("a").get(pk=row.pk).amount == 9
    Ruled.objects.using("b").filter(code="taken").exclude(pk=row.pk).delete()
    assert b.retry_parked() == 1
    meet(a, b, labels=RULED)
    got = Ruled.objects.using("b").get(pk=row.pk)
    assert (got.code, got.left, got.amount) == ("taken", 7, 9)
    assert a.raw("testapp.Ruled") == b.raw("testapp.Ruled")


def test_a_clock_too_far_ahead_is_parked_until_its_time(replica):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="from the future")
    far = (a.database.now_ms() + 3_600_000) << 16
    changes = edited(batch_of(a, "testapp.Note"), lambda row: row._replace(
        state=RowState(far, -1, far, row.state.values)))  # fmt: skip
    outcome = b.apply(a, changes)
    assert "ahead of this replica's clock" in next(iter(outcome.parked.values()))
    assert b.retry_parked() == 0
    b.database.now_ms = lambda: a.database.now_ms() + 3_600_000
    assert b.retry_parked() == 1
    assert Note.objects.using("b").get().title == "from the future"


@pytest.mark.parametrize("top", [2**63 - 1, 2**62, 2**62 - 1, 2**61])
@pytest.mark.parametrize("shape", ["alive", "dead"])
def test_the_largest_clock_of_a_peer_does_not_stop_posting(replica, shape, top):
    """A local write needs a clock above the row's: a peer must not be able to use them up."""
    a, b = replica("a"), replica("b")
    note = Note.objects.using("a").create(title="one")
    meet(a, b)

    def edit(row):
        alive = RowState(row.state.inserted, -1, top, row.state.values)
        return row._replace(state=alive if shape == "alive" else RowState(0, top, top, {}))

    changes = edited(batch_of(a, "testapp.Note"), edit)
    try:
        check_rows(changes.rows)
    except RemoteProtocolError:
        pass
    else:
        b.apply(a, changes)
    for title in ("two", "three"):
        Note.objects.using("b").filter(pk=note.pk).update(title=title)
        b.post()
    Note.objects.using("b").create(title="another")
    a.pull(b)  # a session refuses the whole batch if one clock is out of range
    assert Note.objects.using("a").filter(title="another").exists()


def test_a_tombstone_with_a_huge_row_clock_does_not_stop_posting(replica):
    """The clock of a row without fields means nothing, so it must not be kept."""
    a, b = replica("a"), replica("b")
    note = Note.objects.using("a").create(title="one")
    meet(a, b)
    changes = edited(batch_of(a, "testapp.Note"), lambda row: row._replace(
        state=RowState(row.state.inserted, row.state.inserted + 1, 2**63 - 1, {})))  # fmt: skip
    try:
        check_rows(changes.rows)
    except RemoteProtocolError:
        return
    b.apply(a, changes)
    Note.objects.using("b").create(pk=note.pk, title="again")
    b.post()
    assert b.entry(note).inserted < b.database.now_ms() + 60_000 << 16


@pytest.mark.parametrize("key", [b"short", 7, b"", b"x" * 17])
def test_a_key_that_is_none_is_the_peers_fault(replica, key):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="one")
    changes = edited(batch_of(a, "testapp.Note"), lambda row: row._replace(key=key))
    with pytest.raises(RemoteProtocolError, match=r"is no (key of|UUID)"):
        b.apply(a, changes)
    assert not LedgerEntry.objects.using("b").exists()
    b.pull(a)
    assert Note.objects.using("b").count() == 1


@pytest.mark.on("sqlite")
def test_one_key_in_two_spellings_is_one_row(replica):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").create(title="one")
    changes = batch_of(a, "testapp.Note")
    (row,) = unpack_rows(changes.rows)
    twice = pack_rows(list(row.state.values), [row, row._replace(key=row.key.hex(), seq=row.seq + 1)])
    check_rows(twice)
    b.apply(a, Changes(**{**{f: getattr(changes, f) for f in changes.__struct_fields__}, "rows": twice}))
    assert Note.objects.using("b").count() == 1


@pytest.mark.parametrize("value", [2**63, True, b"\xff\xfe", "x" * 100_000, 1e300, "\x00", None, -(2**62)])
def test_a_value_of_another_kind_never_costs_other_rows(replica, value):
    """Whatever a peer puts into a field, the batch ends, its other rows are there, and posting goes on."""
    a, b, c = replica("a"), replica("b"), replica("c")
    Sample.objects.using("a").bulk_create(Sample(whole=i) for i in range(4))
    changes = batch_of(a, "testapp.Sample")
    guilty = list(unpack_rows(changes.rows))[1].key
    names = a.stream("testapp.Sample").table.names
    bad = dict.fromkeys(names, value)
    outcome = b.apply(a, edited(changes, lambda row: with_values(row, **bad) if row.key == guilty else row))
    assert outcome.taken
    others = b.sql("SELECT COUNT(*) FROM testapp_sample WHERE id <> %s", [guilty.hex()])
    assert others == [(3,)]
    b.sql("UPDATE testapp_sample SET whole = 99")
    b.post()
    c.pull(b, ("testapp.Sample",))
    assert c.sql("SELECT COUNT(*) FROM testapp_sample WHERE whole = 99 AND id <> %s", [guilty.hex()]) == [(3,)]


def test_forged_references_lose_nothing_and_stop_nobody(replica):
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    Book.objects.using("a").create(shelf=shelf, title="bad")
    Book.objects.using("a").create(shelf=shelf, title="good")
    b.pull(a, ("testapp.Shelf",))
    for value in (b"d", 1.5, True, "nowhere", 7, "0" * 31 + "g"):
        forged = edited(
            batch_of(a, "testapp.Book"),
            lambda row, value=value: with_values(row, shelf=value) if row.state.values["title"] == "bad" else row,
        )
        b.apply(a, forged)
        assert list(Book.objects.using("b").values_list("title", flat=True)) == ["good"]
        assert b.retry_parked() == 0
    assert b.parked() == 1
