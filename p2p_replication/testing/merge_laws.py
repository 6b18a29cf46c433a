"""What a declared merge must keep, so that replicas agree whatever the order in which they meet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any


def assert_merge_is_join(merge: Callable[[Any, Any], Any], values: Iterable[Any]) -> None:
    """Check a function of a project's own that is declared as the merge of a field.

    Args:
        values: what the field may hold, as the function is given it; a dozen that differ in every way will do. All
            triples of them are tried.

    Raises AssertionError with the values for which it is not commutative, associative or idempotent.
    """
    known = list(values)
    for a in known:
        assert merge(a, a) == a, f"not idempotent: of {a!r} and itself it makes {merge(a, a)!r}"
    for a, b in itertools.product(known, repeat=2):
        one, other = merge(a, b), merge(b, a)
        assert one == other, f"not commutative: of {a!r} and {b!r} it makes {one!r}, the other way round {other!r}"
        assert merge(one, one) == one, f"not idempotent: of {one!r} and itself it makes {merge(one, one)!r}"
        again = merge(a, one)
        assert again == one, f"not absorbing: {one!r}, of {a!r} and {b!r}, becomes {again!r} with {a!r} once more"
    for a, b, c in itertools.product(known, repeat=3):
        one, other = merge(merge(a, b), c), merge(a, merge(b, c))
        assert one == other, f"not associative: of {a!r}, {b!r} and {c!r} it makes {one!r} or {other!r}"
