"""Random histories of models whose primary keys are local numbers, and that refer to each other by them."""

from __future__ import annotations

import random
import uuid
from contextlib import suppress

import pytest
from django.db import IntegrityError, transaction

from p2p_replication.protocol.verification import Outcome, compare
from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_keys import LABELS, burn
from tests.storage.test_posting import SmallBudget, states
from tests.testapp.models import Crate, Depot, Stamp

SLUGS = "abcd"
UIDS = [uuid.UUID(int=i) for i in range(1, 6)]


def write(r: random.Random, replica: StorageReplica, *, deletes: bool) -> None:
    using = replica.alias
    depots, crates, stamps = (model.objects.using(using) for model in (Depot, Crate, Stamp))
    depot, crate, stamp = (r.choice(list(rows.order_by("pk")) or [None]) for rows in (depots, crates, stamps))
    what = r.randrange(14 if deletes else 11)
    if what < 2:
        depots.update_or_create(slug=r.choice(SLUGS), defaults={"name": str(r.random())})
    elif what == 2 and replica.site.vendor == "sqlite":
        number = depot.pk if depot is not None and r.random() < 0.5 else None
        replica.sql(
            "INSERT OR REPLACE INTO testapp_depot (id, slug, name) VALUES (%s, %s, 'r')",
            [number, depot.slug if depot is not None and not deletes else r.choice(SLUGS)],
        )
    elif what < 5 and depot is not None:
        crates.update_or_create(uid=r.choice(UIDS), defaults={"depot": depot, "label": str(r.random())})
    elif what == 5 and crate is not None and depot is not None:
        crates.filter(pk=crate.pk).update(depot=depot)
    elif what == 6 and crate is not None:
        crates.filter(pk=crate.pk).update(inside=r.choice([None, *crates.order_by("pk")]))
    elif what == 7:
        stamps.create(crate=crate, text=str(r.random()))
    elif what == 8 and stamp is not None:
        stamps.filter(pk=stamp.pk).update(crate=crate)
    elif what == 9 and crate is not None:
        crates.filter(pk=crate.pk).update(label=str(r.random()))
    elif what == 10 and depot is not None:
        with suppress(IntegrityError), transaction.atomic(using=using):
            depots.filter(pk=depot.pk).update(id=r.randrange(5000, 9000))
            crates.filter(depot_id=depot.pk).update(depot_id=depots.get(slug=depot.slug).pk)
    elif what == 11 and stamp is not None:
        stamp.delete()
    elif what == 12:
        doomed = r.choice([crate, depot])
        if doomed is not None:
            doomed.delete()
    elif what == 13 and depot is not None:
        with suppress(IntegrityError), transaction.atomic(using=using):
            depots.filter(pk=depot.pk).update(slug=r.choice(SLUGS))


def step(r: random.Random, replicas: list[StorageReplica], *, deletes: bool) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.5:
        with suppress(IntegrityError):
            write(r, one, deletes=deletes)
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
