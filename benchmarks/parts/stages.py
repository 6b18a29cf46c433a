"""Who uses the CPU in a first sync: each stage alone, in µs a row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import raw_channel
from benchmarks.figures import Figure
from benchmarks.nodes import fill, site
from tests.acceptance.nodes import Node

ROWS = 100_000


def stage(node: Node, name: str, file: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stages", name, str(file)],
        env=node.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout))


def run(runs: int) -> list[Figure]:
    found: dict[str, list[float]] = {}
    size = 0.0
    with site() as place:
        full = place.database()
        fill(full, "Item", f"items({ROWS})")
        for _ in range(min(runs, 3)):
            a, b = place.node("a", place.copy(full)), place.node("b")
            file = place.folder / "frames"
            stages = {**stage(a, "read", file), **stage(b, "apply", file)}
            size = stages.pop("bytes")
            stages["compress"] = stages.pop("encode and compress") - stages["encode"]
            for name, seconds in stages.items():
                found.setdefault(name, []).append(seconds / ROWS * 1e6)
    megabytes = size / 1024 / 1024
    channel = raw_channel.measure(16)
    found["send (aiortc)"] = [channel.cpu_sender * megabytes / ROWS * 1e6]
    found["receive (aiortc)"] = [channel.cpu_receiver * megabytes / ROWS * 1e6]
    order = ("read", "encode", "compress", "send (aiortc)", "receive (aiortc)", "decode", "check", "apply")
    return [Figure("stages", name, "µs a row", found[name]) for name in order]
