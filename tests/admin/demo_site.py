"""The demo project's web process and an administrator: static files and a strict policy, as in real life."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 60.0
#: Prints what the test needs to get in.
PREPARE = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.conf import settings
user = get_user_model().objects.create_superuser("admin", password="x")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(json.dumps([settings.SESSION_COOKIE_NAME, session.session_key]))
"""


@dataclass
class DemoSite:
    folder: Path
    url: str
    cookie: tuple[str, str]
    process: subprocess.Popen[bytes]

    def run(self, code: str) -> str:
        """Run Python in the site's project, as another process would."""
        return _manage(self.folder, "shell", "--no-imports", "-c", code)

    def stop(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_site(folder: Path) -> Iterator[DemoSite]:
    folder.mkdir(exist_ok=True)
    _manage(folder, "migrate", "-v", "0")
    cookie = json.loads(_manage(folder, "shell", "--no-imports", "-c", PREPARE).splitlines()[-1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "web.log").open("wb") as log:
        command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "demo_project.asgi:application"]
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(folder), stdout=log, stderr=log)
    site = DemoSite(folder, f"http://127.0.0.1:{port}", (cookie[0], cookie[1]), process)
    try:
        _wait_for(site)
        yield site
    finally:
        site.stop()


def _environment(folder: Path) -> dict[str, str]:
    settings = {"DJANGO_SETTINGS_MODULE": "demo_project.settings", "P2P_DEMO_FOLDER": str(folder)}
    return {**os.environ, **settings, "P2P_DEMO_NODE": "a"}


def _manage(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=_environment(folder), capture_output=True, timeout=60
    )
    if done.returncode:
        raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr.decode()[-3000:]}")
    return done.stdout.decode()


def _wait_for(site: DemoSite) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and site.process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{site.url}/admin/login/", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError("the site did not start:\n" + (site.folder / "web.log").read_text()[-3000:])
