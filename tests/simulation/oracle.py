"""What is so, beside what the replicas say: which state each dot named, and every write with its clock.

Storage is checked after each of its commits: no vector covers what is not there, no row lacks what its dots name,
no vector and no row goes back. States are compared here by rules of their own, not by the merge that is on trial.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from p2p_replication.protocol.row_state import RowState, order_of
from p2p_replication.protocol.version_vector import Vector

if TYPE_CHECKING:
    from tests.simulation.storage_model import StorageModel


class SimulationFault(AssertionError):
    """A replica says, or has come to, something that is not so."""


class Written(NamedTuple):
    """A write that the application committed, with the clock it was given."""

    label: str
    key: str
    clock: int
    #: ``insert``, ``update`` or ``delete``
    operation: str
    values: dict[str, object]


@dataclass
class _Seen:
    """What a database held when it was checked last."""

    states: dict[tuple[str, str], RowState] = field(default_factory=dict)
    vectors: dict[tuple[str, str], Vector] = field(default_factory=dict)
    #: Rows with writes in the log that are not posted, and what they must hold then. Until then their ledger entry may
    #: have newer values than its clocks say, and nobody is shown it.
    waiting: dict[tuple[str, str], list[RowState]] = field(default_factory=dict)


class Oracle:
    def __init__(self) -> None:
        #: ``{(label, origin): ([counter, ...], [(key, state), ...])}``, counters rising.
        self._named: dict[tuple[str, str], tuple[list[int], list[tuple[str, RowState]]]] = defaultdict(lambda: ([], []))
        self._seen: dict[str, _Seen] = defaultdict(_Seen)

    def given(self, origin: str, counter: int, label: str, key: str, state: RowState) -> None:
        """Remember which state a new dot names."""
        counters, states = self._named[label, origin]
        if counters and counters[-1] >= counter:
            raise SimulationFault(f"the dot {origin}:{counter} was given after {origin}:{counters[-1]}")
        counters.append(counter)
        states.append((key, state))

    def replaced(self, storage: StorageModel) -> None:
        """A database was put in another's place (a restored backup): it is looked at anew, as a whole."""
        self._seen.pop(storage.name, None)

    def committed(self, storage: StorageModel) -> None:
        """Check what a commit has changed. Raises SimulationFault."""
        seen = self._seen[storage.name]
        for row in storage.take_touched():
            seen.waiting.setdefault(row, [])
        for pool, label in storage.declarations:
            self._look_at_vector(storage, seen, pool, label)
        pending = {(entry.label, entry.key) for entry in storage.content.log}
        for row in [row for row in seen.waiting if row not in pending]:
            self._check_row(storage, seen, *row, seen.waiting.pop(row))

    def _look_at_vector(self, storage: StorageModel, seen: _Seen, pool: str, label: str) -> None:
        """Note what the rows must hold as a vector has risen."""
        vector, before = storage.vector(pool, label), seen.vectors.get((pool, label), {})
        if vector == before:
            return
        for origin, counter in before.items():
            if vector.get(origin, 0) < counter:
                raise SimulationFault(f"{storage.name}: the vector of {label} went back from {before} to {vector}")
        for origin, counter in vector.items():
            counters, states = self._named[label, origin]
            first = bisect_right(counters, before.get(origin, 0))
            for key, state in states[first : bisect_right(counters, counter)]:
                seen.waiting.setdefault((label, key), []).append(state)
        seen.vectors[pool, label] = vector

    def _check_row(self, storage: StorageModel, seen: _Seen, label: str, key: str, covered: list[RowState]) -> None:
        entry = storage.streams[label].entries.get(key)
        for state in covered:
            if entry is None or not includes(entry.state, state):
                raise SimulationFault(
                    f"{storage.name}: its vector covers a state of {label} {key} that is not there: {state}; it has "
                    f"{entry and entry.state}"
                )
        if entry is None:
            return
        before = seen.states.get((label, key))
        if before is not None and not includes(entry.state, before):
            raise SimulationFault(f"{storage.name}: {label} {key} went back from {before} to {entry.state}")
        for origin, counter in entry.dots.items():
            counters, states = self._named[label, origin]
            at = bisect_right(counters, counter) - 1
            if at < 0 or counters[at] != counter or states[at][0] != key:
                raise SimulationFault(f"{storage.name}: {label} {key} has a dot {origin}:{counter} that nobody gave it")
            if not includes(entry.state, states[at][1]):
                raise SimulationFault(
                    f"{storage.name}: {label} {key} lacks what its dot {origin}:{counter} names: it has {entry.state}, "
                    f"not {states[at][1]}"
                )
        seen.states[label, key] = entry.state


def includes(a: RowState, b: RowState) -> bool:
    """Tell whether a state says all that another one says."""
    if a.inserted < b.inserted or a.deleted < b.deleted:
        return False
    mine = a.fields()
    for name, (clock, value) in b.fields().items():
        if clock <= a.deleted:
            continue
        have = mine.get(name)
        if have is None or have[0] < clock or (have[0] == clock and order_of(have[1]) < order_of(value)):
            return False
    return True


def is_kept(state: RowState | None, written: Written) -> bool:
    """Tell whether a row's state has a write, or one that is greater."""
    if state is None:
        return False
    if written.operation == "delete":
        return state.deleted >= written.clock
    if written.operation == "insert" and state.inserted < written.clock:
        return False
    values = {name: (written.clock, value) for name, value in written.values.items()}
    return includes(state, RowState.of(state.inserted, -1, values))  # type: ignore[arg-type]
