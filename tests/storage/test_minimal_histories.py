"""The shortest histories that break a wrong design, played on real databases (DESIGN 4 and 5)."""

from __future__ import annotations

import contextlib

import pytest
from django.db import connections

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models import PullCursor
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.version_vector import covers
from p2p_replication.storage import changes as changes_module
from p2p_replication.storage import had_changes
from p2p_replication.storage.changes import read_changes
from p2p_replication.storage.vectors import cursor_of
from tests.storage.batches import batch_of, edited
from tests.storage.coins import COIN, coin, edit
from tests.storage.conftest import meet
from tests.testapp.models import Coin


def test_a_cut_batch_does_not_raise_the_vector(replica):
    """M1: B got the first rows of A only; A dies; what T has of A must still reach B."""
    a, t, b = replica("a"), replica("t"), replica("b")
    for code in "123":
        coin(a, code)
    t.pull(a, COIN)
    edit(a, "1", rate=5)
    b.pull(a, COIN, batch_size=2, batches=1)
    assert b.vector("testapp.Coin") == {}
    b.pull(t, COIN)
    t.pull(b, COIN)
    assert a.raw("testapp.Coin") != []
    assert b.raw("testapp.Coin") == t.raw("testapp.Coin")
    assert Coin.objects.using("b").count() == 3


def test_a_push_brings_rows_whose_dots_are_others_by_now(replica):
    """M2: A pushes its counters 1 and 2, though row 1 has B's dot meanwhile: C must get row 1 with it."""
    a, b, c, d = (replica(name) for name in "abcd")
    coin(a, "1")
    b.pull(a, COIN)
    d.pull(a, COIN)
    edit(b, "1", rate=3, name="b")
    coin(a, "2")
    a.pull(b, COIN)
    changes = a.push(c, "testapp.Coin", 0)
    assert c.apply(a, changes).taken
    c.pull(d, COIN)
    assert set(Coin.objects.using("c").values_list("code", "rate")) == {("1", 3), ("2", 0)}
    d.pull(c, COIN)
    assert c.raw("testapp.Coin") == d.raw("testapp.Coin") == a.raw("testapp.Coin")


def test_a_push_counts_only_if_its_beginning_is_reached(replica):
    a, c = replica("a"), replica("c")
    coin(a, "1")
    first = a.vector("testapp.Coin")[a.database.start]
    coin(a, "2")
    changes = a.push(c, "testapp.Coin", first)
    outcome = c.apply(a, changes)
    assert not outcome.taken
    assert not covers(c.vector("testapp.Coin"), {a.database.start: first})
    c.pull(a, COIN)
    assert Coin.objects.using("c").count() == 2
    assert c.apply(a, changes).taken


def test_a_parked_row_is_relayed(replica):
    """M3: C holds a row it can't apply; it claims the vector, so it must pass the row on."""
    a, b, c = replica("a"), replica("b"), replica("c")
    coin(a, "1")
    future = lambda: a.database.now_ms() - 10_000_000  # noqa: E731 - C's clock is far behind
    c.database.now_ms = future
    c.pull(a, COIN)
    assert c.parked() == 1
    b.pull(c, COIN)
    assert Coin.objects.using("b").count() == 1
    assert b.vector("testapp.Coin") == c.vector("testapp.Coin")


def test_a_row_with_a_waiting_log_entry_is_not_read_under_its_old_version(replica):
    """M4: a committed write that is not posted must not travel under the dot of the version before."""
    a, b, c = replica("a"), replica("b"), replica("c")
    coin(a, "1", rate=1)
    c.pull(a, COIN)
    Coin.objects.using("a").update(rate=2)
    b.pull(a, COIN)
    b.pull(c, COIN)
    c.pull(b, COIN)
    assert b.raw("testapp.Coin") == c.raw("testapp.Coin")


@pytest.mark.parametrize("meets_first", [False, True])
def test_a_restored_backup_is_a_replica_that_is_behind(replica, meets_first):
    """M5: what it wrote after the backup comes back from others; what it writes after the restore reaches them."""
    a, b = replica("a"), replica("b")
    coin(a, "1")
    backup = a.site.copy("backup")
    coin(a, "2")
    coin(a, "3")
    b.pull(a, COIN)
    restored = replica("restored", backup)
    if meets_first:
        restored.pull(b, COIN)
    for code in "456789":
        coin(restored, code)
    meet(restored, b, labels=COIN)
    assert restored.raw("testapp.Coin") == b.raw("testapp.Coin")
    assert Coin.objects.using("b").count() == 9


