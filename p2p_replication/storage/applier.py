"""Applying a peer's rows: one transaction a slice, with its cursor and vector in it (DESIGN 4).

A slice that the database refuses is split until the rows at fault are alone; those are parked.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.db import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.changes import ChangedRow, unpack_rows
from p2p_replication.protocol.clock import NEVER, is_too_far_ahead, milliseconds_of
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.version_vector import Vector, covers
from p2p_replication.storage.arrivals import Dots, arrival
from p2p_replication.storage.conflict_log import ConflictLog
from p2p_replication.storage.ledger import Entry, load_entries, save_entries
from p2p_replication.storage.parking import (
    BUSY,
    CLOCK,
    REFUSED,
    end_parking,
    leaving_for,
    leaving_keys,
    note_parked,
)
from p2p_replication.storage.posting import give_dots, post_keys
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.subsets import EVERYTHING, Subset, declared_subsets, unmarked
from p2p_replication.storage.table import Busy, WireRow
from p2p_replication.storage.table_changes import TableChanges
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.vectors import check_own_counter, hold_filter, move_cursor, raise_vector, vector_of
from p2p_replication.storage.versions import state_of, store_state

#: What a database raises for a row that it can't take. Not OperationalError: a locked database or a full disk is no
#: fault of the row.
REFUSALS = (IntegrityError, DataError, InterfaceError, ProgrammingError, OverflowError, ValueError, TypeError)


#: How often rows that the application has locked are tried before they are parked, and the seconds between.
BUSY_TRIES = 10
BUSY_PAUSE = 0.02


@dataclass
class Applied:
    """The outcome of a batch: this replica's vector after it, and whether the claim (or the cursor) was taken."""

    vector: Vector
    taken: bool
    #: Rows whose state changed here.
    changed: int = 0
    parked: dict[str, str] = field(default_factory=dict)
    #: Keys of rows outside of the pool's filter, which were not taken.
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Span:
    """The part of the sender's ledger that a slice covers; the last slice carries the batch's claim."""

    start: int
    end: int
    continues: tuple[str, int] | None
    last: bool


