"""Replicas of some pools, and what may happen to them. Every draw comes from the seed: so does the history."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.simulation.links import End, are_connected, connect
from tests.simulation.machine import Machine
from tests.simulation.oracle import Oracle
from tests.simulation.pool_member import PoolMember
from tests.simulation.storage_content import Content
from tests.simulation.storage_model import StorageModel
from tests.simulation.surroundings import STEADY, WINDOW, Pace, Surroundings

NAMES = "ABCDEFGHIJKL"
#: A world has at most so many replicas, those that have gone for ever included.
MOST = 8


class World(Surroundings):
    """Some replicas, at first not connected.

    Args:
        pools: the pools of the first replica, the second and so on, repeated as needed; all in one by default.
        skews: by how many milliseconds clocks may be ahead; drawn for each replica.
    """

    def __init__(
        self,
        seed: int,
        replicas: int,
        pace: Pace = STEADY,
        *,
        labels: tuple[str, ...] = ("m",),
        keys: int = 6,
        pools: Sequence[tuple[str, ...]] = (("p",),),
        skews: Sequence[int] = (0,),
        window: int = WINDOW,
    ) -> None:
        super().__init__(seed, pace, window)
        self.labels, self.keys, self.pools, self.skews = labels, [f"k{i}" for i in range(keys)], pools, skews
        self.oracle = Oracle()
        self.machines: dict[str, Machine] = {}
        self.writes = 0
        #: Replicas that reach only their own group, by name; empty: all reach all.
        self.groups: dict[str, int] = {}
        self._values = itertools.count(1)
        self._backups: list[tuple[str, Content]] = []
        for _ in range(replicas):
            self.join()

    # -- replicas ----------------------------------------------------------------------------------------------------

    def join(self, content: Content | None = None) -> Machine:
        """Add a replica: an empty one, or one that begins with the content of a database."""
        name = NAMES[len(self.machines)]
        pools = self.pools[len(self.machines) % len(self.pools)]
        storage = StorageModel(name, pools, self.labels, self.oracle)
        if content is not None:
            storage.restore(content)
        self.machines[name] = Machine(name, storage, self, self.random.choice(list(self.skews)))
        self.machines[name].start()
        return self.machines[name]

    def there(self) -> list[Machine]:
        """Return the replicas that have not gone for ever."""
        return [machine for machine in self.machines.values() if not machine.is_gone]

    def members(self, pool: str) -> list[PoolMember]:
        """Return those of a pool whose worker runs."""
        return [member for machine in self.machines.values() if (member := machine.member(pool)) is not None]

    def pairs(self) -> Iterator[tuple[PoolMember, PoolMember]]:
        """Yield all pairs of members that can reach each other."""
        for pool in dict.fromkeys(pool for machine in self.machines.values() for pool in machine.pools):
            for a, b in itertools.combinations(self.members(pool), 2):
                if self.groups.get(a.name) == self.groups.get(b.name):
                    yield a, b

    def ends(self) -> list[End]:
        return [
            end
            for machine in self.machines.values()
            if machine.worker is not None
            for member in machine.worker.members.values()
            for end in member.ends
        ]

    def connect_all(self) -> None:
        for a, b in self.pairs():
            if not are_connected(a, b):
                connect(a, b)

    def cut_all(self) -> None:
        for end in self.ends():
            end.cut()

    # -- what may happen: writes -------------------------------------------------------------------------------------

    def write(self, machine: Machine, label: str | None = None, key: str | None = None, *, size: int = 0) -> None:
        draw = self.random
        label, key = label or draw.choice(self.labels), key or draw.choice(self.keys)
        number = next(self._values)
        value = draw.randbytes(size).hex() if size else f"{machine.name}{number}"
        fields = draw.choice([("title",), ("body",), ("title", "body")])
        self.note(machine.name, f"writes {label} {key} {'+'.join(fields)} = {value[:20]}")
        machine.storage.write(label, key, dict.fromkeys(fields, value), machine.wall())
        self.writes += 1
        machine.has_written()

    def write_many(self, machine: Machine) -> None:
        """A transaction of several rows: too many for a push, now and then."""
        for _ in range(self.random.randint(3, 10)):
            self.write(machine)

    def write_lots(self, machine: Machine) -> None:
        """A transaction of so many rows that it takes a pull of many batches."""
        for _ in range(self.random.randint(15, 30)):
            self.write(machine)

    def write_much(self, machine: Machine) -> None:
        """A row that takes several frames."""
        self.write(machine, size=60_000)

    def delete(self, machine: Machine) -> None:
        label, key = self.random.choice(self.labels), self.random.choice(self.keys)
        self.note(machine.name, f"deletes {label} {key}")
        machine.storage.delete(label, key, machine.wall())
        machine.has_written()

    def refuse(self, machine: Machine) -> None:
        """A constraint comes, or goes, that is against a row in this database."""
        machine.storage.refused ^= {(self.random.choice(self.labels), self.random.choice(self.keys))}
        self.note(machine.name, f"refuses {sorted(machine.storage.refused)}")

    # -- what may happen: links --------------------------------------------------------------------------------------

    def cut_one(self, machine: Machine) -> None:
        ends = [end for end in self.ends() if end.member.name == machine.name]
        if ends:
            end = self.random.choice(ends)
            self.note(machine.name, f"loses its link to {end.peer_name}")
            end.cut()

    def connect_one(self, machine: Machine) -> None:
        """Connect to another replica; now and then although there is a link."""
        pairs = [pair for pair in self.pairs() if machine.name in (pair[0].name, pair[1].name)]
        if pairs:
            a, b = self.random.choice(pairs)
            if not are_connected(a, b) or self.chance(0.1):
                connect(a, b)

    def flap(self, machine: Machine) -> None:
        """All links of a replica end and come back, several times in short order."""
        for i in range(self.random.randint(2, 5)):
            self.time.later(i * self.random.uniform(0.05, 0.4), lambda: self._flap(machine))

    def _leave_all(self, machine: Machine) -> None:
        for end in [end for end in self.ends() if end.member.name == machine.name]:
            end.cut()

    def _flap(self, machine: Machine) -> None:
        self._leave_all(machine)
        for a, b in self.pairs():
            if machine.name in (a.name, b.name):
                connect(a, b)

    def part(self, machine: Machine) -> None:
        """Split the replicas in groups that don't reach each other, or end the split there is."""
        if self.groups:
            self.unite()
            return
        self.groups = {name: self.random.randint(1, 2) for name in self.machines}
        silent = self.chance(0.5)
        self.note("", f"parted{' silently' if silent else ''}: {self.groups}")
        for end in self.ends():
            if end.remote is not None and self.groups[end.member.name] != self.groups[end.remote.member.name]:
                if silent:
                    end.silent = True
                else:
                    end.cut()

    def unite(self) -> None:
        if self.groups:
            self.note("", "united")
        self.groups = {}
        for end in self.ends():
            end.speak()

    # -- what may happen: ends and beginnings ------------------------------------------------------------------------

    def restart(self, machine: Machine) -> None:
        """Kill the worker and start it anew; what was committed is there."""
        machine.stop()
        machine.start()

    def crash(self, machine: Machine) -> None:
        """Let the worker die at one of its next commits; it comes back some time later."""
        if machine.worker is not None:
            machine.worker.commits_left = self.random.randint(0, 6)
            self.time.later(self.random.uniform(0.2, 3.0), lambda: self._come_back(machine))

    def _come_back(self, machine: Machine) -> None:
        if not machine.is_gone:
            machine.stop()
            machine.start()

    def vanish(self, machine: Machine) -> None:
        """Die at one of the next commits, and never come back."""
        if machine.worker is not None and len(self.there()) > 2:
            machine.is_gone = True
            machine.worker.commits_left = self.random.randint(0, 4)
            self.time.later(self.random.uniform(0.0, 1.0), machine.stop)

    def meet_and_vanish(self, machine: Machine) -> None:
        """Write a lot without any link, meet one other replica, and go for ever in the middle of its pull."""
        if machine.worker is None or len(self.there()) <= 2:
            return
        machine.is_gone = True
        self._leave_all(machine)
        for _ in range(3):
            self.write_many(machine)
        self.time.later(0.5, lambda: self._meet(machine))
        self.time.later(self.random.uniform(0.8, 2.5), machine.stop)

    def _meet(self, machine: Machine) -> None:
        pairs = [pair for pair in self.pairs() if machine.name in (pair[0].name, pair[1].name)]
        if pairs:
            connect(*self.random.choice(pairs))

    def come_late(self, machine: Machine) -> None:
        if len(self.machines) < MOST:
            self.join()

    def back_up(self, machine: Machine) -> None:
        self._backups.append((machine.name, machine.storage.save()))

    def restore(self, machine: Machine) -> None:
        backups = [backup for owner, backup in self._backups if owner == machine.name]
        if backups:
            self._set_back(machine, self.random.choice(backups))

    def _set_back(self, machine: Machine, backup: Content) -> None:
        machine.stop()
        self.note(machine.name, "is set back to a backup")
        machine.storage.restore(backup)
        machine.start()

    def meet_and_be_set_back(self, machine: Machine) -> None:
        """Write a lot without any link, meet one other replica, and be set back in the middle of its pull."""
        self._leave_all(machine)
        self.write_lots(machine)
        self.time.later(0.6, lambda: self._write_on(machine))

    def _write_on(self, machine: Machine) -> None:
        backup = machine.storage.save()
        self.write_lots(machine)
        self.time.later(0.6, lambda: self._meet(machine))
        self.time.later(self.random.uniform(0.9, 1.8), lambda: self._set_back(machine, backup))

    def copy(self, machine: Machine) -> None:
        """Somebody copies the database of a running replica and starts a new one with it."""
        if len(self.machines) < MOST:
            self.note(machine.name, f"is copied to {NAMES[len(self.machines)]}")
            self.join(machine.storage.save())

    def live(self, steps: int, chances: Mapping[Callable[[World, Machine], None], float], pause: float = 0.12) -> None:
        """Let so many things happen, at random moments."""
        actions, weights = list(chances), list(chances.values())
        for _ in range(steps):
            self.time.run(self.random.expovariate(1 / pause))
            self.random.choices(actions, weights)[0](self, self.random.choice(self.there()))
