"""A visitor who keeps saving observations by the pages' forms, while rows pour in."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import sqlite3
import threading
import time
import uuid

from demo_project.check.visitor import Visitor
from demo_project.launcher.node import Node
from demo_project.launcher.readings import connect

#: Seconds between two saves.
PACE = 0.05


class WebSaver(threading.Thread):
    """Signs in by link and adds observations at the largest place the node has, until ``finish()``.

    Attributes:
        milliseconds: how long each save took, from the request to the whole answer.
        failures: what went wrong, in words.
    """

    def __init__(self, node: Node, link: str) -> None:
        super().__init__(name=f"{node.name} visitor", daemon=True)
        self.milliseconds: list[float] = []
        self.failures: list[str] = []
        self._node = node
        self._link = link
        self._finished = threading.Event()
        self._visitor = Visitor(node)

    def finish(self) -> None:
        """Stop after the save that is under way."""
        self._finished.set()
        self.join(40)
        self._visitor.close()

    def run(self) -> None:
        try:
            self._visit()
        except (OSError, http.client.HTTPException, sqlite3.Error, StopIteration) as error:
            self.failures.append(f"{self._node.name}: {type(error).__name__}: {error}")

    def _visit(self) -> None:
        status, text = self._visitor.sign_in(self._link)
        if status != 302:
            self.failures.append(f"{self._node.name}: the sign-in link answered {status}: {text[:200]}")
            return
        place = self._wait_for_place()
        if place is None:
            return
        # The page's form brings the CSRF cookie.
        self._visitor.get(f"/places/{place}/")
        number = 0
        while not self._finished.wait(PACE):
            number += 1
            form = {
                "species": f"web-{self._node.key}-{number:05}",
                "count": "1",
                "note": "saved while rows pour in",
                "observed_at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            }
            started = time.perf_counter()
            status, text = self._visitor.post(f"/places/{place}/add/", form)
            self.milliseconds.append((time.perf_counter() - started) * 1000)
            if status != 302:
                self.failures.append(f"{self._node.name}: a save answered {status}: {text[:200]}")

    def _wait_for_place(self) -> uuid.UUID | None:
        with contextlib.closing(connect(self._node.database)) as connection:
            while not self._finished.is_set():
                row = connection.execute("SELECT id FROM survey_place ORDER BY population DESC LIMIT 1").fetchone()
                if row is not None:
                    return uuid.UUID(row[0])
                time.sleep(0.05)
        return None


def locked_lines(node: Node) -> list[str]:
    """Lines of the web process's log that tell of a locked database."""
    log = (node.folder / f"{node.key}-web.log").read_text(errors="replace")
    return [line for line in log.splitlines() if "database is locked" in line]
