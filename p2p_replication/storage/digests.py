"""Content digests: four bytes a field, so that a difference names the fields that differ.

They find writes that no trigger saw (a migration, ``INSERT OR REPLACE``, disabled triggers), nothing more: a CRC is
enough against accidents, and a change has one chance in four thousand million to go unnoticed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

DIGEST_SIZE = 4

_encode = msgspec.msgpack.Encoder().encode
_crc = zlib.crc32


@cache
def _packer(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}I")


def field_digests(values: Sequence[Any]) -> bytes:
    """Return the digests of wire values, one after another."""
    return _packer(len(values)).pack(*[_crc(_encode(value)) for value in values])


def differing(digest: bytes, other: bytes) -> Iterable[int]:
    """Yield the numbers of the fields whose digests differ (all of them, if the lengths do)."""
    if len(digest) != len(other):
        return range(max(len(digest), len(other)) // DIGEST_SIZE)
    return [
        i // DIGEST_SIZE
        for i in range(0, len(digest), DIGEST_SIZE)
        if digest[i : i + DIGEST_SIZE] != other[i : i + DIGEST_SIZE]
    ]
