"""Rows whose writer knew other fields: nothing is made up, nothing unknown is dropped."""

from __future__ import annotations

import pytest

from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage.capture.installation import install, remove
from tests.storage.batches import batch_of, edited, with_values
from tests.storage.conftest import meet
from tests.storage.test_posting import states
from tests.testapp.models import Coin, Ruled

COIN = ("testapp.Coin",)


def without(*names: str):
    def edit(row):
        state = row.state
        values = {n: v for n, v in state.values.items() if n not in names}
        clocks = {n: c for n, c in state.field_clocks.items() if n not in names}
        return row._replace(state=RowState(state.inserted, state.deleted, state.clock, values, clocks))

    return edit


def take(receiver, sender, label, edit) -> None:
    """The receiver gets what an older or newer sender would send."""
    receiver.apply(sender, edited(batch_of(sender, label), edit))


def test_a_field_that_the_writer_lacks_keeps_its_default_and_is_not_sent_on(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    Coin.objects.using("a").create(code="x", name="n", rate=7)
    take(b, a, "testapp.Coin", without("rate"))
    assert Coin.objects.using("b").get().rate == 0
    assert set(states(b, "testapp.Coin")["x"].values) == {"name"}
    Coin.objects.using("b").update(name="edited")
    assert set(states(b, "testapp.Coin")["x"].values) == {"name"}
    c.pull(b, COIN)
    assert set(states(c, "testapp.Coin")["x"].values) == {"name"}
    Coin.objects.using("a").update(rate=70)
    c.pull(a, COIN)  # who knows the field fills it in
    assert Coin.objects.using("c").get().rate == 70
    meet(b, c, labels=COIN)
    assert b.raw("testapp.Coin") == c.raw("testapp.Coin")


def test_a_field_that_was_missing_is_sent_once_it_is_written(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x", name="n", rate=7)
    take(b, a, "testapp.Coin", without("rate"))
    Coin.objects.using("b").update(rate=9)
    assert states(b, "testapp.Coin")["x"].values == {"name": "n", "rate": 9}
    meet(a, b, labels=COIN)
    assert Coin.objects.using("a").get().rate == 9


@pytest.mark.parametrize("waits", [False, True])
def test_a_new_life_whose_writer_lacks_a_field_keeps_nothing_of_the_old_one(replica, waits):
    """It is the same on a replica that had the row of the old life and on one that had not."""
    a, b, c = replica("a"), replica("b"), replica("c")
    row = Ruled.objects.using("a").create(code="old", amount=7)
    meet(a, b, labels=("testapp.Ruled",))
    Ruled.objects.using("a").all().delete()
    a.post()
    Ruled.objects.using("a").create(pk=row.pk, code="new", amount=9)
    if waits:
        Ruled.objects.using("b").create(code="new")
    for receiver in (b, c):
        take(receiver, a, "testapp.Ruled", without("amount"))
    if waits:
        assert b.parked() == 1
        Ruled.objects.using("b").exclude(pk=row.pk).delete()
        assert b.retry_parked() == 1
    assert states(b, "testapp.Ruled")[row.pk.bytes] == states(c, "testapp.Ruled")[row.pk.bytes]
    assert Ruled.objects.using("c").get().amount == 0
    assert Ruled.objects.using("b").get().amount == 0


@pytest.mark.on("sqlite")
def test_a_replace_writes_the_fields_that_were_missing_as_well(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x", name="n", rate=7)
    take(b, a, "testapp.Coin", without("rate"))
    b.sql("INSERT OR REPLACE INTO testapp_coin (code, name, rate) VALUES ('x', 'n', 12)")
    assert states(b, "testapp.Coin")["x"].values == {"name": "n", "rate": 12}
    meet(a, b, labels=COIN)
    assert Coin.objects.using("a").get().rate == 12
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")


def test_an_unknown_field_is_kept_passed_on_and_outlives_local_edits(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    Coin.objects.using("a").create(code="x", name="n", rate=7)
    take(b, a, "testapp.Coin", lambda row: with_values(row, colour="red", weight=None))
    assert b.parked() == 0
    Coin.objects.using("b").update(rate=8)
    if b.site.vendor == "sqlite":
        b.sql("INSERT OR REPLACE INTO testapp_coin (code, name, rate) VALUES ('x', 'replaced', 8)")
    else:
        b.sql("UPDATE testapp_coin SET name = 'replaced', rate = 8")
    b.start()
    c.pull(b, COIN)
    values = states(c, "testapp.Coin")["x"].values
    assert values == {"name": "replaced", "rate": 8, "colour": "red", "weight": None}
    assert Coin.objects.using("c").get().rate == 8
    meet(a, b, c, labels=COIN)
    assert states(a, "testapp.Coin") == states(b, "testapp.Coin") == states(c, "testapp.Coin")


def test_an_unknown_field_ends_with_its_life(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x", name="n")
    take(b, a, "testapp.Coin", lambda row: with_values(row, colour="red"))
    Coin.objects.using("b").all().delete()
    b.post()
    Coin.objects.using("b").create(code="x")
    assert set(states(b, "testapp.Coin")["x"].values) == {"name", "rate"}


def test_a_parked_row_keeps_its_unknown_fields(replica):
    a, b = replica("a"), replica("b")
    Ruled.objects.using("b").create(code="taken", amount=1)
    Ruled.objects.using("a").create(code="taken", amount=2)
    take(b, a, "testapp.Ruled", lambda row: with_values(row, colour="red"))
    assert b.parked() == 1
    Ruled.objects.using("b").filter(amount=1).delete()
    assert b.retry_parked() == 1
    (state,) = [s for s in states(b, "testapp.Ruled").values() if s.alive]
    assert state.values["colour"] == "red"
    assert state.values["amount"] == 2


def test_a_partial_row_is_complete_for_the_digest(replica):
    """Reconciliation finds nothing in rows that arrived, whatever fields their writers knew."""
    a, b = replica("a"), replica("b")
    for i in range(4):
        Coin.objects.using("a").create(code=str(i), name=f"n{i}", rate=i)
    take(b, a, "testapp.Coin", lambda row: without("rate")(row) if row.key < "2" else with_values(row, colour="red"))
    remove("b", reason="test")
    assert install("b")["testapp.Coin"].total == 0
    assert b.post().entries == 0
