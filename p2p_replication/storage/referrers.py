"""Who refers to rows that are about to leave their table, in whatever table they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import models

from p2p_replication.registry import registry
from p2p_replication.storage.ledger import chunks, marks
from p2p_replication.storage.replica_database import ReplicaDatabase, StreamStore
from p2p_replication.storage.table import ModelTable


class Row(NamedTuple):
    """A row of a replicated model: ``(number of its stream, its key)``."""

    stream: int
    key: str


@dataclass(frozen=True)
class Reference:
    """A foreign key that the database enforces, seen from the model it refers to."""

    field: models.ForeignKey[Any, Any]
    child: type[models.Model]
    #: The child's part in replication; None if it has none.
    stream: StreamStore | None


def references_to(database: ReplicaDatabase, stream: StreamStore) -> list[Reference]:
    """Return the foreign keys, of all models of the project, that refer to a model."""
    found = []
    # What refers to a table that a row of this one goes on in, is not in the way of this one.
    for relation in stream.table.options.model._meta.get_fields(include_parents=False, include_hidden=True):
        if not isinstance(relation, models.ForeignObjectRel) or relation.many_to_many:
            continue
        field, child = relation.field, relation.related_model
        if (
            isinstance(field, models.ForeignKey)
            and isinstance(child, type)
            and getattr(field, "db_constraint", False)
            and child._meta.managed
        ):
            found.append(Reference(field, child, database.streams.get(child._meta.label)))
    return found


def referring(stream: StreamStore, reference: Reference, keys: Sequence[str]) -> list[tuple[str, str]]:
    """Return ``(child's key, key of the row it refers to)`` of the rows that are in the child's table.

    The key of a child that does not replicate is its primary key's text.
    """
    parent, child = stream.table, reference.stream
    quote = parent.quoted
    column, target = quote(reference.field.column or ""), quote(reference.field.target_field.column or "")
    key = child.table.key_text("c") if child else parent.vendor.key_text(f"c.{quote(_primary_column(reference.child))}")
    found: list[tuple[str, str]] = []
    with parent.connection.cursor() as cursor:
        for chunk in chunks(keys):
            cursor.execute(
                f"SELECT {key}, {parent.key_text('p')} FROM {quote(reference.child._meta.db_table)} c "
                f"JOIN {parent.name} p ON c.{column} = p.{target} WHERE p.{parent.key_column} IN ({marks(len(chunk))})",
                list(chunk),
            )
            found += [(str(record[0]), str(record[1])) for record in cursor.fetchall()]
    return found


def parents_of(database: ReplicaDatabase, stream: StreamStore, key: str, values: Any) -> Iterable[Row]:
    """Return the rows that a row with this key and a state's values refers to, by foreign keys that the database
    enforces."""
    for name, *_ in stream.relations.parents:
        parent = database.streams.get(stream.table.parents[name]._meta.label)
        if parent is not None and name not in stream.table.codecs:
            yield Row(parent.id, stream.table.reference(name, key, {}))  # The end of a link.
        elif parent is not None and values.get(name) is not None and refers_to_key(stream.table, name):
            try:
                yield Row(parent.id, parent.table.key_from_wire(values[name]))
            except ValueError:
                continue  # What no correct peer sends refers to nothing.


def refers_to_key(table: ModelTable, name: str) -> bool:
    """Tell whether a foreign key travels as its parent's key, and not as another field of it (``to_field``)."""
    if name in table.references.by_key:
        return True
    field = table.options.model._meta.get_field(name)
    return isinstance(field, models.ForeignKey) and _is_key(field.target_field)


def key_at(stream: StreamStore, field: models.ForeignKey[Any, Any], value: Any) -> str | None:
    """Return the key of the row that a foreign key with this Python value refers to.

    Args:
        stream: the part in replication of the model that it refers to.

    Returns None if the value is none of the row's keys; where it is a local number, also if there is no such row.
    """
    table, target = stream.table, field.target_field
    raw = target.get_db_prep_value(value, table.connection)
    if _is_key(target):
        return str(raw)
    if not target.primary_key:
        return None
    with table.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {table.key_text('t')} FROM {table.name} t WHERE t.{table.quoted(target.column or '')} = %s", [raw]
        )
        found = cursor.fetchone()
    return str(found[0]) if found else None


def _is_key(field: models.Field[Any, Any]) -> bool:
    options = registry.get(field.model._meta.label)
    return options is not None and field == options.key_field


def _primary_column(model: type[models.Model]) -> str:
    assert model._meta.pk is not None
    return model._meta.pk.column or ""
