"""The worker leaves SQLite's write lock to others: after a slice in all, for a pause."""

from __future__ import annotations

import pytest

from p2p_replication.storage import write_budget
from p2p_replication.storage.write_budget import WriteBudget


class Clock:
    """Time that passes only by sleeping and by ``work``."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def work(self, budget: WriteBudget, seconds: float) -> None:
        with budget.writing():
            self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(write_budget, "time", clock)
    return clock


def test_a_used_up_slice_is_followed_by_a_pause(clock: Clock) -> None:
    budget = WriteBudget(0.025, 0.010)
    clock.now += 1
    clock.work(budget, 0.025)
    clock.work(budget, 0.001)
    assert clock.slept == [pytest.approx(0.010)]


def test_short_transactions_share_a_slice(clock: Clock) -> None:
    budget = WriteBudget(0.025, 0.010)
    clock.now += 1
    for _ in range(100):
        clock.work(budget, 0.005)
    held, left = 100 * 0.005, sum(clock.slept)
    assert held / 0.030 - 1 <= left / 0.010 <= held / 0.020 + 1


def test_who_has_waited_anyway_does_not_wait_again(clock: Clock) -> None:
    budget = WriteBudget(0.025, 0.010)
    for _ in range(5):
        clock.now += 0.02
        clock.work(budget, 0.025)
    assert clock.slept == []


def test_a_slice_holds_as_many_rows_as_the_last_ones_took_time_for(clock: Clock) -> None:
    budget = WriteBudget(0.025, 0.010)
    for _ in range(20):
        budget.measured(1_000, 1.0)
    assert 20 <= budget.rows() <= 30
    for _ in range(20):
        budget.measured(1_000, 0.05)
    assert 400 <= budget.rows() <= 520
    budget.measured(1_000, 100.0)
    assert budget.rows() >= 16
