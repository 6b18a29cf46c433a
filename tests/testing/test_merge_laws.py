"""``assert_merge_is_join``: a project's own merges are tried."""

from __future__ import annotations

import pytest

from p2p_replication.testing import assert_merge_is_join
from tests.testapp.tallies import longer, merged_dict


def test_merges_that_are_joins_pass() -> None:
    assert_merge_is_join(longer, [None, "a", "b", "ab", "ba"])
    assert_merge_is_join(merged_dict, [{}, {"a": 1}, {"a": 2, "b": 1}, {"b": 3}])


@pytest.mark.parametrize(
    ("merge", "law"),
    [
        (lambda a, b: a, "not commutative"),
        (lambda a, b: a + b, "not idempotent"),
        (lambda a, b: (a + b) / 2, "not absorbing"),
        (lambda a, b: a if a == b else 0 if {a, b} == {1, 2} else max(a, b), "not absorbing"),
    ],
)
def test_others_are_told_what_they_break(merge, law) -> None:
    with pytest.raises(AssertionError, match=law):
        assert_merge_is_join(merge, [1, 2, 4])
