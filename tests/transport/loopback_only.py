"""Run in a network namespace with nothing but ``lo``: two members meet over WebRTC. Prints what arrived."""

from __future__ import annotations

import asyncio
import sys

from p2p_replication.transport.webrtc import WebRTCHandler
from tests.transport.members import Members
from tests.transport.signaling_server import SmallSignalingServer


async def main() -> None:
    if "--without" in sys.argv:
        import p2p_replication.transport.webrtc as webrtc

        webrtc.enable_loopback_hosts = lambda: None
    server = SmallSignalingServer()
    await server.start()
    members = Members(WebRTCHandler)
    members.account = {"SIGNALING_URL": server.url}
    members.options = {"CONNECT_TIMEOUT": 1.0}
    a, b = members.start("a:1"), members.start("b:1")
    connection = await asyncio.wait_for(a.connection_to("b:1"), 3)
    await connection.send(b"over loopback")
    print(await (await b.connection_to("a:1")).receive())
    await members.stop()
    await server.stop()


asyncio.run(main())
