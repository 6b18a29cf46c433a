"""What a row needs of other rows before the database can take it, and who still needs a row that is to go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.registry import registry
from p2p_replication.storage.ledger import chunks, marks
from p2p_replication.storage.table import ModelTable

#: Keys that a transaction is about to write, by ``(table, key column)``.
Arriving = Mapping[tuple[str, str], set[str]]


class Relations:
    """The foreign keys of one model, in both directions."""

    def __init__(self, table: ModelTable) -> None:
        self.table = table
        self.connection: BaseDatabaseWrapper = table.connection
        quote = table.quoted
        meta = table.options.model._meta
        #: ``(field, parent's label, parent's table, parent's column: where it is a local number, the key's)``
        self.parents: list[tuple[str, str, str, str]] = []
        for name, parent in table.parents.items():
            field = meta.get_field(name)
            assert isinstance(field, models.ForeignKey)
            column = field.target_field.column
            if reference := table.references.by_key.get(name):
                self.parents.append((name, reference.label, reference.table, reference.key_column))
            elif name not in table.references.natural and getattr(field, "db_constraint", False) and column:
                self.parents.append((name, parent._meta.label, quote(parent._meta.db_table), quote(column)))
        #: Natural keys without whose target a row can't be.
        self._needed = [reference for reference in table.references.natural.values() if not reference.optional]
        self.has_parents = bool(self.parents or self._needed)
        #: ``(child's label, its table, its column, the column here to which that refers, delete the child's rows)``
        self.children: list[tuple[str, str, str, str, bool]] = []
        #: The database itself changes rows that refer to a deleted one (Django 6.1): none may go for a moment only.
        self.database_acts = False
        #: Many-to-many rows that replicate: ``(label, their table, column)`` of the end that is a row of this table.
        self.links: list[tuple[str, str, str]] = []
        # What refers to a table that a row of this one goes on in, waits for that row to go.
        for relation in meta.get_fields(include_parents=False, include_hidden=True):
            if isinstance(relation, models.ForeignObjectRel) and (relation.one_to_many or relation.one_to_one):
                field, child = relation.field, relation.related_model
                column = getattr(field, "column", None)
                if (
                    column
                    and getattr(field, "db_constraint", False)
                    and isinstance(child, type)
                    and child._meta.managed
                ):
                    # The rows of an automatic many-to-many table are nothing without their two ends.
                    cascade = bool(child._meta.auto_created)
                    if cascade and child in registry:
                        self.links.append((child._meta.label, quote(child._meta.db_table), quote(column)))
                        continue
                    self.database_acts |= hasattr(getattr(field.remote_field, "on_delete", None), "operation")
                    target = quote(str(field.target_field.column))
                    self.children.append(
                        (child._meta.label, quote(child._meta.db_table), quote(column), target, cascade)
                    )

    def missing_parents(
        self, rows: Iterable[tuple[str, Mapping[str, Any]]], arriving: Arriving, leaving: Arriving
    ) -> dict[str, str]:
        """Return ``{key: what is missing}`` for the rows whose parents are not in the database (or among the rows), or
        leave it.
        """
        rows = list(rows)
        missing: dict[str, str] = {}
        for name, label, parent_table, column in self.parents:
            wanted: dict[str, list[str]] = {}
            for key, values in rows:
                value = self.table.reference(name, key, values)
                if value is not None:
                    wanted.setdefault(str(value), []).append(key)
            absent = wanted.keys() - self._values(parent_table, column, list(wanted))
            absent -= arriving.get((parent_table, column), set())
            absent |= wanted.keys() & leaving.get((parent_table, column), set())
            if parent_table == self.table.name and column == self.table.key_column:
                absent -= {key for key, _ in rows} - missing.keys()
            for parent in absent:
                missing.update(dict.fromkeys(wanted[parent], f"{label} {parent}"))
        for reference in self._needed:
            values = {key: row[reference.name] for key, row in rows if row.get(reference.name) is not None}
            there = reference.find(set(values.values()), {})
            missing.update({key: f"{reference.label} {v}" for key, v in values.items() if v not in there})
        return missing

    def still_referenced(self, keys: list[str], *, with_links: bool = False) -> dict[str, str]:
        """Return ``{key: who refers to it}`` for rows that can't be deleted yet.

        Args:
            with_links: rows of automatic many-to-many tables refer to it as well.
        """
        blocked: dict[str, str] = {}
        for label, child_table, column, target, cascade in self.children:
            if cascade and not with_links:
                continue
            if child_table == self.table.name:
                blocked.update(self._outside_references(keys, column, target, label))
            elif target == self.table.key_column:
                blocked.update(dict.fromkeys(self._values(child_table, column, keys), label))
            else:
                referred = f"EXISTS (SELECT 1 FROM {child_table} child WHERE child.{column} = t.{target}) AND "
                found = self._values(f"{self.table.name} t", self.table.key_column, keys, referred)
                blocked.update(dict.fromkeys(found, label))
        for label, link_table, column in self.links if with_links else ():
            blocked.update(dict.fromkeys(self._values(link_table, column, keys), label))
        return blocked

    def delete_links(self, keys: list[str]) -> None:
        """Delete the many-to-many rows that don't replicate of rows that are about to go."""
        for _, child_table, column, target, cascade in self.children:
            if cascade:
                with self.connection.cursor() as cursor:
                    for chunk in chunks(keys):
                        ends = marks(len(chunk))
                        if target != self.table.key_column:
                            ends = f"SELECT {target} FROM {self.table.name} WHERE {self.table.key_column} IN ({ends})"
                        cursor.execute(f"DELETE FROM {child_table} WHERE {column} IN ({ends})", list(chunk))

    def _outside_references(self, keys: list[str], column: str, target: str, label: str) -> dict[str, str]:
        """References from rows of the same table that stay."""
        going = set(keys)
        found: dict[str, str] = {}
        with self.connection.cursor() as cursor:
            for chunk in chunks(keys):
                key = self.table.key_column
                cursor.execute(
                    f"SELECT parent.{key}, child.{key} FROM {self.table.name} child JOIN {self.table.name} parent "
                    f"ON child.{column} = parent.{target} WHERE parent.{key} IN ({marks(len(chunk))})",
                    list(chunk),
                )
                found.update({str(parent): label for parent, child in cursor.fetchall() if str(child) not in going})
        return found

    def _values(self, table: str, column: str, values: list[str], also: str = "") -> set[str]:
        found: set[str] = set()
        with self.connection.cursor() as cursor:
            for chunk in chunks(values):
                cursor.execute(
                    f"SELECT DISTINCT {column} FROM {table} WHERE {also}{column} IN ({marks(len(chunk))})", list(chunk)
                )
                found.update(str(record[0]) for record in cursor.fetchall())
        return found
