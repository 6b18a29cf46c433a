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

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}

#: The migration that every other project has: one that fills tables.
SEED = """
from django.db import migrations


def fill(apps, editor):
    if editor.connection.alias in ("default", "peer"):
        apps.get_model("catalog", "Author").objects.using(editor.connection.alias).create(name="Anonymous")


class Migration(migrations.Migration):
    dependencies = [("catalog", "{after}")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
"""
PRELUDE = """
import json, django
django.setup()
from django.core.management import call_command
from django.db import connection, connections, models
from catalog.models import *
from legacy.models import *
from people.models import *
from p2p_replication.models import *
from p2p_replication.registry import registry
from p2p_replication.storage.capture.installation import drift, install
from tests.storage.conftest import StorageReplica, meet
LABELS = tuple(options.label for options in registry)
# Options of dumpdata: everything but a view, into which nobody could load rows.
WHOLE = ("--exclude=legacy.BigInvoice", "--output=all.json")

def replica(alias="default"):
    "A worker's start on a database."
    install(alias)
    return StorageReplica(alias, None)

def rows(alias, *models):
    models = models or [options.model for options in registry]
    return {m._meta.label: sorted(m._base_manager.using(alias).order_by("pk").values_list()) for m in models}

def some_rows(alias="default"):
    ana = Author.objects.using(alias).create(name="Ana", born=1970)
    # Fixtures in JSON have no microseconds.
    user = Person(username="ana", date_joined="2026-01-01T00:00:00Z")
    user.set_password("secret")
    user.save(using=alias)
    book = Book.objects.using(alias).create(title="One", author=ana, added_by=user)
    book.tags.add(Tag.objects.using(alias).create(name="new"))
    Draft.everything.using(alias).create(text="x", is_hidden=True)
    Invoice.objects.using(alias).create(total=5000)
    Offer.objects.using(alias).create(product=SpecialProduct.objects.using(alias).create(code="p", weight=1.5))
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

    @property
    def databases(self) -> dict[str, dict[str, Any]]:
        """DATABASES."""
        return json.loads((self.folder / "databases.json").read_text())

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
