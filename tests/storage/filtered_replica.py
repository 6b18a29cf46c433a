"""A replica whose pools have filters: several pools over one model, each pulled and pushed by itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from p2p_replication.models import Declaration, EntryStatus, LedgerEntry, Pool
from p2p_replication.models.where import canonical_where, change_filter, filter_columns
from p2p_replication.protocol.changes import ChangedRow, check_rows, unpack_rows
from p2p_replication.protocol.messages import Changes, Digest
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.registry import registry
from p2p_replication.storage.applier import Applied, apply_changes
from p2p_replication.storage.changes import read_changes, read_push
from p2p_replication.storage.content_digests import read_digest
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.subsets import Subset, subset_for
from p2p_replication.storage.vectors import cursor_of, vector_of
from p2p_replication.storage.write_budget import WriteBudget
from tests.storage.conftest import StorageReplica
from tests.testapp.models import Note


@dataclass
class Member:
    """A model's part in a pool."""

    declaration: int
    subset: Subset


class FilteredReplica(StorageReplica):
    """Declares nothing by itself.

    Attributes:
        sent: all rows that have left this replica, by pool.
    """

    __test__ = False
    sent: dict[str, list[ChangedRow]]

    def start(self) -> None:
        self.database = ReplicaDatabase(self.alias, budget=WriteBudget(0.025, 0.0))
        self.sent = self.__dict__.get("sent", {})
        self.members: dict[tuple[str, str], Member] = {}
        for declaration in Declaration.objects.using(self.alias).select_related("pool"):
            self._take(declaration)

    def _take(self, declaration: Declaration) -> None:
        stream = self.stream(declaration.model)
        subset = subset_for(self.database, stream, declaration.filter_text)
        self.members[declaration.pool.topic, declaration.model] = Member(declaration.pk, subset)

    def declare(self, topic: str, label: str, where: dict[str, Any] | None = None) -> None:
        """What ``sync_p2p`` does, on this replica's database."""
        options = registry.get(label)
        assert options is not None
        text = canonical_where(options, where)
        pool, _ = Pool.objects.using(self.alias).get_or_create(account="default", topic=topic)
        declaration, new = Declaration.objects.using(self.alias).get_or_create(
            pool=pool, model=label, defaults=filter_columns(label, text, self.alias)
        )
        if not new and declaration.filter_text != text:
            change_filter(declaration, text)
            declaration.refresh_from_db()
        self._take(declaration)

    def vector_in(self, topic: str, label: str) -> Vector:
        member = self.members[topic, label]
        return vector_of(self.database, self.stream(label), member.declaration, member.subset)

    def pull_in(
        self, topic: str, label: str, other: FilteredReplica, batch_size: int = 0, batches: int = 10_000
    ) -> list[Applied]:
        """Pull everything of a pool from another replica; stop after so many batches."""
        ours, theirs = self.members[topic, label], other.members[topic, label]
        assert ours.subset.digest == theirs.subset.digest, "a session would refuse the model"
        outcomes: list[Applied] = []
        vector, after = self.vector_in(topic, label), None
        cursor = cursor_of(self.database, ours.declaration, other.database.replica_id)
        while batches > 0:
            batch = read_changes(
                other.database, other.stream(label), theirs.declaration, vector,
                after=after, cursor=cursor, batch_size=batch_size, subset=theirs.subset,
            )  # fmt: skip
            after = batch.to_seq
            changes = Changes(label, 1, 1, batch.start, batch.from_seq, batch.to_seq, batch.continues, 0,
                              batch.vector, 0, batch.rows, batch.snapshot)  # fmt: skip
            outcomes.append(self.take_in(topic, other, changes))
            batches -= 1
            if batch.vector is not None:
                break
        return outcomes

    def push_in(self, topic: str, label: str, other: FilteredReplica) -> Changes | None:
        """Return what would be pushed to another replica."""
        reached = other.vector_in(topic, label).get(self.database.start, 0)
        subset = self.members[topic, label].subset
        batch = read_push(self.database, self.stream(label), reached, subset=subset)
        if batch.rows is None:
            return None
        claim = {batch.origin: batch.push_to}
        return Changes(label, 1, 0, self.database.start, 0, 0, None, batch.push_from, claim, 0, batch.rows)

    def take_in(self, topic: str, other: FilteredReplica, changes: Changes) -> Applied:
        check_rows(changes.rows)
        other.sent.setdefault(topic, []).extend(unpack_rows(changes.rows))
        other.sent_rows += len(changes.rows.keys)
        member = self.members[topic, changes.model]
        return apply_changes(
            self.database, self.stream(changes.model), member.declaration, other.database.replica_id, changes,
            member.subset,
        )  # fmt: skip

    def digest_in(self, topic: str, label: str) -> Digest:
        member = self.members[topic, label]
        return read_digest(threading.Event(), self.database, label, member.declaration, (), member.subset)


def exchange(topic: str, label: str, *replicas: FilteredReplica, rounds: int = 2) -> None:
    """Let all members of a pool pull from all until nothing is new."""
    members = [replica for replica in replicas if (topic, label) in replica.members]
    for _ in range(rounds):
        for one in members:
            for other in members:
                if one is not other:
                    one.pull_in(topic, label, other)
                    one.retry_parked()


def notes(replica: FilteredReplica) -> dict[str, int]:
    return dict(Note.objects.using(replica.alias).values_list("title", "stars"))


def status(replica: FilteredReplica, row: Any) -> EntryStatus | None:
    entry = LedgerEntry.objects.using(replica.alias).filter(key=replica.site.key(row.pk)).first()
    return EntryStatus(entry.status) if entry is not None else None


def create(replica: FilteredReplica, title: str, stars: int, **fields: Any) -> Note:
    return Note.objects.using(replica.alias).create(title=title, stars=stars, **fields)
