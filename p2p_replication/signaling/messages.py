"""The client's messages: read with suspicion. The server's messages: written as RxDB's clients read them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from p2p_replication.signaling.refusals import Code, Refusal

MAX_TOPIC_CHARS = 99
MAX_PEER_ID_CHARS = 99
MAX_INSTANCE_CHARS = 99
MAX_NAME_CHARS = 200
#: Deeper data could exhaust the stack of whoever reads it; a session description has two levels.
MAX_DEPTH = 32


@dataclass(frozen=True)
class Ping:
    """The client lives."""


@dataclass(frozen=True)
class Join:
    topic: str
    instance: str = ""
    name: str = ""


@dataclass(frozen=True)
class Signal:
    topic: str
    sender: str
    receiver: str
    #: The ``data`` member as JSON text: it is passed on, never looked at.
    data: str
    connection_id: str | None = None


@dataclass(frozen=True)
class PeerInfo:
    """A member of a room, as the others see it."""

    peer_id: str
    instance: str
    name: str
    user: str


def parse(text: str) -> Ping | Join | Signal:
    """Read one text frame. Raises Refusal (``MALFORMED``) for whatever is not exactly one of the messages."""
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(message, dict):
        raise _malformed(f"a message is a JSON object, not {_kind(message)}")
    kind = message.get("type")
    if kind == "ping":
        return Ping()
    if kind == "join":
        return Join(
            topic=_text(message, "room", MAX_TOPIC_CHARS),
            instance=_text(message, "instance", MAX_INSTANCE_CHARS, optional=True) or "",
            name=_text(message, "name", MAX_NAME_CHARS, optional=True) or "",
        )
    if kind == "signal":
        return Signal(
            topic=_text(message, "room", MAX_TOPIC_CHARS),
            sender=_text(message, "senderPeerId", MAX_PEER_ID_CHARS),
            receiver=_text(message, "receiverPeerId", MAX_PEER_ID_CHARS),
            data=_data(message),
            connection_id=_text(message, "connectionId", MAX_PEER_ID_CHARS, optional=True) or None,
        )
    named = repr(kind[:40]) if isinstance(kind, str) else _kind(kind)
    raise _malformed(f'"type" must be "join", "signal" or "ping", not {named}')


def init(peer_id: str) -> str:
    return json.dumps({"type": "init", "yourPeerId": peer_id})


def joined(topic: str, peers: Iterable[PeerInfo]) -> str:
    """The room's members. RxDB's clients read ``otherPeerIds``, which has the receiver's own id in it."""
    members = [{"id": peer.peer_id, "instance": peer.instance, "name": peer.name, "user": peer.user} for peer in peers]
    return json.dumps(
        {"type": "joined", "room": topic, "otherPeerIds": [member["id"] for member in members], "peers": members}
    )


def signal(topic: str, sender: str, receiver: str, data: str, connection_id: str | None) -> str:
    envelope: dict[str, Any] = {
        "type": "signal", "room": topic, "senderPeerId": sender, "receiverPeerId": receiver,
    }  # fmt: skip
    if connection_id is not None:
        envelope["connectionId"] = connection_id
    # The data is JSON text already; parsing it again only to write it again would cost and could fail.
    return f'{json.dumps(envelope)[:-1]}, "data": {data}}}'


def error(code: int, message: str, topic: str | None = None) -> str:
    content: dict[str, Any] = {"type": "error", "code": int(code), "message": message}
    if topic is not None:
        content["room"] = topic
    return json.dumps(content)


def _data(message: dict[str, Any]) -> str:
    if "data" not in message:
        raise _malformed('"data" is missing in the signal')
    data = message["data"]
    level, depth = [data], 0
    while level := [child for item in level for child in _children(item)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _malformed(f'"data" is nested more than {MAX_DEPTH} levels deep')
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:  # 1e999 is read as infinity, for which JSON has no word
        raise _malformed('"data" has a number that is out of range') from None


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _text(message: dict[str, Any], key: str, max_chars: int, *, optional: bool = False) -> str:
    value = message.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise _malformed(f'"{key}" must be a string, not {_kind(value)}')
    if not optional and not value:
        raise _malformed(f'"{key}" is empty')
    if len(value) > max_chars:
        raise _malformed(f'"{key}" has {len(value)} characters, at most {max_chars} are allowed')
    # Neither databases nor UTF-8 take all of these: NUL is refused by PostgreSQL, lone surrogates by both.
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        raise _malformed(f'"{key}" contains control characters')
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _malformed(what: str) -> Refusal:
    return Refusal(Code.MALFORMED, f"Malformed message: {what}.")
