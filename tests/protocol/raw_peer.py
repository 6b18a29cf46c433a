"""A peer made by hand, that says whatever a test wants to one real session, correct or not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeVar

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import ChangedRow, PushBatch, ReadBatch, pack_rows
from p2p_replication.protocol.framing import Decoder, Encoder
from p2p_replication.protocol.introduction import DIGESTS, SessionConfig, auth_payload
from p2p_replication.protocol.messages import (
    PROTOCOL_VERSION,
    Ack,
    Auth,
    Changes,
    Hello,
    Message,
    ModelOffer,
    Request,
    Rows,
)
from p2p_replication.protocol.row_state import RowState
from p2p_replication.protocol.session import Phase, Session
from p2p_replication.transport import identity

M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=fx.Effect)

OURS, THEIRS = b"o" * 32, b"t" * 32
OFFER = ModelOffer("m", {"": "text", "title": "text"})


def config(name: str = "us", **changes: Any) -> SessionConfig:
    """Return the configuration of a replica whose key and ids follow from its name."""
    secret = hashlib.sha256(name.encode()).digest()
    values: dict[str, Any] = {
        "replica_id": hashlib.md5(name.encode()).hexdigest(),
        "start": name,
        "name": name,
        "topic": "field-team",
        "public_key": identity.public_key(secret),
        "nonce": hashlib.sha256(b"nonce of " + name.encode()).digest(),
        "now_ms": 0,
        "models": (OFFER,),
        "sign": lambda payload: identity.sign(secret, payload),
        "verify": identity.verify,
        "local_fingerprint": OURS,
        "remote_fingerprint": THEIRS,
    }
    return SessionConfig(**{**values, **changes})


class RawPeer:
    """One real session (``session``) and its hand-made peer."""

    def __init__(self, now: float = 0.0, **changes: Any) -> None:
        self.now = now
        self.session = Session(config(**changes), now)
        self.own = config("peer", local_fingerprint=THEIRS, remote_fingerprint=OURS)
        self.hello = Hello(
            PROTOCOL_VERSION,
            self.own.replica_id,
            self.own.public_key,
            self.own.nonce,
            "peer",
            "peer",
            0,
            [OFFER],
            [DIGESTS],
        )
        self.said: list[Message] = []
        self.effects: list[fx.Effect] = []
        self._encoder, self._decoder = Encoder(), Decoder()
        self.serial = 0
        self.look()

    def look(self) -> None:
        """Take what the session has sent and what it wants done."""
        for effect in self.session.drain():
            if isinstance(effect, fx.Send):
                messages = [self._decoder.feed(frame) for frame in effect.frames]
                self.said += [message for message in messages if message is not None]
            else:
                self.effects.append(effect)

    def say(self, *messages: Message) -> None:
        for message in messages:
            for frame in self._encoder.encode(message):
                self.session.receive(frame, self.now)
        self.look()

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.look()

    def heard(self, kind: type[M]) -> list[M]:
        """Return the messages of a kind that the session has said since the last call, and forget the others."""
        said, self.said = self.said, []
        return [message for message in said if isinstance(message, kind)]

    def wanted(self, kind: type[E]) -> list[E]:
        """Return the effects of a kind since the last call, and forget the others."""
        effects, self.effects = self.effects, []
        return [effect for effect in effects if isinstance(effect, kind)]

    @property
    def is_open(self) -> bool:
        return self.session.phase is Phase.OPEN

    @property
    def was_refused(self) -> bool:
        """The session has ended, and said that it was the peer's fault."""
        closed = [effect for effect in self.effects if isinstance(effect, fx.Closed)]
        return self.session.phase is Phase.CLOSED and len(closed) == 1 and closed[0].is_error

    # -- the introduction ----------------------------------------------------------------------------------------------

    def auth(self) -> Auth:
        payload = auth_payload(self.own.topic, self.hello, self.session.config.hello(), THEIRS, OURS)
        return Auth(self.own.sign(payload))

    def introduce(self) -> RawPeer:
        self.say(self.hello, self.auth())
        assert self.session.phase is Phase.INTRODUCED, self.effects
        return self

    def open(self, vector: dict[str, int] | None = None) -> RawPeer:
        """Be let in."""
        self.introduce()
        self.accept(vector)
        assert self.is_open
        return self

    def accept(self, vector: dict[str, int] | None = None) -> None:
        labels = [offer.label for offer in self.session.config.models]
        self.session.accept({label: vector or {} for label in labels}, self.now)
        self.look()

    # -- what a correct peer says --------------------------------------------------------------------------------------

    def ask(self, vector: dict[str, int] | None = None, round: int = 1, model: str = "m") -> None:
        self.say(Request(model, round, vector or {}, "", 0))

    def batch(self, *rows: ChangedRow, **values: Any) -> Changes:
        """Return a batch as a correct peer sends it: of a pull from 0, with a claim; ``values`` changes that."""
        self.serial += 1
        given: dict[str, Any] = {
            "model": "m", "serial": self.serial, "round": 1, "start": "peer", "from_seq": 0,
            "to_seq": max((row.seq for row in rows), default=0), "continues": None, "push_from": 0,
            "claim": {"peer": 5}, "remaining": 0, "rows": pack_rows(["title"], rows),
        }  # fmt: skip
        return Changes(**{**given, **values})

    # -- what storage answers ------------------------------------------------------------------------------------------

    def pull(self, vector: dict[str, int] | None = None) -> None:
        self.session.pull({"m": (vector or {}, ("", 0, 0))}, self.now)
        self.look()

    def read(self, count: int, *, vector: dict[str, int] | None = None, round: int = 1, size: int = 10) -> None:
        """Answer the ReadChanges that is wanted."""
        batch = self.read_batch(count, vector, size)
        wishes = [wish for wish in self.session.pull_wishes() if wish.model == "m"]
        self.session.changes_read([replace(wish, round=round) for wish in wishes], [batch])
        self.look()

    def read_batch(self, count: int, vector: dict[str, int] | None, size: int = 10) -> ReadBatch:
        """Return a batch as it is read for a pull."""
        return ReadBatch("us", 0, count, some_rows(count, size), count, vector)

    def push_batch(self, push_from: int, push_to: int, rows: Rows | None) -> PushBatch:
        """Return own changes as they are read for a push."""
        return PushBatch(push_from, push_to, "us", rows, 0)

    def read_push(self, push_from: int, push_to: int, rows: Rows | None) -> None:
        self.session.push_read({"m": self.push_batch(push_from, push_to, rows)})
        self.look()

    def applied(self, changes: Changes, vector: dict[str, int], *, taken: bool = True) -> None:
        self.session.changes_applied(changes, vector, taken, self.now)
        self.look()


def row(number: int, title: str = "t", origin: str = "peer") -> ChangedRow:
    return ChangedRow(
        f"k{number}",
        number,
        {origin: number},
        (origin, number),
        RowState(number, clock=number, values={"title": title}),
    )


def some_rows(count: int, size: int = 10) -> Rows:
    """Return rows whose values don't compress."""
    numbers = range(1, count + 1)
    titles = [hashlib.shake_128(bytes([n % 256])).hexdigest(max(size // 2, 1)) for n in numbers]
    return pack_rows(["title"], [row(n, title, "us") for n, title in zip(numbers, titles, strict=True)])


def caught_up(vector: dict[str, int]) -> RawPeer:
    """Return an open session whose peer has all of ``vector``, and that has pulled from it."""
    peer = RawPeer().open(vector)
    peer.ask(vector)
    peer.read(0, vector=vector)
    batch = peer.batch(claim=vector)
    peer.pull(vector)
    peer.say(Ack(1, True), batch)
    peer.applied(batch, vector)
    peer.heard(Ack)
    peer.wanted(fx.Closed)
    return peer
