"""A model's part in a pool, and the order in which models are pulled."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2p_replication.protocol.messages import Digest, ModelOffer
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.storage.changes import PUSH_ROWS
from p2p_replication.storage.content_digests import read_digest
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.vectors import cursor_of, vector_of


@dataclass(frozen=True)
class Part:
    """One declaration, bound to the database it lives in."""

    database: ReplicaDatabase
    stream: StreamStore
    declaration: int
    #: Rows of a batch that is pulled, 0 for the sender's choice; own changes that are pushed at once.
    batch_size: int = 0
    push_rows: int = PUSH_ROWS

    def offer(self) -> ModelOffer:
        """Return what a HELLO says of the model. The field without a name stands for the key."""
        table = self.stream.table
        kinds = {name: codec.wire_type for name, codec in table.codecs.items()}
        named = table.options.key
        key = f"{named}: {table.key.wire_type}" if named else table.key.wire_type
        return ModelOffer(self.stream.label, {"": key, **kinds})

    def vector(self) -> Vector:
        """Return this replica's version vector. In the database thread."""
        return vector_of(self.database, self.stream, self.declaration)

    def digest(self, stop: threading.Event, buckets: Sequence[int]) -> Digest:
        """Return digests of the model's content. In the reading thread."""
        return read_digest(stop, self.database, self.stream.label, self.declaration, buckets)

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
