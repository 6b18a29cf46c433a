"""``pull.modifier`` and ``push.modifier``: a project's functions that change or refuse rows on their way.

Whatever they do, replicas converge: a value that a modifier has changed is a little older than the original, so that
the original wins wherever the two meet; what was refused or left out is told to nobody as something this replica has
(a part with a modifier does not relay).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from django.utils import timezone

from p2p_replication.exceptions import ModifierFailed
from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows, unpack_rows
from p2p_replication.protocol.clock import ADOPTED
from p2p_replication.protocol.messages import Changes, Rows
from p2p_replication.protocol.row_state import RowState, same_value
from p2p_replication.storage.row_values import python_row, wire_values
from p2p_replication.storage.table import ModelTable

Modify = Callable[[dict[str, Any]], Mapping[str, Any] | None]


@dataclass
class Refusals:
    """Rows that a modifier has refused since somebody last asked: how many, and the last one."""

    count: int = 0
    key: str = ""
    peer: str = ""
    at: datetime.datetime | None = None

    def add(self, key: str, peer: str) -> None:
        self.count += 1
        self.key, self.peer, self.at = key[:200], peer, timezone.now()


@dataclass
class Modifier:
    """One direction's modifier.

    Args:
        option: ``pull.modifier`` or ``push.modifier``.
    """

    option: str
    function: Modify
    refused: Refusals = field(default_factory=Refusals)

    def take_refused(self) -> Refusals:
        """Return what was refused since the last call."""
        refused, self.refused = self.refused, Refusals()
        return refused

    def changes(self, table: ModelTable, changes: Changes, peer: str) -> Changes:
        """Return a batch that came from a peer as it is to be applied."""
        rows, _ = self._rows(table, changes.rows, peer)
        return msgspec.structs.replace(changes, rows=rows)

    def read(self, table: ModelTable, batch: ReadBatch, peer: str) -> ReadBatch:
        """Return a batch that was read for a peer's pull as it is to be sent."""
        rows, count = self._rows(table, batch.rows, peer)
        return replace(batch, rows=rows, count=count)

    def push(self, table: ModelTable, batch: PushBatch, peer: str) -> PushBatch:
        """Return own changes as they are to be pushed."""
        if batch.rows is None:
            return batch
        rows, count = self._rows(table, batch.rows, peer)
        return replace(batch, rows=rows, count=count)

    def _rows(self, table: ModelTable, rows: Rows, peer: str) -> tuple[Rows, int]:
        kept = []
        for row in unpack_rows(rows):
            if (changed := self._row(table, row)) is not None:
                kept.append(changed)
            else:
                self.refused.add(_shown(row), peer)
        return pack_rows(_names(kept), kept), len(kept)

    def _row(self, table: ModelTable, row: ChangedRow) -> ChangedRow | None:
        if not row.state.alive:
            return row  # There is nothing to look at: deletes always pass.
        try:
            before = python_row(table, table.key_from_wire(row.key), row.state.values)
            after = self.function(dict(before))
            if after is None:
                return None
            values = wire_values(table, before, after, row.state.values)
        except Exception as error:
            raise ModifierFailed(
                f"{self.option} failed for the row {_shown(row)} of {table.label}: {type(error).__name__}: {error}",
                table.label,
            ) from error
        return row._replace(state=self._state(row.state, values))

    def _state(self, state: RowState, values: Mapping[str, Any]) -> RowState:
        fields: dict[str, tuple[int, Any]] = {}
        for name, value in values.items():
            if name not in state.values:
                fields[name] = (state.inserted, value)
                continue
            clock = state.clock_of(name)
            if same_value(value, state.values[name]):
                fields[name] = (clock, value)
            elif clock - 1 > max(state.deleted, ADOPTED - 1):
                fields[name] = (clock - 1, value)
            elif self.option == "pull.modifier":
                fields[name] = (clock, value)
            # Else the field is left out: with the clock of the original it could replace it.
        return RowState.of(state.inserted, state.deleted, fields)


def _names(rows: Iterable[ChangedRow]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.state.values))


def _shown(row: ChangedRow) -> str:
    return row.key.hex() if isinstance(row.key, bytes) else str(row.key)
