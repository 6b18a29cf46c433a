"""A small Django project in a folder of its own, with real migrations, run in processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.databases import Database

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "p2p_replication", "shop", "till"]
DATABASES = {databases!r}
P2P_REPLICATION = {{"ACCOUNTS": {{"default": {{}}}}}}
"""
#: Each project has three; ``third`` stays empty.
ALIASES = ("default", "other", "third")

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
    atomic = {atomic}
    replaces = {replaces}
    dependencies = {dependencies}
    operations = [{operations}]
"""

PRELUDE = '''
import os, sys, django
sys.path[:0] = [os.environ["PROJECT"], os.environ["ROOT"]]
os.environ["DJANGO_SETTINGS_MODULE"] = "project_settings"
django.setup()
from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections, models
from p2p_replication.models import ChangeLogEntry, Gap, LedgerEntry, Stream, uuid7
from p2p_replication.storage.capture.installation import drift, install
from tests.databases import known
from tests.storage.conftest import StorageReplica, meet
Item = apps.all_models["shop"].get("item")
LABELS = ("shop.Item",)

def migrate(app=None, target=None, using="default"):
    call_command("migrate", *[x for x in (app, target) if x], database=using, verbosity=0)

def replica(alias="default"):
    install(alias)
    return StorageReplica(alias, known(alias))

def outside(*statements, alias="default"):
    known(alias).outside(*statements)

def left_behind():
    """Return the names of our triggers and functions."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL "
                           "SELECT proname FROM pg_proc WHERE starts_with(proname, 'p2p')")
        return [name for (name,) in cursor.fetchall()]

def same(*aliases, label="shop.Item"):
    rows = [replica(alias).raw(label) for alias in aliases]
    assert all(r == rows[0] for r in rows), rows
'''


class SchemaProject:
    """Two apps, ``shop`` (one replicated model, Item) and ``till`` (none), and three databases."""

    def __init__(self, folder: Path, databases: dict[str, Database]) -> None:
        self.folder = folder
        self.databases = databases
        settings = {alias: database.settings() for alias, database in databases.items()}
        (folder / "project_settings.py").write_text(SETTINGS.format(databases=settings))

    @classmethod
    def create(cls, folder: Path, databases: dict[str, Database]) -> SchemaProject:
        """A project whose databases are migrated to the first schema; ``default`` and ``other`` have two rows."""
        for app in ("shop", "till"):
            (folder / app / "migrations").mkdir(parents=True)
            (folder / app / "__init__.py").touch()
            (folder / app / "migrations" / "__init__.py").touch()
            (folder / app / "models.py").touch()
        (folder / "shop" / "migrations" / "m0001.py").write_text(INITIAL)
        project = cls(folder, databases)
        project.models(ITEM)
        project.run("""
            for alias in connections:
                migrate(using=alias)
            Item.objects.bulk_create([Item(title="old1", qty=1), Item(title="old2", qty=2)])
            meet(replica(), replica("other"), labels=LABELS)
            same("default", "other")
        """)
        return project

    def copy(self, folder: Path) -> SchemaProject:
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
        copies = {alias: database.copy(f"{folder.parent.name}-{alias}") for alias, database in self.databases.items()}
        return SchemaProject(folder, copies)

    def models(self, text: str, app: str = "shop") -> None:
        (self.folder / app / "models.py").write_text(textwrap.dedent(text))

    def migration(
        self,
        number: int,
        operations: str,
        helpers: str = "",
        app: str = "shop",
        after: str = "",
        atomic: bool = True,
        replaces: tuple[int, ...] = (),
    ) -> None:
        """Write a migration that follows the one before; ``replaces``: a squashed one, the first of the app."""
        dependencies = [(app, f"m{number - 1:04}")] if number > 1 and not replaces else []
        dependencies += [("shop", after)] if after else []
        text = NEXT.format(
            helpers=textwrap.dedent(helpers), dependencies=dependencies, operations=operations, atomic=atomic,
            replaces=[(app, f"m{replaced:04}") for replaced in replaces],
        )  # fmt: skip
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
