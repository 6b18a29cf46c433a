"""How much of what is drawn at random a run plays: little in the suite, to be quick; more in ``make histories``.

``P2P_SEEDS=8`` plays eight times as much, ``P2P_FIRST_SEED=100`` other histories.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

T = TypeVar("T", bound=Callable[..., Any])

TIMES = int(os.environ.get("P2P_SEEDS", "1"))
FIRST = int(os.environ.get("P2P_FIRST_SEED", "0"))


def seeds(count: int) -> range:
    """Return the seeds of a test that plays ``count`` histories in the suite."""
    return range(FIRST, FIRST + count * TIMES)


def seeded(count: int) -> Callable[[T], T]:
    """Mark a test that gets ``seed``, and plays ``count`` histories in the suite."""

    def decorate(test: T) -> T:
        marked: T = pytest.mark.seeded(pytest.mark.parametrize("seed", seeds(count))(test))
        return marked

    return decorate
