"""``manage.py p2p triggers`` and ``manage.py p2p rescan``, on each database."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from p2p_replication.models import ChangeLogEntry, Gap, Stream
from p2p_replication.registry import registry
from p2p_replication.storage.capture.compiler import compiler_of
from p2p_replication.storage.capture.installation import drift
from tests.databases import SQLiteFile, attach, detach
from tests.replicas import TestReplica
from tests.testapp.models import Note

both = pytest.mark.on("sqlite", "postgresql")


def run(*arguments: str) -> str:
    stdout = io.StringIO()
    call_command("p2p", *arguments, "--database", "here", stdout=stdout, stderr=io.StringIO())
    return stdout.getvalue()


@pytest.fixture
def here(replica) -> TestReplica:
    made: TestReplica = replica("here")
    return made


def triggers(here: TestReplica) -> dict[str, Any]:
    connection = here.database.connection
    compiler = compiler_of(connection)
    tables = {options.model._meta.db_table for options in registry}
    return {table: found for table in tables if (found := compiler.installed(connection, table))}


def log() -> list[str]:
    return list(ChangeLogEntry.objects.using("here").values_list("key", flat=True))


@both
def test_check_after_migrate_finds_nothing(here: TestReplica) -> None:
    assert run("triggers", "check") == "All triggers are as they should be.\n"
    assert json.loads(run("triggers", "check", "--json")) == []


@both
def test_removed_triggers_are_found_and_installed_again_with_what_was_written_meanwhile(here: TestReplica) -> None:
    before = triggers(here)
    assert before
    run("triggers", "remove")
    assert not triggers(here)
    stdout = io.StringIO()
    with pytest.raises(CommandError, match="triggers install") as error:
        call_command("p2p", "triggers", "check", "--json", "--database", "here", stdout=stdout)
    assert error.value.returncode == 1
    found = json.loads(stdout.getvalue())
    assert {entry["model"] for entry in found} == {options.label for options in registry}
    assert all(entry["reason"] for entry in found)

    note = Note.objects.using("here").create(title="while nobody looked")
    assert log() == []
    text = run("triggers", "install")
    assert "testapp.Note: triggers installed, 1 rows were new, 0 had changed, 0 were gone" in text
    assert triggers(here) == before
    assert log() == [here.site.key(note.pk)]
    assert run("triggers", "install") == "All triggers were as they should be.\n"


@both
def test_rescan_finds_a_write_that_no_trigger_saw(here: TestReplica) -> None:
    before = triggers(here)
    note = Note.objects.using("here").create(title="seen")
    ChangeLogEntry.objects.using("here").all().delete()
    assert json.loads(run("rescan", "testapp.note", "--json")) == {
        "testapp.Note": {"adopted": 1, "changed": 0, "gone": 0}
    }
    assert log() == [here.site.key(note.pk)]
    assert triggers(here) == before
    gaps = Gap.objects.using("here")
    assert not gaps.filter(closed_at=None).exists()
    assert gaps.filter(reason="manage.py p2p rescan", stream__label="testapp.Note").count() == 1


@both
def test_rescan_of_all_models_where_nothing_is_amiss(here: TestReplica) -> None:
    """What waits in the log, of whatever kind, is nothing that was written past the triggers."""
    notes = Note.objects.using("here")
    for title in ("seen", "changed", "gone"):
        notes.create(title=title)
    here.post()
    notes.filter(title="changed").update(stars=5)
    notes.filter(title="gone").delete()
    notes.create(title="new")
    before = log()
    text = run("rescan")
    assert len(text.splitlines()) == len(list(registry))
    assert "testapp.Note: nothing was written past them" in text
    assert log() == before


@both
def test_rescan_of_changed_and_deleted_rows(here: TestReplica) -> None:
    """Rows that the ledger knows: one is changed, one removed, with the triggers off."""
    notes = Note.objects.using("here")
    changed, gone, same = (notes.create(title=title) for title in ("changed", "gone", "same"))
    here.post()
    before = triggers(here)
    for name in before["testapp_note"]:
        compiler_of(here.database.connection).drop(here.database.connection, name, "testapp_note")
    notes.filter(pk=changed.pk).update(title="changed past the triggers")
    notes.filter(pk=gone.pk).delete()
    text = run("rescan", "testapp.Note")
    assert text == "testapp.Note: 0 rows were new, 1 had changed, 1 were gone\n"
    assert triggers(here) == before
    assert sorted(log()) == sorted(here.site.key(note.pk) for note in (changed, gone))
    assert here.site.key(same.pk) not in log()


@both
def test_a_rescan_that_fails_leaves_everything_as_it_was(here: TestReplica) -> None:
    here.sql("ALTER TABLE testapp_note RENAME COLUMN id TO other")
    before = triggers(here)
    with pytest.raises(Exception, match="id"):
        run("rescan", "testapp.Note")
    here.database.connection.rollback()
    assert triggers(here) == before
    assert Stream.objects.using("here").get(label="testapp.Note").trigger_digest != ""


@pytest.mark.on("postgresql")
def test_disabled_triggers_are_found(here: TestReplica) -> None:
    here.sql("ALTER TABLE testapp_note DISABLE TRIGGER USER")
    Note.objects.using("here").create(title="unseen")
    here.sql("ALTER TABLE testapp_note ENABLE TRIGGER USER")
    with pytest.raises(CommandError, match=r"1 models need: manage.py p2p triggers install"):
        run("triggers", "check")
    assert run("triggers", "install").startswith("testapp.Note: triggers installed, 1 rows were new")
    assert not drift("here")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["testapp.Nothing", "auth.User", "nonsense"])
def test_rescan_names_a_model_that_does_not_replicate(name: str) -> None:
    with pytest.raises(CommandError, match=rf"{name}: no model that replicates. There is: .*testapp.Note"):
        call_command("p2p", "rescan", name)


def test_an_unknown_database_is_named() -> None:
    with pytest.raises(CommandError, match="no database 'elsewhere' in DATABASES, which has: default"):
        call_command("p2p", "triggers", "check", "--database", "elsewhere")


def test_a_database_without_our_tables_is_named(tmp_path, django_db_blocker) -> None:
    attach("here", SQLiteFile(tmp_path / "empty.sqlite3"))
    try:
        with django_db_blocker.unblock(), pytest.raises(CommandError, match=r"no tables .* run manage.py migrate"):
            run("rescan")
    finally:
        detach("here")


def test_a_database_of_another_kind_is_named(tmp_path) -> None:
    attach("here", SQLiteFile(tmp_path / "empty.sqlite3"))
    try:
        from django.db import connections

        connections.databases["here"]["ENGINE"] = "django.db.backends.dummy"
        with pytest.raises(CommandError, match="'here' is unknown; replication runs on SQLite and PostgreSQL"):
            run("triggers", "check")
    finally:
        detach("here")
