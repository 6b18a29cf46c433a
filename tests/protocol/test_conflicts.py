"""What a join has lost is told: all of it, once it is nobody's decision, and nothing that somebody knew of."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from p2p_replication.protocol.clock import MARK_MASK, NEVER, make_clock, next_clock
from p2p_replication.protocol.conflicts import MAX_PAST, begin_life, end_life, knew, lost_edits, overwrite, past_of
from p2p_replication.protocol.merge import join_into
from p2p_replication.protocol.row_state import DELETE, RowState
from tests.protocol.strategies import quick

FIELDS = ("f", "g")
#: A write, by its field and its clock; a delete has no field.
Write = tuple[str, int]
Seen = dict[Write, set[Write]]


@dataclass
class Replica:
    """One row at one replica, and for each write what its writer had seen, kept the long way.

    ``seen`` are the writes that stand behind what a writer overwrote, ``had`` all that had ever reached it.
    """

    mark: int
    state: RowState = field(default_factory=lambda: RowState(NEVER, NEVER, NEVER))
    #: All writes that it has ever had, those included that lost to others here.
    had: set[Write] = field(default_factory=set)

    def write(self, wall: int, name: str, value: object, seen: Seen, had: Seen) -> None:
        state = self.state
        clock = next_clock(wall, self.mark, state.latest())
        fields = state.fields()
        clocks, past = {n: c for n, (c, _) in fields.items()}, dict(state.past)
        inserted, deleted = state.inserted, state.deleted
        known = self.known(seen)
        if name == DELETE:
            if not state.alive:
                return
            end_life(clocks, past, deleted, clock)
            fields, deleted = {}, clock
            seen[DELETE, clock] = known
        elif not state.alive:
            if clocks:
                deleted = max(deleted, *clocks.values())
                end_life(clocks, past, state.deleted, deleted)
                seen[DELETE, deleted] = known
                known = known | {(DELETE, deleted)}
            begin_life(clocks, past, FIELDS, deleted, clock)
            inserted, fields = clock, dict.fromkeys(FIELDS, (clock, value))
            for n in FIELDS:
                seen[n, clock] = known
        else:
            seen[name, clock] = self.known_of(name, seen)
            overwrite(clocks, past, name, clock)
            fields[name] = (clock, value)
        self.state = RowState.of(inserted, deleted, fields, past)
        written = {(n, c) for n, c in [*((n, c) for n, (c, _) in fields.items()), (DELETE, deleted)]} - self.had
        had.update({write: set(self.had) for write in written if write not in had})
        self.had |= written

    def known_of(self, name: str, seen: Seen) -> set[Write]:
        fields = self.state.fields()
        return {(name, fields[name][0])} | seen[name, fields[name][0]] if name in fields else set()

    def known(self, seen: Seen) -> set[Write]:
        """All that is in the row, or that the writers of what is in it had seen."""
        known = set().union(*(self.known_of(name, seen) for name in FIELDS))
        if self.state.deleted != NEVER:
            known |= {(DELETE, self.state.deleted)} | seen[DELETE, self.state.deleted]
        return known

    def receive(self, other: Replica, seen: Seen, had: Seen) -> None:
        local, incoming = self.state, other.state
        joined = join_into(local, incoming).state
        result = joined.fields()
        for side in (local, incoming):
            told = {(edit.field, edit.clock): edit for edit in lost_edits(side, joined)}
            for name, (clock, value) in side.fields().items():
                write = (name, clock)
                winner = (name, result[name][0]) if name in result else (DELETE, joined.deleted)
                if name in result and result[name][1] == value:
                    assert write not in told, "it is not lost"
                elif write in seen[winner]:
                    assert write not in told, "the winner had seen it"
                elif write not in had[winner]:
                    assert told[write] == (name, clock, value, winner[1], winner[0] == DELETE)
        self.had |= other.had
        self.state = joined


steps = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 3), st.sampled_from(("f", "g", DELETE, "receive", "receive")),
        st.integers(0, 4), st.integers(0, 2),
    ),
    max_size=40,
)  # fmt: skip


@quick
@given(steps)
@example([(0, 0, "f", 0, 0), (1, 0, "receive", 0, 0), (1, 0, "f", 1, 1), (0, 1, "receive", 0, 0)])
def test_what_nobody_decided_on_is_told_and_nothing_else(history):
    replicas = [Replica(mark) for mark in (3, 1, 7, MARK_MASK)]
    seen: Seen = {}
    had: Seen = {}
    for i, j, what, wall, value in history:
        if what != "receive":
            replicas[i].write(wall, what, value, seen, had)
        elif i != j:
            replicas[i].receive(replicas[j], seen, had)


def test_a_past_names_the_latest_writes_of_so_many_writers():
    clocks = [make_clock(n, n % 40) for n in range(1, 80)]
    past = past_of(7, clocks)
    assert past == tuple(sorted(clocks[-MAX_PAST:], reverse=True))
    assert all(clock & MARK_MASK != 7 for clock in past_of(7, clocks[:10]))


def test_a_writer_knew_its_own_earlier_writes_and_no_later_ones():
    assert knew(make_clock(5, 1), (), make_clock(4, 1))
    assert not knew(make_clock(5, 1), (), make_clock(6, 1))
    assert not knew(make_clock(5, 1), (), make_clock(4, 2))
    assert knew(make_clock(5, 1), (make_clock(4, 2),), make_clock(3, 2))


def test_the_same_value_written_twice_is_no_loss():
    a, b = (RowState.of(clock, NEVER, {"f": (clock, "same")}) for clock in (make_clock(1, 1), make_clock(2, 2)))
    assert not list(lost_edits(a, join_into(a, b).state))
