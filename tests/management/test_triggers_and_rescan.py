"""``manage.py p2p triggers`` and ``manage.py p2p rescan``."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from p2p_replication.models import ChangeLogEntry, Gap, Stream
from p2p_replication.registry import registry
from tests.databases import SQLiteFile, attach, detach
from tests.replicas import TestReplica
from tests.testapp.models import Note

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    stdout = io.StringIO()
    call_command("p2p", *arguments, stdout=stdout, stderr=io.StringIO())
    return stdout.getvalue()


def triggers() -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        return cursor.fetchall()


def log() -> list[str]:
    return list(ChangeLogEntry.objects.values_list("key", flat=True))


def test_check_after_migrate_finds_nothing() -> None:
    assert run("triggers", "check") == "All triggers are as they should be.\n"
    assert json.loads(run("triggers", "check", "--json")) == []


def test_removed_triggers_are_found_with_exit_code_1() -> None:
    run("triggers", "remove")
    assert triggers() == []
    stdout = io.StringIO()
    with pytest.raises(CommandError, match="triggers install") as error:
        call_command("p2p", "triggers", "check", "--json", stdout=stdout)
    assert error.value.returncode == 1
    found = json.loads(stdout.getvalue())
    assert {entry["model"] for entry in found} == {options.label for options in registry}
    assert all(entry["reason"] for entry in found)


def test_install_brings_them_back_and_finds_what_was_written_meanwhile() -> None:
    before = triggers()
    run("triggers", "remove")
    note = Note.objects.create(title="while nobody looked")
    assert log() == []
    text = run("triggers", "install")
    assert "testapp.Note: triggers installed, 1 rows were new, 0 had changed, 0 were gone" in text
    assert triggers() == before
    assert log() == [note.pk.hex]
    assert run("triggers", "install") == "All triggers were as they should be.\n"


def test_rescan_finds_a_write_that_no_trigger_saw() -> None:
    before = triggers()
    note = Note.objects.create(title="seen")
    ChangeLogEntry.objects.all().delete()
    assert json.loads(run("rescan", "testapp.note", "--json")) == {
        "testapp.Note": {"adopted": 1, "changed": 0, "gone": 0}
    }
    assert log() == [note.pk.hex]
    assert triggers() == before
    assert not Gap.objects.filter(closed_at=None).exists()
    assert Gap.objects.filter(reason="manage.py p2p rescan", stream__label="testapp.Note").count() == 1


def test_rescan_of_all_models_where_nothing_is_amiss() -> None:
    Note.objects.create(title="seen")
    before = log()
    text = run("rescan")
    assert len(text.splitlines()) == len(list(registry))
    assert "testapp.Note: nothing was written past them" in text
    assert log() == before


def test_rescan_of_changed_and_deleted_rows(replica) -> None:
    """Rows that the ledger knows: one is changed, one removed, with the triggers off."""
    here: TestReplica = replica("here")
    notes = Note.objects.using("here")
    changed, gone, same = (notes.create(title=title) for title in ("changed", "gone", "same"))
    here.post()
    before = here.sql("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'testapp_note'")
    for (name,) in here.sql("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'testapp_note'"):
        here.sql(f'DROP TRIGGER "{name}"')
    notes.filter(pk=changed.pk).update(title="changed past the triggers")
    notes.filter(pk=gone.pk).delete()
    text = run("rescan", "testapp.Note", "--database", "here")
    assert text == "testapp.Note: 0 rows were new, 1 had changed, 1 were gone\n"
    assert here.sql("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'testapp_note'") == before
    keys = set(ChangeLogEntry.objects.using("here").values_list("key", flat=True))
    assert keys == {changed.pk.hex, gone.pk.hex} and same.pk.hex not in keys


@pytest.mark.parametrize("name", ["testapp.Nothing", "auth.User", "nonsense"])
def test_rescan_names_a_model_that_does_not_replicate(name: str) -> None:
    with pytest.raises(CommandError, match=rf"{name}: no model that replicates. There is: .*testapp.Note"):
        run("rescan", name)


def test_an_unknown_database_is_named() -> None:
    with pytest.raises(CommandError, match="no database 'elsewhere' in DATABASES, which has: default"):
        run("triggers", "check", "--database", "elsewhere")


def test_a_database_without_our_tables_is_named(tmp_path, django_db_blocker) -> None:
    attach("empty", SQLiteFile(tmp_path / "empty.sqlite3"))
    try:
        with django_db_blocker.unblock(), pytest.raises(CommandError, match=r"no tables .* run manage.py migrate"):
            run("rescan", "--database", "empty")
    finally:
        detach("empty")


def test_a_rescan_that_fails_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = triggers()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE testapp_note RENAME COLUMN id TO other")
    before = triggers()
    with pytest.raises(Exception, match="id"):
        run("rescan", "testapp.Note")
    assert triggers() == before
    assert Stream.objects.get(label="testapp.Note").trigger_digest != ""
