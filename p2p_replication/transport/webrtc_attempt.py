"""One try to open a data channel to one remote peer."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError

from p2p_replication.exceptions import ConnectionClosed
from p2p_replication.transport.base import RemotePeer
from p2p_replication.transport.sdp import BadDescription, checked_description, fingerprint, parse_candidate
from p2p_replication.transport.webrtc_connection import WebRTCConnection

CHANNEL_LABEL = "p2p-replication"

#: Browsers never say that no more candidates come: after so many seconds without one, none is waited for.
CANDIDATES_TIMEOUT = 10.0

#: Signals of one attempt that may wait to be applied; more than any honest peer sends.
_MAX_WAITING_SIGNALS = 200

Opened = asyncio.Future[WebRTCConnection]
SendSignal = Callable[[Mapping[str, Any]], Awaitable[None]]


class AttemptFailed(Exception):
    """No data channel came of it; the text says why."""


def new_connection_id() -> str:
    """Return a name for one attempt, as the side that offers makes it."""
    return "".join(random.choices(string.ascii_lowercase, k=10))


class Attempt:
    """Negotiates one connection. Call ``open`` once; feed it the remote peer's signals with ``put_signal``.

    Args:
        remote: who is to be connected.
        connection_id: names this attempt in every signal of both sides.
        offer: the offer to answer; None if this side offers.
        ice_servers: STUN and TURN servers; never aiortc's default.
        send_signal: carries one signal to the remote peer.
        timeout: seconds until the data channel must be open.
        report: is told what goes wrong without ending the attempt.
    """

    def __init__(
        self,
        remote: RemotePeer,
        *,
        connection_id: str,
        offer: Mapping[str, Any] | None,
        ice_servers: list[RTCIceServer],
        send_signal: SendSignal,
        timeout: float,
        report: Callable[[str], None],
    ) -> None:
        self.remote = remote
        self.connection_id = connection_id
        self._offer = offer
        self._ice_servers = ice_servers
        self._send_signal = send_signal
        self._timeout = timeout
        self._report = report
        self._signals: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(_MAX_WAITING_SIGNALS)

    def put_signal(self, data: Mapping[str, Any]) -> None:
        """Take in a signal of this attempt; signals are applied one by one, in this order."""
        try:
            self._signals.put_nowait(data)
        except asyncio.QueueFull:
            self._report(f"{describe(self.remote)} sends too many signals; one was ignored.")

    async def open(self) -> WebRTCConnection:
        """Return the open connection. Raises AttemptFailed; nothing is left behind then, nor if cancelled."""
        pc = RTCPeerConnection(RTCConfiguration(iceServers=self._ice_servers))
        opened: Opened = asyncio.get_running_loop().create_future()
        pc.on("connectionstatechange", lambda: _state_changed(pc, opened))
        pc.on("datachannel", lambda channel: self._channel_arrived(pc, channel, opened))
        tasks: list[asyncio.Task[None]] = []
        connection: WebRTCConnection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await self._describe(pc, opened, tasks)
                tasks.append(asyncio.create_task(self._apply_signals(pc, opened)))
                arrived = await opened
                arrived.local_fingerprint = fingerprint(pc.localDescription.sdp)
                arrived.remote_fingerprint = fingerprint(pc.remoteDescription.sdp)
                connection = arrived
                return connection
        except TimeoutError:
            raise AttemptFailed(f"no data channel opened within {self._timeout:g} s") from None
        except ConnectionClosed as error:
            raise AttemptFailed(str(error)) from None
        except BadDescription as error:
            raise AttemptFailed(f"the negotiation failed, {error}") from None
        finally:
            for task in tasks[1:]:
                task.cancel()
            if connection is None:
                # goes on to its end even if this task is cancelled meanwhile
                self._clearing = asyncio.create_task(_clear_up(pc, opened, tasks))
                await asyncio.shield(self._clearing)

    async def _describe(self, pc: RTCPeerConnection, opened: Opened, tasks: list[asyncio.Task[None]]) -> None:
        """Exchange as much of the descriptions as can be done without waiting for the other side."""
        if self._offer is None:
            channel = pc.createDataChannel(CHANNEL_LABEL, ordered=True)
            channel.on("open", lambda: _set_result(opened, WebRTCConnection(pc, channel, self.remote)))
        else:
            await _set_remote_description(pc, "offer", self._offer)
        gathering = asyncio.create_task(pc.setLocalDescription())
        tasks.append(gathering)
        # cut short, gathering would leave sockets behind: clearing up waits for its end
        try:
            await asyncio.shield(gathering)
        except (OSError, InvalidStateError) as error:
            raise AttemptFailed(f"this host's addresses could not be gathered: {error!r}") from error
        local = pc.localDescription
        await self._send_signal({"type": local.type, "sdp": local.sdp})

    def _channel_arrived(self, pc: RTCPeerConnection, channel: RTCDataChannel, opened: Opened) -> None:
        if self._offer is None or opened.done():
            self._report(f"{describe(self.remote)} opens one more data channel; it is closed again.")
            channel.close()
        elif not channel.ordered or channel.maxRetransmits is not None or channel.maxPacketLifeTime is not None:
            _set_exception(opened, AttemptFailed("the other side opened a channel that may lose or reorder frames"))
        else:
            _set_result(opened, WebRTCConnection(pc, channel, self.remote))

    async def _apply_signals(self, pc: RTCPeerConnection, opened: Opened) -> None:
        """Apply the remote peer's signals in order; candidates that come before the answer wait for it."""
        answered = self._offer is not None
        early: list[Mapping[str, Any]] = []
        ended = False
        while True:
            try:
                async with asyncio.timeout(CANDIDATES_TIMEOUT if answered and not ended else None):
                    data = await self._signals.get()
            except TimeoutError:
                ended = True
                data = {"type": "candidate", "candidate": None}
            match data.get("type"):
                case "answer" if not answered:
                    try:
                        await _set_remote_description(pc, "answer", data)
                    except BadDescription as error:
                        _set_exception(opened, error)
                        return
                    answered = True
                    for candidate in early:
                        await self._add_candidate(pc, candidate)
                case "candidate" if answered:
                    await self._add_candidate(pc, data)
                case "candidate":
                    early.append(data)

    async def _add_candidate(self, pc: RTCPeerConnection, data: Mapping[str, Any]) -> None:
        try:
            await pc.addIceCandidate(parse_candidate(data.get("candidate")))
        except Exception as error:  # whatever aiortc makes of a peer's text, it must not end the attempt
            self._report(f"{describe(self.remote)} sent a candidate that is ignored: {error or type(error).__name__}.")


