"""``pull=None`` and ``push=None`` between running replicas: every combination of two members, relays, and waiting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import p2p_replication
from p2p_replication.exceptions import NotInSync
from p2p_replication.models import Pool, PoolHandle
from p2p_replication.transport.memory import MemoryHub
from tests.live_replicas import TOPIC, LiveReplica, declare, linked, until
from tests.testapp.models import Note, Shelf

Live = Callable[..., LiveReplica]
BOTH: dict[str, Any] = {}
PULL_ONLY: dict[str, Any] = {"push": None}
PUSH_ONLY: dict[str, Any] = {"pull": None}
MODES = {"both": BOTH, "pull only": PULL_ONLY, "push only": PUSH_ONLY}


async def start(replica: LiveReplica, mode: dict[str, Any]) -> None:
    """Notes replicate in this mode; shelves in both directions, to see when all before them has passed."""
    await replica.do(p2p_replication.sync_p2p, Note, TOPIC, **mode)
    await replica.do(p2p_replication.sync_p2p, Shelf, TOPIC)
    await replica.start(declared=False)


async def titles(replica: LiveReplica) -> set[str]:
    return set(await replica.do(lambda: list(Note.objects.values_list("title", flat=True))))


async def in_sync(replica: LiveReplica, timeout: float) -> str:
    """Wait, and say what is missing in the end."""

    def wait() -> str:
        try:
            PoolHandle(Pool.objects.get(), Note).wait_in_sync(timeout)
        except NotInSync as error:
            return str(error)
        return ""

    return await replica.do(wait)


async def passed(*replicas: LiveReplica) -> None:
    """Wait until everything that was on its way has arrived, or would have."""
    for replica in replicas:
        shelf = await replica.create("testapp.Shelf", name=f"from {replica.name}")
        for other in replicas:
            count = partial(other.count, "testapp.Shelf", pk=shelf.pk)
            await until(count, "the shelf arrives")


@pytest.mark.on("mixed")
@pytest.mark.parametrize("mode_b", MODES)
@pytest.mark.parametrize("mode_a", MODES)
async def test_rows_go_from_who_pushes_to_who_pulls(live: Live, mode_a: str, mode_b: str) -> None:
    a, b = live("a"), live("b")
    await a.create(title="a before")
    await b.create(title="b before")
    await start(a, MODES[mode_a])
    await start(b, MODES[mode_b])
    await linked(a, b)
    await a.create(title="a live")
    await b.create(title="b live")
    to_b = mode_a != "pull only" and mode_b != "push only"
    to_a = mode_b != "pull only" and mode_a != "push only"
    own = {name: {f"{name} before", f"{name} live"} for name in "ab"}
    for replica, arrives, theirs in ((a, to_a, own["b"]), (b, to_b, own["a"])):
        wanted = own[replica.name] | (theirs if arrives else set())

        async def there(replica: LiveReplica = replica, wanted: set[str] = wanted) -> bool:
            return await titles(replica) >= wanted

        await until(there, f"what goes to {replica.name} is there")
    await passed(a, b)
    assert await titles(a) == own["a"] | (own["b"] if to_a else set())
    assert await titles(b) == own["b"] | (own["a"] if to_b else set())
    for replica, gives, pushes in ((a, to_b, mode_a != "pull only"), (b, to_a, mode_b != "pull only")):
        missing = await in_sync(replica, 15 if gives or not pushes else 1.5)
        if gives or not pushes:
            assert missing == ""
        else:
            assert "takes no rows of testapp.Note, by its pull=None" in missing
    assert await a.errors() == await b.errors() == []


async def test_asking_everybody_leaves_out_what_does_not_come_in_and_goes_on(live: Live) -> None:
    """As before a repair: a model that is not taken must not count as being pulled."""
    a, b = live("a"), live("b")
    await a.do(declare, ("testapp.Shelf",), {})
    await a.do(declare, ("testapp.Note",), {"pull": None})
    await a.start(declared=False)
    await b.start("testapp.Shelf", "testapp.Note")
    await linked(a, b)
    a.pool.ask_everybody()
    await b.do(lambda: Shelf.objects.bulk_create([Shelf(name=f"s{i}") for i in range(300)]))
    await until(lambda: a.do(lambda: Shelf.objects.count() == 300), "what is too much for a push is pulled")


@pytest.mark.on("mixed")
async def test_who_does_not_push_does_not_relay(live: Live, hub: MemoryHub) -> None:
    a, b, c = live("a"), live("b"), live("c")
    await start(c, BOTH)
    c_id = c.replica_id
    await c.stop()
    await start(a, BOTH)
    hub.partition([a.replica_id], [c_id])
    await start(b, PULL_ONLY)
    await c.start(declared=False)
    await until(lambda: len(b.links) == 2, "b is linked with both")
    await a.create(title="from a")
    await until(lambda: b.count(title="from a"), "b takes it")
    await passed(b, c)
    assert await c.count() == 0
    hub.heal()
    await until(lambda: c.count(title="from a"), "c has it from a itself")


@pytest.mark.on("mixed")
async def test_a_direction_that_is_switched_on_again_brings_everything(live: Live) -> None:
    a, b = live("a"), live("b")
    await start(a, PUSH_ONLY)
    await start(b, PULL_ONLY)
    await linked(a, b)
    await a.create(title="from a")
    await b.create(title="from b")
    await until(lambda: b.count(title="from a"), "a's row crosses")
    await a.do(p2p_replication.sync_p2p, Note, TOPIC)
    await b.do(p2p_replication.sync_p2p, Note, TOPIC)
    await until(lambda: a.count(title="from b"), "b's row crosses as well")
    await a.do(Note.objects.filter(title="from b").update, stars=3)
    await until(lambda: b.count(stars=3), "and a's edit of it comes back")