def test_a_restored_receiver_gets_what_it_forgot(replica):
    a, b = replica("a"), replica("b")
    coin(a, "1")
    b.pull(a, COIN)
    backup = b.site.copy("backup")
    coin(a, "2")
    b.pull(a, COIN)
    coin(b, "from b")
    a.pull(b, COIN)
    restored = replica("restored", backup)
    meet(a, restored, labels=COIN)
    assert a.raw("testapp.Coin") == restored.raw("testapp.Coin")
    assert Coin.objects.using("restored").count() == 3


def test_a_cursor_beyond_a_restored_backup_skips_nothing(replica):
    """The sender restores a backup of the running start: the peers' cursors of that start reach too far."""
    a, b = replica("a"), replica("b")
    coin(a, "1")
    backup = a.site.copy("backup")
    for i in range(20):
        coin(a, f"lost{i}")
    b.pull(a, COIN)
    restored = replica("restored", backup)
    for i in range(5):
        coin(restored, f"new{i}")
    b.pull(restored, COIN)
    assert Coin.objects.using("b").filter(code__startswith="new").count() == 5
    sent = restored.sent_rows
    b.pull(restored, COIN)
    assert restored.sent_rows == sent


def test_a_cursor_of_an_unknown_start_begins_anew(replica):
    """The sender's database is another one under the same replica id, or was emptied."""
    a, b = replica("a"), replica("b")
    for code in "123":
        coin(a, code)
    PullCursor.objects.using("b").create(
        declaration_id=b.declarations["testapp.Coin"], replica_id=a.database.replica_id, start="f" * 16, sequence=10**9
    )
    b.pull(a, COIN)
    assert Coin.objects.using("b").count() == 3
    coin(a, "4")
    b.pull(a, COIN)
    assert Coin.objects.using("b").count() == 4


@pytest.mark.parametrize("starts", [1, 3])
def test_a_restart_of_the_sender_costs_nothing(replica, starts):
    a, b = replica("a"), replica("b")
    for i in range(30):
        coin(a, str(i))
    b.pull(a, COIN)
    for _ in range(starts):
        a.start()
    coin(a, "new")
    a.sent_rows = 0
    b.pull(a, COIN)
    assert a.sent_rows == 1
    cursor = b.sql("SELECT start, sequence FROM p2p_replication_pullcursor")
    assert cursor == [(a.database.start, a.entries("testapp.Coin")["new"].seq)]


def test_a_row_that_is_written_at_every_snapshot_is_never_sent_stale(replica):
    """The application writes one row again and again before a batch is read: in the end it is read as it is then."""
    a, b = replica("a"), replica("b")
    for code in "123456":
        coin(a, code)
    writes = 0

    def write_first(execute, sql, params, many, context):
        nonlocal writes
        if sql == a.database.vendor.begin_snapshot:
            writes += 1
            a.outside("UPDATE testapp_coin SET rate = rate + 1 WHERE code = '3'")
        return execute(sql, params, many, context)

    with connections["a"].execute_wrapper(write_first):
        b.pull(a, COIN)
    assert writes > 1
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
    assert Coin.objects.using("b").get(code="3").rate == writes


@pytest.mark.parametrize("scan", [1, 3, 1000])
@pytest.mark.parametrize("skip", [1, 4, 1000])
def test_batches_of_any_length_and_scan_miss_nothing(replica, monkeypatch, scan, skip):
    """Most of what is scanned the asker has already."""
    monkeypatch.setattr(changes_module, "SCAN_ROWS", scan)
    monkeypatch.setattr(had_changes, "SKIP_ROWS", skip)
    a, b, c = replica("a"), replica("b"), replica("c")
    for i in range(12):
        coin(a, f"a{i}")
    c.pull(a, COIN)
    edit(c, "a5", name="of c")
    edit(a, "a5", rate=9)
    c.pull(a, COIN)
    edit(a, "a7", rate=9)
    c.pull(a, COIN)
    b.pull(a, COIN)
    for i in range(5):
        coin(c, f"c{i}")
        edit(c, f"a{i * 2}", rate=i + 1)
    assert a.entries(COIN[0])["a7"].more_dots is None and c.entries(COIN[0])["a5"].more_dots
    b.pull(c, COIN, batch_size=2)
    assert c.sent_rows == 11
    assert c.raw("testapp.Coin") == b.raw("testapp.Coin")
    assert b.vector("testapp.Coin") == c.vector("testapp.Coin")


