"""Installing the capture triggers, and keeping them right through migrations.

Before a migration touches an app, a gap is put on record and the triggers go: SQLite refuses to remove a column that
a trigger names, and drops triggers without a word when a table is rebuilt. After it they are compiled anew from the
database's own columns, the table is reconciled with the ledger, and the gap is closed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate, pre_migrate
from django.utils import timezone

from p2p_replication.models.ledger import ChangeLogEntry, FieldLayout, Gap, Stream
from p2p_replication.registry import Options, registry
from p2p_replication.storage.capture.compiler import CaptureTarget, Trigger, compiler_of, digest_of, table_mark
from p2p_replication.storage.capture.reconciliation import Reconciled, reconcile
from p2p_replication.storage.capture.renames import follow_renames
from p2p_replication.storage.capture.settling import settle_recorded
from p2p_replication.storage.link_table import table_of
from p2p_replication.storage.readiness import why_unready
from p2p_replication.storage.table import present_models, stored_models
from p2p_replication.storage.vendors import SUPPORTED, vendor_of

logger = logging.getLogger("p2p_replication.storage")

APP_LABEL = "p2p_replication"
#: Seconds between two tries for a table that the application is writing to, and until a line in the log says so.
BUSY_PAUSE = 0.2
PATIENCE = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class Drift:
    """A model whose triggers are not what they should be."""

    label: str
    reason: str


def connect_migration_signals() -> None:
    pre_migrate.connect(_before_migration, dispatch_uid="p2p_replication.before")
    post_migrate.connect(_after_migration, dispatch_uid="p2p_replication.after")


def install(
    using: str = DEFAULT_DB_ALIAS, labels: Iterable[str] | None = None, *, because: str = ""
) -> dict[str, Reconciled]:
    """Bring the triggers of all models (or these) up to date, and reconcile those that had a gap.

    Args:
        because: a reason to reconcile them in any case.

    Returns what was found, for each model that was touched.
    """
    connection = connections[using]
    if not is_ready(connection):
        return {}
    _drop_flushed(connection)
    touched: dict[str, Reconciled] = {}
    wanted = set(labels) if labels is not None else None
    for options in stored_models(connection):
        if wanted is None or options.label in wanted:
            found = _writing(connection, partial(_install_one, connection, options, because))
            if found is not None:
                touched[options.label] = found
    if wanted is None:
        _remove_stale(connection)
    return touched


def remove(
    using: str = DEFAULT_DB_ALIAS,
    *,
    app_labels: set[str] | None = None,
    tables: Iterable[str] = (),
    reason: str = "removed",
) -> None:
    """Put a gap on record for the models (of these apps), then drop their triggers.

    Args:
        tables: more tables of these apps: those of models that the code has no more, or by another name.
    """
    connection = connections[using]
    if is_ready(connection):
        _writing(connection, partial(_remove, connection, app_labels, set(tables), reason))


def _remove(connection: BaseDatabaseWrapper, app_labels: set[str] | None, tables: set[str], reason: str) -> None:
    using = connection.alias
    for stream in Stream.objects.using(using).exclude(trigger_digest=""):
        if app_labels is None or stream.label.split(".")[0] in app_labels:
            open_gap(using, stream, reason)
    models = [options.model._meta for options in registry]
    tables |= {meta.db_table for meta in models if app_labels is None or meta.app_label in app_labels}
    stored = set(map(vendor_of(connection).stored_name, tables))
    compiler = compiler_of(connection)
    for name, table in compiler.all_installed(connection).items():
        if app_labels is None or table in stored:
            compiler.drop(connection, name, table)


def _writing(connection: BaseDatabaseWrapper, work: Callable[[], T]) -> T:
    """Do the work in one write transaction; again, if a transaction of the application's was in its way.

    A lock on a table that waits keeps all others from the table: so it waits shortly, and often.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            with transaction.atomic(using=connection.alias):
                # Before any lock on a table, as whoever posts or applies does.
                vendor_of(connection).begin_writing(connection)
                return work()
        except OperationalError as error:
            if connection.in_atomic_block or not vendor_of(connection).is_busy(error):
                raise
        if not told and time.monotonic() - began > PATIENCE:
            logger.warning(
                "the capture triggers wait for a transaction that writes to the table (%s)", connection.alias
            )
            told = True
        time.sleep(BUSY_PAUSE)


