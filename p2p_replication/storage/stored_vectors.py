"""Version vectors in their columns, without the ORM: they are read and written several times for each live change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models.ledger import Stream
from p2p_replication.models.pool import Declaration
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore

STREAM = Stream._meta.db_table
DECLARATION = Declaration._meta.db_table

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Taken(NamedTuple):
    """What a declaration has taken from peers."""

    declaration: int
    filter_digest: str
    vector: Vector
    #: A modifier may have refused rows of what the vector covers.
    has_modifier: bool


def own_vector(database: ReplicaDatabase, stream: StreamStore) -> Vector:
    """Return the last counters that this replica gave in a stream, by origin (one for each start).

    Raises StaleReplica if there is no such stream any more.
    """
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT own_vector FROM {STREAM} WHERE id = %s", [stream.id])
        record = cursor.fetchone()
    if record is None:
        raise StaleReplica(f"the database does not know {stream.label} any more (a flush?)")
    return dict(_json(record[0]))


def own_vectors(database: ReplicaDatabase) -> dict[int, Vector]:
    """Return ``own_vector`` of each stream, by number."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT id, own_vector FROM {STREAM}")
        return {number: dict(_json(vector)) for number, vector in cursor.fetchall()}


def give_counter(database: ReplicaDatabase, stream: StreamStore, counter: int) -> None:
    """Note the last counter that was given in this start, in the transaction that gives it."""
    vector = {**own_vector(database, stream), database.start: counter}
    with database.connection.cursor() as cursor:
        cursor.execute(f"UPDATE {STREAM} SET own_vector = %s WHERE id = %s", [_encode(vector).decode(), stream.id])


def taken_vectors(database: ReplicaDatabase, label: str) -> Iterator[Taken]:
    """Return what all declarations of a model have taken."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT id, filter_digest, vector, pull FROM {DECLARATION} WHERE model = %s", [label])
        for number, digest, vector, pull in cursor.fetchall():
            yield Taken(number, digest, dict(_json(vector)), bool((_json(pull) or {}).get("modifier")))


def raise_taken(database: ReplicaDatabase, declaration: int, vector: Vector) -> None:
    """Write the vector of a declaration, in the transaction that applied its rows."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"UPDATE {DECLARATION} SET vector = %s WHERE id = %s", [_encode(vector).decode(), declaration])


def taken_vector(database: ReplicaDatabase, declaration: int) -> Vector | None:
    """Return what one declaration has taken; None if it is gone."""
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT vector FROM {DECLARATION} WHERE id = %s", [declaration])
        record = cursor.fetchone()
    return dict(_json(record[0])) if record is not None else None


def _json(value: Any) -> Mapping[str, Any]:
    """Return what a JSON column holds; drivers give text or objects."""
    found: Mapping[str, Any] = _decode(value) if isinstance(value, str | bytes) else value
    return found
