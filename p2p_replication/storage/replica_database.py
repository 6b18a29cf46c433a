"""This replica's side of a database, as one start of a worker sees it: identity, origin, sequence, streams."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.exceptions import StaleReplica
from p2p_replication.models.ledger import FieldLayout, LedgerEntry, Stream
from p2p_replication.models.replica import Origin, Replica, Start
from p2p_replication.protocol.clock import mark_of
from p2p_replication.storage.database_file import file_at_path
from p2p_replication.storage.digests import DIGEST_SIZE, field_digests
from p2p_replication.storage.ledger import Entry
from p2p_replication.storage.link_table import table_of
from p2p_replication.storage.relations import Relations
from p2p_replication.storage.replica_identity import identity_of, new_start
from p2p_replication.storage.replicated_rows import Arrivals
from p2p_replication.storage.table import ModelTable, WireRow, stored_models
from p2p_replication.storage.vendors import vendor_of
from p2p_replication.storage.write_budget import WriteBudget

T = TypeVar("T")

#: Versions after which the database's planner looks at the ledger for the first time; then whenever they have doubled.
GROWTH = 1_000

__all__ = ["DIGEST_SIZE", "ReplicaDatabase", "StreamStore"]


class StreamStore:
    """One captured model: its table, its number and its layouts."""

    def __init__(
        self, database: ReplicaDatabase, stream: Stream, table: ModelTable, layouts: Iterable[FieldLayout] = ()
    ) -> None:
        self.database = database
        self.id: int = stream.pk
        self.label = stream.label
        #: The layout that the triggers log with.
        self.installed_layout: int | None = stream.layout_id
        self.table = table
        self.relations = Relations(table)
        #: Declared merges, by field.
        self.merges = {
            name: merge.of(table.codecs[name].wire_type)
            for name, merge in table.options.merge.items()
            if name in table.codecs
        }
        #: Rows may have foreign keys whose target is not there yet (``storage.awaited_targets``).
        self.awaits_targets = bool(table.references.natural)
        self._layouts = {layout.pk: tuple(layout.fields) for layout in layouts}
        self._ids = {fields: number for number, fields in sorted(self._layouts.items(), reverse=True)}
        #: Made by ``subsets``, by a filter's canonical text.
        self.subsets: dict[str, Any] = {}
        #: The layout of a row whose every field is known.
        self.full_layout = self.layout_id(table.names)

    def layout_fields(self, layout: int) -> tuple[str, ...]:
        if layout not in self._layouts:
            self._layouts[layout] = tuple(FieldLayout.objects.using(self.database.alias).get(pk=layout).fields)
        return self._layouts[layout]

    def layout_id(self, fields: tuple[str, ...]) -> int:
        """Return the number of the layout with these fields, made if there is none."""
        if fields not in self._ids:
            manager = FieldLayout.objects.using(self.database.alias)
            layout = manager.filter(stream_id=self.id, fields=list(fields)).order_by("pk").first()
            if layout is None:
                layout = manager.create(stream_id=self.id, fields=list(fields))
            self._ids[fields] = layout.pk
            self._layouts[layout.pk] = fields
        return self._ids[fields]

    def forget_cached(self) -> None:
        """Drop what is cached, but the full layout: that was there before any transaction that can fail."""
        self.subsets.clear()
        self._layouts = {self.full_layout: self.table.names}
        self._ids = {self.table.names: self.full_layout}

    def shown(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the table holds for the values of a state: fields that merge have states of their own."""
        if not self.merges:
            return values
        return {name: self.merges[name].shown(v) if name in self.merges else v for name, v in values.items()}

    def merged_values(self, row: WireRow) -> dict[str, Any]:
        """Return what a row of the table has in the fields that merge."""
        return {name: value for name, value in zip(self.table.names, row, strict=True) if name in self.merges}

    def shown_row(self, row: WireRow, states: Mapping[str, Any]) -> WireRow:
        """Return a row as it is once the values of these states are written into it."""
        if not states:
            return row
        values = zip(self.table.names, row, strict=True)
        return tuple(self.merges[name].shown(states[name]) if name in states else value for name, value in values)

    def digest(self, entry: Entry, row: WireRow) -> bytes:
        """Return the content digest of a row for the fields of its entry's layout."""
        if entry.layout == self.full_layout:
            return field_digests(row)
        return self.digest_of_values(entry.layout, dict(zip(self.table.names, row, strict=True)))

    def digest_of_values(self, layout: int, values: Mapping[str, Any]) -> bytes:
        """Return the content digest of a row given by field name."""
        return field_digests([values.get(name) for name in self.layout_fields(layout)])


