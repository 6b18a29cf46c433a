"""Checks of the models that replicate: what could never arrive elsewhere is said before it is tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.db import models

from p2p_replication.checks.keys import check_key
from p2p_replication.checks.merges import check_merges
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.foreign_keys import key_of_target, natural_model
from p2p_replication.registry import Options, registry, through_of
from p2p_replication.storage.codecs import wire_type

#: Whose tables nobody can change: a warning of them would be noise.
NOT_THE_PROJECTS = ("django.contrib.", "p2p_replication.")


@register(Tags.models)
def check_models(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    wanted = None if app_configs is None else {config.label for config in app_configs}
    return [
        message
        for options in registry
        if wanted is None or options.model._meta.app_label in wanted
        for message in check_model(options)
    ] + [
        message
        for model in apps.get_models()
        if model._meta.proxy and (wanted is None or model._meta.app_label in wanted)
        for message in _proxy(model)
    ]


def check_model(options: Options) -> Iterator[CheckMessage]:
    """Yield what is wrong with the replication of one model."""
    yield from _table_name(options)
    if options.ends:
        return  # What is wrong with an end is said of the end.
    yield from _identity(options)
    yield from _options(options)
    for field in options.fields():
        yield from _field(options, field)
    yield from _relations_without_columns(options)
    yield from _referrers_that_stay(options)


def _identity(options: Options) -> Iterator[CheckMessage]:
    meta = options.model._meta
    local = [parent for parent in meta.parents if (parent._meta.concrete_model or parent) not in registry]
    if local:
        parents = ", ".join(parent._meta.label for parent in local)
        yield Error(
            f"{options.label} inherits over several tables from {parents}, which does not replicate: elsewhere its "
            "rows would lack that part.",
            hint=f"Let {parents} replicate too (inherit from ReplicatedModel there, or register it), or make it "
            "abstract.",
            obj=options.model,
            id="p2p_replication.E011",
        )
        return
    problems = list(check_key(options))
    yield from problems
    if not problems and isinstance(options.key_field, models.ForeignKey):
        yield from _field(options, options.key_field)


def _table_name(options: Options) -> Iterator[CheckMessage]:
    meta = options.model._meta
    if '"' in meta.db_table:
        yield Error(
            f"{options.label} has a db_table with a quote in it, {meta.db_table!r}: no table of that name is found "
            "(PostgreSQL: only tables on the search_path replicate).",
            hint='Write a plain name; let OPTIONS["options"] = "-c search_path=..." of the database name the schemas.',
            obj=options.model,
            id="p2p_replication.E017",
        )


def _proxy(model: type[models.Model]) -> Iterator[CheckMessage]:
    concrete = model._meta.concrete_model
    if concrete is not None and concrete in registry and "Replication" in vars(model):
        yield Error(
            f"{model._meta.label} is a proxy, whose class Replication means nothing: what replicates is the table.",
            hint=f"Move the options to {concrete._meta.label}.",
            obj=model,
            id="p2p_replication.E018",
        )


def _options(options: Options) -> Iterator[CheckMessage]:
    yield from check_merges(options)
    for name in sorted(options.exclude):
        field = options.model._meta.get_field(name)
        assert isinstance(field, models.Field)
        if field.many_to_many:
            continue
        if field is options.key_field:
            yield Error(
                f"exclude names the key {name}, which always travels: it says which row is meant.",
                hint=f"Remove {name} from {options.source}.exclude.",
                obj=field,
                id="p2p_replication.E016",
            )
        elif field.primary_key:
            continue  # Local in any case.
        elif not field.null and not field.generated and not field.has_db_default() and field.get_default() is None:
            yield Error(
                f"{name} is excluded, but a row can't be inserted without it: other replicas' rows would never "
                "get into this table.",
                hint=f"Give {name} null=True or a default.",
                obj=field,
                id="p2p_replication.E015",
            )


def _field(options: Options, field: models.Field[Any, Any]) -> Iterator[CheckMessage]:
    related = field.related_model if field.remote_field is not None else None
    if isinstance(related, type):
        target = related._meta.concrete_model or related
        if target not in registry and (field.primary_key or natural_model(field) is None):
            yield Error(
                f"{field.name} refers to {related._meta.label}, which neither replicates nor has natural keys: its "
                "primary keys mean other rows (or none) elsewhere, so that rows of this model could not be applied.",
                hint=f"Let {related._meta.label} replicate too; or give it natural_key(), and its manager "
                f"get_by_natural_key(); or add {field.name!r} to exclude in {options.source} (it stays local then, "
                "and needs null=True or a default).",
                obj=field,
                id="p2p_replication.E013",
            )
        key = key_of_target(field)
        if key is not None and not field.db_constraint:  # type: ignore[attr-defined]
            yield Error(
                f"{field.name} has db_constraint=False, and refers to {related._meta.label} by a local number: once "
                "that row is gone, nothing says any more which one it was, and replicas would end different.",
                hint=f"Remove db_constraint=False; or give {field.name} to_field={key.name!r}, so that it keeps that "
                f"instead of the number; or add {field.name!r} to exclude in {options.source} (it stays local then, "
                "and needs null=True or a default).",
                obj=field,
                id="p2p_replication.E023",
            )
        return
    try:
        wire_type(field)
    except ConfigurationError as error:
        yield Error(
            str(error),
            hint=f"Add {field.name!r} to exclude in {options.source}, or use a built-in kind of field.",
            obj=field,
            id="p2p_replication.E012",
        )
    if isinstance(field, models.FileField):
        yield Warning(
            f"The name in {field.name} travels, the file's content does not.",
            hint="Keep the files in a storage that all replicas reach, or add the field to exclude; if so meant, "
            "silence this check.",
            obj=field,
            id="p2p_replication.W012",
        )


def _relations_without_columns(options: Options) -> Iterator[CheckMessage]:
    meta = options.model._meta
    for many in meta.local_many_to_many:
        through = many.remote_field.through
        if through is None or through in registry or many.name in options.exclude:
            continue
        numbered = _numbered_ends(options, many)
        if through_of(many) is not None and numbered:
            yield Warning(
                f"The rows of the many-to-many field {many.name} stay here, as the primary keys of "
                f"{', '.join(numbered)} are local numbers.",
                hint="Give the field a through model of its own that replicates (docs/integer-keys.md), or add "
                f"{many.name!r} to exclude in {options.source} to say that this is meant.",
                obj=many,
                id="p2p_replication.W010",
            )
        elif through_of(many) is None:
            yield Warning(
                f"The rows of the many-to-many field {many.name} stay here, as {through._meta.label} does not "
                "replicate.",
                hint=f"Let {through._meta.label} inherit from ReplicatedModel, or silence this check if its rows may "
                "differ between replicas.",
                obj=many,
                id="p2p_replication.W010",
            )
        else:
            target = many.remote_field.model
            yield Info(
                f"The rows of the many-to-many field {many.name} stay here, as {target._meta.label} does not "
                "replicate.",
                hint=f"Let {target._meta.label} replicate too, or add {many.name!r} to exclude in {options.source} to "
                "say that this is meant.",
                obj=many,
                id="p2p_replication.I010",
            )
    for field in meta.private_fields:
        if hasattr(field, "ct_field") and hasattr(field, "fk_field"):
            yield from _generic_foreign_key(options, field)


def _numbered_ends(options: Options, many: models.ManyToManyField[Any, Any]) -> list[str]:
    """Return the ends of a model's many-to-many field that have local numbers, if both replicate."""
    target = many.remote_field.model
    target = target._meta.concrete_model or target
    other = options if target is options.model else registry.get(target._meta.label)
    return sorted({end.label for end in (options, other) if end.key}) if other is not None else []


