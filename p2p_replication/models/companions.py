"""What comes along with a declared model: the tables without which its rows are not whole.

A model in multi-table inheritance brings the models it inherits from, and each model its automatic many-to-many tables.
They have declarations of their own, in the same pools.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2p_replication.models.pool import Declaration, Pool
from p2p_replication.registry import registry


def companion_labels(label: str) -> list[str]:
    """Return the labels of the models that come along with one, none for a model that does not replicate."""
    options = registry.get(label)
    return [] if options is None else [companion.label for companion in registry.companions(options)]


def settle_companions(pool: Pool) -> None:
    """Bring the declarations of companions up to those that were made on their own."""
    declarations = list(pool.declarations.order_by("pk"))
    wanted = dict(_wanted(declarations))
    stored = Declaration.objects.using(pool._state.db)
    for declaration in declarations:
        if declaration.comes_with and declaration.model not in wanted:
            declaration.delete()
    for label, owner in wanted.items():
        options = {"pull": owner.pull, "push": owner.push, "source": owner.source, "comes_with": owner.model}
        declaration, new = stored.get_or_create(pool=pool, model=label, defaults=options)
        if not new and any(getattr(declaration, name) != value for name, value in options.items()):
            stored.filter(pk=declaration.pk).update(**options)


def _wanted(declarations: list[Declaration]) -> Iterator[tuple[str, Declaration]]:
    """Yield ``(label, the declaration it comes along with)``; of several the first."""
    own = {declaration.model for declaration in declarations if not declaration.comes_with}
    for declaration in reversed(declarations):
        if declaration.model in own:
            yield from ((label, declaration) for label in companion_labels(declaration.model) if label not in own)


def end_declaration(declaration: Declaration) -> None:
    """End a model's own part in its pool; it stays as long as it is the companion of another one."""
    pool = declaration.pool
    others = [other for other in pool.declarations.exclude(pk=declaration.pk) if not other.comes_with]
    owner = next((other for other in others if declaration.model in companion_labels(other.model)), None)
    if owner is None:
        declaration.delete()
    else:
        Declaration.objects.filter(pk=declaration.pk).update(comes_with=owner.model)
    settle_companions(pool)
