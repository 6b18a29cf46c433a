"""Whole pools in virtual time: what holds at every instant, and what holds once the world is at rest.

Storage is checked against the oracle after every change: no vector covers what is not there, no row lacks what its
dots name, no vector goes back. A failing history is replayed by its seed, the test's parameter.
"""

from __future__ import annotations

import pytest

from tests.protocol.session_pairs import SLOW, STEADY, UNFAITHFUL, Pace
from tests.protocol.worlds import World

WRITES = {World.write: 14.0, World.delete: 1.5, World.cut_one: 0.6, World.connect_one: 4.0}


def world(seed: int, pace: Pace, **options: object) -> World:
    made = World(seed, 2 + seed % 3, pace, **options)  # type: ignore[arg-type]
    made.connect_all()
    return made


@pytest.mark.parametrize("seed", range(50))
def test_pools_converge_though_links_are_cut_and_work_is_slow(seed):
    pool = world(seed, SLOW)
    pool.live(100, WRITES)
    pool.heal()


@pytest.mark.parametrize("seed", range(1000, 1030))
def test_pools_converge_though_workers_restart(seed):
    pool = world(seed, SLOW, labels=("m", "n"))
    pool.live(100, {**WRITES, World.restart: 0.5})
    pool.heal()


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_pools_converge_though_backups_are_restored(seed):
    pool = world(seed, SLOW)
    pool.live(100, {**WRITES, World.restart: 0.3, World.back_up: 0.8, World.restore: 0.4})
    pool.heal(reconnect=True, adopt=True)


@pytest.mark.parametrize("seed", range(3000, 3040))
def test_doubled_and_overtaking_frames_do_no_harm(seed):
    """A transport that breaks its promise ends links, never rows; once it keeps it, all converge."""
    pool = world(seed, UNFAITHFUL, keys=20)
    pool.live(100, {**WRITES, World.connect_one: 12.0})
    pool.heal()


@pytest.mark.parametrize("seed", range(4000, 4010))
def test_messages_of_several_frames_may_be_cut_anywhere(seed):
    pool = world(seed, SLOW, keys=4)

    def write_much(pool: World, name: str) -> None:
        pool.write(name, size=60_000)

    pool.live(40, {write_much: 4.0, World.write: 4.0, World.cut_one: 1.0, World.connect_one: 4.0})
    pool.heal()


@pytest.mark.parametrize("seed", range(5000, 5004))
def test_a_live_change_crosses_to_each_replica_about_once(seed):
    """At most 1.05 copies a row and replica, for single writes in a steady pool of four."""
    pool = World(seed, 4, STEADY, keys=200)
    pool.connect_all()
    pool.settle()
    for key in pool.keys:
        pool.write(pool.random.choice("ABCD"), key=key)
        pool.time.run(pool.random.uniform(0.02, 0.3))
    pool.settle()
    copies = sum(member.storage.copies.total() for member in pool.members.values())
    assert copies >= 3 * len(pool.keys)
    assert copies / (3 * len(pool.keys)) <= 1.05


def test_a_burst_too_large_for_a_push_still_crosses_about_once():
    """It is announced and pulled from its origin; the announcements of those who have it already bring no copy."""
    pool = World(1, 4, STEADY, keys=60)
    pool.connect_all()
    pool.settle()
    for key in pool.keys:
        pool.write("A", key=key)
    pool.settle()
    copies = sum(member.storage.copies.total() for member in pool.members.values())
    assert 3 * len(pool.keys) <= copies <= 3 * len(pool.keys) * 1.05


@pytest.mark.parametrize("restarted", [False, True])
def test_a_reconnect_with_nothing_new_sends_no_rows(restarted):
    pool = World(1, 3, STEADY, keys=30)
    pool.connect_all()
    for key in pool.keys:
        pool.write(pool.random.choice("ABC"), key=key)
    pool.settle()
    read = sum(member.storage.rows_read for member in pool.members.values())
    if restarted:
        pool.restart("B")
    pool.cut_all()
    pool.settle()
    assert sum(member.storage.rows_read for member in pool.members.values()) == read


def test_a_reconnect_costs_in_proportion_to_what_changed():
    pool = World(1, 2, STEADY, keys=100)
    for key in pool.keys:
        pool.write("A", key=key)
    pool.settle()
    pool.cut_all()
    for key in pool.keys[:7]:
        pool.write("A", key=key)
    read = pool.members["A"].storage.rows_read
    pool.settle()
    assert pool.members["A"].storage.rows_read == read + 7


def test_the_same_seed_is_the_same_history():
    def history(seed: int) -> tuple[object, ...]:
        pool = world(seed, SLOW)
        pool.live(60, WRITES)
        return dict(pool.frames), pool.time.now, sorted(pool.oracle.states)

    assert history(7) == history(7)
    assert history(7) != history(8)
