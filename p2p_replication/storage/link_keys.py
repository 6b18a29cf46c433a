"""The key of a many-to-many row: its two ends, in one text in the log and the ledger, in one value on the wire.

In the text a slash stands between the ends' keys; in the first one "/" is written "~1" and "~" is written "~0", as in a
JSON pointer (RFC 6901). That needs nothing of SQL but ``replace``, so that any client's triggers can do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from p2p_replication.storage.codecs import FieldCodec

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[Any, Any]).decode


def link_text(first: str, second: str) -> str:
    """Return the SQL of a link's key, from the SQL of its ends' keys as text."""
    return f"replace(replace({first}, '~', '~0'), '/', '~1') || '/' || {second}"


def end_texts(text: str, position: str) -> tuple[str, str]:
    """Return the SQL of the ends' keys, from the SQL of a link's key.

    Args:
        position: the database's name for the function that finds a text in another.
    """
    cut = f"{position}({text}, '/')"
    return f"replace(replace(substr({text}, 1, {cut} - 1), '~1', '/'), '~0', '~')", f"substr({text}, {cut} + 1)"


def joined(first: str, second: str) -> str:
    """Return the key of a link between two rows."""
    return f"{first.replace('~', '~0').replace('/', '~1')}/{second}"


def split(key: str) -> tuple[str, str]:
    """Return the keys of a link's two ends. Raises ValueError for what is no key of a link."""
    first, slash, second = key.partition("/")
    if not slash:
        raise ValueError(f"{key!r} does not name two rows")
    return first.replace("~1", "/").replace("~0", "~"), second


def link_codec(ends: Sequence[FieldCodec]) -> FieldCodec:
    """Return how a link's key travels: as a msgpack list of its ends' wire keys, in bytes."""

    def to_wire(key: str) -> bytes:
        return _pack(
            [codec.to_wire(end) if codec.to_wire else end for codec, end in zip(ends, split(key), strict=True)]
        )

    def from_wire(value: Any) -> str:
        try:
            first, second = _unpack(value)
        except (msgspec.MsgspecError, TypeError, RecursionError) as error:
            raise ValueError(f"{value!r} is no pair of keys") from error
        keys = [
            codec.from_wire(end) if codec.from_wire else end for codec, end in zip(ends, (first, second), strict=True)
        ]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError(f"{value!r} is no pair of keys")
        text = joined(*keys)
        # There is one way to write a key, or a row could come twice under two of them.
        if to_wire(text) != value:
            raise ValueError(f"{value!r} is not the plain form of a pair of keys")
        return text

    kind = f"link of ({ends[0].wire_type}) and ({ends[1].wire_type})"
    return FieldCodec("", "", kind, to_wire, from_wire)
