"""Replicas of one pool in virtual time: real sessions and pull schedules over model storage and model links.

``Member`` does for a replica what ``pool.live_pool.LivePool`` does, and ``End`` what ``pool.replicator.Replicator``
does: reads and applies take time, their outcome reaches the session later still, and whatever else happens meanwhile.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass
from random import Random
from typing import Any

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.framing import TYPE_MASK
from p2p_replication.protocol.introduction import SessionConfig
from p2p_replication.protocol.messages import TYPES, ModelOffer, Ping, Pong
from p2p_replication.protocol.pull_schedule import PullSchedule
from p2p_replication.protocol.session import Phase, Session
from p2p_replication.transport import identity
from tests.protocol.storage_model import StorageModel
from tests.protocol.virtual_time import VirtualTime

TICK = 0.5
TICK_SOON = 0.03
TOPIC = "field-team"


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds; drawn evenly between the two."""

    frame: tuple[float, float] = (0.001, 0.030)
    work: tuple[float, float] = (0.001, 0.005)
    #: The chance of a frame to arrive twice, and to overtake those before it.
    duplicates: float = 0.0
    overtaking: float = 0.0


STEADY = Pace()
SLOW = Pace(frame=(0.001, 0.2), work=(0.001, 0.2))
UNFAITHFUL = Pace(frame=(0.001, 0.2), work=(0.001, 0.01), duplicates=0.03, overtaking=0.15)


class Surroundings:
    """What all replicas of a world share: time, chance, pace, and what has crossed the links."""

    def __init__(self, seed: int, pace: Pace) -> None:
        self.time = VirtualTime()
        self.random = Random(seed)
        self.pace = pace
        #: Frames sent, by message type.
        self.frames: Counter[str] = Counter()
        self.links = 0

    def draw(self, bounds: tuple[float, float]) -> float:
        return self.random.uniform(*bounds)

    @property
    def busy_frames(self) -> int:
        """Return how many frames were sent that are no heartbeats."""
        return self.frames.total() - self.frames[Ping.__name__] - self.frames[Pong.__name__]


class Member:
    """One replica while its worker runs: its ends, and which of them is asked when."""

    def __init__(self, name: str, storage: StorageModel, world: Surroundings) -> None:
        self.name, self.storage, self.world = name, storage, world
        self.replica_id = hashlib.md5(name.encode()).hexdigest()
        self.secret = hashlib.sha256(name.encode()).digest()
        self.ends: list[End] = []
        self.schedule = PullSchedule()
        self.errors: list[str] = []
        self.running = True
        self._stale: set[str] = set()
        self._refreshing = False

    def stop(self) -> None:
        """Die: nothing that is under way comes to an end."""
        self.running = False
        for end in list(self.ends):
            end.cut()

    def config(self, end: End) -> SessionConfig:
        return SessionConfig(
            replica_id=self.replica_id,
            start=self.storage.start,
            name=self.name,
            topic=TOPIC,
            public_key=identity.public_key(self.secret),
            nonce=self.world.random.randbytes(32),
            now_ms=int(self.world.time.now * 1000),
            models=tuple(ModelOffer(label, {"": "text"}) for label in self.storage.streams),
            sign=lambda payload: identity.sign(self.secret, payload),
            verify=identity.verify,
            local_fingerprint=end.fingerprint,
            remote_fingerprint=end.peer_fingerprint,
            window=2_000,
        )

    def settles_on(self, new: End) -> bool:
        """Keep one connection per replica, by the nonces that both ends know."""
        for old in list(self.ends):
            if old is new or old.session.phase is not Phase.OPEN or old.peer_id != new.peer_id:
                continue
            assert old.session.peer is not None and new.session.peer is not None
            if old.session.peer.start == new.session.peer.start and nonces(old) < nonces(new):
                return False
            old.session.close("replaced")
            old.carry_out()
        return True

    # -- pulls -----------------------------------------------------------------------------------------------------

    def want_pull(self, end: End, wish: fx.WantPull) -> None:
        link, peer = end.session.links.get(wish.model), end.session.peer
        if link is None or peer is None:
            return
        direct = link.announced.get(peer.start, 0) > link.local.get(peer.start, 0)
        self.schedule.want(end, wish.model, 0, self.world.time.now, initial=wish.initial, direct=direct)
        self.pump()

    def pull_done(self, end: End, model: str) -> None:
        self.schedule.done(end, model)
        self.pump()

    def gone(self, end: End) -> None:
        if end in self.ends:
            self.ends.remove(end)
        self.schedule.gone(end)
        self.pump()

    def pump(self) -> None:
        """Start the pull that is due; look again when the next one will be."""
        if not self.running:
            return
        while (pull := self.schedule.next(self.world.time.now)) is not None:
            end, model, initial = pull
            assert isinstance(end, End)
            link = end.session.links.get(model)
            if link is None or end.session.phase is not Phase.OPEN or not (initial or link.lacks_announced()):
                if link is not None:
                    link.wanted = False
                self.schedule.done(end, model)
                continue
            self.world.time.later(self.world.draw(self.world.pace.work), lambda e=end, m=model: self._position(e, m))
        due = self.schedule.next_due()
        if due is not None:
            self.world.time.at(due, self.pump)

    def _position(self, end: End, model: str) -> None:
        vector, cursor = self.storage.position(model, end.peer_id)
        self.world.time.later(self.world.draw(self.world.pace.work), lambda: self._pull(end, model, vector, cursor))

    def _pull(self, end: End, model: str, vector: dict[str, int], cursor: tuple[str, int]) -> None:
        if end.session.phase is not Phase.OPEN:
            self.pull_done(end, model)
            return
        end.session.pull(model, vector, cursor, self.world.time.now)
        end.carry_out()

    # -- changes -----------------------------------------------------------------------------------------------------

    def changed(self, labels: set[str]) -> None:
        """Models have new versions: let the sessions tell their peers, a little later."""
        self._stale |= labels
        if not self._refreshing:
            self._refreshing = True
            self.world.time.later(self.world.draw(self.world.pace.work), self._read_vectors)

    def _read_vectors(self) -> None:
        labels, self._stale = sorted(self._stale), set()
        found = {label: self.vectors()[label] for label in labels}
        self.world.time.later(self.world.draw(self.world.pace.work), lambda: self._tell(found))

    def _tell(self, found: dict[str, dict[str, int]]) -> None:
        self._refreshing = False
        if not self.running:
            return
        for end in list(self.ends):
            for label, vector in found.items():
                end.session.local_changed(label, vector)
            end.carry_out()
        if self._stale:
            self.changed(set())

    def vectors(self) -> dict[str, dict[str, int]]:
        return {label: self.storage.vector(label) for label in self.storage.streams}


