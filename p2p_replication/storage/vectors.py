"""What this replica has in a pool (its version vector), and how far it has read each peer's ledger."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils import timezone

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models.ledger import Stream
from p2p_replication.models.pool import Declaration, PullCursor
from p2p_replication.protocol.version_vector import Vector, covers, joined
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore


def own_vector(database: ReplicaDatabase, stream: StreamStore) -> Vector:
    """Return the last counters that this replica gave in a stream, by origin (one for each start)."""
    return dict(Stream.objects.using(database.alias).values_list("own_vector", flat=True).get(pk=stream.id))


def vector_of(database: ReplicaDatabase, stream: StreamStore, declaration: int) -> Vector:
    """Return this replica's vector of a model in a pool: what it took from peers, and its own.

    The ledger is one for all pools. What came in another pool of the model (with the same filter) is there for this
    one's peers too, who learn of it by this vector.
    """
    declarations = Declaration.objects.using(database.alias).filter(model=stream.label)
    known = {pk: (digest, taken) for pk, digest, taken in declarations.values_list("pk", "filter_digest", "vector")}
    vector = dict(own_vector(database, stream))
    # Of this start nobody knows more than we do, whatever a peer says.
    own = vector.get(database.start)
    for digest, taken in known.values():
        if declaration in known and digest == known[declaration][0]:
            vector = joined(vector, taken)
    vector.pop(database.start, None)
    return {**vector, database.start: own} if own else vector


def check_own_counter(database: ReplicaDatabase, stream: StreamStore, vector: Mapping[str, int]) -> None:
    """Raise StaleReplica if somebody knows a counter of this start that was never given.

    The machine was set back to an earlier snapshot, and what it gives now others take for what it gave then: it has
    to go on under a new origin.
    """
    if vector.get(database.start, 0) > own_vector(database, stream).get(database.start, 0):
        raise StaleReplica("a peer knows changes of this start that were never made (a resumed machine snapshot?)")


def raise_vector(database: ReplicaDatabase, declaration: int, claim: Vector) -> None:
    """Join a claim into the vector, in the transaction that applied its rows."""
    row = Declaration.objects.using(database.alias).filter(pk=declaration).first()
    if row is not None and not covers(row.vector, claim):
        row.vector = joined(row.vector, claim)
        row.save(using=database.alias, update_fields=["vector"])


def cursor_of(
    database: ReplicaDatabase, declaration: int, replica_id: str, peer_start: str | None = None
) -> tuple[str, int]:
    """Return the durable cursor ``(sender's start, seq)`` for a peer, ``("", 0)`` if there is none.

    Args:
        peer_start: the peer's start by now. The cursor of a pull that broke off counts for the start it was made with
            only: the peer may have been set back to a backup since, and a row that was above the cursor then, and was
            to come, may be below it again.
    """
    cursor = PullCursor.objects.using(database.alias).filter(declaration_id=declaration, replica_id=replica_id).first()
    if cursor is None or (peer_start not in (None, cursor.start) and not cursor.is_finished):
        return ("", 0)
    return cursor.start, cursor.sequence


def move_cursor(
    database: ReplicaDatabase,
    declaration: int,
    replica_id: str,
    start: str,
    from_seq: int,
    to_seq: int,
    continues: tuple[str, int] | None,
    *,
    finished: bool,
) -> bool:
    """Move the cursor over a batch (``finished``: the last of its pull), in the transaction that applied it.

    Returns False, and moves nothing, if the batch begins above the cursor: something is missing in between.
    """
    stored_start, stored = cursor_of(database, declaration, replica_id)
    if stored_start == start:
        if from_seq > stored:
            return False
        to_seq = max(to_seq, stored)
    elif from_seq > 0 and continues != (stored_start, stored):
        return False
    PullCursor.objects.using(database.alias).update_or_create(
        declaration_id=declaration,
        replica_id=replica_id,
        defaults={
            "start": start,
            "sequence": to_seq,
            "is_finished": finished,
            "unfinished_since": None if finished else timezone.now(),
        },
    )
    return True
