"""What the signaling server refuses, with which code.

An error about the socket is followed by closing it with the error's code. An error about one room names the room and
leaves the socket open, as other rooms on it may be fine.
"""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Codes of ``error`` messages and of closed sockets (docs/signaling.md explains each to users)."""

    INTERNAL = 1011
    TRY_AGAIN_LATER = 1013
    MALFORMED = 4400
    NOT_AUTHENTICATED = 4401
    NOT_ALLOWED = 4403
    NO_SUCH_PEER = 4404
    IDLE = 4408
    LIMIT = 4409
    TOO_LARGE = 4413
    RATE = 4429
    SERVERS_APART = 4503


class Refusal(Exception):
    """A client's message or connection is refused.

    Args:
        code: what kind of refusal it is.
        message: names the value at fault and the remedy; it is sent to the client.
        room: the room it is about, as the client calls it. Only a refusal without a room closes the socket.
    """

    def __init__(self, code: Code, message: str, room: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.room = room
