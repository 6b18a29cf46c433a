"""Messages to frames and back.

A frame is ``version (1 byte) | type and flags (1 byte) | body``. Flag 0x40: the body is zstd. Flag 0x80: more frames
of this message follow; the receiver puts the bodies together. The channel is ordered, so fragments never interleave.
"""

from __future__ import annotations

import msgspec
import zstandard

from p2p_replication.protocol.messages import NUMBERS, TYPES, Changes, Digest, Hello, Message, Request, State

WIRE_VERSION = 1
COMPRESSED = 0x40
MORE = 0x80
TYPE_MASK = 0x3F
#: A frame's limit, header included: what any WebRTC peer takes.
MAX_FRAME = 65_536
#: Limit of a whole message on the wire.
MAX_MESSAGE = 16 * 1024 * 1024
#: Limits of a message unpacked. A byte of msgpack can become many times as much in memory.
MAX_UNPACKED: dict[type[Message], int] = {
    Hello: 256 * 1024,
    State: 2 * 1024 * 1024,
    Request: 2 * 1024 * 1024,
    Changes: 32 * 1024 * 1024,
    Digest: 2 * 1024 * 1024,
}
MAX_UNPACKED_SMALL = 64 * 1024
#: Below this size compression costs more than it saves.
COMPRESS_FROM = 256
COMPRESSION_LEVEL = 3

_encode = msgspec.msgpack.Encoder().encode
_decoders = {number: msgspec.msgpack.Decoder(message) for number, message in TYPES.items()}


class RemoteProtocolError(Exception):
    """The other side sent something that no correct peer sends."""


class LocalProtocolError(Exception):
    """This side asked for something that the protocol can't do."""


class Encoder:
    """Encodes messages to lists of frames."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress

    def encode(self, message: Message) -> list[bytes]:
        """Return the frames of a message. Raises LocalProtocolError if it is too large."""
        body = _encode(message)
        flags = NUMBERS[type(message)]
        limit = MAX_UNPACKED.get(type(message), MAX_UNPACKED_SMALL)
        if len(body) > limit:
            raise LocalProtocolError(f"a {type(message).__name__} of {len(body)} bytes is above {limit}")
        if len(body) >= COMPRESS_FROM:
            packed = self._compress(body)
            if len(packed) < len(body):
                body, flags = packed, flags | COMPRESSED
        if len(body) > MAX_MESSAGE:
            raise LocalProtocolError(f"a {type(message).__name__} of {len(body)} packed bytes is above {MAX_MESSAGE}")
        room = MAX_FRAME - 2
        parts = [body[i : i + room] for i in range(0, len(body), room)] or [b""]
        last = len(parts) - 1
        return [bytes((WIRE_VERSION, flags | (MORE if i < last else 0))) + part for i, part in enumerate(parts)]


class Decoder:
    """Puts frames together to messages."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._flags = -1
        #: Size of the last message, unpacked.
        self.unpacked = 0
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_MESSAGE)

    def feed(self, frame: bytes, allowed: tuple[type[Message], ...] = tuple(NUMBERS)) -> Message | None:
        """Take one frame; return the message it completes, if it does. Others than ``allowed`` are not unpacked.

        Raises RemoteProtocolError for anything malformed or above the limits.
        """
        if len(frame) < 2:
            raise RemoteProtocolError(f"a frame of {len(frame)} bytes")
        if frame[0] != WIRE_VERSION:
            raise RemoteProtocolError(f"wire version {frame[0]}; this side speaks {WIRE_VERSION}")
        flags = frame[1] & ~MORE
        if frame[1] & MORE and len(frame) == 2:
            raise RemoteProtocolError("an empty fragment")
        if self._parts and flags != self._flags:
            raise RemoteProtocolError("a fragmented message was interrupted by another one")
        self._flags = flags
        self._parts.append(frame[2:])
        self._size += len(frame) - 2
        if self._size > MAX_MESSAGE:
            raise RemoteProtocolError(f"a message above {MAX_MESSAGE} bytes")
        if frame[1] & MORE:
            return None
        body = b"".join(self._parts)
        self._parts, self._size = [], 0
        return self._decode(flags, body, allowed)

    def _decode(self, flags: int, body: bytes, allowed: tuple[type[Message], ...]) -> Message:
        kind = TYPES.get(flags & TYPE_MASK)
        if kind is None:
            raise RemoteProtocolError(f"unknown message type {flags & TYPE_MASK}")
        if kind not in allowed:
            raise RemoteProtocolError(f"{kind.__name__} at the wrong time")
        limit = MAX_UNPACKED.get(kind, MAX_UNPACKED_SMALL)
        if flags & COMPRESSED:
            body = self._unpack(body, limit)
        elif len(body) > limit:
            raise RemoteProtocolError(f"a {kind.__name__} of {len(body)} bytes, above {limit}")
        self.unpacked = len(body)
        try:
            return _decoders[flags & TYPE_MASK].decode(body)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"malformed {kind.__name__}: {error}") from error

    def _unpack(self, body: bytes, limit: int) -> bytes:
        try:
            size = zstandard.frame_content_size(body)
            if not 0 <= size <= limit:
                raise RemoteProtocolError(f"a message that unpacks to {size} bytes, above {limit}")
            return self._decompressor.decompress(body, max_output_size=limit)
        except zstandard.ZstdError as error:
            raise RemoteProtocolError(f"malformed zstd body: {error}") from error