def describe(remote: RemotePeer) -> str:
    """Return how a remote peer is called in reports."""
    return f"Peer {remote.name or remote.instance or remote.peer_id!r}"


async def _set_remote_description(pc: RTCPeerConnection, kind: str, data: Mapping[str, Any]) -> None:
    sdp = checked_description(data.get("sdp"))
    try:
        await pc.setRemoteDescription(RTCSessionDescription(sdp=sdp, type=kind))
    except Exception as error:  # aiortc's parser raises anything from KeyError to AssertionError
        raise BadDescription(f"its {kind} is refused: {error or type(error).__name__}") from error


def _state_changed(pc: RTCPeerConnection, opened: Opened) -> None:
    if pc.connectionState in ("failed", "closed"):
        _set_exception(opened, AttemptFailed("no path to the other side was found, or it gave up"))


# aiortc's event handlers may return nothing, so these return nothing.


def _set_result(opened: Opened, connection: WebRTCConnection) -> None:
    if not opened.done():
        opened.set_result(connection)


def _set_exception(opened: Opened, error: Exception) -> None:
    if not opened.done():
        opened.set_exception(error)


async def _clear_up(pc: RTCPeerConnection, opened: Opened, tasks: list[asyncio.Task[None]]) -> None:
    """Release all that an attempt which came to nothing has taken."""
    await asyncio.gather(*tasks, return_exceptions=True)
    await pc.close()
    if not opened.cancel() and not opened.cancelled():
        opened.exception()  # seen, so that asyncio does not complain about it


__all__ = ["CHANNEL_LABEL", "Attempt", "AttemptFailed", "describe", "new_connection_id"]
