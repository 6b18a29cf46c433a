"""One replicator per peer: pumps frames between the connection and the session, and carries out what it wants."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from p2p_replication.exceptions import ConnectionClosed, ModelFailed
from p2p_replication.pool.bundles import apply_bundle, read_for_pulls, read_for_push
from p2p_replication.pool.peer_digests import PeerDigests
from p2p_replication.pool.work_queue import WorkQueue
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.introduction import SessionConfig
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.session import Session
from p2p_replication.storage.applier import Applied
from p2p_replication.transport.base import Connection

if TYPE_CHECKING:
    from p2p_replication.pool.live_pool import LivePool

#: Seconds that announcements are gathered.
GATHER = 0.03
#: Seconds that a goodbye has to leave.
FLUSH = 1.0
#: Messages that may wait for a peer that does not read.
MAX_OUTGOING = 2_000


class Replicator:
    """Runs one session until it or its connection ends.

    Attributes:
        session: the session; its ``peer`` is known after the introduction.
        parked: rows of this peer that could not be applied, this connection.
    """

    def __init__(self, pool: LivePool, connection: Connection, config: SessionConfig) -> None:
        self.pool = pool
        self.connection = connection
        self.session = Session(config, time.monotonic())
        self.digests = PeerDigests(self)
        self.opened_at = time.time()
        self.close_reason = ""
        self.closed_by_error = False
        self._outgoing: deque[list[bytes]] = deque()
        self._has_outgoing = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._work = WorkQueue(self.session.families)
        self._tick_soon = asyncio.Event()
        self._over = asyncio.Event()
        self._failed: BaseException | None = None

    @property
    def peer_id(self) -> str:
        """The peer's replica id, empty before the introduction."""
        return self.session.peer.replica if self.session.peer else ""

    @property
    def is_open(self) -> bool:
        return self.session.phase is Phase.OPEN

    @property
    def pulled_models(self) -> list[str]:
        """The models of which rows come from this peer."""
        return [label for label, link in self.session.links.items() if link.takes]

    async def run(self) -> None:
        """Replicate until the session is over, then close the connection. Raises what went wrong on this side."""
        pumps = [
            asyncio.create_task(pump(), name=f"p2p-{pump.__name__}")
            for pump in (self._receive, self._send, self._carry_work, self._announce)
        ]
        for task in pumps:
            task.add_done_callback(self._pump_ended)
        self.carry_out()
        try:
            await self._over.wait()
            await self._flush()
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.session.connection_lost("this side is leaving")
            self.carry_out()
            self.digests.ended()
            await self.connection.close(self.close_reason)
        if self._failed is not None:
            raise self._failed

    def close(self, reason: str) -> None:
        """End the session with a goodbye."""
        self.session.close(reason)
        self.carry_out()

    def carry_out(self) -> None:
        """Carry out the effects that the session has gathered."""
        for effect in self.session.drain():
            match effect:
                case fx.Send():
                    self._outgoing.append(effect.frames)
                    if len(self._outgoing) > MAX_OUTGOING:
                        self.session.connection_lost("the peer does not read what it asks for")
                    self._sent_all.clear()
                    self._has_outgoing.set()
                case fx.WantPull():
                    self.pool.want_pull(self, effect)
                case fx.PullDone():
                    self.pool.pull_done(self, effect.model)
                case fx.ReadDigest():
                    self.digests.read(effect.request)
                case fx.DigestArrived():
                    self.digests.arrived(effect.digest)
                case fx.PeerError():
                    self.pool.reporter.error(effect.text, self.peer_id)
                case fx.Closed():
                    self.close_reason, self.closed_by_error = effect.reason, effect.is_error
                    self._over.set()
                case _:
                    self._work.put(effect)
        if self.session.wants_tick_soon:
            self._tick_soon.set()

    def tick(self) -> None:
        """Let the session see what time it is."""
        self.session.tick(time.monotonic())
        self.carry_out()

    def fail(self, error: BaseException) -> None:
        """End the session because of an error on this side, which ``run`` raises then."""
        self._failed = error
        self.session.close(f"an error on the other side: {type(error).__name__}", code="internal", is_error=True)
        self.carry_out()

    # -- pumps -----------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            frame = await self.connection.receive()
            self.session.receive(frame, time.monotonic())
            self.carry_out()

    async def _send(self) -> None:
        while True:
            while self._outgoing:
                for frame in self._outgoing[0]:
                    await self.connection.send(frame)
                self._outgoing.popleft()
            self._has_outgoing.clear()
            self._sent_all.set()
            await self._has_outgoing.wait()

    async def _announce(self) -> None:
        while True:
            await self._tick_soon.wait()
            self._tick_soon.clear()
            await asyncio.sleep(GATHER)
            self.tick()

    async def _carry_work(self) -> None:
        """Carry out what needs the database, one after another: a batch is applied before the next is looked at."""
        while True:
            effect = await self._work.get()
            match effect:
                case fx.PeerIntroduced():
                    await self.pool.introduce(self, effect.hello)
                case fx.ReadChanges():
                    await self._read_changes()
                case fx.ReadPush():
                    await self._read_push()
                case fx.ApplyChanges():
                    await self._apply(effect)
            self.carry_out()

    async def _read_changes(self) -> None:
        session, pool = self.session, self.pool
        while wishes := session.pull_wishes():
            try:
                batches = await pool.thread.run(read_for_pulls, pool.parts, self.peer_id, wishes)
            except ModelFailed as error:
                self._refuse(error)
                continue
            session.changes_read(wishes, batches)
            return
        session.changes_read((), ())

    async def _read_push(self) -> None:
        session, pool = self.session, self.pool
        while wishes := session.push_wishes():
            try:
                batches = await pool.thread.run(read_for_push, pool.parts, self.peer_id, wishes)
            except ModelFailed as error:
                self._refuse(error)
                continue
            session.push_read(batches)
            return
        session.push_read({})

    def _refuse(self, error: ModelFailed) -> None:
        self.session.refuse_model(error.model, f"{error.model}: {error}")

    async def _apply(self, effect: fx.ApplyChanges) -> None:
        try:
            together = await self.pool.thread.run(apply_bundle, self.pool.parts, self.peer_id, effect.batches)
            if together is not None:
                for changes, applied in zip(effect.batches, together, strict=True):
                    self._applied(changes, applied)
                return
            for changes in effect.batches:
                await self._apply_alone(changes)
        except RemoteProtocolError as error:
            self.session.close(f"the peer broke the protocol: {error}", code="protocol", is_error=True)

    async def _apply_alone(self, changes: Changes) -> None:
        try:
            applied = await self.pool.thread.run(self.pool.parts[changes.model].apply, self.peer_id, changes)
        except ModelFailed as error:
            self._refuse(error)
            applied = Applied({}, taken=False)
        self._applied(changes, applied)

    def _applied(self, changes: Changes, applied: Applied) -> None:
        for key, reason in applied.parked.items():
            self.pool.reporter.parked(changes.model, key, reason, self.peer_id)
        self.pool.reporter.refused(changes.model, applied.refused, self.peer_id)
        self.session.changes_applied(changes, applied.vector, applied.taken, time.monotonic())

    # -- the end ---------------------------------------------------------------------------------------------------

    def _pump_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, ConnectionClosed):
            self.session.connection_lost(str(error))
        elif error is not None:
            self.fail(error)
        self.carry_out()
        self._over.set()

    async def _flush(self) -> None:
        """Let the goodbye leave, if the connection still takes it."""
        if self._outgoing and self.connection.is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await self._sent_all.wait()
