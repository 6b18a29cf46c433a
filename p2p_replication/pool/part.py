"""A model's part in a pool, and the order in which models are pulled."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from p2p_replication.pool.modifiers import Modifier
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import PushBatch, ReadBatch
from p2p_replication.protocol.messages import Changes, Digest, ModelOffer
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.storage.applier import Applied, apply_changes
from p2p_replication.storage.bundles import Delivery
from p2p_replication.storage.changes import PUSH_ROWS, PullWish, PushWish
from p2p_replication.storage.content_digests import read_digest
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.stored_vectors import own_vector
from p2p_replication.storage.subsets import EVERYTHING, Subset
from p2p_replication.storage.vectors import cursor_of, expect_whole, vector_of


@dataclass(frozen=True)
class Part:
    """One declaration, bound to the database it lives in."""

    database: ReplicaDatabase
    stream: StreamStore
    declaration: int
    #: Rows of a batch that is pulled, 0 for the sender's choice; own changes that are pushed at once.
    batch_size: int = 0
    push_rows: int = PUSH_ROWS
    #: The rows that the pool is about.
    subset: Subset = EVERYTHING
    #: Which directions are on.
    pulls: bool = True
    pushes: bool = True
    pull_modifier: Modifier | None = None
    push_modifier: Modifier | None = None

    @property
    def modifiers(self) -> list[Modifier]:
        return [modifier for modifier in (self.pull_modifier, self.push_modifier) if modifier is not None]

    @property
    def is_whole(self) -> bool:
        """Tell whether this replica gives all that it has, and has all that it was given: no modifier is at work."""
        return not self.modifiers

    def offer(self) -> ModelOffer:
        """Return what a HELLO says of the model. The field without a name stands for the key."""
        table = self.stream.table
        kinds = {name: codec.wire_type for name, codec in table.codecs.items()}
        named = table.options.key
        key = f"{named}: {table.key.wire_type}" if named else table.key.wire_type
        merges = {name: merge.name for name, merge in self.stream.merges.items()}
        row_filter = self.subset.filter
        filter_text = row_filter.text if row_filter is not None else ""
        return ModelOffer(
            self.stream.label, {"": key, **kinds}, merges, filter_text,
            pulls=self.pulls, pushes=self.pushes, whole=self.is_whole,
        )  # fmt: skip

    def pull_wish(self, wish: fx.PullWish) -> PullWish:
        """Return what storage is to read for a peer's pull."""
        cursor = (wish.cursor_start, wish.cursor_seq, wish.cursor_snapshot)
        return PullWish(
            self.stream, self.declaration, wish.vector, wish.after, cursor, wish.batch_size, self.subset
        )  # fmt: skip

    def answer(self, peer: str, batch: ReadBatch) -> ReadBatch:
        """Return what was read for a peer's pull as it is to be sent. In the database thread. Raises ModifierFailed."""
        if not self.is_whole and batch.vector is not None:
            # Of what others have made, rows or parts of them may be left out: these have to say themselves who has it.
            own = own_vector(self.database, self.stream).keys()
            claim = {origin: counter for origin, counter in batch.vector.items() if origin in own}
            rest = {origin: counter for origin, counter in batch.vector.items() if origin not in own}
            batch = replace(batch, vector=claim, unclaimed=rest)
        return self.push_modifier.read(self.stream.table, batch, peer) if self.push_modifier is not None else batch

    def push_wish(self, push_from: int) -> PushWish:
        """Return what storage is to read for a push."""
        return PushWish(self.stream, push_from, self.push_rows, self.subset)

    def push(self, peer: str, batch: PushBatch) -> PushBatch:
        """Return own changes as they are to be pushed. In the database thread. Raises ModifierFailed."""
        return self.push_modifier.push(self.stream.table, batch, peer) if self.push_modifier is not None else batch

    def delivery(self, peer: str, changes: Changes) -> Delivery:
        """Return a peer's batch as it is to be applied. In the database thread. Raises ModifierFailed."""
        if self.pull_modifier is not None:
            changes = self.pull_modifier.changes(self.stream.table, changes, peer)
        return Delivery(self.stream, self.declaration, changes, self.subset)

    def apply(self, peer: str, changes: Changes) -> Applied:
        """Apply a peer's batch. In the database thread.

        Raises RemoteProtocolError, and ModifierFailed.
        """
        delivery = self.delivery(peer, changes)
        return apply_changes(self.database, self.stream, self.declaration, peer, delivery.changes, self.subset)

    def meet(self, peer: str, offer: ModelOffer) -> None:
        """Take note of what a peer offers. In the database thread, before the first pull."""
        if self.pulls and offer.pushes:
            expect_whole(self.database, self.declaration, peer, offer.whole)

    def vector(self) -> Vector:
        """Return this replica's version vector. In the database thread."""
        return vector_of(self.database, self.stream, self.declaration, self.subset)

    def digest(self, stop: threading.Event, buckets: Sequence[int]) -> Digest:
        """Return digests of the model's content. In the reading thread."""
        return read_digest(stop, self.database, self.stream.label, self.declaration, buckets, self.subset)

    def cursor(self, peer: str) -> tuple[str, int, int]:
        """Return how far a peer's ledger is read. In the database thread."""
        return cursor_of(self.database, self.declaration, peer)


def ranks(parts: Mapping[str, Part]) -> dict[str, int]:
    """Return an order of the models in which parents come before their children, as far as there is one."""
    order: dict[str, int] = {}

    def visit(label: str, path: tuple[str, ...]) -> int:
        if label in order or label in path:
            return order.get(label, 0)
        parents = [model._meta.label for model in parts[label].stream.table.parents.values()]
        rank = 1 + max((visit(p, (*path, label)) for p in parents if p in parts), default=-1)
        order[label] = rank
        return rank

    for label in parts:
        visit(label, ())
    return order
