"""Faults of Morango, the replication of Kolibri."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps

from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Coin

LABEL = "testapp.Coin"
COIN = (LABEL,)

Replicas = Callable[..., StorageReplica]


@seeded(5)
def test_delete_then_re_create_converges(replica: Replicas, seed: int) -> None:
    """A record that was deleted and made again with the same key was another one on each side, for good."""
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    Coin.objects.using("a").create(code="x", name="first")
    meet(*replicas, labels=COIN)

    def write(one: StorageReplica) -> None:
        coins = Coin.objects.using(one.alias).filter(code="x")
        if not coins.exists():
            Coin.objects.using(one.alias).create(code="x", name=f"by {one.alias}", rate=r.randrange(100))
        elif r.random() < 0.5:
            coins.delete()
        else:
            coins.update(rate=r.randrange(100))

    for _ in range(30):
        one, other = r.sample(replicas, 2)
        if r.random() < 0.6:
            write(one)
        else:
            one.pull(other, COIN)
    meet(*replicas, labels=COIN)
    first, *others = [one.raw(LABEL) for one in replicas]
    assert others == [first, first]
    # A row that is made after all of that is there everywhere, and gone everywhere when it is deleted.
    Coin.objects.using("b").update_or_create(code="x", defaults={"name": "at last"})
    meet(*replicas, labels=COIN)
    assert [Coin.objects.using(one.alias).get().name for one in replicas] == ["at last"] * 3
    Coin.objects.using("c").filter(code="x").delete()
    meet(*replicas, labels=COIN)
    assert [Coin.objects.using(one.alias).count() for one in replicas] == [0, 0, 0]


def table_sizes(one: StorageReplica) -> dict[str, int]:
    models = [model for name in ("p2p_replication", "testapp") for model in apps.get_app_config(name).get_models()]
    return {model._meta.label: model._base_manager.using(one.alias).count() for model in models}


@pytest.mark.parametrize("sender_starts_anew", [False, True])
def test_interrupted_syncs_leave_no_buffers(replica: Replicas, sender_starts_anew: bool) -> None:
    """kolibri#7270: syncs that broke off left 8 GB of rows in transfer tables. Here there are no such tables."""
    a, interrupted, smooth = replica("a"), replica("interrupted"), replica("smooth")
    Coin.objects.using("a").bulk_create(Coin(code=str(i)) for i in range(300))
    a.post()
    for i in range(1, 26):
        interrupted.pull(a, COIN, batch_size=10, batches=1)
        now = table_sizes(interrupted)
        taken = now[LABEL]
        assert now["p2p_replication.LedgerEntry"] == taken <= i * 10, "a row is nowhere but where it belongs"
        assert now["p2p_replication.ChangeLogEntry"] == now["p2p_replication.Parking"] == 0
        if sender_starts_anew:
            a.start()
        else:
            assert taken == i * 10, "each try goes on where the one before ended"
    interrupted.pull(a, COIN)
    smooth.pull(a, COIN)
    sizes: list[dict[str, Any]] = [table_sizes(interrupted), table_sizes(smooth)]
    assert sizes[0] == sizes[1]
    assert interrupted.raw(LABEL) == smooth.raw(LABEL)
