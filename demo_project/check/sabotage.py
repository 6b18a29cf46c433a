"""Breaking a part on purpose: the check has to notice each of these.

``datachannel`` is done inside of A's worker (``demo_project/sabotage.py``), the others here, in the database files.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

from demo_project.launcher.errors import DemoError

#: The step that has to fail, by sabotage. ``save`` is the first one that updates a row.
NOTICED_BY = {"datachannel": "first_sync", "capture": "save", "apply": "save"}
SABOTAGES = tuple(NOTICED_BY)


def break_capture(a: Path, b: Path) -> str:
    """Drop A's update triggers; returns what was done, for the log."""
    return f"dropped A's update triggers: {', '.join(drop_update_triggers(a))}"


def break_apply(a: Path, b: Path) -> str:
    """Let B's table stay as it is; returns what was done, for the log."""
    ignore_updates(b)
    return "B's observations ignore updates from now on"


def drop_update_triggers(database: Path) -> list[str]:
    """Remove replication's update triggers from the survey's tables, as a careless restore would."""
    with contextlib.closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'survey@_%' ESCAPE '@' "
            "AND name LIKE 'p2p@_%' ESCAPE '@'"
        ).fetchall()
        names = [name for name, sql in triggers if re.search(r"\b(AFTER|BEFORE)\s+UPDATE\b", sql, re.IGNORECASE)]
        if not names:
            raise DemoError(f"There is no update trigger to drop in {database}; its triggers: {triggers}")
        for name in names:
            connection.execute(f'DROP TRIGGER "{name}"')
    return names


def ignore_updates(database: Path) -> None:
    """Let the database drop every update of an observation without a word."""
    with contextlib.closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as connection:
        connection.execute(
            "CREATE TRIGGER demo_sabotage BEFORE UPDATE ON survey_observation BEGIN SELECT RAISE(IGNORE); END"
        )


#: What is done once B holds all rows, to the files of A and B.
BROKEN_AFTERWARDS: dict[str | None, Callable[[Path, Path], str]] = {"capture": break_capture, "apply": break_apply}
