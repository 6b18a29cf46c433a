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
from p2p_replication.protocol.field_merges import FieldMerge, Merged


class ModelReplication:
    """How one model replicates; subclass it under ``@register(Model)``."""

    #: The field by which all replicas know a row, where that is not the primary key (which stays local then).
    key: str = ""
    #: Names of fields that stay local; of a many-to-many field, the rows of its automatic table.
    exclude: Sequence[str] = ()
    #: ``{field name: merge}`` in place of last-writer-wins: ``Max()``, ``Min()``, ``Union()``, ``Counter()`` of
    #: ``p2p_replication.merges``, or a function ``(a, b) -> value`` at the top level of a module.
    merge: Mapping[str, Any] = {}
    #: Topics (or ``dict(topic=..., account=...)``) that the model is declared in without a call of ``sync_p2p()``.
    pools: Sequence[str | Mapping[str, Any]] = ()
    #: Send the model's ``post_save`` and ``post_delete`` also for rows that come in from peers.
    signals: bool = False


@dataclass(frozen=True)
class Options:
    """The options of one replicated model, checked and frozen."""

    model: type[models.Model]
    key: str = ""
    exclude: frozenset[str] = frozenset()
    merge: Mapping[str, FieldMerge] = field(default_factory=dict)
    pools: tuple[Mapping[str, Any], ...] = ()
    signals: bool = False
    source: str = ""
    #: Of the automatic table of a many-to-many field: its two foreign keys, which together are a row's key.
    ends: tuple[models.ForeignKey[Any, Any], ...] = ()

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
        """The fields that travel: in the model's own table, no keys, not generated, not excluded."""
        if self.ends:
            return []  # A link is there or not, that is all.
        return [
            f
            for f in self.model._meta.local_concrete_fields
            if not f.primary_key and f.name != self.key and not f.generated and f.name not in self.exclude
        ]

    def parents(self) -> list[type[models.Model]]:
        """The models whose tables this one's rows go on in (multi-table inheritance), nearest first."""
        return self.model._meta.get_parent_list()


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
        for options in list(found.values()):
            found.update((link.label, link) for link in _links(options, found))
        self._options = found

    def __iter__(self) -> Iterator[Options]:
        return iter(self._ready().values())

    def companions(self, options: Options) -> list[Options]:
        """Return the models without which one is not whole: those it inherits from over several tables, and the
        automatic many-to-many tables of its fields.
        """
        owners = {model._meta.label for model in (options.model, *options.parents())}
        return [
            other
            for other in self
            if other is not options
            and (other.label in owners or (other.ends and owner_of(other.model)._meta.label in owners))
        ]

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
    # What a parent's table has is the parent's to exclude, also where the child inherits its options.
    own = {f.name for f in (*model._meta.local_concrete_fields, *model._meta.local_many_to_many)}
    inherited = {
        f.name: parent
        for parent in model._meta.get_parent_list()
        for f in (*parent._meta.local_concrete_fields, *parent._meta.local_many_to_many)
    }
    key = getattr(replication, "key", "")
    if key not in own and _inherits_options(model, replication):
        key = ""  # The parent's. A check says that such models can't be inherited from.
    if key and key not in (known := {f.name for f in model._meta.local_concrete_fields}):
        raise ConfigurationError(
            f"{model._meta.label}: key names {key!r}, which is no field of the model. "
            f"It has: {', '.join(sorted(known))}."
        )
    if unknown := exclude - own - inherited.keys():
        raise ConfigurationError(
            f"{model._meta.label}: exclude names {', '.join(sorted(unknown))}, which is no field of the model."
        )
    for name in sorted(exclude - own):
        if not _inherits_options(model, replication):
            parent = inherited[name]._meta.label
            raise ConfigurationError(
                f"{model._meta.label}: exclude names {name}, which lies in the table of {parent}: exclude it in the "
                f"options of {parent}."
            )
    return Options(
        model=model,
        key=key,
        exclude=exclude & own,
        merge=_merges(model, exclude & own | {key}, getattr(replication, "merge", {})),
        pools=pools,
        signals=bool(getattr(replication, "signals", False)),
        source=f"{replication.__module__}.{replication.__qualname__}",
    )


def _merges(
    model: type[models.Model], exclude: frozenset[str], declared: Mapping[str, Any]
) -> Mapping[str, FieldMerge]:
    names = {f.name for f in model._meta.concrete_fields if not f.primary_key} - exclude
    found: dict[str, FieldMerge] = {}
    for name, merge in declared.items():
        if name not in names:
            raise ConfigurationError(f"{model._meta.label}: merge names {name}, which is no field that replicates.")
        if isinstance(merge, type) and issubclass(merge, FieldMerge):
            merge = merge()
        if not isinstance(merge, FieldMerge):
            path = f"{getattr(merge, '__module__', '')}.{getattr(merge, '__qualname__', '')}"
            if not callable(merge) or "<" in path or path.startswith(("__main__.", ".")):
                raise ConfigurationError(
                    f"{model._meta.label}: {name} can't merge by {merge!r}. Use Max(), Min(), Union() or Counter() of "
                    "p2p_replication.merges, or a function at the top level of a module."
                )
            merge = Merged(path, merge)
        found[name] = merge
    return found


def _inherits_options(model: type[models.Model], replication: type) -> bool:
    return any(getattr(parent, "Replication", None) is replication for parent in model._meta.get_parent_list())


def _links(options: Options, found: Mapping[str, Options]) -> Iterator[Options]:
    """Yield the options of the automatic many-to-many tables of a model's own fields whose two ends replicate."""
    for many in options.model._meta.local_many_to_many:
        through = through_of(many)
        if through is None or many.name in options.exclude:
            continue
        names: Any = (many.m2m_field_name(), many.m2m_reverse_field_name())  # type: ignore[attr-defined]
        ends: Any = tuple(through._meta.get_field(name) for name in names)
        known = [found.get(_concrete_label(end.related_model)) for end in ends]
        # A link to a local number would have to be translated by its triggers, when the end may be gone.
        if all(end is not None and not end.key for end in known):
            yield Options(model=through, source=options.source, ends=ends)


def through_of(many: models.ManyToManyField[Any, Any]) -> type[models.Model] | None:
    """Return the model of a many-to-many field's automatic table, None if the table is a model of its own."""
    through: Any = many.remote_field.through
    automatic: type[models.Model] | None = through if through is not None and through._meta.auto_created else None
    return automatic


def owner_of(through: type[models.Model]) -> type[models.Model]:
    """Return the model whose field an automatic many-to-many table belongs to."""
    owner: type[models.Model] = through._meta.auto_created  # type: ignore[assignment]
    return owner


def _concrete_label(model: Any) -> str:
    label: str = (model._meta.concrete_model or model)._meta.label
    return label


registry = Registry()
register = registry.register
