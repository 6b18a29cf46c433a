"""Rows between the ledger and the wire: one record a row here, columns in ``messages.Rows``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.msgpack import Ext

from p2p_replication.protocol.clock import MAX_CLOCK, NEVER
from p2p_replication.protocol.conflicts import MAX_PAST
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import BYTES, Changes, Rows
from p2p_replication.protocol.row_state import DELETE, RowState

#: The number of what a delete knew of, among the pasts of fields.
DELETE_NUMBER = -1
#: Origins that a vector may name.
MAX_VECTOR = 20_000
#: The largest counter and sequence number: what a database's big integer holds.
MAX_INTEGER = 2**63 - 1


class ChangedRow(NamedTuple):
    """One row's version with its values, as it travels."""

    key: Any
    seq: int
    dots: Mapping[str, int]
    born: tuple[str, int]
    state: RowState


@dataclass(frozen=True)
class ReadBatch:
    """What storage read for a peer from one snapshot.

    ``vector`` is given only if the batch reaches the end of its snapshot.
    """

    start: str
    from_seq: int
    to_seq: int
    rows: Rows
    count: int
    vector: dict[str, int] | None
    #: The asker's cursor that ``from_seq`` continues (one of an earlier start of ours, perhaps).
    continues: tuple[str, int] | None = None
    #: Rows of the snapshot still to come, counted once a pull; None: as before, less these.
    remaining: int | None = None
    #: The last sequence number given in the snapshot.
    snapshot: int = 0
    #: What the sender has beyond what it claims: the peer has been given of it what it gets, and is not told again.
    unclaimed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PushBatch:
    """Own changes above ``push_from``; None rows if they are too many for a push."""

    push_from: int
    push_to: int
    origin: str
    rows: Rows | None
    count: int


def pack_rows(fields: Sequence[str], rows: Sequence[ChangedRow]) -> Rows:
    """Turn rows into columns. ``fields`` must name every field that a row has."""
    numbers = {name: i for i, name in enumerate(fields)}
    origins: dict[str, int] = {}

    def number(origin: str) -> int:
        return origins.setdefault(origin, len(origins))

    packed = Rows([], [], [], [], [], {}, {}, [], {}, {}, {}, list(fields), [[] for _ in fields], {}, [], {})
    pasts: dict[tuple[int, ...], int] = {}
    last_seq = last_clock = 0
    for i, row in enumerate(rows):
        state = row.state
        packed.keys.append(_to_cell(row.key))
        packed.seqs.append(row.seq - last_seq)
        packed.clocks.append(state.clock - last_clock)
        last_seq, last_clock = row.seq, state.clock
        items = iter(row.dots.items())
        dot = next(items)
        packed.dot_origins.append(number(dot[0]))
        packed.dot_counters.append(dot[1])
        if len(row.dots) > 1:
            packed.more_dots[i] = {number(origin): counter for origin, counter in items}
        if row.born != dot:
            packed.born[i] = (number(row.born[0]), row.born[1])
        if state.inserted != state.clock:
            packed.inserted[i] = state.inserted
        if state.deleted != NEVER:
            packed.deleted[i] = state.deleted
        if state.field_clocks:
            packed.field_clocks[i] = {numbers[name]: clock for name, clock in state.field_clocks.items()}
        if state.past:
            packed.past[i] = {
                DELETE_NUMBER if name == DELETE else numbers[name]: pasts.setdefault(past, len(pasts))
                for name, past in state.past.items()
            }
        values = state.values
        if len(values) != len(fields):
            packed.partial[i] = [numbers[name] for name in values]
            for name, column in zip(fields, packed.columns, strict=True):
                column.append(_to_cell(values.get(name)))
        else:
            for name, column in zip(fields, packed.columns, strict=True):
                column.append(_to_cell(values[name]))
    packed.origins.extend(origins)
    packed.pasts.extend(map(list, pasts))
    return packed


def _to_cell(value: Any) -> Any:
    return Ext(BYTES, value) if type(value) is bytes else value


def _from_cells(cells: list[Any]) -> list[Any]:
    return [bytes(cell.data) if type(cell) is Ext else cell for cell in cells]


