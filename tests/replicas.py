"""A replica under test: its database, and the session's work done by hand, one call at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.db import connections

from p2p_replication.models import Declaration, EntryStatus, LedgerEntry, Pool
from p2p_replication.protocol.messages import Changes, Digest
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.storage.applier import Applied, apply_changes
from p2p_replication.storage.changes import read_changes, read_push
from p2p_replication.storage.content_digests import read_digest
from p2p_replication.storage.declared_merges import keep_merge_states
from p2p_replication.storage.held_fields import adopt_known_fields
from p2p_replication.storage.posting import Posted, post_all
from p2p_replication.storage.repairs import repair
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.retry import retry_parked
from p2p_replication.storage.vectors import cursor_of, vector_of
from p2p_replication.storage.write_budget import WriteBudget
from tests.databases import Database, SQLiteFile

LABELS = ("testapp.Note", "testapp.Shelf", "testapp.Book", "testapp.Sample")
TOPIC = "field-team"


class TestReplica:
    """One replica; ``start`` stands for the start of a worker on its database."""

    __test__ = False

    def __init__(self, alias: str, site: Database) -> None:
        self.alias = alias
        self.site = site
        self.sent_rows = 0
        self.start()

    @property
    def path(self) -> Path:
        """The file of a replica on SQLite."""
        assert isinstance(self.site, SQLiteFile)
        return self.site.path

    def start(self) -> None:
        self.database = ReplicaDatabase(self.alias, budget=WriteBudget(0.025, 0.0))
        adopt_known_fields(self.database)
        keep_merge_states(self.database)
        self.pool, _ = Pool.objects.using(self.alias).get_or_create(account="default", topic=TOPIC)
        self.declarations: dict[str, int] = {}
        self.declare_all(LABELS)
        #: By replica and model, how far its ledger reached when it was pulled.
        self._pulled: dict[tuple[str, str], tuple[str, int]] = {}

    def declare_all(self, labels: Iterable[str]) -> None:
        """Let models take part in the pool."""
        manager = Declaration.objects.using(self.alias)
        known = set(manager.filter(pool=self.pool).values_list("model", flat=True))
        manager.bulk_create([Declaration(pool=self.pool, model=label) for label in labels if label not in known])
        self.declarations = dict(manager.filter(pool=self.pool).values_list("model", "pk"))

    def stream(self, label: str) -> Any:
        return self.database.streams[label]

    def post(self) -> Posted:
        return post_all(self.database)

    def sql(self, statement: str, params: Any = ()) -> list[Any]:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(statement, params)
            return list(cursor.fetchall()) if cursor.description else []

    def vector(self, label: str) -> Vector:
        return vector_of(self.database, self.stream(label), self.declarations[label])

    def meet(self, other: TestReplica, labels: tuple[str, ...] = LABELS) -> None:
        """Pull those of the models in whose ledgers something has changed since they were pulled the last time."""
        other.post()
        reached = other.database.start, other.database.sequence()
        news = tuple(label for label in labels if self._pulled.get((other.alias, label)) != reached)
        self.pull(other, news)
        if other.database.sequence() == reached[1]:
            self._pulled |= {(other.alias, label): reached for label in news}

    def entry(self, row: Any, label: str | None = None) -> LedgerEntry:
        stream = self.stream(label or row._meta.label)
        key = self.site.key(row.pk) if hasattr(row.pk, "hex") else str(row.pk)
        return LedgerEntry.objects.using(self.alias).get(stream=stream.id, key=key)

    def parked(self) -> int:
        return LedgerEntry.objects.using(self.alias).filter(status=EntryStatus.PARKED).count()

    def retry_parked(self) -> int:
        return retry_parked(self.database)

    def repair(self, labels: tuple[str, ...]) -> int:
        """Repair relations, as a pool does when everything is here."""
        return repair(self.database, labels)

    def pull(
        self, other: TestReplica, labels: tuple[str, ...] = LABELS, batch_size: int = 0, batches: int = 10_000
    ) -> list[Applied]:
        """Pull everything from another replica, as a session would; stop after so many batches."""
        outcomes = []
        for label in labels:
            vector, after = self.vector(label), None
            cursor = cursor_of(self.database, self.declarations[label], other.database.replica_id)
            while batches > 0:
                batch = read_changes(
                    other.database, other.stream(label), other.declarations[label], vector,
                    after=after, cursor=cursor, batch_size=batch_size,
                )  # fmt: skip
                after = batch.to_seq
                other.sent_rows += batch.count
                changes = Changes(label, 1, 1, batch.start, batch.from_seq, batch.to_seq, batch.continues, 0,
                                  batch.vector, 0, batch.rows, batch.snapshot)  # fmt: skip
                outcomes.append(self.apply(other, changes))
                batches -= 1
                if batch.vector is not None:
                    break
        return outcomes

    def push(self, other: TestReplica, label: str, push_from: int) -> Changes | None:
        """Return what this replica would push to another one; ``other.apply(self, changes)`` takes it."""
        batch = read_push(self.database, self.stream(label), push_from)
        if batch.rows is None:
            return None
        claim = {batch.origin: batch.push_to}
        return Changes(label, 1, 0, self.database.start, 0, 0, None, batch.push_from, claim, 0, batch.rows)

    def apply(self, other: TestReplica, changes: Changes) -> Applied:
        return apply_changes(
            self.database, self.stream(changes.model), self.declarations[changes.model],
            other.database.replica_id, changes,
        )  # fmt: skip

    def digest(self, label: str, buckets: Sequence[int] = ()) -> Digest:
        """Return what this replica would tell a peer of a model's content."""
        return read_digest(threading.Event(), self.database, label, self.declarations[label], buckets)

    def rows(self) -> dict[str, list[Any]]:
        """Return all rows of the replicated tables, in their canonical form."""
        found = {}
        for label in LABELS:
            table = self.stream(label).table
            keys = [key for (key,) in self.sql(f"SELECT {table.key_text('t')} FROM {table.name} t")]
            rows = [(table.key_to_wire(key), *row) for key, row in table.read(keys).items()]
            found[label] = sorted(rows, key=repr)
        return found


def exchange(*replicas: TestReplica) -> None:
    """Let everybody pull from everybody until nothing is new."""
    for _ in range(2):
        for one in replicas:
            for other in replicas:
                if one is not other:
                    one.pull(other)
                    one.retry_parked()
