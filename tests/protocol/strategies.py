"""Hypothesis strategies for row states and rows. Few distinct clocks and names, so that they meet."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from p2p_replication.protocol.changes import ChangedRow
from p2p_replication.protocol.clock import NEVER
from p2p_replication.protocol.row_state import RowState

quick = settings(deadline=None, max_examples=150, database=None)

FIELDS = ("a", "b", "c", "d")
ODD_VALUES = [None, False, True, 0, 1, -1, 0.0, -0.0, 1.0, float("nan"), float("inf"), "", "1", b"", b"1", 2**63 - 1,
              -(2**63), "\x00", "é", "e\u0301"]  # fmt: skip

clocks = st.integers(0, 6)
values = st.sampled_from(ODD_VALUES) | st.text(max_size=4) | st.binary(max_size=4) | st.floats(width=32)


@st.composite
def states(draw: st.DrawFn) -> RowState:
    """Return a state that a replica can come to: fields at or below ``deleted`` are dropped."""
    deleted = draw(st.just(NEVER) | clocks)
    fields = draw(st.dictionaries(st.sampled_from(FIELDS), st.tuples(clocks, values)))
    return RowState.of(draw(clocks), deleted, {name: item for name, item in fields.items() if item[0] > deleted})


origins = st.text("abcdef0123456789", min_size=1, max_size=16)
counters = st.integers(1, 2**63 - 1)
dots = st.dictionaries(origins, counters, min_size=1, max_size=3)


@st.composite
def rows(draw: st.DrawFn) -> list[ChangedRow]:
    """Return a batch: distinct keys, rising seqs."""
    keys = draw(st.lists(st.text(max_size=6) | st.binary(max_size=6) | st.integers(-9, 9), unique=True, max_size=8))
    seqs = draw(st.lists(st.integers(1, 2**63 - 1), min_size=len(keys), max_size=len(keys), unique=True))
    found = []
    for key, seq in zip(keys, sorted(seqs), strict=True):
        named = draw(dots)
        born = draw(st.just(next(iter(named.items()))) | st.tuples(origins, counters))
        found.append(ChangedRow(key, seq, named, born, draw(states())))
    return found
