"""The messages of the signaling protocol (RxDB's, with this package's additions), as the client sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2p_replication.transport.base import RemotePeer

#: Names and users are for people's eyes only: cut, not refused.
_MAX_TEXT = 200


class MalformedMessage(ValueError):
    """A message of the signaling server that this client cannot make sense of; the text says why."""


@dataclass(frozen=True)
class Init:
    """The first message: the id that the server has given us."""

    peer_id: str


@dataclass(frozen=True)
class Joined:
    """Who is in the room now, ourselves included, in the server's order."""

    members: tuple[RemotePeer, ...]


@dataclass(frozen=True)
class Signal:
    """One step of a connection's negotiation, from a peer; ``data`` is what the peer made it."""

    sender: str
    data: Mapping[str, Any]
    connection_id: str


@dataclass(frozen=True)
class ServerError:
    """The server refuses something: what concerns ``room``, or the whole connection, which it closes then."""

    code: int | str
    message: str
    room: str = ""


ServerMessage = Init | Joined | Signal | ServerError


def parse_server_message(text: str | bytes) -> ServerMessage:
    """Return the message in ``text``. Raises MalformedMessage."""
    if isinstance(text, bytes):
        raise MalformedMessage(f"a binary message of {len(text)} bytes; signaling is JSON text")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"no valid JSON ({error})") from None
    if not isinstance(message, dict):
        raise MalformedMessage(f"a JSON {type(message).__name__} where an object was expected")
    kind = message.get("type")
    match kind:
        case "init":
            return Init(peer_id=_text(message, "yourPeerId"))
        case "joined":
            return Joined(members=_members(message))
        case "signal":
            data = message.get("data")
            if not isinstance(data, dict):
                raise MalformedMessage("'signal' without an object as its 'data'")
            connection_id = message.get("connectionId", "")
            if not isinstance(connection_id, str):
                raise MalformedMessage("'signal' whose 'connectionId' is no text")
            return Signal(sender=_text(message, "senderPeerId"), data=data, connection_id=connection_id)
        case "error":
            code = message.get("code")
            return ServerError(
                code=code if isinstance(code, int) else _short(code),
                message=_short(message.get("message")) or "no reason given",
                room=_short(message.get("room")),
            )
    raise MalformedMessage(f"unknown type {str(kind)[:40]!r}")


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT:
        raise MalformedMessage(f"{message.get('type')!r} without a usable {key!r}")
    return value


def _short(value: object) -> str:
    """Return a text that can be stored and shown: no lone surrogates, no control characters, not too long."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[:_MAX_TEXT])


def _members(message: Mapping[str, Any]) -> tuple[RemotePeer, ...]:
    peers = message.get("peers")
    if peers is None:
        ids = message.get("otherPeerIds")
        if not isinstance(ids, list) or not all(isinstance(peer_id, str) for peer_id in ids):
            raise MalformedMessage("'joined' without a list of ids as its 'otherPeerIds'")
        return tuple(RemotePeer(peer_id=peer_id) for peer_id in ids)
    if not isinstance(peers, list) or not all(isinstance(peer, dict) for peer in peers):
        raise MalformedMessage("'joined' whose 'peers' is no list of objects")
    return tuple(
        RemotePeer(
            peer_id=_text(peer, "id"),
            instance=_short(peer.get("instance")),
            user=_short(peer.get("user")),
            name=_short(peer.get("name")),
        )
        for peer in peers
    )


__all__ = ["Init", "Joined", "MalformedMessage", "ServerError", "ServerMessage", "Signal", "parse_server_message"]
