"""What a replica's database holds, on plain dicts: tables, the change log, the ledger, vectors and cursors."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from p2p_replication.protocol.row_state import RowState, Value
from p2p_replication.protocol.version_vector import Vector
from tests.simulation.oracle import Written


class Status(Enum):
    PRESENT = "in the table"
    DELETED = "deleted"
    PARKED = "parked"


@dataclass
class Entry:
    """A ledger entry. The values of a row that is present lie in the table, as the application left them."""

    state: RowState
    dots: dict[str, int] = field(default_factory=dict)
    born: tuple[str, int] | None = None
    seq: int = 0
    own_counter: int = 0
    status: Status = Status.PRESENT


@dataclass(frozen=True)
class LogEntry:
    """What a trigger appends: what was done to a row, not its values."""

    label: str
    key: str
    operation: str
    fields: tuple[str, ...]
    #: Milliseconds since the epoch, by this replica's clock.
    wall: int


@dataclass
class Stream:
    """One model: its table and its ledger."""

    table: dict[str, dict[str, Value]] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    own_vector: Vector = field(default_factory=dict)


@dataclass
class Cursor:
    """How far a peer's ledger is read, and whether to its end.

    ``unfinished_since``: when it was moved last by a pull that has not come to its end, None if its rows are adopted.
    ``broken_since``: since when such a pull can't come to its end any more, as its sender has another start by now.
    """

    start: str
    sequence: int
    #: Of an unfinished pull: the last number the sender had given when its last batch was read.
    snapshot: int = 0
    is_finished: bool = True
    unfinished_since: float | None = None
    broken_since: float | None = None


@dataclass
class Declaration:
    """A model in a pool."""

    taken: Vector = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)


@dataclass
class Content:
    """All that the database holds."""

    streams: dict[str, Stream]
    declarations: dict[tuple[str, str], Declaration]
    log: list[LogEntry] = field(default_factory=list)
    sequence: int = 0
    #: ``(origin, first sequence)`` of each start in this database's history.
    starts: list[tuple[str, int]] = field(default_factory=list)
    #: What the application has written in this history, for the oracle.
    written: list[Written] = field(default_factory=list)
