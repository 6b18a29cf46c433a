"""Morango: a server and a client process over HTTP on the loopback interface, SQLite in WAL mode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.items import rows
from benchmarks.peers.processes import CommandProcess
from tests.acceptance.nodes import free_port

SITE = Path(__file__).parent / "morango_site"
VERSION = "0.8.15"
REQUIREMENTS = (f"morango=={VERSION}", "cheroot", "cryptography", "setuptools<81")
#: Rows a request; the default of 500 makes it wait between many.
CHUNK = 10_000


def install(folder: Path) -> Path:
    """Install Morango into a virtual environment of its own; return the interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True, timeout=600)
    return python


def first_sync_seconds(python: Path, count: int) -> float:
    """Return what a pull of so many rows into an empty replica takes, the certificate's exchange not counted."""
    folder = Path(tempfile.mkdtemp(prefix="p2p-morango-"))
    dataset = "0" * 32

    def environment(name: str) -> dict[str, str]:
        return {**os.environ, "BENCH_DATABASE": str(folder / name), "BENCH_DATASET": dataset, "PYTHONPATH": str(SITE)}

    def run(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [python, "peer.py", *arguments],
            cwd=SITE,
            env=environment(name),
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    server, client = None, None
    try:
        dataset = run("server.sqlite3", "create", "server")
        run("client.sqlite3", "create", "client")
        made = [{**row, "updated": row["updated"].isoformat()} for row in rows.items(count)]
        (folder / "rows.json").write_text(json.dumps(made))
        run("server.sqlite3", "fill", str(folder / "rows.json"))
        port = free_port()
        server = subprocess.Popen(
            [python, "peer.py", "serve", str(port)], cwd=SITE, env=environment("server.sqlite3"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert server.stdout is not None and server.stdout.readline().strip() == "ready"
        client = CommandProcess([python, "peer.py", "drive"], SITE, environment("client.sqlite3"))
        client.ask("connect", url=f"http://127.0.0.1:{port}/", chunk_size=CHUNK)
        seconds = float(client.ask("pull"))
        if (found := client.ask("count")) != count:
            raise RuntimeError(f"Morango has {found} of {count} rows")
        return seconds
    finally:
        if client is not None:
            client.end()
        if server is not None:
            server.kill()
            server.communicate()
        shutil.rmtree(folder, ignore_errors=True)
