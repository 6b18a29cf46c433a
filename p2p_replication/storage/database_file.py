"""The file of a SQLite database: which one a held connection writes to, and which one its path leads to by now."""

from __future__ import annotations

import os

from django.db.backends.base.base import BaseDatabaseWrapper


def file_at_path(connection: BaseDatabaseWrapper) -> tuple[int, int] | None:
    """Return what tells the database's file from others; None without one (in memory, another vendor, just moved)."""
    if connection.vendor != "sqlite":
        return None
    try:
        found = os.stat(connection.settings_dict["NAME"])
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
