"""``local_writes()``: what every replica writes by itself, as in a data migration; nobody has to be sent it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.ledger import ChangeLogEntry, LocalWrite, Operation, Stream
from p2p_replication.storage.capture.installation import is_ready
from p2p_replication.storage.capture.settling import settle
from p2p_replication.storage.link_table import table_of
from p2p_replication.storage.table import ModelTable, stored_models
from p2p_replication.storage.vendors import vendor_of


@contextmanager
def local_writes(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """A transaction whose updates of replicated rows are no edits: nothing is sent for them.

    For what every replica runs alike, such as a data migration. Rows that are inserted count as if they had been
    there before replication (whoever lacks them gets them, and a row of the same key elsewhere wins); rows that are
    deleted are deleted everywhere.

    All replicated tables are read before and after. Within another ``local_writes()`` it does nothing more.
    """
    connection = connections[using]
    with transaction.atomic(using=using):
        if not is_ready(connection) or vendor_of(connection).is_unlogged(connection):
            yield
            return
        vendor = vendor_of(connection)
        vendor.lock_ledger(connection)
        vendor.begin_unlogged(connection)
        watched = list(_watched(connection))
        yield
        for one in watched:
            one.settle()
        vendor.end_unlogged(connection)


def _watched(connection: BaseDatabaseWrapper) -> Iterator[_Watched]:
    streams = {stream.label: stream for stream in Stream.objects.using(connection.alias).all()}
    for options in stored_models(connection):
        stream = streams.get(options.label)
        # Without a layout it was never captured: all of it will be adopted.
        if stream is not None and stream.layout_id is not None:
            yield _Watched(connection, stream, table_of(connection, options))


class _Watched:
    """One table: a copy of what was in it at the beginning of the block."""

    def __init__(self, connection: BaseDatabaseWrapper, stream: Stream, table: ModelTable) -> None:
        self.connection = connection
        self.stream = stream
        self.table = table
        self.vendor = vendor_of(connection)
        self.copy = f"p2p_before_{stream.pk}"
        self.columns = self.vendor.columns(connection, table.options.model._meta.db_table)
        self._plain = [self.vendor.verbatim(f"t.{table.quoted(column)}") for column in self.columns]
        if not self.is_captured:
            self.vendor.lock_table(connection, table.name)
        values = ", ".join(f"{plain} AS c{i}" for i, plain in enumerate(self._plain))
        self._execute(
            f"CREATE TEMPORARY TABLE {self.copy} AS SELECT {table.key_text('t')} AS k, {values} FROM {table.name} t"
        )

    @property
    def is_captured(self) -> bool:
        """Others' writes are in the log; in the middle of a migration they are not."""
        return bool(self.stream.trigger_digest)

    def settle(self) -> None:
        """Make what has changed meanwhile nobody's edit. What others have committed is in the log, and stays one."""
        table = self.table
        has_key = table.has_key("t", "b.k")
        differs = [self.vendor.differs(f"b.c{i}", plain) for i, plain in enumerate(self._plain)]
        changed = self._execute(
            f"SELECT b.k, {', '.join(differs)} FROM {self.copy} b JOIN {table.name} t ON {has_key} "
            f"WHERE {' OR '.join(differs)}"
        )
        written = {
            str(key): {column for column, is_other in zip(self.columns, flags, strict=True) if is_other}
            for key, *flags in changed
        }
        new = self._execute(
            f"SELECT {table.key_text('t')} FROM {table.name} t "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.copy} b WHERE {has_key})"
        )
        gone = self._execute(
            f"SELECT b.k FROM {self.copy} b WHERE NOT EXISTS (SELECT 1 FROM {table.name} t WHERE {has_key})"
        )
        self._execute(f"DROP TABLE {self.copy}")
        self._log(Operation.ADOPT, (key for (key,) in new))
        self._log(Operation.DELETE, (key for (key,) in gone))
        if self.is_captured:
            settle(self.connection, self.stream, table, written)
        else:
            LocalWrite.objects.using(self.connection.alias).bulk_create(
                [LocalWrite(stream=self.stream.pk, key=key, columns=sorted(names)) for key, names in written.items()],
                batch_size=500,
            )

    def _log(self, operation: Operation, keys: Iterable[str]) -> None:
        """Dated as old as can be: alike on every replica, and older than any edit."""
        ChangeLogEntry.objects.using(self.connection.alias).bulk_create(
            [
                ChangeLogEntry(
                    stream=self.stream.pk, layout=self.stream.layout_id or 0, key=key, operation=operation, wall=0
                )
                for key in keys
            ],
            batch_size=500,
        )

    def _execute(self, sql: str) -> list[tuple[str, ...]]:
        with self.connection.cursor() as cursor:
            # ModelTable doubles percent signs for statements that have parameters.
            cursor.execute(sql, [])
            return list(cursor.fetchall()) if cursor.description else []