def _generic_foreign_key(options: Options, generic: Any) -> Iterator[CheckMessage]:
    """The content type travels by name; the other column as it is, which has to mean the same row everywhere."""
    if {generic.ct_field, generic.fk_field} & options.exclude:
        return
    column = options.model._meta.get_field(generic.fk_field)
    assert isinstance(column, models.Field)
    if column.get_internal_type() not in ("UUIDField", "CharField", "TextField"):
        yield Warning(
            f"The generic foreign key {generic.name} keeps primary keys as numbers in {generic.fk_field}, which mean "
            "other rows (or none) elsewhere.",
            hint=f"Make {generic.fk_field} a UUIDField or a CharField(max_length=36), for targets whose primary key "
            f"is a UUID or a text; or exclude both columns ({generic.ct_field} and {generic.fk_field}).",
            obj=options.model,
            id="p2p_replication.W011",
        )
    elif numbered := sorted(other.label for other in registry if other.key):
        yield Warning(
            f"The generic foreign key {generic.name} can't refer to rows of {', '.join(numbered)}: their primary "
            "keys are local numbers, which mean other rows (or none) elsewhere.",
            hint="Use a foreign key for these targets, which is translated; if none is meant, silence this check.",
            obj=options.model,
            id="p2p_replication.W013",
        )


def _referrers_that_stay(options: Options) -> Iterator[CheckMessage]:
    """A row that loses a unique clash has to leave its table, and can't while a row refers to it that stays."""
    if not _may_leave(options.model, set()):
        return
    for relation in options.model._meta.get_fields(include_hidden=True):
        if not isinstance(relation, models.ForeignObjectRel) or relation.many_to_many:
            continue
        field, child = relation.field, relation.related_model
        if (
            isinstance(child, type)
            and isinstance(field, models.ForeignKey)
            and getattr(field, "db_constraint", False)
            and child._meta.managed
            and not child._meta.auto_created
            and child not in registry
            and not child.__module__.startswith(NOT_THE_PROJECTS)
        ):
            yield Warning(
                f"{child._meta.label}.{field.name} refers to {options.label}, but {child._meta.label} does not "
                "replicate. If two replicas give rows the same unique value, the younger one and what depends on it "
                f"leave their tables everywhere; rows of {options.label} can't while one of {child._meta.label} refers "
                "to them, and the other replica's row stays parked here.",
                hint=f"Let {child._meta.label} replicate too, or give {field.name} db_constraint=False.",
                obj=options.model,
                id="p2p_replication.W015",
            )


def _may_leave(model: type[models.Model], seen: set[type[models.Model]]) -> bool:
    """Tell whether rows of a model, or rows that they depend on, can clash."""
    if model in seen:
        return False
    seen.add(model)
    meta = model._meta
    options = registry.get(meta.label)
    keys = {meta.pk, options.key_field if options is not None else None}
    if (
        meta.unique_together
        or any(field.unique and field not in keys for field in meta.concrete_fields)
        or any(isinstance(constraint, models.UniqueConstraint) for constraint in meta.constraints)
    ):
        return True
    parents = [field.related_model for field in meta.concrete_fields if field.remote_field is not None]
    return any(isinstance(parent, type) and parent in registry and _may_leave(parent, seen) for parent in parents)
