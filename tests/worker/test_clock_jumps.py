"""A machine that is resumed from a snapshot: its wall clock jumps, and counters given since are not given again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from p2p_replication.exceptions import StaleReplica
from p2p_replication.worker import opening
from p2p_replication.worker.clock_jumps import TOLERATED, ClockJumps, boot_time
from tests.live_replicas import LiveReplica, equal, linked, until

Live = Callable[..., LiveReplica]


class Clocks:
    """A wall clock and one that counts the seconds since the machine was started."""

    def __init__(self) -> None:
        self.wall, self.boot = 1_700_000_000.0, 1_000.0

    def jumps(self) -> ClockJumps:
        return ClockJumps(lambda: self.wall, lambda: self.boot)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


@pytest.mark.parametrize("jump", [3600.0, -3600.0, TOLERATED + 1, -TOLERATED - 1])
def test_a_jump_of_the_wall_clock_is_noticed(jump: float) -> None:
    clocks = Clocks()
    jumps = clocks.jumps()
    clocks.pass_time(60)
    jumps.check()
    clocks.wall += jump
    with pytest.raises(StaleReplica, match="jumped by"):
        jumps.check()
    with pytest.raises(StaleReplica):
        jumps.check()
    clocks.jumps().check()


def test_time_that_passes_sleep_and_the_corrections_of_ntp_are_no_jumps() -> None:
    clocks = Clocks()
    jumps = clocks.jumps()
    clocks.pass_time(12 * 3600)  # a laptop that slept: its boot time went on
    jumps.check()
    for _ in range(24 * 60):
        clocks.pass_time(60)
        clocks.wall += 60 * 500e-6  # slewed at the most that the kernel does: 43 s a day
        jumps.check()


def test_the_machines_own_clocks_do_not_jump() -> None:
    jumps = ClockJumps()
    time.sleep(0.05)
    jumps.check()
    before = boot_time()
    assert 0 <= boot_time() - before < 5


async def test_a_resumed_machine_goes_on_under_a_new_origin_before_the_next_counter(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = live("a"), live("b")
    clocks = Clocks()
    monkeypatch.setattr(opening, "ClockJumps", clocks.jumps)
    await a.start()
    await b.start()
    await linked(a, b)
    await a.create(title="before")
    await equal(a, b)
    assert a.supervisor is not None
    database = a.supervisor.database
    given = await a.sql("SELECT sequence FROM p2p_replication_replica")
    clocks.wall += 600
    await a.create(title="after")
    await until(lambda: a.supervisor and a.supervisor.database.start != database.start, "a new origin is made")
    (own,) = await a.sql("SELECT own_vector FROM p2p_replication_stream WHERE label = 'testapp.Note'")
    await equal(a, b)
    assert await b.count() == 2
    assert json.loads(own[0])[database.start] == given[0][0], "the old origin gave a counter after the jump"


async def test_a_jump_is_noticed_though_nothing_is_written(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    a = live("a")
    clocks = Clocks()
    monkeypatch.setattr(opening, "ClockJumps", clocks.jumps)
    await a.start()
    assert a.supervisor is not None
    start = a.supervisor.database.start
    replica_id: Any = a.replica_id
    clocks.wall -= 600
    await until(lambda: a.supervisor and a.supervisor.database.start != start, "a new origin is made", 5)
    assert a.replica_id == replica_id, "the identity is the same"
    start = a.supervisor.database.start
    await asyncio.sleep(1.5)
    assert a.supervisor.database.start == start, "once is enough"
