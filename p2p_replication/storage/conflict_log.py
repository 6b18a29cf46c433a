"""The conflict log: what a join has lost is kept, and can be written back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from django.db import DEFAULT_DB_ALIAS, DataError, IntegrityError, connections, transaction
from django.utils import timezone

from p2p_replication.exceptions import CannotRestore
from p2p_replication.models.conflict import Conflict, ConflictKind
from p2p_replication.models.pool import Peer
from p2p_replication.models.replica import Replica
from p2p_replication.protocol.clock import ADOPTED, mark_of, writer_of
from p2p_replication.protocol.conflicts import LostEdit, lost_edits
from p2p_replication.protocol.row_state import RowState
from p2p_replication.registry import registry
from p2p_replication.storage.replica_database import StreamStore
from p2p_replication.storage.table import ModelTable

_pack = msgspec.msgpack.Encoder().encode


class ConflictLog:
    """Gathers what the joins of a slice have lost, to be written in the slice's own transaction."""

    def __init__(self, stream: StreamStore) -> None:
        self._alias, self._label = stream.database.alias, stream.label
        self._stream = stream
        self._found: list[Conflict] = []

    def note(self, key: str, sides: Iterable[RowState], joined: RowState) -> None:
        """Note what the sides of a join had, and the result has not."""
        result = joined.fields()
        for side in sides:
            # Of fields that merge nothing is lost.
            lost = [edit for edit in lost_edits(side, joined) if edit.field not in self._stream.merges]
            if not lost:
                continue
            deleted = [edit for edit in lost if edit.is_deleted]
            if deleted:
                self._add(key, ConflictKind.DELETED, deleted, dict(self._stream.shown(side.values)), None)
            for edit in lost:
                if not edit.is_deleted:
                    won = {edit.field: result[edit.field][1]}
                    self._add(key, ConflictKind.OVERWRITTEN, [edit], {edit.field: edit.value}, won)

    def note_ended(self, key: str, row: Mapping[str, Any], fields: set[str], clock: int, deleted: int) -> None:
        """Note edits that the application made under a lock which a peer's delete was waiting for."""
        edits = [LostEdit(name, clock, row[name], deleted, True) for name in fields]
        self._add(key, ConflictKind.DELETED, edits, dict(row), None)

    def _add(
        self, key: str, kind: ConflictKind, edits: list[LostEdit], lost: dict[str, Any], won: dict[str, Any] | None
    ) -> None:
        latest = max(edits, key=lambda edit: edit.clock)
        self._found.append(
            Conflict(
                model=self._label, key=key, kind=kind, fields=sorted(edit.field for edit in edits), lost=_pack(lost),
                won=_pack(won) if won is not None else None, lost_clock=latest.clock, won_clock=latest.won_by,
            )
        )  # fmt: skip

    def write(self) -> None:
        """Write what was noted; what is known already stays as it is."""
        if not self._found:
            return
        writers = _replicas_by_mark(self._alias)
        for conflict in self._found:
            conflict.lost_by = _writer(writers, conflict.lost_clock)
            conflict.won_by = _writer(writers, conflict.won_clock)
        Conflict.objects.using(self._alias).bulk_create(self._found, ignore_conflicts=True, batch_size=500)


def _replicas_by_mark(alias: str) -> dict[int, str]:
    peers = Peer.objects.using(alias).values_list("replica_id", flat=True).distinct()
    own = Replica.objects.using(alias).values_list("replica_id", flat=True)
    return {mark_of(replica_id): replica_id for replica_id in (*peers, *own)}


def _writer(writers: dict[int, str], clock: int) -> str:
    """Return the id of the replica that gave a clock, or its beginning if the replica was never met."""
    if clock == ADOPTED:
        return ""
    mark = writer_of(clock)
    return writers.get(mark, f"{mark:04x}")


def restore(conflict: Conflict) -> None:
    """Write back what a conflict has kept (``Conflict.restore`` says how)."""
    alias = conflict._state.db or DEFAULT_DB_ALIAS
    options = registry.get(conflict.model)
    if options is None:
        raise CannotRestore(f"{conflict.model} does not replicate any more.")
    table = ModelTable(connections[alias], options)
    kept = conflict.lost_row
    values = {name: kept[name] for name in conflict.fields if name in table.codecs}
    try:
        with transaction.atomic(using=alias):
            is_there = bool(table.read([conflict.key]))
            if not is_there and conflict.kind == ConflictKind.OVERWRITTEN:
                raise CannotRestore(
                    f"The row {conflict.key} of {conflict.model} is not in the table: it was deleted, or is parked "
                    "(manage.py p2p parked). Its other values are needed to put it back."
                )
            if not is_there:
                values = {name: kept[name] for name in kept if name in table.codecs}
            rows, awaited = table.references.localized({conflict.key: values}, {})
            if awaited:
                raise IntegrityError(f"what {', '.join(awaited[conflict.key])} refers to is not there")
            if is_there:
                table.update(conflict.key, rows[conflict.key])
            else:
                table.insert([(conflict.key, rows[conflict.key])], table.new_local_keys([conflict.key]))
            conflict.restored_at = timezone.now()
            conflict.save(using=alias, update_fields=["restored_at"])
    except (IntegrityError, DataError) as error:
        conflict.restored_at = None
        raise CannotRestore(
            f"The database refuses the values of {conflict.model} {conflict.key}: {error}. Put right what they need "
            "(the row they refer to, a unique value that is taken), then restore again."
        ) from error