class End:
    """One side of a link: its session, and the work that the session asked for."""

    def __init__(self, member: Member, fingerprint: bytes, peer_fingerprint: bytes) -> None:
        self.member, self.world = member, member.world
        self.fingerprint, self.peer_fingerprint = fingerprint, peer_fingerprint
        self.remote: End | None = None
        self.connected = True
        self.session = Session(member.config(self), self.world.time.now)
        self.close_reason = ""
        self._work: deque[fx.Effect] = deque()
        self._working = False
        self._tick_soon = False
        self._last_arrival = 0.0
        member.ends.append(self)

    @property
    def peer_id(self) -> str:
        return self.session.peer.replica if self.session.peer else ""

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
                    self.member.errors.append(effect.text)
                case fx.Closed():
                    self._close(effect)
                case _:
                    self._work.append(effect)
                    self._start_work()
        if self.session.wants_tick_soon and not self._tick_soon and self.connected:
            self._tick_soon = True
            self.world.time.later(TICK_SOON, self._tick_now)

    def _close(self, effect: fx.Closed) -> None:
        self.close_reason = effect.reason
        if effect.is_error:
            self.member.errors.append(effect.reason)
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
        remote = self.remote
        for frame in frames:
            self.world.frames[TYPES[frame[1] & TYPE_MASK].__name__] += 1
            if remote is None or not remote.connected:
                continue
            self.world.time.at(remote._arrival(), lambda f=frame: remote.take(f))
            if self.world.random.random() < self.world.pace.duplicates:
                self.world.time.at(remote._arrival(), lambda f=frame: remote.take(f))

    def _arrival(self) -> float:
        time = self.world.time.now + self.world.draw(self.world.pace.frame)
        if self.world.random.random() < self.world.pace.overtaking:
            return time
        self._last_arrival = max(time, self._last_arrival)
        return self._last_arrival

    def take(self, frame: bytes) -> None:
        # A link that was cut loses what is on its way.
        if self.connected and self.remote is not None:
            self.session.receive(frame, self.world.time.now)
            self.carry_out()

    # -- work --------------------------------------------------------------------------------------------------------

    def _start_work(self) -> None:
        if self._work and not self._working:
            self._working = True
            self.world.time.later(self.world.draw(self.world.pace.work), self._do_work)

    def _do_work(self) -> None:
        """Do the oldest work in storage; its outcome reaches the session later."""
        if not self._work or not self.connected or not self.member.running:
            self._working = False
            return
        effect = self._work.popleft()
        storage = self.member.storage
        outcome: Any = None
        match effect:
            case fx.PeerIntroduced():
                outcome = self.member.vectors()
            case fx.ReadChanges():
                outcome = storage.read_changes(
                    effect.model, effect.vector, effect.after, (effect.cursor_start, effect.cursor_seq),
                    effect.batch_size,
                )  # fmt: skip
            case fx.ReadPush():
                outcome = storage.read_push(effect.model, effect.push_from)
            case fx.ApplyChanges():
                outcome = storage.apply(self.peer_id, effect.changes)
                self.member.changed({effect.changes.model})
        self.world.time.later(self.world.draw(self.world.pace.work), lambda: self._work_done(effect, outcome))

    def _work_done(self, effect: fx.Effect, outcome: Any) -> None:
        self._working = False
        if not self.connected:
            return
        now = self.world.time.now
        match effect:
            case fx.PeerIntroduced():
                if self.member.settles_on(self):
                    self.session.accept(outcome, now)
                else:
                    self.session.close("there is another connection between the two replicas")
            case fx.ReadChanges():
                self.session.changes_read(effect.model, effect.round, outcome)
            case fx.ReadPush():
                self.session.push_read(effect.model, outcome)
            case fx.ApplyChanges():
                self.session.changes_applied(effect.changes, *outcome, now)
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


def connect(a: Member, b: Member) -> tuple[End, End]:
    """Open a link between two members."""
    world = a.world
    world.links += 1
    prints = [f"{world.links}{side}".encode().ljust(32, b".") for side in "ab"]
    one, other = End(a, prints[0], prints[1]), End(b, prints[1], prints[0])
    one.remote, other.remote = other, one
    one.begin()
    other.begin()
    return one, other


def nonces(end: End) -> tuple[bytes, ...]:
    assert end.session.peer is not None
    return tuple(sorted((end.session.config.nonce, end.session.peer.nonce)))
