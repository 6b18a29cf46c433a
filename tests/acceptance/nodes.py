"""Real processes for the acceptance tests: a signaling server, and nodes with a database and a worker each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.databases import Database, SQLiteFile

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = "tests.settings"
TOPIC = "field-team"
MODELS = ("testapp.Shelf", "testapp.Book", "testapp.Note")
TABLES = ("testapp_shelf", "testapp_book", "testapp_note")

_SETUP = """
import django, sys
django.setup()
from django.contrib.auth.models import User
from p2p_replication.signaling.tokens import create_token
print(create_token(User.objects.create_user("ana"), "laptop")[1])
"""
_DECLARE = """
import django
django.setup()
from django.apps import apps
import p2p_replication
for label in {models!r}:
    p2p_replication.sync_p2p(apps.get_model(label), {topic!r})
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], what: str, timeout: float = 40.0, step: float = 0.02) -> Any:
    """Wait until a condition holds and return its value."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f"{what}: not within {timeout:g} s")


class Process:
    """A child of the test, in a process group of its own, with its output in a file."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """End it without a goodbye."""
        if self.alive:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        if self.alive:
            self.popen.send_signal(number)
        return self.popen.wait(20)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Server:
    """A Daphne process with the signaling consumer, on a database of its own."""

    def __init__(self, folder: Path, database: Database, settings: str = SETTINGS) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/p2p/signaling/"
        self.environment = environment(database, settings=settings)
        self.token = run_python(_SETUP, self.environment).strip()
        self.process = self.start()

    def start(self) -> Process:
        arguments = ["-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), "tests.acceptance.asgi:application"]
        process = Process(arguments, self.environment, self.folder / "server.log")
        until(lambda: _answers(self.port) or not process.alive, "the signaling server answers")
        assert process.alive, process.output()
        return process


class Node:
    """A replica: a database, and a worker process while it runs.

    Args:
        folder: where its log lies.
    """

    def __init__(
        self, name: str, database: Database, server: Server, folder: Path, settings: str = SETTINGS, **options: Any
    ) -> None:
        self.name = name
        self.site = database
        self.log = folder / f"{name}.log"
        self.stats = folder / f"{name}.stats"
        self.environment = environment(
            database, url=server.url, token=server.token, options={"NAME": name, **options}, settings=settings
        )
        self.worker: Process | None = None

    @property
    def path(self) -> Path:
        """The file of a node on SQLite."""
        assert isinstance(self.site, SQLiteFile)
        return self.site.path

    def declare(self, models: tuple[str, ...] = MODELS) -> None:
        run_python(_DECLARE.format(models=models, topic=TOPIC), self.environment)

    def start(self, *arguments: str) -> None:
        self.worker = Process(
            ["-m", "django", "runp2psync", "--stats-file", str(self.stats), *arguments],
            self.environment, self.log,
        )  # fmt: skip

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the worker cleanly; return its exit code."""
        assert self.worker is not None
        code = self.worker.stop(number)
        self.worker = None
        return code

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker = None

    def traffic(self) -> dict[str, int]:
        """Return the traffic of the running worker up to now."""
        assert self.worker is not None
        self.stats.unlink(missing_ok=True)
        self.worker.popen.send_signal(signal.SIGUSR1)
        until(self.stats.exists, "the worker writes its traffic")
        return self.bytes_of_run()

    def bytes_of_run(self) -> dict[str, int]:
        """Return the traffic of the last worker that was stopped cleanly."""
        totals: dict[str, int] = json.loads(self.stats.read_text())
        return totals

    def sql(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement (with %s marks) on a connection that is not Django's."""
        with closing(self.site.connect()) as connection:
            if self.site.vendor == "sqlite":
                statement = statement.replace("%s", "?")
            cursor = connection.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def count(self, table: str = "testapp_note") -> int:
        return int(self.sql(f"SELECT COUNT(*) FROM {table}")[0][0])

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all replicated rows with their storage types."""
        return {table: sorted(map(repr, self.sql(f"SELECT * FROM {table}"))) for table in TABLES}  # type: ignore[misc]

    def django(self, code: str) -> str:
        """Run code in a process of its own with this node's settings, Django set up."""
        return run_python("import django\ndjango.setup()\n" + code, self.environment)


def environment(
    database: Database, url: str = "", token: str = "", options: Any = None, settings: str = SETTINGS
) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings,
        "PYTHONPATH": str(ROOT),
        "P2P_TEST_DATABASE": json.dumps(_durable(database)),
        "P2P_TEST_SIGNALING_URL": url,
        "P2P_TEST_TOKEN": token,
        "P2P_TEST_OPTIONS": json.dumps(options or {}),
    }


def _durable(database: Database) -> dict[str, Any]:
    """Return the settings of a database as a real project has them."""
    settings = database.settings()
    if database.vendor == "sqlite":
        init = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        settings = {**settings, "OPTIONS": {**settings["OPTIONS"], "init_command": init}}
    return settings


def run_python(code: str, env: dict[str, str], timeout: float = 60.0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
