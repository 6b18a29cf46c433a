"""Random histories with unique values on three replicas: in the end tables and parked rows are the same everywhere."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from django.db import IntegrityError, transaction

from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_posting import SmallBudget, states
from tests.storage.test_unique_clashes import same
from tests.workloads.unique_values import write

LABELS = ("testapp.Folder", "testapp.Badge")


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.5:
        with suppress(IntegrityError), transaction.atomic(using=one.alias):
            write(r, one.alias, deletes=False)
    elif what < 0.55:
        one.post()
    elif what < 0.8:
        one.pull(other, (r.choice(LABELS),), batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
    elif what < 0.87:
        label = r.choice(LABELS)
        changes = one.push(other, label, other.vector(label).get(one.database.start, 0))
        if changes is not None:
            other.apply(one, changes)
    elif what < 0.9:
        one.start()
        one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
    else:
        one.retry_parked()


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(2)
def test_tables_and_parked_rows_end_equal(replica, seed):
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    for _ in range(90):
        step(r, replicas)
    meet(*replicas, labels=LABELS, rounds=3)
    for one in replicas:
        for label in LABELS:
            assert states(replicas[0], label) == states(one, label)
    same(*replicas, labels=LABELS)
