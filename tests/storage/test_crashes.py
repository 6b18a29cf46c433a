"""A crash between any two statements: each dot is applied once, and no committed row is lost."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest
from django.db import OperationalError, connections

from p2p_replication.models import FieldLayout, LedgerEntry, Origin
from p2p_replication.protocol.changes import pack_rows, unpack_rows
from p2p_replication.protocol.row_state import RowState
from tests.storage.batches import batch_of, edited
from tests.storage.conftest import meet
from tests.storage.test_posting import SmallBudget
from tests.testapp.models import Book, Coin, Shelf

COIN = ("testapp.Coin",)
SHELVES = ("testapp.Shelf", "testapp.Book")


class Crash(Exception):
    """The process died here."""


@contextmanager
def failing(alias: str, at: int, error: Exception, *, after: bool = False):
    """Raise at the ``at``-th statement of a connection, before or after it ran; tells whether it came so far."""
    count = 0
    reached = []

    def wrapper(execute, sql, params, many, context):
        nonlocal count
        if sql.startswith(("ROLLBACK", "COMMIT")):
            return execute(sql, params, many, context)
        count += 1
        if count == at:
            reached.append(sql)
            if after and not sql.startswith("BEGIN"):
                execute(sql, params, many, context)
            raise error
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(wrapper):
        yield reached


def every_statement(act, alias: str, error: type[Exception], check, step: int = 1) -> int:
    """Run ``act`` with a failure at its first statement, ``step`` further, ... until it gets through.

    ``check`` runs after each.
    """
    at = 0
    while True:
        at += 1
        with failing(alias, at, error("crash"), after=at % 2 == 0) as reached, suppress(error):
            act()
        check()
        if not reached:
            return at - 1


def consistent(replica, label: str) -> None:
    """No transaction is left open, nothing of the applier's is left, and every reference in the ledger holds."""
    connection = connections[replica.alias]
    assert not connection.in_atomic_block
    assert not replica.site.in_transaction(connection.connection)
    assert replica.sql("SELECT * FROM p2p_replication_applying") == []
    layouts = set(FieldLayout.objects.using(replica.alias).values_list("pk", flat=True))
    origins = set(Origin.objects.using(replica.alias).values_list("pk", flat=True))
    entries = list(LedgerEntry.objects.using(replica.alias).filter(stream=replica.stream(label).id))
    assert {e.layout for e in entries} <= layouts
    assert {e.origin for e in entries} | {e.born_origin for e in entries} <= origins
    counters = [(e.origin, e.counter) for e in entries]
    assert len(set(counters)) == len(counters)


@pytest.mark.parametrize(("error", "restart"), [(Crash, True), (OperationalError, False)])
def test_posting_with_a_crash_at_every_statement(replica, error, restart):
    a, b = replica("a"), replica("b")
    a.database.budget = SmallBudget(4)
    writes = 0

    def act():
        nonlocal writes
        writes += 1
        for i in range(5):
            Coin.objects.using("a").update_or_create(code=f"c{i}", defaults={"rate": writes * 10 + i})
        Coin.objects.using("a").filter(code="c4").delete()
        a.post()

    def check():
        if restart:
            connections["a"].close()
            a.start()
            a.database.budget = SmallBudget(4)
        consistent(a, "testapp.Coin")

    every_statement(act, "a", error, check, step=5 if restart else 1)
    assert writes > 5
    b.pull(a, COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    sequence = a.sql("SELECT sequence FROM p2p_replication_replica")[0][0]
    assert max(e.seq for e in a.entries("testapp.Coin").values()) == sequence


@pytest.mark.parametrize(("error", "restart"), [(Crash, True), (OperationalError, False)])
def test_applying_with_a_crash_at_every_statement(replica, error, restart):
    """After each crash the cursor, the vector, the ledger and the table tell one story; in the end all is there."""
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    Book.objects.using("a").bulk_create(Book(shelf=shelf, title=f"t{i}") for i in range(12))
    meet(a, b, labels=SHELVES)
    for i in range(12, 20):
        Book.objects.using("a").create(shelf=shelf, title=f"t{i}")
    Book.objects.using("a").filter(title="t1").delete()
    Book.objects.using("a").filter(title="t2").update(title="two")
    a.post()
    edits = 0

    def act():
        nonlocal edits
        edits += 1
        Book.objects.using("b").filter(title__startswith="t3").update(title=f"t3 {edits}")
        b.pull(a, SHELVES)

    def check():
        if restart:
            connections["b"].close()
            b.start()
        b.database.budget = SmallBudget(7)
        consistent(b, "testapp.Book")
        assert b.parked() == 0
        present = {k for k, e in b.entries("testapp.Book").items() if e.status == 0}
        assert present == b.keys("testapp.Book")
        claimed = b.vector("testapp.Book").get(a.database.start, 0)
        if claimed == a.vector("testapp.Book")[a.database.start]:
            assert present == a.keys("testapp.Book")

    every_statement(act, "b", error, check, step=5 if restart else 1)
    assert edits > 5
    b.pull(a, SHELVES)
    b.retry_parked()
    a.pull(b, SHELVES)
    assert a.rows() == b.rows()
    sent = a.sent_rows
    b.pull(a, SHELVES)
    assert a.sent_rows == sent


@pytest.mark.parametrize("error", [Crash, OperationalError])
def test_a_layout_of_a_rolled_back_transaction_is_forgotten(replica, error):
    """Its number may be given to another layout: the ledger would read one field's clock as another's."""
    a, b, c = replica("a"), replica("b"), replica("c")
    for code in ("1", "2"):
        Coin.objects.using("a").create(code=code, name=code, rate=int(code))
    whole = batch_of(a, "testapp.Coin")

    def without(name):
        def edit(row):
            state = row.state
            values = {n: v for n, v in state.values.items() if n != name}
            return row._replace(state=RowState(state.inserted, state.deleted, state.clock, values))

        return edit

    one = edited(whole, without("name"))
    other = edited(whole, without("rate"))
    first = pack_rows(["rate"], [row for row in unpack_rows(one.rows) if row.key == "1"])
    second = pack_rows(["name"], [row for row in unpack_rows(other.rows) if row.key == "2"])
    fields = {f: getattr(whole, f) for f in whole.__struct_fields__}
    message = type(whole)
    at = 0
    while True:
        at += 1
        with failing("b", at, error("crash"), after=True) as reached, suppress(error):
            b.apply(a, message(**{**fields, "rows": first, "claim": None}))
        if not reached:
            break
        if any("INSERT INTO" in sql and "ledgerentry" in sql for sql in reached):
            break
    b.apply(a, message(**{**fields, "rows": second, "claim": None}))
    b.apply(a, message(**{**fields, "rows": first, "claim": None}))
    consistent(b, "testapp.Coin")
    b.start()
    c.pull(b, COIN)
    layouts = {row.pk: row.fields for row in FieldLayout.objects.using("b").all()}
    entries = b.entries("testapp.Coin")
    if b.parked() == 0:
        assert layouts[entries["1"].layout] == ["rate"]
        assert layouts[entries["2"].layout] == ["name"]
