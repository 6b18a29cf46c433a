"""Whether a database's tables are far enough migrated for what the code says of keys and references.

Between the migrations that give a table its key field, rows without a key may be written, which no trigger could log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from p2p_replication.models.foreign_keys import key_of_target, natural_model
from p2p_replication.registry import Options
from p2p_replication.storage.vendors import vendor_of


def why_unready(connection: BaseDatabaseWrapper, present: Sequence[Options]) -> dict[str, str]:
    """Return what is missing in this database, by the labels of the models that can't replicate without it.

    Args:
        present: the models that have a table.
    """
    found = {
        options.label: why for options in present if options.key and (why := _why_no_key(connection, options.key_field))
    }
    for options in present:
        for field in options.fields():
            target, model = key_of_target(field), natural_model(field)
            if target is not None and target.model._meta.label in found:
                found.setdefault(options.label, f"{field.name} refers to {target.model._meta.label}, which can't yet")
            elif model is not None and (missing := _missing_columns(connection, model)):
                # Its objects are loaded.
                found.setdefault(options.label, f"{model._meta.label}, to which {field.name} refers, lacks {missing}")
    return found


def _why_no_key(connection: BaseDatabaseWrapper, key: models.Field[Any, Any]) -> str:
    vendor = vendor_of(connection)
    table, column = key.model._meta.db_table, vendor.stored_name(str(key.column))
    if column not in vendor.columns(connection, table):
        return f"its key {key.name} has no column in the database yet"
    if vendor.may_be_null(connection, table, column):
        return f"its key {key.name} may be null in the database"
    if not vendor.is_unique(connection, table, column):
        return f"its key {key.name} is not unique in the database"
    return ""


def _missing_columns(connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
    vendor = vendor_of(connection)
    present = set(vendor.columns(connection, model._meta.db_table))
    wanted = {vendor.stored_name(f.column or ""): f.name for f in model._meta.local_concrete_fields if not f.generated}
    return ", ".join(sorted(name for column, name in wanted.items() if column not in present))
