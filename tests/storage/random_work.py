"""What a worker may do next, by chance: for random histories."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.storage.conftest import StorageReplica
from tests.storage.test_posting import SmallBudget


def work(r: random.Random, one: StorageReplica, other: StorageReplica, labels: Sequence[str]) -> None:
    """Let one replica post, pull from the other, push to it, start anew, or try its parked rows again."""
    what = r.random()
    if what < 0.1:
        one.post()
    elif what < 0.7:
        one.pull(other, (r.choice(labels),), batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
    elif what < 0.8:
        label = r.choice(labels)
        changes = one.push(other, label, other.vector(label).get(one.database.start, 0))
        if changes is not None:
            other.apply(one, changes)
    elif what < 0.86:
        one.start()
        one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
    else:
        one.retry_parked()
