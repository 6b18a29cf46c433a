"""The first sync of others on the same machine with the same rows. Run after ``first_sync``, for the ratios."""

from __future__ import annotations

import statistics

from benchmarks.figures import Figure
from benchmarks.nodes import fill, site
from benchmarks.parts.first_sync import ROWS, sync
from benchmarks.peers import morango, rxdb
from benchmarks.peers.folders import folder_of

#: RxDB keeps its rows in memory; more would take too long with Morango.
RXDB_ROWS = 10_000
MORANGO_ROWS = 1_000


def run(runs: int) -> list[Figure]:
    """Measure in turns: ours, RxDB (which draws who pulls: the better role counts), Morango."""
    python = morango.install(folder_of("morango"))
    ours, theirs, masters, forks = [], [], [], []
    with site() as place:
        full = place.database()
        fill(full, "Item", f"items({ROWS})")
        if not rxdb.is_available():
            return []
        with rxdb.rxdb(folder_of("rxdb")) as peer:
            for _ in range(runs):
                ours.append(ROWS / sync(place, full, ROWS).seconds)
                for _ in range(2):
                    one = peer.first_sync(RXDB_ROWS)
                    (masters if one.role == "master" else forks).append(RXDB_ROWS / one.seconds)
                theirs.append(MORANGO_ROWS / morango.first_sync_seconds(python, MORANGO_ROWS))
    best = max((runs for runs in (masters, forks) if runs), key=statistics.median)
    times_rxdb = [one / statistics.median(best) for one in ours]
    times_morango = [one / statistics.median(theirs) for one in ours]
    return [
        Figure("peers", f"ours, {ROWS:,} rows", "rows/s", ours),
        Figure("peers", f"RxDB in memory, {RXDB_ROWS:,} rows, batches of {rxdb.BATCH:,}", "rows/s", best),
        Figure("peers", f"Morango, {MORANGO_ROWS:,} rows", "rows/s", theirs),
        Figure("peers", "ours, as times RxDB", "times", times_rxdb, 4, at_most=False),
        Figure("peers", "ours, as times Morango", "times", times_morango, 80, at_most=False),
    ]
