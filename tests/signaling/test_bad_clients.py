"""Nothing a client sends may hurt the server or another client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p_replication.signaling import messages
from p2p_replication.signaling.refusals import Code, Refusal
from tests.signaling.conftest import Connect

_MALFORMED = {
    "nothing": "",
    "null": "null",
    "number": "1",
    "huge number": "1" * 5000,
    "array": "[]",
    "text": '"join"',
    "boolean": "true",
    "no JSON": "{",
    "no type": "{}",
    "type null": '{"type": null}',
    "type object": '{"type": {"a": 1}}',
    "unknown type": '{"type": "init"}',
    "join without room": '{"type": "join"}',
    "join null": '{"type": "join", "room": null}',
    "join empty": '{"type": "join", "room": ""}',
    "join number": '{"type": "join", "room": 17}',
    "join long": json.dumps({"type": "join", "room": "x" * 100}),
    "join with NUL": json.dumps({"type": "join", "room": "a\0b"}),
    "join with half a character": '{"type": "join", "room": "\\ud83e"}',
    "instance number": '{"type": "join", "room": "r", "instance": 1}',
    "instance long": json.dumps({"type": "join", "room": "r", "instance": "x" * 100}),
    "name long": json.dumps({"type": "join", "room": "r", "name": "x" * 201}),
    "signal without anything": '{"type": "signal"}',
    "nested junk": "[" * 30_000,
    "nested object": '{"type":"join","room":' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}",
    "NaN": '{"type": "ping", "x": NaN}',
    "two values": '{"type":"ping"}{"type":"ping"}',
}


@pytest.mark.parametrize("text", _MALFORMED.values(), ids=_MALFORMED.keys())
async def test_null_and_other_junk_close_only_the_socket_that_sent_it(connect: Connect, text: str) -> None:
    first, second, bad = await connect(), await connect(), await connect()
    for client in (first, second, bad):
        await client.join("team")
    await bad.send_text(text)
    error, code = await bad.closed()
    assert (error["code"], code) == (4400, 4400)
    assert error["message"].startswith("Malformed message: ")
    await second.until_members(first, second)
    await first.is_alive(second, "team")


@pytest.mark.parametrize(
    "data",
    ["[" * 100 + "]" * 100, '{"a":' * 40 + "1" + "}" * 40, "1e999", "[-1e400]", "9" * 4301],
    ids=["deep array", "deep object", "infinite", "infinite inside", "endless integer"],
)
async def test_data_that_could_hurt_its_reader_is_not_forwarded(connect: Connect, data: str) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    await first.send_text(
        f'{{"type":"signal","room":"team","senderPeerId":"{first.peer_id}","receiverPeerId":"{second.peer_id}",'
        f'"data":{data}}}'
    )
    assert (await first.closed())[1] == 4400
    await second.until_members(second)


async def test_a_binary_frame_is_refused(connect: Connect) -> None:
    client = await connect()
    await client.communicator.send_to(bytes_data=b"\xff\x00")
    assert (await client.closed())[1] == 4400


async def test_a_spoofed_sender_is_refused(connect: Connect) -> None:
    first, second, bad = await connect(), await connect(), await connect()
    for client in (first, second, bad):
        await client.join("team")
    await bad.signal("team", second.peer_id, {"type": "offer"}, senderPeerId=first.peer_id)
    assert (await bad.closed())[1] == 4400
    await first.until_members(first, second)
    await second.until_members(first, second)
    await first.is_alive(second, "team")


async def test_two_topics_do_not_mix_even_for_signals_between_known_ids(connect: Connect) -> None:
    """The receiver must be in the very room: knowing its id is not enough."""
    first, second = await connect(), await connect()
    assert await first.join("todos") == [first.peer_id]
    assert await second.join("users") == [second.peer_id]
    await first.signal("todos", second.peer_id, {"type": "offer"})
    error = await first.receive("error")
    assert (error["code"], error["room"]) == (4404, "todos")
    assert await second.communicator.receive_nothing()


async def test_a_room_that_was_never_joined_is_an_error_that_leaves_the_socket_open(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await first.join("team")
    await second.join("team")
    await first.signal("other", second.peer_id, {})
    assert (await first.receive("error"))["code"] == 4403
    await first.is_alive(second, "team")


async def test_rooms_of_another_user_with_the_same_topic_stay_apart(connect: Connect) -> None:
    ana, ben = await connect("ana"), await connect("ben")
    assert await ana.join("team") == [ana.peer_id]
    assert await ben.join("team") == [ben.peer_id]
    await ben.signal("team", ana.peer_id, {})
    assert (await ben.receive("error"))["code"] == 4404
    assert await ana.communicator.receive_nothing()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_ALMOST = st.fixed_dictionaries(
    {"type": st.sampled_from(["join", "signal", "ping", "init", "joined", "error"]) | _JSON},
    optional={
        name: _JSON | st.just("team")
        for name in ("room", "senderPeerId", "receiverPeerId", "data", "connectionId", "instance", "name")
    },
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(), _JSON.map(json.dumps), _ALMOST.map(json.dumps)))
def test_any_text_is_read_or_refused_as_malformed(text: str) -> None:
    try:
        parsed = messages.parse(text)
    except Refusal as refusal:
        assert refusal.code == Code.MALFORMED
        json.loads(messages.error(refusal.code, refusal.message))
    else:
        assert isinstance(parsed, messages.Ping | messages.Join | messages.Signal)


@settings(max_examples=200, deadline=None)
@given(_JSON)
def test_data_is_passed_on_as_the_same_value(data: Any) -> None:
    text = json.dumps({"type": "signal", "room": "r", "senderPeerId": "a", "receiverPeerId": "b", "data": data})
    try:
        parsed = messages.parse(text)
    except Refusal:
        assert "NaN" in text or "Infinity" in text
        return
    assert isinstance(parsed, messages.Signal)
    forwarded = messages.signal("r", "a", "b", parsed.data, None)
    assert forwarded.isascii()
    assert json.loads(forwarded) == json.loads(text)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(_ALMOST.map(json.dumps) | _JSON.map(json.dumps), max_size=6))
async def test_arbitrary_json_ends_in_an_answer_or_a_close_code_never_in_a_crash(
    connect: Connect, frames: list[str]
) -> None:
    watcher, fuzzer = await connect(), await connect()
    await watcher.join("team")
    for frame in frames:
        await fuzzer.send_text(frame)
    await fuzzer.disconnect()  # raises what the consumer raised
    await watcher.send({"type": "join", "room": "still here"})
    while (await watcher.receive("joined"))["room"] != "still here":
        pass
    await watcher.disconnect()
