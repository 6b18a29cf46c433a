"""Opening the database for a worker: only if the code and the database belong together."""

from __future__ import annotations

import logging

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import StaleReplica
from p2p_replication.registry import registry
from p2p_replication.storage.capture.installation import install
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.replica_identity import renew_identity
from p2p_replication.storage.write_budget import WriteBudget
from p2p_replication.transport import identity
from p2p_replication.worker.clock_jumps import ClockJumps

logger = logging.getLogger("p2p_replication.worker")

APP_LABEL = "p2p_replication"


def check_migrations() -> None:
    """Raise StaleReplica unless the apps that replicate are migrated to exactly what this process' code has.

    A worker of older code would take new columns out of the capture, and post changes without them.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    executor = MigrationExecutor(connection)
    labels = {APP_LABEL, *(options.model._meta.app_label for options in registry)}
    missing = sorted({m.app_label for m, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())} & labels)
    if missing:
        raise StaleReplica(f"The database is older than the code ({', '.join(missing)}): run python manage.py migrate.")
    known = executor.loader.disk_migrations
    replaced = {key for migration in known.values() for key in migration.replaces}
    unknown = sorted(
        f"{app}.{name}"
        for app, name in executor.loader.applied_migrations
        if app in labels and (app, name) not in known and (app, name) not in replaced
    )
    if unknown:
        raise StaleReplica(
            f"The database is newer than the code of this worker ({', '.join(unknown)}): deploy the code and start "
            "the worker again."
        )


def install_capture() -> None:
    """Heal what a failed migration may have left of the triggers, and reconcile."""
    for label, found in install().items():
        logger.warning("capture of %s was renewed: %s", label, found)


def take_new_identity(database: ReplicaDatabase) -> None:
    """Make a replica of its own of a copied database, unless another worker on it has done so."""
    if renew_identity(database.alias, database.replica_id, identity.generate_secret_key):
        logger.warning("the replica %s goes on under a new identity", database.replica_id)


def open_database(alias: str = DEFAULT_DB_ALIAS) -> ReplicaDatabase:
    settings = app_settings.current()
    return ReplicaDatabase(
        alias,
        make_secret_key=identity.generate_secret_key,
        budget=WriteBudget(settings.WRITE_SLICE, settings.WRITE_PAUSE),
        max_clock_skew=settings.MAX_CLOCK_SKEW,
        check_clocks=ClockJumps().check,
    )
