"""Talking to helper processes that print one line an answer."""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path
from typing import Any

from demo_project.launcher.errors import DemoError
from demo_project.launcher.node import ROOT, Node
from demo_project.launcher.processes import Child, Children

HERE = Path(__file__).parent


class StepFailed(Exception):
    """What was expected of a step did not come; the text says what, and what is there instead."""


class Helper:
    """A child process that answers on its standard output, a line at a time."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def line(self, timeout: float) -> str:
        """Return the next line. Raises DemoError if none comes."""
        stdout = self.child.process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], timeout)[0]:
            raise DemoError(f"{self.child.name} did not answer within {timeout:g} s.{self.child.tail()}")
        line = stdout.readline()
        if not line:
            self.child.process.wait(5)
            raise DemoError(f"{self.child.name} ended with code {self.child.process.returncode}.{self.child.tail()}")
        return line.rstrip("\n")

    def json(self, timeout: float) -> Any:
        return json.loads(self.line(timeout))


class Operator(Helper):
    """The process that writes to a node by the ORM (``operator.py``)."""

    def __init__(self, node: Node, children: Children) -> None:
        child = Child(
            f"{node.name}: operator",
            [sys.executable, "-m", "demo_project.check.operator"],
            env=node.env(),
            log=node.folder / f"{node.key}-operator.log",
            cwd=ROOT,
            pipes=True,
        )
        super().__init__(children.add(child))

    def send(self, do: str, **arguments: Any) -> None:
        """Give a command; ``answer()`` has its outcome."""
        stdin = self.child.process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        stdin.flush()

    def answer(self, timeout: float = 30.0) -> Any:
        """Return what the last command returned. Raises StepFailed if it failed."""
        outcome = self.json(timeout)
        if "error" in outcome:
            raise StepFailed(f"{self.child.name}: {outcome['error']}")
        return outcome["value"]

    def call(self, do: str, **arguments: Any) -> Any:
        self.send(do, **arguments)
        return self.answer()


def start_watcher(script: str, node: Node, children: Children, *arguments: object) -> Helper:
    """Start one of the reading scripts of this folder on the node's database, and wait until it reads."""
    child = Child(
        f"{node.name}: {script}",
        [sys.executable, str(HERE / script), str(node.database), *map(str, arguments)],
        env=node.env(),
        log=node.folder / f"{node.key}-{script}.log",
        cwd=ROOT,
        pipes=True,
    )
    helper = Helper(children.add(child))
    if (line := helper.line(20)) != "ready":
        raise DemoError(f"{child.name} printed {line!r}.{child.tail()}")
    return helper
