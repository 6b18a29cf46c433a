"""Migrations that rename a model or a field: what replication knows of it takes the new name.

Otherwise the rows of a renamed model would begin anew, with no version and no deletes; and edits of a renamed field
that were not posted yet would be nobody's.

Nothing is remembered of a migration as it runs, as it may fail, be faked or be reversed: names that the database
has and replication does not know are looked for in all migrations, applied or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import RenameField, RenameModel

from p2p_replication.models.ledger import FieldLayout, LedgerEntry, Stream
from p2p_replication.models.pool import Declaration
from p2p_replication.registry import Options, registry
from p2p_replication.storage.ledger import Entry, chunks, load_entries, save_entries


@dataclass(frozen=True)
class _Rename:
    old: str
    new: str
    applied: bool


def follow_renames(connection: BaseDatabaseWrapper, options: Options, fields: tuple[str, ...]) -> None:
    """Give a model's stream, layouts, ledger and declarations the names that the model and its fields have now.

    Args:
        fields: the fields of the table as it is.
    """
    streams = Stream.objects.using(connection.alias).select_related("layout")
    stream = streams.filter(label=options.label).first()
    known = set(stream.layout.fields) if stream is not None and stream.layout is not None else set()
    if stream is not None and not (known - set(fields) and set(fields) - known):
        return
    models, renamed = _renames(connection, options)
    if stream is None:
        labels = [label for label in models if registry.get(label) is None]
        stream = next((found for label in labels if (found := streams.filter(label=label).first())), None)
        if stream is None:
            return
        _rename_stream(connection, stream, options.label)
        known = set(stream.layout.fields) if stream.layout is not None else set()
    names = {old: new for old in known - set(fields) if (new := _target(old, set(fields) - known, renamed))}
    if names:
        _rename_fields(connection, stream, names)
    if stream.layout is not None:
        # A new number: a worker of older code notices that it has to go.
        stream.layout = FieldLayout.objects.using(connection.alias).create(
            stream=stream, fields=[names.get(name, name) for name in stream.layout.fields]
        )
        stream.save(using=connection.alias, update_fields=["layout"])


def _renames(connection: BaseDatabaseWrapper, options: Options) -> tuple[list[str], list[_Rename]]:
    """Return the model's other labels, the likeliest first, and the renames of its fields, in order."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    app, name = options.label.split(".")
    operations = [
        (operation, (app, migration.name) in executor.loader.applied_migrations)
        for migration, _ in plan
        if migration.app_label == app
        for operation in _flat(migration.operations)
    ]
    later = [name]  # What migrations that were reversed have called it.
    for operation, applied in operations:
        if isinstance(operation, RenameModel) and not applied and _is_one_of(operation.old_name, later):
            later.append(operation.new_name)
    earlier = [name]
    fields: list[_Rename] = []
    for operation, applied in reversed(operations):
        if isinstance(operation, RenameModel) and applied and _is_one_of(operation.new_name, earlier[-1:]):
            earlier.append(operation.old_name)
        elif isinstance(operation, RenameField) and _is_one_of(
            operation.model_name, earlier[-1:] if applied else later
        ):
            fields.append(_Rename(operation.old_name, operation.new_name, applied))
    return [f"{app}.{model}" for model in (*earlier[1:], *later[:0:-1])], fields[::-1]


def _is_one_of(name: str, names: list[str]) -> bool:
    return name.lower() in {other.lower() for other in names}


def _flat(operations: Iterable[Any]) -> Iterator[Any]:
    """Yield operations with those inside of SeparateDatabaseAndState and RunSQL."""
    for operation in operations:
        yield operation
        yield from _flat(getattr(operation, "state_operations", None) or ())


def _target(name: str, unknown: set[str], renames: list[_Rename]) -> str | None:
    """Return which of the unknown fields an old one has become, by renames or by their reversal."""
    forward = back = name
    for rename in renames:
        if rename.applied and forward == rename.old:
            forward = rename.new
    for rename in reversed(renames):
        if not rename.applied and back == rename.new:
            back = rename.old
    return next((found for found in (forward, back) if found in unknown), None)


def _rename_stream(connection: BaseDatabaseWrapper, stream: Stream, label: str) -> None:
    declarations = Declaration.objects.using(connection.alias)
    taken = declarations.filter(model=label).values("pool")
    declarations.filter(model=stream.label).exclude(pool__in=taken).update(model=label)
    stream.label = label
    stream.save(using=connection.alias, update_fields=["label"])


def _rename_fields(connection: BaseDatabaseWrapper, stream: Stream, names: dict[str, str]) -> None:
    for layout in FieldLayout.objects.using(connection.alias).filter(stream=stream):
        if names.keys() & set(layout.fields):
            layout.fields = [names.get(name, name) for name in layout.fields]
            layout.save(using=connection.alias, update_fields=["fields"])
    entries = LedgerEntry.objects.using(connection.alias).filter(stream=stream.pk)
    named = entries.exclude(field_clocks=None, held=None, past=None, merged=None).values_list("key", flat=True)
    for keys in chunks(list(named)):
        save_entries(
            connection, stream.pk, [_renamed(e, names) for e in load_entries(connection, stream.pk, keys).values()]
        )


def _renamed(entry: Entry, names: dict[str, str]) -> Entry:
    entry.field_clocks = {names.get(name, name): clock for name, clock in entry.field_clocks.items()}
    entry.held = {names.get(name, name): value for name, value in entry.held.items()}
    entry.merged = {names.get(name, name): value for name, value in entry.merged.items()}
    entry.past = {names.get(name, name): clocks for name, clocks in entry.past.items()}
    return entry
