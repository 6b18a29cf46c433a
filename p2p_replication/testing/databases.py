"""Databases of a local pool: SQLite files made from the project's migrations, or those that the project has."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections
from django.db.utils import load_backend
from django.utils.connection import ConnectionDoesNotExist

from p2p_replication.exceptions import ConfigurationError

_TEMPLATE = "p2p_local_pool_template"
_OPTIONS = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
    },
}


class LocalDatabase:
    """One alias. A database that DATABASES does not have is made, and removed by ``close()``.

    Raises ConfigurationError for one of the project's own inside of a transaction.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.path: Path | None = None
        if not _is_known(alias):
            self.path = Path(tempfile.mkdtemp(prefix="p2p-local-pool-")) / "db.sqlite3"
            shutil.copy(_template(), self.path)
            _attach(alias, self.path)
        elif connections[alias].in_atomic_block:
            raise ConfigurationError(
                f"LocalPool({alias!r}): this database is inside of a transaction, as in django.test.TestCase, and "
                "nothing in it is ever committed. Use TransactionTestCase, or "
                f"@pytest.mark.django_db(transaction=True, databases=[{alias!r}]); or give the replica a name that "
                "is not in DATABASES: then it gets a database of its own, in any test."
            )
        self._transaction_mode = getattr(connections[alias], "transaction_mode", None)

    @property
    def is_throwaway(self) -> bool:
        """The database was made for the pool."""
        return self.path is not None

    def close(self) -> None:
        if self.path is None:
            connections[self.alias].transaction_mode = self._transaction_mode  # type: ignore[attr-defined]
            return
        _detach(self.alias)
        shutil.rmtree(self.path.parent)


@cache
def _template() -> Path:
    """Return a migrated, empty database file, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="p2p-local-pool-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.sqlite3"
    _attach(_TEMPLATE, path)
    try:
        call_command("migrate", database=_TEMPLATE, verbosity=0, run_syncdb=True)
        with connections[_TEMPLATE].cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        _detach(_TEMPLATE)
    return path


def _is_known(alias: str) -> bool:
    try:
        connections[alias]
    except ConnectionDoesNotExist:
        return False
    return True


def _attach(alias: str, path: Path) -> None:
    """Make a database known in this thread. Not in DATABASES: what is there tests have to ask for."""
    settings: dict[str, Any] = {**_OPTIONS, "NAME": str(path)}
    configured = connections.configure_settings({"default": settings})["default"]
    connections[alias] = load_backend(configured["ENGINE"]).DatabaseWrapper(configured, alias)


def _detach(alias: str) -> None:
    connections[alias].close()
    del connections[alias]
