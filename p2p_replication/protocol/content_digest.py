"""Digests of a model's content, by which two replicas find out whether they hold the same rows, and which differ.

A row's hash covers its key and its whole state, deleted rows included. The hash of its key puts it into one of
``BUCKETS`` buckets, and a bucket's digest is the sum of its rows' hashes, so that the order of rows means nothing. Two
replicas compare the sums first, and then the rows of a few buckets whose sums differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import msgspec

from p2p_replication.protocol.row_state import RowState

BUCKETS = 1024
#: Bytes of a hash, and of a bucket's sum.
HASH_SIZE = 16
MODULUS = 1 << 8 * HASH_SIZE
#: Buckets whose rows may be asked for at once, and about how many bytes they may come to.
MAX_ASKED = 8
MAX_ROWS_SIZE = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode


def key_hash(key: Any) -> bytes:
    """Return the hash that orders rows and puts them into buckets. ``key``: in wire form."""
    return hashlib.blake2b(_encode(key), digest_size=HASH_SIZE).digest()


def bucket_of(hashed_key: bytes) -> int:
    return int.from_bytes(hashed_key[:4], "big") % BUCKETS


def row_hash(key: Any, state: RowState) -> bytes:
    """Return the hash of a row: equal for states that are equal, whatever database they lie in."""
    fields = [(name, clock, _canonical(value)) for name, (clock, value) in sorted(state.fields().items())]
    content = _encode((key, state.inserted, state.deleted, fields))
    return hashlib.blake2b(content, digest_size=HASH_SIZE).digest()


def _canonical(value: Any) -> Any:
    """Floats that count as the same value are the same bits: the two zeros, and all that is not a number."""
    if type(value) is float:
        if value == 0.0:
            return 0.0
        if value != value:
            return float("nan")
    return value


class BucketSums:
    """The sum of each bucket, row by row in any order."""

    def __init__(self) -> None:
        self._sums = [0] * BUCKETS

    def add(self, key: Any, state: RowState) -> None:
        number = bucket_of(key_hash(key))
        self._sums[number] = (self._sums[number] + int.from_bytes(row_hash(key, state), "big")) % MODULUS

    def packed(self) -> bytes:
        """Return all sums, one after another."""
        return b"".join(total.to_bytes(HASH_SIZE, "big") for total in self._sums)


def differing_buckets(ours: bytes, theirs: bytes) -> list[int]:
    """Return the numbers of the buckets whose packed sums differ."""
    return [
        i // HASH_SIZE
        for i in range(0, BUCKETS * HASH_SIZE, HASH_SIZE)
        if ours[i : i + HASH_SIZE] != theirs[i : i + HASH_SIZE]
    ]


class BucketRows:
    """The rows of some buckets in the order of their hashed keys, as far as they have room in a message."""

    def __init__(self, buckets: Collection[int], limit: int = MAX_ROWS_SIZE) -> None:
        self._buckets = frozenset(buckets)
        self._limit = limit
        self._rows: list[tuple[bytes, Any, bytes]] = []
        self._size = 0
        #: Rows from this hashed key on had no room.
        self._end: bytes | None = None

    def add(self, key: Any, state: RowState) -> None:
        hashed = key_hash(key)
        if bucket_of(hashed) not in self._buckets or (self._end is not None and hashed >= self._end):
            return
        self._rows.append((hashed, key, row_hash(key, state)))
        self._size += _size(key)
        if self._size > 2 * self._limit:
            self._cut()

    def rows(self) -> tuple[list[Any], bytes, bool]:
        """Return the keys, their rows' hashes one after another, and whether some had no room."""
        self._cut()
        return [key for _, key, _ in self._rows], b"".join(row for _, _, row in self._rows), self._end is not None

    def _cut(self) -> None:
        self._rows.sort(key=lambda row: row[0])
        size = 0
        for i, (hashed, key, _) in enumerate(self._rows):
            size += _size(key)
            if size > self._limit:
                self._end = hashed
                del self._rows[i:]
                size -= _size(key)
                break
        self._size = size


def _size(key: Any) -> int:
    """Return about how many bytes a row takes in the message."""
    return HASH_SIZE + 8 + (4 * len(key) if type(key) is str else len(key) if type(key) is bytes else 8)
