"""What is live goes before what belongs to a long pull, and nothing else changes its place."""

from __future__ import annotations

import asyncio

import pytest

from p2p_replication.pool.work_queue import WorkQueue
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import pack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.work_order import Work

FAMILIES = {"big": "big", "child of big": "big", "small": "small"}
READ, READ_PUSH = fx.ReadChanges(), fx.ReadPush()


def batch(*models: str, round: int = 0) -> fx.ApplyChanges:
    rows = pack_rows([], [])
    return fx.ApplyChanges(
        tuple(Changes(model, 1, round, "peer", 0, 0, None, 0, {"peer": 1}, 0, rows) for model in models)
    )


PULLED, PULLED_TOO = batch("big", round=1), batch("big", round=1)
PUSHED, PUSHED_TOO = batch("small"), batch("small")


@pytest.mark.parametrize(
    ("put", "taken"),
    [
        ([PULLED, READ, PULLED_TOO], [PULLED, READ, PULLED_TOO]),
        ([PULLED, PULLED_TOO, PUSHED], [PUSHED, PULLED, PULLED_TOO]),
        ([PULLED, PUSHED, READ, PUSHED_TOO], [PUSHED, PUSHED_TOO, PULLED, READ]),
        ([PULLED, READ, READ_PUSH], [READ_PUSH, PULLED, READ]),
        ([PUSHED, READ_PUSH], [PUSHED, READ_PUSH]),
    ],
    ids=["pulls in order", "a push first", "pushes in order", "reading a push first", "live in order"],
)
async def test_the_order(put: list[Work], taken: list[Work]) -> None:
    queue = WorkQueue(FAMILIES)
    for work in put:
        queue.put(work)
    found = [await queue.get() for _ in put]
    assert [id(work) for work in found] == [id(work) for work in taken]


@pytest.mark.parametrize("model", ["big", "child of big"])
async def test_a_push_does_not_pass_what_was_sent_of_its_model_or_its_parents_before(model: str) -> None:
    queue, push = WorkQueue(FAMILIES), batch("small", model)
    for work in (PULLED, push):
        queue.put(work)
    assert await queue.get() is PULLED


async def test_a_push_does_not_pass_the_introduction() -> None:
    queue = WorkQueue(FAMILIES)
    introduced = fx.PeerIntroduced(None)  # type: ignore[arg-type]
    for work in (introduced, PUSHED):
        queue.put(work)
    assert await queue.get() is introduced


async def test_get_waits_for_work() -> None:
    queue = WorkQueue(FAMILIES)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(READ)
    assert await waiting is READ
