"""A small Django project in a folder of its own, with real migrations, run in processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
from pathlib import Path
HERE = Path(__file__).parent
SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "p2p_replication", "shop", "till"]
DATABASES = {
    alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(HERE / f"{alias}.sqlite3"),
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5}}
    for alias in ("default", "other", "third")
}
P2P_REPLICATION = {"ACCOUNTS": {"default": {}}}
"""

ITEM = """
from django.db import models
from p2p_replication.models import ReplicatedModel

class Item(ReplicatedModel):
    title = models.CharField(max_length=50)
    qty = models.IntegerField(default=0)
"""

INITIAL = """
import p2p_replication.models
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.CreateModel("Item", [
        ("id", models.UUIDField(primary_key=True, default=p2p_replication.models.uuid7, editable=False)),
        ("title", models.CharField(max_length=50)),
        ("qty", models.IntegerField(default=0)),
    ])]
"""

NEXT = """
import p2p_replication.models
from django.db import migrations, models
{helpers}
class Migration(migrations.Migration):
    dependencies = {dependencies}
    operations = [{operations}]
"""

PRELUDE = """
import os, sys, django
sys.path[:0] = [os.environ["PROJECT"], os.environ["ROOT"]]
os.environ["DJANGO_SETTINGS_MODULE"] = "project_settings"
django.setup()
from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections, models
from p2p_replication.models import ChangeLogEntry, Gap, LedgerEntry, Stream
from p2p_replication.storage.capture.installation import drift, install
from tests.storage.conftest import StorageReplica, meet
Item = apps.get_model("shop", "Item")
LABELS = ("shop.Item",)

def migrate(app=None, target=None, using="default"):
    call_command("migrate", *[x for x in (app, target) if x], database=using, verbosity=0)

def replica(alias="default"):
    install(alias)
    return StorageReplica(alias, connections.databases[alias]["NAME"])

def same(*aliases):
    rows = [replica(alias).raw("shop.Item") for alias in aliases]
    assert all(r == rows[0] for r in rows), rows
"""


class SchemaProject:
    """Two apps, ``shop`` (one replicated model, Item) and ``till`` (none), and three databases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> SchemaProject:
        """A project whose databases are migrated to the first schema."""
        project = cls(folder)
        for app in ("shop", "till"):
            (folder / app / "migrations").mkdir(parents=True)
            (folder / app / "__init__.py").touch()
            (folder / app / "migrations" / "__init__.py").touch()
            (folder / app / "models.py").touch()
        (folder / "project_settings.py").write_text(SETTINGS)
        (folder / "shop" / "migrations" / "m0001.py").write_text(INITIAL)
        project.models(ITEM)
        project.run('migrate(using="default"); migrate(using="other"); migrate(using="third")')
        return project

    def copy(self, folder: Path) -> SchemaProject:
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
        return SchemaProject(folder)

    def models(self, text: str, app: str = "shop") -> None:
        (self.folder / app / "models.py").write_text(textwrap.dedent(text))

    def migration(self, number: int, operations: str, helpers: str = "", app: str = "shop", after: str = "") -> None:
        dependencies = [(app, f"m{number - 1:04}")] if number > 1 else []
        dependencies += [("shop", after)] if after else []
        text = NEXT.format(helpers=textwrap.dedent(helpers), dependencies=dependencies, operations=operations)
        (self.folder / app / "migrations" / f"m{number:04}.py").write_text(text)

    def run(self, script: str) -> str:
        """Run a script in a process of its own; its assertions are the test's."""
        environment = {**os.environ, "PROJECT": str(self.folder), "ROOT": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
            capture_output=True, text=True, timeout=60, env=environment, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout
