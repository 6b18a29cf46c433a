"""What the simulation runs: each scenario has its own troubles, the last one has all of them.

A seed's scenario follows from its number, and everything else from the seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.healing import PATIENCE, check_convergence, check_errors, check_quiet, digest_of, heal, settle
from tests.simulation.machine import Machine
from tests.simulation.oracle import SimulationFault, is_kept
from tests.simulation.surroundings import DISTANT, LOSSY, SLOW, SLOW_DATABASES, STEADY, UNFAITHFUL, Pace
from tests.simulation.world import World

#: Copies of a change that may reach a replica in a steady pool (DESIGN 4 and guarantee 5).
MOST_COPIES = 1.05

Chances = Mapping[Callable[[World, Machine], None], float]
WRITES: Chances = {
    World.write: 14.0,
    World.write_many: 0.3,
    World.delete: 1.5,
    World.cut_one: 0.6,
    World.connect_one: 4.0,
}
CRASHES: Chances = {World.crash: 0.4, World.restart: 0.1}


@dataclass(frozen=True)
class Scenario:
    """Some replicas, what may happen to them and how often.

    Attributes:
        replicas: how many there are at first, between the two.
        steps: how many things happen before the world is left in peace.
        options: of the world.
    """

    name: str
    chances: Chances
    pace: Pace = SLOW
    replicas: tuple[int, int] = (2, 6)
    steps: int = 150
    pause: float = 0.12
    options: Mapping[str, Any] = field(default_factory=dict)

    def world(self, seed: int) -> World:
        """Return its world, in which nothing has happened yet."""
        replicas = Random(f"replicas of {seed}").randint(*self.replicas)
        return World(seed, replicas, self.pace, **self.options)

    def run(self, world: World) -> None:
        """Live, heal and check. Raises SimulationFault."""
        world.connect_all()
        world.live(self.steps, self.chances, self.pause)
        heal(world)


@dataclass(frozen=True)
class Bursts(Scenario):
    """Again and again something happens at once, and then nothing: whatever waits for the next event waits for ever."""

    episodes: int = 15

    def run(self, world: World) -> None:
        world.connect_all()
        settle(world)
        for _ in range(self.episodes):
            world.live(self.steps, self.chances, self.pause)
            settle(world)
            check_convergence(world)
        check_errors(world)
        check_quiet(world)


@dataclass(frozen=True)
class Steady(Scenario):
    """Nothing goes wrong. ``most_copies``: as often may a change reach each replica."""

    pace: Pace = STEADY
    most_copies: float = MOST_COPIES

    def run(self, world: World) -> None:
        world.connect_all()
        settle(world)
        world.live(self.steps, self.chances, self.pause)
        self.come_to_rest(world)

    def come_to_rest(self, world: World) -> None:
        settle(world)
        check_errors(world)
        check_convergence(world)
        check_quiet(world)
        check_copies(world, self.most_copies)


@dataclass(frozen=True)
class FirstSyncs(Steady):
    """Empty replicas come to one that has many rows of its first model, and few of its second one, which is written to
    all the time."""

    #: Seconds until a write of the second model must be everywhere; in a first sync it would wait for minutes.
    promptness: float = 1.0

    def run(self, world: World) -> None:
        source, *others = world.machines.values()
        many, few = world.labels
        for key in world.keys:
            world.write(source, many, key)
        world.write(source, few)
        settle_alone(world)
        world.connect_all()
        end, checks = world.time.now + PATIENCE, 0
        known: deque[int] = deque(maxlen=round(self.promptness / self.pause))
        while any(is_in_first_sync(machine, many, len(world.keys)) for machine in others):
            known.append(len(source.storage.content.written))
            world.time.run(self.pause)
            world.write(source, few)
            if len(known) == known.maxlen:
                check_prompt(source, others, few, known[0])
                checks += 1
            if world.time.now > end:
                raise SimulationFault(f"no first sync within {PATIENCE:g} s")
        if not checks:
            raise SimulationFault("the first sync was over before anything could be seen")
        self.come_to_rest(world)


def check_copies(world: World, most: float) -> None:
    """Raise SimulationFault if rows arrived more often than ``most`` times a write and replica."""
    copies = sum(machine.storage.copies.total() for machine in world.machines.values())
    crossed = sum(len(machine.storage.content.written) for machine in world.machines.values())
    if copies > most * crossed * (len(world.machines) - 1):
        raise SimulationFault(f"{copies} rows arrived at {len(world.machines) - 1} replicas each for {crossed} writes")


def settle_alone(world: World) -> None:
    """Let everybody post what was written, without any link."""
    for _ in range(round(PATIENCE)):
        world.time.run(1.0)
        if not any(machine.storage.content.log for machine in world.there()):
            return
    raise SimulationFault(f"not all was posted within {PATIENCE:g} s")


def is_in_first_sync(machine: Machine, label: str, rows: int) -> bool:
    return len(machine.storage.streams[label].entries) < rows


def check_prompt(source: Machine, others: Sequence[Machine], label: str, count: int) -> None:
    """Raise SimulationFault if one of the first so many writes has not arrived, of this model."""
    for written in source.storage.content.written[:count]:
        for other in others:
            if written.label == label and not is_kept(digest_of(other, label, written.key), written):
                raise SimulationFault(f"{other.name} has not got {written} of {source.name} in time")


#: Clocks of some minutes' difference: more than is allowed between the last two.
SKEWS = (0, 0, 50, -150_000, 200_000, 420_000)
#: The second replica is in both pools, and passes rows from one to the other.
TWO_POOLS = (("p",), ("p", "q"), ("q",), ("p",), ("q",))

SCENARIOS = (
    Scenario("links that are cut", WRITES),
    Scenario("crashes at commits", {**WRITES, **CRASHES, World.crash: 1.0}, options={"labels": ("m", "n")}),
    Scenario(
        "replicas that come late and go for ever",
        {**WRITES, World.crash: 0.3, World.vanish: 0.5, World.come_late: 0.5},
    ),
    Scenario(
        "replicas that go in the middle of a pull",
        # No link is cut and nobody comes late: each pull on connecting would find those rows.
        {World.write: 6.0, World.meet_and_vanish: 1.0},
        replicas=(3, 5),
        steps=12,
        pause=0.5,
        options={"keys": 100},
    ),
    Scenario("restored backups", {**WRITES, **CRASHES, World.back_up: 0.8, World.restore: 0.5}),
    Scenario(
        "replicas that are set back in the middle of a pull",
        {World.write: 6.0, World.meet_and_be_set_back: 1.0, World.connect_one: 1.0},
        replicas=(2, 4),
        steps=16,
        pause=0.5,
        options={"keys": 40},
    ),
    Scenario("copied databases", {**WRITES, **CRASHES, World.copy: 0.5}),
    Scenario(
        "frames that are doubled and overtake", {**WRITES, World.connect_one: 12.0}, UNFAITHFUL, options={"keys": 20}
    ),
    Scenario(
        "frames that are doubled and overtake, with much to write",
        {**WRITES, World.write: 30.0, World.write_many: 3.0, World.cut_one: 2.0, World.connect_one: 16.0},
        UNFAITHFUL,
        replicas=(2, 4),
        steps=300,
        pause=0.04,
        options={"keys": 40},
    ),
    Scenario("frames that are lost", {**WRITES, World.connect_one: 12.0}, LOSSY),
    Scenario("partitions and flapping links", {**WRITES, World.part: 0.5, World.flap: 0.4}, replicas=(3, 6)),
    Scenario("rows that are refused", {**WRITES, **CRASHES, World.refuse: 1.5}),
    Scenario("clocks that differ by minutes", {**WRITES, World.restart: 0.2}, options={"skews": SKEWS}),
    Scenario(
        "two pools over one model",
        {**WRITES, **CRASHES, World.back_up: 0.4, World.restore: 0.2, World.copy: 0.1, World.flap: 0.2},
        replicas=(3, 6),
        options={"pools": TWO_POOLS},
    ),
    Scenario("many rows at once", {**WRITES, World.write_many: 3.0}, replicas=(2, 8), options={"keys": 25}),
    Bursts(
        "bursts, and rest",
        {World.write: 3.0, World.write_many: 3.0, World.delete: 0.5},
        SLOW_DATABASES,
        replicas=(2, 4),
        steps=12,
        pause=0.15,
        options={"keys": 12},
    ),
    Bursts(
        "bursts, and rest, in a chain",
        {World.write: 3.0, World.write_many: 2.0, World.delete: 0.5},
        SLOW_DATABASES,
        replicas=(3, 3),
        steps=12,
        pause=0.15,
        options={"keys": 12, "pools": TWO_POOLS},
    ),
    Scenario("rows of several frames", {**WRITES, World.write_much: 4.0}, steps=50, options={"keys": 4}),
    Steady("a steady pool", {World.write: 1.0}, replicas=(2, 8), steps=80, pause=0.25, options={"keys": 200}),
    Steady(
        "a steady pool with transactions of many rows",
        {World.write_lots: 1.0},
        # Who is far from the writer hears of it from those who are near.
        Pace(frame=(0.005, 0.25)),
        replicas=(6, 8),
        steps=8,
        pause=4.0,
        options={"keys": 400},
    ),
    FirstSyncs(
        "first syncs",
        {},
        # The databases are what takes time, and the window holds it all.
        Pace(frame=(0.001, 0.02), work=(0.005, 0.02)),
        replicas=(2, 3),
        pause=0.25,
        options={"labels": ("m", "n"), "keys": 400, "window": 1_000_000},
    ),
    Steady(
        "a busy pool",
        {World.write: 6.0, World.delete: 1.0},
        pause=0.01,
        options={"keys": 40},
        # Pushes give way to announcements, and rows are merged: a few arrive twice.
        most_copies=1.15,
    ),
    Steady(
        "a storm of edits of one row",
        {World.write: 1.0},
        DISTANT,
        replicas=(2, 8),
        steps=150,
        pause=0.005,
        options={"keys": 1},
        # What is written while a push is on its way goes in one more: far fewer copies than writes.
        most_copies=0.25,
    ),
    Scenario(
        "everything",
        {
            **WRITES,
            World.connect_one: 8.0,
            World.crash: 0.4,
            World.vanish: 0.2,
            World.come_late: 0.3,
            World.back_up: 0.4,
            World.restore: 0.2,
            World.copy: 0.1,
            World.part: 0.3,
            World.flap: 0.2,
            World.refuse: 0.4,
        },
        LOSSY,
        replicas=(3, 8),
        steps=250,
        options={"labels": ("m", "n"), "skews": SKEWS},
    ),
)


def scenario_of(seed: int) -> Scenario:
    return SCENARIOS[seed % len(SCENARIOS)]


def run_seed(seed: int, history: list[str] | None = None) -> str:
    """Run a seed; return what went wrong, an empty text if nothing did. ``history`` gets what happened."""
    scenario = scenario_of(seed)
    try:
        world = scenario.world(seed)
        world.history = history
        scenario.run(world)
    except AssertionError as fault:
        return str(fault) or repr(fault)
    return ""
