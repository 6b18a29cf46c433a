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
from tests.testapp.models import Badge, Folder

LABELS = ("testapp.Folder", "testapp.Badge")
DELETES = False


def write(r: random.Random, replica: StorageReplica) -> None:
    folders, badges = Folder.objects.using(replica.alias), Badge.objects.using(replica.alias)
    there, worn = list(folders.order_by("pk")), list(badges.order_by("pk"))
    name, what = r.choice("abcd"), r.randrange(10)
    one = r.choice(there).pk if there else None
    other = r.choice([None, *(folder.pk for folder in there)])
    if what < 3:
        folders.create(name=name, parent_id=other)
    elif what == 3 and there:
        folders.filter(pk=one).update(name=name)
    elif what == 4 and there:
        folders.filter(pk=one).update(parent_id=other)
    elif what == 5 and len(there) > 1:
        first, second = r.sample(there, 2)
        folders.filter(pk=first.pk).update(name="spare")
        folders.filter(pk=second.pk).update(name=first.name)
        folders.filter(pk=first.pk).update(name=second.name)
    elif what == 6:
        badges.create(
            folder_id=other, number=r.choice([None, 1, 101]), series=r.choice([None, "s"]),
            name=r.choice(["", "n", "N"]), is_valid=r.random() < 0.7, colour=r.choice([None, "red", "blue"]),
            shape=r.choice([None, "o"]),
        )  # fmt: skip
    elif what == 7 and worn:
        change = r.choice([{"folder_id": other}, {"is_valid": True}, {"colour": "red"}, {"number": 101}, {"name": "n"}])
        badges.filter(pk=r.choice(worn).pk).update(**change)
    elif what == 8 and worn:
        badges.filter(pk=r.choice(worn).pk).delete()
    elif what == 9 and there and DELETES:
        leaves = folders.filter(folder=None, badge=None)
        leaves.filter(pk=one).delete()


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.5:
        with suppress(IntegrityError), transaction.atomic(using=one.alias):
            write(r, one)
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
