"""What one session knows about one model: what each side has, what is asked, sent and announced."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p_replication.protocol.messages import ModelOffer
from p2p_replication.protocol.version_vector import Vector, beyond, covers, joined


@dataclass
class Serve:
    """A pull of the peer that this side is answering. ``number``: in the order in which they came."""

    number: int
    round: int
    vector: Vector
    cursor_start: str
    cursor_seq: int
    batch_size: int
    #: The last ``seq`` sent in this round, or None before the first batch.
    after: int | None = None
    remaining: int = 0
    cursor_snapshot: int = 0


@dataclass
class ModelLink:
    """One model between this replica and one peer."""

    label: str
    #: Whether this replica takes rows from this peer, and gives it any.
    takes: bool = True
    gives: bool = True
    #: What this replica has, as of the last word from storage.
    local: Vector = field(default_factory=dict)
    #: What the peer has, as far as it said or was sent; None until its first REQUEST.
    peer: Vector | None = None
    #: What the peer knows of ``local``.
    told: Vector = field(default_factory=dict)
    #: What the peer said it has.
    announced: Vector = field(default_factory=dict)
    #: The own counter that the peer announced and its claim did not reach: it was asked for once more.
    unreached: int = 0
    #: The pull of this side: its number, and whether it is under way.
    round: int = 0
    pulling: bool = False
    pulled_once: bool = False
    wanted: bool = False
    #: Rows of a running pull that are still to come.
    remaining: int = 0
    #: Batches of the peer that are being applied.
    applying: int = 0
    serve: Serve | None = None
    #: Serial number of the push that is on its way, 0 if none is.
    push_serial: int = 0
    #: The peer could not take a push: it will ask, and until then own changes are announced.
    push_refused: bool = False
    announce_pending: bool = False
    #: What the peer has committed, by its own word.
    confirmed: Vector = field(default_factory=dict)
    rows_in: int = 0
    rows_out: int = 0

    @classmethod
    def between(cls, ours: ModelOffer, theirs: ModelOffer) -> ModelLink:
        """Make the link of two offers: rows go from who pushes to who pulls."""
        return cls(ours.label, ours.pulls and theirs.pushes, ours.pushes and theirs.pulls)

    def lacks_announced(self) -> bool:
        return self.takes and not covers(self.local, self.announced)

    @property
    def complete(self) -> bool:
        """Everything the peer announced is applied here."""
        if not self.takes:
            return True
        return self.pulled_once and not self.pulling and not self.applying and not self.lacks_announced()

    def to_announce(self, peer_start: str) -> Vector:
        """Return the entries of ``local`` that the peer was not told of, and does not have.

        Its own changes it has; it is told of those that came by another way than from itself, as it waits for the
        word that they have arrived.
        """
        untold = beyond(self.local, self.told)
        if not self.gives:
            untold = {origin: counter for origin, counter in untold.items() if origin == peer_start}
        had = {origin: counter for origin, counter in (self.peer or {}).items() if origin != peer_start}
        return beyond(untold, had)

    def peer_has(self, vector: Vector) -> None:
        self.peer = joined(self.peer or {}, vector)
