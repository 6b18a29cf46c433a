"""From the change log to the ledger: clocks, counters, order, lives, and slices of any size."""

from __future__ import annotations

import json
import random
import uuid
from contextlib import suppress

import pytest
from django.db import IntegrityError, connections, transaction

from p2p_replication.models import Replica
from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.storage.capture.installation import install, remove
from p2p_replication.storage.posting import post
from p2p_replication.storage.write_budget import WriteBudget
from tests.storage.batches import batch_of
from tests.storage.conftest import meet
from tests.testapp.models import Coin, Note, Ruled

COIN = ("testapp.Coin",)
LOG = "p2p_replication_changelogentry"


class SmallBudget(WriteBudget):
    """So many rows a slice, and no pause."""

    def __init__(self, count: int) -> None:
        super().__init__(1.0, 0.0)
        self.count = count

    def rows(self) -> int:
        return self.count


def only(replica, label="testapp.Coin"):
    (entry,) = replica.entries(label).values()
    return entry


def states(replica, label: str) -> dict:
    """Every row's state as it travels, parked ones as well."""
    return {row.key: row.state for row in unpack_rows(batch_of(replica, label).rows)}


def test_clocks_of_a_row_rise_though_the_wall_clock_runs_back(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x")
    a.post()
    clocks = [only(a).clock]
    for i, back in enumerate((10, 3_600_000, 86_400_000)):
        Coin.objects.using("a").update(rate=i + 1, name=str(i))
        a.sql(f"UPDATE {LOG} SET wall = wall - %s", [back])
        a.post()
        entry = only(a)
        top = max([entry.clock, *json.loads(entry.field_clocks or "{}").values()])
        assert top > clocks[-1]
        clocks.append(top)
        b.pull(a, COIN)
        assert Coin.objects.using("b").get().rate == i + 1
    Coin.objects.using("a").all().delete()
    a.sql(f"UPDATE {LOG} SET wall = wall - 86400000")
    b.pull(a, COIN)
    assert not Coin.objects.using("b").exists()
    Coin.objects.using("a").create(code="x", rate=9)
    a.sql(f"UPDATE {LOG} SET wall = 1")
    b.pull(a, COIN)
    assert Coin.objects.using("b").get().rate == 9


def test_writes_of_one_millisecond_keep_their_order(replica):
    a, b = replica("a"), replica("b")
    for i in range(20):
        Coin.objects.using("a").update_or_create(code="x", defaults={"rate": i})
        if i % 3 == 0:
            Coin.objects.using("a").filter(code="x").delete()
    a.sql(f"UPDATE {LOG} SET wall = (SELECT MAX(wall) FROM {LOG})")
    b.pull(a, COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    assert Coin.objects.using("b").get().rate == 19


def test_what_came_and_went_unseen_says_nothing(replica):
    a = replica("a")
    Coin.objects.using("a").create(code="x")
    Coin.objects.using("a").update(rate=1)
    Coin.objects.using("a").all().delete()
    before = Replica.objects.using("a").get().sequence
    a.post()
    assert not a.entries("testapp.Coin")
    assert Replica.objects.using("a").get().sequence == before
    assert a.vector("testapp.Coin") == {}
    assert a.log() == []


@pytest.mark.parametrize("posted", [True, False])
def test_a_row_inserted_again_is_a_new_life(replica, posted):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x", name="first", rate=1)
    meet(a, b, labels=COIN)
    first = only(a)
    Coin.objects.using("a").all().delete()
    if posted:
        a.post()
        assert only(a).status == 1
    Coin.objects.using("a").create(code="x", name="second")
    a.post()
    second = only(a)
    assert (second.born_origin, second.born_counter) != (first.born_origin, first.born_counter)
    assert (second.born_origin, second.born_counter) == (second.origin, second.counter)
    assert second.inserted > second.deleted > first.inserted
    Coin.objects.using("b").update(rate=99)  # an edit of the life that has ended
    meet(a, b, labels=COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    assert Coin.objects.using("a").get().name == "second"


def test_a_delete_beats_concurrent_edits_even_later_ones(replica):
    a, b = replica("a"), replica("b")
    Coin.objects.using("a").create(code="x")
    meet(a, b, labels=COIN)
    Coin.objects.using("a").all().delete()
    a.post()
    Coin.objects.using("b").update(rate=5)
    b.post()
    meet(a, b, labels=COIN)
    assert not Coin.objects.using("a").exists()
    assert not Coin.objects.using("b").exists()
    assert only(a).status == only(b).status == 1


def test_counters_rise_with_the_sequence_and_the_own_one_is_kept(replica):
    a, b = replica("a"), replica("b")
    for code in "xyz":
        Coin.objects.using("a").create(code=code)
    a.post()
    entries = sorted(a.entries("testapp.Coin").values(), key=lambda e: e.seq)
    assert [e.key for e in entries] == ["x", "y", "z"]
    assert [e.counter for e in entries] == [e.own_counter for e in entries] == [e.seq for e in entries]
    own = entries[0].own_counter
    b.pull(a, COIN)
    Coin.objects.using("b").filter(code="x").update(rate=1, name="b")
    a.pull(b, COIN)
    taken = a.entries("testapp.Coin")["x"]
    assert taken.own_counter == own
    assert taken.origin != entries[0].origin
    assert taken.seq > entries[-1].seq
    assert a.vector("testapp.Coin")[a.database.start] == entries[-1].counter


def test_a_start_continues_no_origin_and_no_counter(replica):
    a = replica("a")
    Coin.objects.using("a").create(code="x")
    a.post()
    first, start = only(a), a.database.start
    a.start()
    Coin.objects.using("a").update(rate=1)
    a.post()
    second = only(a)
    assert second.origin != first.origin
    assert second.counter > first.counter
    assert set(a.vector("testapp.Coin")) == {start, a.database.start}


def plain_history(r: random.Random, using: str, keys: list[uuid.UUID], what: float) -> None:
    """What stands for REPLACE on a database that has none."""
    key, code = r.choice(keys), f"c{r.randrange(6)}"
    manager = Ruled.objects.using(using)
    with suppress(IntegrityError), transaction.atomic(using=using):
        if what < 0.35:
            manager.update_or_create(pk=key, defaults={"code": code, "amount": r.randrange(3), "must": ""})
        elif what < 0.5:
            manager.filter(pk=key).update(code=code)
        else:
            manager.filter(pk=key).update(id=r.choice(keys))


def history(using: str, seed: int) -> None:
    """A few dozen writes of all kinds to a few rows, the same for each seed."""
    r = random.Random(seed)
    keys = [uuid.UUID(int=i + 1) for i in range(6)]
    manager = Ruled.objects.using(using)
    for _ in range(60):
        key = r.choice(keys)
        what = r.random()
        if connections[using].vendor == "postgresql" and what < 0.6:
            plain_history(r, using, keys, what)
            continue
        with connections[using].cursor() as cursor:
            if what < 0.35:
                cursor.execute(
                    "INSERT OR REPLACE INTO testapp_ruled (id, code, amount, label, must) VALUES (%s, %s, %s, %s, '')",
                    [key.hex, f"c{r.randrange(6)}", r.randrange(3), f"l{r.randrange(2)}"],
                )
            elif what < 0.5:
                cursor.execute(
                    "UPDATE OR REPLACE testapp_ruled SET code = %s WHERE id = %s", [f"c{r.randrange(6)}", key.hex]
                )
            elif what < 0.6:
                cursor.execute(
                    "UPDATE OR REPLACE testapp_ruled SET id = %s WHERE id = %s", [r.choice(keys).hex, key.hex]
                )
            elif what < 0.8:
                manager.filter(pk=key).update(amount=r.randrange(5), must=str(r.randrange(5)))
            else:
                manager.filter(pk=key).delete()


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_slices_of_any_size_say_the_same_as_one(replica, seed, count):
    """A replica that reads between the slices gets the states that one gets which comes at the end."""
    a, b, c, d = (replica(name) for name in "abcd")
    history("a", seed)
    b.pull(a, ("testapp.Ruled",))
    c.pull(b, ("testapp.Ruled",))
    history("a", seed + 1000)
    a.database.budget = SmallBudget(count)
    while a.log():
        post(a.database)
        b.pull(a, ("testapp.Ruled",), batches=1)  # reads while the rest of the log waits
    b.pull(a, ("testapp.Ruled",))
    c.pull(b, ("testapp.Ruled",))
    assert states(a, "testapp.Ruled") == states(b, "testapp.Ruled") == states(c, "testapp.Ruled")
    d.pull(a, ("testapp.Ruled",))
    assert a.raw("testapp.Ruled") == d.raw("testapp.Ruled")
    alive = {key for key, e in a.entries("testapp.Ruled").items() if e.inserted > e.deleted}
    assert alive == a.keys("testapp.Ruled")


@pytest.mark.on("sqlite")
def test_a_replace_in_a_later_slice_is_an_edit_of_its_own(replica):
    """The first slice's digest holds what the REPLACE wrote already: the change must not go unsaid."""
    a, b = replica("a"), replica("b")
    key = uuid.UUID(int=1)
    Ruled.objects.using("a").create(pk=key, code="1", amount=1)
    meet(a, b, labels=("testapp.Ruled",))
    Ruled.objects.using("a").update(must="x")
    for i in range(5):
        Ruled.objects.using("a").create(code=f"other{i}")
    a.sql(
        "INSERT OR REPLACE INTO testapp_ruled (id, code, amount, label, must) VALUES (%s, '1', 7, '', 'x')", [key.hex]
    )
    a.database.budget = SmallBudget(2)
    a.post()
    b.pull(a, ("testapp.Ruled",))
    assert Ruled.objects.using("b").get(pk=key).amount == 7
    assert a.raw("testapp.Ruled") == b.raw("testapp.Ruled")


@pytest.mark.parametrize("count", [1, 16])
def test_applying_in_small_slices_says_the_same(replica, count):
    a, b = replica("a"), replica("b")
    Note.objects.using("a").bulk_create(Note(title=f"n{i}") for i in range(100))
    b.database.budget = SmallBudget(count)
    (outcome,) = b.pull(a, ("testapp.Note",))
    assert outcome.taken
    assert outcome.changed == 100
    assert a.rows() == b.rows()
    assert b.vector("testapp.Note") == a.vector("testapp.Note")


def test_rows_that_were_there_before_have_the_oldest_clock(replica):
    """Adopted on both sides: equal on both, whoever asks first; any later edit wins over them."""
    a, b = replica("a"), replica("b")
    for name, rate in (("a", 1), ("b", 2)):
        remove(name, reason="test")
        Coin.objects.using(name).create(code="same", rate=rate, name="old")
        Coin.objects.using(name).create(code=f"only {name}")
        install(name)
        install(name)
    a.post()
    b.post()
    assert {(e.inserted, e.clock) for e in a.entries("testapp.Coin").values()} == {(0, 0)}
    Coin.objects.using("a").filter(code="same").update(name="edited")
    meet(a, b, labels=COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    row = Coin.objects.using("a").get(code="same")
    assert (row.rate, row.name) == (2, "edited")
    assert Coin.objects.using("a").count() == 3


def test_a_gap_is_reconciled_field_by_field(replica):
    """Only what differs is posted: a concurrent edit of another field survives."""
    a, b = replica("a"), replica("b")
    for code in ("kept", "edited", "deleted"):
        Coin.objects.using("a").create(code=code, rate=1, name="n")
    meet(a, b, labels=COIN)
    remove("a", reason="test")
    Coin.objects.using("a").filter(code="edited").update(rate=2)
    Coin.objects.using("a").filter(code="deleted").delete()
    Coin.objects.using("a").create(code="new")
    Coin.objects.using("b").filter(code="edited").update(name="b")
    install("a")
    assert a.post().entries == 3
    meet(a, b, labels=COIN)
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    row = Coin.objects.using("b").get(code="edited")
    assert (row.rate, row.name) == (2, "b")
