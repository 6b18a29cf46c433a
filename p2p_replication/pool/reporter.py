"""Telling people how a pool is doing: peers and errors, gathered in the loop, written on change."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from p2p_replication.pool.database_thread import DatabaseThread
from p2p_replication.pool.part import Part
from p2p_replication.pool.peer_rows import ModelReport, PeerReport, PeerRows
from p2p_replication.pool.replicator import Replicator
from p2p_replication.protocol.version_vector import Vector, covers
from p2p_replication.storage.parking import MISSING_PARENT, REFERENCED
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.stored_vectors import own_vector

logger = logging.getLogger("p2p_replication.pool")


@dataclass(frozen=True)
class _Totals:
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @classmethod
    def of(cls, replicator: Replicator) -> _Totals:
        links = replicator.session.links.values()
        return cls(
            sum(link.rows_in for link in links),
            sum(link.rows_out for link in links),
            replicator.session.bytes_in,
            replicator.session.bytes_out,
        )


class PoolReporter:
    """Gathers what one pool has to tell, and writes it."""

    def __init__(self, topic: str, rows: PeerRows, parts: Mapping[str, Part], thread: DatabaseThread) -> None:
        self.topic = topic
        self.rows = rows
        self._parts = parts
        self._thread = thread
        self._errors: Counter[tuple[str, str]] = Counter()
        #: A refused row of each model and peer.
        self._samples: dict[tuple[str, str], str] = {}
        self._totals: dict[Replicator, _Totals] = {}
        self._ended: list[PeerReport] = []
        self._written: object = None

    def error(self, text: str, peer: str = "") -> None:
        """Keep an error for the log and the pool's page."""
        logger.warning("%s: %s%s", self.topic, f"{peer[:8]}: " if peer else "", text)
        self._errors[text, peer] += 1

    def parked(self, model: str, key: str, reason: str, peer: str) -> None:
        """A row could not be applied. That its parent is not there yet, or its children are, is the way of things."""
        logger.info("%s: %s %s is parked: %s", self.topic, model, key, reason)
        if not reason.startswith((MISSING_PARENT, REFERENCED)):
            self.error(f"a row of {model} is parked: {reason}", peer)

    def refused(self, model: str, keys: Sequence[str], peer: str) -> None:
        """Rows outside of the pool's filter were not taken: they are counted, with the first one as a sample."""
        if keys:
            sample = self._samples.setdefault((model, peer), keys[0])
            text = f"rows of {model} were refused, as they are outside of the pool's filter: {sample} for one"
            logger.warning("%s: %s: %s (%s)", self.topic, peer[:8], text, len(keys))
            self._errors[text, peer] += len(keys)

    def ended(self, replicator: Replicator) -> None:
        """A session is over: what it moved since the last report still counts."""
        if replicator.peer_id:
            self._ended.append(self._report(replicator))

    async def write(self, replicators: Sequence[Replicator]) -> None:
        """Write what has changed since the last call: nothing at rest."""
        errors, self._errors = self._errors, Counter()
        ended, self._ended = self._ended, []
        opened = [replicator for replicator in replicators if replicator.is_open]
        reports = [self._report(replicator) for replicator in opened]
        state = [(report.replica_id, report.connected_at, report.models) for report in reports]
        moved = any(report.rows_in or report.rows_out for report in reports)
        self._totals = {r: totals for r, totals in self._totals.items() if r in replicators}
        refused = any(modifier.refused.count for part in self._parts.values() for modifier in part.modifiers)
        if errors or moved or ended or refused or state != self._written:
            await self._thread.run(self._write, errors, ended, reports)
            self._written = state

    def _report(self, replicator: Replicator) -> PeerReport:
        session = replicator.session
        assert session.peer is not None
        now, before = _Totals.of(replicator), self._totals.get(replicator, _Totals())
        self._totals[replicator] = now
        models = tuple(
            ModelReport(
                self._parts[label].declaration,
                self._parts[label].subset.digest,
                link.confirmed.get(session.config.start, 0),
                dict(link.confirmed),
                link.remaining if link.pulling else int(not link.complete),
                link.complete,
                link.gives,
            )
            for label, link in session.links.items()
        )
        return PeerReport(
            session.peer.replica, session.peer.name, replicator.connection.remote.user, replicator.opened_at,
            now.rows_in - before.rows_in, now.rows_out - before.rows_out,
            now.bytes_in - before.bytes_in, now.bytes_out - before.bytes_out, models,
        )  # fmt: skip

    def _write(
        self,
        errors: Counter[tuple[str, str]],
        ended: Sequence[PeerReport],
        reports: Sequence[PeerReport],
    ) -> None:
        with database_of(self._parts).writing():
            own = {part.declaration: own_vector(part.database, part.stream) for part in self._parts.values()}
            for (text, peer), count in errors.items():
                self.rows.write_error(text, peer, count)
            for part in self._parts.values():
                for modifier in part.modifiers:
                    if modifier.refused.count:
                        refused = modifier.take_refused()
                        self.rows.write_refused(part.declaration, modifier is part.pull_modifier, refused)
            self.rows.add(ended)
            self.rows.write(
                [
                    replace(
                        report,
                        models=tuple(_acknowledged(model, own[model.declaration]) for model in report.models),
                    )
                    for report in reports
                ]
            )


def database_of(parts: Mapping[str, Part]) -> ReplicaDatabase:
    """Return the database that a pool's parts live in: one for all of them."""
    return next(iter(parts.values())).database


def _acknowledged(model: ModelReport, own: Vector) -> ModelReport:
    """Counters of earlier starts count as well: own counters rise from start to start."""
    return replace(model, acknowledged=max(own.values(), default=0)) if covers(model.confirmed, own) else model