def test_what_a_peer_has_is_passed_over_at_once(replica, monkeypatch):
    """After a first sync the whole table is had: not a batch for each few rows of it."""
    monkeypatch.setattr(changes_module, "SCAN_ROWS", 10)
    a, b = replica("a"), replica("b")
    for i in range(100):
        coin(a, str(i))
    b.pull(a, COIN)
    coin(b, "new")
    b.post()
    label = "testapp.Coin"
    first = read_changes(b.database, b.stream(label), b.declarations[label], a.vector(label), after=None)
    assert first.count == 0
    second = read_changes(b.database, b.stream(label), b.declarations[label], a.vector(label), after=first.to_seq)
    assert (second.count, second.vector) == (1, b.vector(label))


def test_rows_above_the_vector_reach_a_third_replica(replica):
    """M6: B has the first batch of A, which died; C has nothing."""
    a, b, c = replica("a"), replica("b"), replica("c")
    for i in range(5):
        coin(a, str(i))
    b.pull(a, COIN, batch_size=3, batches=1)
    c.pull(b, COIN)
    assert c.raw("testapp.Coin") == b.raw("testapp.Coin")
    assert Coin.objects.using("c").count() == 3
    c.pull(b, COIN)
    assert b.sent_rows == 3


def test_a_batch_from_above_the_cursor_moves_nothing_and_claims_nothing(replica):
    """One batch in the middle was lost: the rows are taken, but nothing is said to be complete."""
    a, b = replica("a"), replica("b")
    for i in range(30):
        coin(a, str(i))
    label = "testapp.Coin"
    after, batches = None, []
    while not batches or batches[-1].claim is None:
        batch = read_changes(a.database, a.stream(label), a.declarations[label], {}, after=after, batch_size=10)
        after = batch.to_seq
        batches.append(Changes(label, 1, 1, batch.start, batch.from_seq, batch.to_seq, batch.continues, 0,
                               batch.vector, 0, batch.rows))  # fmt: skip
    b.apply(a, batches[0])
    reached = cursor_of(b.database, b.declarations[label], a.database.replica_id)
    for batch in batches[2:]:
        assert not b.apply(a, batch).taken
    assert cursor_of(b.database, b.declarations[label], a.database.replica_id) == reached
    assert b.vector(label) == {}
    b.pull(a, COIN)
    assert a.raw(label) == b.raw(label)
    b.apply(a, batches[0])  # a late duplicate
    assert cursor_of(b.database, b.declarations[label], a.database.replica_id)[1] > reached[1]


def lie_about(a, b) -> Changes:
    """A batch of ``b`` that claims counters of ``a``'s running start which were never given."""
    return batch_of(b, "testapp.Coin", claim={**b.vector("testapp.Coin"), a.database.start: 10**9})


def test_a_peer_that_names_our_origin_does_not_change_what_we_say_of_it(replica):
    """Others hear of our counters from us: what we write next still counts as new for them."""
    a, b, c = replica("a"), replica("b"), replica("c")
    coin(a, "1")
    meet(a, b, c, labels=COIN)
    with contextlib.suppress(StaleReplica):
        a.apply(b, lie_about(a, b))
    c.pull(a, COIN)
    coin(a, "2")
    c.pull(a, COIN)
    assert Coin.objects.using("c").count() == 2


def test_a_counter_of_ours_that_we_never_gave_makes_a_new_origin(replica):
    """Others may have heard it as well (a resumed machine snapshot): a new origin must be at work before we write on.

    StaleReplica is how the worker is told to open the database anew.
    """
    a, b, c = replica("a"), replica("b"), replica("c")
    coin(a, "1")
    meet(a, b, c, labels=COIN)
    c.apply(b, lie_about(a, b))
    try:
        a.apply(b, lie_about(a, b))
        coin(a, "2")
    except StaleReplica:
        a.start()
        Coin.objects.using("a").get_or_create(code="2")
    c.pull(a, COIN)
    assert Coin.objects.using("c").count() == 2


def test_a_row_with_a_dot_of_ours_that_we_never_gave(replica):
    """A resumed snapshot of this very start: our next counters must not be the ones that others know already."""
    a, b = replica("a"), replica("b")
    coin(a, "1")
    b.pull(a, COIN)
    changes = edited(batch_of(b, "testapp.Coin"), lambda row: row._replace(
        key="ghost", dots={a.database.start: 10**9}, born=(a.database.start, 10**9)))  # fmt: skip
    a.apply(b, changes)
    b.apply(a, batch_of(a, "testapp.Coin"))
    coin(a, "2")
    batch = read_changes(
        a.database, a.stream("testapp.Coin"), a.declarations["testapp.Coin"], b.vector("testapp.Coin"), after=0
    )
    b.pull(a, COIN)
    assert batch.count >= 1
    assert a.raw("testapp.Coin") == b.raw("testapp.Coin")
