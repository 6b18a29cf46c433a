"""Telling the application of rows that came in: gathered while they are written, told once they are committed.

Nobody's receiver can break replication, and where nobody listens nothing is gathered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

from p2p_replication.models.pool import Declaration, Pool
from p2p_replication.registry import Options
from p2p_replication.signals import rows_replicated
from p2p_replication.storage.codecs import base_field
from p2p_replication.storage.ledger import chunks

logger = logging.getLogger("p2p_replication.storage")


@dataclass
class Arrival:
    """What one unit of work has done to one model's table, by the ledger's keys."""

    options: Options
    declaration: int
    peer: str
    inserted: list[str] = field(default_factory=list)
    #: The fields that were written, by key.
    updated: dict[str, set[str]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    #: Rows as they were, for ``post_delete``.
    gone: dict[Any, models.Model] = field(default_factory=dict)

    def python_key(self, key: str) -> Any:
        return base_field(self.options.key_field).to_python(key)


class Arrivals:
    """The rows that came into one database and that the application is not told of yet."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        #: Of the transaction that is open, and of those that are committed.
        self._open: list[Arrival] = []
        self._committed: list[Arrival] = []
        self._source = (0, "")

    @contextmanager
    def source(self, declaration: int, peer: str) -> Iterator[None]:
        """Rows that come in within the block are this peer's."""
        self._source = (declaration, peer)
        try:
            yield
        finally:
            self._source = (0, "")

    def note(
        self,
        options: Options,
        inserted: Sequence[str],
        updated: Mapping[str, set[str]],
        deleted: Sequence[str],
    ) -> None:
        """Remember what is about to be written, in the transaction that writes it."""
        model = options.model
        wants_instances = options.signals and (post_save.has_listeners(model) or post_delete.has_listeners(model))
        if not (inserted or updated or deleted) or not (wants_instances or rows_replicated.has_listeners(model)):
            return
        arrival = Arrival(options, *self._source, list(inserted), dict(updated), list(deleted))
        if deleted and options.signals and post_delete.has_listeners(model):
            arrival.gone = self._instances(arrival, arrival.deleted)
        self._open.append(arrival)

    def committed(self) -> None:
        self._committed += self._open
        self._open = []

    def rolled_back(self, gathered: int = 0) -> None:
        """Forget what the open transaction has gathered, but the first ``gathered`` arrivals."""
        del self._open[gathered:]

    @property
    def gathered(self) -> int:
        """The arrivals of the open transaction."""
        return len(self._open)

    def tell(self) -> None:
        """Send the signals of what is committed. Outside of any transaction of replication's own; never raises."""
        gathered, self._committed = self._committed, []
        for arrival in _joined(gathered):
            try:
                self._tell_rows(arrival)
                if arrival.options.signals:
                    self._tell_instances(arrival)
            except Exception:
                logger.exception("the signals of rows of %s that came in were not sent", arrival.options.label)

    def _tell_rows(self, arrival: Arrival) -> None:
        model = arrival.options.model
        if not rows_replicated.has_listeners(model):
            return
        groups = {
            "inserted": [arrival.python_key(key) for key in arrival.inserted],
            "updated": [arrival.python_key(key) for key in arrival.updated],
            "deleted": [arrival.python_key(key) for key in arrival.deleted],
        }
        rows_replicated.send_robust(
            sender=model,
            keys=[key for group in groups.values() for key in group],
            **groups,
            peer=arrival.peer,
            pool=self._pool(arrival.declaration),
            using=self.alias,
        )

    def _pool(self, declaration: int) -> Pool | None:
        found = Declaration.objects.using(self.alias).filter(pk=declaration).select_related("pool").first()
        return found.pool if found is not None else None

    def _tell_instances(self, arrival: Arrival) -> None:
        model = arrival.options.model
        common = {"sender": model, "using": self.alias, "peer": arrival.peer}
        if post_save.has_listeners(model):
            for keys in chunks([*arrival.inserted, *arrival.updated]):
                found = self._instances(arrival, keys)
                for key in keys:
                    instance = found.get(arrival.python_key(key))
                    if instance is None:
                        continue  # Gone again meanwhile.
                    names = arrival.updated.get(key)
                    post_save.send_robust(
                        instance=instance, created=names is None, raw=False,
                        update_fields=None if names is None else frozenset(names), **common,
                    )  # fmt: skip
        for instance in arrival.gone.values():
            post_delete.send_robust(instance=instance, origin=instance, **common)

    def _instances(self, arrival: Arrival, keys: Sequence[str]) -> dict[Any, models.Model]:
        """Load rows as the model's objects. What their code makes of odd values breaks nothing."""
        found: dict[Any, models.Model] = {}
        model = arrival.options.model
        try:
            with transaction.atomic(using=self.alias):
                key_field = arrival.options.key_field.name
                for chunk in chunks([arrival.python_key(key) for key in keys]):
                    found.update(model._base_manager.using(self.alias).in_bulk(chunk, field_name=key_field))
        except Exception:
            logger.exception("rows of %s that came in can't be loaded: their signals are not sent", model._meta.label)
            return {}
        return found


def _joined(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Put together what came of one model from one peer: one signal a batch, however many transactions it took."""
    joined: dict[tuple[str, int, str], Arrival] = {}
    for arrival in arrivals:
        known = joined.setdefault((arrival.options.label, arrival.declaration, arrival.peer), arrival)
        if known is not arrival:
            known.inserted += arrival.inserted
            for key, names in arrival.updated.items():
                known.updated.setdefault(key, set()).update(names)
            known.deleted += arrival.deleted
            known.gone.update(arrival.gone)
    return list(joined.values())
