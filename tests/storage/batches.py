"""Batches of changes as a peer would send them, and forged ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2p_replication.protocol.changes import ChangedRow, pack_rows, unpack_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage.changes import read_changes
from tests.storage.conftest import StorageReplica


def batch_of(sender: StorageReplica, label: str, **changed: Any) -> Changes:
    """Everything a replica has of a model, as one batch; ``changed`` replaces fields of the message."""
    batch = read_changes(sender.database, sender.stream(label), sender.declarations[label], {}, after=0)
    message = {
        "model": label, "serial": 1, "round": 1, "start": batch.start, "from_seq": 0, "to_seq": batch.to_seq,
        "continues": None, "push_from": 0, "claim": batch.vector, "remaining": 0, "rows": batch.rows,
    }  # fmt: skip
    return Changes(**{**message, **changed})


def edited(changes: Changes, edit: Callable[[ChangedRow], ChangedRow]) -> Changes:
    """The batch with every row passed through ``edit``."""
    rows = [edit(row) for row in unpack_rows(changes.rows)]
    fields = dict.fromkeys(name for row in rows for name in row.state.values)
    return Changes(**{**{f: getattr(changes, f) for f in changes.__struct_fields__},
                      "rows": pack_rows(list(fields), rows)})  # fmt: skip


def with_values(row: ChangedRow, **values: Any) -> ChangedRow:
    state = row.state
    return row._replace(
        state=RowState(state.inserted, state.deleted, state.clock, {**state.values, **values}, state.field_clocks)
    )
