"""The messages of the wire (DESIGN 5), as frozen msgpack structs. docs/protocol.md describes them for other languages.

Origins are hex strings in vectors; rows name them by their place in the message's own list.
"""

from __future__ import annotations

import msgspec
from msgspec.msgpack import Ext

PROTOCOL_VERSION = 1

#: A value in a batch. Bytes are extension type 1: lists and maps in a value's place are refused while decoding, before
#: they take any memory.
Cell = None | bool | int | float | str | Ext
BYTES = 1


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """Base of all messages. A newer peer may append fields; an older one ignores them."""


class ModelOffer(Message, frozen=True):
    """A model that takes part, and what has to agree for it to replicate."""

    label: str
    #: ``{field: type}``
    fields: dict[str, str]
    #: ``{field: merge kind}``
    merge: dict[str, str] = {}
    #: The canonical filter; equal filters are equal strings.
    filter: str = ""
    #: Its sender takes rows from others, and gives rows to others.
    pulls: bool = True
    pushes: bool = True
    #: Its sender gives all that it has; if not (a modifier may refuse rows), it claims its own changes only.
    whole: bool = True


class Hello(Message, frozen=True):
    protocol: int
    replica: str
    #: Ed25519 public key, 32 bytes.
    key: bytes
    #: 32 random bytes of this connection.
    nonce: bytes
    #: The origin of this start of the worker.
    start: str
    name: str
    #: Milliseconds since the epoch.
    time: int
    models: list[ModelOffer]
    #: What its sender can do beyond version 1 of the protocol: others don't ask for it.
    features: list[str] = []


class Auth(Message, frozen=True):
    #: Ed25519 signature over ``session.auth_payload``.
    signature: bytes


class State(Message, frozen=True):
    """Entries of the sender's vector that the receiver may not know of."""

    model: str
    vector: dict[str, int]
    #: The next STATE is of the same moment: ask for what both models lack together.
    more: bool = False


class Request(Message, frozen=True):
    """Asks for all rows that ``vector`` does not cover, from a cursor on."""

    model: str
    #: Number of this pull, chosen by the asker, given back in the answer.
    round: int
    vector: dict[str, int]
    #: ``(sender's start, seq)`` of the asker's durable cursor.
    cursor_start: str
    cursor_seq: int
    #: At most so many rows a batch; 0 leaves it to the sender.
    batch_size: int = 0
    #: Of a pull that broke off: ``snapshot`` of its last batch. The cursor counts only for who has that history.
    cursor_snapshot: int = 0
    #: The next REQUEST is to be answered together with this one.
    more: bool = False


class Rows(Message, frozen=True):
    """Rows by columns. Every list has one item a row; dicts hold the exceptions, by row number."""

    #: Keys in wire form.
    keys: list[str | int | Ext]
    #: The sender's ``seq``, as differences to the row before (the first to 0).
    seqs: list[int]
    origins: list[str]
    dot_origins: list[int]
    dot_counters: list[int]
    more_dots: dict[int, dict[int, int]]
    #: Born dots that differ from the dot: ``{row: (origin, counter)}``.
    born: dict[int, tuple[int, int]]
    #: Clocks, as differences to the row before.
    clocks: list[int]
    #: ``inserted`` where it differs from the clock.
    inserted: dict[int, int]
    #: ``deleted`` where there was a delete.
    deleted: dict[int, int]
    #: ``{row: {field number: clock}}``
    field_clocks: dict[int, dict[int, int]]
    fields: list[str]
    #: One list for each field.
    columns: list[list[Cell]]
    #: Rows that have only some of the fields: ``{row: [field number, ...]}``.
    partial: dict[int, list[int]]
    #: Distinct pasts of the batch, and where they belong: ``{row: {field number: past number}}``, -1 for the delete.
    pasts: list[list[int]] = []
    past: dict[int, dict[int, int]] = {}


class Changes(Message, frozen=True):
    """A batch of rows: of a pull (``round`` > 0) or pushed (``round`` 0).

    ``from_seq``/``to_seq`` is the part of the sender's ledger that the batch covers. ``claim`` is what the receiver
    has after it: in a pull the sender's vector, carried only by the batch that reaches the end of its snapshot;
    in a push ``{own origin: counter}``, which counts only if the receiver's vector reaches ``push_from``.
    """

    model: str
    #: Number of this batch in the session, given back in the ACK.
    serial: int
    round: int
    start: str
    from_seq: int
    to_seq: int
    #: The asker's cursor that ``from_seq`` stands for, in the first batch of a pull.
    continues: tuple[str, int] | None
    push_from: int
    claim: dict[str, int] | None
    #: Rows of the snapshot that are still to come (an estimate, for people).
    remaining: int
    rows: Rows
    #: The last sequence number that the sender had given when the batch was read.
    snapshot: int = 0
    #: The next CHANGES was read from the same snapshot, and is to be applied in the same transaction.
    more: bool = False


class Ack(Message, frozen=True):
    """Batch ``serial`` is committed (``taken``: with its claim)."""

    serial: int
    taken: bool


class Ping(Message, frozen=True):
    time: int


class Pong(Message, frozen=True):
    time: int


class Error(Message, frozen=True):
    """Something is wrong; with a model only that model ends, without one the connection."""

    code: str
    text: str
    model: str = ""


class Bye(Message, frozen=True):
    reason: str


class DigestRequest(Message, frozen=True):
    """Asks for digests of a model's content: all buckets' sums, or the rows of some buckets."""

    model: str
    #: Number of this question, given back in the answer.
    number: int
    buckets: list[int] = []


class Digest(Message, frozen=True):
    """What one snapshot of a model holds; see ``content_digest``."""

    model: str
    number: int
    #: What the sender has seen, in the same snapshot.
    vector: dict[str, int]
    #: Why the sender can't compare at all; the rest is empty then.
    refused: str
    #: Why what it holds is about to change; empty if it is not.
    unsettled: str
    sums: bytes
    #: Keys in wire form, in the order of their hashes, and their rows' hashes one after another.
    keys: list[str | int | Ext]
    hashes: bytes
    #: More rows than have room.
    cut: bool
    #: Rows of the table that no version knows of: written past the triggers.
    untracked: int


#: The type byte of each message. Never reuse a number.
TYPES: dict[int, type[Message]] = {
    1: Hello,
    2: Auth,
    3: State,
    4: Request,
    5: Changes,
    6: Ack,
    7: Ping,
    8: Pong,
    9: Error,
    10: Bye,
    11: DigestRequest,
    12: Digest,
}
NUMBERS: dict[type[Message], int] = {message: number for number, message in TYPES.items()}
