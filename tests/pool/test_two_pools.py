"""Two pools over one model: a replica that is in both hands rows from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import p2p_replication
from tests.live_replicas import LiveReplica, equal, until
from tests.testapp.models import Note

Live = Callable[..., LiveReplica]


async def declared(replica: LiveReplica, *topics: str) -> None:
    for topic in topics:
        await replica.do(p2p_replication.sync_p2p, Note, topic)
    await replica.start(declared=False)


@pytest.mark.on("sqlite", "mixed")
async def test_rows_pass_from_one_pool_to_the_other(live: Live) -> None:
    a, between, b = live("a"), live("between"), live("b")
    await declared(a, "first pool")
    await declared(between, "first pool", "second pool")
    await declared(b, "second pool")
    await until(lambda: len(between.links) == 2, "the one between is linked with both")
    await a.create(title="from a")
    await until(lambda: b.count(title="from a"), "a's row reaches b")
    await b.create(title="from b")
    await until(lambda: a.count(title="from b"), "b's row reaches a")
    await b.do(Note.objects.filter(title="from a").update, stars=5)
    await until(lambda: a.count(stars=5), "b's edit reaches a")
    await equal(a, between, b)
    before: Any = [replica.traffic() for replica in (a, between, b)]
    await a.create(title="the last")
    await until(lambda: b.count(title="the last"), "the last row")

    def received() -> list[int]:
        return [r.traffic()[0] - old[0] for r, old in zip((a, between, b), before, strict=True)]

    await until(lambda: received() == [0, 1, 1], "each gets it once")
