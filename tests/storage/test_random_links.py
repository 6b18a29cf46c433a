"""Random histories of links and of their ends, over three replicas: whatever the order, they come to the same."""

from __future__ import annotations

import datetime
import random

import pytest

from p2p_replication.storage.link_rows import bury_links
from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.random_work import work
from tests.storage.test_links import assert_equal
from tests.storage.test_posting import states
from tests.workloads.links import write

LABELS = (
    "testapp.Tag", "testapp.Person", "testapp.Place", "testapp.Restaurant", "testapp.Person_tags",
    "testapp.Person_friends", "testapp.Person_follows", "testapp.Place_tags", "testapp.Restaurant_guests",
)  # fmt: skip


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    if r.random() < 0.5:
        write(r, one.alias)
    elif r.random() < 0.06:
        bury_links(one.database, datetime.timedelta(0))
    else:
        work(r, one, other, LABELS)


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(1)
def test_links_converge_whatever_becomes_of_their_ends(replica, seed):
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    for _ in range(100):
        step(r, replicas)
    meet(*replicas, labels=LABELS, rounds=4)
    check(replicas)
    for one in replicas:
        bury_links(one.database, datetime.timedelta(0))
    meet(*replicas, labels=LABELS, rounds=2)
    check(replicas)
    assert_equal(*replicas, labels=LABELS)


def check(replicas: list[StorageReplica]) -> None:
    """States are equal, and a row is in its table exactly if it is alive and not parked."""
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []
        for label in LABELS:
            assert states(replicas[0], label) == states(one, label), label
            assert replicas[0].canonical(label) == one.canonical(label), label
            table = one.keys(label)
            for key, entry in one.entries(label).items():
                alive = entry.inserted > entry.deleted
                assert (key in table) == (alive and entry.status == 0), (label, key)
