"""``WebRTCHandler``: peers meet in a room of the signaling server and open data channels to each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.transport.aiortc_internals import set_udp_buffer_size
from p2p_replication.transport.backoff import FIRST_DELAY, MAXIMUM_DELAY, Backoff
from p2p_replication.transport.base import ConnectionHandler, HandlerConfig, OnConnection, RemotePeer
from p2p_replication.transport.ice_servers import ice_servers_of
from p2p_replication.transport.instances import choose_peer_ids, is_other_start, key_of
from p2p_replication.transport.loopback import enable_loopback_hosts
from p2p_replication.transport.signaling_client import SignalingClient
from p2p_replication.transport.signaling_messages import Signal
from p2p_replication.transport.webrtc_link import Link, LinkSurroundings

#: Signals of peers that the server has not introduced yet: with several server processes they can overtake it.
_MAX_EARLY_SIGNALS = 100


@dataclass(frozen=True)
class WebRTCOptions:
    """The handler's ``OPTIONS``. Times are in seconds, sizes in bytes."""

    #: From the first signal to the open data channel.
    CONNECT_TIMEOUT: float = 15.0
    #: Delay before the first and before any further try to reach a peer or the signaling server.
    RETRY_FIRST: float = FIRST_DELAY
    RETRY_MAX: float = MAXIMUM_DELAY
    #: Receive buffer asked of the system for each UDP socket (Linux grants no more than ``net.core.rmem_max``).
    UDP_BUFFER_SIZE: int = 4 * 1024 * 1024

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> WebRTCOptions:
        """Return ``options`` checked. Raises ConfigurationError."""
        known = {field.name for field in fields(cls)}
        for name, value in options.items():
            if name not in known:
                raise ConfigurationError(f"WebRTCHandler has no option {name!r}; it has {', '.join(sorted(known))}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ConfigurationError(f"WebRTCHandler's option {name} must be a positive number, not {value!r}")
        return cls(**options)


class WebRTCHandler(ConnectionHandler):
    """Connections over WebRTC data channels, introduced by a signaling server.

    One link per remote instance: a peer that comes back from a lost signaling socket under another peer id keeps its
    link. With signaling servers that do not tell instances, links go by peer id.
    """

    def __init__(self, config: HandlerConfig) -> None:
        super().__init__(config)
        #: The client, with its byte counters, once ``run`` has begun.
        self.signaling: SignalingClient | None = None
        self._links: dict[str, Link] = {}
        #: Whom the server lists, by peer id.
        self._members: dict[str, RemotePeer] = {}
        #: Instances that are still listed although a newer start of their replica has come.
        self._superseded: set[str] = set()
        self._early_signals: deque[Signal] = deque(maxlen=_MAX_EARLY_SIGNALS)
        self._own_id = ""
        self._surroundings: LinkSurroundings | None = None
        self._stop = asyncio.Event()
        self._running: asyncio.Event | None = None

    @property
    def state(self) -> str:
        if self.signaling is not None and self.signaling.joined:
            return "joined"
        return "looking for the signaling server"

    async def run(self, on_connection: OnConnection) -> None:
        if self._running is not None:
            raise RuntimeError("run() of a connection handler can be called only once")
        stopped = self._running = asyncio.Event()
        try:
            self._prepare(on_connection)
            await self._serve()
        finally:
            await self._close_links()
            stopped.set()

    async def close(self) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running.wait()

    def _prepare(self, on_connection: OnConnection) -> None:
        options = WebRTCOptions.of(self.config.options)
        enable_loopback_hosts()
        set_udp_buffer_size(int(options.UDP_BUFFER_SIZE))

        def new_backoff() -> Backoff:
            return Backoff(options.RETRY_FIRST, options.RETRY_MAX)

        account = self.config.account
        self.signaling = SignalingClient(
            account.get("SIGNALING_URL") or "",
            topic=self.config.topic,
            instance=self.config.instance,
            name=self.config.name,
            token=account.get("TOKEN"),
            listener=self,
            report=self.config.report,
            backoff=new_backoff(),
        )
        self._surroundings = LinkSurroundings(
            signaling=self.signaling,
            on_connection=on_connection,
            report=self.config.report,
            ice_servers=ice_servers_of(self.config.ice_servers),
            connect_timeout=options.CONNECT_TIMEOUT,
            new_backoff=new_backoff,
        )

    async def _serve(self) -> None:
        """Serve until told to stop. Raises SignalingRefused."""
        assert self.signaling is not None
        serving = asyncio.create_task(self.signaling.run())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not self._stop.is_set():
                serving.result()
        finally:
            serving.cancel()
            stopping.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)

    async def _close_links(self) -> None:
        if self._surroundings is None:
            return
        links, connections = list(self._links.values()), list(self._surroundings.connections)
        reason = "this side is leaving"
        await asyncio.gather(*(link.close(reason) for link in links), return_exceptions=True)
        await asyncio.gather(*(connection.close(reason) for connection in connections), return_exceptions=True)
        tasks = list(self._surroundings.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._links.clear()

    # What the signaling client tells

    def room_changed(self, own_id: str, members: tuple[RemotePeer, ...]) -> None:
        others = [m for m in members if m.peer_id != own_id and (not m.instance or m.instance != self.config.instance)]
        linked_ids = {key: link.remote.peer_id for key, link in self._links.items()}
        present = choose_peer_ids(others, known_ids=self._members, linked_ids=linked_ids)
        self._own_id = own_id
        self._members = {member.peer_id: member for member in others}
        self._supersede(present)
        for key, link in list(self._links.items()):
            if key not in present:
                link.left_room()
        for key, member in present.items():
            if key not in self._superseded:
                self._link_to(member).seen_in_room(own_id, member)
        self._take_back_superseded()
        early = list(self._early_signals)
        self._early_signals.clear()
        for signal in early:
            if signal.sender in self._members:
                self.signal_received(signal)

    def signal_received(self, signal: Signal) -> None:
        member = self._members.get(signal.sender)
        if member is None:
            self._early_signals.append(signal)
            return
        key = key_of(member)
        if key in self._superseded and signal.data.get("type") == "offer":
            # whoever offers is alive: it was not an earlier start but a copy of its replica
            self._superseded.discard(key)
            self._link_to(member).seen_in_room(self._own_id, member)
        if key in self._links:
            self._links[key].signal_received(signal)

    def signaling_lost(self) -> None:
        self._members = {}
        self._early_signals.clear()
        for link in list(self._links.values()):
            link.left_room()

    # Links

    def _link_to(self, member: RemotePeer) -> Link:
        assert self._surroundings is not None
        key = key_of(member)
        if key not in self._links:
            self._links[key] = Link(member, self._surroundings, self._forget)
        return self._links[key]

    def _forget(self, link: Link) -> None:
        key = key_of(link.remote)
        if self._links.get(key) is link:
            del self._links[key]
            self._take_back_superseded()

    def _take_back_superseded(self) -> None:
        """Who is still listed when its successor is gone was no earlier start: a copy lived under its id."""
        living = [member.instance for member in self._members.values() if key_of(member) not in self._superseded]
        living += [link.remote.instance for link in self._links.values()]
        alone = {key for key in self._superseded if not any(is_other_start(key, other) for other in living)}
        self._superseded -= alone
        for member in self._members.values():
            if key_of(member) in alone:
                self._link_to(member).seen_in_room(self._own_id, member)

    def _supersede(self, present: Mapping[str, RemotePeer]) -> None:
        """Close the links to earlier starts of replicas of which a new start has come into the room."""
        assert self._surroundings is not None
        self._superseded &= set(present)
        for new in [
            member for key, member in present.items() if key not in self._links and key not in self._superseded
        ]:
            for key, link in list(self._links.items()):
                if is_other_start(link.remote.instance, new.instance):
                    del self._links[key]
                    self._superseded.add(key)
                    self._surroundings.spawn(link.close("a new start of the same replica has come"))
        self._superseded &= set(present)


__all__ = ["WebRTCHandler", "WebRTCOptions"]
