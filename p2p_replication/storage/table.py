"""The application's own table of a replicated model: reads and writes its rows in wire form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import OperationalError, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.registry import Options, registry
from p2p_replication.storage.codecs import FieldCodec
from p2p_replication.storage.ledger import chunks, marks
from p2p_replication.storage.readiness import why_unready
from p2p_replication.storage.references import References
from p2p_replication.storage.vendors import vendor_of

#: A row's values in the order of ``ModelTable.names``.
WireRow = tuple[Any, ...]


class Busy(OperationalError):
    """The application has its hands on these rows just now: roll back, and try again a little later.

    Attributes:
        keys: the rows it has locked, where that is known.
    """

    def __init__(self, text: str, keys: frozenset[str] = frozenset()) -> None:
        super().__init__(text)
        self.keys = keys


def stored_models(connection: BaseDatabaseWrapper) -> list[Options]:
    """Return the models that replicate and have a table in this database, whoever manages it; a view is none.

    Without those for whose keys and references migrations have still to run.
    """
    present = present_models(connection)
    unready = why_unready(connection, present)
    return [options for options in present if options.label not in unready]


def present_models(connection: BaseDatabaseWrapper) -> list[Options]:
    """Return the models that replicate and have a table in this database, as it may be between two migrations."""
    tables, stored = set(connection.introspection.table_names()), vendor_of(connection).stored_name
    return [
        options
        for options in registry
        if stored(options.model._meta.db_table) in tables
        and router.allow_migrate_model(connection.alias, options.model)
    ]


class ModelTable:
    """Rows of one model, by key text (as the triggers log it) and wire values."""

    def __init__(self, connection: BaseDatabaseWrapper, options: Options) -> None:
        self.connection = connection
        self.vendor = vendor_of(connection)
        self._stored_columns = self.vendor.columns(connection, options.model._meta.db_table)
        present = set(self._stored_columns)
        self.options = options
        self.label = options.label
        meta = options.model._meta
        quote = self.quoted
        self.name = quote(meta.db_table)
        codec_for = self.vendor.codec_for
        self.key = self._key_codec()
        self.key_column = quote(self.key.column)
        assert meta.pk is not None
        #: The primary key's column where that is not the key: this database gives it.
        self.local_column = meta.pk.column if options.key else None
        #: The fields that travel and that the table really has: a reversed migration leaves the model with more.
        fields = [f for f in options.fields() if self.vendor.stored_name(f.column or "") in present]
        self.references = References(connection, fields)
        self.codecs: dict[str, FieldCodec] = {f.name: self.references.codec(f.name) or codec_for(f) for f in fields}
        self.names: tuple[str, ...] = tuple(self.codecs)
        self._columns = {name: quote(codec.column) for name, codec in self.codecs.items()}
        self._to_wire = [(i, codec.to_wire) for i, codec in enumerate(self.codecs.values()) if codec.to_wire]
        #: Foreign keys, those that are the key as well: ``{field name: model}``.
        self.parents: dict[str, type[models.Model]] = {
            f.name: f.related_model._meta.concrete_model or f.related_model
            for f in (*self._key_fields(), *fields)
            if f.remote_field is not None and isinstance(f.related_model, type)
        }

        stays = [
            f
            for f in meta.local_concrete_fields
            if self.vendor.stored_name(f.column or "") in present
            and f.name not in self.codecs
            and f not in self._key_fields()
            and not f.primary_key
            and not f.generated
        ]
        #: Columns that do not travel: a new row gets this replica's own defaults there.
        self._local_columns = {f.name: quote(f.column) for f in stays if f.column}
        self._database_defaults = [f.name for f in (*fields, *stays) if f.db_default is not models.NOT_PROVIDED]

    def _key_fields(self) -> tuple[models.Field[Any, Any], ...]:
        return (self.options.key_field,)

    def _key_codec(self) -> FieldCodec:
        return self.vendor.codec_for(self._key_fields()[0])

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key, unquoted."""
        return tuple(field.column or "" for field in self._key_fields())

    def quoted(self, name: str) -> str:
        """Return a quoted name for SQL that has parameters, in which a percent sign is doubled."""
        return self.connection.ops.quote_name(name).replace("%", "%%")

    def select_list(self, alias: str) -> str:
        """Return the field columns for a SELECT, in the raw form that ``wire_row`` takes."""
        return ", ".join(
            codec.select.format(f"{alias}.{self._columns[name].replace('{', '{{').replace('}', '}}')}")
            for name, codec in self.codecs.items()
        )

    def key_text(self, alias: str) -> str:
        """Return the SQL of a row's key as the ledger has it."""
        return self.vendor.key_text(f"{alias}.{self.key_column}")

    def has_key(self, alias: str, text: str) -> str:
        """Return the SQL condition that a row has this key of the ledger."""
        return f"{alias}.{self.key_column} = {self.vendor.key_value(text, self.key.wire_type)}"

    def has_keys(self, alias: str, keys: Sequence[str]) -> tuple[str, list[Any]]:
        """Return the SQL condition that a row has one of these keys, and its parameters."""
        return f"{alias}.{self.key_column} IN ({marks(len(keys))})", list(keys)

    def key_values(self, key: str) -> tuple[str, ...]:
        """Return what the columns of a key hold."""
        return (key,)

    def reference(self, name: str, key: str, values: Mapping[str, Any]) -> Any:
        """Return what a foreign key of a row has in its column; where that is a local number, the key it stands for.

        Args:
            key, values: the row's key and wire values.
        """
        if name not in self.codecs:
            return key
        value = values.get(name)
        by_key = self.references.by_key.get(name)
        convert = by_key.key_text if by_key is not None else self.codecs[name].from_wire
        return convert(value) if convert and value is not None else value

    def lock(self, keys: Sequence[str]) -> set[str]:
        """Keep those of the rows that are there, and that nobody else locks, from being changed until the transaction
        ends; return their keys. Never waits.
        """
        return self.vendor.lock_rows(self.connection, self.name, self.key_text("l"), self.has_keys, keys)

    def wire_row(self, raw: Sequence[Any]) -> WireRow:
        if not self._to_wire:
            return tuple(raw)
        row = list(raw)
        for i, convert in self._to_wire:
            if row[i] is not None:
                row[i] = convert(row[i])
        return tuple(row)

    def key_to_wire(self, key: str) -> Any:
        return self.key.to_wire(key) if self.key.to_wire else key

    def key_from_wire(self, value: Any) -> str:
        """Return the key's text. Raises ValueError for a value that can't be a key of this model."""
        try:
            key = self.key.from_wire(value) if self.key.from_wire else value
        except ValueError:
            key = None
        if not isinstance(key, str):
            raise ValueError(f"{value!r} is no key of {self.label}, whose keys are {self.key.wire_type}")
        return key

    def read(self, keys: Sequence[str]) -> dict[str, WireRow]:
        """Return the rows that are there, by key."""
        found: dict[str, WireRow] = {}
        with self.connection.cursor() as cursor:
            for chunk in chunks(keys):
                columns = self.select_list("t")
                condition, params = self.has_keys("t", chunk)
                cursor.execute(
                    f"SELECT {self.key_text('t')}{', ' + columns if columns else ''} FROM {self.name} t "
                    f"WHERE {condition}",
                    params,
                )
                records = cursor.fetchall()
                self.prepare(records, 1)
                for record in records:
                    found[str(record[0])] = self.wire_row(record[1:])
        return found

    def prepare(self, records: Sequence[Sequence[Any]], start: int) -> None:
        """Get ready to convert these records, whose columns from ``start`` on are those of ``select_list``."""
        if self.references.natural:
            self.references.prepare(self.names, [record[start:] for record in records])

    def new_local_keys(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return primary keys for rows that are to be inserted, by key, where the primary key is not the key."""
        if self.local_column is None or not keys:
            return {}
        table = self.options.model._meta.db_table
        numbers = self.vendor.next_numbers(self.connection, table, self.local_column, len(keys))
        return dict(zip(keys, numbers, strict=True))

    def insert(self, rows: Sequence[tuple[str, Mapping[str, Any]]], local_keys: Mapping[str, Any]) -> None:
        """Insert rows; a field that nobody gave a value gets this replica's own default (never sent on).

        Args:
            rows: ``(key, values)``; those of references as the columns take them.
            local_keys: what ``new_local_keys`` has given.

        Raises Busy if the application has inserted one of them in the meantime.
        """
        groups: dict[tuple[str, ...], list[tuple[str, Mapping[str, Any]]]] = {}
        for row in rows:
            missing = [name for name in self._database_defaults if name not in row[1]]
            groups.setdefault(tuple(missing), []).append(row)
        for left_out, group in groups.items():
            self._insert(group, left_out, local_keys)

    def _insert(
        self,
        rows: Sequence[tuple[str, Mapping[str, Any]]],
        left_out: tuple[str, ...],
        local_keys: Mapping[str, Any],
    ) -> None:
        codecs = [(name, codec.from_wire) for name, codec in self.codecs.items() if name not in left_out]
        local = [name for name in self._local_columns if name not in left_out]
        key_columns = [self.quoted(column) for column in self.key_columns]
        columns = [*key_columns, *(self._columns[name] for name, _ in codecs)]
        columns += [self._local_columns[name] for name in local]
        if self.local_column is not None:
            columns.append(self.quoted(self.local_column))
        records = []
        for key, values in rows:
            record: list[Any] = [*self.key_values(key)]
            for name, convert in codecs:
                if name in values:
                    value = values[name]
                    record.append(convert(value) if convert and value is not None else value)
                else:
                    record.append(self._default(name))
            record += [self._default(name) for name in local]
            if self.local_column is not None:
                record.append(local_keys[key])
            records.append(record)
        with self.connection.cursor() as cursor:
            conflict = "" if self.vendor.has_one_write_lock else f"ON CONFLICT ({', '.join(key_columns)}) DO NOTHING"
            if self.vendor.insert(cursor, self.name, columns, records, conflict) < len(records):
                raise Busy(f"somebody inserts a row of {self.label} with a key that a peer sends")

    def rewrite(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Update rows by taking all of them out first, so that they can swap unique values. All columns are kept."""
        columns = [self.quoted(column) for column in self._stored_columns]
        at = {self.vendor.stored_name(codec.column): name for name, codec in self.codecs.items()}
        plain = ", ".join(self.vendor.verbatim(column) for column in columns)
        records = []
        with self.connection.cursor() as cursor:
            for chunk in chunks(list(changes)):
                cursor.execute(
                    f"SELECT {self.vendor.key_text(self.key_column)}, {plain} FROM {self.name} "
                    f"WHERE {self.key_column} IN ({marks(len(chunk))})",
                    list(chunk),
                )
                for key, *raw in cursor.fetchall():
                    values = changes[str(key)]
                    for i, column in enumerate(self._stored_columns):
                        name = at.get(column, "")
                        if name in values:
                            convert = self.codecs[name].from_wire
                            raw[i] = convert(values[name]) if convert and values[name] is not None else values[name]
                    records.append(raw)
            self.delete(list(changes))
            self.vendor.insert(cursor, self.name, columns, records)

    def update(self, key: str, values: Mapping[str, Any]) -> None:
        """Write these fields of one row."""
        if not values:
            return
        assignments, params = [], []
        for name, value in values.items():
            convert = self.codecs[name].from_wire
            assignments.append(f"{self._columns[name]} = %s")
            params.append(convert(value) if convert and value is not None else value)
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {self.name} SET {', '.join(assignments)} WHERE {self.key_column} = %s", [*params, key]
            )

    def reset(self, key: str, names: Sequence[str]) -> None:
        """Give these fields of one row this replica's own defaults; one whose default the database makes stays."""
        names = [name for name in names if name not in self._database_defaults]
        if names:
            assignments = ", ".join(f"{self._columns[name]} = %s" for name in names)
            with self.connection.cursor() as cursor:
                cursor.execute(
                    f"UPDATE {self.name} SET {assignments} WHERE {self.key_column} = %s",
                    [*map(self._default, names), key],
                )

    def delete(self, keys: Sequence[str]) -> None:
        with self.connection.cursor() as cursor:
            for chunk in chunks(keys):
                condition, params = self.has_keys(self.name, chunk)
                cursor.execute(f"DELETE FROM {self.name} WHERE {condition}", params)

    def read_local(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what rows hold in columns that do not travel: ``{key: {field name: value}}``, as the driver has it."""
        if not self._local_columns:
            return {}
        found: dict[str, dict[str, Any]] = {}
        plain = ", ".join(self.vendor.verbatim(column) for column in self._local_columns.values())
        with self.connection.cursor() as cursor:
            for chunk in chunks(keys):
                cursor.execute(
                    f"SELECT {self.vendor.key_text(self.key_column)}, {plain} FROM {self.name} "
                    f"WHERE {self.key_column} IN ({marks(len(chunk))})",
                    list(chunk),
                )
                for key, *values in cursor.fetchall():
                    found[str(key)] = dict(zip(self._local_columns, values, strict=True))
        return found

    def write_local(self, key: str, values: Mapping[str, Any]) -> None:
        """Write what ``read_local`` gave, as far as there are such columns still."""
        values = {name: value for name, value in values.items() if name in self._local_columns}
        if values:
            assignments = ", ".join(f"{self._local_columns[name]} = %s" for name in values)
            with self.connection.cursor() as cursor:
                cursor.execute(
                    f"UPDATE {self.name} SET {assignments} WHERE {self.key_column} = %s", [*values.values(), key]
                )

    def _default(self, name: str) -> Any:
        field = self.options.model._meta.get_field(name)
        assert isinstance(field, models.Field)
        return field.get_db_prep_save(field.get_default(), self.connection)
