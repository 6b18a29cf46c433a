"""What ``runp2psync`` shows on a terminal: pools, peers, rows in and out, and the progress of a first sync."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from p2p_replication.pool.live_pool import LivePool
from p2p_replication.pool.replicator import Replicator
from p2p_replication.worker.supervisor import PoolSupervisor

REFRESH = 0.25


async def show(supervisor: PoolSupervisor) -> None:
    """Keep the terminal up to date until cancelled."""
    with Live(console=Console(), auto_refresh=False, transient=False) as live:
        while True:
            live.update(screen(supervisor), refresh=True)
            await asyncio.sleep(REFRESH)


def screen(supervisor: PoolSupervisor) -> RenderableType:
    if not supervisor.ready.is_set():
        return "Starting ..."
    parts: list[RenderableType] = [pool_table(running.pool) for running in supervisor.running.values()]
    parts += [f"pool {escape(topic)}: another worker serves it" for topic in sorted(supervisor.elsewhere.values())]
    parts += [escape(text) for text in supervisor.failed.values()]
    if not parts:
        return "No pool is declared: call sync_p2p(), or give a model pools in its p2p.py. Waiting for one."
    return Group(*parts, "Ctrl-C stops.")


def pool_table(pool: LivePool) -> Table:
    table = Table(title=f"pool {escape(pool.setup.topic)}: {escape(state(pool))}", title_justify="left")
    for column in ("peer", "user", "connected", "rows in", "rows out", "state"):
        table.add_column(column, justify="right" if column.startswith("rows") else "left")
    for replicator in pool.replicators:
        session = replicator.session
        links = session.links.values()
        name = session.peer.name or session.peer.replica[:8] if session.peer else "..."
        table.add_row(
            escape(name),
            escape(replicator.connection.remote.user),
            f"{time.time() - replicator.opened_at:.0f} s",
            str(sum(link.rows_in for link in links)),
            str(sum(link.rows_out for link in links)),
            progress(replicator),
        )
    return table


def state(pool: LivePool) -> str:
    peers = sum(replicator.is_open for replicator in pool.replicators)
    return f"{peers} peer{'s' if peers != 1 else ''}" if peers else pool.state


def progress(replicator: Replicator) -> str:
    """Say how far a peer is: its introduction, the rows still to come, or in sync."""
    if not replicator.is_open:
        return replicator.session.phase.value
    parts = []
    for link in replicator.session.links.values():
        if link.pulling and link.remaining:
            parts.append(f"{link.label}: {link.remaining} rows to come")
        elif link.serve is not None and link.serve.remaining:
            parts.append(f"{link.label}: {link.serve.remaining} rows to send")
    if parts:
        return escape(", ".join(parts))
    behind = [link.label for link in replicator.session.links.values() if not link.complete]
    return f"behind in {escape(', '.join(behind))}" if behind else "in sync"
