"""By what all replicas know the rows that foreign keys point at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from p2p_replication.registry import registry


def target_of(field: models.Field[Any, Any]) -> models.Field[Any, Any] | None:
    """Return the field that a foreign key points at, None for any other field."""
    return getattr(field, "target_field", None) if field.remote_field is not None else None


def traveling_field(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    """Return the field whose values travel: of a foreign key, the one by which all replicas know what it points at."""
    while (target := key_of_target(field) or target_of(field)) is not None:
        field = target
    return field


def key_of_target(field: models.Field[Any, Any]) -> models.Field[Any, Any] | None:
    """Return the field by which all replicas know what a foreign key points at, where its column has a local number."""
    target = target_of(field)
    if target is None or not target.primary_key:
        return None
    options = registry.get(target.model._meta.label)
    return options.key_field if options is not None and options.key else None


def natural_model(field: models.Field[Any, Any]) -> type[models.Model] | None:
    """Return the model that a foreign key points at if it does not replicate, but has natural keys."""
    target = target_of(field)
    model = field.related_model if target is not None else None
    if not isinstance(model, type) or (model._meta.concrete_model or model) in registry:
        return None
    return model if is_naturally_keyed(model) else None


def natural_key_text(key: Iterable[Any]) -> str:
    """Return a natural key as it travels."""
    return json.dumps(list(key), cls=DjangoJSONEncoder, sort_keys=True)


def is_naturally_keyed(model: type[models.Model]) -> bool:
    """Tell whether a model has what Django's own serializers want of one with natural keys."""
    return hasattr(model, "natural_key") and hasattr(model._default_manager, "get_by_natural_key")
