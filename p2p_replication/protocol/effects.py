"""What a session wants done by its surroundings. The replicator carries them out, in order."""

from __future__ import annotations

from dataclasses import dataclass

from p2p_replication.protocol.messages import Changes, Digest, DigestRequest, Hello


@dataclass(frozen=True)
class Send:
    frames: list[bytes]


@dataclass(frozen=True)
class PeerIntroduced:
    """The peer's HELLO and AUTH are right: call ``accept()``, or ``close()`` to refuse it."""

    hello: Hello


@dataclass(frozen=True)
class WantPull:
    """The peer has something that this replica lacks (``initial``: or may have): call ``pull()`` when it suits."""

    model: str
    initial: bool = False


@dataclass(frozen=True)
class PullDone:
    model: str


@dataclass(frozen=True)
class ReadChanges:
    """Read what the session's ``pull_wishes`` are then, from one snapshot; give it back with ``changes_read``."""


@dataclass(frozen=True)
class PullWish:
    """The next batch of one model for the peer's pull."""

    model: str
    round: int
    vector: dict[str, int]
    #: ``after`` of a batch already sent in this round, or None: then map the asker's cursor.
    after: int | None
    cursor_start: str
    cursor_seq: int
    batch_size: int
    cursor_snapshot: int = 0


@dataclass(frozen=True)
class ReadPush:
    """Read what the session's ``push_wishes`` are then, from one snapshot; give it back with ``push_read``."""


@dataclass(frozen=True)
class ApplyChanges:
    """Apply batches, in one transaction if there are several; give each one's outcome back with ``changes_applied``."""

    batches: tuple[Changes, ...]


@dataclass(frozen=True)
class ReadDigest:
    """Read the digests that the peer asks for; give them back with ``digest_read``."""

    request: DigestRequest


@dataclass(frozen=True)
class DigestArrived:
    """The peer has answered ``ask_digest``."""

    digest: Digest


@dataclass(frozen=True)
class PeerError:
    """Something that people should see; the session goes on."""

    text: str
    model: str = ""


@dataclass(frozen=True)
class Closed:
    """The session is over: close the connection."""

    reason: str
    #: It ended as one side broke the rules or was refused, not by a plain goodbye.
    is_error: bool = False


Effect = (
    Send
    | PeerIntroduced
    | WantPull
    | PullDone
    | ReadChanges
    | ReadPush
    | ApplyChanges
    | ReadDigest
    | DigestArrived
    | PeerError
    | Closed
)
