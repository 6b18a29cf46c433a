"""A replica's part in one pool while its worker runs: its links, and which of them is asked when.

``PoolMember`` does what ``pool.live_pool.LivePool`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.introduction import SessionConfig
from p2p_replication.protocol.messages import ModelOffer
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.pull_schedule import PullSchedule
from p2p_replication.protocol.session import Position
from p2p_replication.protocol.version_vector import Vector
from p2p_replication.transport import identity
from tests.simulation.storage_model import FIELDS, Work

if TYPE_CHECKING:
    from tests.simulation.links import End
    from tests.simulation.machine import Worker


class PoolMember:
    def __init__(self, pool: str, worker: Worker) -> None:
        self.pool, self.worker, self.world = pool, worker, worker.world
        self.storage = worker.storage
        self.ends: list[End] = []
        self.schedule = PullSchedule()
        self._pumping = False
        self._labels = [label for name, label in self.storage.declarations if name == pool]
        self._stale: set[str] = set()
        self._refreshing = False

    @property
    def name(self) -> str:
        return self.worker.machine.name

    @property
    def running(self) -> bool:
        return self.worker.running

    def stop(self) -> None:
        for end in list(self.ends):
            end.cut()

    def config(self, end: End) -> SessionConfig:
        machine = self.worker.machine
        return SessionConfig(
            replica_id=machine.replica_id,
            start=self.storage.start,
            name=machine.name,
            topic=self.pool,
            public_key=identity.public_key(machine.secret),
            nonce=self.world.random.randbytes(32),
            now_ms=machine.now_ms(),
            models=tuple(ModelOffer(label, {"": "text"} | dict.fromkeys(FIELDS, "text")) for label in self._labels),
            sign=lambda payload: identity.sign(machine.secret, payload),
            verify=identity.verify,
            local_fingerprint=end.fingerprint,
            remote_fingerprint=end.peer_fingerprint,
            window=self.world.window,
        )

    # -- links -------------------------------------------------------------------------------------------------------

    def open_ends(self) -> list[End]:
        return [end for end in self.ends if end.session.phase is Phase.OPEN]

    def connected_peers(self) -> list[str]:
        return [end.peer_id for end in self.open_ends()]

    def settles_on(self, new: End) -> bool:
        """Keep one connection per replica, by the nonces that both ends know."""
        for old in list(self.ends):
            if old is new or old.session.phase is not Phase.OPEN or old.peer_id != new.peer_id:
                continue
            assert old.session.peer is not None and new.session.peer is not None
            if old.session.peer.start == new.session.peer.start and _nonces(old) < _nonces(new):
                return False
            old.session.close("replaced")
            old.carry_out()
        return True

    def gone(self, end: End) -> None:
        """A link has ended."""
        if end in self.ends:
            self.ends.remove(end)
        self.schedule.gone(end)
        self.pump_soon()

    # -- pulls -------------------------------------------------------------------------------------------------------

    def want_pull(self, end: End, wish: fx.WantPull) -> None:
        link, peer = end.session.links.get(wish.model), end.session.peer
        if link is None or peer is None:
            return
        direct = link.announced.get(peer.start, 0) > link.local.get(peer.start, 0)
        self.schedule.want(end, wish.model, 0, self.world.time.now, initial=wish.initial, direct=direct)
        self.pump_soon()

    def pull_done(self, end: End, model: str) -> None:
        self.schedule.done(end, model)
        self.pump_soon()

    def pump_soon(self) -> None:
        """Look for a pull once all is said of this moment."""
        if not self._pumping:
            self._pumping = True
            self.world.time.later(0.0, self.pump)

    def pump(self) -> None:
        """Start the pull that is due; look again when the next one will be."""
        self._pumping = False
        if not self.running:
            return
        while (pull := self.schedule.next(self.world.time.now)) is not None:
            self._begin_pull(*pull)
        due = self.schedule.next_due()
        if due is not None:
            self.world.time.at(due, self.pump)

    def _begin_pull(self, end: End, models: Mapping[str, bool]) -> None:
        wanted = [model for model, initial in models.items() if self._is_wanted(end, model, initial)]
        if wanted:
            self.worker.do(self._positions(end, wanted), lambda positions: self._pull(end, wanted, positions))

    def _is_wanted(self, end: End, model: str, initial: bool) -> bool:
        link = end.session.links.get(model)
        if link is not None and end.session.phase is Phase.OPEN and (initial or link.lacks_announced()):
            return True
        if link is not None:
            link.wanted = False
        self.schedule.done(end, model)
        return False

    def _positions(self, end: End, models: Sequence[str]) -> Work[dict[str, Position]]:
        return {model: self.storage.position(self.pool, model, end.peer_id) for model in models}
        yield

    def _pull(self, end: End, models: Sequence[str], positions: Mapping[str, Position]) -> None:
        for model in models:
            if end.session.phase is not Phase.OPEN or model not in end.session.links:
                self.pull_done(end, model)
        end.session.pull(positions, self.world.time.now)
        end.carry_out()

    # -- changes -----------------------------------------------------------------------------------------------------

    def changed(self, labels: set[str]) -> None:
        """Models have new versions: let the sessions tell their peers."""
        self._stale |= labels & set(self._labels)
        if self._stale and not self._refreshing:
            self._refreshing = True
            self._refresh()

    def _refresh(self) -> None:
        labels, self._stale = sorted(self._stale), set()
        self.worker.do(self._vectors(labels), self._tell)

    def _vectors(self, labels: list[str]) -> Work[dict[str, Vector]]:
        return {label: self.storage.vector(self.pool, label) for label in labels}
        yield

    def vectors(self) -> Work[dict[str, Vector]]:
        """Read what this replica has of each model."""
        return self._vectors(self._labels)

    def _tell(self, vectors: dict[str, Vector]) -> None:
        for end in list(self.ends):
            for label, vector in vectors.items():
                end.session.local_changed(label, vector)
            end.carry_out()
        if self._stale:
            self._refresh()
        else:
            self._refreshing = False


def _nonces(end: End) -> tuple[bytes, ...]:
    """Return what names a connection alike on both ends."""
    assert end.session.peer is not None
    return tuple(sorted((end.session.config.nonce, end.session.peer.nonce)))
