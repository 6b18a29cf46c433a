"""Nodes that somebody has taken off the net: their workers are stopped until they are to come back.

A page of the node makes or removes the file; whoever started the processes looks for it. The node's pages go on
working alone all the while.
"""

from __future__ import annotations

from collections.abc import Sequence

from demo_project.launcher.node import Node
from demo_project.launcher.processes import Child, Children


class Outages:
    """Starts the nodes' workers, and stops and starts them again as the nodes' files say."""

    def __init__(self, nodes: Sequence[Node], children: Children) -> None:
        self.nodes = nodes
        self.children = children
        self._workers: dict[str, Child] = {}
        for node in nodes:
            node.outage_file.unlink(missing_ok=True)
        self.look()

    def look(self) -> None:
        """Do what the files say. Raises DemoError if a process has ended by itself."""
        self.children.require_alive()
        for node in self.nodes:
            worker = self._workers.get(node.key)
            if node.outage_file.exists():
                if worker is not None:
                    worker.stop()
                    del self._workers[node.key]
            elif worker is None:
                self._workers[node.key] = node.start_worker(self.children)
