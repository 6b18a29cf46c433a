"""The README's quick start, followed to the letter: a new project, two devices, two workers, one signaling server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo_project.launcher.ports import free_ports

ROOT = Path(__file__).parents[2]
DJANGOS_OWN = ", ".join(
    f'"django.contrib.{app}"' for app in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
)
#: sync_p2p() on the second device, then waiting until its worker is there and has everything.
SYNC = """
import time
from notes.models import Note
from p2p_replication.exceptions import WorkerNotRunning

pool = Note.objects.sync_p2p(topic="field-team")
deadline = time.monotonic() + 30
while True:
    try:
        pool.wait_in_sync(timeout=30)
        break
    except WorkerNotRunning:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
print(sorted(Note.objects.values_list("title", flat=True)), pool.errors.count())
"""


class Device:
    """One folder with the project and its own database."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "P2P_TOKEN": token}
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, *arguments] if arguments[0] == "-m" else [sys.executable, "manage.py", *arguments]
        outcome = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        return outcome.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Path]:
        """Run a command that does not end by itself, and stop it afterwards. Yields its log."""
        log = self.folder / f"{arguments[0]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield log
        finally:
            # Not SIGINT: a test run that was started in the background has its children ignore that.
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def new_project(folder: Path, port: int) -> Device:
    """Start a project and put the README's blocks into it, in their order: settings, model, asgi.py."""
    settings, model, asgi, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    settings = settings.replace("...", DJANGOS_OWN).replace("192.168.1.20:8000", f"127.0.0.1:{port}")
    folder.mkdir()
    device = Device(folder)
    device.manage("-m", "django", "startproject", "mysite", ".")
    device.manage("startapp", "notes")
    with (folder / "mysite" / "settings.py").open("a") as file:
        file.write("\nimport os\n" + settings)
    (folder / "notes" / "models.py").write_text(model)
    (folder / "mysite" / "asgi.py").write_text(asgi)
    return device


@pytest.mark.acceptance
def test_the_readmes_quick_start_works_as_it_is_written(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    first = new_project(tmp_path / "first", port)
    first.manage("makemigrations", "notes")
    shutil.copytree(first.folder, tmp_path / "second")
    first.manage("migrate")
    first.environment["DJANGO_SUPERUSER_PASSWORD"] = "a password"
    first.manage("createsuperuser", "--username", "ana", "--email", "ana@example.org", "--noinput")
    tokens = [first.manage("p2p", "token", "create", "ana", "--name", name).strip() for name in ("desktop", "laptop")]
    first.environment["P2P_TOKEN"] = tokens[0]
    second = Device(tmp_path / "second", tokens[1])
    second.manage("migrate")
    assert "no issues" in second.manage("check", "--database", "default")
    write = "from notes.models import Note; Note.objects.create(title='from {0}'); Note.objects.sync_p2p('field-team')"
    first.manage("shell", "-c", write.format("the first"))
    with first.running("runserver", "--noreload", f"127.0.0.1:{port}") as web_log:
        deadline = time.monotonic() + 30
        while "Starting ASGI" not in web_log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        with first.running("runp2psync"), second.running("runp2psync"):
            second.manage("shell", "-c", write.format("the second"))
            assert second.manage("shell", "-c", SYNC).splitlines()[-1] == "['from the first', 'from the second'] 0"
            assert first.manage("shell", "-c", SYNC).splitlines()[-1] == "['from the first', 'from the second'] 0"
