"""Version vectors: join, cover and difference agree with one another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p_replication.protocol.version_vector import beyond, covers, joined
from tests.protocol.strategies import quick

vectors = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 4))


@quick
@given(vectors, vectors, vectors)
def test_the_join_is_the_least_vector_that_covers_both(a, b, c):
    both = joined(a, b)
    assert covers(both, a) and covers(both, b)
    assert not (covers(c, a) and covers(c, b)) or covers(c, both)
    assert covers(joined(a, joined(b, c)), joined(joined(a, b), c))
    assert covers(joined(joined(a, b), c), joined(a, joined(b, c)))


@quick
@given(vectors, vectors)
def test_a_difference_is_what_has_to_travel(a, b):
    rest = beyond(a, b)
    assert (not rest) == covers(b, a)
    assert joined(b, rest) == joined(b, {o: c for o, c in a.items() if c > b.get(o, 0)})
    assert covers(joined(b, rest), a)


@quick
@given(vectors, vectors)
def test_arguments_are_left_alone(a, b):
    before = dict(a), dict(b)
    joined(a, b)["a"] = 99
    beyond(a, b)["a"] = 99
    assert (a, b) == before
