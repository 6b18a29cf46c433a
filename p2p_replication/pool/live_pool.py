"""One pool while it runs: its connection handler, a replicator per peer, and who is asked when."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2p_replication.exceptions import SignalingRefused
from p2p_replication.pool.database_thread import DatabaseThread
from p2p_replication.pool.peer_rows import ModelReport, PeerRefused, PeerReport, admit, write_error, write_reports
from p2p_replication.pool.replicator import Replicator
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.messages import Hello, ModelOffer
from p2p_replication.protocol.pull_schedule import PullSchedule
from p2p_replication.protocol.session import SessionConfig
from p2p_replication.protocol.version_vector import Vector, covers
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.vectors import cursor_of, own_vector, vector_of
from p2p_replication.transport import identity
from p2p_replication.transport.base import Connection, ConnectionHandler

logger = logging.getLogger("p2p_replication.pool")

#: Seconds until a signaling server that refused us is asked again.
REFUSED_PAUSE = 20.0


@dataclass(frozen=True)
class Part:
    """A model's part in the pool."""

    database: ReplicaDatabase
    stream: StreamStore
    declaration: int
    batch_size: int = 0


@dataclass(frozen=True)
class PoolSetup:
    """What a running pool is told of its declarations."""

    id: int
    topic: str
    parts: Mapping[str, Part]
    make_handler: Callable[[Callable[[str], None]], ConnectionHandler]
    is_peer_valid: Callable[..., Any] | None = None
    name: str = ""
    heartbeat: float = 2.5
    timeout: float = 8.0
    max_clock_skew: float = 300.0


