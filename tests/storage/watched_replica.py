"""A replica whose every exchange the oracle hears of, and what its ledger says in the oracle's terms."""

from __future__ import annotations

from typing import Any

from p2p_replication.models import Declaration, Pool
from p2p_replication.protocol.changes import unpack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage import posting
from p2p_replication.storage.held_fields import adopt_known_fields
from p2p_replication.storage.ledger import COLUMNS, TABLE, Entry
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.versions import state_of
from p2p_replication.storage.write_budget import WriteBudget
from tests.databases import Database
from tests.replicas import TOPIC
from tests.storage.conftest import StorageReplica
from tests.storage.row_oracle import Oracle, Posted, State


def plain(state: RowState) -> State:
    return State(state.inserted, state.deleted, state.fields())


def ledger_of(database: ReplicaDatabase, stream: StreamStore) -> dict[Any, tuple[Entry, Posted]]:
    """Return all that a ledger says of a model, by wire key."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE stream = %s", [stream.id])
        entries = [Entry.load(record) for record in cursor.fetchall()]
    rows = stream.table.read([entry.key for entry in entries])
    found = {}
    for entry in entries:
        row = rows.get(entry.key)
        dots = {database.origin_id(origin): counter for origin, counter in entry.dots().items()}
        named = dict(zip(stream.table.names, row, strict=True)) if row is not None else None
        key = stream.table.key_to_wire(entry.key)
        found[key] = entry, Posted(key, plain(state_of(stream, entry, row)), dots, named)
    return found


class Watched(StorageReplica):
    """A replica whose every exchange the oracle hears of."""

    def __init__(self, alias: str, site: Database, oracle: Oracle, labels: tuple[str, ...], skew: int) -> None:
        self.oracle, self.labels, self.skew = oracle, labels, skew
        super().__init__(alias, site)

    def start(self) -> None:
        """As a worker does; of the example's models only, as there are many starts."""
        self.database = ReplicaDatabase(self.alias, budget=WriteBudget(0.025, 0.0))
        self.pool, _ = Pool.objects.using(self.alias).get_or_create(account="default", topic=TOPIC)
        manager = Declaration.objects.using(self.alias)
        self.declarations = {label: manager.get_or_create(pool=self.pool, model=label)[0].pk for label in self.labels}
        adopt_known_fields(self.database)

    def apply(self, other: Any, changes: Changes) -> Any:
        rows = [(row.key, plain(row.state)) for row in unpack_rows(changes.rows)]
        if changes.round:
            self.oracle.check_sent(other.alias, changes.model, rows)
        outcome = super().apply(other, changes)
        self.oracle.arrived(self.alias, changes.model, rows)
        return outcome

    def push(self, other: Any, label: str, push_from: int) -> Changes | None:
        changes = super().push(other, label, push_from)
        if changes is not None:
            self.oracle.check_sent(
                self.alias, label, [(row.key, plain(row.state)) for row in unpack_rows(changes.rows)]
            )
        return changes


def waiting_keys(replica: Watched, label: str) -> set[str]:
    return posting.pending_keys(replica.database, replica.stream(label))
