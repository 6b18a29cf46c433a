"""Worlds of some replicas: writes, cuts, restarts and restores drawn from a seed, then healing and its assertions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from p2p_replication.protocol.merge import join
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.session import Phase
from p2p_replication.protocol.version_vector import covers, joined
from tests.protocol.session_pairs import STEADY, End, Member, Pace, Surroundings, connect
from tests.protocol.storage_model import Oracle, StorageModel

#: Longer than a pull's time-out, so that a session that hangs is given up within it.
PATIENCE = 200.0


class World(Surroundings):
    """Replicas in full mesh. Every draw comes from the seed: the same seed is the same history."""

    def __init__(self, seed: int, replicas: int, pace: Pace, labels: tuple[str, ...] = ("m",), keys: int = 6) -> None:
        super().__init__(seed, pace)
        self.labels, self.keys = labels, [f"k{i}" for i in range(keys)]
        self.oracle = Oracle()
        self.members: dict[str, Member] = {}
        self._starts = itertools.count(1)
        self._values = itertools.count(1)
        self._skews: dict[str, int] = {}
        self._backups: list[tuple[str, object]] = []
        for name in "ABCDEFGH"[:replicas]:
            self._skews[name] = self.random.choice([0, 0, -300, 300])
            self.start(name, StorageModel(name, labels, self.oracle))

    # -- replicas and links ------------------------------------------------------------------------------------------

    def start(self, name: str, storage: StorageModel) -> None:
        storage.begin(f"{name}{next(self._starts)}")
        self.members[name] = Member(name, storage, self)

    def connected(self, a: str, b: str) -> bool:
        return any(end.peer_id == self.members[b].replica_id for end in self._open_ends(a))

    def _open_ends(self, name: str) -> list[End]:
        return [end for end in self.members[name].ends if end.session.phase is Phase.OPEN]

    def connect_all(self) -> None:
        for a, b in itertools.combinations(self.members, 2):
            if not self.connected(a, b):
                connect(self.members[a], self.members[b])

    def cut_all(self) -> None:
        for member in self.members.values():
            for end in list(member.ends):
                end.cut()

    # -- what may happen ---------------------------------------------------------------------------------------------

    def wall(self, name: str) -> int:
        """Return the replica's own time as a clock; coarse, so that clocks collide."""
        return (int(self.time.now * 100) * 10 + 10_000 + self._skews[name]) << 4

    def write(self, name: str, label: str | None = None, key: str | None = None, *, size: int = 0) -> None:
        member, draw = self.members[name], self.random
        label, key = label or draw.choice(self.labels), key or draw.choice(self.keys)
        number = next(self._values)
        value = draw.randbytes(size).hex() if size else f"{name}{number}"
        fields = draw.choice([("title",), ("body",), ("title", "body")])
        member.storage.write(label, key, dict.fromkeys(fields, value), self.wall(name))
        member.changed({label})

    def delete(self, name: str) -> None:
        label = self.random.choice(self.labels)
        self.members[name].storage.delete(label, self.random.choice(self.keys), self.wall(name))
        self.members[name].changed({label})

    def cut_one(self, name: str) -> None:
        ends = self.members[name].ends
        if ends:
            self.random.choice(ends).cut()

    def connect_one(self, name: str) -> None:
        """Connect to another replica; now and then although there is a link."""
        other = self.random.choice([n for n in self.members if n != name])
        if not self.connected(name, other) or self.random.random() < 0.1:
            connect(self.members[name], self.members[other])

    def restart(self, name: str) -> None:
        """Kill the worker and start it anew; what was committed is there."""
        self.members[name].stop()
        self.start(name, self.members[name].storage)

    def back_up(self, name: str) -> None:
        self._backups.append((name, self.members[name].storage.save()))

    def restore(self, name: str) -> None:
        backups = [backup for owner, backup in self._backups if owner == name]
        if backups:
            self.members[name].stop()
            storage = self.members[name].storage
            storage.restore(self.random.choice(backups))
            self.start(name, storage)

    def live(self, steps: int, chances: Mapping[Callable[..., None], float]) -> None:
        """Let so many things happen, at random moments."""
        actions, weights = list(chances), list(chances.values())
        for _ in range(steps):
            self.time.run(self.random.expovariate(8))
            name = self.random.choice(list(self.members))
            self.random.choices(actions, weights)[0](self, name)

    # -- the end -----------------------------------------------------------------------------------------------------

    def states(self) -> dict[tuple[str, str], RowState]:
        """Return the join of what all replicas hold."""
        found: dict[tuple[str, str], RowState] = {}
        for member in self.members.values():
            for label, stream in member.storage.streams.items():
                for key, row in stream.rows.items():
                    known = found.get((label, key))
                    found[label, key] = row.state if known is None else join(known, row.state)
        return found

    def heal(self, *, reconnect: bool = False, adopt: bool = False) -> None:
        """Let links hold and frames arrive in order, until the world is at rest; then everybody has everything."""
        expected = self.states()
        unfaithful = self.pace.overtaking or self.pace.duplicates
        self.pace = STEADY
        if reconnect or unfaithful:
            self.cut_all()
        self.settle()
        if adopt:
            for member in self.members.values():
                member.storage.adopt_loose_rows()
                member.changed(set(self.labels))
            self.settle()
        self.assert_converged(expected)
        self.assert_quiet()

    def settle(self) -> None:
        """Run until nothing but heartbeats flows between all replicas."""
        end = self.time.now + PATIENCE
        while self.time.now < end:
            before = self.busy_frames
            self.connect_all()
            self.time.run(3.0)
            mesh = all(self.connected(a, b) for a, b in itertools.permutations(self.members, 2))
            if mesh and self.busy_frames == before:
                return
        raise AssertionError(f"no rest within {PATIENCE:g} s: {dict(self.frames)}, {self.complaints()}")

    def complaints(self) -> dict[str, list[str]]:
        return {name: member.errors[-3:] for name, member in self.members.items()}

    def assert_converged(self, expected: dict[tuple[str, str], RowState]) -> None:
        """Every replica holds the join of all, covers all that the others cover, and knows that they do."""
        for name, member in self.members.items():
            storage = member.storage
            self.oracle.check(storage)
            held = {
                (label, key): row.state for label in self.labels for key, row in storage.streams[label].rows.items()
            }
            assert held.keys() == expected.keys(), f"{name} lacks {expected.keys() - held.keys()}"
            for row, state in expected.items():
                assert held[row] == state, f"{name} has {held[row]} for {row}, not {state}"
            for end in self._open_ends(name):
                for link in end.session.links.values():
                    assert link.complete and link.serve is None, f"{name}: {link}"
                    told = joined(link.peer or {}, link.told)
                    assert covers(told, link.local), f"{name} did not tell its peer of everything: {link}"
                    own = {storage.start: storage.streams[link.label].own_vector.get(storage.start, 0)}
                    assert covers(link.confirmed, own), f"{name} does not know that its peer has its changes: {link}"

    def assert_quiet(self, seconds: float = 30.0) -> None:
        """Nothing but heartbeats is sent, and no link ends."""
        before, ends = self.busy_frames, [end for member in self.members.values() for end in member.ends]
        self.time.run(seconds)
        assert self.busy_frames == before, f"traffic at rest: {dict(self.frames)}"
        assert [end for member in self.members.values() for end in member.ends] == ends