@dataclass
class _Totals:
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class LivePool:
    """Runs one pool until cancelled."""

    def __init__(self, setup: PoolSetup, thread: DatabaseThread) -> None:
        self.setup = setup
        self.parts = dict(setup.parts)
        self.thread = thread
        self.replicators: list[Replicator] = []
        self.state = "starting"
        self.closed_bytes = [0, 0]
        self.handler: ConnectionHandler | None = None
        database = next(iter(self.parts.values())).database
        self.database = database
        self._public_key = identity.public_key(database.secret_key)
        self._ranks = ranks(self.parts)
        self._schedule = PullSchedule()
        self._pump_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errors: Counter[tuple[str, str]] = Counter()
        self._reported: dict[Replicator, _Totals] = {}
        self._last_reports: Any = None
        self._stale: set[str] = set()
        self._refreshing = False

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Join the topic and replicate with everybody there. Runs until cancelled; errors are reported, not raised."""
        try:
            while True:
                self.handler = self.setup.make_handler(self.report)
                self.state = "joining"
                try:
                    await self.handler.run(self._connected)
                except SignalingRefused as error:
                    self.report(f"the signaling server refuses us: {error}")
                except Exception as error:
                    logger.exception("the connection handler of %s failed", self.setup.topic)
                    self.report(f"the connection handler failed: {error}")
                self.state = f"asks again in {REFUSED_PAUSE:g} s"
                await asyncio.sleep(REFUSED_PAUSE)
        finally:
            await self._shut_down()

    async def _shut_down(self) -> None:
        for replicator in list(self.replicators):
            replicator.close("the worker stops")
        if self._pump_timer is not None:
            self._pump_timer.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=3)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.handler is not None:
            await self.handler.close()
        self.state = "stopped"

    async def _connected(self, connection: Connection) -> None:
        database = self.database
        config = SessionConfig(
            replica_id=database.replica_id,
            start=database.start,
            name=self.setup.name,
            topic=self.setup.topic,
            public_key=self._public_key,
            nonce=os.urandom(32),
            now_ms=database.now_ms(),
            models=tuple(offer(part.stream) for part in self.parts.values()),
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
        self._keep(self._replicate(replicator))

    async def _replicate(self, replicator: Replicator) -> None:
        try:
            await replicator.run()
        except Exception as error:
            logger.exception("replication with %s failed", replicator.peer_id or replicator.connection.remote.peer_id)
            self.report(f"replication failed on this side: {type(error).__name__}: {error}", replicator)
        finally:
            if replicator.closed_by_error:
                self.report(replicator.close_reason, replicator)
            self.replicators.remove(replicator)
            session = replicator.session
            self.closed_bytes[0] += session.bytes_in
            self.closed_bytes[1] += session.bytes_out
            self._schedule.gone(replicator)
            self._pump()

    def _keep(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the introduction --------------------------------------------------------------------------------------------

    async def introduce(self, replicator: Replicator, hello: Hello) -> None:
        """Let a peer in that has proven its key, or send it away."""
        try:
            self._refuse_copies(hello)
            await self.thread.run(self._admit, replicator, hello)
        except PeerRefused as refused:
            replicator.session.close(str(refused), code="refused", is_error=True)
            return
        if not self._settle_duplicates(replicator, hello):
            replicator.session.close("there is another connection between the two replicas")
            return
        skew = abs(hello.time - self.database.now_ms()) / 1000
        if skew > self.setup.max_clock_skew:
            self.report(
                f"the clocks of {hello.name or hello.replica} and this replica differ by {skew:.0f} s: set the time "
                "on both; changes from the future are parked",
                replicator,
            )
        vectors = await self.thread.run(self._vectors, list(self.parts))
        replicator.session.accept(vectors, time.monotonic())

    def _refuse_copies(self, hello: Hello) -> None:
        if hello.replica == self.database.replica_id:
            raise PeerRefused(
                "both replicas have the same id: one database is a copy of the other. Delete the row of "
                "p2p_replication_replica in the copy; its worker makes a new identity at its next start."
            )

    def _admit(self, replicator: Replicator, hello: Hello) -> None:
        remote = replicator.connection.remote
        admit(self.setup.id, hello.replica, hello.key, hello.name, remote.user)
        if self.setup.is_peer_valid is not None:
            try:
                valid = self.setup.is_peer_valid(hello.replica, name=hello.name, user=remote.user)
            except Exception as error:
                raise PeerRefused(f"is_peer_valid failed: {error}") from error
            if not valid:
                raise PeerRefused("is_peer_valid refuses the peer")

    def _settle_duplicates(self, new: Replicator, hello: Hello) -> bool:
        """Keep one connection per replica. Both ends come to the same choice, by the nonces they both know."""
        for old in list(self.replicators):
            if old is new or not old.is_open or old.peer_id != hello.replica:
                continue
            assert old.session.peer is not None
            if old.session.peer.start == hello.start and nonces(old) < nonces(new):
                return False
            old.close("a newer connection between the two replicas has replaced this one")
        return True

    # -- pulls -----------------------------------------------------------------------------------------------------

    def want_pull(self, replicator: Replicator, wish: fx.WantPull) -> None:
        link = replicator.session.links.get(wish.model)
        peer = replicator.session.peer
        if link is None or peer is None:
            return
        direct = link.announced.get(peer.start, 0) > link.local.get(peer.start, 0)
        now = time.monotonic()
        self._schedule.want(
            replicator, wish.model, self._ranks.get(wish.model, 0), now, initial=wish.initial, direct=direct
        )
        self._pump()

    def pull_done(self, replicator: Replicator, model: str) -> None:
        self._schedule.done(replicator, model)
        self._pump()

    def _pump(self) -> None:
        """Start the pull that is due; look again when the next one will be."""
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        while (pull := self._schedule.next(time.monotonic())) is not None:
            replicator, model, initial = pull
            assert isinstance(replicator, Replicator)
            link = replicator.session.links.get(model)
            if link is None or not replicator.is_open or not (initial or link.lacks_announced()):
                if link is not None:
                    link.wanted = False
                self._schedule.done(replicator, model)
                continue
            self._keep(self._pull(replicator, model))
        due = self._schedule.next_due()
        if due is not None:
            delay = max(due - time.monotonic(), 0.0)
            self._pump_timer = asyncio.get_running_loop().call_later(delay, self._pump)

    async def _pull(self, replicator: Replicator, model: str) -> None:
        part = self.parts[model]

        def position() -> tuple[Vector, tuple[str, int]]:
            vector = vector_of(part.database, part.stream, part.declaration)
            return vector, cursor_of(part.database, part.declaration, replicator.peer_id)

        vector, cursor = await self.thread.run(position)
        if not replicator.is_open:
            self.pull_done(replicator, model)
            return
        replicator.session.pull(model, vector, cursor, time.monotonic())
        replicator.carry_out()

    # -- changes -----------------------------------------------------------------------------------------------------

    def changed(self, labels: set[str]) -> None:
        """Models have new versions: let the sessions tell their peers."""
        self._stale |= labels & self.parts.keys()
        if self._stale and not self._refreshing:
            self._refreshing = True
            self._keep(self._refresh())

    async def _refresh(self) -> None:
        try:
            while self._stale:
                labels, self._stale = sorted(self._stale, key=lambda label: self._ranks.get(label, 0)), set()
                for label, (vector, own_counter) in (await self.thread.run(self._vectors, labels)).items():
                    for replicator in list(self.replicators):
                        replicator.session.local_changed(label, vector, own_counter)
                for replicator in list(self.replicators):
                    replicator.carry_out()
        finally:
            self._refreshing = False

    def _vectors(self, labels: list[str]) -> dict[str, tuple[Vector, int]]:
        found = {}
        for label in labels:
            part = self.parts[label]
            vector = vector_of(part.database, part.stream, part.declaration)
            found[label] = (vector, vector.get(part.database.start, 0))
        return found

    # -- what people see -----------------------------------------------------------------------------------------------

    def report(self, text: str, replicator: Replicator | None = None) -> None:
        """Keep an error for the log and the pool's page."""
        peer = replicator.peer_id if replicator is not None else ""
        logger.warning("%s: %s%s", self.setup.topic, f"{peer[:8]}: " if peer else "", text)
        self._errors[text, peer] += 1

    def report_parked(self, model: str, key: str, reason: str, replicator: Replicator) -> None:
        logger.info("%s: %s %s is parked: %s", self.setup.topic, model, key, reason)
        if not reason.startswith("missing parent"):
            self.report(f"a row of {model} is parked: {reason}", replicator)

    def peer_reports(self) -> list[PeerReport]:
        """Return the state of the connected peers; counts are since the call before."""
        reports = []
        for replicator in self.replicators:
            session = replicator.session
            if not replicator.is_open or session.peer is None:
                continue
            links = session.links.values()
            now = _Totals(
                sum(link.rows_in for link in links),
                sum(link.rows_out for link in links),
                session.bytes_in,
                session.bytes_out,
            )
            before = self._reported.get(replicator, _Totals())
            self._reported[replicator] = now
            models = tuple(
                ModelReport(
                    self.parts[link.label].declaration,
                    link.confirmed.get(session.config.start, 0),
                    link.remaining if link.pulling else int(not link.complete),
                    link.complete,
                )
                for link in links
            )
            reports.append(
                PeerReport(
                    session.peer.replica, session.peer.name, replicator.connection.remote.user, replicator.opened_at,
                    now.rows_in - before.rows_in, now.rows_out - before.rows_out,
                    now.bytes_in - before.bytes_in, now.bytes_out - before.bytes_out, models,
                )
            )  # fmt: skip
        self._reported = {r: totals for r, totals in self._reported.items() if r in self.replicators}
        return reports

    async def write_state(self) -> None:
        """Write what has changed for people to see: peers and errors."""
        errors, self._errors = self._errors, Counter()
        reports = self.peer_reports()
        idle = [(r.replica_id, r.connected_at, r.models) for r in reports]
        quiet = not any(r.rows_in or r.rows_out for r in reports)
        confirmed = {
            (r.peer_id, link.label): dict(link.confirmed) for r in self.replicators for link in r.session.links.values()
        }
        if errors or not quiet or idle != self._last_reports:
            await self.thread.run(self._write, reports, errors, confirmed)
            self._last_reports = idle

    def _write(
        self,
        reports: list[PeerReport],
        errors: Counter[tuple[str, str]],
        confirmed: Mapping[tuple[str, str], Vector],
    ) -> None:
        for (text, peer), count in errors.items():
            write_error(self.setup.id, text, peer, count)
        if not reports and self._last_reports is None and errors:
            return
        labels = {part.declaration: label for label, part in self.parts.items()}
        own = {label: own_vector(part.database, part.stream) for label, part in self.parts.items()}

        def acknowledged(report: PeerReport, model: ModelReport) -> ModelReport:
            label = labels[model.declaration]
            # Own counters rise from start to start, so all of them are covered once the vectors are.
            if covers(confirmed.get((report.replica_id, label), {}), own[label]):
                return ModelReport(
                    model.declaration, max(own[label].values(), default=0), model.rows_behind, model.complete
                )
            return model

        with self.database.writing():
            write_reports(
                self.setup.id,
                [
                    PeerReport(
                        r.replica_id, r.name, r.user, r.connected_at, r.rows_in, r.rows_out, r.bytes_in, r.bytes_out,
                        tuple(acknowledged(r, m) for m in r.models),
                    )
                    for r in reports
                ],
            )  # fmt: skip


def offer(stream: StreamStore) -> ModelOffer:
    """Return what a HELLO says of a model."""
    table = stream.table
    kinds = {name: codec.wire_type for name, codec in table.codecs.items()}
    return ModelOffer(stream.label, {"": table.key.wire_type, **kinds})


def ranks(parts: Mapping[str, Part]) -> dict[str, int]:
    """Return an order of the models in which parents come before their children, as far as there is one."""
    order: dict[str, int] = {}

    def visit(label: str, path: tuple[str, ...]) -> int:
        if label in order or label in path:
            return order.get(label, 0)
        parents = [m._meta.label for m in parts[label].stream.table.parents.values()]
        rank = 1 + max((visit(p, (*path, label)) for p in parents if p in parts), default=-1)
        order[label] = rank
        return rank

    for label in parts:
        visit(label, ())
    return order


def nonces(replicator: Replicator) -> tuple[bytes, ...]:
    """Return what names a connection alike on both ends."""
    assert replicator.session.peer is not None
    return tuple(sorted((replicator.session.config.nonce, replicator.session.peer.nonce)))
