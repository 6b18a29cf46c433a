"""The oracle of the state machine: what every row's state must be by DESIGN 3, kept in plain Python.

It shares no code with the replication. Of a replica's ledger it reads the clocks that posting gave, checks them
against the writes that it saw itself, and from there on works out every state by its own join.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

NEVER = -1
LOW_BITS = 16
#: Milliseconds between two readings of one clock that round differently.
ROUNDING = 2
#: How far the clocks of writes may run ahead of the wall clock, as each is above the row's.
CHAIN = 100 << LOW_BITS

#: ``{field: wire value}``
Row = Mapping[str, Any]


class State(NamedTuple):
    inserted: int = NEVER
    deleted: int = NEVER
    #: ``{field: (clock, value)}``
    fields: Mapping[str, tuple[int, Any]] = {}

    @property
    def alive(self) -> bool:
        return self.inserted > self.deleted

    def latest(self) -> int:
        return max(self.inserted, self.deleted, *(clock for clock, _ in self.fields.values()), NEVER)


NOTHING = State()


def join(a: State, b: State) -> State:
    """The later of everything; what was written at or before the delete is gone."""
    inserted, deleted = max(a.inserted, b.inserted), max(a.deleted, b.deleted)
    fields = {}
    for name in {*a.fields, *b.fields}:
        clock, value = max((s.fields[name] for s in (a, b) if name in s.fields), key=_order)
        if clock > deleted:
            fields[name] = (clock, value)
    return State(inserted, deleted, fields)


def _order(item: tuple[int, Any]) -> tuple[int, bytes]:
    return item[0], msgspec.msgpack.encode(item[1])


@dataclass(frozen=True)
class Event:
    """What one statement did to one row.

    ``kind``: ``insert``, ``delete``, ``edit``; ``replace``: every field was written, it may be with what was there;
    ``evict``: another row's write took it out; ``adopt``: it appeared, or was edited, while nobody looked.
    """

    kind: str
    #: The replica's clock before and after, in milliseconds.
    since: int
    until: int
    fields: frozenset[str] = frozenset()


@dataclass
class Posted:
    """What posting made of a row."""

    key: Any
    state: State
    dots: Mapping[str, int]
    #: The row in the table, as it was then.
    row: Row | None
    #: More of the row waits in the log.
    is_part: bool = False


@dataclass
class Replica:
    """What one replica must hold, and what it has not posted yet: ``{(model, key): ...}``."""

    states: dict[Any, State] = field(default_factory=dict)
    waiting: dict[Any, list[Event]] = field(default_factory=dict)
    #: Keys whose state is not in the table.
    parked: set[Any] = field(default_factory=set)
    #: Keys of which a part is posted.
    partly: set[Any] = field(default_factory=set)
    vectors: dict[str, dict[str, int]] = field(default_factory=dict)


class Oracle:
    """All replicas, and the state that each dot names."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        #: ``{(model, origin): {counter: (key, state)}}``
        self.dots: dict[tuple[str, str], dict[int, tuple[Any, State]]] = {}

    def saved(self, alias: str) -> Replica:
        return copy.deepcopy(self.replicas[alias])

    def write(self, alias: str, model: str, key: Any, event: Event) -> None:
        self.replicas[alias].waiting.setdefault((model, key), []).append(event)

    def posted(self, alias: str, model: str, start: str, posted: Posted) -> None:
        """Check what posting made of the writes that waited."""
        replica, at = self.replicas[alias], (model, posted.key)
        if posted.is_part:
            replica.partly.add(at)
            return  # Nobody is sent it before the rest is posted; then the whole must be right.
        replica.partly.discard(at)
        before = replica.states.get(at, NOTHING)
        events = replica.waiting.pop(at, [])
        where = f"{alias} {at}: {before} and {events} became {posted.state} over {posted.row}"
        assert join(before, posted.state) == posted.state, f"something was taken back: {where}"
        check_posted(before, events, posted.state, posted.row, at in replica.parked, where)
        if posted.state != before:
            assert set(posted.dots) == {start}, f"{where}, with the dots {posted.dots}"
            self.name(model, posted.key, posted.state, posted.dots, is_new=True)
            replica.states[at] = posted.state

    def name(self, model: str, key: Any, state: State, dots: Mapping[str, int], *, is_new: bool = False) -> None:
        """Remember which state a dot names; a row that has it must hold that state, or more."""
        for origin, counter in dots.items():
            named = self.dots.setdefault((model, origin), {})
            if is_new:
                assert counter not in named, f"{origin}:{counter} is given twice: {named[counter]} and {key} {state}"
                assert counter > max(named, default=0), f"{origin}:{counter} comes after {max(named)}"
            known = named.setdefault(counter, (key, state))
            assert known[0] == key, f"{origin}:{counter} names the rows {known[0]} and {key}"
            assert join(state, known[1]) == state, f"{key} has {origin}:{counter}, which is {known[1]}, and is {state}"

    def arrived(self, alias: str, model: str, rows: Iterable[tuple[Any, State]]) -> None:
        states = self.replicas[alias].states
        for key, state in rows:
            states[model, key] = join(states.get((model, key), NOTHING), state)

    def check_sent(self, alias: str, model: str, rows: Iterable[tuple[Any, State]]) -> None:
        """A replica sends what it holds, and nothing that waits to be posted."""
        replica = self.replicas[alias]
        for key, state in rows:
            assert (model, key) not in replica.waiting, f"{alias} sends {key}, which has writes that are not posted"
            assert state == replica.states.get((model, key)), f"{alias} sends {key} as {state}"

    def check_vector(self, alias: str, model: str, vector: Mapping[str, int]) -> None:
        """It never goes back, and covers nothing that the replica has not."""
        replica = self.replicas[alias]
        for origin, counter in replica.vectors.get(model, {}).items():
            assert vector.get(origin, 0) >= counter, f"{alias}'s vector of {model} went back: {origin}:{counter}"
        replica.vectors[model] = dict(vector)
        for origin, reached in vector.items():
            for counter, (key, state) in self.dots.get((model, origin), {}).items():
                mine = replica.states.get((model, key), NOTHING)
                assert counter > reached or join(mine, state) == mine, (
                    f"{alias} claims to have {origin}:{counter} of {model}: {key} {state}, but has {mine}"
                )


