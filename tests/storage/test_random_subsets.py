"""Random histories in which rows move in and out of the filters of two pools, on real databases.

In the end the members of each pool hold equal rows in its filter, and nothing has left that never matched.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from p2p_replication.models import EntryStatus
from p2p_replication.protocol.merge import join
from p2p_replication.protocol.row_filter import RowFilter
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.verification import Outcome, compare
from p2p_replication.storage.ledger import load_entries
from p2p_replication.storage.subsets import Share
from p2p_replication.storage.versions import state_of
from tests.replicas import TestReplica
from tests.seeds import seeded
from tests.storage.filtered_replica import FilteredReplica, exchange
from tests.storage.test_posting import SmallBudget
from tests.testapp.models import Note

LABEL = "testapp.Note"
#: Who is in which pool, and its filter.
LAYOUTS: list[dict[str, tuple[str, dict[str, Any] | None]]] = [
    {"first": ("abc", {"stars__gte": 3})},
    {"first": ("ab", {"stars__gte": 3}), "second": ("bc", {"body": "y"})},
    {"first": ("abc", {"stars__gte": 3}), "second": ("abc", {"stars": 2})},
    {"first": ("abc", {"stars__gte": 3}), "second": ("ac", None)},
    {"first": ("ab", {"stars__gte": 3, "body__in": ["x", "y"]}), "second": ("bc", None)},
    {"first": ("abc", {"stars__gte": 3}), "second": ("abc", {"stars__gte": 3})},
]


@pytest.fixture
def replica_class() -> type[TestReplica]:
    return FilteredReplica


class History:
    """Three replicas, their pools, and which rows were ever in which filter."""

    def __init__(self, seed: int, replicas: list[FilteredReplica]) -> None:
        self.r = random.Random(seed)
        self.replicas = replicas
        self.pools: dict[str, list[FilteredReplica]] = {}
        self.filters: dict[str, RowFilter | None] = {}
        self.ever: dict[str, set[Any]] = defaultdict(set)
        for topic, (names, where) in LAYOUTS[seed % len(LAYOUTS)].items():
            self.pools[topic] = [one for one in replicas if one.alias in names]
            for one in self.pools[topic]:
                one.declare(topic, LABEL, where)
            self.filters[topic] = self.pools[topic][0].members[topic, LABEL].subset.filter

    def write(self, one: FilteredReplica) -> None:
        r, notes = self.r, Note.objects.using(one.alias)
        key = r.choice(list(notes.order_by("title").values_list("pk", flat=True)) or [None])
        what = r.randrange(10)
        if what < 2 or key is None:
            title = str(r.random())
            notes.create(title=title, stars=r.randrange(6), body=r.choice("xyz"))
        elif what < 5:
            notes.filter(pk=key).update(stars=r.randrange(6))
        elif what < 7:
            notes.filter(pk=key).update(body=r.choice("xyz"))
        elif what < 8:
            notes.filter(pk=key).update(title=str(r.random()))
        elif what < 9:
            notes.filter(pk=key).update(title=str(r.random()), stars=r.randrange(6), body=r.choice("xyz"))
        else:
            notes.filter(pk=key).delete()
        self.look(one)

    def look(self, one: FilteredReplica) -> None:
        held = states(one).items()
        for topic, row_filter in self.filters.items():
            self.ever[topic] |= {
                key for key, state in held if row_filter is None or (state.alive and row_filter.matches(state.values))
            }

    def step(self) -> None:
        r = self.r
        topic = r.choice(list(self.pools))
        one, other = r.sample(self.pools[topic], 2)
        what = r.random()
        if what < 0.5:
            self.write(r.choice(self.replicas))
        elif what < 0.6:
            one.post()
        elif what < 0.8:
            one.pull_in(topic, LABEL, other, r.choice([0, 1, 3]), r.choice([1, 2, 100]))
        elif what < 0.93:
            changes = one.push_in(topic, LABEL, other)
            if changes is not None:
                for _ in range(r.choice([1, 1, 2])):
                    other.take_in(topic, one, changes)
        elif what < 0.97:
            one.start()
            one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
        else:
            one.retry_parked()
        self.look(one)
        self.look(other)


def states(one: FilteredReplica) -> dict[Any, RowState]:
    """The state of each row as the ledger and the table have it; of rows with waiting writes, the table's values."""
    stream = one.stream(LABEL)
    keys = list({*one.entries(LABEL), *one.keys(LABEL)})
    entries, rows = load_entries(one.database.connection, stream.id, keys), stream.table.read(keys)
    found = {}
    for key in keys:
        wire_key, row = stream.table.key_to_wire(key), rows.get(key)
        if row is not None:
            values = dict(zip(stream.table.names, row, strict=True))
            found[wire_key] = RowState(1, -1, 1, values)
        if key in entries and (row is None or not one.log()):
            found[wire_key] = state_of(stream, entries[key], row)
    return found


