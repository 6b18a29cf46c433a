"""Messages to frames and back; whatever comes instead ends in RemoteProtocolError, in bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import random
import tracemalloc

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from p2p_replication.protocol.framing import (
    COMPRESSED,
    MAX_FRAME,
    MAX_MESSAGE,
    MAX_UNPACKED_SMALL,
    MORE,
    WIRE_VERSION,
    Decoder,
    Encoder,
    LocalProtocolError,
    RemoteProtocolError,
)
from p2p_replication.protocol.messages import (
    BYTES,
    TYPES,
    Ack,
    Auth,
    Bye,
    Changes,
    Digest,
    DigestRequest,
    Error,
    Hello,
    Message,
    ModelOffer,
    Ping,
    Pong,
    Request,
    State,
)
from tests.protocol.raw_peer import some_rows
from tests.protocol.strategies import quick

MESSAGES: list[Message] = [
    Hello(1, "r", b"k" * 32, b"n" * 32, "s", "näme", 5, [ModelOffer("m", {"a": "text"}, {"a": "max"}, "f=1")]),
    Auth(b"s" * 64),
    State("m", {"o": 2**63 - 1}),
    Request("m", 1, {"o": 1}, "s", 5, 10),
    Changes("m", 1, 0, "s", 1, 9, ("s", 3), 4, {"o": 1}, 7, some_rows(9)),
    Changes("m", 1, 1, "s", 1, 9, None, 0, None, 0, some_rows(0)),
    Ack(1, True),
    Ping(1),
    Pong(-1),
    Error("code", "text", "m"),
    Bye(""),
    DigestRequest("m", 1, [0, 1023]),
    Digest("m", 1, {"o": 1}, "", "not yet", b"s" * 32, ["k", 7, Ext(BYTES, b"k")], b"h" * 48, True, 3),
]


def decoded(frames: list[bytes]) -> Message:
    decoder = Decoder()
    results = [decoder.feed(frame) for frame in frames]
    assert results[:-1] == [None] * (len(frames) - 1)
    assert results[-1] is not None
    return results[-1]


def frames_of(number: int, body: bytes, *, compress: bool = False) -> list[bytes]:
    """Return frames around any body, as an encoder would cut them."""
    if compress:
        body, number = zstandard.ZstdCompressor(level=3).compress(body), number | COMPRESSED
    parts = [body[i : i + MAX_FRAME - 2] for i in range(0, len(body), MAX_FRAME - 2)] or [b""]
    return [bytes((WIRE_VERSION, number | (MORE if part is not parts[-1] else 0))) + part for part in parts]


def test_there_is_an_example_of_every_message():
    assert {type(message) for message in MESSAGES} == set(TYPES.values())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_comes_out_as_it_went_in(message):
    assert decoded(Encoder().encode(message)) == message


def test_a_large_message_is_cut_into_frames_that_every_peer_takes():
    message = Changes("m", 1, 0, "s", 1, 9, None, 4, None, 7, some_rows(50, 20_000))
    frames = Encoder().encode(message)
    assert len(frames) > 3
    assert max(map(len, frames)) <= MAX_FRAME
    assert decoded(frames) == message


@quick
@given(st.integers(0, len(MESSAGES) - 1), st.lists(st.integers(0, 2_000), max_size=6))
def test_a_message_may_be_cut_anywhere(number, cuts):
    (frame,) = Encoder().encode(MESSAGES[number])
    body = frame[2:]
    places = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    parts = [body[a:b] for a, b in itertools.pairwise(places)]
    frames = [bytes((WIRE_VERSION, frame[1] | (MORE if i < len(parts) - 1 else 0))) + p for i, p in enumerate(parts)]
    assert decoded(frames) == MESSAGES[number]


def test_fields_that_a_newer_peer_appends_are_ignored():
    body = msgspec.msgpack.encode([5, "new", {"x": 1}])
    assert decoded(frames_of(7, body)) == Ping(5)


def test_a_message_too_large_to_send_is_refused_here():
    with pytest.raises(LocalProtocolError, match="Bye"):
        Encoder().encode(Bye(random.Random(1).randbytes(MAX_MESSAGE).hex()))


@quick
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_frames_do_no_harm(frames):
    decoder = Decoder()
    for frame in frames:
        try:
            decoder.feed(frame)
        except RemoteProtocolError:
            break


@quick
@given(st.integers(0, 63), st.booleans(), st.binary(max_size=200))
def test_arbitrary_bodies_do_no_harm(number, compress, body):
    decoder = Decoder()
    for frame in frames_of(number, body, compress=compress):
        try:
            decoder.feed(frame)
        except RemoteProtocolError:
            break


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_mutated_and_truncated_frames_do_no_harm(message):
    chance = random.Random(5)
    (frame,) = Encoder().encode(message)
    for _ in range(300):
        broken = bytearray(frame)
        for _ in range(chance.choice((1, 1, 2, 5))):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        with contextlib.suppress(RemoteProtocolError):
            Decoder().feed(bytes(broken[: chance.randint(0, len(broken))]))


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\xdd\xff\xff\xff\xff", b"\x81\xa1a", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("number", sorted(TYPES))
def test_deep_nesting_and_false_lengths_are_refused(number, opening):
    decoder = Decoder()
    with pytest.raises(RemoteProtocolError):
        for frame in frames_of(number, opening * 200_000, compress=True):
            decoder.feed(frame)


@pytest.mark.parametrize(
    "frame", [b"", b"\x01", b"\x02\x07\x91\x01", b"\x01\x00\x91\x01", b"\x01\x3f\x91\x01"], ids=repr
)
def test_a_malformed_header_is_refused(frame):
    with pytest.raises(RemoteProtocolError):
        Decoder().feed(frame)


def test_an_interrupted_message_is_refused():
    decoder = Decoder()
    assert decoder.feed(bytes((WIRE_VERSION, 7 | MORE)) + b"\x91") is None
    with pytest.raises(RemoteProtocolError, match="interrupted"):
        decoder.feed(bytes((WIRE_VERSION, 6)) + b"\x01")


def test_the_size_of_a_message_in_pieces_is_bounded():
    decoder = Decoder()
    frame = bytes((WIRE_VERSION, 5 | MORE)) + bytes(MAX_FRAME - 2)
    with pytest.raises(RemoteProtocolError, match="above"):
        for _ in range(MAX_MESSAGE // MAX_FRAME + 2):
            decoder.feed(frame)


def test_pieces_without_content_are_bounded_too():
    decoder = Decoder()
    with pytest.raises(RemoteProtocolError):
        for _ in range(200_000):
            decoder.feed(bytes((WIRE_VERSION, 7 | MORE)))


@pytest.mark.parametrize(
    "body",
    [
        zstandard.ZstdCompressor().compress(bytes(MAX_UNPACKED_SMALL + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000)),
        zstandard.ZstdCompressor().compress(bytes(1000))[:-3],
        b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8,
        b"",
        b"no zstd at all",
    ],
    ids=["bomb", "no size", "truncated", "false size", "empty", "text"],
)
def test_a_compressed_body_that_lies_is_refused(body):
    with pytest.raises(RemoteProtocolError):
        Decoder().feed(bytes((WIRE_VERSION, 7 | COMPRESSED)) + body)


def peak_of(frames: list[bytes]) -> int:
    """Return the greatest memory that decoding takes, whether it succeeds or not."""
    decoder = Decoder()
    tracemalloc.start()
    try:
        for frame in frames:
            decoder.feed(frame)
    except RemoteProtocolError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("where", ["keys", "columns"])
def test_lists_in_the_place_of_values_take_no_memory(where):
    """One byte of an empty list on the wire is some 70 in memory: 64 MiB unpacked would be 4 GiB here."""
    count = 1_000_000
    bomb = b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count
    rows = msgspec.msgpack.encode(some_rows(0))
    rows = rows[:1] + bomb + rows[2:] if where == "keys" else rows[:-2] + b"\x91" + bomb + rows[-1:]
    head = msgspec.msgpack.encode(["m", 1, 1, "s", 0, 0, None, 0, None, 0])[1:]
    frames = frames_of(5, b"\x9b" + head + rows, compress=True)
    assert sum(map(len, frames)) < 1_000
    assert peak_of(frames) < 20 * count


@pytest.mark.parametrize("number", [number for number, kind in TYPES.items() if kind is not Changes])
def test_only_changes_may_be_large(number):
    """Before the introduction, and for all that needs no room, a bomb of megabytes is refused unread."""
    offers = 1_300_000
    body = msgspec.msgpack.encode([1, "r", b"k" * 32, b"n" * 32, "s", "n", 0])
    body = b"\x98" + body[1:] + b"\xdd" + offers.to_bytes(4, "big") + b"\x92\xa0\x80" * offers
    if number != 1:
        body = msgspec.msgpack.encode(["x" * 4_000_000] * 4)
    frames = frames_of(number, body, compress=True)
    assert peak_of(frames) < len(body) * 3
    with pytest.raises(RemoteProtocolError):
        decoder = Decoder()
        for frame in frames:
            decoder.feed(frame)
