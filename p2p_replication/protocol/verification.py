"""What digests of two sides mean: whether their content is equal, and which rows differ. And which digests can be."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.msgpack import Ext

from p2p_replication.protocol.changes import MAX_INTEGER, check_vector
from p2p_replication.protocol.content_digest import (
    BUCKETS,
    HASH_SIZE,
    MAX_ASKED,
    bucket_of,
    differing_buckets,
    key_hash,
)
from p2p_replication.protocol.conversation import shown
from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.messages import BYTES, Digest, DigestRequest

MAX_LABEL = 200
MAX_TEXT = 500


def refusal(text: str) -> Digest:
    """Return the answer of a side that can't compare: the text says why."""
    return Digest("", 0, {}, text[:MAX_TEXT], "", b"", [], b"", False, 0)


def check_request(request: DigestRequest) -> None:
    """Raise RemoteProtocolError unless a question can come from a correct peer."""
    if len(request.model) > MAX_LABEL or not 1 <= request.number <= MAX_INTEGER:
        raise RemoteProtocolError("a DIGEST_REQUEST with a label or number out of range")
    buckets = request.buckets
    if len(buckets) > MAX_ASKED or len(set(buckets)) != len(buckets) or not all(0 <= n < BUCKETS for n in buckets):
        raise RemoteProtocolError("a DIGEST_REQUEST with buckets out of range")


def check_digest(digest: Digest, buckets: Sequence[int]) -> None:
    """Raise RemoteProtocolError unless an answer can come from a correct peer that was asked for these buckets."""
    check_vector(digest.vector)
    if len(digest.refused) > MAX_TEXT or len(digest.unsettled) > MAX_TEXT or not 0 <= digest.untracked <= MAX_INTEGER:
        raise RemoteProtocolError("a DIGEST with an overlong text or a number out of range")
    if digest.refused:
        return
    if len(digest.sums) != (0 if buckets else BUCKETS * HASH_SIZE):
        raise RemoteProtocolError("a DIGEST with another number of buckets than there are")
    if len(digest.hashes) != HASH_SIZE * len(digest.keys) or (digest.keys and not buckets):
        raise RemoteProtocolError("a DIGEST whose keys and hashes do not fit together")
    if any(type(key) is Ext and key.code != BYTES for key in digest.keys):
        raise RemoteProtocolError("a key of an unknown kind")
    keys = [plain(key) for key in digest.keys]
    if len(set(keys)) != len(keys):
        raise RemoteProtocolError("a key comes twice in a DIGEST")
    hashed = [key_hash(key) for key in keys]
    if hashed != sorted(hashed) or not all(bucket_of(key) in buckets for key in hashed):
        raise RemoteProtocolError("a DIGEST with a key out of its order or bucket")


def plain(key: Any) -> Any:
    """Return a key of a message in wire form."""
    return bytes(key.data) if type(key) is Ext else key


class Outcome(enum.Enum):
    EQUAL = "equal"
    DIFFERENT = "different"
    #: Changes are on their way: ask again.
    UNDER_WAY = "changes under way"
    #: The model does not replicate with this peer, or the peer does not answer such questions.
    LEFT_OUT = "not comparable"
    #: It should be comparable, but something went wrong.
    FAILED = "not compared"


@dataclass(frozen=True)
class Comparison:
    outcome: Outcome
    #: Why it is not comparable now, or what else is to be said.
    text: str = ""
    #: Buckets whose rows differ.
    buckets: tuple[int, ...] = ()


def compare(ours: Digest, theirs: Digest) -> Comparison:
    """Compare two answers to the question for all sums.

    Content that differs means something only where both sides have seen the same changes, in snapshots in which
    nothing was waiting.
    """
    for digest in (ours, theirs):
        if digest.refused:
            return Comparison(Outcome.FAILED, shown(digest.refused))
    buckets = tuple(differing_buckets(ours.sums, theirs.sums))
    counts = ((ours.untracked, "here"), (theirs.untracked, "there"))
    untracked = " and ".join(f"{count} rows {where}" for count, where in counts if count)
    if untracked:
        untracked += " were written past the triggers; on that side run: manage.py p2p rescan"
    if not buckets:
        return Comparison(Outcome.DIFFERENT if untracked else Outcome.EQUAL, untracked)
    if ours.unsettled or theirs.unsettled:
        text = f"here {ours.unsettled}" if ours.unsettled else f"there {shown(theirs.unsettled)}"
        return Comparison(Outcome.UNDER_WAY, text)
    if ours.vector != theirs.vector:
        return Comparison(Outcome.UNDER_WAY, "the two sides have not seen the same changes yet")
    return Comparison(Outcome.DIFFERENT, untracked, buckets)


@dataclass(frozen=True)
class Differences:
    """The keys of the rows that differ, in wire form; ``complete``: of all that were looked at."""

    only_here: tuple[Any, ...]
    only_there: tuple[Any, ...]
    different: tuple[Any, ...]
    complete: bool


def differences(ours: Digest, theirs: Digest) -> Differences | None:
    """Compare two answers to the question for rows; None if they say nothing, or changes came in between."""
    if any(d.refused or d.unsettled for d in (ours, theirs)) or ours.vector != theirs.vector:
        return None
    mine, others = _rows(ours), _rows(theirs)
    # A side whose rows had no room for all says nothing of what lies behind its last one.
    ends = [max(map(key_hash, rows), default=b"") for rows, digest in ((mine, ours), (others, theirs)) if digest.cut]
    end = min(ends) if ends else None

    def seen(key: Any) -> bool:
        return end is None or key_hash(key) <= end

    return Differences(
        tuple(key for key in mine if key not in others and seen(key)),
        tuple(key for key in others if key not in mine and seen(key)),
        tuple(key for key in mine if key in others and mine[key] != others[key]),
        end is None,
    )


def _rows(digest: Digest) -> dict[Any, bytes]:
    hashes = digest.hashes
    return {plain(key): hashes[HASH_SIZE * i : HASH_SIZE * (i + 1)] for i, key in enumerate(digest.keys)}
