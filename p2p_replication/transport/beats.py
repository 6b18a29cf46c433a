"""Common moments for what is done again and again: at rest it is the waking up that costs, not what is done then."""

from __future__ import annotations

import asyncio

#: Seconds between two beats.
BEAT = 1.25


def next_beat(loop: asyncio.AbstractEventLoop, beats: int = 1) -> float:
    """Return when, by the loop's clock, the next moment is that lies so many beats from the one before: for all."""
    every = beats * BEAT
    return (loop.time() // every + 1) * every


async def until_next_beat() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(next_beat(loop) - loop.time())
