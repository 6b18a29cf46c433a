"""The demo in the terminal: a live table where there is one, plain lines elsewhere."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo_project.launcher.node import Node
from demo_project.launcher.readings import Reading, read

COLOURS = {"a": "green", "b": "blue"}
LOOK_INTERVAL = 0.5
LINE_INTERVAL = 2.0


def look(node: Node) -> Reading:
    """Read a node, or an empty reading while its database is not ready."""
    try:
        return read(node.database)
    except sqlite3.Error:
        return Reading()


class Screen:
    """Shows the nodes until the process is stopped.

    Args:
        check: called at every look; raises when a process is gone.
    """

    def __init__(self, console: Console, nodes: Sequence[Node], check: Callable[[], None]) -> None:
        self.console = console
        self.nodes = nodes
        self.check = check

    def run(self) -> None:
        if self.console.is_terminal:
            self._run_live()
        else:
            self._run_plain()

    def _run_live(self) -> None:
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            while True:
                self.check()
                live.update(self.render([(node, look(node)) for node in self.nodes]), refresh=True)
                time.sleep(LOOK_INTERVAL)

    def _run_plain(self) -> None:
        before: dict[str, str] = {}
        while True:
            self.check()
            for node in self.nodes:
                line = plain_line(node, look(node))
                if before.get(node.key) != line:
                    self.console.print(f"{time.strftime('%H:%M:%S')} {line}", highlight=False, soft_wrap=True)
                    before[node.key] = line
            time.sleep(LINE_INTERVAL)

    def render(self, readings: Sequence[tuple[Node, Reading]]) -> Group:
        table = Table(title="The pool “field-survey”", title_justify="left", expand=False)
        for heading in ("Node", "State", "Peer", "Places", "Observations", "Rows in", "Rows out", "MB in", "MB out"):
            numeric = heading not in ("Node", "State", "Peer")
            table.add_column(heading, justify="right" if numeric else "left", no_wrap=heading != "State")
        errors: list[Text] = []
        for node, reading in readings:
            peers = reading.peers
            table.add_row(
                Text(node.name, style=f"bold {COLOURS[node.key]}"),
                Text(reading.state, style=state_style(reading)),
                Text("\n".join(f"{peer.name} ({peer.state})" for peer in peers) or "–"),
                f"{reading.places:,}",
                f"{reading.observations:,}",
                f"{sum(peer.rows_in for peer in peers):,}",
                f"{sum(peer.rows_out for peer in peers):,}",
                f"{sum(peer.bytes_in for peer in peers) / 1e6:.2f}",
                f"{sum(peer.bytes_out for peer in peers) / 1e6:.2f}",
            )
            errors += [Text(f"{node.name}: {text}", style="red") for text in reading.errors[:1]]
        return Group(table, *errors, Text("Ctrl-C stops everything.", style="dim"))


def state_style(reading: Reading) -> str:
    if reading.state == "in sync":
        return "green"
    return "yellow" if reading.connected else "red"


def plain_line(node: Node, reading: Reading) -> str:
    peers = ", ".join(f"{peer.name} {peer.state}" for peer in reading.peers) or "none"
    return (
        f"{node.name}: {reading.state}; peers: {peers}; {reading.places} places, {reading.observations} observations; "
        f"rows in {sum(p.rows_in for p in reading.peers)}, out {sum(p.rows_out for p in reading.peers)}"
    )
