"""The digest script: what it calls equal, and what it does not."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from demo_project.launcher.node import ROOT

SCHEMA = "CREATE TABLE t (id TEXT PRIMARY KEY, value)"


def make(path: Path, *rows: tuple[object, ...], schema: str = SCHEMA) -> str:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(schema)
        connection.executemany("INSERT INTO t (id, value) VALUES (?, ?)", rows)
    connection.close()
    return str(path)


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the check does, without site packages, to show that it needs none."""
    command = [sys.executable, "-I", "-S", str(ROOT / "demo_project" / "digest.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_order_of_rows_and_columns_does_not_count(tmp_path: Path) -> None:
    a = make(tmp_path / "a", ("1", "x"), ("2", None), ("3", b"\x00"))
    b = make(
        tmp_path / "b", ("3", b"\x00"), ("2", None), ("1", "x"), schema="CREATE TABLE t (value, id TEXT PRIMARY KEY)"
    )
    outcome = compare(a, b, "t")
    assert outcome.returncode == 0, outcome.stdout
    assert "(3 rows) ==" in outcome.stdout


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, "1"),
        ("x", b"x"),
        (None, ""),
        (0.0, -0.0),
        (0.1, 0.10000000000000002),
        ("é", "e\u0301"),
        ("a\nb", "a b"),
    ],
)
def test_values_that_only_look_alike_are_different(tmp_path: Path, one: object, other: object) -> None:
    a, b = make(tmp_path / "a", ("1", one)), make(tmp_path / "b", ("1", other))
    if repr(one) == repr(other):
        pytest.fail("the case compares equal values")
    outcome = compare(a, b, "t")
    assert outcome.returncode == 1 and "only in the first" in outcome.stdout


def test_a_missing_row_is_different(tmp_path: Path) -> None:
    outcome = compare(make(tmp_path / "a", ("1", 1), ("2", 2)), make(tmp_path / "b", ("1", 1)), "t")
    assert outcome.returncode == 1 and "(2 rows) !=" in outcome.stdout


def test_what_cannot_be_read_is_neither_equal_nor_different(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    assert compare(a, str(tmp_path / "missing"), "t").returncode == 2
    assert compare(a, a, "no_such_table").returncode == 2
    assert compare(a).returncode == 2


def test_of_a_many_to_many_table_the_ends_count_and_not_the_rows_own_numbers(tmp_path: Path) -> None:
    def links(name: str, *rows: tuple[int, str, str]) -> str:
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            connection.execute("CREATE TABLE survey_observation_tags (id INTEGER, observation_id TEXT, tag_id TEXT)")
            connection.executemany("INSERT INTO survey_observation_tags VALUES (?, ?, ?)", rows)
        return str(tmp_path / name)

    one = links("a", (1, "o", "x"), (2, "o", "y"))
    same, other = links("b", (7, "o", "y"), (8, "o", "x")), links("c", (1, "o", "x"), (2, "o", "z"))
    assert compare(one, same, "survey_observation_tags").returncode == 0
    assert compare(one, other, "survey_observation_tags").returncode == 1
