"""The end of a history: links hold, workers run, and soon everybody has everything and nothing is sent any more."""

from __future__ import annotations

from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.version_vector import covers, joined
from tests.simulation.links import are_connected
from tests.simulation.machine import RETRY, Machine
from tests.simulation.oracle import SimulationFault, is_kept
from tests.simulation.storage_content import Status
from tests.simulation.storage_model import LOOSE_GRACE
from tests.simulation.surroundings import STEADY
from tests.simulation.world import World

#: Seconds until all must be at rest. A session that hangs would be given up later than that: it is a stall.
PATIENCE = 50.0
#: Within so many seconds everything happens that an action has planned.
PLANNED = 3.0
#: Over a transport that broke its promise a session may hang, until it is given up.
PULL_TIMEOUT = 60.0

Digest = dict[tuple[str, str], RowState]


def heal(world: World) -> None:
    """Let the world come to rest and check what must hold then. Raises SimulationFault."""
    world.time.run(PLANNED)
    world.note("", "healing begins")
    was_faithful = world.pace.is_faithful
    world.pace = STEADY
    world.unite()
    for machine in world.there():
        machine.storage.refused.clear()
        if machine.worker is None:
            machine.start()
        assert machine.worker is not None
        machine.worker.commits_left = None
    settle(world, PATIENCE if was_faithful else PULL_TIMEOUT + PATIENCE)
    if was_faithful:
        check_errors(world)
    if any(machine.storage.has_parked for machine in world.there()):
        _wait_for_clocks(world)
    if any(_has_unfinished(machine) for machine in world.there()):
        world.time.run(LOOSE_GRACE + 2 * RETRY)
        settle(world)
    check_convergence(world)
    check_quiet(world)


def settle(world: World, patience: float = PATIENCE) -> None:
    """Run until nothing but heartbeats flows between all replicas."""
    end = world.time.now + patience
    while world.time.now < end:
        before = world.busy_frames
        world.connect_all()
        world.time.run(2.0 + 15 * world.pace.work[1])
        if world.busy_frames == before and all(are_connected(a, b) for a, b in world.pairs()):
            return
    raise SimulationFault(f"no rest within {patience:g} s: {dict(world.frames)}, {world.errors[-5:]}")


def _has_unfinished(machine: Machine) -> bool:
    return any(machine.storage.has_unfinished(pool) for pool in machine.pools)


def _wait_for_clocks(world: World) -> None:
    """Wait until no clock is ahead of any other's limit; without links, as nothing but heartbeats would flow."""
    skews = [machine.skew_ms for machine in world.machines.values()]
    world.cut_all()
    world.time.run((max(skews) - min(skews)) / 1000 + RETRY)
    settle(world)


def digest(machine: Machine) -> Digest:
    """Return all that a replica holds."""
    return {
        (label, key): entry.state
        for label, stream in machine.storage.streams.items()
        for key, entry in stream.entries.items()
    }


def check_convergence(world: World) -> None:
    """All replicas hold the same, all that they wrote, and say so to each other."""
    machines = world.there()
    expected: Digest = {}
    for machine in machines:
        expected |= digest(machine)
    for machine in machines:
        _check_rest(machine)
        held = digest(machine)
        if held.keys() != expected.keys():
            raise SimulationFault(f"{machine.name} lacks {sorted(expected.keys() - held.keys())}")
        for row, state in expected.items():
            if held[row] != state:
                raise SimulationFault(f"{machine.name} has {held[row]} for {row}, another replica {state}")
        for written in machine.storage.content.written:
            for other in machines:
                if not is_kept(digest_of(other, written.label, written.key), written):
                    raise SimulationFault(f"{other.name} lost what {machine.name} had committed: {written}")
    _check_sessions(world)


def digest_of(machine: Machine, label: str, key: str) -> RowState | None:
    entry = machine.storage.streams[label].entries.get(key)
    return entry.state if entry is not None else None


def _check_rest(machine: Machine) -> None:
    """The tables say what the ledger says, and nothing waits."""
    storage = machine.storage
    if storage.content.log or storage.has_parked:
        raise SimulationFault(f"{machine.name} still has {storage.content.log or 'parked rows'}")
    for label, stream in storage.streams.items():
        present = {key for key, entry in stream.entries.items() if entry.status is Status.PRESENT}
        if stream.table.keys() != present:
            raise SimulationFault(f"{machine.name}: the table of {label} has {stream.table.keys()}, not {present}")
        for key in present:
            if storage.state_of(label, key) != stream.entries[key].state:
                raise SimulationFault(f"{machine.name}: {label} {key} is {stream.table[key]} in the table")


def _check_sessions(world: World) -> None:
    for end in world.ends():
        name, storage = end.member.name, end.member.storage
        if end.session.push_under_way:
            raise SimulationFault(f"{name} has a push to {end.peer_name} under way at rest")
        for link in end.session.links.values():
            if not link.complete or link.serve is not None:
                raise SimulationFault(f"{name} waits for {end.peer_name} at rest: {link}")
            if not covers(joined(link.peer or {}, link.told), link.local):
                raise SimulationFault(f"{name} did not tell {end.peer_name} of everything: {link}")
            if link.local != storage.vector(end.member.pool, link.label):
                raise SimulationFault(f"{name} does not know what it has: {link}")
            own = {storage.start: link.local.get(storage.start, 0)}
            if not covers(link.confirmed, own):
                raise SimulationFault(f"{name} does not know that {end.peer_name} has its changes: {link}")


def check_errors(world: World) -> None:
    """Sessions over faithful links end in no error but silence."""
    for name, text in world.errors:
        if not text.startswith("no sign of life"):
            raise SimulationFault(f"{name} has an error: {text}")


def check_quiet(world: World, seconds: float = 20.0) -> None:
    """Nothing but heartbeats is sent, and no link ends."""
    before, ends = world.busy_frames, world.ends()
    world.time.run(seconds)
    if world.busy_frames != before:
        raise SimulationFault(f"traffic at rest: {dict(world.frames)}")
    if world.ends() != ends:
        raise SimulationFault(f"links ended at rest: {world.errors[-5:]}")
