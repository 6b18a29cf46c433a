"""A pool of eight: how soon all have what one has, what a write and a pool at rest cost; RxDB beside."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.figures import Figure
from benchmarks.nodes import Site, connected_at, fill, linked, pid, run_in, site, start, wait
from benchmarks.peers import rxdb
from benchmarks.peers.folders import folder_of
from tests.acceptance.nodes import Node

SIZE = 8
ROWS = 1_000
WRITES = 10
REST = 20.0


@dataclass(frozen=True)
class Pool:
    """One pool's run. ``seconds``: from the first connection until all have all; ``copies``: per row and replica.

    ``cpu``: share of one core at rest, of all processes; ``bytes_at_rest``: a second and link.
    """

    seconds: float
    copies: float
    bytes_per_write: float
    cpu: float = 0.0
    bytes_at_rest: float = 0.0


def run_pool(place: Site, size: int, rows: int = ROWS, rest: float = 0.0) -> Pool:
    """Let replicas that are all ready join a topic at once, of which one has rows."""
    full = place.database()
    fill(full, "Item", f"items({rows})")
    nodes = [place.node(f"n{i}", full if i == 0 else None) for i in range(size)]
    try:
        for node in nodes:
            node.sql("UPDATE p2p_replication_pool SET cancelled_at = '2026-01-01'")
        start(*nodes, ready="replica ")
        time.sleep(2.0)
        for node in nodes:
            node.sql("UPDATE p2p_replication_pool SET cancelled_at = NULL")
        ended = wait(lambda: all(node.count("items_item") >= rows for node in nodes), "all rows everywhere", step=0.02)
        wait(lambda: all(linked(node) == size - 1 for node in nodes), "each is linked with each", step=0.1)
        began = min(connected_at(node) for node in nodes)
        come_to_rest(nodes)
        rows_in = sum(node.sql("SELECT SUM(rows_in) FROM p2p_replication_peer")[0][0] for node in nodes)
        before = [node.traffic() for node in nodes]
        for i in range(WRITES):
            insert(nodes[i % size], i)
            time.sleep(0.3)
        wait(lambda: all(node.count("items_item") >= rows + WRITES for node in nodes), "the writes everywhere")
        come_to_rest(nodes)
        after = [node.traffic() for node in nodes]
        cpu = at_rest = 0.0
        if rest:
            used = machine.cpu_seconds([pid(node) for node in nodes])
            time.sleep(rest)
            cpu = (machine.cpu_seconds([pid(node) for node in nodes]) - used) / rest
            links = size * (size - 1) / 2
            at_rest = (out(node.traffic() for node in nodes) - out(after)) / rest / links
        copies = rows_in / (rows * (size - 1))
        return Pool(ended - began, copies, (out(after) - out(before)) / WRITES, cpu, at_rest)
    finally:
        place.end_nodes()


def out(traffic: object) -> int:
    return sum(one["channel_bytes_out"] for one in traffic)  # type: ignore[attr-defined]


def insert(node: Node, number: int) -> None:
    """Insert a row as a web process would; its capture is by the triggers."""
    run_in(
        node.site,
        "from benchmarks.items import models, rows\n"
        f"models.Item.objects.create(**next(rows.items(1, seed={1000 + number})))",
    )


def come_to_rest(nodes: list[Node], seconds: float = 1.5) -> None:
    """Wait until nothing but heartbeats has been sent for a while."""
    found, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.25)
        now = sum(node.traffic()["channel_frames_out"] for node in nodes)
        if now != found:
            found, since = now, time.monotonic()


def run(runs: int) -> list[Figure]:
    ours, theirs, at_best = [], [], []
    with site() as place:
        if rxdb.is_available():
            with rxdb.rxdb(folder_of("rxdb")) as peer:
                for i in range(runs):
                    ours.append(run_pool(place, SIZE, rest=REST if i == 0 else 0.0))
                    theirs.append(peer.pool(SIZE, ROWS))
                at_best.append(peer.pool(SIZE, ROWS, batch=500))
        else:
            ours = [run_pool(place, SIZE, rest=REST if i == 0 else 0.0) for i in range(runs)]
    seconds = statistics.median(one.seconds for one in ours)
    figures = [
        Figure("pool", f"{ROWS:,} rows at one of {SIZE} until all have them", "s", [one.seconds for one in ours]),
        Figure("pool", "copies per row and replica", "", [one.copies for one in ours], 1.1),
        Figure("pool", "bytes of one live write, in the whole pool", "B", [one.bytes_per_write for one in ours], 3_000),
        Figure("pool", "CPU at rest, all processes", "% of a core", [ours[0].cpu * 100], 2.0),
        Figure("pool", "bytes at rest, a second and link", "B", [ours[0].bytes_at_rest], 100),
    ]
    if theirs:
        figures += [
            Figure("pool", "RxDB: until all have them", "s", [one.seconds for one in theirs]),
            Figure("pool", "RxDB with batches of 500: until all have them", "s", [one.seconds for one in at_best]),
            Figure("pool", "RxDB: copies per row and replica", "", [one.copies for one in theirs]),
            Figure("pool", "RxDB: bytes of one live write", "B", [one.bytes_per_write for one in theirs]),
            Figure(
                "pool",
                "RxDB's time, as times ours",
                "times",
                [one.seconds / seconds for one in theirs],
                8,
                at_most=False,
            ),
        ]
    return figures