@dataclass
class _Slice:
    """What a slice came to; counted only once it is committed."""

    changed: int = 0
    parked: dict[str, tuple[str, str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    in_order: bool = True


def apply_changes(
    database: ReplicaDatabase,
    stream: StreamStore,
    declaration: int,
    peer: str,
    changes: Changes,
    subset: Subset = EVERYTHING,
    *,
    whole: bool = False,
) -> Applied:
    """Apply a batch of a peer.

    Args:
        whole: raise what the database has against any of the rows, instead of parking those.

    Raises RemoteProtocolError for rows that no correct peer sends, of whose slice nothing is applied then;
    FilterChanged if the declaration is no longer about ``subset``.
    """
    check_own_counter(database, stream, changes.claim or {})
    rows = [(_key(stream, row), row) for row in unpack_rows(changes.rows)]
    _check_merge_states(stream, rows)
    outcome = Applied({}, taken=True)
    with database.arrivals.source(declaration, peer):
        _apply_slices(database, stream, declaration, peer, changes, rows, outcome, subset, whole=whole)
    outcome.vector = vector_of(database, stream, declaration, subset)
    if outcome.changed or changes.claim:
        database.note_changed([stream.label])
    return outcome


def _apply_slices(
    database: ReplicaDatabase,
    stream: StreamStore,
    declaration: int,
    peer: str,
    changes: Changes,
    rows: list[tuple[str, ChangedRow]],
    outcome: Applied,
    subset: Subset,
    *,
    whole: bool,
) -> None:
    position = changes.from_seq
    while rows or position == changes.from_seq:
        count = database.budget.rows()
        piece, rows = rows[:count], rows[count:]
        end = changes.to_seq if not rows else piece[-1][1].seq
        continues = changes.continues if position == changes.from_seq else None
        span = _Span(position, end, continues, last=not rows)
        _apply_splitting(database, stream, declaration, peer, changes, piece, span, outcome, subset, whole=whole)
        position = max(end, position + 1)
        if not rows:
            break


def _key(stream: StreamStore, row: ChangedRow) -> str:
    try:
        key = stream.table.key_from_wire(row.key)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error
    if "\0" in key:
        raise RemoteProtocolError(f"a key of {stream.label} with a NUL: {key!r}")
    return key


def _check_merge_states(stream: StreamStore, rows: Sequence[tuple[str, ChangedRow]]) -> None:
    for name, merge in stream.merges.items():
        for key, row in rows:
            state = row.state.values.get(name)
            if name in row.state.values and not merge.is_state(state):
                raise RemoteProtocolError(
                    f"{state!r} in {stream.label}.{name} of {key} is no state of the merge {merge.name}"
                )


def _apply_splitting(
    database: ReplicaDatabase,
    stream: StreamStore,
    declaration: int,
    peer: str,
    changes: Changes,
    rows: Sequence[tuple[str, ChangedRow]],
    span: _Span,
    outcome: Applied,
    subset: Subset,
    aside: Mapping[str, tuple[str, str]] | None = None,
    patience: int = BUSY_TRIES,
    whole: bool = False,
) -> None:
    """Apply rows in one transaction; if the database refuses them, in two, down to single rows, which are parked.

    Args:
        aside: rows that are parked in any case, and why.
        patience: how often rows that the application has locked are tried again.
        whole: raise instead.
    """
    aside = aside or {}
    while True:
        try:
            began = time.monotonic()
            with database.writing():
                hold_filter(database, stream, declaration, subset)
                done = _apply_slice(database, stream, declaration, rows, subset, aside)
                if changes.round:
                    done.in_order = move_cursor(
                        database, declaration, peer, changes.start, span.start, span.end, span.continues,
                        finished=span.last and changes.claim is not None, snapshot=changes.snapshot,
                    )  # fmt: skip
                if span.last and changes.claim is not None and outcome.taken and done.in_order:
                    done.in_order = _take_claim(database, stream, declaration, changes, subset)
            if not whole:
                database.budget.measured(len(rows), time.monotonic() - began)
            break
        except REFUSALS as error:
            if whole or not rows or (len(rows) == 1 and aside):
                raise
            reason, keys = (REFUSED, str(error) or "error"), frozenset[str]()
        except OperationalError as error:
            if whole or not is_busy(database, error):
                raise
            if patience:
                patience -= 1
                time.sleep(BUSY_PAUSE)
                continue
            if all(key in aside for key, _ in rows):
                raise
            reason, keys = (BUSY, str(error)), getattr(error, "keys", frozenset[str]())
        if keys:
            aside = {**aside, **dict.fromkeys(keys, reason)}
        elif len(rows) == 1:
            aside = {rows[0][0]: reason}
        elif rows:
            middle = len(rows) // 2
            cut = rows[middle - 1][1].seq
            first = replace(span, end=cut, last=False)
            second = replace(span, start=cut, continues=None)
            for half, part in ((rows[:middle], first), (rows[middle:], second)):
                _apply_splitting(database, stream, declaration, peer, changes, half, part, outcome, subset, aside, 0)
            return
    outcome.changed += done.changed
    outcome.refused += done.refused
    outcome.taken = outcome.taken and done.in_order
    outcome.parked.update({key: f"{reason}: {detail}" for key, (reason, detail) in done.parked.items()})


def is_busy(database: ReplicaDatabase, error: BaseException) -> bool:
    """Tell whether an error only means that the application is at the same rows just now."""
    return isinstance(error, Busy) or database.vendor.is_busy(error)


def _take_claim(
    database: ReplicaDatabase, stream: StreamStore, declaration: int, changes: Changes, subset: Subset
) -> bool:
    """Raise the vector to what the batch claims. A push counts only if the vector reaches where it begins."""
    assert changes.claim is not None
    if changes.round == 0:
        vector = vector_of(database, stream, declaration, subset)
        if any(vector.get(origin, 0) < changes.push_from for origin in changes.claim):
            return False
    raise_vector(database, declaration, changes.claim)
    return True


def _apply_slice(
    database: ReplicaDatabase,
    stream: StreamStore,
    declaration: int,
    rows: Sequence[tuple[str, ChangedRow]],
    subset: Subset,
    aside: Mapping[str, tuple[str, str]],
) -> _Slice:
    done = _Slice()
    if not rows:
        return done
    keys = [key for key, _ in rows]
    ledger, table_rows = take_rows(database, stream, keys, aside)
    others = [other for other in declared_subsets(database, stream) if other.digest != subset.digest]
    parked = [key for key, entry in ledger.items() if entry.status == EntryStatus.PARKED]
    leaving = leaving_keys(database, stream, parked)
    plan = TableChanges(stream)
    touched: list[tuple[Entry, RowState]] = []
    amended: list[Entry] = []
    of_own: list[Entry] = []
    hidden: set[str] = set()
    was_parked: list[str] = []
    conflicts = ConflictLog(stream)
    vector: Vector = {}

    def is_covered(entry: Entry) -> bool:
        vector.update(vector or vector_of(database, stream, declaration, subset))
        return covers(vector, {database.origin_id(origin): counter for origin, counter in entry.dots().items()})

    now = database.now_ms()
    for key, row in rows:
        if subset.refuses(row.state):
            done.refused.append(key)
            continue
        entry = ledger.get(key)
        local = state_of(stream, entry, table_rows.get(key)) if entry is not None else None
        found = arrival(entry, local, row.state, subset, others, stream.merges, is_leaving=key in leaving)
        if local is not None and not found.is_same:
            conflicts.note(key, (local, row.state), found.state)
        state = found.state
        dots = {database.origin_number(origin): counter for origin, counter in row.dots.items()}
        born = (database.origin_number(row.born[0]), row.born[1])
        of_earlier_life = False
        if entry is None:
            entry = Entry(key, is_new=True, born_origin=born[0], born_counter=born[1], subsets=subset.bit)
            entry.take_dots(dots)
        else:
            is_marked = not unmarked(subset, [entry])
            entry.subsets |= subset.bit
            # Also if it equals both: the local dots stay.
            if found.dots is Dots.LOCAL and not found.is_news and found.hides == (entry.status == EntryStatus.HIDDEN):
                if found.is_same and not others and entry.dots() != dots and not is_covered(entry):
                    # Of a pool with another filter, whose versions no vector here speaks of: the sender's own is known.
                    entry.take_dots(dots)
                    is_marked = False
                amended += [] if is_marked else [entry]
                continue
            if found.dots is Dots.BOTH:
                for origin, counter in entry.dots().items():
                    dots[origin] = max(counter, dots.get(origin, 0))
            if row.state.inserted > entry.inserted:
                entry.born_origin, entry.born_counter = born
            if found.dots is not Dots.LOCAL:
                entry.take_dots(dots)
            of_earlier_life = state.deleted > (NEVER if entry.status == EntryStatus.PARKED else entry.inserted)
            if entry.status == EntryStatus.PARKED:
                was_parked.append(key)
        touched.append((entry, state))
        if found.dots is Dots.OWN:
            of_own.append(entry)
        if found.hides:
            hidden.add(key)
        if key in aside:
            done.parked[key] = aside[key]
        elif is_too_far_ahead(state.latest(), now, database.max_skew_ms):
            done.parked[key] = (CLOCK, f"{milliseconds_of(state.latest()) - now} ms ahead of this replica's clock")
        elif found.hides:
            plan.hide(key, table_rows.get(key))
        else:
            plan.add(key, state, table_rows.get(key), of_earlier_life=of_earlier_life)
    conflicts.write()
    save_entries(database.connection, stream.id, amended)
    if not touched:
        return done
    done.parked.update(plan.refused())
    done.parked.update({key: leaving_for(done.parked[key]) for key in hidden & done.parked.keys()})
    with unlogged(database):
        plan.write()
        end_parking(database, stream, [key for key in was_parked if key not in done.parked])
    seq = database.take_sequence(len(touched))
    for entry, state in touched:
        entry.seq, seq = seq, seq + 1
        if entry.key in done.parked:
            store_state(stream, entry, state, EntryStatus.PARKED)
        elif entry.key in hidden:
            store_state(stream, entry, state, EntryStatus.HIDDEN)
        else:
            settle_entry(stream, entry, state, plan.awaited.get(entry.key, ()))
    if of_own:
        give_dots(database, stream, of_own)
    save_entries(database.connection, stream.id, [entry for entry, _ in touched])
    if done.parked:
        note_parked(database, stream, done.parked)
    done.changed = len(touched)
    return done


def take_rows(
    database: ReplicaDatabase, stream: StreamStore, keys: Sequence[str], aside: Collection[str] = ()
) -> tuple[dict[str, Entry], dict[str, WireRow]]:
    """Lock rows and post what waits for them; return their entries, and those of the entries' rows that are there.

    Args:
        aside: rows that are not going to be written, and need no lock.

    Raises Busy if somebody else has a row. A row that was not there could not be locked: if it has come since, it
    is somebody's as well.
    """
    table = stream.table
    wanted = [key for key in keys if key not in aside]
    locked = table.lock(wanted)
    post_keys(database, stream, keys)
    entries = load_entries(database.connection, stream.id, keys)
    rows = table.read(list(entries))
    if busy := rows.keys() & (set(wanted) - locked):
        raise Busy(f"the application has not committed its changes of {len(busy)} rows yet", frozenset(busy))
    return entries, rows


def settle_entry(stream: StreamStore, entry: Entry, state: RowState, awaited: Collection[str] = ()) -> None:
    """Write a state that the table now holds (or, of a deleted row, no more) into its entry.

    Args:
        awaited: fields that are null in the table for now (``TableChanges.awaited``).
    """
    store_state(stream, entry, state, EntryStatus.PRESENT if state.alive else EntryStatus.DELETED, awaited)
    if state.alive:
        values = {**stream.shown(state.values), **dict.fromkeys(awaited)}
        entry.digest = stream.digest_of_values(entry.layout, values)
