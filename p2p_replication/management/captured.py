"""What subcommands about capture share."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.ledger import Stream
from p2p_replication.storage.capture.reconciliation import Reconciled
from p2p_replication.storage.vendors import vendor_of


def refuse_unready_database(alias: str) -> None:
    """Raise CommandError where there can be no triggers."""
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        raise CommandError(
            f"There is no database {alias!r} in DATABASES, which has: {', '.join(connections)}."
        ) from None
    try:
        vendor_of(connection)
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
    if Stream._meta.db_table not in connection.introspection.table_names():
        raise CommandError(f"The database {alias!r} has no tables of p2p_replication yet: run manage.py migrate.")


def described(found: Reconciled) -> str:
    """Say in words what a reconciliation has found."""
    if not found.total:
        return "nothing was written past them"
    return f"{found.adopted} rows were new, {found.changed} had changed, {found.gone} were gone"
