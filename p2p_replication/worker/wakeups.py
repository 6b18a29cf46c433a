"""Which wake-ups a database has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.conf import app_settings


class Wakeups(Protocol):
    """Tells soon after another process has committed something."""

    async def run(self) -> None: ...


def wakeups_of(connection: BaseDatabaseWrapper, wake: Callable[[], None]) -> Wakeups:
    """Return the wake-ups for a connection's database."""
    settings = app_settings.current()
    if connection.vendor == "postgresql":
        from p2p_replication.worker.wakeups_postgresql import PostgreSQLWakeups, listen_parameters

        return PostgreSQLWakeups(listen_parameters(connection.settings_dict, settings.LISTEN_CONNECTION), wake)
    from p2p_replication.worker.wakeups_sqlite import SQLiteWakeups

    return SQLiteWakeups(
        str(connection.settings_dict["NAME"]),
        wake,
        poll=settings.POLL_INTERVAL,
        poll_watched=settings.POLL_INTERVAL_WATCHED,
        watch=settings.FILE_WATCHER,
    )