def drift(using: str = DEFAULT_DB_ALIAS) -> list[Drift]:
    """Return the models whose triggers differ from what the code and the database call for, or that have a gap."""
    connection = connections[using]
    if not is_ready(connection):
        return []
    unready = why_unready(connection, present_models(connection))
    found = [Drift(label, f"{why}: run migrate") for label, why in unready.items()]
    for options in stored_models(connection):
        stream = Stream.objects.using(using).filter(label=options.label).select_related("layout").first()
        if stream is None or not stream.trigger_digest:
            found.append(Drift(options.label, "it has no capture triggers"))
        elif stream.gaps.filter(closed_at=None).exists():
            found.append(Drift(options.label, "a gap in its capture is not reconciled yet"))
        else:
            fields = table_of(connection, options).names
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


def _drop_flushed(connection: BaseDatabaseWrapper) -> None:
    """Drop what the log has of streams that are gone: in a flush on SQLite the log may be emptied before the others."""
    streams = Stream.objects.using(connection.alias)
    with transaction.atomic(using=connection.alias):
        vendor_of(connection).begin_writing(connection)
        ChangeLogEntry.objects.using(connection.alias).exclude(stream__in=streams.values("pk")).delete()


def _install_one(connection: BaseDatabaseWrapper, options: Options, because: str) -> Reconciled | None:
    using = connection.alias
    table = table_of(connection, options)
    fields = table.names
    follow_renames(connection, options, fields)
    stream, created = Stream.objects.using(using).get_or_create(label=options.label)
    if stream.layout is None or tuple(stream.layout.fields) != fields:
        layouts = FieldLayout.objects.using(using).filter(stream=stream, fields=list(fields))
        stream.layout = layouts.order_by("pk").first() or layouts.create(stream=stream, fields=list(fields))
        stream.save(using=using, update_fields=["layout"])
    triggers = _compile(connection, options, stream)
    gap = Gap.objects.using(using).filter(stream=stream, closed_at=None).first()
    is_current = _is_current(connection, triggers)
    if gap is None:
        if is_current and stream.trigger_digest == digest_of(triggers) and not because:
            return None
        absent = "first installation" if created else "the triggers were absent or different"
        open_gap(using, stream, because or absent)
    if not is_current:
        _drop(connection, options.model._meta.db_table)
        with connection.cursor() as cursor:
            for trigger in triggers:
                cursor.execute(trigger.sql, None)
    settle_recorded(connection, stream, table)
    found = reconcile(connection, stream, table)
    Gap.objects.using(using).filter(stream=stream, closed_at=None).update(closed_at=timezone.now())
    Stream.objects.using(using).filter(pk=stream.pk).update(trigger_digest=digest_of(triggers))
    return found


def _compile(connection: BaseDatabaseWrapper, options: Options, stream: Stream) -> list[Trigger]:
    table = table_of(connection, options)
    assert stream.layout_id is not None
    name = options.model._meta.db_table
    unique = compiler_of(connection).unique_columns(connection, name)
    if options.ends:
        unique.append(("id",))  # An INTEGER PRIMARY KEY has no index of its own.
    target = CaptureTarget(
        table=name,
        key=table.key_columns,
        columns=tuple(codec.column for codec in table.codecs.values()),
        unique=tuple(unique),
        stream=stream.pk,
        layout=stream.layout_id,
        local=table.local_column or "",
    )
    return compiler_of(connection).triggers(connection, target)


def _is_current(connection: BaseDatabaseWrapper, triggers: list[Trigger]) -> bool:
    installed = compiler_of(connection).installed(connection, triggers[0].table)
    return installed == {trigger.name: trigger.body for trigger in triggers}


def _drop(connection: BaseDatabaseWrapper, table: str) -> None:
    compiler = compiler_of(connection)
    for name in compiler.installed(connection, table):
        compiler.drop(connection, name, table)


def _remove_stale(connection: BaseDatabaseWrapper) -> None:
    """Drop the triggers of tables whose models replicate no more."""
    marks = {table_mark(options.model._meta.db_table) for options in stored_models(connection)}
    compiler = compiler_of(connection)
    for name, table in compiler.all_installed(connection).items():
        if name.split("_")[2] not in marks:
            compiler.drop(connection, name, table)


def is_ready(connection: BaseDatabaseWrapper) -> bool:
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
        labels = _migrated_apps(plan)
        # The models as they were: the code may call them otherwise by now.
        before = [model._meta for model in kwargs["apps"].get_models(include_auto_created=True)]
        tables = {meta.db_table for meta in before if meta.app_label in labels}
        remove(using, app_labels=labels, tables=tables, reason="migration")


def _after_migration(sender: AppConfig, using: str, plan: Any = (), **kwargs: Any) -> None:
    # Sent once for each app, when all migrations have run: ours is the turn for all models.
    if sender.label == APP_LABEL:
        install(using)
