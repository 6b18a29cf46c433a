"""Checks of declared merges: each is for certain kinds of field."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.db import models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.callables import dotted_name
from p2p_replication.protocol.field_merges import FieldMerge, Merged
from p2p_replication.registry import Options
from p2p_replication.storage.codecs import wire_type


def check_merges(options: Options) -> Iterator[CheckMessage]:
    """Yield the merges of a model that can't be."""
    for name, merge in sorted(options.merge.items()):
        if problem := _problem(options, name, merge):
            yield Error(
                f"{options.label}.{name} can't merge by {merge.name}: {problem}.",
                hint=f"Remove it from {options.source}.merge, or give it another merge.",
                obj=options.model,
                id="p2p_replication.E014",
            )


def _problem(options: Options, name: str, merge: FieldMerge) -> str:
    field = options.model._meta.get_field(name)
    assert isinstance(field, models.Field)
    if field.remote_field is not None:
        return "it refers to another row"
    if name in _unique_names(options.model):
        return "it is unique, and a merged value may be one that another row has"
    if not merge.null and field.null:
        return "it may be null; give it null=False and a default"
    try:
        kind = wire_type(field)
    except ConfigurationError:
        return ""  # A check of fields says so.
    if merge.wire_types and not kind.startswith(merge.wire_types):
        return f"its values are of the kind {kind}, and this merge is for {', '.join(merge.wire_types)}"
    if isinstance(merge, Merged):
        try:
            dotted_name(name, merge.function)
        except ConfigurationError as error:
            return str(error).rstrip(".")
    return ""


def _unique_names(model: type[models.Model]) -> set[str]:
    meta = model._meta
    names = {field.name for field in meta.concrete_fields if field.unique}
    names |= {name for together in meta.unique_together for name in together}
    return names | {
        name
        for constraint in meta.constraints
        if isinstance(constraint, models.UniqueConstraint)
        for name in constraint.fields
    }
