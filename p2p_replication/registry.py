"""Which models take part in replication, and how. Filled while Django starts, then read only.

Two ways in: a model that inherits ``ReplicatedModel`` (options in an inner ``class Replication``),
or ``@register(Model)`` in an app's ``p2p.py``, which is found as ``admin.py`` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import models
from django.utils.module_loading import autodiscover_modules

from p2p_replication.exceptions import ConfigurationError


class ModelReplication:
    """How one model replicates; subclass it under ``@register(Model)``."""

    #: The field by which all replicas know a row, where that is not the primary key (which stays local then).
    key: str = ""
    #: Names of fields that stay local.
    exclude: Sequence[str] = ()
    #: ``{field name: merge}`` in place of last-writer-wins.
    merge: Mapping[str, Any] = {}
    #: Topics (or ``dict(topic=..., account=...)``) that the model is declared in without a call of ``sync_p2p()``.
    pools: Sequence[str | Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Options:
    """The options of one replicated model, checked and frozen."""

    model: type[models.Model]
    key: str = ""
    exclude: frozenset[str] = frozenset()
    merge: Mapping[str, Any] = field(default_factory=dict)
    pools: tuple[Mapping[str, Any], ...] = ()
    source: str = ""

    @property
    def label(self) -> str:
        return self.model._meta.label

    @property
    def key_field(self) -> models.Field[Any, Any]:
        """The field that says everywhere which row is meant."""
        meta = self.model._meta
        field = meta.get_field(self.key) if self.key else meta.pk
        assert isinstance(field, models.Field)
        return field

    def fields(self) -> list[models.Field[Any, Any]]:
        """The fields that travel: concrete, neither the key nor the primary key, not generated, not excluded."""
        return [
            f
            for f in self.model._meta.concrete_fields
            if not f.primary_key and f.name != self.key and not f.generated and f.name not in self.exclude
        ]


class Registry:
    def __init__(self) -> None:
        self._registered: dict[type[models.Model], type] = {}
        self._options: dict[str, Options] | None = None

    def register(self, *model_classes: type[models.Model]) -> Callable[[type], type]:
        """Class decorator for a ``p2p.py`` module: these models replicate as the class says.

        Raises ConfigurationError for a model without a table of its own, and once the registry is ready: all
        processes must see the same models.
        """
        if self._options is not None:
            raise ConfigurationError(
                f"register({', '.join(m.__name__ for m in model_classes)}) came after Django had started. "
                "Call it at import time of a p2p.py module in an installed app."
            )

        for model in model_classes:
            _refuse_without_table(model)

        def decorate(replication: type) -> type:
            for model in model_classes:
                if model in self._registered:
                    raise ConfigurationError(f"{model._meta.label} is registered for replication twice.")
                self._registered[model] = replication
            return replication

        return decorate

    def autodiscover(self) -> None:
        """Import every installed app's ``p2p.py`` and freeze the registry."""
        autodiscover_modules("p2p")
        self.freeze()

    def freeze(self) -> None:
        found: dict[str, Options] = {}
        for model in apps.get_models():
            if model._meta.proxy or model._meta.swapped:
                continue
            replication = self._registered.get(model)
            if replication is None and getattr(model, "is_p2p_replicated", False):
                replication = getattr(model, "Replication", ModelReplication)
            if replication is not None:
                found[model._meta.label] = _options(model, replication)
        self._options = found

    def __iter__(self) -> Iterator[Options]:
        return iter(self._ready().values())

    def __contains__(self, model: type[models.Model]) -> bool:
        return model._meta.label in self._ready()

    def get(self, label: str) -> Options | None:
        """Options of the model with this label (``app_label.ModelName``), or None."""
        return self._ready().get(label)

    def for_model(self, model: type[models.Model]) -> Options:
        """Options of a model. Raises ConfigurationError if it does not replicate."""
        concrete = model._meta.concrete_model or model
        options = self._ready().get(concrete._meta.label)
        if options is None:
            raise ConfigurationError(
                f"{model._meta.label} does not replicate: let it inherit p2p_replication.models.ReplicatedModel, "
                "or register it in a p2p.py module with @p2p_replication.register(...)."
            )
        return options

    def _ready(self) -> dict[str, Options]:
        if self._options is None:
            self.freeze()
        assert self._options is not None
        return self._options


def _refuse_without_table(model: type[models.Model]) -> None:
    meta = model._meta
    if meta.proxy and meta.concrete_model is not None:
        problem = f"a proxy: register {meta.concrete_model.__name__}, whose table it shows"
    elif meta.abstract:
        problem = "abstract: register the models that inherit from it"
    elif meta.swapped:
        problem = f"swapped out: register {meta.swapped}, or what the setting {meta.swappable} names"
    else:
        return
    raise ConfigurationError(f"register({model.__name__}): {meta.label} is {problem}.")


def _options(model: type[models.Model], replication: type) -> Options:
    pools = tuple(
        {"topic": pool} if isinstance(pool, str) else dict(pool) for pool in getattr(replication, "pools", ())
    )
    exclude = frozenset(getattr(replication, "exclude", ()))
    key = getattr(replication, "key", "")
    known = {f.name for f in model._meta.concrete_fields}
    if key and key not in known:
        raise ConfigurationError(
            f"{model._meta.label}: key names {key!r}, which is no field of the model. "
            f"It has: {', '.join(sorted(known))}."
        )
    unknown = exclude - known
    if unknown:
        raise ConfigurationError(
            f"{model._meta.label}: exclude names {', '.join(sorted(unknown))}, which is no field of the model."
        )
    return Options(
        model=model,
        key=key,
        exclude=exclude,
        merge=dict(getattr(replication, "merge", {})),
        pools=pools,
        source=f"{replication.__module__}.{replication.__qualname__}",
    )


registry = Registry()
register = registry.register
