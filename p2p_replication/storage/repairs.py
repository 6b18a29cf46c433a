"""Repairs of relations: a row was deleted somewhere while elsewhere another one came to refer to it (DESIGN 9).

``on_delete`` decides, as if the delete had been made here: the referring rows are deleted, or refer to something else,
or the deleted row comes back, with all that it refers to. Each is a new local change, which replicates as any other;
two replicas that make it at once come to the same. A repair that would change nothing, or point at a deleted row, is
none: then the referring row is parked, in no table on any replica.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from django.db import OperationalError, models

from p2p_replication.models.ledger import EntryStatus, LedgerEntry, Operation
from p2p_replication.protocol.clock import next_clock
from p2p_replication.protocol.conflicts import overwrite
from p2p_replication.protocol.row_state import RowState, same_value
from p2p_replication.storage.applier import REFUSALS, is_busy, settle_entry, take_rows
from p2p_replication.storage.ledger import load_entries, save_entries
from p2p_replication.storage.on_delete import Answer, Rule, ask
from p2p_replication.storage.parking import MISSING_PARENT, forget_parked
from p2p_replication.storage.posting import LogEntry, give_dots, post_entries, post_keys
from p2p_replication.storage.referrers import Row, key_at, parents_of, refers_to_key
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.taking_out import CannotLeave, take_out
from p2p_replication.storage.unlogged import unlogged
from p2p_replication.storage.versions import is_ahead, state_of, store_state
from p2p_replication.storage.wanted_delete import WantedDelete

#: Rounds of repairs, each of which may make others possible.
ROUNDS = 20


def due_repairs(database: ReplicaDatabase, labels: Collection[str]) -> list[Row]:
    """Return the rows of these models that a repair would change something for. Writes nothing."""
    return [*_dead_in_tables(database, labels), *_orphans(database, labels)]


def repair(database: ReplicaDatabase, labels: Collection[str]) -> int:
    """Make all repairs that are due in these models; return how many rows they were about.

    To be called when everything that the peers have is here: what they deleted together comes one model after another.
    """
    repaired = 0
    for _ in range(ROUNDS):
        before = repaired
        for row in _dead_in_tables(database, labels):
            repaired += _attempt(database, _carry_out_delete, row)
        for row in _orphans(database, labels):
            repaired += _attempt(database, _mend_orphan, row)
        if repaired == before:
            break
    return repaired


def _attempt(database: ReplicaDatabase, mend: Any, row: Row) -> int:
    try:
        with database.writing():
            return int(mend(database, row))
    except CannotLeave:
        return 0
    except (*REFUSALS, OperationalError) as error:
        if isinstance(error, OperationalError) and not is_busy(database, error):
            raise
        return 0


def _parked(database: ReplicaDatabase, labels: Collection[str]) -> Iterator[tuple[StreamStore, list[str]]]:
    for label in sorted(database.streams.keys() & set(labels)):
        stream = database.streams[label]
        parked = LedgerEntry.objects.using(database.alias).filter(status=EntryStatus.PARKED, stream=stream.id)
        if keys := list(parked.order_by("pk").values_list("key", flat=True)):
            yield stream, keys


# Deletes that wait for rows that refer to them


def _dead_in_tables(database: ReplicaDatabase, labels: Collection[str]) -> list[Row]:
    """Return the deleted rows that rows here keep in their table, if something can be done about it."""
    found = []
    for stream, keys in _parked(database, labels):
        for key, entry in load_entries(database.connection, stream.id, keys).items():
            if entry.alive or is_ahead(stream, entry):
                continue
            if not (wanted := WantedDelete(database, Row(stream.id, key))).is_blocked:
                found += [wanted.row] if wanted.referrers_replicate_in(labels) else []
    return found


def _carry_out_delete(database: ReplicaDatabase, row: Row) -> bool:
    """Delete a row with Django's rules, or bring it back; return whether that changed anything."""
    stream = database.by_number[row.stream]
    entries, _ = take_rows(database, stream, [row.key])
    entry = entries[row.key]
    if entry.status != EntryStatus.PARKED or entry.alive or is_ahead(stream, entry):
        return False
    wanted = WantedDelete(database, row, locking=True)
    if wanted.is_blocked:
        return False
    if wanted.is_protected:
        revived = wanted.to_revive()
        _revive(database, revived)
        return bool(revived)
    take_out(database, dict.fromkeys(wanted.leaving, (MISSING_PARENT, f"{stream.label} {row.key}")))
    for update in wanted.updates:
        update.carry_out()
    for number, keys in _by_stream(wanted.updated):
        post_keys(database, database.by_number[number], keys)
    going = wanted.leaves_first(database.budget.rows())
    for one in going:
        child = database.by_number[one.stream]
        if one in wanted.dead:
            child.relations.delete_links([one.key])
            with unlogged(database):
                child.table.delete([one.key])
        else:
            child.table.delete([one.key])
    for number, keys in _by_stream(going):
        child = database.by_number[number]
        post_keys(database, child, keys)
        buried = [key for key in keys if Row(number, key) in wanted.dead]
        entries = load_entries(database.connection, number, buried)
        for entry in entries.values():
            settle_entry(child, entry, state_of(child, entry, None))
        save_entries(database.connection, number, entries.values())
        forget_parked(database, child, buried)
    return True