def shown(one: FilteredReplica, row_filter: RowFilter | None) -> dict[Any, RowState]:
    """The rows of the table that are in a filter."""
    stream = one.stream(LABEL)
    table = {stream.table.key_to_wire(key) for key in one.keys(LABEL)}
    return {
        key: state
        for key, state in states(one).items()
        if key in table and (row_filter is None or row_filter.matches(state.values))
    }


def shared(one: FilteredReplica, topic: str) -> dict[Any, RowState]:
    """What the pool's peers have been told of rows in it, and deleted ones."""
    stream, subset = one.stream(LABEL), one.members[topic, LABEL].subset
    entries = load_entries(one.database.connection, stream.id, list(one.entries(LABEL)))
    rows, found = stream.table.read(list(entries)), {}
    for key, entry in entries.items():
        state = state_of(stream, entry, rows.get(key))
        share = subset.share(entry.status, entry.subsets, state)
        if share in (Share.WHOLE, Share.DELETION):
            found[stream.table.key_to_wire(key)] = subset.told(share, state)
    return found


def check(history: History) -> None:
    everybody = history.replicas
    for _ in range(3):
        for topic in history.pools:
            exchange(topic, LABEL, *everybody)
    for topic, members in history.pools.items():
        row_filter = history.filters[topic]
        joined: dict[Any, RowState] = {}
        for one in members:
            for key, state in states(one).items():
                joined[key] = join(joined[key], state) if key in joined else state
        wanted = {
            key: state
            for key, state in joined.items()
            if state.alive and (row_filter is None or row_filter.matches(state.values))
        }
        for one in members:
            assert shown(one, row_filter) == wanted, (topic, one.alias)
            assert one.vector_in(topic, LABEL) == members[0].vector_in(topic, LABEL)
            digest = one.digest_in(topic, LABEL)
            assert digest.unsettled == ""
            told = [shared(member, topic) for member in (members[0], one)]
            assert told[0] == told[1], (topic, one.alias)
            assert compare(members[0].digest_in(topic, LABEL), digest).outcome is Outcome.EQUAL
        for row in [row for one in members for row in one.sent.get(topic, [])]:
            assert row.key in history.ever[topic], f"{row.key} left by {topic} and was never in it"
            if row_filter is not None and row.state.alive and not row_filter.matches(row.state.values):
                assert row_filter.is_retraction(row.state)
            elif row_filter is not None and not row.state.alive:
                assert row.state.values.keys() <= row_filter.fields
    assert [one.parked() for one in everybody] == [0] * len(everybody)
    for one in everybody:
        one.start()
        one.sent_rows = 0
    for topic in history.pools:
        exchange(topic, LABEL, *everybody)
    assert [one.sent_rows for one in everybody] == [0] * len(everybody)
    for one in everybody:
        held = set(one.keys(LABEL))
        for key, entry in one.entries(LABEL).items():
            assert (entry.status == EntryStatus.PRESENT) == (key in held)


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(3)
def test_members_of_a_pool_end_equal_and_nothing_outside_leaks(replica, seed):
    history = History(seed, [replica(name) for name in "abc"])
    for _ in range(80):
        history.step()
    check(history)
