"""Replicas that take part with every model of the test app."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from p2p_replication.models import Declaration, LedgerEntry
from p2p_replication.protocol.changes import check_rows
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage.applier import Applied
from tests.replicas import LABELS, TestReplica


class StorageReplica(TestReplica):
    """A replica with all streams declared, and some more ways to look at it."""

    __test__ = False

    def start(self) -> None:
        super().start()
        self.declarations = {
            label: Declaration.objects.using(self.alias).get_or_create(pool=self.pool, model=label)[0].pk
            for label in self.database.streams
        }

    def apply(self, other: TestReplica, changes: Changes) -> Applied:
        check_rows(changes.rows)  # as a session does first
        return super().apply(other, changes)

    def entries(self, label: str) -> dict[str, LedgerEntry]:
        return {e.key: e for e in LedgerEntry.objects.using(self.alias).filter(stream=self.stream(label).id)}

    def log(self) -> list[tuple[int, int]]:
        """``(operation, columns)`` of what waits in the change log."""
        return self.sql("SELECT operation, columns FROM p2p_replication_changelogentry ORDER BY id")

    def raw(self, label: str) -> list[Any]:
        """The whole table as SQL literals, so that type and bytes count."""
        model = self.stream(label).table.options.model
        columns = [f'quote("{f.column}"), typeof("{f.column}")' for f in model._meta.concrete_fields]
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(f'SELECT {", ".join(columns)} FROM "{model._meta.db_table}"').fetchall()
        return sorted(rows)

    def outside(self, *statements: Any) -> None:
        """Run statements, ``sql`` or ``(sql, params)``, in a connection that has nothing of Django's registered."""
        with closing(sqlite3.connect(self.path, timeout=5)) as connection:
            for statement in statements:
                connection.execute(*((statement,) if isinstance(statement, str) else statement))
            connection.commit()

    def backup(self, path: Path) -> Path:
        """Take a backup, which ``replica(name, backup)`` restores or brings to life beside its original."""
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return path

    def set_back(self, backup: Path) -> None:
        """Put a backup's content in the place of this replica's, while its worker runs on."""
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(self.path, timeout=5)) as target:
            source.backup(target)


def meet(*replicas: TestReplica, labels: tuple[str, ...] = LABELS, rounds: int = 2) -> None:
    """Let everybody pull from everybody until nothing is new."""
    for _ in range(rounds):
        for one in replicas:
            for other in replicas:
                if one is not other:
                    one.pull(other, labels)
                    one.retry_parked()


@pytest.fixture
def replica_class() -> type[TestReplica]:
    return StorageReplica