class ReplicaDatabase:
    """Opened once per start of a worker, used by its one database thread.

    Args:
        check_clocks: called before anything is read or written; raises StaleReplica if it takes a new origin.

    Raises ConfigurationError for a database that replication does not run on.
    """

    def __init__(
        self,
        alias: str = DEFAULT_DB_ALIAS,
        *,
        make_secret_key: Callable[[], bytes] = lambda: secrets.token_bytes(32),
        budget: WriteBudget | None = None,
        max_clock_skew: float = 300.0,
        check_clocks: Callable[[], None] = lambda: None,
    ) -> None:
        self.alias = alias
        self.vendor = vendor_of(connections[alias])
        self._check_clocks = check_clocks
        self.budget = budget or WriteBudget(0.025, 0.010)
        if not self.vendor.has_one_write_lock:
            self.budget.pause = 0.0
        self.max_skew_ms = int(max_clock_skew * 1000)
        self._prepared: Any = None
        #: A write transaction is open.
        self._writing = False
        self._file: tuple[int, int] | None = None
        self._prepare()
        with transaction.atomic(using=alias):
            replica = identity_of(alias, make_secret_key)
            self.replica_id: str = replica.replica_id
            #: In the clocks of what is written here.
            self.mark = mark_of(replica.replica_id)
            self.secret_key = bytes(replica.secret_key)
            self.first_sequence: int = replica.sequence
            #: The origin of this start: new each time, never continued.
            self.start = new_start()
            self.origin = Origin.objects.using(alias).create(origin=self.start).pk
            Start.objects.using(alias).create(origin_id=self.origin, first_sequence=self.first_sequence)
            #: The last sequence number known to be committed: with a lower one the database was set back.
            self._reached = self.first_sequence
            self._origin_ids: dict[int, str] = {self.origin: self.start}
            self._origin_numbers: dict[str, int] = {self.start: self.origin}
        #: Versions written since the start; with how many of them the planner is to hear of the ledger's growth.
        self._versions, self._versions_to_note = 0, GROWTH
        #: Labels of models with new versions since somebody last asked.
        self._changed: set[str] = set()
        #: Rows that came in, for the application's signals.
        self.arrivals = Arrivals(alias)
        self.streams: dict[str, StreamStore] = {}
        with transaction.atomic(using=alias):
            known = {stream.label: stream for stream in Stream.objects.using(alias)}
            layouts: dict[int, list[FieldLayout]] = defaultdict(list)
            for layout in FieldLayout.objects.using(alias):
                layouts[layout.stream_id].append(layout)
            for options in stored_models(self.connection):
                stream = known.get(options.label) or Stream.objects.using(alias).create(label=options.label)
                table = table_of(self.connection, options)
                self.streams[options.label] = StreamStore(self, stream, table, layouts[stream.pk])
        self.by_number = {stream.id: stream for stream in self.streams.values()}

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return connections[self.alias]

    @contextmanager
    def writing(self, *, frozen: bool = False) -> Iterator[None]:
        """One write transaction within the write budget; inside another one a part of it, which may fail alone.

        Args:
            frozen: others' commits are not seen from its begin on; writing what they wrote fails as busy.

        Raises StaleReplica as ``check_identity`` does.
        """
        if self._writing:
            with self._part_of_transaction():
                yield
            return
        self._prepare()
        self._writing = True
        try:
            with self.budget.writing(), transaction.atomic(using=self.alias):
                self.vendor.begin_writing(self.connection, frozen=frozen)
                self._check_history()
                yield
                self.vendor.end_writing(self.connection)
        except BaseException:
            self._forget_rolled_back()
            self.arrivals.rolled_back()
            raise
        finally:
            self._writing = False
        self.arrivals.committed()
        if self._versions >= self._versions_to_note:
            self._versions_to_note = 2 * self._versions
            self.vendor.note_growth(self.connection, LedgerEntry._meta.db_table, self._versions)

    @contextmanager
    def _part_of_transaction(self) -> Iterator[None]:
        gathered = self.arrivals.gathered
        try:
            with transaction.atomic(using=self.alias):
                yield
        except BaseException:
            self._forget_rolled_back()
            self.arrivals.rolled_back(gathered)
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A read transaction: all reads inside see one state, and no write lock is taken.

        Raises StaleReplica as ``check_identity`` does.
        """
        self._prepare()
        with self.connection.cursor() as cursor:
            cursor.execute(self.vendor.begin_snapshot)
            try:
                self._check_history()
                yield
            finally:
                cursor.execute("ROLLBACK")

    def _prepare(self) -> None:
        """Set the connection up again if Django has opened a new one.

        Raises StaleReplica, and closes the connection, if another file lies in the place of the one it writes to.
        """
        if self._prepared is None or self._prepared is not self.connection.connection:
            self.connection.ensure_connection()
            self.vendor.prepare(self.connection)
            self._prepared = self.connection.connection
            self._file = file_at_path(self.connection)
        elif file_at_path(self.connection) not in (self._file, None):
            self.connection.close()
            raise StaleReplica("the database's file was replaced by another one (a restored backup?)")

    def take_sequence(self, count: int) -> int:
        """Return the first of ``count`` new sequence numbers. Inside a write transaction, held to its commit."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"UPDATE {Replica._meta.db_table} SET sequence = sequence + %s WHERE id = 1", [count])
            cursor.execute(f"SELECT sequence FROM {Replica._meta.db_table} WHERE id = 1")
            last = int(cursor.fetchone()[0])
        transaction.on_commit(lambda: self._has_reached(last, count), using=self.alias)
        return last - count + 1

    def _has_reached(self, sequence: int, versions: int) -> None:
        self._reached = max(self._reached, sequence)
        self._versions += versions

    def sequence(self) -> int:
        """Return the last sequence number that was given."""
        return int(Replica.objects.using(self.alias).values_list("sequence", flat=True).get())

    def origin_id(self, number: int) -> str:
        """Return the id of an origin by its local number."""
        if number not in self._origin_ids:
            self._remember(Origin.objects.using(self.alias).get(pk=number))
        return self._origin_ids[number]

    def origin_number(self, origin: str) -> int:
        """Return the local number of an origin, given now if it is new. Inside a write transaction."""
        if origin not in self._origin_numbers:
            self._remember(Origin.objects.using(self.alias).get_or_create(origin=origin)[0])
        return self._origin_numbers[origin]

    def _forget_rolled_back(self) -> None:
        """Drop cached numbers of origins and layouts: a transaction that was rolled back may have given some."""
        self._origin_ids = {self.origin: self.start}
        self._origin_numbers = {self.start: self.origin}
        for stream in getattr(self, "streams", {}).values():
            stream.forget_cached()

    def check_identity(self) -> None:
        """Raise StaleReplica unless the database is the one this worker has opened, and no earlier state of it."""
        self._prepare()
        self._check_history()

    def _check_history(self) -> None:
        self._check_clocks()
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT r.sequence FROM {Replica._meta.db_table} r, {Origin._meta.db_table} o "
                "WHERE r.id = 1 AND r.replica_id = %s AND o.id = %s AND o.origin = %s",
                [self.replica_id, self.origin, self.start],
            )
            record = cursor.fetchone()
        if record is None:
            raise StaleReplica("the database has another identity than when the worker opened it (a flush, a restore)")
        if record[0] < self._reached:
            raise StaleReplica("the database was set back to an earlier state (a backup restored under the worker?)")

    def check_streams(self) -> None:
        """Raise StaleReplica if the streams in the database are no longer those this worker has opened."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT id, layout_id FROM {Stream._meta.db_table}")
            now = dict(cursor.fetchall())
        for stream in self.streams.values():
            if now.get(stream.id, 0) != stream.installed_layout:
                raise StaleReplica(f"capture of {stream.label} has been installed anew (a migration, a flush)")

    def _remember(self, origin: Origin) -> None:
        self._origin_ids[origin.pk] = origin.origin
        self._origin_numbers[origin.origin] = origin.pk

    def map_cursor(self, start: str, sequence: int, snapshot: int = 0) -> int | None:
        """Translate a peer's cursor into our sequence: None if it is from a start this database does not know.

        A cursor of an earlier start is good up to where that start ended in *this* database's history: what a
        restored backup does not know of, it may have numbered anew. One of a pull that broke off (``snapshot``) is
        good for nothing if that start had given numbers which this history does not have.
        """
        starts = Start.objects.using(self.alias)
        if start == self.start:
            return sequence
        known = starts.filter(origin__origin=start).first()
        if known is None:
            return None
        following = (
            starts.filter(first_sequence__gte=known.first_sequence)
            .exclude(pk=known.pk)
            .filter(origin_id__gt=known.origin_id)
            .order_by("origin_id")
            .first()
        )
        if following is None:
            return sequence
        return min(sequence, following.first_sequence) if snapshot <= following.first_sequence else None

    def note_changed(self, labels: Iterable[str]) -> None:
        """Remember that these models have new versions, for ``take_changed``."""
        self._changed.update(labels)

    def take_changed(self) -> set[str]:
        """Return the labels of the models with new versions since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def timed(self, entries: Sequence[T]) -> Sequence[T]:
        """Return log entries with the time that counts: the one they have, but in a pool with a clock of its own."""
        return entries

    def now_ms(self) -> int:
        return int(time.time() * 1000)
