"""How long a worker takes to be ready, and what an import of the package pulls in."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.figures import Figure
from benchmarks.nodes import site, wait

HEAVY = ("aiortc", "numpy", "av", "cryptography", "twisted", "channels")


def run(runs: int) -> list[Figure]:
    took = []
    with site() as place:
        node = place.node("a")
        for _ in range(runs):
            began = time.time()
            node.log.unlink(missing_ok=True)
            node.start()
            ended = wait(lambda: node.worker is not None and "pool field-team starts" in node.worker.output(), "ready")
            took.append(ended - began)
            node.stop()
    code = f"import sys, p2p_replication; print([name for name in {HEAVY!r} if name in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return [
        Figure("start", "runp2psync to ready, with nothing to do", "s", took, 1.5),
        Figure("start", "heavy modules of import p2p_replication", "", [heavy.count("'") / 2], 0, note=heavy),
    ]
