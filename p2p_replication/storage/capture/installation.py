"""Installing the capture triggers, and keeping them right through migrations.

Before a migration touches an app, a gap is put on record and the triggers go: SQLite refuses to remove a column that
a trigger names, and drops triggers without a word when a table is rebuilt. After it they are compiled anew from the
database's own columns, the table is reconciled with the ledger, and the gap is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate, pre_migrate
from django.utils import timezone

from p2p_replication.models.ledger import ChangeLogEntry, FieldLayout, Gap, Stream
from p2p_replication.registry import Options, registry
from p2p_replication.storage.capture.compiler import CaptureTarget, Trigger, compiler_of, digest_of, table_mark
from p2p_replication.storage.capture.reconciliation import Reconciled, reconcile
from p2p_replication.storage.table import ModelTable
from p2p_replication.storage.vendors import SUPPORTED, vendor_of

T = TypeVar("T")
APP_LABEL = "p2p_replication"
#: Seconds that the application's open transactions may keep a table from getting or losing its triggers.
PATIENCE = 60.0
PAUSE = 0.1


@dataclass(frozen=True)
class Drift:
    """A model whose triggers are not what they should be."""

    label: str
    reason: str


def connect_migration_signals() -> None:
    pre_migrate.connect(_before_migration, dispatch_uid="p2p_replication.before")
    post_migrate.connect(_after_migration, dispatch_uid="p2p_replication.after")


def install(using: str = DEFAULT_DB_ALIAS, labels: Iterable[str] | None = None) -> dict[str, Reconciled]:
    """Bring the triggers of all models (or these) up to date, and reconcile those that had a gap.

    Returns what was found, for each model that was touched.
    """
    connection = connections[using]
    if not _is_ready(connection):
        return {}
    touched: dict[str, Reconciled] = {}
    wanted = set(labels) if labels is not None else None
    for options in _captured(connection, using):
        if wanted is None or options.label in wanted:
            found = _patiently(connection, partial(_install_one, connection, options))
            if found is not None:
                touched[options.label] = found
    if wanted is None:
        _remove_stale(connection, using)
    return touched


def remove(using: str = DEFAULT_DB_ALIAS, *, app_labels: set[str] | None = None, reason: str = "removed") -> None:
    """Put a gap on record for the models (of these apps), then drop their triggers."""
    connection = connections[using]
    if not _is_ready(connection):
        return
    tables = set(connection.introspection.table_names())
    for options in registry:
        if app_labels is None or options.model._meta.app_label in app_labels:
            is_there = options.model._meta.db_table in tables
            _patiently(connection, partial(_remove_one, connection, options, reason, is_there))


def drift(using: str = DEFAULT_DB_ALIAS) -> list[Drift]:
    """Return the models whose triggers differ from what the code and the database call for, or that have a gap."""
    connection = connections[using]
    if not _is_ready(connection):
        return []
    found = []
    for options in _captured(connection, using):
        stream = Stream.objects.using(using).filter(label=options.label).first()
        if stream is None or not stream.trigger_digest:
            found.append(Drift(options.label, "it has no capture triggers"))
        elif stream.gaps.filter(closed_at=None).exists():
            found.append(Drift(options.label, "a gap in its capture is not reconciled yet"))
        else:
            fields = ModelTable(connection, options).names
            layout = stream.layout
            if layout is None or tuple(layout.fields) != fields:
                found.append(Drift(options.label, "its fields have changed"))
            elif not _is_current(connection, _compile(connection, options, stream)):
                found.append(Drift(options.label, "its triggers are not the ones this version installs"))
    return found


def open_gap(using: str, stream: Stream, reason: str) -> None:
    """Put on record that capture is absent or different from here on."""
    Gap.objects.using(using).get_or_create(stream=stream, closed_at=None, defaults={"reason": reason[:200]})
    Stream.objects.using(using).filter(pk=stream.pk).update(trigger_digest="")


def _patiently(connection: BaseDatabaseWrapper, act: Callable[[], T]) -> T:
    """Do something in a write transaction; if the application is at the table just now, let go, and try again.

    Whoever waits in line for a table's lock holds up all who come after.
    """
    vendor, deadline = vendor_of(connection), time.monotonic() + PATIENCE
    while True:
        try:
            with transaction.atomic(using=connection.alias):
                # Before any lock on a table, as whoever posts or applies does.
                vendor.begin_writing(connection)
                return act()
        except OperationalError as error:
            if not vendor.is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


def _remove_one(connection: BaseDatabaseWrapper, options: Options, reason: str, is_there: bool) -> None:
    stream = Stream.objects.using(connection.alias).filter(label=options.label).first()
    if stream is not None and stream.trigger_digest:
        open_gap(connection.alias, stream, reason)
    if is_there:
        _drop(connection, options.model._meta.db_table)


def _install_one(connection: BaseDatabaseWrapper, options: Options) -> Reconciled | None:
    using = connection.alias
    stream, created = Stream.objects.using(using).get_or_create(label=options.label)
    table = ModelTable(connection, options)
    fields = table.names
    layout = FieldLayout.objects.using(using).filter(stream=stream, fields=list(fields)).order_by("pk").first()
    if layout is None:
        layout = FieldLayout.objects.using(using).create(stream=stream, fields=list(fields))
    if stream.layout_id != layout.pk:
        stream.layout = layout
        stream.save(using=using, update_fields=["layout"])
    triggers = _compile(connection, options, stream)
    gap = Gap.objects.using(using).filter(stream=stream, closed_at=None).first()
    if stream.trigger_digest == digest_of(triggers) and gap is None and _is_current(connection, triggers):
        return None
    if gap is None:
        open_gap(using, stream, "first installation" if created else "the triggers were absent or different")
    _drop(connection, options.model._meta.db_table)
    with connection.cursor() as cursor:
        for trigger in triggers:
            cursor.execute(trigger.sql, None)
    found = reconcile(connection, stream, table)
    Gap.objects.using(using).filter(stream=stream, closed_at=None).update(closed_at=timezone.now())
    Stream.objects.using(using).filter(pk=stream.pk).update(trigger_digest=digest_of(triggers))
    return found


def _captured(connection: BaseDatabaseWrapper, using: str) -> Iterator[Options]:
    """Yield the models that replicate and have their table in this database."""
    tables = set(connection.introspection.table_names())
    for options in registry:
        if options.model._meta.db_table in tables and router.allow_migrate_model(using, options.model):
            yield options


def _compile(connection: BaseDatabaseWrapper, options: Options, stream: Stream) -> list[Trigger]:
    table = ModelTable(connection, options)
    assert stream.layout_id is not None
    name = options.model._meta.db_table
    target = CaptureTarget(
        table=name,
        key=table.key.column,
        columns=tuple(codec.column for codec in table.codecs.values()),
        unique=tuple(compiler_of(connection).unique_columns(connection, name)),
        stream=stream.pk,
        layout=stream.layout_id,
    )
    return compiler_of(connection).triggers(connection, target)


def _is_current(connection: BaseDatabaseWrapper, triggers: list[Trigger]) -> bool:
    installed = compiler_of(connection).installed(connection, triggers[0].table)
    return installed == {trigger.name: trigger.body for trigger in triggers}


def _drop(connection: BaseDatabaseWrapper, table: str) -> None:
    compiler = compiler_of(connection)
    for name in compiler.installed(connection, table):
        compiler.drop(connection, name, table)


def _remove_stale(connection: BaseDatabaseWrapper, using: str) -> None:
    """Drop the triggers of tables whose models replicate no more."""
    marks = {table_mark(options.model._meta.db_table) for options in _captured(connection, using)}
    compiler = compiler_of(connection)
    for name, table in compiler.all_installed(connection).items():
        if name.split("_")[2] not in marks:
            compiler.drop(connection, name, table)


def _is_ready(connection: BaseDatabaseWrapper) -> bool:
    """Replication's own tables are there, and the database is one that it can run on."""
    return connection.vendor in SUPPORTED and ChangeLogEntry._meta.db_table in connection.introspection.table_names()


def _migrated_apps(plan: Any) -> set[str]:
    labels = {migration.app_label for migration, _ in plan}
    if APP_LABEL in labels:
        # The triggers write into our own tables: while those change, all of them have to go.
        labels = {config.label for config in apps.get_app_configs()}
    return labels


def _before_migration(sender: AppConfig, using: str, plan: Any = (), **kwargs: Any) -> None:
    if plan and sender.label == APP_LABEL:
        remove(using, app_labels=_migrated_apps(plan), reason="migration")


def _after_migration(sender: AppConfig, using: str, plan: Any = (), **kwargs: Any) -> None:
    # Sent once for each app, when all migrations have run: ours is the turn for all models.
    if sender.label == APP_LABEL:
        install(using)
