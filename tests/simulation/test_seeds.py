"""A small share of the simulation's seeds. ``make simulate`` runs more of them; CI runs 2,000."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import histories
from tests.simulation.scenarios import run_seed

SEEDS = 153
SCHEMA_SEEDS = 12


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_ends_in_peace(seed):
    kind = histories(schemas=False)
    problem = kind.run(seed, None)
    assert not problem, f"{kind.name_of(seed)}: {problem}\n    {kind.replay_command(seed)}"


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(SCHEMA_SEEDS))
def test_a_history_of_real_schemas_ends_in_peace(seed):
    kind = histories(schemas=True)
    problem = kind.run(seed, None)
    assert not problem, f"{kind.name_of(seed)}: {problem}\n    {kind.replay_command(seed)}"


def test_the_same_seed_is_the_same_history():
    histories = [[], [], []]
    for seed, history in zip((16, 16, 33), histories, strict=True):
        run_seed(seed, history)
    assert histories[0]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]
