"""Version vectors: ``{origin: counter}`` says which changes of which origin a replica has (Parker et al., 1983).

Plain dicts, as they travel and are stored as such; a missing origin counts as 0. Counters of an origin rise but
need not be dense.
"""

from __future__ import annotations

from collections.abc import Mapping

Vector = dict[str, int]


def joined(a: Mapping[str, int], b: Mapping[str, int]) -> Vector:
    """Return the least vector that covers both."""
    result = dict(a)
    for origin, counter in b.items():
        if counter > result.get(origin, 0):
            result[origin] = counter
    return result


def covers(vector: Mapping[str, int], dots: Mapping[str, int]) -> bool:
    """Tell whether every dot (or every entry of another vector) is in ``vector``."""
    return all(vector.get(origin, 0) >= counter for origin, counter in dots.items())


def beyond(a: Mapping[str, int], b: Mapping[str, int]) -> Vector:
    """Return the entries of ``a`` that ``b`` does not cover: the difference that has to travel."""
    return {origin: counter for origin, counter in a.items() if counter > b.get(origin, 0)}
