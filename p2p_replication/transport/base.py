"""The ``ConnectionHandler`` contract: finds the other members of a topic and hands over connections to them.

A handler knows nothing of rows: it moves whole binary frames, in order and reliably, between two peers.
``tests/transport/`` holds the acceptance suite that every handler has to pass.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: The largest frame a connection has to carry, in bytes. The session fragments above it.
MAX_FRAME_BYTES = 65_536


@dataclass(frozen=True)
class RemotePeer:
    """Who is at the other end, as the signaling server says (unproven until the session's AUTH)."""

    peer_id: str
    #: ``"<replica id>:<start>"`` of the process at the other end, empty if the signaling server does not say.
    instance: str = ""
    user: str = ""
    name: str = ""


@dataclass(frozen=True)
class HandlerConfig:
    """What a handler needs to find its peers.

    Args:
        topic: the pool's topic.
        instance: ``"<replica id>:<start>"`` of this process; a handler keeps one link per remote instance.
        name: how this replica is called on other people's screens.
        account: the account's settings (``SIGNALING_URL``, ``TOKEN``).
        ice_servers: STUN and TURN servers.
        options: the handler's own ``OPTIONS``.
        report: called with a text for every error that does not end the handler.
    """

    topic: str
    instance: str
    name: str = ""
    account: Mapping[str, Any] = field(default_factory=dict)
    ice_servers: list[dict[str, Any]] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)
    report: Callable[[str], None] = lambda text: None


def checked_frame(frame: bytes) -> bytes:
    """Return ``frame`` as ``bytes``. Raises ValueError if it is larger than a connection carries."""
    if len(frame) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(frame)} bytes cannot be sent, the limit is {MAX_FRAME_BYTES}")
    return bytes(frame)


class Connection(abc.ABC):
    """One open, ordered, reliable link to a remote peer."""

    remote: RemotePeer
    #: Payload bytes of all frames so far.
    sent_bytes: int = 0
    received_bytes: int = 0
    #: SHA-256 fingerprints of the certificates of both ends, which the session's AUTH signs; empty in memory.
    local_fingerprint: bytes = b""
    remote_fingerprint: bytes = b""

    @abc.abstractmethod
    async def send(self, frame: bytes) -> None:
        """Send one frame of at most ``MAX_FRAME_BYTES``; waits while the outgoing buffer is full.

        Raises ConnectionClosed, and ValueError if the frame is too large.
        """

    @abc.abstractmethod
    async def receive(self) -> bytes:
        """Return the next frame, in the order sent. Raises ConnectionClosed once the link has ended."""

    @abc.abstractmethod
    async def close(self, reason: str = "") -> None:
        """End the link; the other side's ``receive`` raises ConnectionClosed. Frames sent before still arrive
        where the transport allows it. Never raises; closing twice is harmless."""

    @property
    @abc.abstractmethod
    def is_open(self) -> bool: ...

    @property
    @abc.abstractmethod
    def buffered_bytes(self) -> int:
        """Bytes sent that the other side has not got yet, as far as is known here."""


#: Awaited for every connection that opens, on the handler's own loop; it must not wait for the connection's end.
OnConnection = Callable[[Connection], Awaitable[None]]


class ConnectionHandler(abc.ABC):
    """Finds peers and keeps one connection to each of them, until closed.

    Rules every handler keeps: at most one open connection per remote instance; a lost connection is tried again
    with backoff as long as the other side is in the room; nothing but ``run`` raises.
    """

    def __init__(self, config: HandlerConfig) -> None:
        self.config = config

    @property
    def state(self) -> str:
        """A few words for people on the way to other peers: joined, or what is in the way."""
        return "joined"

    @abc.abstractmethod
    async def run(self, on_connection: OnConnection) -> None:
        """Join the topic and serve until cancelled or ``close()`` is called.

        Raises SignalingRefused if the server refuses us for good; anything else is retried with backoff and
        told to ``config.report``.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Leave the topic and close all connections. Never raises; closing twice is harmless."""


__all__ = [
    "MAX_FRAME_BYTES",
    "Connection",
    "ConnectionHandler",
    "HandlerConfig",
    "OnConnection",
    "RemotePeer",
    "checked_frame",
]
