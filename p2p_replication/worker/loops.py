"""Loops that run together until one of them fails.

Not an ``asyncio.TaskGroup``: while that ends its tasks because of an error, Python 3.11 forgets a cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from p2p_replication.exceptions import StaleReplica


async def heard(event: asyncio.Event, patience: float) -> None:
    """Wait until an event is set, at most so many seconds, and clear it."""
    # Not wait_for: until Python 3.12 it forgets a cancellation that comes in the moment of the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await event.wait()
    event.clear()


async def run_loops(loops: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run loops, given by their tasks' names, until one ends; then end them all.

    Raises what went wrong, StaleReplica only if nothing else did. Cancelled at any time, it is over when every loop is.
    """
    tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        errors = await _end(tasks)
    for error in sorted(errors, key=lambda error: isinstance(error, StaleReplica)):
        raise error


async def _end(tasks: Sequence[asyncio.Task[None]]) -> list[BaseException]:
    """Cancel tasks, wait for the last, and return their errors.

    Being cancelled meanwhile changes nothing but that this is raised then.
    """
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    errors = [raised for task in tasks if not task.cancelled() and (raised := task.exception()) is not None]
    if cancelled is not None:
        raise cancelled
    return errors
