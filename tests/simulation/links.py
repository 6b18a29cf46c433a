"""A link between two replicas: an end on each side, with its session and the work that the session asked for.

``End`` does what ``pool.replicator.Replicator`` does: work in the database takes time, its outcome reaches the session
later still, and whatever else happens meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import PushBatch, ReadBatch
from p2p_replication.protocol.framing import TYPE_MASK
from p2p_replication.protocol.messages import TYPES
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.session import Session
from p2p_replication.protocol.work_order import Work as SessionWork
from p2p_replication.protocol.work_order import put_in_order
from tests.simulation.pool_member import PoolMember
from tests.simulation.storage_applying import Applying, apply_bundle
from tests.simulation.storage_model import Work
from tests.simulation.storage_reading import read_pulls, read_pushes

TICK = 0.5
TICK_SOON = 0.03


class End:
    """One side of a link.

    Attributes:
        silent: frames from the other side are held up: the way between the two is broken, and nobody was told.
    """

    def __init__(self, member: PoolMember, fingerprint: bytes, peer_fingerprint: bytes) -> None:
        self.member, self.world = member, member.world
        self.fingerprint, self.peer_fingerprint = fingerprint, peer_fingerprint
        self.remote: End | None = None
        self.connected = True
        self.silent = False
        self.session = Session(member.config(self), self.world.time.now)
        self._held_up: list[bytes] = []
        self._work: deque[SessionWork] = deque()
        self._working = False
        self._tick_soon = False
        self._last_arrival = 0.0
        member.ends.append(self)

    @property
    def peer_id(self) -> str:
        return self.session.peer.replica if self.session.peer else ""

    @property
    def peer_name(self) -> str:
        return self.remote.member.name if self.remote is not None else "?"

    def begin(self) -> None:
        self.carry_out()
        self.world.time.later(TICK, self._tick)

    # -- effects -----------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        for effect in self.session.drain():
            match effect:
                case fx.Send():
                    self._send(effect.frames)
                case fx.WantPull():
                    self.member.want_pull(self, effect)
                case fx.PullDone():
                    self.member.pull_done(self, effect.model)
                case fx.PeerError():
                    self.world.errors.append((self.member.name, effect.text))
                case fx.Closed():
                    self._close(effect)
                case _:
                    put_in_order(self._work, effect, self.session.families)
                    self._start_work()
        if self.session.wants_tick_soon and not self._tick_soon and self.connected:
            self._tick_soon = True
            self.world.time.later(TICK_SOON, self._tick_now)

    def _close(self, effect: fx.Closed) -> None:
        self.world.note(self.member.name, f"ends the link to {self.peer_name}: {effect.reason}")
        if effect.is_error:
            self.world.errors.append((self.member.name, effect.reason))
        if self.connected and self.remote is not None:
            # The goodbye is on its way; the connection ends behind it.
            self.world.time.at(self.remote._arrival(), self.remote.lose)
        self.lose()

    def lose(self) -> None:
        """The connection has ended, as this side notices."""
        if not self.connected:
            return
        self.connected = False
        self.session.connection_lost("the link was cut")
        self._work.clear()
        self.member.gone(self)
        self.carry_out()

    def cut(self) -> None:
        """End the link without a word; the other side notices some time later. What was under way is lost."""
        remote = self.remote
        self.lose()
        if remote is not None and remote.connected:
            remote.remote = None
            self.world.time.later(self.world.random.choice((0.0, 0.0, 1.0)), remote.lose)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _send(self, frames: list[bytes]) -> None:
        remote, pace = self.remote, self.world.pace
        for frame in frames:
            kind = TYPES[frame[1] & TYPE_MASK].__name__
            self.world.frames[kind] += 1
            if remote is None or not remote.connected:
                continue
            if self.world.chance(pace.losses):
                self.world.note(self.member.name, f"loses a {kind} to {self.peer_name}, and the link with it")
                self.world.time.later(0.0, self.cut)
                return
            self.world.time.at(remote._arrival(), lambda f=frame: remote.take(f))
            if self.world.chance(pace.duplicates):
                self.world.time.at(remote._arrival(), lambda f=frame: remote.take(f))

    def _arrival(self) -> float:
        time = self.world.time.now + self.world.draw(self.world.pace.frame)
        if self.world.chance(self.world.pace.overtaking):
            return time
        self._last_arrival = max(time, self._last_arrival)
        return self._last_arrival

    def take(self, frame: bytes) -> None:
        if not self.connected or self.remote is None:
            return  # A link that was cut loses what is on its way.
        if self.silent:
            self._held_up.append(frame)
            return
        self.session.receive(frame, self.world.time.now)
        self.carry_out()

    def speak(self) -> None:
        """The way is free again: what was held up arrives."""
        self.silent = False
        held_up, self._held_up = self._held_up, []
        for frame in held_up:
            self.take(frame)

    # -- work --------------------------------------------------------------------------------------------------------

    def _start_work(self) -> None:
        """Let the database's thread do the oldest work, if none is under way for this end."""
        if self._work and not self._working:
            self._working = True
            effect = self._work.popleft()
            self.member.worker.do(self._work_of(effect), lambda outcome: self._work_done(effect, outcome))

    def _work_of(self, effect: fx.Effect) -> Work[Any]:
        member = self.member
        storage, pool = member.storage, member.pool
        match effect:
            case fx.PeerIntroduced():
                return member.vectors()
            case fx.ReadChanges():
                return self._read_for_pulls()
            case fx.ReadPush():
                return self._read_for_push()
            case fx.ApplyChanges():
                now_ms = member.worker.machine.now_ms()
                batches = [
                    Applying(storage, pool, self.peer_id, changes, self.world.time.now, now_ms)
                    for changes in effect.batches
                ]
                return apply_bundle(storage, batches)
        raise AssertionError(effect)

    def _read_for_pulls(self) -> Work[tuple[list[fx.PullWish], list[ReadBatch]]]:
        wishes = self.session.pull_wishes()
        batches = yield from read_pulls(self.member.storage, self.member.pool, wishes)
        return wishes, batches

    def _read_for_push(self) -> Work[dict[str, PushBatch]]:
        return (yield from read_pushes(self.member.storage, self.session.push_wishes()))

    def _work_done(self, effect: fx.Effect, outcome: Any) -> None:
        self._working = False
        if not self.connected:
            return
        session, now = self.session, self.world.time.now
        match effect:
            case fx.PeerIntroduced():
                if self.member.settles_on(self):
                    self.world.note(self.member.name, f"lets {self.peer_name} in ({self.member.pool})")
                    session.accept(outcome, now)
                else:
                    session.close("there is another connection between the two replicas")
            case fx.ReadChanges():
                wishes, batches = outcome
                for wish, batch in zip(wishes, batches, strict=False):
                    told = told_of(batch, wish.round)
                    self.world.note(self.member.name, f"answers {self.peer_name}: {wish.model} {told}")
                session.changes_read(wishes, batches)
            case fx.ReadPush():
                for label, batch in outcome.items():
                    self.world.note(self.member.name, f"read for {self.peer_name}: {label} {told_of(batch)}")
                session.push_read(outcome)
            case fx.ApplyChanges():
                for changes, (vector, is_taken) in zip(effect.batches, outcome, strict=True):
                    taken = "taken" if is_taken else "not taken"
                    kind = f"round {changes.round}" if changes.round else f"push from {changes.push_from}"
                    self.world.note(
                        self.member.name,
                        f"applied from {self.peer_name}: {changes.model} {kind} {changes.rows.keys}, "
                        f"claim {changes.claim}, {taken}; vector {vector}",
                    )
                    session.changes_applied(changes, vector, is_taken, now)
        self.carry_out()
        self._start_work()

    # -- time --------------------------------------------------------------------------------------------------------

    def _tick_now(self) -> None:
        self._tick_soon = False
        if self.connected:
            self.session.tick(self.world.time.now)
            self.carry_out()

    def _tick(self) -> None:
        if self.connected:
            self._tick_now()
            self.world.time.later(TICK, self._tick)


def connect(a: PoolMember, b: PoolMember) -> tuple[End, End]:
    """Open a link between two members of a pool."""
    world = a.world
    world.links += 1
    prints = [f"{world.links}{side}".encode().ljust(32, b".") for side in "ab"]
    one, other = End(a, prints[0], prints[1]), End(b, prints[1], prints[0])
    one.remote, other.remote = other, one
    one.begin()
    other.begin()
    return one, other


def are_connected(a: PoolMember, b: PoolMember) -> bool:
    """Tell whether both sides of some link have let each other in."""
    return any(
        end.remote in b.ends and end.remote is not None and end.remote.session.phase is Phase.OPEN
        for end in a.open_ends()
    )


def told_of(batch: Any, round: int = 0) -> str:
    """Return a few words on what was read."""
    if round:
        claim = f"claim {batch.vector}" if batch.vector is not None else "more to come"
        return f"round {round}, {batch.rows.keys} of {batch.from_seq}..{batch.to_seq}, {claim}"
    rows = batch.rows.keys if batch.rows is not None else "too many"
    return f"push {batch.push_from}..{batch.push_to} {rows}"
