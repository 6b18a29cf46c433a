"""The shortest histories that break a rule left out, played by real sessions.

Those that need nothing but storage are in ``tests/storage/test_minimal_histories.py``; the numbers M1 to M7 are the
same there.
"""

from __future__ import annotations

import pytest

from tests.simulation.healing import check_convergence, check_quiet, digest, heal, settle
from tests.simulation.links import End, connect
from tests.simulation.machine import RETRY, Machine
from tests.simulation.storage_model import LOOSE_GRACE
from tests.simulation.storage_reading import BATCH_ROWS, PUSH_ROWS
from tests.simulation.world import World


class Scene(World):
    """A world in which things happen by word of command; replicas go by their names."""

    def __init__(self, replicas: int, **options: object) -> None:
        super().__init__(1, replicas, **options)  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def put(self, name: str, key: str, value: str, field: str = "title") -> None:
        """Write a field, and let it be posted."""
        machine = self[name]
        machine.storage.write("m", key, {field: value}, machine.wall())
        machine.has_written()
        self.time.run_until(lambda: not machine.storage.content.log)

    def link(self, a: str, b: str, pool: str = "p") -> tuple[End, End]:
        """Connect two replicas and let them exchange everything."""
        ends = self.connect(a, b, pool)
        self.time.run(3.0)
        return ends

    def connect(self, a: str, b: str, pool: str = "p") -> tuple[End, End]:
        one, other = self[a].member(pool), self[b].member(pool)
        assert one is not None
        assert other is not None
        return connect(one, other)

    def leave(self, name: str) -> None:
        """Die, and never come back."""
        self[name].stop()
        self[name].is_gone = True
        self.time.run(2.0)

    def titles(self, name: str) -> dict[str, object]:
        return {key: row["title"] for key, row in self[name].storage.streams["m"].table.items()}

    def part_of_a_pull(self, asker: str, sender: str) -> None:
        """Let a pull break off after its first batch."""
        end, _ = self.connect(asker, sender)
        self.time.run_until(lambda: len(self.titles(asker)) == BATCH_ROWS)
        end.cut()
        self.time.run(2.0)
        assert len(self.titles(asker)) == BATCH_ROWS


def test_a_pull_that_breaks_off_hides_nothing_from_later_ones():
    """M1: a cut batch has no claim. C has all of A; r1 moves to the end of A's ledger; B gets a batch without it."""
    scene = Scene(3)
    for i in range(1, 6):
        scene.put("A", f"r{i}", "first")
    scene.link("C", "A")
    scene.cut_all()
    scene.put("A", "r1", "second")
    scene.part_of_a_pull("B", "A")
    assert "r1" not in scene.titles("B")
    scene.leave("A")
    scene.link("B", "C")
    assert scene.titles("B") == scene.titles("C") == dict.fromkeys(["r1", "r2", "r3", "r4", "r5"], "first")


def test_a_push_brings_rows_whose_dots_are_others_by_now():
    """M2: A's r1 has B's dot when A pushes what it made; its claim speaks of r1 as well."""
    scene = Scene(4)
    a, c = scene.link("A", "C")
    c.silent = True
    scene.put("A", "r1", "first")
    scene.link("B", "A")
    scene.link("D", "A")
    scene.put("B", "r1", "second")
    scene.time.run_until(lambda: scene.titles("A")["r1"] == "second")
    c.silent = False
    a.cut()
    scene.time.run(2.0)
    scene.connect("A", "C")
    scene.put("A", "r2", "first")
    scene.time.run_until(lambda: "r2" in scene.titles("C"))
    scene.leave("A")
    scene.leave("B")
    scene.link("C", "D")
    assert scene.titles("C") == scene.titles("D")


def test_a_row_that_is_refused_is_passed_on():
    """M3: C can't hold r1 and takes the vector all the same; B, who has it from C alone, gets the row."""
    scene = Scene(3)
    scene["C"].storage.refused.add(("m", "r1"))
    scene.put("A", "r1", "first")
    scene.link("C", "A")
    scene.leave("A")
    scene.link("B", "C")
    assert scene.titles("C") == {}
    assert scene.titles("B") == {"r1": "first"}
    heal(scene)
    assert scene.titles("C") == {"r1": "first"}


@pytest.mark.parametrize("writes", [0, 3])
def test_a_restored_backup_is_a_replica_that_is_behind(writes):
    """M5: what it writes next has a new origin, and does not pass for what it had written before."""
    scene = Scene(2)
    scene.put("A", "r1", "first")
    backup = scene["A"].storage.save()
    scene.put("A", "r2", "lost")
    scene.put("A", "r3", "lost")
    scene.link("A", "B")
    scene["A"].stop()
    scene["A"].storage.restore(backup)
    scene["A"].start()
    for i in range(4, 4 + writes):
        scene.put("A", f"r{i}", "after")
    heal(scene)
    assert scene.titles("A") == scene.titles("B")
    assert len(scene.titles("A")) == 3 + writes


