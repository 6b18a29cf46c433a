"""``kill -9`` in the middle of a first sync, and a restart: nothing lost, nothing twice, nothing sent again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.nodes import Node, Server, until
from tests.seeds import TIMES, seeds

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

ROWS = 12_000

_FILL = f"""
import random
from tests.testapp.models import Note
words = [''.join(random.Random(i).choices('abcdefghijklmnopqrstuvwxyz', k=7)) for i in range(2000)]
draw = random.Random(1)
Note.objects.bulk_create(
    [Note(title=f'note {{i}}', body=' '.join(draw.choices(words, k=12)), stars=i) for i in range({ROWS})], 500)
"""


class Source:
    """A filled and posted database, and what one undisturbed first sync of it costs on the channel."""

    def __init__(self, path: Path, sync_bytes: int) -> None:
        self.path = path
        self.sync_bytes = sync_bytes


@pytest.fixture
def source(node: Callable[..., Node], tmp_path: Path) -> Source:
    a, b = node("source"), node("reference")
    a.django(_FILL)
    a.start()
    b.start()
    until(lambda: b.count() == ROWS, "the first sync")
    assert b.stop() == 0
    assert a.stop() == 0
    with closing(sqlite3.connect(a.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Source(a.path, a.bytes_of_run()["channel_bytes_out"])


@pytest.mark.seeded
@pytest.mark.timeout(180 * TIMES)
def test_kills_of_either_worker(server: Server, node: Callable[..., Node], source: Source, tmp_path: Path) -> None:
    for seed in seeds(2):
        draw = random.Random(seed)
        wanted, victim_is_a = draw.uniform(0.08, 0.85), seed % 2 == 1

        def pair(part: int, seed: int = seed) -> tuple[Node, Node]:
            name = f"{seed}.{part}"
            path = tmp_path / f"a{name}.sqlite3"
            shutil.copy(source.path, path)
            return node(f"a{name}", path, declared=False), node(f"b{name}")

        a, b, before = killed(pair, wanted, victim_is_a=victim_is_a)
        a.start()
        b.start()
        until(lambda b=b: b.count() == ROWS, f"seed {seed}: the rest")
        settle(b)
        assert a.stop() == 0
        assert b.stop() == 0
        assert a.rows() == b.rows(), f"seed {seed}"
        (applied,) = b.sql("SELECT sequence FROM p2p_replication_replica")[0]
        assert applied == ROWS, f"seed {seed}: {applied} row states applied for {ROWS} rows"
        missing = (ROWS - before) / ROWS * source.sync_bytes
        sent = a.bytes_of_run()["channel_bytes_out"]
        assert sent < 1.2 * missing, f"seed {seed}: {sent} bytes for {missing:.0f} missing ones"
        print(
            f"seed {seed}: {'A' if victim_is_a else 'B'} killed at {before / ROWS:.0%}, {sent / missing:.2f} x missing"
        )


def killed(pair: Callable[[int], tuple[Node, Node]], wanted: float, *, victim_is_a: bool) -> tuple[Node, Node, int]:
    """Let two new nodes sync, and kill one at about this share of the rows; return them, stopped, and B's rows.

    On a machine in use the kill may come when all is over: then once more with others, and earlier.
    """
    for part in (1, 2, 4, 8):
        a, b = pair(part)
        a.start()
        b.start()
        least = max(wanted / part, 0.06) * ROWS
        until(lambda b=b, least=least: b.count() >= least, f"{least:.0f} rows", step=0.002)
        victim, other = (a, b) if victim_is_a else (b, a)
        victim.kill()
        if victim_is_a:
            settle(b)
        before = b.count()
        # The one that lived is started anew as well, so that its bytes are counted from there.
        assert other.stop() == 0
        if 0.05 * ROWS <= before <= 0.95 * ROWS:
            return a, b, before
    raise AssertionError(f"the last kill came at {before} of {ROWS} rows")


def settle(node: Node) -> None:
    """Wait until a worker applies nothing more."""
    last = -1

    def unchanged() -> bool:
        nonlocal last
        now = node.sql("SELECT sequence FROM p2p_replication_replica")[0][0]
        same, last = now == last, now
        return same

    for _ in range(3):
        until(unchanged, "the worker comes to rest")
