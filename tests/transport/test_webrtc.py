"""The WebRTC handler on real aiortc and a real signaling server: the common suite, and what is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from p2p_replication.transport.webrtc import WebRTCHandler
from tests.transport.acceptance import DropSignaling, HandlerAcceptance
from tests.transport.members import Members
from tests.transport.signaling_server import SmallSignalingServer


@pytest.fixture
async def server() -> AsyncIterator[SmallSignalingServer]:
    server = SmallSignalingServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def members(server: SmallSignalingServer) -> AsyncIterator[Members]:
    members = Members(WebRTCHandler)
    members.account = {"SIGNALING_URL": server.url}
    members.options = {"RETRY_FIRST": 0.05, "RETRY_MAX": 0.5}
    yield members
    await members.stop()


@pytest.fixture
def drop_signaling(server: SmallSignalingServer) -> DropSignaling:
    return server.drop


class TestWebRTCHandler(HandlerAcceptance):
    pass
