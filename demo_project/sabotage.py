"""A data channel that goes silent: the connection handler under ``--check --sabotage=datachannel``."""

from __future__ import annotations

from p2p_replication.transport.base import Connection, OnConnection
from p2p_replication.transport.webrtc import WebRTCHandler

#: So many bytes still go through: the hello, and the beginning of the first sync.
BYTES_BEFORE_SILENCE = 50_000


class SwallowingHandler(WebRTCHandler):
    """WebRTC whose connections, after the first 50 kB of the process, swallow what they are given."""

    _passed = 0

    async def run(self, on_connection: OnConnection) -> None:
        async def break_connection(connection: Connection) -> None:
            really_send = connection.send

            async def send(frame: bytes) -> None:
                # Counted for the process: a new connection is as silent as the one before.
                if SwallowingHandler._passed < BYTES_BEFORE_SILENCE:
                    SwallowingHandler._passed += len(frame)
                    await really_send(frame)

            connection.send = send  # type: ignore[method-assign]
            await on_connection(connection)

        await super().run(break_connection)