def _revive(database: ReplicaDatabase, rows: Collection[Row]) -> None:
    """Begin new lives of deleted rows that are in their tables still, all in one step."""
    for number, keys in _by_stream(rows):
        post_entries(database, [_written(database, Row(number, key), Operation.INSERT) for key in keys])


def _written(database: ReplicaDatabase, row: Row, operation: Operation) -> LogEntry:
    """Return what a trigger would have logged."""
    layout = database.by_number[row.stream].full_layout
    return LogEntry(0, row.stream, layout, row.key, operation, 0, 0, database.now_ms())


# Rows whose parents were deleted


def _orphans(database: ReplicaDatabase, labels: Collection[str]) -> list[Row]:
    """Return the parked rows that refer to deleted ones, if something can be done about it."""
    found = []
    for stream, keys in _parked(database, labels):
        for key, entry in load_entries(database.connection, stream.id, keys).items():
            if entry.alive and not is_ahead(stream, entry):
                answers = _answers(database, stream, state_of(stream, entry, None), labels)
                if any(answer.rule in (Rule.DELETE, Rule.SET) for _, answer in answers):
                    found.append(Row(stream.id, key))
    return found


def _answers(
    database: ReplicaDatabase, stream: StreamStore, state: RowState, labels: Collection[str] | None = None
) -> list[tuple[str, Answer]]:
    """Return what is to become of each foreign key whose row was deleted, as far as it can be said."""
    answers = []
    for name, *_ in stream.relations.parents:
        if name not in stream.table.codecs:
            continue  # The end of a link, which goes with it.
        parents = list(parents_of(database, stream, "", {name: state.values.get(name)}))
        if not parents or not _is_dead(database, parents[0], labels):
            continue
        field = stream.table.options.model._meta.get_field(name)
        assert isinstance(field, models.ForeignKey)
        answer = ask(field, database.alias)
        if answer.rule is Rule.SET:
            value = _wire_key(database, stream, name, answer.value)
            if value is None and answer.value is not None and name in stream.table.references.by_key:
                continue  # A local number that is none.
            target = list(parents_of(database, stream, "", {name: value}))
            is_gone = bool(target) and not _is_there(database, target[0])
            if is_gone or same_value(value, state.values.get(name)) or (value is None and not field.null):
                continue
            answer = Answer(Rule.SET, value)
        answers.append((name, answer))
    return answers


def _is_dead(database: ReplicaDatabase, row: Row, labels: Collection[str] | None) -> bool:
    stream = database.by_number[row.stream]
    entry = load_entries(database.connection, row.stream, [row.key]).get(row.key)
    is_dead = entry is not None and not entry.alive and not is_ahead(stream, entry)
    return is_dead and (labels is None or stream.label in labels)


def _is_there(database: ReplicaDatabase, row: Row) -> bool:
    entry = load_entries(database.connection, row.stream, [row.key]).get(row.key)
    return entry is not None and entry.alive


def _wire_key(database: ReplicaDatabase, stream: StreamStore, name: str, value: Any) -> Any:
    """Return a foreign key's Python value as it travels."""
    if value is None or not refers_to_key(stream.table, name):
        return None
    field = stream.table.options.model._meta.get_field(name)
    assert isinstance(field, models.ForeignKey)
    parent = database.streams[stream.table.parents[name]._meta.label]
    key = key_at(parent, field, value)
    return parent.table.key_to_wire(key) if key is not None else None


def _mend_orphan(database: ReplicaDatabase, row: Row) -> bool:
    stream = database.by_number[row.stream]
    entries, present = take_rows(database, stream, [row.key])
    entry = entries[row.key]
    if entry.status != EntryStatus.PARKED or not entry.alive or is_ahead(stream, entry):
        return False
    state = state_of(stream, entry, None)
    answers = [(name, answer) for name, answer in _answers(database, stream, state)]
    if any(answer.rule in (Rule.PROTECT, Rule.RESTRICT) for _, answer in answers):
        return False  # Who still has the deleted row brings it back.
    if any(answer.rule is Rule.DELETE for _, answer in answers):
        if row.key in present:
            take_out(database, {row: (MISSING_PARENT, "")})
        post_entries(database, [_written(database, row, Operation.DELETE)])
        return True
    changes = {name: answer.value for name, answer in answers if answer.rule is Rule.SET}
    if not changes:
        return False
    clock = next_clock(database.now_ms(), database.mark, entry.latest())
    fields = {**state.fields(), **{name: (clock, value) for name, value in changes.items()}}
    clocks, past = {name: state.clock_of(name) for name in state.values}, dict(state.past)
    for name in changes:
        overwrite(clocks, past, name, clock)
    store_state(stream, entry, RowState.of(entry.inserted, entry.deleted, fields, past), EntryStatus.PARKED)
    give_dots(database, stream, [entry])
    save_entries(database.connection, stream.id, [entry])
    database.note_changed([stream.label])
    return True


def _by_stream(rows: Collection[Row]) -> Iterator[tuple[int, list[str]]]:
    by_stream: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        by_stream[row.stream].append(row.key)
    yield from by_stream.items()
