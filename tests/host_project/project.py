"""A project of its own in a temporary folder, used as its developers use it: by ``manage.py``, in other processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).parent / "template"

#: The migration that every other project has: one that fills tables.
SEED = """
from django.db import migrations


def fill(apps, editor):
    if editor.connection.alias in ("default", "peer"):
        apps.get_model("catalog", "Author").objects.using(editor.connection.alias).create(name="Anonymous")


class Migration(migrations.Migration):
    dependencies = [("catalog", "{after}")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
"""
PRELUDE = """
import django
django.setup()
"""


@dataclass(frozen=True)
class HostProject:
    folder: Path

    @classmethod
    def create(cls, folder: Path) -> HostProject:
        """A project with migrations, and nothing else yet."""
        shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        project = cls(folder)
        project.use({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
        project.manage("makemigrations", "catalog", "folk")
        migrations = folder / "catalog" / "migrations"
        last = max(path.stem for path in migrations.glob("0*.py"))
        (migrations / "0009_seed.py").write_text(SEED.format(after=last))
        return project

    def copy(self, folder: Path) -> HostProject:
        shutil.copytree(self.folder, folder)
        return HostProject(folder)

    def use(self, databases: Mapping[str, Mapping[str, Any]]) -> None:
        """Set DATABASES."""
        (self.folder / "databases.json").write_text(json.dumps(databases))

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run ``manage.py``, warnings being errors; return what it printed."""
        return self._run("-W", "error", "manage.py", *arguments, **environment)

    def script(self, text: str, **environment: str) -> str:
        """Run a script in the project; its assertions are the test's."""
        return self._run("-c", PRELUDE + textwrap.dedent(text), **environment)

    def pytest(self, *arguments: str) -> str:
        return self._run("-m", "pytest", "-W", "error", *arguments)

    def _run(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("P2P_", "PYTEST_"))},
                "DJANGO_SETTINGS_MODULE": "host.settings",
                "PYTHONPATH": os.pathsep.join((str(self.folder), str(ROOT))),
                **environment,
            },
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr
