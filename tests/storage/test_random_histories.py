"""Random histories on real databases: writes of all kinds, cut pulls, pushes, restarts; in the end all are equal."""

from __future__ import annotations

import random

import pytest

from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.verification import Outcome, compare
from tests.seeds import seeded
from tests.storage.batches import batch_of
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_posting import SmallBudget
from tests.workloads.fields import write

LABELS = ("testapp.Coin", "testapp.Branch")


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.5:
        write(r, one.alias)
    elif what < 0.6:
        one.post()
    elif what < 0.85:
        one.pull(other, (r.choice(LABELS),), batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
    elif what < 0.93:
        label = r.choice(LABELS)
        changes = one.push(other, label, other.vector(label).get(one.database.start, 0))
        if changes is not None:
            other.apply(one, changes)
            if r.random() < 0.3:
                other.apply(one, changes)
    elif what < 0.97:
        one.start()
        one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
    else:
        one.retry_parked()


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(2)
def test_replicas_that_have_exchanged_everything_are_equal(replica, seed):
    r = random.Random(seed)
    replicas = [replica(name) for name in "abcd"[: 3 + seed % 2]]
    for _ in range(110):
        step(r, replicas)
    meet(*replicas, labels=LABELS, rounds=3)
    first = replicas[0]
    for other in replicas[1:]:
        for label in LABELS:
            assert first.canonical(label) == other.canonical(label)
            assert compare(first.digest(label), other.digest(label)).outcome is Outcome.EQUAL
            assert other.digest(label).unsettled == ""
    assert [one.parked() for one in replicas] == [0] * len(replicas)
    vectors = [[one.vector(label) for label in LABELS] for one in replicas]
    assert all(vector == vectors[0] for vector in vectors)
    for one in replicas:
        one.start()
        one.sent_rows = 0
    meet(*replicas, labels=LABELS)
    assert [one.sent_rows for one in replicas] == [0] * len(replicas)
    said: dict[tuple, RowState] = {}
    for one in replicas:
        for label in LABELS:
            for row in unpack_rows(batch_of(one, label).rows):
                dots = (label, row.key, *sorted(row.dots.items()))
                assert said.setdefault(dots, row.state) == row.state
