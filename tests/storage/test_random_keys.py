"""Random histories of models whose primary keys are local numbers, and that refer to each other by them."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from django.db import IntegrityError

from p2p_replication.protocol.verification import Outcome, compare
from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_keys import LABELS, burn
from tests.storage.test_posting import SmallBudget, states
from tests.workloads.local_keys import write


def step(r: random.Random, replicas: list[StorageReplica], *, deletes: bool) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.5:
        with suppress(IntegrityError):
            write(r, one.alias, deletes=deletes)
    elif what < 0.55:
        one.post()
    elif what < 0.85:
        one.pull(other, (r.choice(LABELS),), batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
    elif what < 0.9:
        label = r.choice(LABELS)
        changes = one.push(other, label, other.vector(label).get(one.database.start, 0))
        if changes is not None:
            other.apply(one, changes)
    elif what < 0.93:
        one.start()
        one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
    else:
        one.retry_parked()


@pytest.mark.on("sqlite", "postgresql", "mixed")
@pytest.mark.parametrize("deletes", [False, True])
@seeded(1)
def test_replicas_come_to_the_same_rows_by_their_keys(replica, seed, deletes):
    """Rows whose parent was deleted elsewhere may stay parked, on all with the same state; nothing else is."""
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    for i, one in enumerate(replicas):
        burn(one, 1000 * (i + 1))
    for _ in range(100):
        step(r, replicas, deletes=deletes)
    meet(*replicas, labels=LABELS, rounds=5)
    first = replicas[0]
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []
        for label in LABELS:
            assert states(first, label) == states(one, label)
            assert compare(first.digest(label), one.digest(label)).outcome is Outcome.EQUAL
            if not deletes:
                assert first.canonical(label) == one.canonical(label)
    if not deletes:
        assert [one.parked() for one in replicas] == [0, 0, 0]
    for one in replicas:
        one.start()
        one.sent_rows = 0
    meet(*replicas, labels=LABELS)
    assert [one.sent_rows for one in replicas] == [0, 0, 0]
