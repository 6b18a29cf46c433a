"""Breaking a part on purpose: the check has to notice each of these.

``datachannel`` is done inside of A's worker (``demo_project/sabotage.py``), the others here, in the database files.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

from demo_project.launcher.errors import DemoError

SABOTAGES = ("datachannel", "capture", "apply")


def after_first_sync(kind: str | None, a: Path, b: Path) -> str:
    """Do what has to be done once B holds all rows; returns what was done, for the log."""
    if kind == "capture":
        names = drop_update_triggers(a)
        return f"dropped A's update triggers: {', '.join(names)}"
    if kind == "apply":
        ignore_updates(b)
        return "B's database ignores updates from now on"
    return ""


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
