"""The link to one remote instance: at most one open connection, tried again as long as the other side is around."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiortc import RTCIceServer

from p2p_replication.transport.backoff import Backoff
from p2p_replication.transport.base import OnConnection, RemotePeer
from p2p_replication.transport.signaling_client import SignalingClient
from p2p_replication.transport.signaling_messages import Signal
from p2p_replication.transport.webrtc_attempt import Attempt, AttemptFailed, describe, new_connection_id
from p2p_replication.transport.webrtc_connection import WebRTCConnection


@dataclass
class LinkSurroundings:
    """What all links of one handler share."""

    signaling: SignalingClient
    on_connection: OnConnection
    report: Callable[[str], None]
    ice_servers: list[RTCIceServer]
    connect_timeout: float
    new_backoff: Callable[[], Backoff]
    #: What the handler's end waits for.
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    connections: set[WebRTCConnection] = field(default_factory=set)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine`` as a task; an error of it is reported."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(f"An error in this program: {error!r}.")

    def keep(self, connection: WebRTCConnection) -> None:
        """Remember ``connection`` until it is closed completely."""
        self.connections.add(connection)
        connection.when_released(lambda: self.connections.discard(connection))


class Link:
    """One remote instance as the room and its signals show it.

    The peer with the lexicographically smaller peer id offers, and only that one tries again.

    Args:
        remote: the other side, with the peer id it has now.
        on_idle: called when nothing is left to do: the other side has left and no connection is open.
    """

    def __init__(self, remote: RemotePeer, surroundings: LinkSurroundings, on_idle: Callable[[Link], None]) -> None:
        self.remote = remote
        self.connection: WebRTCConnection | None = None
        self._surroundings = surroundings
        self._on_idle = on_idle
        self._own_id = ""
        self._in_room = False
        self._closed = False
        self._attempt: Attempt | None = None
        self._attempting: asyncio.Task[None] | None = None
        self._next_offer: Signal | None = None
        self._backoff = surroundings.new_backoff()
        self._retry: asyncio.TimerHandle | None = None

    # What happens around it

    def seen_in_room(self, own_id: str, remote: RemotePeer) -> None:
        """The other side is in the room as ``remote``, and we are as ``own_id``."""
        moved = (own_id, remote.peer_id) != (self._own_id, self.remote.peer_id)
        self._own_id, self.remote, self._in_room = own_id, remote, True
        if moved:
            # signals of an attempt between the old ids would reach nobody
            self._abort_attempt()
        self._offer_if_due()

    def left_room(self) -> None:
        """The other side is not in the room any more; an open connection stays."""
        self._in_room = False
        self._own_id = ""
        self._abort_attempt()
        self._check_idle()

    def signal_received(self, signal: Signal) -> None:
        """The other side sent one step of a negotiation."""
        if self._closed:
            return
        if signal.data.get("type") != "offer":
            if self._attempt is not None and signal.connection_id in ("", self._attempt.connection_id):
                self._attempt.put_signal(signal.data)
            return
        if self._own_id < signal.sender:
            self._surroundings.report(f"{describe(self.remote)} offers a connection although it is our turn; ignored.")
        elif self._attempting is None:
            self._start_attempt(signal)
        elif self._attempt is None or not signal.connection_id or signal.connection_id != self._attempt.connection_id:
            # one attempt at a time: the newest offer follows when the present attempt has been cleared away
            self._abort_attempt()
            self._next_offer = signal

    async def close(self, reason: str) -> None:
        """End the connection and all attempts for good."""
        self._closed = True
        self._in_room = False
        self._abort_attempt()
        if self._attempting is not None:
            await asyncio.wait([self._attempting])
        if self.connection is not None:
            await self.connection.close(reason)

    # Attempts

    def _offer_if_due(self) -> None:
        busy = self.connection is not None or self._attempting is not None or self._retry is not None
        if not busy and self._may_offer():
            self._start_attempt(None)

    def _may_offer(self) -> bool:
        return self._in_room and not self._closed and self._own_id < self.remote.peer_id

    def _start_attempt(self, offer: Signal | None) -> None:
        surroundings = self._surroundings
        connection_id = new_connection_id() if offer is None else offer.connection_id
        receiver = self.remote.peer_id if offer is None else offer.sender
        self._attempt = Attempt(
            self.remote,
            connection_id=connection_id,
            offer=None if offer is None else offer.data,
            ice_servers=surroundings.ice_servers,
            send_signal=lambda data: surroundings.signaling.send_signal(receiver, data, connection_id),
            timeout=surroundings.connect_timeout,
            report=surroundings.report,
        )
        self._attempting = surroundings.spawn(self._run_attempt(self._attempt))
        self._attempting.add_done_callback(self._attempt_ended)

    def _abort_attempt(self) -> None:
        self._next_offer = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._attempting is not None:
            self._attempt = None
            self._attempting.cancel()

    async def _run_attempt(self, attempt: Attempt) -> None:
        try:
            connection = await attempt.open()
        except AttemptFailed as failure:
            self._surroundings.report(f"{describe(attempt.remote)}: cannot connect: {failure}.")
            self._try_later()
        else:
            self._adopt(connection)

    def _attempt_ended(self, task: asyncio.Task[None]) -> None:
        self._attempt = self._attempting = None
        offer, self._next_offer = self._next_offer, None
        if offer is not None and not self._closed:
            self._start_attempt(offer)
        else:
            self._offer_if_due()
            self._check_idle()

    def _try_later(self) -> None:
        if self._may_offer() and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._backoff.next_delay(), self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._offer_if_due()

    # The connection

    def _adopt(self, connection: WebRTCConnection) -> None:
        self._surroundings.keep(connection)
        spawn = self._surroundings.spawn
        if self.connection is not None:
            # the other side would not have offered again if it still had the old connection
            spawn(self.connection.close("replaced by a newer connection to the same instance"))
        self.connection = connection
        opened_at = asyncio.get_running_loop().time()
        connection.when_ended(lambda: self._connection_ended(connection, opened_at))
        if self._closed:
            spawn(connection.close("the link was closed"))
        else:
            spawn(self._hand_over(connection))

    async def _hand_over(self, connection: WebRTCConnection) -> None:
        try:
            await self._surroundings.on_connection(connection)
        except Exception as error:
            self._surroundings.report(f"{describe(connection.remote)}: the new connection was refused: {error!r}.")
            await connection.close("refused")

    def _connection_ended(self, connection: WebRTCConnection, opened_at: float) -> None:
        if self.connection is not connection:
            return
        self.connection = None
        self._backoff.reset_if_good(asyncio.get_running_loop().time() - opened_at)
        if self._attempting is None:
            self._try_later()
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._in_room and self.connection is None and self._attempting is None:
            self._on_idle(self)


__all__ = ["Link", "LinkSurroundings"]