def unpack_rows(rows: Rows) -> Iterator[ChangedRow]:
    """Turn columns into rows. ``check_rows`` must have passed."""
    seq = clock = 0
    fields, origins = rows.fields, rows.origins
    by_row: Iterable[tuple[Any, ...]] = zip(*map(_from_cells, rows.columns), strict=True)
    if not rows.columns:
        by_row = [()] * len(rows.keys)
    # Most rows have one dot, one clock and all fields.
    odd = set().union(
        rows.more_dots, rows.born, rows.inserted, rows.deleted, rows.field_clocks, rows.partial, rows.past
    )
    lists = zip(_from_cells(rows.keys), rows.seqs, rows.clocks, rows.dot_origins, rows.dot_counters, strict=True)
    for i, ((key, step, tick, origin, counter), cells) in enumerate(zip(lists, by_row, strict=True)):
        seq += step
        clock += tick
        dot = (origins[origin], counter)
        if i in odd:
            yield _unpack_odd(rows, i, key, seq, clock, dot, cells)
        else:
            state = RowState(clock, NEVER, clock, dict(zip(fields, cells, strict=True)))
            yield ChangedRow(key, seq, {dot[0]: counter}, dot, state)


def _unpack_odd(
    rows: Rows, i: int, key: Any, seq: int, clock: int, dot: tuple[str, int], cells: tuple[Any, ...]
) -> ChangedRow:
    """Return the row ``i``, of which ``rows`` has more to say than lies in its lists."""
    fields, origins = rows.fields, rows.origins
    dots = {dot[0]: dot[1]}
    if i in rows.more_dots:
        dots.update((origins[o], counter) for o, counter in rows.more_dots[i].items())
    born = dot
    if i in rows.born:
        born = (origins[rows.born[i][0]], rows.born[i][1])
    if i in rows.partial:
        values = {fields[n]: cells[n] for n in rows.partial[i]}
    else:
        values = dict(zip(fields, cells, strict=True))
    clocks = {fields[n]: c for n, c in rows.field_clocks[i].items()} if i in rows.field_clocks else None
    past = None
    if i in rows.past:
        past = {fields[n] if n >= 0 else DELETE: tuple(rows.pasts[p]) for n, p in rows.past[i].items()}
    inserted, deleted = rows.inserted.get(i, clock), rows.deleted.get(i, NEVER)
    # The clock of a row without fields means nothing.
    own_clock = clock if values else max(inserted, deleted)
    return ChangedRow(key, seq, dots, born, RowState(inserted, deleted, own_clock, values, clocks, past))


def check_rows(rows: Rows) -> None:
    """Raise RemoteProtocolError unless the columns fit together and every number is in range."""
    count = len(rows.keys)
    lists: list[list[Any]] = [rows.seqs, rows.dot_origins, rows.dot_counters, rows.clocks, *rows.columns]
    if any(len(column) != count for column in lists) or len(rows.columns) != len(rows.fields):
        raise RemoteProtocolError("the columns of a batch differ in length")
    if len(set(rows.fields)) != len(rows.fields):
        raise RemoteProtocolError("a field is named twice in a batch")
    origins, fields = len(rows.origins), len(rows.fields)

    def in_range(numbers: Any, end: int) -> bool:
        return all(0 <= n < end for n in numbers)

    fits = (
        in_range(rows.dot_origins, origins)
        and all(in_range(row, count) for row in (rows.more_dots, rows.born, rows.inserted, rows.deleted))
        and all(in_range(row, count) for row in (rows.field_clocks, rows.partial))
        and all(in_range(dots, origins) for dots in rows.more_dots.values())
        and in_range((origin for origin, _ in rows.born.values()), origins)
        and all(in_range(clocks, fields) for clocks in rows.field_clocks.values())
        and all(in_range(numbers, fields) for numbers in rows.partial.values())
    )
    if not fits:
        raise RemoteProtocolError("a batch names a row, field or origin that is not in it")
    if len(set(rows.origins)) != origins or not all(map(is_origin, rows.origins)):
        raise RemoteProtocolError("a batch with a malformed origin, or one that comes twice")
    if any(rows.dot_origins[i] in dots for i, dots in rows.more_dots.items()):
        raise RemoteProtocolError("a row with two dots of one origin")
    if rows.deleted:
        _check_deleted(rows)
    _check_pasts(rows)
    seq = clock = 0
    for step, tick in zip(rows.seqs, rows.clocks, strict=True):
        seq, clock = seq + step, clock + tick
        if step <= 0 or seq > MAX_INTEGER or not 0 <= clock <= MAX_CLOCK:
            raise RemoteProtocolError("a batch has a seq that does not rise, or a clock out of range")
    counters = [*rows.dot_counters, *(counter for _, counter in rows.born.values())]
    counters += [c for dots in rows.more_dots.values() for c in dots.values()]
    clocks = [*rows.inserted.values(), *(c for clocks in rows.field_clocks.values() for c in clocks.values())]
    if not (
        all(1 <= n <= MAX_INTEGER for n in counters)
        and all(0 <= n <= MAX_CLOCK for n in clocks)
        and all(-1 <= n <= MAX_CLOCK for n in rows.deleted.values())
    ):
        raise RemoteProtocolError("a counter or clock out of range")
    keys = _from_cells(rows.keys)
    if not all(type(key) in (str, bytes, int) for key in keys):
        raise RemoteProtocolError("a key that is no text, bytes or integer")
    if len(set(keys)) != count:
        raise RemoteProtocolError("a key comes twice in a batch")
    cells: list[Any] = [*rows.keys, *(cell for column in rows.columns for cell in column)]
    if any(cell.code != BYTES for cell in cells if type(cell) is Ext):
        raise RemoteProtocolError("a value of an unknown kind")