def check_posted(
    before: State, events: Sequence[Event], after: State, row: Row | None, was_parked: bool, where: str
) -> None:
    """Check a row's new state against the writes that it came from."""
    alive, born, ended, sure, maybe = _played(before, events)
    latest = before.latest()

    def is_new(clock: int) -> bool:
        return clock > latest

    if not alive:
        assert not after.alive or row is None, where
        if before.alive:
            assert after.deleted > max(latest, after.inserted) and not after.fields, f"no delete: {where}"
            assert after.inserted == before.inserted or is_new(after.inserted), where
        elif after != before:
            assert events and after.deleted > after.inserted > latest and not after.fields, where
        return
    assert after.alive, f"dead: {where}"
    if born is None and not (ended and after.inserted != before.inserted):
        assert (after.inserted, after.deleted) == (before.inserted, before.deleted), f"another life: {where}"
        assert set(after.fields) >= set(before.fields), f"lost fields: {where}"
        for name, item in after.fields.items():
            if item != before.fields.get(name):
                filled = name not in before.fields and item[0] == after.inserted
                assert is_new(item[0]) or filled, f"{name} has no new clock: {where}"
                assert name in sure or name in maybe, f"nobody wrote {name}: {where}"
            else:
                assert name not in sure, f"{name} was written: {where}"
    else:
        adopted = before == NOTHING and any(event.kind == "adopt" for event in events) and after.inserted == 0
        assert is_new(after.inserted) or adopted, f"no new life: {where}"
        assert after.inserted > after.deleted, where
        ended_at = max([before.deleted, *(clock for clock, _ in before.fields.values())])
        assert is_new(after.deleted) or (after.deleted == ended_at and not before.alive), where
        assert row is not None and set(after.fields) == set(row), f"not the whole row: {where}"
        for name, (clock, _) in after.fields.items():
            assert clock >= after.inserted, f"{name} is older than the row: {where}"
            assert clock == after.inserted or name in sure or name in maybe or ended, f"nobody wrote {name}: {where}"
            if name in sure and not adopted:
                # One clock for what is written in one millisecond and posted together.
                at_once = after.inserted >> LOW_BITS >= events[sure[name]].since - ROUNDING
                assert clock > after.inserted or at_once, f"{name} was written: {where}"
    _check_values(before, after, row, was_parked, where)
    _check_clocks(events, sure, latest, after, where)


def _played(before: State, events: Sequence[Event]) -> tuple[bool, int | None, bool, dict[str, int], set[str]]:
    """Play the events: is the row alive, born by which one, perhaps ended in between; fields surely and maybe written.

    A row that was evicted and came again may count as one that was replaced.
    """
    alive, born, ended = before.alive, None, False
    sure: dict[str, int] = {}
    maybe: set[str] = set()
    for i, event in enumerate(events):
        if event.kind in ("delete", "evict"):
            if alive:
                ended = event.kind == "evict"
                alive, born, sure, maybe = False, None, {}, set()
        elif not alive:
            alive = True
            if ended:
                maybe |= event.fields
            else:
                born, sure, maybe = i, {}, set(event.fields)
        elif event.kind == "replace":
            maybe |= event.fields
        else:
            sure.update(dict.fromkeys(event.fields, i))
    return alive, born, ended, sure, maybe


def _check_values(before: State, after: State, row: Row | None, was_parked: bool, where: str) -> None:
    for name, (clock, value) in after.fields.items():
        if (clock, value) == before.fields.get(name) and (was_parked or row is None or name not in row):
            continue
        assert row is not None and value == row[name], f"{name} differs from the table, and has no new clock: {where}"


def _check_clocks(events: Sequence[Event], sure: Mapping[str, int], latest: int, after: State, where: str) -> None:
    """Clocks are in the order of the writes, and tell their time."""
    for name, i in sure.items():
        clock = after.fields[name][0]
        event = events[i]
        is_in_time = event.since - ROUNDING <= clock >> LOW_BITS <= event.until + ROUNDING
        is_adopted = clock == after.inserted and any(event.kind == "adopt" for event in events)
        assert is_in_time or latest < clock <= latest + CHAIN or is_adopted, f"{name}'s clock is off: {where}"
        for other, j in sure.items():
            if i < j and "adopt" not in (event.kind, events[j].kind):
                assert clock <= after.fields[other][0], f"{name} was written before {other}: {where}"
