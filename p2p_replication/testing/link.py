"""A link between two replicas of a local pool: two real sessions, whose frames are handed over at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from p2p_replication.pool.bundles import read_for_pulls, read_for_push
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.introduction import SessionConfig
from p2p_replication.protocol.phases import Phase
from p2p_replication.protocol.session import Position, Session
from p2p_replication.testing.replica import LocalReplica
from p2p_replication.transport import identity

#: Sessions are not to grow old: the pool's clock is another one.
NOW = 0.0


class Side:
    """One replica's session with another one, and what a replicator does for it."""

    def __init__(self, replica: LocalReplica, report: Callable[[str], None]) -> None:
        self.replica = replica
        self.other: Side
        self._report = report
        database = replica.database
        self.session = Session(
            SessionConfig(
                replica_id=database.replica_id,
                start=database.start,
                name=replica.alias,
                topic=replica.topic,
                public_key=identity.public_key(database.secret_key),
                nonce=os.urandom(32),
                now_ms=database.now_ms(),
                models=tuple(part.offer() for part in replica.parts.values()),
                sign=lambda payload: identity.sign(database.secret_key, payload),
                verify=identity.verify,
                batch_sizes={label: part.batch_size for label, part in replica.parts.items()},
            ),
            NOW,
        )
        replica.sides.append(self)

    @property
    def peer(self) -> str:
        return self.session.peer.replica if self.session.peer is not None else ""

    def pull(self, models: Mapping[str, bool]) -> None:
        """Ask the other side for these models: those that are ``True`` in any case."""
        positions: dict[str, Position] = {}
        for model, initial in models.items():
            link, part = self.session.links.get(model), self.replica.parts[model]
            if link is not None and (initial or link.lacks_announced()):
                positions[model] = part.vector(), part.cursor(self.peer)
                continue
            if link is not None:
                link.wanted = False
            self.replica.schedule.done(self, model)
        self.session.pull(positions, NOW)

    def carry_out(self) -> bool:
        """Carry out what the session wants done; tell whether it was anything."""
        effects = self.session.drain()
        for effect in effects:
            self._carry_out(effect)
        return bool(effects)

    def _carry_out(self, effect: fx.Effect) -> None:
        parts, session = self.replica.parts, self.session
        match effect:
            case fx.Send():
                for frame in effect.frames:
                    self.other.session.receive(frame, NOW)
            case fx.PeerIntroduced():
                for offer in effect.hello.models:
                    if offer.label in parts:
                        parts[offer.label].meet(effect.hello.replica, offer)
                session.accept({label: part.vector() for label, part in parts.items()}, NOW)
            case fx.WantPull():
                self.replica.want_pull(self, effect.model, effect.initial)
            case fx.PullDone():
                self.replica.schedule.done(self, effect.model)
            case fx.ReadChanges():
                pulled = session.pull_wishes()
                session.changes_read(pulled, read_for_pulls(parts, self.peer, pulled) if pulled else [])
            case fx.ReadPush():
                pushed = session.push_wishes()
                session.push_read(read_for_push(parts, self.peer, pushed) if pushed else {})
            case fx.ApplyChanges():
                for changes, applied in self.replica.apply(self.peer, effect.batches):
                    session.changes_applied(changes, applied.vector, applied.taken, NOW)
            case fx.PeerError():
                self._report(f"{self.replica.alias}: {effect.text}")
            case fx.Closed() if effect.is_error:
                self._report(f"{self.replica.alias}: {effect.reason}")

    def close(self) -> None:
        self.session.connection_lost("the link is cut")
        self.session.drain()
        self.replica.schedule.gone(self)
        self.replica.sides.remove(self)


class Link:
    """Both sides."""

    def __init__(self, one: LocalReplica, other: LocalReplica, report: Callable[[str], None]) -> None:
        self.sides = (Side(one, report), Side(other, report))
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]

    @property
    def is_open(self) -> bool:
        return all(side.session.phase is not Phase.CLOSED for side in self.sides)

    def carry_out(self) -> bool:
        """Let both sides do what there is to do; tell whether there was anything."""
        one, other = (side.carry_out() for side in self.sides)
        return one or other

    def tick(self) -> bool:
        """Let gathered announcements go; tell whether there were any."""
        for side in self.sides:
            side.session.tick(NOW)
        return self.carry_out()

    def close(self) -> None:
        for side in self.sides:
            side.close()
