"""One node of the demo: its environment and the processes that make it up."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_project.launcher.errors import DemoError
from demo_project.launcher.ports import HOST
from demo_project.launcher.processes import Child, Children

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT = 30.0


@dataclass
class Node:
    """A node: database, web process, worker.

    Attributes:
        key: ``"a"`` or ``"b"``.
        token: the worker's device token, known once node A is prepared.
        extra_env: added to the environment of all of the node's processes.
    """

    key: str
    folder: Path
    port: int
    other_port: int
    signaling_port: int
    secret_key: str
    token: str = ""
    extra_env: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"Node {self.key.upper()}"

    @property
    def device(self) -> str:
        """Name of the worker's device token."""
        return f"{self.name}'s worker"

    @property
    def database(self) -> Path:
        return self.folder / f"{self.key}.sqlite3"

    @property
    def outage_file(self) -> Path:
        """It is there while the node is off the net (``outages``)."""
        return self.folder / f"{self.key}.offline"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def env(self, **more: str) -> dict[str, str]:
        """The environment of this node's processes."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("P2P_", "DJANGO_"))}
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "demo_project.settings",
            "PYTHONUNBUFFERED": "1",
            "P2P_DEMO_NODE": self.key,
            "P2P_DEMO_FOLDER": str(self.folder),
            "P2P_DEMO_PORT": str(self.port),
            "P2P_DEMO_OTHER_URL": f"http://{HOST}:{self.other_port}/",
            "P2P_DEMO_SIGNALING_URL": f"ws://{HOST}:{self.signaling_port}/p2p/signaling/",
            "P2P_DEMO_TOKEN": self.token,
            "P2P_DEMO_SECRET_KEY": self.secret_key,
            **self.extra_env,
            **more,
        }

    def start_web(self, children: Children) -> Child:
        command = ["daphne", "-b", HOST, "-p", str(self.port), "--no-server-name", "demo_project.asgi:application"]
        return self._start(children, "web", [sys.executable, "-m", *command], serves=True)

    def start_worker(self, children: Children, **env: str) -> Child:
        return self.manage(children, "runp2psync", log="worker", serves=True, env=env)

    def manage(
        self,
        children: Children,
        *arguments: str,
        log: str = "",
        pipes: bool = False,
        serves: bool = False,
        env: Mapping[str, str] = {},
    ) -> Child:
        """Start ``manage.py`` with these arguments; the other ones are as of ``Child``."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        return self._start(children, log or arguments[0], command, pipes=pipes, serves=serves, env=env)

    def prepare(self, children: Children, *arguments: str) -> Child:
        """Start to make the node ready; ``prepared()`` of the child returned has the outcome."""
        return self.manage(children, "prepare_node", *arguments, pipes=True)

    def wait_until_it_answers(self, web: Child, timeout: float = START_TIMEOUT) -> None:
        """Wait for the web process. Raises DemoError if it ends or doesn't answer in time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            web.require_alive()
            connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
            try:
                connection.request("GET", "/enter/")
                connection.getresponse().read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                connection.close()
        raise DemoError(f"{self.name} does not answer at {self.url} after {timeout:g} s.{web.tail()}")

    def _start(
        self,
        children: Children,
        kind: str,
        command: list[str],
        *,
        pipes: bool = False,
        serves: bool = False,
        env: Mapping[str, str] = {},
    ) -> Child:
        log = self.folder / f"{self.key}-{kind}.log"
        name = f"{self.name}: {kind}"
        child = Child(name, command, env=self.env(**env), log=log, cwd=ROOT, pipes=pipes, serves=serves)
        return children.add(child)


def prepared(child: Child, timeout: float = START_TIMEOUT) -> Mapping[str, Any]:
    """Wait for ``Node.prepare()`` and return ``{"link": ..., "tokens": {...}}``. Raises DemoError."""
    assert child.process.stdout is not None
    output = child.process.stdout.read()
    child.finish(timeout)
    try:
        outcome: Mapping[str, Any] = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise DemoError(f"{child.name} printed no outcome but {output!r}.{child.tail()}") from error
    return outcome
