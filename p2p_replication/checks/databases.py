"""Checks of the databases that replicated models lie in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.checks.settings import TAG
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.registry import registry
from p2p_replication.storage.capture.installation import drift
from p2p_replication.storage.vendors import SUPPORTED

#: What lets several processes write to one SQLite file without "database is locked".
SQLITE_OPTIONS = """"OPTIONS": {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}"""


@register(TAG)
def check_databases(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Look at settings only: no database is opened."""
    found: list[CheckMessage] = []
    sqlite: set[str] = set()
    for options in registry:
        alias = router.db_for_write(options.model)
        if connections[alias].vendor not in SUPPORTED:
            found.append(
                Error(
                    f"{options.label} lies in the database {alias!r}, which is {connections[alias].display_name}; "
                    "replication runs on SQLite and PostgreSQL.",
                    hint="Keep the model in a database of these, or take it out of replication.",
                    obj=options.model,
                    id="p2p_replication.E020",
                )
            )
        elif alias != DEFAULT_DB_ALIAS:
            found.append(
                Error(
                    f"{options.label} lies in the database {alias!r}; the worker serves {DEFAULT_DB_ALIAS!r} only.",
                    hint="Let the database router keep the model in the default database.",
                    obj=options.model,
                    id="p2p_replication.E021",
                )
            )
        elif connections[alias].vendor == "sqlite":
            sqlite.add(alias)
    return [*found, *(message for alias in sorted(sqlite) for message in _sqlite_options(connections[alias]))]


@register(TAG)
def check_own_tables(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The triggers write into replication's own tables, which have to lie beside the models'."""
    if not any(router.db_for_write(options.model) == DEFAULT_DB_ALIAS for options in registry):
        return []
    for model in apps.get_app_config("p2p_replication").get_models():
        alias = router.db_for_write(model)
        if alias != DEFAULT_DB_ALIAS or not router.allow_migrate_model(DEFAULT_DB_ALIAS, model):
            return [
                Error(
                    f"The database router keeps {model._meta.label} out of the database {DEFAULT_DB_ALIAS!r} (it is "
                    f"written to {alias!r}), where the models lie that replicate.",
                    hint="Let allow_migrate() and db_for_write() keep the app p2p_replication in the default database.",
                    id="p2p_replication.E022",
                )
            ]
    return []


def _sqlite_options(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    missing = list(_missing(connection.settings_dict.get("OPTIONS") or {}))
    if missing:
        yield Warning(
            f"DATABASES[{connection.alias!r}]: with the web processes and the worker writing to one SQLite file, "
            f"these options prevent 'database is locked': {', '.join(missing)}.",
            hint=f"Put this into DATABASES[{connection.alias!r}]:\n{SQLITE_OPTIONS}",
            id="p2p_replication.W020",
        )


def _missing(options: dict[str, Any]) -> Iterator[str]:
    if str(options.get("transaction_mode") or "").upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield 'transaction_mode "IMMEDIATE"'
    timeout = options.get("timeout", 5)
    if not isinstance(timeout, (int, float)) or timeout < 20:
        yield "timeout 20"
    commands = options.get("init_command") or ""
    if not re.search(r"journal_mode\s*=\s*['\"]?wal\b", commands, re.IGNORECASE):
        yield "journal_mode WAL in init_command"
    if not re.search(r"synchronous\s*=\s*['\"]?(normal|full|extra|[123])\b", commands, re.IGNORECASE):
        yield "synchronous NORMAL in init_command"


@register(Tags.database)
def check_capture(app_configs: Any, databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Compare the installed triggers with those that should be there. A warning: ``migrate`` itself runs this."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if alias != DEFAULT_DB_ALIAS:
            continue
        try:
            differing = drift(alias)
        except ConfigurationError:
            # A model that can't replicate at all has an error of its own.
            continue
        found.extend(
            Warning(
                f"Writes to {model.label} may not replicate: {model.reason} (database {alias!r}).",
                hint="Run manage.py migrate, or manage.py p2p triggers install: it renews the triggers and finds what "
                "was written meanwhile.",
                id="p2p_replication.W021",
            )
            for model in differing
        )
    return found


@register(Tags.database)
def check_views(app_configs: Any, databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """A view has no triggers of the kind that captures."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    introspection = connections[DEFAULT_DB_ALIAS].introspection
    unmanaged = [options for options in registry if not options.model._meta.managed]
    views = set(introspection.table_names(include_views=True)) - set(introspection.table_names()) if unmanaged else ()
    return [
        Warning(
            f"{options.label} replicates, but {options.model._meta.db_table} is a view: its rows stay here.",
            hint="Let the models of the tables replicate that the view shows, and take this one out of replication.",
            obj=options.model,
            id="p2p_replication.W022",
        )
        for options in unmanaged
        if options.model._meta.db_table in views
    ]
