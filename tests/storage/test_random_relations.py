"""Random histories with foreign keys and unique values: whatever is parked, every replica comes to the same states."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from django.db import IntegrityError, transaction

from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.random_work import work
from tests.storage.test_posting import states
from tests.testapp.models import Book, Player, Ruled, Shelf, Team

LABELS = ("testapp.Shelf", "testapp.Book", "testapp.Ruled", "testapp.Team", "testapp.Player")


def write(r: random.Random, replica: StorageReplica) -> None:
    using = replica.alias
    shelves, books, ruled = Shelf.objects.using(using), Book.objects.using(using), Ruled.objects.using(using)
    what = r.randrange(12)
    shelf, book, row = (list(q.order_by("pk")) for q in (shelves, books, ruled))
    if what < 2:
        shelves.create(name=f"{using}{r.random()}")
    elif what == 2 and shelf:
        shelves.filter(pk=r.choice(shelf).pk).update(name=f"{using}{r.random()}")
    elif what == 3 and shelf:
        r.choice(shelf).delete()
    elif what < 6 and shelf:
        books.create(shelf=r.choice(shelf), title=str(r.random()))
    elif what == 6 and book and shelf:
        books.filter(pk=r.choice(book).pk).update(shelf=r.choice(shelf))
    elif what == 7 and book:
        books.filter(pk=r.choice(book).pk).delete()
    elif what == 8:
        replica.sql(
            "INSERT INTO testapp_ruled (id, code, amount, label, must) VALUES (%s, %s, 0, '', '') "
            "ON CONFLICT DO NOTHING",
            [f"{r.randrange(5):032x}", str(r.randrange(4))],
        )
    elif what == 9 and row:
        with suppress(IntegrityError), transaction.atomic(using=using):
            Ruled.objects.using(using).filter(pk=r.choice(row).pk).update(code=str(r.randrange(4)))
    elif what == 10 and row:
        replica.sql("UPDATE testapp_ruled SET amount = amount + 1 WHERE id = %s", [r.choice(row).pk.hex])
    else:
        team = Team.objects.using(using).create(name="t")
        player = Player.objects.using(using).create(name="p", team=team)
        Team.objects.using(using).filter(pk=team.pk).update(captain=player)


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    if r.random() < 0.5:
        write(r, one)
    else:
        work(r, one, other, LABELS)


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(1)
def test_parked_or_not_the_states_are_the_same(replica, seed):
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    for _ in range(70):
        step(r, replicas)
    meet(*replicas, labels=LABELS, rounds=4)
    first = replicas[0]
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []
        for label in LABELS:
            assert states(first, label) == states(one, label)
            table = {row[0].strip("'") for row in one.raw(label)}
            for key, entry in one.entries(label).items():
                alive = entry.inserted > entry.deleted
                assert entry.status == 2 or (key in table) == alive
    for one in replicas:
        one.sent_rows = 0
    meet(*replicas, labels=LABELS)
    assert [one.sent_rows for one in replicas] == [0, 0, 0]
