"""A small share of the simulation's seeds. ``make simulate`` runs more of them; CI runs 2,000."""

from __future__ import annotations

import pytest

from tests.simulation.scenarios import replay_command, run_seed, scenario_of

SEEDS = 153


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_ends_in_peace(seed):
    problem = run_seed(seed)
    assert not problem, f"{scenario_of(seed).name}: {problem}\n    {replay_command(seed)}"


def test_the_same_seed_is_the_same_history():
    histories = [[], [], []]
    for seed, history in zip((16, 16, 33), histories, strict=True):
        run_seed(seed, history)
    assert histories[0]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]
