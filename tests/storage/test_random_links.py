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
from tests.testapp.models import Person, Restaurant, Tag

LABELS = (
    "testapp.Tag", "testapp.Person", "testapp.Place", "testapp.Restaurant", "testapp.Person_tags",
    "testapp.Person_friends", "testapp.Person_follows", "testapp.Place_tags", "testapp.Restaurant_guests",
)  # fmt: skip


def write(r: random.Random, replica: StorageReplica) -> None:
    using = replica.alias
    people, tags = list(Person.objects.using(using).order_by("pk")), list(Tag.objects.using(using).order_by("pk"))
    places = list(Restaurant.objects.using(using).order_by("pk"))
    if len(people) < 2:
        Person.objects.using(using).create(name=str(r.random()))
        return
    if len(tags) < 2 or not places:
        Tag.objects.using(using).create(name=str(r.random()))
        Restaurant.objects.using(using).create(name=str(r.random()))
        return
    links = r.choice(
        [
            (r.choice(people).tags, tags),
            (r.choice(people).friends, people),
            (r.choice(people).follows, people),
            (r.choice(places).tags, tags),
            (r.choice(places).guests, people),
            (r.choice(tags).people, people),
        ]
    )
    manager, ends = links
    match r.randrange(10):
        case 0 | 1 | 2 | 3:
            manager.add(*r.sample(ends, r.randrange(1, len(ends) + 1)))
        case 4 | 5:
            manager.remove(*r.sample(ends, r.randrange(1, len(ends) + 1)))
        case 6:
            manager.set(r.sample(ends, r.randrange(len(ends) + 1)))
        case 7:
            manager.clear()
        case 8:
            r.choice([*people, *tags, *places]).delete()
        case 9:
            r.choice(places).delete(keep_parents=True)


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    if r.random() < 0.5:
        write(r, one)
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