def test_a_cursor_does_not_survive_the_restore_of_a_row_below_it():
    """B has read a part of A's ledger, above which r1 had moved; in A's backup r1 is below that again."""
    scene = Scene(2)
    for i in range(1, 6):
        scene.put("A", f"r{i}", "first")
    backup = scene["A"].storage.save()
    scene.put("A", "r1", "second")
    scene.part_of_a_pull("B", "A")
    scene["A"].stop()
    scene["A"].storage.restore(backup)
    scene["A"].start()
    scene.link("A", "B")
    assert scene.titles("B") == scene.titles("A")


def test_rows_above_the_vector_reach_those_who_compare_vectors():
    """M6: B has one batch of A, which dies for ever. C has what B's vector says, until B takes the rows on."""
    scene = Scene(3)
    scene.link("B", "C")
    for i in range(1, 6):
        scene.put("A", f"r{i}", "first")
    scene.part_of_a_pull("B", "A")
    scene.leave("A")
    assert scene.titles("C") == {}
    scene.time.run(LOOSE_GRACE + 2 * RETRY)
    assert scene.titles("C") == scene.titles("B")
    assert len(scene.titles("C")) == BATCH_ROWS


def test_rows_that_their_sender_has_forgotten_reach_those_who_compare_vectors():
    """B has one batch of A, which is set back: it knows nothing of these rows, and what it claims covers none."""
    scene = Scene(3)
    scene.link("B", "C")
    backup = scene["A"].storage.save()
    for i in range(1, 6):
        scene.put("A", f"r{i}", "first")
    scene.part_of_a_pull("B", "A")
    scene["A"].stop()
    scene["A"].storage.restore(backup)
    scene["A"].start()
    scene.link("B", "A")
    assert scene.titles("C") == {}
    scene.time.run(LOOSE_GRACE + 2 * RETRY)
    assert scene.titles("C") == scene.titles("B") == scene.titles("A")
    assert len(scene.titles("C")) == BATCH_ROWS


@pytest.mark.parametrize(("replicas", "editors"), [(3, 2), (4, 2), (8, 2), (8, 4), (8, 8)])
def test_edits_of_one_row_at_once_cross_about_once(replicas, editors):
    """A new dot for each merge would be a storm: 4.5 copies a write and replica instead of one."""
    scene = Scene(replicas, keys=1)
    scene.put("A", "k0", "first")
    settle(scene)
    for machine in scene.machines.values():
        machine.storage.copies.clear()
    rounds = 5
    for _ in range(rounds):
        for machine in scene.random.sample(list(scene.machines.values()), editors):
            scene.write(machine)
        settle(scene)
    check_convergence(scene)
    copies = sum(machine.storage.copies.total() for machine in scene.machines.values())
    assert copies <= 1.05 * rounds * editors * (replicas - 1)


def test_a_replica_in_two_pools_passes_rows_on():
    """A and S are in one pool, S and R in another: what A writes reaches R at once, not at its next connect."""
    scene = Scene(3, pools=[("one",), ("one", "two"), ("two",)])
    scene.link("A", "B", "one")
    scene.link("B", "C", "two")
    scene.put("A", "r1", "first")
    scene.time.run(2.0)
    assert scene.titles("C") == {"r1": "first"}
    scene.put("C", "r1", "second")
    scene.time.run(2.0)
    assert scene.titles("A") == {"r1": "second"}
    check_quiet(scene)


def test_a_reconnect_across_two_pools_costs_nothing():
    """The cursor knows what a vector of this pool can't: rows that came in the other one."""
    scene = Scene(3, pools=[("one",), ("one", "two"), ("two",)])
    for i in range(20):
        scene.put("A", f"r{i}", "first")
    scene.link("A", "B", "one")
    costs = []
    for _ in range(4):
        before = scene["B"].storage.rows_read
        _, other = scene.link("B", "C", "two")
        costs.append(scene["B"].storage.rows_read - before)
        other.cut()
        scene.time.run(2.0)
    assert costs == [20, 0, 0, 0]
    assert digest(scene["A"]) == digest(scene["C"])


def test_a_replica_knows_that_its_changes_arrived_by_another_way():
    """A's burst is announced, B has it from C before it asks A: A must learn that B has it, or waits for ever."""
    scene = Scene(3)
    settle(scene)
    for end in scene.ends():
        end.silent = {end.member.name, end.peer_name} == {"A", "B"}
    machine = scene["A"]
    for i in range(PUSH_ROWS + 1):
        machine.storage.write("m", f"r{i}", {"title": "first"}, machine.wall())
    machine.has_written()
    scene.time.run_until(lambda: len(scene.titles("B")) == PUSH_ROWS + 1)
    scene.unite()
    heal(scene)
