"""The shortest histories that break a wrong merge, or give dots that nobody wrote (DESIGN 3 and 4)."""

from __future__ import annotations

import time

from p2p_replication.protocol.row_state import RowState
from tests.storage.batches import batch_of, edited
from tests.storage.coins import COIN, coin, edit
from tests.storage.conftest import meet
from tests.storage.test_posting import states
from tests.testapp.models import Coin


def test_two_inserts_of_one_key_merge_by_field(replica):
    """M7: neither insert is a delete of the other; the later edit wins, the other fields stay."""
    a, b = replica("a"), replica("b")
    coin(a, "x", name="a", rate=1)
    time.sleep(0.003)
    coin(b, "x", name="b", rate=2)
    time.sleep(0.003)
    edit(a, "x", name="later")
    meet(a, b, labels=COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    row = Coin.objects.using("a").get()
    assert (row.name, row.rate) == ("later", 2)


def test_two_inserts_and_a_delete_that_saw_one(replica):
    a, b = replica("a"), replica("b")
    coin(a, "x", name="a")
    time.sleep(0.003)
    coin(b, "x", name="b")
    Coin.objects.using("a").all().delete()
    a.post()
    meet(a, b, labels=COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")


def test_a_row_inserted_again_ends_what_was_written_after_its_delete(replica):
    """B's delete did not know of a later edit of a field that B's schema lacks; the new life has nothing of it."""
    a, b, c = replica("a"), replica("b"), replica("c")
    coin(a, "x")
    meet(a, b, c, labels=COIN)
    Coin.objects.using("b").all().delete()
    b.post()
    later = b.entries("testapp.Coin")["x"].deleted + 1
    origin = "f" * 16
    late = edited(batch_of(a, "testapp.Coin", claim={origin: 1}), lambda row: row._replace(
        dots={origin: 1}, state=RowState.of(row.state.inserted, -1, {**row.state.fields(), "colour": (later, "red")}),
    ))  # fmt: skip
    for one in (b, c):
        one.apply(a, late)
    coin(b, "x")
    c.pull(b, COIN)
    b.pull(c, COIN)
    assert states(b, "testapp.Coin") == states(c, "testapp.Coin")
    assert set(states(b, "testapp.Coin")["x"].values) == {"name", "rate"}


def test_a_merge_carries_both_dots_and_gives_none(replica):
    a, b = replica("a"), replica("b")
    coin(a, "x", rate=1)
    meet(a, b, labels=COIN)
    edit(a, "x", rate=2)
    edit(b, "x", name="b")
    before = b.vector("testapp.Coin")[b.database.start]
    b.pull(a, COIN)
    entry = b.entries("testapp.Coin")["x"]
    assert entry.more_dots is not None
    assert b.vector("testapp.Coin")[b.database.start] == before
    a.pull(b, COIN)
    assert a.entries("testapp.Coin")["x"].more_dots is not None
    a.sent_rows = b.sent_rows = 0
    meet(a, b, labels=COIN)
    assert a.sent_rows == b.sent_rows == 0
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")


def test_an_equal_state_keeps_the_local_dots(replica):
    """Two replicas that merged the same two versions hold one state; meeting changes neither."""
    a, b, c = replica("a"), replica("b"), replica("c")
    coin(a, "x", rate=1)
    meet(a, b, c, labels=COIN)
    edit(a, "x", rate=2)
    edit(b, "x", name="b")
    a_version, b_version = a.push(c, "testapp.Coin", 0), b.push(c, "testapp.Coin", 0)
    c.apply(a, a_version)
    c.apply(b, b_version)
    a.apply(b, b_version)
    before = c.entries("testapp.Coin")["x"]
    c.pull(a, COIN)
    after = c.entries("testapp.Coin")["x"]
    assert (before.origin, before.counter, before.more_dots, before.seq) == (
        after.origin, after.counter, after.more_dots, after.seq,
    )  # fmt: skip
