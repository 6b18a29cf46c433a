"""One stage of a first sync after the other, each alone in a process on one core: ``read FILE`` or ``apply FILE``.

``read`` writes the frames into the file, ``apply`` takes them from there. Prints CPU seconds by stage as JSON.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import django
import msgspec

MODEL = "items.Item"
PEER = "0" * 32

T = TypeVar("T")


def main(stage: str, file: Path) -> None:
    django.setup()
    print(json.dumps(read(file) if stage == "read" else apply(file)))


def timed(found: dict[str, float], stage: str, function: Callable[[], T]) -> T:
    began = time.process_time()
    result = function()
    found[stage] = time.process_time() - began
    return result


def read(file: Path) -> dict[str, float]:
    from p2p_replication.models import Declaration
    from p2p_replication.protocol.changes import ReadBatch
    from p2p_replication.protocol.framing import Encoder
    from p2p_replication.protocol.messages import Changes
    from p2p_replication.storage.changes import read_changes
    from p2p_replication.worker.opening import open_database

    database = open_database()
    stream, declaration = database.streams[MODEL], Declaration.objects.get(model=MODEL).pk

    def batches() -> list[ReadBatch]:
        made = [read_changes(database, stream, declaration, {}, after=None)]
        while made[-1].vector is None:
            made.append(read_changes(database, stream, declaration, {}, after=made[-1].to_seq))
        return made

    found: dict[str, float] = {}
    read = timed(found, "read", batches)
    messages = [
        Changes(
            MODEL, number, 1, batch.start, batch.from_seq, batch.to_seq, batch.continues, 0, batch.vector, 0,
            batch.rows, batch.snapshot,
        )
        for number, batch in enumerate(read, 1)
    ]  # fmt: skip
    plain = msgspec.msgpack.Encoder()
    timed(found, "encode", lambda: [plain.encode(message) for message in messages])
    encoder = Encoder()
    frames = timed(found, "encode and compress", lambda: [encoder.encode(message) for message in messages])
    found["bytes"] = sum(len(frame) for message in frames for frame in message)
    file.write_bytes(pickle.dumps((read[0].start, frames)))
    return found


def apply(file: Path) -> dict[str, float]:
    from p2p_replication.models import Declaration
    from p2p_replication.protocol.changes import check_batch
    from p2p_replication.protocol.framing import Decoder
    from p2p_replication.protocol.messages import Changes, Message
    from p2p_replication.storage.applier import apply_changes
    from p2p_replication.worker.opening import open_database

    database = open_database()
    stream, declaration = database.streams[MODEL], Declaration.objects.get(model=MODEL).pk
    database.budget.pause = 0.0
    start, frames = pickle.loads(file.read_bytes())

    def decoded() -> list[Message]:
        decoder = Decoder()
        return [message for parts in frames for frame in parts if (message := decoder.feed(frame)) is not None]

    found: dict[str, float] = {}
    messages = [one for one in timed(found, "decode", decoded) if isinstance(one, Changes)]
    timed(found, "check", lambda: [check_batch(changes, start) for changes in messages])
    timed(found, "apply", lambda: [apply_changes(database, stream, declaration, PEER, changes) for changes in messages])
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
