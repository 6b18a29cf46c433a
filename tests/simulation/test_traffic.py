"""What crosses the links of a pool: a change about once, a reconnect in proportion to what changed, nothing at rest."""

from __future__ import annotations

import pytest

from tests.simulation.healing import check_quiet, settle
from tests.simulation.scenarios import MOST_COPIES, check_copies
from tests.simulation.world import World


def pool_of(replicas: int, **options: object) -> World:
    """Return a pool at rest, all its replicas connected, empty."""
    world = World(1, replicas, **options)  # type: ignore[arg-type]
    settle(world)
    return world


def rows_read(world: World) -> int:
    return sum(machine.storage.rows_read for machine in world.machines.values())


def write_all(world: World, names: str) -> None:
    for key in world.keys:
        world.write(world.machines[world.random.choice(names)], key=key)


def test_a_burst_too_large_for_a_push_still_crosses_about_once():
    """It is announced and pulled from its origin; the announcements of those who have it already bring no copy."""
    world = pool_of(4, keys=60)
    write_all(world, "A")
    settle(world)
    check_copies(world, MOST_COPIES)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_reconnect_with_nothing_new_sends_no_rows(restarted):
    world = pool_of(3, keys=30)
    write_all(world, "ABC")
    settle(world)
    read = rows_read(world)
    if restarted:
        world.restart(world.machines["B"])
    world.cut_all()
    settle(world)
    assert rows_read(world) == read


def test_a_reconnect_costs_in_proportion_to_what_changed():
    world = pool_of(2, keys=100)
    a = world.machines["A"]
    write_all(world, "A")
    settle(world)
    world.cut_all()
    for key in world.keys[:7]:
        world.write(a, key=key)
    read = a.storage.rows_read
    settle(world)
    assert a.storage.rows_read == read + 7


def test_a_slow_peer_gets_few_large_pushes():
    """What is written while a push is on its way goes in one more, whatever the number of writes."""
    world = pool_of(2, keys=1)
    a, b = world.machines["A"], world.machines["B"]
    for end in world.ends():
        end.silent = end.member.name == "A"  # B's ACKs don't arrive.
    for _ in range(50):
        world.write(a)
        world.time.run(0.05)
    assert b.storage.copies.total() == 1
    world.unite()
    settle(world)
    assert b.storage.copies.total() == 2


def test_a_pool_at_rest_sends_heartbeats():
    world = pool_of(3)
    write_all(world, "ABC")
    settle(world)
    check_quiet(world, 300.0)
    assert world.frames["Ping"] > 100
