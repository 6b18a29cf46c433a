"""Excluded fields stay local: rows arrive without them and get this replica's own defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from p2p_replication.registry import registry
from tests.replicas import TestReplica
from tests.testapp.models import Note


@pytest.fixture
def excluded(new_database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Note`` with excluded columns that are NOT NULL and have a default in Python; the template has it whole."""
    options = registry.for_model(Note)
    changed = replace(options, exclude=frozenset({"body", "stars"}))
    monkeypatch.setattr(registry, "_options", {**registry._options, options.label: changed})  # type: ignore[dict-item]


def test_a_row_arrives_with_the_defaults_of_its_excluded_fields(
    excluded: None, replica: Callable[[str], TestReplica]
) -> None:
    here, there = replica("here"), replica("there")
    note = Note.objects.using("here").create(title="one", body="stays here", stars=5)
    here.post()
    there.pull(here)
    arrived = Note.objects.using("there").get(pk=note.pk)
    assert (arrived.title, arrived.body, arrived.stars) == ("one", "", 0)
    assert there.parked() == 0


def test_an_excluded_field_keeps_its_local_value(excluded: None, replica: Callable[[str], TestReplica]) -> None:
    here, there = replica("here"), replica("there")
    notes = Note.objects.using("there")
    note = notes.create(title="one", body="stays there", stars=5)
    there.post()
    here.pull(there)
    Note.objects.using("here").filter(pk=note.pk).update(title="two", body="stays here")
    here.post()
    there.pull(here)
    now = notes.get(pk=note.pk)
    assert (now.title, now.body, now.stars) == ("two", "stays there", 5)
