"""Longer stories of real nodes: apart and together again, three of them, flush and migrations."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.nodes import ROOT, Node, until
from tests.acceptance.shown import links

pytestmark = pytest.mark.acceptance

IMPORT = "from tests.testapp.models import *\n"


def manage(node: Node, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments], cwd=ROOT, env=node.environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def equal(*nodes: Node) -> bool:
    first, *others = [node.rows() for node in nodes]
    return all(rows == first for rows in others)


def both_stopped(a: Node, b: Node) -> None:
    assert a.stop() == 0
    assert b.stop() == 0


def test_edits_made_apart_merge_by_field(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    a.django(IMPORT + "Note.objects.bulk_create(Note(title=f't{i}', body='b', stars=i) for i in range(3))")
    a.start()
    b.start()
    until(lambda: b.count() == 3, "the first sync")
    both_stopped(a, b)
    a.sql("UPDATE testapp_note SET title = 'a wrote' WHERE stars = 0")
    a.sql("DELETE FROM testapp_note WHERE stars = 1")
    b.sql("UPDATE testapp_note SET body = 'b wrote' WHERE stars = 0")
    b.sql("UPDATE testapp_note SET body = 'of a row that is deleted elsewhere' WHERE stars = 1")
    a.sql("UPDATE testapp_note SET title = 'earlier' WHERE stars = 2")
    time.sleep(0.05)
    b.sql("UPDATE testapp_note SET title = 'later' WHERE stars = 2")
    a.start()
    b.start()
    until(lambda: equal(a, b), "both hold the same")
    both_stopped(a, b)
    rows = a.sql("SELECT stars, title, body FROM testapp_note ORDER BY stars")
    assert rows == [(0, "a wrote", "b wrote"), (2, "later", "b")]


def test_three_nodes_hold_the_same_whoever_is_there(node: Callable[..., Node]) -> None:
    a, b, c = node("a"), node("b"), node("c")
    for each in (a, b, c):
        each.django(IMPORT + f"s = Shelf.objects.create(name='{each.name}')\n"
                    "Book.objects.bulk_create(Book(shelf=s, title=f'b{i}') for i in range(50))")  # fmt: skip
        each.start()
    until(lambda: a.count("testapp_book") == 150 and equal(a, b, c), "all hold all rows")
    b.kill()
    c.django(IMPORT + "Shelf.objects.get(name='a').delete()")
    b.sql("UPDATE testapp_shelf SET name = 'renamed while dead' WHERE name = 'b'")
    until(lambda: a.count("testapp_book") == 100, "the delete crosses while b is dead")
    b.start()
    until(lambda: equal(a, b, c), "all hold the same again")
    assert a.count("testapp_book") == 100
    assert a.sql("SELECT name FROM testapp_shelf ORDER BY name") == [("c",), ("renamed while dead",)]
    for each in (a, b, c):
        assert each.stop() == 0


@pytest.mark.parametrize("running", [True, False], ids=["worker running", "worker stopped"])
def test_flush_on_one_node_deletes_nothing_elsewhere(node: Callable[..., Node], running: bool) -> None:
    a, b = node("a"), node("b")
    b.django(IMPORT + "Note.objects.bulk_create(Note(title=f't{i}') for i in range(20))")
    a.start()
    b.start()
    until(lambda: a.count() == 20, "the first sync")
    if not running:
        assert a.stop() == 0
    manage(a, "flush", "--no-input")
    assert a.count() == 0
    a.declare()
    if running and a.worker is not None and not a.worker.alive:
        a.kill()
    if a.worker is None:
        a.start()
    until(lambda: a.count() == 20, "the flushed node gets everything again")
    assert b.count() == 20
    b.django(IMPORT + "Note.objects.create(title='and on it goes')")
    until(lambda: a.count() == 21, "live rows arrive")
    both_stopped(a, b)
    assert equal(a, b)
    assert "Traceback" not in a.log.read_text()


_STATE = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [{dependency}]
    operations = [{operation}]
"""
#: What Django does to a table on SQLite for many changes: a new table takes its place, and triggers go with the old.
_REBUILD = """migrations.RunSQL([
    "CREATE TABLE new_note AS SELECT * FROM testapp_note WHERE 0",
    "DROP TABLE new_note",
    "ALTER TABLE testapp_note ADD COLUMN colour varchar(20) NULL",
    "CREATE TABLE copied (id char(32) NOT NULL PRIMARY KEY, title varchar(200) NOT NULL, body text NOT NULL, "
    "stars integer NOT NULL, updated_at datetime NOT NULL, colour varchar(20) NULL)",
    "INSERT INTO copied SELECT id, title, body, stars, updated_at, colour FROM testapp_note",
    "DROP TABLE testapp_note",
    "ALTER TABLE copied RENAME TO testapp_note",
    "UPDATE testapp_note SET body = 'by the migration' WHERE stars = 1",
])"""


def test_migrating_while_the_worker_runs_loses_nothing_and_wedges_nothing(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    package = tmp_path / "note_migrations"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_initial.py").write_text(_STATE.format(dependency="", operation=""))
    (tmp_path / "migrating_settings.py").write_text(
        "from tests.settings import *\nMIGRATION_MODULES = {'testapp': 'note_migrations'}\n"
    )
    a, b = node("a"), node("b")
    with_migrations(a, tmp_path)
    manage(a, "migrate", "testapp", "--fake")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    a.django(IMPORT + "Note.objects.bulk_create(Note(title=f't{i}', stars=i) for i in range(3))")
    until(lambda: b.count() == 3, "rows before the migration")
    (package / "0002_colour.py").write_text(_STATE.format(dependency='("testapp", "0001_initial")', operation=_REBUILD))
    manage(a, "migrate")
    a.django(IMPORT + "Note.objects.filter(stars=2).update(title='after the migration')")
    assert a.worker is not None
    until(lambda: told(a) or arrived(b), "rows arrive, or the worker says why not")
    if not a.worker.alive:
        output = a.log.read_text()
        assert "Traceback" not in output, output[-3000:]
        a.kill()
        a.start()
    until(lambda: arrived(b), "what the migration and the application wrote arrives")
    both_stopped(a, b)


def test_migrating_an_app_that_does_not_replicate_disturbs_nothing(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    a.start()
    b.start()
    until(lambda: links(a) and links(b), "both are connected")
    manage(a, "migrate", "auth", "0011")
    manage(a, "migrate", "auth")
    a.django(IMPORT + "Note.objects.create(title='after the migration')")
    until(lambda: b.count() == 1, "the row arrives")
    both_stopped(a, b)
    assert "Traceback" not in a.log.read_text()


def with_migrations(node: Node, folder: Path) -> None:
    path = f"{node.environment['PYTHONPATH']}:{folder}"
    node.environment.update(PYTHONPATH=path, DJANGO_SETTINGS_MODULE="migrating_settings")


def told(node: Node) -> bool:
    return node.worker is not None and not node.worker.alive


def arrived(node: Node) -> Any:
    return node.sql("SELECT 1 FROM testapp_note WHERE title = 'after the migration'") and node.sql(
        "SELECT 1 FROM testapp_note WHERE body = 'by the migration'"
    )
