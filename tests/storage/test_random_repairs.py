"""Random histories with every ``on_delete``, trees and a cycle: repairs end, and all replicas are equal then."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from django.db import IntegrityError, transaction

from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_on_delete import mend
from tests.storage.test_posting import SmallBudget, states
from tests.storage.test_unique_clashes import same
from tests.testapp.models import SPARE_DESK, Desk
from tests.workloads.deletes import write

LABELS = (
    "testapp.Office", "testapp.Desk", "testapp.Thing", "testapp.Branch", "testapp.Team", "testapp.Player",
)  # fmt: skip


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.6:
        with suppress(IntegrityError), transaction.atomic(using=one.alias):
            write(r, one.alias)
    elif what < 0.85:
        one.pull(other, (r.choice(LABELS),), batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
    elif what < 0.9:
        one.start()
        one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
    elif what < 0.95:
        one.retry_parked()
    else:
        one.repair(LABELS)  # Too early: they must come to the same all the same.


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(1)
def test_repairs_end_and_all_are_equal(replica, seed):
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    with suppress(IndexError):
        Desk.objects.using("a").create(pk=SPARE_DESK, name="spare")
    meet(*replicas, labels=LABELS)
    for _ in range(100):
        step(r, replicas)
    for one in replicas:
        one.database.budget = SmallBudget(1000)
    mend(*replicas, labels=LABELS, rounds=12)
    for one in replicas:
        for label in LABELS:
            assert states(replicas[0], label) == states(one, label)
    same(*replicas, labels=LABELS)
    assert [one.repair(LABELS) for one in replicas] == [0, 0, 0]
