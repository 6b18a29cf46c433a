"""What this replica has in a pool (its version vector), and how far it has read each peer's ledger."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models.functions import Coalesce
from django.utils import timezone

from p2p_replication.exceptions import FilterChanged, StaleReplica
from p2p_replication.models.pool import PullCursor
from p2p_replication.protocol.version_vector import Vector, covers, joined
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.stored_vectors import (
    DECLARATION,
    own_vector,
    raise_taken,
    taken_vector,
    taken_vectors,
)
from p2p_replication.storage.subsets import EVERYTHING, Subset

CURSOR = PullCursor._meta.db_table


def vector_of(database: ReplicaDatabase, stream: StreamStore, declaration: int, subset: Subset = EVERYTHING) -> Vector:
    """Return this replica's vector of a model in a pool: what it took from peers, and its own.

    The ledger is one for all pools. What came in another pool of the model with the same filter is there for this
    one's peers too, who learn of it by this vector.

    Raises FilterChanged if the declaration has another filter by now.
    """
    known = {taken.declaration: taken for taken in taken_vectors(database, stream.label)}
    vector = own_vector(database, stream)
    # Of this start nobody knows more than we do, whatever a peer says.
    own = vector.get(database.start)
    if declaration in known:
        _check_filter(stream, known[declaration].filter_digest, subset)
        for taken in known.values():
            if taken.filter_digest == subset.digest and (taken.declaration == declaration or not taken.has_modifier):
                vector = joined(vector, taken.vector)
    vector.pop(database.start, None)
    return {**vector, database.start: own} if own else vector


def hold_filter(database: ReplicaDatabase, stream: StreamStore, declaration: int, subset: Subset) -> None:
    """Keep the declaration's filter from being changed until the write transaction ends.

    Raises FilterChanged if it is another one by now: what peers claim would be taken for claims about other rows.
    """
    lock = "" if database.vendor.has_one_write_lock else " FOR UPDATE"
    with database.connection.cursor() as cursor:
        cursor.execute(f"SELECT filter_digest FROM {DECLARATION} WHERE id = %s{lock}", [declaration])
        for (digest,) in cursor.fetchall():
            _check_filter(stream, digest, subset)


def _check_filter(stream: StreamStore, digest: str, subset: Subset) -> None:
    if digest != subset.digest:
        raise FilterChanged(f"{stream.label} was declared with another filter: the connection is opened anew")


def check_own_counter(database: ReplicaDatabase, stream: StreamStore, vector: Mapping[str, int]) -> None:
    """Raise StaleReplica if somebody knows a counter of this start that was never given.

    The machine was set back to an earlier snapshot, and what it gives now others take for what it gave then: it has
    to go on under a new origin.
    """
    if vector.get(database.start, 0) > own_vector(database, stream).get(database.start, 0):
        raise StaleReplica("a peer knows changes of this start that were never made (a resumed machine snapshot?)")


def expect_whole(database: ReplicaDatabase, declaration: int, replica_id: str, whole: bool) -> None:
    """Before the first pull from a peer: note whether it gives all that it has.

    A cursor from when it did not stands above rows that a modifier may have left out: it is forgotten once there is
    none any more.
    """
    cursors = PullCursor.objects.using(database.alias).filter(declaration_id=declaration, replica_id=replica_id)
    if not whole:
        if not cursors.update(whole=False):
            PullCursor.objects.using(database.alias).create(
                declaration_id=declaration, replica_id=replica_id, start="", whole=False
            )
    else:
        cursors.filter(whole=False).update(start="", sequence=0, snapshot=0, whole=True)


def raise_vector(database: ReplicaDatabase, declaration: int, claim: Vector) -> None:
    """Join a claim into the vector, in the transaction that applied its rows."""
    vector = taken_vector(database, declaration)
    if vector is not None and not covers(vector, claim):
        raise_taken(database, declaration, joined(vector, claim))


def cursor_of(database: ReplicaDatabase, declaration: int, replica_id: str) -> tuple[str, int, int]:
    """Return the durable cursor ``(sender's start, seq, snapshot)`` for a peer, ``("", 0, 0)`` if there is none.

    The cursor of a pull that broke off counts only for a sender that has all of the history up to ``snapshot``: one
    that was set back to a backup may have rows below the cursor that were above it, and were to come.
    """
    cursor = (
        PullCursor.objects.using(database.alias)
        .filter(declaration_id=declaration, replica_id=replica_id)
        .values_list("start", "sequence", "snapshot")
        .first()
    )
    return cursor or ("", 0, 0)


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
    snapshot: int = 0,
) -> bool:
    """Move the cursor over a batch (``finished``: the last of its pull), in the transaction that applied it.

    Returns False, and moves nothing, if the batch begins above the cursor: something is missing in between.
    """
    with database.connection.cursor() as cursor:
        # Once a slice, and of a slice's cost the ORM would be a tenth.
        cursor.execute(
            f"SELECT id, start, sequence, snapshot FROM {CURSOR} WHERE declaration_id = %s AND replica_id = %s",
            [declaration, replica_id],
        )
        pk, known_start, known_seq, known_snapshot = cursor.fetchone() or (None, "", 0, 0)
        if known_start == start:
            if from_seq > known_seq:
                return False
            to_seq = max(to_seq, known_seq)
            snapshot = max(snapshot, known_snapshot)
        elif from_seq > 0 and continues != (known_start, known_seq):
            return False
        now = None if finished else timezone.now()
        snapshot = 0 if finished else snapshot
        if pk is not None and known_start == start:
            cursor.execute(
                f"UPDATE {CURSOR} SET sequence = %s, snapshot = %s, unfinished_since = %s WHERE id = %s",
                [to_seq, snapshot, now and database.connection.ops.adapt_datetimefield_value(now), pk],
            )
            return True
    values = {"start": start, "sequence": to_seq, "snapshot": snapshot, "unfinished_since": now}
    if pk is not None:
        # Another start may be another history: its claim need not cover what the start before has sent.
        PullCursor.objects.using(database.alias).filter(pk=pk).update(
            **values, broken_since=Coalesce("broken_since", "unfinished_since")
        )
    else:
        PullCursor.objects.using(database.alias).create(declaration_id=declaration, replica_id=replica_id, **values)
    return True
