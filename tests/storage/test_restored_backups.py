"""Restored backups, copied databases, and a database that is set back under its worker.

In the end everybody holds the same, whatever was acknowledged by somebody is there, and nobody has skipped a row.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p2p_replication.exceptions import StaleReplica
from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage.changes import read_changes
from p2p_replication.storage.replica_identity import renew_identity
from tests.databases import Database
from tests.seeds import seeded
from tests.storage.batches import batch_of
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Coin

LABEL = "testapp.Coin"
COIN = (LABEL,)

Replicas = Callable[..., StorageReplica]
Backup = Callable[[StorageReplica], Database]


@pytest.fixture
def backup() -> Backup:
    """``backup(replica)``: a backup of what it holds now."""
    numbers: Iterator[int] = iter(range(1000))
    return lambda replica: replica.site.copy(f"backup{next(numbers)}")


@pytest.fixture
def restore(replica: Replicas) -> Replicas:
    """``restore(name, backup)``: a replica that goes on from what the backup holds."""

    def make(name: str, saved: Database) -> StorageReplica:
        return replica(name, saved.copy(name))

    return make


def write(replica: StorageReplica, *codes: str, rate: int = 0) -> None:
    for code in codes:
        Coin.objects.using(replica.alias).update_or_create(code=code, defaults={"rate": rate})
    replica.post()


def codes(replica: StorageReplica) -> set[str]:
    return set(Coin.objects.using(replica.alias).values_list("code", flat=True))


def settle(*replicas: StorageReplica) -> None:
    """Let all meet, as workers do: one whose database is stale is opened anew."""
    for _ in range(len(replicas) + 1):
        try:
            meet(*replicas, labels=COIN)
            return
        except StaleReplica:
            for replica in replicas:
                replica.start()
    raise AssertionError("the replicas do not come to rest")


def assert_settled(*replicas: StorageReplica) -> None:
    """All hold the same, know that they do, and no dot names two states."""
    first, *others = replicas
    for other in others:
        assert first.raw(LABEL) == other.raw(LABEL)
        assert first.vector(LABEL) == other.vector(LABEL)
    for replica in replicas:
        replica.sent_rows = 0
    meet(*replicas, labels=COIN, rounds=1)
    assert [replica.sent_rows for replica in replicas] == [0] * len(replicas)
    said: dict[Any, Any] = {}
    for replica in replicas:
        for row in unpack_rows(batch_of(replica, LABEL).rows):
            for dot in row.dots.items():
                assert said.setdefault(dot, row.key) == row.key, f"{dot} was given twice"


@pytest.mark.parametrize("writes", [1, 3, 8], ids=["fewer", "as many", "more"])
@pytest.mark.parametrize("met_between", [False, True])
def test_a_restored_backup_that_writes_fewer_as_many_and_more_than_was_lost(
    replica: Replicas, backup: Backup, restore: Replicas, writes: int, met_between: bool
) -> None:
    a, b, c = replica("a"), replica("b"), replica("c")
    write(a, "kept", "edited later", "deleted later")
    settle(a, b)
    saved = backup(a)
    write(a, "lost 1", "lost 2")
    write(a, "edited later", rate=7)
    b.pull(a, COIN)
    restored = restore("restored", saved)
    for i in range(writes):
        write(restored, f"new {i}")
        if met_between:
            restored.pull(b, COIN)
            c.pull(restored, COIN)
    Coin.objects.using("restored").filter(code="deleted later").delete()
    settle(restored, b, c)
    assert_settled(restored, b, c)
    assert codes(b) == {"kept", "edited later", "lost 1", "lost 2", *(f"new {i}" for i in range(writes))}
    assert Coin.objects.using("restored").get(code="edited later").rate == 7


@pytest.mark.parametrize("asks", ["the restored one", "its peer"])
def test_restored_and_met_at_once_it_gets_everything_back(
    replica: Replicas, backup: Backup, restore: Replicas, asks: str
) -> None:
    a, b = replica("a"), replica("b")
    write(a, "kept")
    settle(a, b)
    saved = backup(a)
    write(a, "lost", "deleted")
    b.pull(a, COIN)
    Coin.objects.using("a").filter(code="deleted").delete()
    a.post()
    b.pull(a, COIN)
    restored = restore("restored", saved)
    one, other = (restored, b) if asks == "the restored one" else (b, restored)
    one.pull(other, COIN)
    settle(restored, b)
    assert_settled(restored, b)
    assert codes(restored) == {"kept", "lost"}


@pytest.mark.parametrize("older", [False, True], ids=["same backup", "older backup"])
def test_a_backup_restored_twice(replica: Replicas, backup: Backup, restore: Replicas, older: bool) -> None:
    """Each time something was written that a peer has seen: it comes back each time."""
    a, b, c = replica("a"), replica("b"), replica("c")
    write(a, "kept")
    b.pull(a, COIN)
    oldest = backup(a)
    write(a, "before the second")
    saved = backup(a)
    write(a, "lost once")
    b.pull(a, COIN)
    once = restore("once", saved)
    write(once, "after the first", "and again")
    b.pull(once, COIN)
    twice = restore("twice", oldest if older else saved)
    write(twice, "after the second", "and one", "and two")
    c.pull(twice, COIN)
    settle(twice, b, c)
    assert_settled(twice, b, c)
    assert codes(c) == {
        "kept", "before the second", "lost once", "after the first", "and again", "after the second", "and one",
        "and two",
    }  # fmt: skip


def test_a_live_copy_and_its_original_both_write_on(replica: Replicas, backup: Backup, restore: Replicas) -> None:
    """Peers meet both under one id for a while, until the copy has met its original and is a replica of its own."""
    a, b, c = replica("a"), replica("b"), replica("c")
    write(a, "1", "2")
    settle(a, b)
    copied = restore("copied", backup(a))
    assert copied.database.replica_id == a.database.replica_id
    for i in range(4):
        write(a, f"of the original {i}", "both")
        b.pull(a, COIN, batch_size=2, batches=1)
        write(copied, f"of the copy {i}", "both", rate=i)
        b.pull(copied, COIN)
        c.pull((a, copied)[i % 2], COIN)
    renew_identity(copied.alias, copied.database.replica_id, lambda: b"k" * 32)
    with pytest.raises(StaleReplica):
        write(copied, "under the old id")
    copied.start()
    assert copied.database.replica_id != a.database.replica_id
    write(copied, "of its own")
    write(a, "of the original")
    settle(a, copied, b, c)
    assert_settled(a, copied, b, c)
    assert len(codes(c)) == 2 + 4 + 4 + 1 + 3


def test_a_copy_of_a_copy(replica: Replicas, backup: Backup, restore: Replicas) -> None:
    a, b = replica("a"), replica("b")
    write(a, "a")
    first = restore("first", backup(a))
    write(first, "first copy")
    second = restore("second", backup(first))
    write(second, "second copy")
    write(a, "a again")
    write(first, "first copy again")
    b.pull(a, COIN)
    for i, copied in enumerate((first, second)):
        b.pull(copied, COIN)
        renew_identity(copied.alias, copied.database.replica_id, lambda i=i: bytes([i]) * 32)
        copied.start()
        write(copied, f"renewed {i}")
    third = restore("third", backup(second))
    renew_identity(third.alias, third.database.replica_id, lambda: b"3" * 32)
    third.start()
    everybody = (a, first, second, third, b)
    assert len({one.database.replica_id for one in everybody}) == 5
    settle(*everybody)
    assert_settled(*everybody)
    assert len(codes(b)) == 7


@pytest.mark.parametrize("writes", [1, 3, 8], ids=["fewer", "as many", "more"])
@pytest.mark.parametrize("meets", ["nobody", "who has what was lost", "who has not"])
def test_a_database_set_back_under_its_worker(replica: Replicas, backup: Backup, writes: int, meets: str) -> None:
    """The worker lives on with what it knew: it must give no counter again that it gave before."""
    a, b, c = replica("a"), replica("b"), replica("c")
    write(a, "kept")
    settle(a, b, c)
    saved = backup(a)
    write(a, "lost 1", "lost 2", "lost 3")
    b.pull(a, COIN)
    a.site.set_back(saved)
    assert codes(a) == {"kept"}
    for i in range(writes):
        for act in (
            lambda i=i: write(a, f"new {i}"),
            lambda: meets == "who has not" and c.pull(a, COIN),
            lambda: meets == "who has what was lost" and (a.pull(b, COIN), b.pull(a, COIN)),
        ):
            try:
                act()
            except StaleReplica:
                a.start()
    settle(a, b, c)
    assert_settled(a, b, c)
    assert codes(c) == {"kept", "lost 1", "lost 2", "lost 3", *(f"new {i}" for i in range(writes))}


def test_a_database_set_back_to_before_its_workers_start(replica: Replicas, backup: Backup) -> None:
    """The number that stands for the worker's origin in the ledger would mean another one's by and by."""
    a, b, c = replica("a"), replica("b"), replica("c")
    write(a, "kept")
    saved = backup(a)
    a.start()
    a.site.set_back(saved)
    with pytest.raises(StaleReplica):
        write(a, "new")
    a.start()
    write(b, "of b")
    a.pull(b, COIN)
    settle(a, b, c)
    assert_settled(a, b, c)
    assert codes(c) == {"kept", "new", "of b"}


def test_a_wrong_backup_and_then_the_right_one_under_one_worker(replica: Replicas, backup: Backup) -> None:
    """The second is no earlier state of the first: sequence numbers that peers have read mean other rows there."""
    a, b = replica("a"), replica("b")
    write(a, "kept")
    wrong = backup(a)
    write(a, "1", "2", "3")
    right = backup(a)
    a.site.set_back(wrong)
    a.start()
    write(a, "x", "y")
    b.pull(a, COIN)
    a.site.set_back(right)
    with pytest.raises(StaleReplica):
        b.pull(a, COIN)
    a.start()
    settle(a, b)
    assert_settled(a, b)
    assert codes(b) == {"kept", "1", "2", "3", "x", "y"}


def test_set_back_between_a_question_and_its_answer(replica: Replicas, backup: Backup) -> None:
    """The answer leaves out what was there when it was asked for: what it claims is not true any more."""
    a, b = replica("a"), replica("b")
    write(b, "1")
    saved = backup(a)
    a.pull(b, COIN)
    write(a, "lost")
    answer = read_changes(b.database, b.stream(LABEL), b.declarations[LABEL], a.vector(LABEL), after=None)
    changes = Changes(LABEL, 1, 1, answer.start, 0, answer.to_seq, None, 0, answer.vector, 0, answer.rows)
    a.site.set_back(saved)
    with pytest.raises(StaleReplica):
        a.apply(b, changes)
    a.start()
    settle(a, b)
    assert_settled(a, b)
    assert codes(a) == {"1"}


def test_a_database_set_back_is_noticed_though_nothing_is_written(replica: Replicas, backup: Backup) -> None:
    a = replica("a")
    saved = backup(a)
    write(a, "lost")
    a.database.check_identity()
    a.site.set_back(saved)
    with pytest.raises(StaleReplica, match="set back"):
        a.database.check_identity()


def test_a_pull_that_broke_off_begins_anew_with_a_restored_sender(
    replica: Replicas, backup: Backup, restore: Replicas
) -> None:
    """A row that was above the cursor, and was to come, lies below it in the backup: it must not be skipped."""
    a, b = replica("a"), replica("b")
    write(a, "1", "2", "3")
    saved = backup(a)
    write(a, "1", rate=7)  # From seq 1 to seq 4.
    b.pull(a, COIN, batch_size=2, batches=1)
    assert codes(b) == {"2", "3"}
    restored = restore("restored", saved)
    settle(restored, b)
    assert codes(b) == {"1", "2", "3"}
    assert_settled(restored, b)


def test_a_write_that_was_rolled_back_is_no_database_set_back(replica: Replicas) -> None:
    a = replica("a")
    write(a, "1")
    with pytest.raises(ZeroDivisionError), a.database.writing():
        a.database.take_sequence(5)
        raise ZeroDivisionError
    write(a, "2")
    a.database.check_identity()


@seeded(3)
def test_random_histories_of_backups_copies_and_databases_set_back(
    replica: Replicas, backup: Backup, restore: Replicas, seed: int
) -> None:
    """What somebody else has got is lost only to something newer: nobody deletes, so every code is there in the end."""
    r = random.Random(seed)
    alive = [replica(name) for name in "abc"]
    backups: list[tuple[StorageReplica, Database]] = []
    written = 0

    def step() -> None:
        nonlocal written
        one, other = r.sample(alive, 2)
        what = r.random()
        if what < 0.4:
            written += 1
            write(one, f"code {written}", "shared", rate=written)
        elif what < 0.7:
            one.pull(other, COIN, batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
        elif what < 0.8:
            changes = one.push(other, LABEL, other.vector(LABEL).get(one.database.start, 0))
            if changes is not None:
                other.apply(one, changes)
        elif what < 0.88:
            backups.append((one, backup(one)))
        elif what < 0.93 and backups:
            owner, saved = r.choice(backups)
            if owner in alive:
                owner.site.set_back(saved)
                if r.random() < 0.5:
                    owner.start()
        elif what < 0.96 and backups and len(alive) < 6:
            alive.append(restore(f"copy{len(alive)}", r.choice(backups)[1]))
        else:
            one.start()

    def renew_copies() -> None:
        ids: set[str] = set()
        for one in alive:
            if one.database.replica_id in ids:
                renew_identity(one.alias, one.database.replica_id, lambda: b"k" * 32)
                one.start()
            ids.add(one.database.replica_id)

    held: set[str] = set()
    for _ in range(90):
        try:
            step()
        except StaleReplica:
            for one in alive:
                one.start()
        held = set.union(*(codes(one) for one in alive))
    renew_copies()
    settle(*alive)
    assert_settled(*alive)
    assert codes(alive[0]) == held
