"""One pool while it runs: its connection handler, a replicator per peer, and who is asked when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from p2p_replication.exceptions import CopiedReplica, FilterChanged, SignalingRefused, StaleReplica
from p2p_replication.pool.database_thread import DatabaseThread
from p2p_replication.pool.part import Part, ranks
from p2p_replication.pool.peer_rows import PeerRefused, PeerRows
from p2p_replication.pool.repairs import PoolRepairs
from p2p_replication.pool.replicator import Replicator
from p2p_replication.pool.reporter import PoolReporter, database_of
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.introduction import SessionConfig, takes_new_identity
from p2p_replication.protocol.messages import Hello
from p2p_replication.protocol.pull_schedule import PullSchedule
from p2p_replication.protocol.session import Position
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.storage.loose_rows import adopt_loose_rows
from p2p_replication.transport import identity
from p2p_replication.transport.base import Connection, ConnectionHandler
from p2p_replication.transport.beats import BEAT, until_next_beat

logger = logging.getLogger("p2p_replication.pool")

#: Seconds until a signaling server that refused us is asked again.
REFUSED_PAUSE = 20.0
#: Seconds that replicators have for their goodbyes.
GOODBYE = 3.0


@dataclass(frozen=True)
class PoolSetup:
    """What a running pool is told of its declarations."""

    id: int
    topic: str
    parts: Mapping[str, Part]
    make_handler: Callable[[Callable[[str], None]], ConnectionHandler]
    #: Told when the database is no longer the one that was opened.
    on_stale: Callable[[StaleReplica], None] = lambda error: None
    is_peer_valid: Callable[..., Any] | None = None
    name: str = ""
    heartbeat: float = 2.5
    timeout: float = 8.0
    max_clock_skew: float = 300.0
    #: Seconds until a replica with our own identity counts as another database: a worker of this very database that
    #: has slept past the end of its lease leaves before.
    copy_grace: float = 7.5


class LivePool:
    """Runs one pool until cancelled.

    Attributes:
        ended_traffic: counts of the sessions that have ended, as ``Session.traffic`` gives them.
    """

    def __init__(self, setup: PoolSetup, thread: DatabaseThread) -> None:
        self.setup = setup
        self._ranks = ranks(setup.parts)
        #: Parents first: in this order models are pulled and pushed.
        self.parts = {label: setup.parts[label] for label in sorted(setup.parts, key=self._rank)}
        self.thread = thread
        self.database = database_of(self.parts)
        self.replicators: list[Replicator] = []
        self.reporter = PoolReporter(setup.topic, PeerRows(self.database.alias, setup.id), self.parts, thread)
        self.handler: ConnectionHandler | None = None
        self._halted = "starting"
        self.ended_traffic: Counter[str] = Counter()
        self._public_key = identity.public_key(self.database.secret_key)
        self._schedule = PullSchedule()
        self._pump_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stale: set[str] = set()
        self._refreshing = False
        self.repairs = PoolRepairs(self)

    @property
    def state(self) -> str:
        """A few words for people on the way to other peers."""
        return self._halted or (self.handler.state if self.handler is not None else "")

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Join the topic and replicate with everybody there. Runs until cancelled; errors are reported, not raised."""
        ticking = asyncio.create_task(self._tick(), name="p2p-tick")
        try:
            while True:
                self._halted = ""
                try:
                    self.handler = self.setup.make_handler(self.reporter.error)
                    await self.handler.run(self._connected)
                except SignalingRefused as error:
                    self.reporter.error(f"the signaling server refuses us: {error}")
                except Exception as error:
                    logger.exception("the connection handler of %s failed", self.setup.topic)
                    self.reporter.error(f"the connection handler failed: {error}")
                self._halted = f"refused or failed, asks again after {REFUSED_PAUSE:g} s"
                await asyncio.sleep(REFUSED_PAUSE)
        finally:
            ticking.cancel()
            await self._shut_down()

    async def _tick(self) -> None:
        """Let all sessions see the time at once: at rest it is the waking up that costs."""
        while True:
            if self.setup.heartbeat >= 2 * BEAT:
                await until_next_beat()
            else:
                await asyncio.sleep(self.setup.heartbeat / 2)
            for replicator in list(self.replicators):
                try:
                    replicator.tick()
                except Exception:
                    # The others' links must not be given up for it.
                    logger.exception("a session of %s does not see the time", self.setup.topic)

    async def _shut_down(self) -> None:
        for replicator in list(self.replicators):
            replicator.close("the worker stops")
        if self._pump_timer is not None:
            self._pump_timer.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=GOODBYE)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.handler is not None:
            await self.handler.close()
        self._halted = "stopped"

    async def _connected(self, connection: Connection) -> None:
        database = self.database
        config = SessionConfig(
            replica_id=database.replica_id,
            start=database.start,
            name=self.setup.name[:200],
            topic=self.setup.topic,
            public_key=self._public_key,
            nonce=os.urandom(32),
            now_ms=database.now_ms(),
            models=tuple(part.offer() for part in self.parts.values()),
            sign=lambda payload: identity.sign(database.secret_key, payload),
            verify=identity.verify,
            local_fingerprint=connection.local_fingerprint,
            remote_fingerprint=connection.remote_fingerprint,
            heartbeat=self.setup.heartbeat,
            timeout=self.setup.timeout,
            batch_sizes={label: part.batch_size for label, part in self.parts.items()},
        )
        replicator = Replicator(self, connection, config)
        self.replicators.append(replicator)
        self.keep(self._replicate(replicator))

    async def _replicate(self, replicator: Replicator) -> None:
        try:
            await replicator.run()
        except StaleReplica as error:
            self.setup.on_stale(error)
        except FilterChanged as error:
            logger.info("%s: %s", self.setup.topic, error)
        except Exception as error:
            logger.exception("replication with %s failed", replicator.peer_id or replicator.connection.remote.peer_id)
            self.reporter.error(f"replication failed on this side: {type(error).__name__}: {error}", replicator.peer_id)
        finally:
            if replicator.closed_by_error:
                self.reporter.error(replicator.close_reason, replicator.peer_id)
            self.replicators.remove(replicator)
            self.reporter.ended(replicator)
            self.ended_traffic.update(replicator.session.traffic())
            self._schedule.gone(replicator)
            self._pump_soon()

    def keep(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the rest; it ends with the pool at the latest."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- the introduction --------------------------------------------------------------------------------------------

    async def introduce(self, replicator: Replicator, hello: Hello) -> None:
        """Let a peer in that has proven its key, or send it away."""
        if hello.replica == self.database.replica_id and hello.key == self._public_key:
            await self._meet_copy(replicator, hello)
            return
        try:
            await self.thread.run(self._admit, replicator, hello)
        except PeerRefused as refused:
            await self.thread.run(self.reporter.rows.refuse, hello.replica, hello.key, str(refused))
            replicator.session.close(str(refused), code="refused", is_error=True)
            return
        vectors = await self.thread.run(self._vectors, list(self.parts))
        if not self._settle_duplicates(replicator, hello):
            replicator.session.close("there is another connection between the two replicas")
            return
        skew = abs(hello.time - self.database.now_ms()) / 1000
        if skew > self.setup.max_clock_skew:
            self.reporter.error(
                f"the clocks of {hello.name or hello.replica} and this replica differ by {skew:.0f} s: set the time "
                "on both; changes from the future are parked",
                replicator.peer_id,
            )
        replicator.session.accept(vectors, time.monotonic())

    def _admit(self, replicator: Replicator, hello: Hello) -> None:
        if hello.replica == self.database.replica_id:
            raise PeerRefused(
                "both replicas have the same id, with different keys: either somebody poses as this one, or a key was "
                "changed by hand. Then delete the row of p2p_replication_replica on one side; its worker makes a new "
                "identity."
            )
        user = replicator.connection.remote.user
        self.reporter.rows.admit(hello.replica, hello.key, hello.name, user)
        if self.setup.is_peer_valid is not None:
            try:
                valid = self.setup.is_peer_valid(hello.replica, name=hello.name, user=user)
            except Exception as error:
                raise PeerRefused(f"is_peer_valid failed: {error}") from error
            if not valid:
                raise PeerRefused("is_peer_valid refuses the peer")
        self.reporter.rows.name_origin(hello.start, hello.replica)
        for offer in hello.models:
            if (part := self.parts.get(offer.label)) is not None:
                part.meet(hello.replica, offer)

    async def _meet_copy(self, replicator: Replicator, hello: Hello) -> None:
        """Nobody but this database and its copies holds the key: one of the two has to take a new identity.

        Nothing is replicated over this connection. It stays open until the other side ends it, so that both have the
        time to see that it is not a moment's mistake.
        """
        config, name = replicator.session.config, hello.name or "without a name"
        await asyncio.sleep(self.setup.copy_grace)
        if takes_new_identity(config, hello):
            text = f"another replica ({name}) has this one's id and key, so one database is a copy of the other. This "
            text += "one was started later: it takes a new id and key; its rows stay."
            self.reporter.error(text)
            self.setup.on_stale(CopiedReplica(text))
        else:
            text = f"another replica ({name}) has this one's id and key, so one database is a copy of the other. That "
            text += "one was started later: it takes a new id and key, and comes back as another replica."
            self.reporter.error(text)
            if config.start == hello.start:
                self.setup.on_stale(StaleReplica("another replica runs under this start (a cloned machine?)"))

    def _settle_duplicates(self, new: Replicator, hello: Hello) -> bool:
        """Keep one connection per replica. Both ends come to the same choice, by the nonces they both know."""
        for old in list(self.replicators):
            if old is new or not old.is_open or old.peer_id != hello.replica:
                continue
            assert old.session.peer is not None
            if old.session.peer.start == hello.start and _nonces(old) < _nonces(new):
                return False
            old.close("another connection between the two replicas takes its place")
        return True

    # -- pulls -----------------------------------------------------------------------------------------------------

    def want_pull(self, replicator: Replicator, wish: fx.WantPull) -> None:
        """A session has found that its peer may have what we lack."""
        link, peer = replicator.session.links.get(wish.model), replicator.session.peer
        if link is None or peer is None:
            return
        direct = link.announced.get(peer.start, 0) > link.local.get(peer.start, 0)
        self._schedule.want(
            replicator, wish.model, self._rank(wish.model), time.monotonic(), initial=wish.initial, direct=direct
        )
        self._pump_soon()

    def ask_everybody(self) -> None:
        """Pull every model from every peer, whatever they have announced."""
        for replicator in self.replicators:
            for label in replicator.pulled_models if replicator.is_open else ():
                self._schedule.want(replicator, label, self._rank(label), time.monotonic(), initial=True, direct=True)
        self._pump_soon()

    def pull_done(self, replicator: Replicator, model: str) -> None:
        """A session's pull has ended."""
        self._schedule.done(replicator, model)
        self._pump_soon()

    def _pump_soon(self) -> None:
        """Look for a pull once all is said of this moment: a peer that has news of several models is asked once."""
        self._pump_at(0.0)

    def _pump_at(self, delay: float) -> None:
        if self._pump_timer is not None:
            self._pump_timer.cancel()
        self._pump_timer = asyncio.get_running_loop().call_later(delay, self._pump)

    def _pump(self) -> None:
        """Start the pull that is due; look again when the next one will be."""
        self._pump_timer = None
        while (pull := self._schedule.next(time.monotonic())) is not None:
            replicator, models = pull
            assert isinstance(replicator, Replicator)
            wanted = [model for model, initial in models.items() if self._is_wanted(replicator, model, initial)]
            if wanted:
                self.keep(self._pull(replicator, wanted))
        due = self._schedule.next_due()
        if due is not None:
            self._pump_at(max(due - time.monotonic(), 0.0))

    def _is_wanted(self, replicator: Replicator, model: str, initial: bool) -> bool:
        """Tell whether a pull is still to be made; if not, it is done."""
        link = replicator.session.links.get(model)
        if link is not None and link.takes and replicator.is_open and (initial or link.lacks_announced()):
            return True
        if link is not None:
            link.wanted = False
        self._schedule.done(replicator, model)
        return False

    async def _pull(self, replicator: Replicator, models: list[str]) -> None:
        def positions() -> dict[str, Position]:
            parts = {model: self.parts[model] for model in models}
            return {model: (part.vector(), part.cursor(replicator.peer_id)) for model, part in parts.items()}

        try:
            found = await self.thread.run(positions)
        except Exception as error:
            replicator.fail(error)
            return
        for model in models:
            if not replicator.is_open or model not in replicator.session.links:
                self.pull_done(replicator, model)
        replicator.session.pull(found, time.monotonic())
        replicator.carry_out()

    # -- changes -----------------------------------------------------------------------------------------------------

    def changed(self, labels: set[str]) -> None:
        """Models have new versions: let the sessions tell their peers, parents' models first."""
        self._stale |= labels & self.parts.keys()
        if self._stale and not self._refreshing:
            self._refreshing = True
            self.keep(self._refresh())

    async def _refresh(self) -> None:
        try:
            while self._stale:
                labels, self._stale = list(self._stale), set()
                try:
                    vectors = await self.thread.run(self._vectors, labels)
                    while self._stale - set(labels):
                        # What was written to others at once is told at once.
                        labels, self._stale = sorted(self._stale | set(labels)), set()
                        vectors = await self.thread.run(self._vectors, labels)
                except FilterChanged as error:
                    logger.info("%s: %s", self.setup.topic, error)
                    continue
                vectors = {label: vectors[label] for label in sorted(labels, key=self._rank)}
                for replicator in list(self.replicators):
                    for label, vector in vectors.items():
                        replicator.session.local_changed(label, vector)
                    replicator.carry_out()
        finally:
            self._refreshing = False

    async def adopt_loose_rows(self) -> None:
        """Take on the rows of pulls that broke off and whose senders are gone."""
        connected = [replicator.peer_id for replicator in self.replicators if replicator.is_open]
        for part in self.parts.values():
            with contextlib.suppress(FilterChanged):  # The supervisor is about to start the pool anew.
                await self.thread.run(
                    adopt_loose_rows, part.database, part.stream, part.declaration, connected, subset=part.subset
                )

    def _rank(self, label: str) -> int:
        return self._ranks.get(label, 0)

    def _vectors(self, labels: list[str]) -> dict[str, Vector]:
        return {label: self.parts[label].vector() for label in labels}


def _nonces(replicator: Replicator) -> tuple[bytes, ...]:
    """Return what names a connection alike on both ends."""
    assert replicator.session.peer is not None
    return tuple(sorted((replicator.session.config.nonce, replicator.session.peer.nonce)))
