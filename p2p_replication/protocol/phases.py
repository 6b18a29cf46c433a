"""The phases of a session, and which messages a peer may send in each."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from p2p_replication.protocol.messages import (
    Ack,
    Auth,
    Bye,
    Changes,
    Digest,
    DigestRequest,
    Error,
    Hello,
    Message,
    Ping,
    Pong,
    Request,
    State,
)


class Phase(enum.Enum):
    HELLO = "waiting for HELLO"
    AUTH = "waiting for AUTH"
    INTRODUCED = "waiting to be accepted"
    OPEN = "open"
    CLOSED = "closed"


ALWAYS = (Ping, Pong, Error, Bye)
REPLICATION = (State, Request, Changes, Ack, DigestRequest, Digest)

ALLOWED: Mapping[Phase, tuple[type[Message], ...]] = {
    Phase.HELLO: (Hello, *ALWAYS),
    Phase.AUTH: (Auth, *ALWAYS),
    # The peer may have accepted us already: what it sends waits until we have decided too.
    Phase.INTRODUCED: (*REPLICATION, *ALWAYS),
    Phase.OPEN: (*REPLICATION, *ALWAYS),
    Phase.CLOSED: (),
}