def _check_deleted(rows: Rows) -> None:
    """A field at or below its row's own delete is one that the join had dropped."""
    clock, clocks = 0, []
    for step in rows.clocks:
        clock += step
        clocks.append(clock)
    everything: list[int] = list(range(len(rows.fields)))
    for i, deleted in rows.deleted.items():
        own, present = rows.field_clocks.get(i, {}), rows.partial.get(i, everything)
        if any(own.get(n, clocks[i]) <= deleted for n in present):
            raise RemoteProtocolError("a field that is older than its row's own delete")


def _check_pasts(rows: Rows) -> None:
    """A past names others' clocks, of fields that the row has."""
    if not all(1 <= len(past) <= MAX_PAST and all(0 <= n <= MAX_CLOCK for n in past) for past in rows.pasts):
        raise RemoteProtocolError("a past without clocks, with too many, or with one out of range")
    everything = range(len(rows.fields))
    for i, numbers in rows.past.items():
        present = rows.partial.get(i, everything)
        if not 0 <= i < len(rows.keys) or not all(
            (n == DELETE_NUMBER or n in present) and 0 <= p < len(rows.pasts) for n, p in numbers.items()
        ):
            raise RemoteProtocolError("a batch with the past of a row or field that is not in it")


def check_batch(changes: Changes, peer_start: str) -> None:
    """Raise RemoteProtocolError unless a batch can come from a correct peer at this start."""
    check_rows(changes.rows)
    if changes.claim is not None:
        check_vector(changes.claim)
    if changes.start != peer_start:
        raise RemoteProtocolError("a batch of another start than the HELLO named")
    numbers = (changes.push_from, changes.snapshot)
    if not 0 <= changes.from_seq <= changes.to_seq <= MAX_INTEGER or not all(0 <= n <= MAX_INTEGER for n in numbers):
        raise RemoteProtocolError("a batch with sequence numbers out of range")
    if (
        changes.round < 0
        or changes.serial < 1
        or (changes.continues is not None and not 0 <= changes.continues[1] <= MAX_INTEGER)
    ):
        raise RemoteProtocolError("a batch with a number out of range")
    if changes.round == 0:
        if changes.claim is None or set(changes.claim) != {peer_start}:
            raise RemoteProtocolError("a push that claims something else than its sender's own changes")
        return
    seqs = changes.rows.seqs
    if seqs and not (changes.from_seq < seqs[0] and sum(seqs) <= changes.to_seq):
        raise RemoteProtocolError("a batch with rows outside of the part that it covers")


def is_origin(text: str) -> bool:
    """Tell whether this can be an origin's id. PostgreSQL can't store a NUL in a text."""
    return 1 <= len(text) <= 16 and "\0" not in text


def check_vector(vector: Mapping[str, int]) -> None:
    """Raise RemoteProtocolError unless this can be a version vector."""
    if len(vector) > MAX_VECTOR:
        raise RemoteProtocolError(f"a vector of {len(vector)} origins")
    if not all(map(is_origin, vector)) or not all(0 <= counter <= MAX_INTEGER for counter in vector.values()):
        raise RemoteProtocolError("a vector with an origin or counter out of range")
