"""A raw aiortc data channel between two processes, set up as ours are: what no replication over it can exceed.

``python -m benchmarks.raw_channel`` is the far end: it takes an offer as a JSON line and answers with one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from p2p_replication.transport.aiortc_internals import set_udp_buffer_size, unacknowledged_bytes

MESSAGE = 16 * 1024
WINDOW = 256 * 1024
UDP_BUFFER = 4 * 1024 * 1024


@dataclass(frozen=True)
class Throughput:
    """MB a second, and CPU seconds a MB of either side."""

    speed: float
    cpu_sender: float
    cpu_receiver: float


def measure(megabytes: int) -> Throughput:
    return uvloop.run(_send(megabytes))


async def _send(megabytes: int) -> Throughput:
    set_udp_buffer_size(UDP_BUFFER)
    far = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.raw_channel",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert far.stdin is not None and far.stdout is not None
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        channel = pc.createDataChannel("raw", ordered=True)
        opened, done = asyncio.Event(), asyncio.Event()
        channel.on("open", opened.set)
        channel.on("message", lambda _: done.set())
        await pc.setLocalDescription()
        far.stdin.write(_described(pc))
        await _take(pc, await far.stdout.readline())
        await opened.wait()
        payload, count = bytes(MESSAGE), megabytes * 1024 * 1024 // MESSAGE
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            while unacknowledged_bytes(channel) > WINDOW:  # noqa: ASYNC110 - aiortc tells nobody.
                await asyncio.sleep(0.001)
            channel.send(payload)
        channel.send(b"end")
        await done.wait()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        far.stdin.write(b"\n")
        cpu_receiver = float(await far.stdout.readline())
        return Throughput(megabytes / seconds, cpu / megabytes, cpu_receiver / megabytes)
    finally:
        await pc.close()
        await far.wait()


async def _receive(read: Callable[[], Awaitable[bytes]]) -> None:
    set_udp_buffer_size(UDP_BUFFER)
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    began = 0.0

    def arrived(channel: Any) -> None:
        nonlocal began
        began = time.process_time()
        channel.on("message", lambda message: channel.send(b"done") if len(message) < 10 else None)

    pc.on("datachannel", arrived)
    await _take(pc, await read())
    await pc.setLocalDescription()
    sys.stdout.write(_described(pc).decode())
    sys.stdout.flush()
    await read()
    print(time.process_time() - began, flush=True)
    await pc.close()


def _described(pc: RTCPeerConnection) -> bytes:
    return json.dumps({"type": pc.localDescription.type, "sdp": pc.localDescription.sdp}).encode() + b"\n"


async def _take(pc: RTCPeerConnection, line: bytes) -> None:
    await pc.setRemoteDescription(RTCSessionDescription(**json.loads(line)))


if __name__ == "__main__":
    uvloop.run(_receive(lambda: asyncio.to_thread(sys.stdin.buffer.readline)))
