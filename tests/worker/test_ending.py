"""A worker that is told to end does so, whatever it is doing at that moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from p2p_replication.exceptions import StaleReplica
from p2p_replication.worker.loops import run_loops
from p2p_replication.worker.supervisor import PoolSupervisor
from tests.databases import SQLiteFile
from tests.live_replicas import until, use_database


class SlowToEnd(PoolSupervisor):
    """A supervisor with a loop that takes its time to end."""

    def __init__(self) -> None:
        super().__init__()
        self.is_ending = asyncio.Event()
        self.may_end = asyncio.Event()
        self.opened = 0

    def _loops(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [*super()._loops(), self._linger]

    async def _open(self) -> None:
        await super()._open()
        self.opened += 1

    async def _linger(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.is_ending.set()
            await self.may_end.wait()


@pytest.fixture
async def supervisor(
    hub: Any, new_file: Callable[[str], Path], django_db_blocker: Any
) -> AsyncIterator[tuple[SlowToEnd, asyncio.Task[None]]]:
    with django_db_blocker.unblock():
        supervisor = SlowToEnd()
        await supervisor.thread.run(use_database, SQLiteFile(new_file("a")))
        task = asyncio.create_task(supervisor.run())
        yield supervisor, task
        supervisor.may_end.set()
        task.cancel()
        await asyncio.wait([task])


async def test_told_to_end_while_it_opens_its_database_anew(supervisor: tuple[SlowToEnd, asyncio.Task[None]]) -> None:
    """The loops are already ending when the worker is told to end: it must not begin anew and live on."""
    worker, task = supervisor
    await worker.ready.wait()
    worker._stale.put_nowait(StaleReplica("the database is another one"))
    await worker.is_ending.wait()
    task.cancel()
    await asyncio.sleep(0.1)
    worker.may_end.set()
    await asyncio.wait([task], timeout=5)
    assert task.done(), "the worker has forgotten that it was told to end"
    assert task.cancelled()
    assert worker.opened == 1


@pytest.mark.parametrize("steps", range(6))
async def test_told_to_end_in_the_moment_something_else_happens(
    supervisor: tuple[SlowToEnd, asyncio.Task[None]], steps: int
) -> None:
    """Python 3.11's ``asyncio.wait_for`` forgets a cancellation that comes when what it waits for is there."""
    worker, task = supervisor
    worker.may_end.set()
    await worker.ready.wait()
    await asyncio.sleep(0.6)  # All loops wait.
    task.cancel()
    for _ in range(steps):
        await asyncio.sleep(0)
    worker.ring()
    worker._retry.set()
    await asyncio.wait([task], timeout=5)
    assert task.done(), "a loop has forgotten that it was told to end"


async def test_told_to_end_again_and_again_it_still_ends_in_order(
    supervisor: tuple[SlowToEnd, asyncio.Task[None]],
) -> None:
    worker, task = supervisor
    await worker.ready.wait()
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.02)
    assert not task.done(), "a loop was left behind"
    worker.may_end.set()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert PoolSupervisor.current is None


async def test_after_a_stale_database_it_opens_anew_and_serves_on(
    supervisor: tuple[SlowToEnd, asyncio.Task[None]],
) -> None:
    worker, task = supervisor
    await worker.ready.wait()
    worker.may_end.set()
    before = worker.database.start
    worker._stale.put_nowait(StaleReplica("the database is another one"))
    await until(lambda: worker.opened == 2, "it is opened anew")
    assert worker.database.start != before
    assert not task.done()


async def test_an_end_is_waited_for_to_its_last_error() -> None:
    """Nothing is left that asyncio would complain of."""
    is_ending, may_end = asyncio.Event(), asyncio.Event()

    async def fails_while_ending() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_ending.set()
            await may_end.wait()
            raise RuntimeError("a bug")

    running = asyncio.create_task(run_loops({"one": fails_while_ending()}))
    await asyncio.sleep(0)
    running.cancel()
    await is_ending.wait()
    running.cancel()
    may_end.set()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_an_error_of_a_loop_ends_all_and_is_raised() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await run_loops({"one": waits(), "other": fails()})
    assert ended == ["waits"]


async def test_an_error_counts_more_than_a_stale_database() -> None:
    async def stale() -> None:
        raise StaleReplica("another one")

    async def fails_while_ending() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await run_loops({"one": stale(), "other": fails_while_ending()})
