"""Checks of the field by which all replicas know a row."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.db import models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.foreign_keys import key_of_target
from p2p_replication.registry import Options
from p2p_replication.storage.codecs import base_field, wire_type

#: How keys may travel.
KEY_TYPES = {"uuid", "text"}
#: Of which primary keys the database gives the next one by itself.
NUMBERED = ("AutoField", "BigAutoField", "SmallAutoField")
#: Collations under which two texts are equal only if they are the same; others may be so, too, but who knows.
EXACT_COLLATIONS = ("BINARY", "C", "C.UTF-8", "C.UTF8", "POSIX", "UCS_BASIC")


def check_key(options: Options) -> Iterator[CheckMessage]:
    """Yield what keeps a model's key from saying everywhere which row is meant."""
    yield from _named_key(options) if options.key else _primary_key(options)
    yield from _collation(options)


def _collation(options: Options) -> Iterator[CheckMessage]:
    key = options.key_field
    collation = getattr(key, "db_collation", None)
    if collation and collation.upper() not in EXACT_COLLATIONS:
        yield Error(
            f"{options.label}: {key.name} is the key and has the collation {collation!r}, under which two different "
            "keys may be equal: replicas would have different rows that are in each other's way.",
            hint=f"Remove db_collation from {key.name} (keys are compared exactly), or choose an exact one such as "
            "BINARY (SQLite) or C (PostgreSQL). A unique constraint over Lower(...) of it does what a collation did.",
            obj=options.model,
            id="p2p_replication.E019" if options.key else "p2p_replication.E010",
        )


def _primary_key(options: Options) -> Iterator[CheckMessage]:
    key = options.key_field
    if _kind(base_field(key)) in KEY_TYPES and key_of_target(key) is None:
        return
    if (parent := key_of_target(key)) is not None:
        yield Error(
            f"{options.label} has a {type(key).__name__} to {parent.model._meta.label} as its primary key, which is a "
            "local number: it can't say elsewhere which row is meant.",
            hint=f"Do not inherit over several tables from a model whose replication names a key; let {options.label} "
            f"have a primary key of its own, and a foreign key to {parent.model._meta.label}.",
            obj=options.model,
            id="p2p_replication.E010",
        )
        return
    existing = (
        "Give the model a UUIDField that is unique and not null (default=uuid7 from p2p_replication.models), and name "
        f'it in {options.source}: key = "uid". docs/integer-keys.md shows the three migrations that an existing table '
        "needs. "
    )
    yield Error(
        f"{options.label} has a {type(key).__name__} as its primary key: two replicas would give different rows the "
        "same key, or the key can't travel yet.",
        hint=(existing if _is_numbered(options) else "")
        + "A new model may inherit from p2p_replication.models.ReplicatedModel, or have a UUIDField or a CharField as "
        "its primary key.",
        obj=options.model,
        id="p2p_replication.E010",
    )


def _named_key(options: Options) -> Iterator[CheckMessage]:
    key, meta = options.key_field, options.model._meta
    total = [constraint.fields for constraint in meta.total_unique_constraints if constraint.deferrable is None]
    if key.primary_key:
        problem, remedy = "is the primary key, which is the key by itself", f"Remove key from {options.source}."
    elif _kind(key) not in KEY_TYPES or key.remote_field is not None:
        problem = f"is a {type(key).__name__}, which can be no key"
        remedy = "Name a UUIDField, or a text such as a slug or a code, that is unique and not null."
    elif key.null:
        problem = "may be null: a row without a key is known to nobody"
        remedy = "Fill it in a migration, then remove null=True (docs/integer-keys.md)."
    elif not key.unique and (key.name,) not in total:
        problem, remedy = "is not unique: two rows would be taken for one", f"Give {key.name} unique=True."
    elif not _is_numbered(options):
        problem = f"goes with an automatic number as primary key only, but there is a {type(meta.pk).__name__}"
        remedy = f"Remove key from {options.source} if the primary key is a UUID or a text; else use a BigAutoField."
    else:
        return
    yield Error(
        f"{options.label}: key names {key.name}, which {problem}.",
        hint=remedy,
        obj=options.model,
        id="p2p_replication.E019",
    )


def _is_numbered(options: Options) -> bool:
    pk = options.model._meta.pk
    return pk is not None and pk.get_internal_type() in NUMBERED


def _kind(field: models.Field[object, object]) -> str | None:
    try:
        return wire_type(field)
    except ConfigurationError:
        return None
